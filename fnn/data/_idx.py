"""MNIST and Fashion-MNIST: IDX files of 28×28 grey images."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fnn.data._dataset import DataError, Dataset, Examples, checked
from fnn.data._files import find_or_download, locate, read_bytes

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class Source(NamedTuple):
    """A data set in the four files of MNIST.

    Attributes:
        title: Its name in prose.
        classes: The name of each label.
        opening: Its first ten training labels, by which it is told from its namesakes.
        usual: The folders in which packages and other libraries put it.
        url: Where the files with `.gz` are published.
        sha256: The sum of each published file, in the order of FILES.
        hint: What to do where the files are missing, as the end of a sentence.
    """

    title: str
    classes: tuple[str, ...]
    opening: bytes
    usual: tuple[str, ...]
    url: str
    sha256: tuple[str, str, str, str]
    hint: str


SOURCES = {
    "mnist": Source(
        title="MNIST",
        classes=tuple("0123456789"),
        opening=bytes([5, 0, 4, 1, 9, 2, 1, 3, 1, 4]),
        usual=("data/MNIST/raw",),
        url="https://storage.googleapis.com/cvdf-datasets/mnist/",
        sha256=(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        hint="",
    ),
    "fashion_mnist": Source(
        title="Fashion-MNIST",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        opening=bytes([9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
        usual=(
            "/usr/share/datasets/fashion-mnist",
            "data/FashionMNIST/raw",
            "~/.keras/datasets/fashion-mnist",
        ),
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        sha256=(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        hint=", or apt-get install dataset-fashion-mnist",
    ),
}


def mnist() -> Dataset:
    """MNIST: handwritten digits, 60,000 to train on and 10,000 to test, x (N, 28, 28, 1) uint8.

    The files are looked for in `$FNN_DATA/mnist`, `$FNN_DATA` and `data/MNIST/raw`, with or without `.gz`,
    and otherwise downloaded into the user's cache.

    Raises:
        DataError: The files are missing and cannot be downloaded, or one is damaged.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document
    recognition, Proceedings of the IEEE 86 (1998).
    """
    return _load("mnist")


def fashion_mnist() -> Dataset:
    """Fashion-MNIST: articles of clothing, 60,000 to train on and 10,000 to test, x (N, 28, 28, 1) uint8.

    The files are looked for in `$FNN_DATA/fashion_mnist`, `$FNN_DATA`, where Debian's package
    `dataset-fashion-mnist` puts them, `data/FashionMNIST/raw` and `~/.keras/datasets/fashion-mnist`, with or
    without `.gz`, and otherwise downloaded into the user's cache.

    Raises:
        DataError: The files are missing and cannot be downloaded, or one is damaged.

    Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST (2017), arXiv:1708.07747.
    """
    return _load("fashion_mnist")


def _load(name: str) -> Dataset:
    source = SOURCES[name]
    paths = find_or_download(
        name,
        lambda folder: locate(folder, FILES),
        source.usual,
        source.url,
        {f"{file}.gz": sha256 for file, sha256 in zip(FILES, source.sha256, strict=True)},
        source.hint,
    )
    train_x, train_y, test_x, test_y = (paths[file] for file in FILES)
    train = Examples(_images(train_x), read_idx(train_y, 1).astype(np.int32))
    test = Examples(_images(test_x), read_idx(test_y, 1).astype(np.int32))
    for other in SOURCES.values():
        if other is not source and train.y[:10].astype(np.uint8).tobytes() == other.opening:
            raise DataError(
                f"the files in {train_y.parent} are {other.title}, whose files have the same names as those "
                f"of {source.title}; keep each in a folder of its own, such as $FNN_DATA/{name}"
            )
    return checked(train, test, source.classes, name)


def _images(path: Path) -> np.ndarray:
    images = read_idx(path, 3)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{path} holds images of {images.shape[1]}×{images.shape[2]} pixels; expected 28×28")
    return images[..., None]


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """A uint8 array of `ndim` axes from an IDX file.

    The file is a magic number (two zero bytes, 8 for uint8, the number of axes), the length of each axis as
    a big-endian int32, and the values with the last axis fastest.

    Raises:
        DataError: The file is damaged or is not such a file.
    """
    content = read_bytes(path)
    if content[:4] != bytes([0, 0, 8, ndim]):
        raise DataError(
            f"{path} begins with the bytes {content[:4].hex() or '(none)'}; expected 000008{ndim:02x}, the "
            f"mark of an IDX file of uint8 with {ndim} axes"
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{path} ends within its header, after {len(content)} bytes; fetch it again")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) != start + math.prod(shape):
        raise DataError(
            f"{path} holds {len(content)} bytes but its header of shape {shape} promises "
            f"{start + math.prod(shape)}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
