"""Convolution on CPU and its gradients, each written in the way that is fastest there.

XLA's own is, where XLA has a library for it, but Winograd's algorithm beats it where channels are many. The
rest goes by matrix products: float64, kernels that `vmap` maps over, volumes, windows of a few numbers. The
gradient of the input is a convolution again, of dy with the kernel back to front, unless there is a stride.
That of the kernel is always a matrix product: as a convolution, its window would be as large as the image.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

from fnn._types import Array
from fnn.ops import _kn2row, _library, _winograd
from fnn.ops._blocks import Form
from fnn.ops._depthwise import DEPTHWISE
from fnn.ops._im2col import IM2COL
from fnn.ops._kn2row import KN2ROW
from fnn.ops._window import Window
from fnn.ops._winograd import WINOGRAD


def on_cpu(x: Array, kernel: Array, window: Window) -> Array:
    """See `fnn.ops.conv`; in float32 or wider."""
    if _depthwise(x, kernel):  # an image of its own for each feature
        x = jnp.repeat(x, kernel.shape[-1] // x.shape[-1], axis=-1)
    return _convolve(x, kernel, window)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, window: Window) -> Array:
    if _library_pays(x, kernel, window):
        return _library.unless_mapped(_by_products, window)(x, kernel)
    return _by_products(x, kernel, window)


def _forward(x: Array, kernel: Array, window: Window) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, window), (x, kernel)


def _backward(window: Window, inputs: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = inputs
    d_kernel = _form(x, kernel, window).kernel_gradient(x, dy, kernel, window)
    if _convolves_back(x, dy, kernel, window):
        return on_cpu(dy, _back_to_front(kernel, x.shape[-1]), window.reversed), d_kernel
    form = DEPTHWISE if _depthwise(x, kernel) else IM2COL
    return form.input_gradient(x, dy, kernel, window), d_kernel


_convolve.defvjp(_forward, _backward)


def _by_products(x: Array, kernel: Array, window: Window) -> Array:
    return _form(x, kernel, window).product(x, kernel, window)


def _library_pays(x: Array, kernel: Array, window: Window) -> bool:
    if _depthwise(x, kernel) or _winograd.pays(x, kernel, window, fewest_channels=64):
        return False
    return _library.pays(x, kernel, window)


def _form(x: Array, kernel: Array, window: Window) -> Form:
    """The fastest of those that are not XLA's; bounds are measured."""
    if _depthwise(x, kernel):
        return DEPTHWISE
    if _winograd.pays(x, kernel, window, fewest_channels=32):
        return WINOGRAD
    return KN2ROW if _kn2row.pays(x, kernel, window) else IM2COL


def _convolves_back(x: Array, dy: Array, kernel: Array, window: Window) -> bool:
    """Whether the input's gradient is a convolution, and not mostly one of padding or with few channels."""
    if max(window.stride) > 1:
        return False
    places, places_back = (math.prod(images.shape[1:-1]) for images in (dy, x))
    return _depthwise(x, kernel) or (places_back <= 2 * places and _library.wide(kernel))


def _depthwise(x: Array, kernel: Array) -> bool:
    """Whether every group has one channel."""
    return kernel.shape[-2] == 1 < x.shape[-1]


def _back_to_front(kernel: Array, channels: int) -> Array:
    """The kernel of the input's gradient: (…, Cin / groups, Cout) → (…, Cout / groups, Cin), reversed."""
    *size, per_group, features = kernel.shape
    groups = channels // per_group
    kernel = jnp.flip(kernel, range(len(size))).reshape(*size, per_group, groups, features // groups)
    return jnp.swapaxes(kernel, -3, -1).reshape(*size, features // groups, channels)
