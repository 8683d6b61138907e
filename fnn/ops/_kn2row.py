"""Convolution on CPU as a matrix product whose results are shifted and added along the first axis ("kn2row").

A window of k×k pixels is a sum over its k rows. So one row of it is written out at each place, k pixels in
place of the k² of im2col, and one product applies all k rows of the kernel to it; what they make is added:

    z[n, i, j, (a, o)] = Σ_{b, c} x[n, i, j + b, c] · kernel[a, b, c, o]
    y[n, i, j, o] = Σ_a z[n, i + a, j, (a, o)]

That is kC + kF numbers for each place in place of k²C: less to write and read again, which is what takes the
time where channels are few, unless features are many more. The gradient of z is dy, shifted along the first
axis, and so that of the kernel is a matrix product too.

Source: Vasudevan, Anderson and Gregg (2017), "Parallel Multi Channel Convolution using General Matrix
Multiplication" (kn2row); Cho and Brand (2017), "MEC: Memory-efficient Convolution for Deep Neural Network"
(windows along one axis only).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax

from fnn._types import Array
from fnn.ops._blocks import Form, as_rows, summed_products
from fnn.ops._im2col import IM2COL
from fnn.ops._window import Window, windows

_AS_MUCH = 2  # times the numbers of im2col take as long; measured


def pays(x: Array, kernel: Array, window: Window) -> bool:
    """Whether it beats im2col, by the numbers that each writes; a stride on the first axis wastes some."""
    if kernel.shape[-2] < x.shape[-1] or window.stride[0] > 1:
        return False
    return _image_numbers(x, kernel, window) < _AS_MUCH * IM2COL.image_numbers(x, kernel, window)


def _product(x: Array, kernel: Array, window: Window) -> Array:
    features = kernel.shape[-1] // window.size[0]
    z = _window_rows(x, window) @ kernel
    height = z.shape[1] - window.extent[0] + 1
    starts = range(0, window.extent[0], window.dilation[0])
    parts = [z[:, i : i + height, ..., a * features : (a + 1) * features] for a, i in enumerate(starts)]
    return sum(parts[1:], start=parts[0])


def _kernel_gradient(x: Array, dy: Array, kernel: Array, window: Window) -> Array:
    return summed_products(as_rows(_window_rows(x, window)), as_rows(_spread(dy, window)))


def _image_numbers(x: Array, kernel: Array, window: Window) -> int:
    """Those of the rows of windows and of z."""
    first, *rest, channels, features = kernel.shape
    places = (x.shape[1] + sum(window.padding[0])) * math.prod(window.outputs(x.shape[1:-1])[1:])
    return places * (math.prod(rest) * channels + first * features)


def _window_rows(x: Array, window: Window) -> Array:
    """What the window's first row of pixels sees, in each place along the first axis."""
    return windows(x, window._replace(size=(1, *window.size[1:])))


def _matrix(kernel: Array) -> Array:
    """(F, …, Cin, Cout) → (…·Cin, F·Cout)."""
    return jnp.moveaxis(kernel, 0, -2).reshape(-1, kernel.shape[0] * kernel.shape[-1])


def _spread(dy: Array, window: Window) -> Array:
    """The gradient of z: for each row of the kernel dy where it was added from, side by side."""
    reach = window.extent[0] - 1
    zeros = jnp.zeros((), dy.dtype)
    dy = lax.pad(dy, zeros, [(0, 0, 0), (reach, reach, 0), *((0, 0, 0),) * (dy.ndim - 2)])
    starts = range(reach, -1, -window.dilation[0])
    return jnp.concatenate([dy[:, i : i + dy.shape[1] - reach] for i in starts], axis=-1)


KN2ROW = Form(_product, _kernel_gradient, _image_numbers, block_bytes=4 << 20, prepared=_matrix)
