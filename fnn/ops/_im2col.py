"""Convolution on CPU as a matrix product: every window of pixels written out as a row ("im2col").

Its gradient of the input is dy times the transposed kernel, the pixels of whose rows are added where they
belong ("col2im"); the convolutions with a stride have theirs from here.

Source: Chellapilla, Puri and Simard (2006), "High Performance Convolutional Neural Networks for Document
Processing".
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnn._types import Array
from fnn.ops._blocks import Form, as_rows, summed_products
from fnn.ops._window import Window, shifted, windows


def _product(x: Array, kernel: Array, window: Window) -> Array:
    """The windows, times the kernel as one matrix; for groups one for each."""
    per_group, features = kernel.shape[-2:]
    groups = x.shape[-1] // per_group
    if groups == 1:
        rows = windows(x, window)
        return (as_rows(rows) @ kernel.reshape(-1, features)).reshape(*rows.shape[:-1], features)
    views = shifted(x, window)
    places = views[0].shape[:-1]
    patches = jnp.stack(views, axis=-2).reshape(*places, len(views), groups, per_group)
    kernels = kernel.reshape(len(views), per_group, groups, features // groups)
    y = jnp.einsum("...kgc,kcgf->...gf", patches, kernels)
    return y.reshape(*places, features)


def _kernel_gradient(x: Array, dy: Array, kernel: Array, window: Window) -> Array:
    """The windows, transposed, times dy; written out, because `vjp` would transpose dy as well."""
    if kernel.shape[-2] < x.shape[-1]:
        return jax.vjp(lambda kernel: _product(x, kernel, window), kernel)[1](dy)[0]
    return summed_products(as_rows(windows(x, window)), as_rows(dy)).reshape(kernel.shape)


def _image_numbers(x: Array, kernel: Array, window: Window) -> int:
    """Those of the windows, and none where each is a pixel as it lies in the image."""
    if math.prod(window.size) == max(window.stride) == 1:
        return 0
    return math.prod(window.outputs(x.shape[1:-1])) * math.prod(window.size) * x.shape[-1]


IM2COL = Form(_product, _kernel_gradient, _image_numbers, block_bytes=4 << 20)
