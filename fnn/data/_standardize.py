"""From pixels to what a network is fed: floats of mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnn._types import Array

CHUNK = 1024
"""Examples that `moments` widens at a time, fewer where they are large."""
CHUNK_VALUES = 2**22
"""Values that it widens at a time, unless one example has more."""


class Moments(NamedTuple):
    """The mean and standard deviation of each channel, both (channels,) float32."""

    mean: np.ndarray
    std: np.ndarray


def to_float(x: Any, /) -> Array:
    """Bytes as brightness: uint8 becomes float32 in [0, 1], x / 255; floats pass unchanged.

    Args:
        x: an array of JAX or NumPy.

    Raises:
        TypeError: x has another dtype.
    """
    if x.dtype == jnp.uint8:
        return x.astype(jnp.float32) / 255
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    raise TypeError(f"to_float takes uint8 images or floats, not {x.dtype}")


def moments(x: np.ndarray, /) -> Moments:
    """The mean and the (biased) standard deviation of each channel of `to_float(x)`.

    They are taken over all axes but the last, on the host. Floats are summed in float64, and the squares of
    their deviations from the mean, not those of values; bytes are summed in whole numbers, which is exact. A
    constant channel's deviation of 0 becomes 1.

    Args:
        x: The training examples, (N, ..., channels), uint8 or float.

    Raises:
        ValueError: x is empty or has fewer than two axes.
        TypeError: x is neither uint8 nor float.
    """
    x = np.asarray(x)  # one of JAX would be summed in float32
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"moments takes examples, (N, ..., channels) with N at least 1, not {x.shape}")
    if x.dtype == np.uint8:
        return _moments_of_bytes(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):  # NumPy does not count bfloat16 as floating
        raise TypeError(f"moments takes uint8 images or floats, not {x.dtype}")
    first = x[(0,) * (x.ndim - 1)].astype(np.float64)  # exact where a channel is constant
    mean = first + _mean(x, lambda rows: rows - first)
    return _safe(mean, _mean(x, lambda rows: np.square(rows - mean)))


def _moments_of_bytes(x: np.ndarray) -> Moments:
    """By sums of whole numbers, which are exact: Σv / 255n and (n Σv² - (Σv)²) / (255n)² of n bytes v."""
    sums = np.zeros((2, x[0].size), np.int64)
    for part in _chunks(x):
        rows = part.reshape(len(part), -1)
        sums += rows.sum(0, dtype=np.uint32), np.square(rows, dtype=np.uint16).sum(0, dtype=np.uint32)
    total, squares = sums.reshape(2, -1, x.shape[-1]).sum(1).astype(object)  # n Σv² outgrows 64 bits
    n = x.size // x.shape[-1]
    mean, variance = total / (255 * n), (n * squares - total**2) / (255 * n) ** 2
    return _safe(mean.astype(np.float64), variance.astype(np.float64))


def _mean(x: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The mean of a function of the rows, (channels,) float64."""
    rows = (part.reshape(-1, x.shape[-1]) for part in _chunks(x))
    return sum(function(part).sum(0) for part in rows) / (x.size // x.shape[-1])


def _chunks(x: np.ndarray) -> Iterator[np.ndarray]:
    """The examples in pieces of at most CHUNK examples and, beyond one example, CHUNK_VALUES values."""
    size = min(CHUNK, max(1, CHUNK_VALUES // x[0].size))
    for start in range(0, len(x), size):
        yield x[start : start + size]


def _safe(mean: np.ndarray, variance: np.ndarray) -> Moments:
    std = np.sqrt(variance).astype(np.float32)
    return Moments(mean.astype(np.float32), np.where(std > np.finfo(np.float32).tiny, std, np.float32(1)))


def standardize(x: Array, moments: Moments, /) -> Array:
    """`(to_float(x) - mean) / std` for each channel, in float32.

    Args:
        x: Examples, (N, ..., channels), uint8 or float.
        moments: Of the training examples, for every part alike.

    Returns:
        float32 of the same shape.

    Raises:
        ValueError: x has another number of channels than the moments.
    """
    if x.shape[-1:] != moments.mean.shape:
        raise ValueError(f"standardize got x of shape {x.shape} and moments of {len(moments.mean)} channels")
    mean, std = (jnp.expand_dims(jnp.asarray(m, jnp.float32), range(x.ndim - 1)) for m in moments)
    return (to_float(jnp.asarray(x)).astype(jnp.float32) - mean) / std
