"""Convolution on CPU as a matrix product: every window of pixels written out as a row ("im2col")."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import Array
from fnn.ops._blocks import block_size, in_blocks
from fnn.ops._window import Window, shifted

BLOCK_BYTES = 4 << 20  # of rows; measured


def _product(x: Array, kernel: Array, window: Window, groups: int) -> Array:
    """The shifted images side by side, times the kernel as one matrix."""
    per_group, features = kernel.shape[-2:]
    views = shifted(x, window)
    places = views[0].shape[:-1]
    if groups == 1:
        return (_side_by_side(views) @ kernel.reshape(-1, features)).reshape(*places, features)
    patches = jnp.stack(views, axis=-2).reshape(*places, len(views), groups, per_group)
    kernels = kernel.reshape(len(views), per_group, groups, features // groups)
    y = jnp.einsum("...kgc,kcgf->...gf", patches, kernels)
    return y.reshape(*places, features)


def _side_by_side(views: list[Array]) -> Array:
    """A row for each place: all that the window sees there."""
    patches = jnp.concatenate(views, axis=-1)
    return patches.reshape(-1, patches.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: Array, kernel: Array, window: Window, groups: int) -> Array:
    """See `fnn.ops.conv`."""
    size = block_size(x.shape[0], _patch_bytes(x, kernel, window), BLOCK_BYTES)
    return in_blocks(lambda x: _product(x, kernel, window, groups), size, x)


def _forward(x: Array, kernel: Array, window: Window, groups: int) -> tuple[Array, tuple[Array, Array]]:
    return conv(x, kernel, window, groups), (x, kernel)


def _backward(window: Window, groups: int, inputs: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """Gradients for the input and the kernel.

    With stride 1 that of the input is again a convolution, of dy with the flipped kernel whose channels
    and features are exchanged.
    """
    x, kernel = inputs
    flipped = jnp.flip(kernel, tuple(range(kernel.ndim - 2))).swapaxes(-2, -1)
    is_convolution = groups == 1 and max(window.stride) == 1

    def for_input(x: Array, dy: Array) -> Array:
        if is_convolution:
            return _product(dy, flipped, window.reversed, groups)
        return jax.vjp(lambda x: _product(x, kernel, window, groups), x)[1](dy)[0]

    def for_kernel(x: Array, dy: Array) -> Array:
        return _kernel_gradient(x, dy, kernel, window, groups)[None]

    n, own = x.shape[0], _patch_bytes(x, kernel, window)
    theirs = _patch_bytes(dy, flipped, window.reversed) if is_convolution else own
    if theirs > 4 * own:  # few channels become many, as in a first layer, whose input needs no gradient
        dx = in_blocks(for_input, block_size(n, theirs, BLOCK_BYTES), x, dy)
        return dx, in_blocks(for_kernel, block_size(n, own, BLOCK_BYTES), x, dy).sum(0)
    size = block_size(n, max(own, theirs), BLOCK_BYTES)
    dx, d_kernels = in_blocks(lambda x, dy: (for_input(x, dy), for_kernel(x, dy)), size, x, dy)
    return dx, d_kernels.sum(0)


def _kernel_gradient(x: Array, dy: Array, kernel: Array, window: Window, groups: int) -> Array:
    """The shifted images, transposed, times dy; written out, because `vjp` would transpose dy as well."""
    if groups > 1:
        return jax.vjp(lambda kernel: _product(x, kernel, window, groups), kernel)[1](dy)[0]
    rows, columns = _side_by_side(shifted(x, window)), dy.reshape(-1, dy.shape[-1])
    return lax.dot_general(rows, columns, (((0,), (0,)), ((), ()))).reshape(kernel.shape)


def _patch_bytes(x: Array, kernel: Array, window: Window) -> int:
    """How much memory the shifted images of one image take."""
    places = math.prod(window.outputs(x.shape[1:-1]))
    return places * math.prod(window.size) * x.shape[-1] * kernel.dtype.itemsize


conv.defvjp(_forward, _backward)
