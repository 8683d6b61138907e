"""What every side of a benchmark works on: the same numbers, made with NumPy alone."""

import numpy as np

BATCH = 128
EPOCHS = 10  # of digits


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 28, 28, 1) of noise and their classes; time does not depend on what they show."""
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 28, 28, 1)).astype(np.float32)
    return x, random.integers(0, 10, count).astype(np.int32)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 examples of 64 features, the size of the digits of scikit-learn."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1797, 64)).astype(np.float32)
    return x, random.integers(0, 10, 1797).astype(np.int32)
