"""Data sets, splits, augmentation and standardization."""

from fnn.data._augment import random_crop, random_flip
from fnn.data._cifar import cifar10
from fnn.data._dataset import DataError, Dataset, Examples
from fnn.data._digits import digits
from fnn.data._idx import fashion_mnist, mnist
from fnn.data._image_folder import image_folder
from fnn.data._npz import npz
from fnn.data._split import Splits, split
from fnn.data._standardize import Moments, moments, standardize, to_float

__all__ = [
    "DataError",
    "Dataset",
    "Examples",
    "Moments",
    "Splits",
    "cifar10",
    "digits",
    "fashion_mnist",
    "image_folder",
    "mnist",
    "moments",
    "npz",
    "random_crop",
    "random_flip",
    "split",
    "standardize",
    "to_float",
]
