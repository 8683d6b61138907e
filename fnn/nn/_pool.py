"""Pooling layers, and `flatten`."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from fnn import ops
from fnn._types import Array
from fnn.nn._layer import Layer, layer
from fnn.ops._pool import check_pixels
from fnn.ops._window import Padding, Sizes, Window, check_sizes, per_axis, sliding_window, spatial_axes


def max_pool(
    window: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    name: str | None = None,
) -> Layer:
    """The largest value in each window of each feature map; see `fnn.ops.max_pool`.

    Args:
        window: the size of the window, one integer or one for each spatial axis.
        stride: how far the window moves; the window itself by default.
        padding: "VALID" (none), "SAME", an integer for every side, or a pair (before, after) for each
            spatial axis; padding never wins.
        name: in place of max_pool_1, max_pool_2, …

    Source: Scherer, Müller and Behnke (2010), "Evaluation of Pooling Operations in Convolutional
    Architectures for Object Recognition".
    """
    return _sliding("max_pool", ops.max_pool, window, stride, padding, name)


def avg_pool(
    window: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = "VALID",
    name: str | None = None,
) -> Layer:
    """The mean value in each window of each feature map; see `fnn.ops.avg_pool`.

    Args:
        window: the size of the window, one integer or one for each spatial axis.
        stride: how far the window moves; the window itself by default.
        padding: "VALID" (none), "SAME", an integer for every side, or a pair (before, after) for each
            spatial axis; padding does not count.
        name: in place of avg_pool_1, avg_pool_2, …

    Source: LeCun et al. (1998), "Gradient-Based Learning Applied to Document Recognition" (there the mean has
    a learned factor and bias).
    """
    return _sliding("avg_pool", ops.avg_pool, window, stride, padding, name)


def adaptive_max_pool(size: Sizes, *, name: str | None = None) -> Layer:
    """The largest value in each cell of a grid of a given size; see `fnn.ops.adaptive_max_pool`.

    Args:
        size: of the output, one integer or one for each spatial axis.
        name: in place of adaptive_max_pool_1, adaptive_max_pool_2, …
    """
    return _adaptive("adaptive_max_pool", ops.adaptive_max_pool, size, name)


def adaptive_avg_pool(size: Sizes, *, name: str | None = None) -> Layer:
    """The mean value in each cell of a grid of a given size; see `fnn.ops.adaptive_avg_pool`.

    Args:
        size: of the output, one integer or one for each spatial axis.
        name: in place of adaptive_avg_pool_1, adaptive_avg_pool_2, …
    """
    return _adaptive("adaptive_avg_pool", ops.adaptive_avg_pool, size, name)


def _sliding(
    kind: str,
    pool: Callable[..., Array],
    window: Sizes,
    stride: Sizes | None,
    padding: Padding,
    name: str | None,
) -> Layer:
    stride = window if stride is None else stride

    def apply(params: object, x: Array) -> Array:
        return pool(x, window=window, stride=stride, padding=padding)

    def geometry(x: jax.ShapeDtypeStruct) -> Window:
        return sliding_window(x, window, stride, padding, name="window")

    return layer(kind, apply, name=name, window=geometry)


def _adaptive(kind: str, pool: Callable[..., Array], size: Sizes, name: str | None) -> Layer:
    check_sizes("size", size)

    def geometry(x: jax.ShapeDtypeStruct) -> Window:
        cells = per_axis(size, spatial_axes(x), "size")
        if any(n % count for n, count in zip(x.shape[1:-1], cells, strict=True)):
            raise ValueError(
                f"{size} cells do not divide an input of shape {x.shape}, so they are no single window that "
                "slides; crop or pad the input"
            )
        window = tuple(n // count for n, count in zip(x.shape[1:-1], cells, strict=True))
        return sliding_window(x, window, window, "VALID", name="window")

    return layer(kind, lambda params, x: pool(x, size=size), name=name, window=geometry)


def global_avg_pool(x: Array, /) -> Array:
    """The mean of each feature map: (N, …, C) → (N, C).

    Source: Lin et al. (2014), "Network In Network".
    """
    check_pixels(x)
    return x.mean(tuple(range(1, 1 + spatial_axes(x))))


def global_max_pool(x: Array, /) -> Array:
    """The largest value of each feature map: (N, …, C) → (N, C); of equal ones the first has the gradient."""
    return ops.adaptive_max_pool(x, size=1).reshape(x.shape[0], x.shape[-1])


def flatten(x: Array, /) -> Array:
    """Each example as one vector: (N, …) → (N, features)."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))
