"""Optical digits: small enough to come with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fnn.data._dataset import Dataset, Examples, checked
from fnn.data._split import hold_out

TEST_COUNT = 360
TEST_SEED = 1998
"""Chooses the test part, whatever the seed of a run."""


def digits() -> Dataset:
    """Optical digits: 1,797 handwritten digits, 1,437 to train on and 360 to test, x (N, 8, 8, 1) uint8.

    A pixel of the original counts the ink in a block of 4×4 dots, 0 to 16; here it is that count times
    255/16, rounded, so that x / 255 is the brightness in [0, 1] as for all images. The test part is always
    the same one, with the same share of every class.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository (1998), doi:10.24432/C50P49, licence CC BY 4.0: the file for testing, written by 13 people.

    Example:
        >>> import fnn.data
        >>> fnn.data.digits().train.x.shape
        (1437, 8, 8, 1)
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as arrays:
        counts, labels = arrays["x"], arrays["y"]
    x = np.round(counts[..., None] * (255 / 16)).astype(np.uint8)
    classes = tuple("0123456789")
    examples = Examples(x, labels.astype(np.int32))
    train, test = hold_out(examples, classes, TEST_COUNT, TEST_SEED, name="test")
    return checked(train, test, classes, "digits")
