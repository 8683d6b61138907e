"""Depthwise convolution on CPU: with one channel in each group there is no matrix product, only a sum.

Source: Howard et al. (2017), "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications".
"""

from __future__ import annotations

import math

import jax.numpy as jnp

from fnn._types import Array
from fnn.ops._blocks import Form, as_rows
from fnn.ops._window import Window, shifted


def _product(x: Array, kernel: Array, window: Window) -> Array:
    """The shifted images, each times its elements of the kernel (…, 1, C), added."""
    terms = [view * element for view, element in zip(shifted(x, window), _elements(kernel), strict=True)]
    return sum(terms[1:], start=terms[0])


def _kernel_gradient(x: Array, dy: Array, kernel: Array, window: Window) -> Array:
    """Products are added over images first, many numbers at once, then over places by a product with ones."""

    def of_element(view: Array) -> Array:
        return as_rows(sum(view * dy, start=jnp.zeros_like(dy, shape=dy.shape[1:])))

    by_place = jnp.stack([of_element(view) for view in shifted(x, window)])
    return jnp.einsum("p,epc->ec", jnp.ones(by_place.shape[1], x.dtype), by_place).reshape(kernel.shape)


def _elements(kernel: Array) -> Array:
    return kernel.reshape(-1, *(1,) * (kernel.ndim - 1), kernel.shape[-1])


def _image_numbers(x: Array, kernel: Array, window: Window) -> int:
    """Those of small images as if they had more: each image of a block is written into the program."""
    return max(math.prod(x.shape[1:]), _BLOCK_BYTES // (_MOST_IMAGES * x.dtype.itemsize))


_MOST_IMAGES, _BLOCK_BYTES = 16, 1 << 20
DEPTHWISE = Form(_product, _kernel_gradient, _image_numbers, _BLOCK_BYTES)
