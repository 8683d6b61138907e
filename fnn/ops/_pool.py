"""Pooling: the largest or the mean value in a sliding window."""

from __future__ import annotations

import jax.numpy as jnp

from fnn._types import Array
from fnn.ops._window import Padding, Pair, Window, shifted, sliding_window


def max_pool(
    x: Array, /, *, window: int | Pair, stride: int | Pair | None = None, padding: Padding = "VALID"
) -> Array:
    """The largest value in each window; padding never wins.

    Args:
        x: images (N, H, W, C).
        window: height and width of the window, one integer for both.
        stride: how far the window moves; the window itself by default.
        padding: see `Padding`.

    Returns:
        (N, Ho, Wo, C). Where several values of a window are equally large, each receives an equal part of
        the gradient; cuDNN, PyTorch and `lax.reduce_window` give all of it to the first.

    Raises:
        ValueError: a window that does not fit.
    """
    sliding = sliding_window(x, window, window if stride is None else stride, padding, name="window")
    if _tiles(sliding):
        return _tiled(x, sliding).max((2, 4))
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    return jnp.stack(shifted(x, sliding, fill=lowest)).max(0)


def avg_pool(
    x: Array, /, *, window: int | Pair, stride: int | Pair | None = None, padding: Padding = "VALID"
) -> Array:
    """The mean value in each window, over the real pixels only: padding does not count.

    PyTorch counts the zeros of the padding unless `count_include_pad=False`; Keras does not count them.

    Args:
        x: images (N, H, W, C).
        window: height and width of the window, one integer for both.
        stride: how far the window moves; the window itself by default.
        padding: see `Padding`.

    Returns:
        (N, Ho, Wo, C).

    Raises:
        ValueError: a window that does not fit.
    """
    sliding = sliding_window(x, window, window if stride is None else stride, padding, name="window")
    if _tiles(sliding):
        return _tiled(x, sliding).mean((2, 4))
    pixels = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    count = sum(shifted(pixels, sliding))
    return sum(shifted(x, sliding)) / jnp.maximum(count, 1)


def _tiles(window: Window) -> bool:
    """Whether windows lie side by side, so that pooling is a reshape and a reduction.

    Its gradient is then one fused comparison; that of `lax.reduce_window` is ten times slower on CPU.
    """
    return window.stride == window.size and window.padding == ((0, 0), (0, 0))


def _tiled(x: Array, window: Window) -> Array:
    (kh, kw), (n, height, width, c) = window.size, x.shape
    rows, columns = height // kh, width // kw
    return x[:, : rows * kh, : columns * kw].reshape(n, rows, kh, columns, kw, c)
