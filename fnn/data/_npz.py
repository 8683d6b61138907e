"""A user's own arrays, from a NumPy file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fnn.data._dataset import DataError, Dataset, Examples, checked
from fnn.data._files import look
from fnn.data._split import hold_out

IN_PARTS = ("x_train", "y_train", "x_test", "y_test")
WHOLE = ("x", "y")
TEST_SEED = 0
"""Chooses the test part of a file that has none, whatever the seed of a run."""


def npz(path: str, test: float = 0.2) -> Dataset:
    """The data set in a file written by `numpy.savez`.

    The file holds `x_train`, `y_train`, `x_test` and `y_test`, or `x` and `y`, of which a test part is then
    held out, always the same one and with the same share of every class. It may hold `classes`, the names of
    the labels, and no other array.

    - x: uint8 stays so (images, 0 to 255) and (N, H, W) becomes (N, H, W, 1); floats become float32.
    - y: integers are class labels from 0, (N,), and become int32; floats are targets, float32, of which (N,)
      becomes (N, 1), as a network of one output gives it. Beside (N, C) floats `classes` is passed over.

    Args:
        path: The file; `~` is the home folder.
        test: Where the file has no test part: a number of examples (1 or more), or a fraction (below 1).

    Raises:
        DataError: The file is missing, damaged, lacks an array or holds one that is not among these.
        ValueError: `test` is too small or too large.
        TypeError: `test` is not a number.
    """
    file = look(path)
    arrays = _read(file)
    keys = IN_PARTS if arrays.keys() & set(IN_PARTS) else WHOLE
    for key in keys:
        if key not in arrays:
            raise DataError(
                f"{file} has no array {key!r}, only {', '.join(arrays) or 'nothing'}; expected x_train, "
                "y_train, x_test and y_test, or x and y"
            )
    if unknown := [key for key in arrays if key not in (*keys, "classes")]:
        raise DataError(
            f"{file} holds {', '.join(unknown)} beside {', '.join(keys)}; the only other array it may "
            "hold is classes: save it without the rest"
        )
    xs = [_inputs(arrays[key], f"{key} in {file}") for key in keys[::2]]
    ys = [_targets(arrays[key], f"{key} in {file}") for key in keys[1::2]]
    classes = _classes(arrays, ys, file)
    parts = [Examples(x, y) for x, y in zip(xs, ys, strict=True)]
    train, held_out = parts if len(parts) == 2 else hold_out(parts[0], classes, test, TEST_SEED, name="test")
    return checked(train, held_out, classes, file.stem)


def read_inputs(file: Path) -> np.ndarray:
    """The array x of a file alone, as `npz` takes it, for a network that has been trained.

    Raises:
        DataError: The file is missing or damaged, or x is missing or holds no inputs.
    """
    arrays = _read(file)
    if "x" not in arrays:
        raise DataError(f"{file} has no array 'x', only {', '.join(arrays) or 'nothing'}")
    x = _inputs(arrays["x"], f"x in {file}")
    if x.ndim < 2 or not len(x):
        raise DataError(f"x in {file} has shape {x.shape}; expected at least one input, along the first axis")
    return x


def _read(file: Path) -> dict[str, np.ndarray]:
    """All arrays of the file, none of which may hold pickled objects."""
    if not file.is_file():
        raise DataError(f"there is no file {file}; give the path of a file written by numpy.savez")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as loaded:
            return {key: np.asarray(loaded[key]) for key in loaded.files}
    except Exception as error:  # numpy, zipfile and zlib each raise their own; the file is at fault
        if "Object arrays" in str(error):
            raise DataError(
                f"{file} holds an array of Python objects, which could run code when read; save arrays of "
                "numbers, and names as an array of strings"
            ) from error
        raise DataError(
            f"{file} is not a whole .npz file ({type(error).__name__}); write it with numpy.savez"
        ) from error


def _inputs(x: np.ndarray, where: str) -> np.ndarray:
    if x.dtype == np.uint8:
        return x[..., None] if x.ndim == 3 else x
    if np.issubdtype(x.dtype, np.floating):
        return _float32(x, where)
    raise DataError(
        f"{where} is {x.dtype}; expected uint8 (images, 0 to 255) or floats: convert it with astype "
        "before saving"
    )


def _targets(y: np.ndarray, where: str) -> np.ndarray:
    if np.issubdtype(y.dtype, np.floating):
        y = _float32(y, where)
        return y[:, None] if y.ndim == 1 else y
    if y.dtype.kind not in "iub":
        raise DataError(
            f"{where} is {y.dtype}; expected integers (labels from 0) or floats (targets of a regression); "
            "the names of labels belong in an array 'classes'"
        )
    if y.size and (y.max() > np.iinfo(np.int32).max or y.min() < 0):
        raise DataError(f"{where} holds labels from {y.min()} to {y.max()}; labels count the classes from 0")
    return y.astype(np.int32)


def _float32(array: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    if np.isinf(narrow).any() and np.isfinite(array).all():
        raise DataError(f"{where} holds numbers too large for float32; rescale them before saving")
    return narrow


def _classes(arrays: dict[str, np.ndarray], ys: list[np.ndarray], file: Path) -> tuple[str, ...]:
    """The names given, or the labels themselves, of which 0 must occur; none for a regression."""
    labels = [y for y in ys if np.issubdtype(y.dtype, np.integer) and y.size]
    if "classes" in arrays:
        names = arrays["classes"]
        if names.ndim != 1 or names.dtype.kind != "U":
            raise DataError(
                f"classes in {file} is {names.dtype} of shape {names.shape}; expected one string for "
                "each label"
            )
        for key, y in arrays.items():
            if key.startswith("y") and y.ndim == 1 and np.issubdtype(y.dtype, np.floating):
                raise DataError(
                    f"{key} in {file} is {y.dtype}; labels, which classes names, are integers: save "
                    f"{key}.astype(int), or no classes with the targets of a regression"
                )
        return tuple(map(str, names)) if labels else ()
    highest = max((int(y.max()) for y in labels), default=-1)
    count = sum(y.size for y in ys)
    if highest >= count:
        raise DataError(
            f"{file} has labels up to {highest} in {count} examples; labels count the classes from 0"
        )
    if lowest := min((int(y.min()) for y in labels), default=0):
        raise DataError(
            f"{file} has no example of label 0, its labels run from {lowest} to {highest}; labels count the "
            f"classes from 0: save y - {lowest}, or name every class in an array classes"
        )
    return tuple(map(str, range(highest + 1)))
