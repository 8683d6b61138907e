"""Pooling: the largest or the mean value in a sliding window, or in each cell of a grid."""

from __future__ import annotations

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn._types import Array
from fnn.ops._window import Padding, Sizes, Window, per_axis, shifted, sliding_window, spatial_axes


def max_pool(x: Array, /, *, window: Sizes, stride: Sizes | None = None, padding: Padding = "VALID") -> Array:
    """The largest value in each window; padding never wins.

    Args:
        x: images (N, …, C), any number of spatial axes.
        window: the size of the window, one integer or one for each spatial axis.
        stride: how far the window moves; the window itself by default.
        padding: see `Padding`.

    Returns:
        (N, …, C). Where several values of a window are equally large, each receives an equal part of the
        gradient; cuDNN, PyTorch and `lax.reduce_window` give all of it to the first.

    Raises:
        ValueError: a window that does not fit.
    """
    return _largest(
        x, sliding_window(x, window, window if stride is None else stride, padding, name="window")
    )


def avg_pool(x: Array, /, *, window: Sizes, stride: Sizes | None = None, padding: Padding = "VALID") -> Array:
    """The mean value in each window, over the real pixels only: padding does not count.

    PyTorch counts the zeros of the padding unless `count_include_pad=False`; Keras does not count them.

    Args:
        x: images (N, …, C), any number of spatial axes.
        window: the size of the window, one integer or one for each spatial axis.
        stride: how far the window moves; the window itself by default.
        padding: see `Padding`.

    Returns:
        (N, …, C).

    Raises:
        ValueError: a window that does not fit.
    """
    sliding = sliding_window(x, window, window if stride is None else stride, padding, name="window")
    if _tiles(sliding):
        return _tiled(x, sliding).mean(_inside(x))
    pixels = jnp.ones((1, *x.shape[1:-1], 1), x.dtype)
    count = sum(shifted(pixels, sliding))
    return sum(shifted(x, sliding)) / jnp.maximum(count, 1)


def adaptive_max_pool(x: Array, /, *, size: Sizes) -> Array:
    """The largest value in each cell of a grid, whatever the size of the input.

    Cell i of an axis of N pixels is ⌊i·N / size⌋ … ⌈(i + 1)·N / size⌉ − 1, as in PyTorch: cells overlap by a
    pixel where `size` does not divide N, and repeat pixels where it is larger.

    Args:
        x: images (N, …, C), any number of spatial axes.
        size: of the output, one integer or one for each spatial axis.

    Returns:
        (N, *size, C). Equally large values share the gradient, as in `max_pool`.

    Raises:
        ValueError: a size that is not one integer or one for each spatial axis.
    """
    cells, real = _cells(x, size)
    return jnp.where(real, cells, _lowest(x)).max(_inside(x))


def adaptive_avg_pool(x: Array, /, *, size: Sizes) -> Array:
    """The mean value in each cell of a grid, whatever the size of the input.

    Cells are those of `adaptive_max_pool`, and so PyTorch's.

    Args:
        x: images (N, …, C), any number of spatial axes.
        size: of the output, one integer or one for each spatial axis.

    Returns:
        (N, *size, C).

    Raises:
        ValueError: a size that is not one integer or one for each spatial axis.
    """
    cells, real = _cells(x, size)
    y = jnp.where(real, cells, 0).mean(_inside(x))
    return y / jnp.asarray(real.mean(_inside(x)), y.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(x: Array, window: Window) -> Array:
    """The maximum over the window's pixels, which XLA computes in one pass with what made them."""
    return reduce(jnp.maximum, shifted(x, window, fill=_lowest(x)))


@_largest.defjvp
def _change_of_the_largest(
    window: Window, inputs: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    """The mean change over the largest pixels. Of windows side by side its transpose is one comparison."""
    (x,), (dx,) = inputs, tangents
    y = _largest(x, window)
    winners = [view == y for view in shifted(x, window, fill=_lowest(x))]
    count = reduce(jnp.add, [winner.astype(y.dtype) for winner in winners])
    if _tiles(window):
        wins = _tiled(x, window) == jnp.expand_dims(y, _inside(x))
        return y, jnp.where(wins, _tiled(dx, window), 0).sum(_inside(x)) / count
    changes = zip(winners, shifted(dx, window), strict=True)
    return y, reduce(jnp.add, [jnp.where(winner, change, 0) for winner, change in changes]) / count


def _lowest(x: Array) -> float:
    return -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min


def _tiles(window: Window) -> bool:
    """Whether windows lie side by side, so that pooling is a reshape and a reduction.

    The gradient is then a few fused passes; that of `lax.reduce_window` is ten times slower on CPU.
    """
    return window.stride == window.size and not any(map(any, window.padding))


def _tiled(x: Array, window: Window) -> Array:
    """(N, …, C) → (N, rows, kh, columns, kw, …, C), every window with axes of its own."""
    counts = window.outputs(x.shape[1:-1])
    whole = tuple(slice(n * k) for n, k in zip(counts, window.size, strict=True))
    split = [n for pair in zip(counts, window.size, strict=True) for n in pair]
    return x[(slice(None), *whole)].reshape(x.shape[0], *split, x.shape[-1])


def _inside(x: Array) -> tuple[int, ...]:
    """The axes of the windows in what `_tiled` and `_cells` return."""
    return tuple(range(2, 2 * (x.ndim - 2) + 1, 2))


def _cells(x: Array, size: Sizes) -> tuple[Array, np.ndarray]:
    """(N, …, C) → (N, rows, kh, columns, kw, …, C), and which pixels really belong to their cell.

    Cells of an axis are cut as long as its longest. Slices, because the gradient of a gather is a scatter,
    which is slow on CPU.
    """
    real = np.ones((1,) * x.ndim, bool)
    for i, cells in enumerate(per_axis(size, spatial_axes(x), "size")):
        axis = 1 + 2 * i
        n = x.shape[axis]
        starts = [cell * n // cells for cell in range(cells)]
        lengths = np.array([-(-(cell + 1) * n // cells) - start for cell, start in enumerate(starts)])
        longest = max(lengths)
        if n % cells == 0:
            x = x.reshape(*x.shape[:axis], cells, longest, *x.shape[axis + 1 :])
        else:
            x = jnp.pad(x, [(0, longest - 1 if a == axis else 0) for a in range(x.ndim)])
            x = jnp.stack([lax.slice_in_dim(x, a, a + longest, axis=axis) for a in starts], axis)
        own = np.arange(longest) < lengths[:, None]
        real = np.expand_dims(real, axis + 1) & own.reshape(own.shape + (1,) * (x.ndim - axis - 2))
    return x, real
