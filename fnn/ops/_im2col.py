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
    """Gradients for the input and the kernel, apart: a first layer asks for the second alone.

    That of the input is dy times the transposed kernel, the pixels of whose rows are added where they belong
    ("col2im").
    """
    x, kernel = inputs

    def for_input(x: Array, dy: Array) -> Array:
        return jax.vjp(lambda x: _product(x, kernel, window, groups), x)[1](dy)[0]

    def for_kernel(x: Array, dy: Array) -> Array:
        return _kernel_gradient(x, dy, kernel, window, groups)[None]

    size = block_size(x.shape[0], _patch_bytes(x, kernel, window), BLOCK_BYTES)
    return in_blocks(for_input, size, x, dy), in_blocks(for_kernel, size, x, dy).sum(0)


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
