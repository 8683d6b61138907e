"""Data sets, splits, augmentation and standardization."""

from fnn.data._augment import (
    Visit,
    alternating_flip,
    cutout,
    random_brightness,
    random_contrast,
    random_crop,
    random_flip,
    random_roll,
    random_vertical_flip,
)
from fnn.data._cifar import cifar10
from fnn.data._dataset import DataError, Dataset, Examples
from fnn.data._digits import digits
from fnn.data._folds import Folds, stratified_folds
from fnn.data._idx import fashion_mnist, mnist
from fnn.data._image_folder import image_folder
from fnn.data._mixup import Mixed, mixup
from fnn.data._npz import npz
from fnn.data._resample import random_resized_crop, random_rotation, random_shift
from fnn.data._split import Splits, split
from fnn.data._standardize import Moments, moments, standardize, to_float

__all__ = [
    "DataError",
    "Dataset",
    "Examples",
    "Folds",
    "Mixed",
    "Moments",
    "Splits",
    "Visit",
    "alternating_flip",
    "cifar10",
    "cutout",
    "digits",
    "fashion_mnist",
    "image_folder",
    "mixup",
    "mnist",
    "moments",
    "npz",
    "random_brightness",
    "random_contrast",
    "random_crop",
    "random_flip",
    "random_resized_crop",
    "random_roll",
    "random_rotation",
    "random_shift",
    "random_vertical_flip",
    "split",
    "standardize",
    "stratified_folds",
    "to_float",
]
