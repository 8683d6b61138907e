"""Pooling: the largest or the mean value in a sliding window, or in each cell of a grid."""

from __future__ import annotations

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn._types import Array, at_least_float32
from fnn.ops._window import Padding, Sizes, Window, per_axis, shifted, sliding_window, spatial_axes


def max_pool(x: Array, /, *, window: Sizes, stride: Sizes | None = None, padding: Padding = "VALID") -> Array:
    """The largest value in each window; padding never wins.

    Args:
        x: images (N, …, C), any number of spatial axes.
        window: the size of the window, one integer or one for each spatial axis.
        stride: how far the window moves; the window itself by default.
        padding: see `Padding`.

    Returns:
        (N, …, C). Of equally large finite values in a window the first, row by row, receives the gradient, as
        in cuDNN, PyTorch and `lax.reduce_window`; it may go to another one where NaN or −∞ is the result.

    Raises:
        ValueError: a window that does not fit, or padding so wide that some windows see nothing else.
        TypeError: booleans or complex numbers.
    """
    sliding = _pooling_window(x, window, stride, padding)
    for axis in reversed(range(spatial_axes(x))):
        x = largest(shifted(x, sliding.along(axis), fill=_lowest(x)))
    return x


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
        ValueError: a window that does not fit, or padding so wide that some windows see nothing else.
    """
    sliding = _pooling_window(x, window, stride, padding)
    if _tiles(sliding):
        return _tiled(x, sliding).mean(_inside(x))
    sums, dtype = _for_sums(x)
    counts = jnp.ones((1, *x.shape[1:-1], 1), sums.dtype)
    for axis in range(spatial_axes(x)):
        along = sliding.along(axis)
        sums, counts = (reduce(jnp.add, shifted(values, along)) for values in (sums, counts))
    return (sums / counts).astype(dtype)


def adaptive_max_pool(x: Array, /, *, size: Sizes) -> Array:
    """The largest value in each cell of a grid, whatever the size of the input.

    Cell i of an axis of N pixels is ⌊i·N / size⌋ … ⌈(i + 1)·N / size⌉ − 1, as in PyTorch: cells overlap by a
    pixel where `size` does not divide N, and repeat pixels where it is larger.

    Args:
        x: images (N, …, C), any number of spatial axes.
        size: of the output, one integer or one for each spatial axis.

    Returns:
        (N, *size, C). The first of equally large values receives the gradient, as in `max_pool`.

    Raises:
        ValueError: a size that is not one integer or one for each spatial axis; images without pixels.
        TypeError: booleans or complex numbers.
    """
    for axis, count in reversed(_counts(x, size)):
        cells, real = _cells(x, axis, count)
        x = _largest_along(jnp.where(real, cells, _lowest(x)), axis + 1)
    return x


def adaptive_avg_pool(x: Array, /, *, size: Sizes) -> Array:
    """The mean value in each cell of a grid, whatever the size of the input.

    Cells are those of `adaptive_max_pool`, and so PyTorch's.

    Args:
        x: images (N, …, C), any number of spatial axes.
        size: of the output, one integer or one for each spatial axis.

    Returns:
        (N, *size, C).

    Raises:
        ValueError: a size that is not one integer or one for each spatial axis; images without pixels.
    """
    means, dtype = _for_sums(x)
    for axis, count in _counts(x, size):
        cells, real = _cells(means, axis, count)
        means = jnp.where(real, cells, 0).sum(axis + 1) / jnp.asarray(real.sum(axis + 1), means.dtype)
    return means.astype(dtype)


@jax.custom_jvp
def largest(views: list[Array]) -> Array:
    """The largest of some arrays of one shape, element by element; of equal ones the first has the gradient.

    The gradient goes where comparisons of the values with each other point, and so always adds up. That of
    `jnp.max` compares each value with the maximum. XLA may compute a value anew for that, rounded otherwise
    than the maximum was: then no value equals it, and the gradient is lost.
    """
    return reduce(jnp.maximum, views)


@largest.defjvp
def _change_of_the_largest(inputs: tuple[list[Array]], tangents: tuple[list[Array]]) -> tuple[Array, Array]:
    (views,), (changes,) = inputs, tangents
    best, place = views[0], jnp.zeros(views[0].shape, jnp.int32)
    for i, view in enumerate(views[1:], 1):
        place = jnp.where(view > best, i, place)
        best = jnp.maximum(best, view)
    return largest(views), reduce(
        jnp.add, [jnp.where(place == i, change, 0) for i, change in enumerate(changes)]
    )


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest_along(x: Array, axis: int) -> Array:
    """`largest` of the entries of an axis, for those that may be many."""
    return x.max(axis)


@_largest_along.defjvp
def _change_along(axis: int, inputs: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (change,) = inputs, tangents
    place = jnp.argmax(x, axis, keepdims=True)
    first = lax.broadcasted_iota(place.dtype, x.shape, axis) == place
    return _largest_along(x, axis), jnp.where(first, change, 0).sum(axis)


def _pooling_window(x: Array, size: Sizes, stride: Sizes | None, padding: Padding) -> Window:
    """The window that fits, of which every place sees pixels of the image."""
    window = sliding_window(x, size, size if stride is None else stride, padding, name="window")
    axes = zip(
        x.shape[1:-1], window.outputs(x.shape[1:-1]), window.size, window.stride, window.padding, strict=True
    )
    if any(lo >= k or (places - 1) * s - lo >= n for n, places, k, s, (lo, _) in axes):
        raise ValueError(
            f"the padding {padding} is so wide that some windows of {size} see nothing else; "
            "make it smaller than the window"
        )
    return window


def _for_sums(x: Array) -> tuple[Array, jnp.dtype]:
    """The values in float32 or wider, to be added up, and the dtype that their mean comes back in."""
    dtype = jnp.result_type(x.dtype, float)
    return at_least_float32(x.astype(dtype)), dtype


def _lowest(x: Array) -> float:
    """What is not larger than any value of that type."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return -jnp.inf
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"the largest of numbers is wanted, not of {x.dtype}; take x.astype(jnp.float32)")
    return jnp.iinfo(x.dtype).min


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
    """The axes of the windows in what `_tiled` returns."""
    return tuple(range(2, 2 * (x.ndim - 2) + 1, 2))


def check_pixels(x: Array) -> None:
    """Raise ValueError where images have no pixel, and so no largest value and no mean."""
    if 0 in x.shape[1 : 1 + spatial_axes(x)]:
        raise ValueError(f"there are no pixels to pool in images of shape {x.shape}; leave empty ones out")


def _counts(x: Array, size: Sizes) -> list[tuple[int, int]]:
    """Each spatial axis with its number of cells."""
    check_pixels(x)
    return list(enumerate(per_axis(size, spatial_axes(x), "size"), 1))


def _cells(x: Array, axis: int, count: int) -> tuple[Array, np.ndarray]:
    """An axis of x as two, its cells and their pixels, and which pixels really belong to their cell.

    Cells are cut as long as the longest. Slices, because the gradient of a gather is a scatter, which is slow
    on CPU.
    """
    n = x.shape[axis]
    starts = [cell * n // count for cell in range(count)]
    lengths = np.array([-(-(cell + 1) * n // count) - start for cell, start in enumerate(starts)])
    longest = max(lengths)
    if n % count == 0:
        cells = x.reshape(*x.shape[:axis], count, longest, *x.shape[axis + 1 :])
    else:
        padded = jnp.pad(x, [(0, longest - 1 if a == axis else 0) for a in range(x.ndim)])
        cells = jnp.stack([lax.slice_in_dim(padded, a, a + longest, axis=axis) for a in starts], axis)
    real = np.arange(longest) < lengths[:, None]
    return cells, real.reshape((1,) * axis + real.shape + (1,) * (x.ndim - axis - 1))
