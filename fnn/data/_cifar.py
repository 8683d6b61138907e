"""CIFAR-10 in its binary version."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np

from fnn.data._dataset import DataError, Dataset, Examples, checked
from fnn.data._files import find_or_download, locate, read_bytes

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
URL = "https://www.cs.toronto.edu/~kriz/"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
RECORDS, RECORD = 10_000, 1 + 3 * 32 * 32  # of a file, and the bytes of one


def cifar10() -> Dataset:
    """CIFAR-10: colour photographs, 50,000 to train on and 10,000 to test, x (N, 32, 32, 3) uint8.

    The binary version is looked for in `$FNN_DATA/cifar10`, `$FNN_DATA` and `data`: the six `.bin` files,
    the folder `cifar-10-batches-bin` or the archive `cifar-10-binary.tar.gz`; otherwise the archive is
    downloaded into the user's cache.

    Raises:
        DataError: The files are missing and cannot be downloaded, or one is damaged.

    Source: A. Krizhevsky, Learning multiple layers of features from tiny images (2009).
    """
    paths = find_or_download(
        "cifar10",
        _find,
        ("data",),
        URL,
        {ARCHIVE: SHA256},
        f" (the binary version, {FOLDER})",
    )
    contents = _unpack(paths[ARCHIVE]) if ARCHIVE in paths else {f: read_bytes(paths[f]) for f in FILES}
    folder = next(iter(paths.values())).parent
    *train, test = (_records(content, f"{file} in {folder}") for file, content in contents.items())
    return checked(
        Examples(np.concatenate([part.x for part in train]), np.concatenate([part.y for part in train])),
        test,
        CLASSES,
        "cifar10",
    )


def _find(folder: Path) -> dict[str, Path] | None:
    archive = folder / ARCHIVE
    return (
        locate(folder, FILES)
        or locate(folder / FOLDER, FILES)
        or ({ARCHIVE: archive} if os.path.isfile(archive) else None)
    )


def _unpack(archive: Path) -> dict[str, bytes]:
    """The six files of the archive, read into memory and not written anywhere."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(read_bytes(archive)), mode="r:") as members:
            for member in members:
                file = Path(member.name).name
                if file in FILES and (stream := members.extractfile(member)):
                    contents[file] = stream.read()
    except tarfile.TarError as error:
        raise DataError(f"{archive} is not a whole tar archive ({error}); fetch it again") from error
    for file in FILES:
        if file not in contents:
            raise DataError(f"{archive} does not hold {file}; expected the binary version of CIFAR-10")
    return {file: contents[file] for file in FILES}


def _records(content: bytes, where: str) -> Examples:
    """Records of a label and the red, the green and the blue plane of an image, row by row."""
    if len(content) != RECORDS * RECORD:
        raise DataError(
            f"{where} holds {len(content)} bytes; expected {RECORDS} records of {RECORD} bytes: "
            "fetch it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return Examples(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int32))
