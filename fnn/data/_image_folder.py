"""A user's own images: a folder for each class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnn.data._dataset import DataError, Dataset, Examples, checked
from fnn.data._files import look
from fnn.data._split import hold_out

PARTS = ("train", "test")
TEST_SEED = 0
"""Chooses the test part of a folder that has none, whatever the seed of a run."""


def image_folder(path: str, test: float = 0.2) -> Dataset:
    """The images in the folders of `path`, one folder for each class, named and sorted by name.

    Where `path` has folders `train` and `test`, these two and no third hold such class folders. Otherwise a
    test part is held out, always the same one and with the same share of every class. Names that begin with a
    dot are passed over. All images have one size; they are grey, (N, H, W, 1), if all are, otherwise RGB,
    (N, H, W, 3), for which transparency is dropped.

    Args:
        path: The folder; `~` is the home folder.
        test: Where there is no test folder: a number of examples (1 or more), or a fraction (below 1).

    Raises:
        DataError: A folder is missing or empty, a file is not an image of 8 bits a channel, sizes differ, or
            the name of a class is not text of UTF-8.
        ValueError: `test` is too small or too large.
        TypeError: `test` is not a number.
    """
    root = look(path)
    parts = [_files_by_class(folder) for folder in _parts(root)]
    classes = tuple(parts[0])
    for part in parts[1:]:
        if names := set(part) ^ set(classes):
            raise DataError(
                f"the class folder {min(names)!r} is in only one of train and test of {root}; both must have "
                "the same classes"
            )
    x = read_images([file for part in parts for files in part.values() for file in files])
    y = [label for part in parts for label, files in enumerate(part.values()) for _ in files]
    examples = Examples(x, np.array(y, np.int32))
    if len(parts) == 2:
        first = sum(map(len, parts[0].values()))
        train = Examples(*(array[:first] for array in examples))
        held_out = Examples(*(array[first:] for array in examples))
    else:
        train, held_out = hold_out(examples, classes, test, TEST_SEED, name="test")
    return checked(train, held_out, classes, root.resolve().name)


def _parts(root: Path) -> list[Path]:
    """The folders of the training and the test part, or the one folder of both."""
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give the path of one that holds a folder for each class")
    missing = [name for name in PARTS if not look(root / name).is_dir()]
    folders = _folders(root)
    if missing:
        named = [folder.name for folder in folders if folder.name.lower() in PARTS and _folders(folder)]
        if named:
            raise DataError(
                f"{root} has class folders in {' and '.join(named)} but no {' and '.join(missing)}; expected "
                "both train and test, so named, or the class folders alone"
            )
        return [root]
    others = [folder.name for folder in folders if folder.name.lower() not in PARTS and _folders(folder)]
    if others:
        raise DataError(
            f"{root} has class folders in {', '.join(others)} beside train and test; add those images to "
            "train, of which a validation part is held out, or move them elsewhere"
        )
    return [root / name for name in PARTS]


def _files_by_class(root: Path) -> dict[str, list[Path]]:
    folders = _folders(root)
    if not folders:
        raise DataError(f"{root} holds no folders; expected a folder of images for each class")
    files = {folder.name: _visible(folder) for folder in folders}
    for name, inside in files.items():
        if not inside:
            raise DataError(f"the class folder {root / name} is empty; add images or remove it")
    return files


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if look(entry).is_dir()]


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error.strerror}") from error


def read_images(files: Sequence[Path]) -> np.ndarray:
    """The images as one array, (N, H, W, 1) or (N, H, W, 3) uint8."""
    images: list[np.ndarray] = []
    for file, image in zip(files, _read(files), strict=True):
        images.append(image)
        if image.shape[:2] != images[0].shape[:2]:
            raise DataError(
                f"{files[0]} has {_size(images[0])} pixels but {file} has {_size(image)}; "
                "resize all images to one size"
            )
    channels = max(image.shape[2] for image in images)
    x = np.empty((len(images), *images[0].shape[:2], channels), np.uint8)
    for row, image in zip(x, images, strict=True):
        row[:] = image  # a grey image spreads over three channels
    return x


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"


def _read(files: Sequence[Path]) -> Iterator[np.ndarray]:
    """Each image as (H, W, 1) uint8 where it is grey and as (H, W, 3) otherwise."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("image_folder reads images with Pillow; pip install 'fnn[run]'") from error
    for file in files:
        place = look(file)
        if not place.exists():
            raise DataError(f"there is no file {file}; give the path of an image")
        if place.is_dir():
            raise DataError(f"{file} is a folder where an image is expected; class folders hold only images")
        try:
            with Image.open(file) as image:
                mode, pixels = _mode(image), _pixels(image)
        except Exception as error:  # each of Pillow's decoders raises its own
            raise DataError(
                f"{file} is not an image that Pillow can read ({type(error).__name__}); remove or replace it"
            ) from error
        if mode.startswith(("I", "F")) or ";16" in mode:
            raise DataError(f"{file} has more than 8 bits a channel (mode {mode}); convert it to 8 bits")
        yield pixels


def _mode(image: Any) -> str:
    """The mode of the image, or of its data where Pillow would keep 8 of their 16 bits, as in colours."""
    stored = re.search(r"[A-HJ-Z]\w*;16[BLN]", str(image.tile))  # grey ones are I;16 in both
    return stored.group() if stored else image.mode


def _pixels(image: Any) -> np.ndarray:
    grey = image.mode in ("1", "L", "LA")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may have transparent entries, which RGB alone cannot take
    return np.asarray(image.convert("L" if grey else "RGB")).reshape(image.height, image.width, -1)
