"""Depthwise convolution on CPU: with one channel in each group there is no matrix product, only a sum.

Source: Howard et al. (2017), "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications".
"""

from __future__ import annotations

import math

import jax.numpy as jnp

from fnn._types import Array
from fnn.ops._blocks import Form
from fnn.ops._window import Window, shifted


def _product(x: Array, kernel: Array, window: Window) -> Array:
    """The shifted images, each times its elements of the kernel (…, 1, C), added."""
    terms = [view * element for view, element in zip(shifted(x, window), _elements(kernel), strict=True)]
    return sum(terms[1:], start=terms[0])


def _kernel_gradient(x: Array, dy: Array, kernel: Array, window: Window) -> Array:
    places = tuple(range(dy.ndim - 1))
    return jnp.stack([(view * dy).sum(places) for view in shifted(x, window)]).reshape(kernel.shape)


def _elements(kernel: Array) -> Array:
    return kernel.reshape(-1, *(1,) * (kernel.ndim - 1), kernel.shape[-1])


def _image_numbers(x: Array, kernel: Array, window: Window) -> int:
    return math.prod(x.shape[1:])


DEPTHWISE = Form(_product, _kernel_gradient, _image_numbers, block_bytes=512 << 10)
