"""Pooling layers, and `flatten`."""

from __future__ import annotations

import math
from functools import partial

from fnn import ops
from fnn._types import Array
from fnn.nn._layer import Layer, layer
from fnn.ops._window import Padding, Pair


def max_pool(
    window: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: Padding = "VALID",
    name: str | None = None,
) -> Layer:
    """The largest value in each window of each feature map; see `fnn.ops.max_pool`.

    Args:
        window: height and width of the window, one integer for both.
        stride: how far the window moves; the window itself by default.
        padding: "VALID" (none), "SAME" or ((top, bottom), (left, right)); padding never wins.
        name: in place of max_pool_1, max_pool_2, …
    """
    pool = partial(ops.max_pool, window=window, stride=stride, padding=padding)
    return layer("max_pool", lambda params, x: pool(x), name=name)


def avg_pool(
    window: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: Padding = "VALID",
    name: str | None = None,
) -> Layer:
    """The mean value in each window of each feature map; see `fnn.ops.avg_pool`.

    Args:
        window: height and width of the window, one integer for both.
        stride: how far the window moves; the window itself by default.
        padding: "VALID" (none), "SAME" or ((top, bottom), (left, right)); padding does not count.
        name: in place of avg_pool_1, avg_pool_2, …
    """
    pool = partial(ops.avg_pool, window=window, stride=stride, padding=padding)
    return layer("avg_pool", lambda params, x: pool(x), name=name)


def global_avg_pool(x: Array, /) -> Array:
    """The mean of each feature map: (N, H, W, C) → (N, C).

    Source: Lin et al. (2014), "Network In Network".
    """
    if x.ndim != 4:
        raise ValueError(f"expected images (batch, height, width, channels), got shape {x.shape}")
    return x.mean((1, 2))


def flatten(x: Array, /) -> Array:
    """Each example as one vector: (N, …) → (N, features)."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
