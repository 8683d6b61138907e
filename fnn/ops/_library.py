"""Convolution as a call of XLA's: the vendor's library on GPU and TPU, YNNPACK or Eigen on CPU.

Those pack windows into their matrix product as they go, and write none to memory. They take float32 in one
layout, NHWC and HWIO with nothing reversed, cut off or spread out. What else there is runs in a naive loop
where it stands inside `scan`: the gradients that JAX makes of a convolution (jax#12868), and the groups that
it makes of several kernels under `vmap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from fnn._types import Array
from fnn.ops._window import Window

_FEWEST_NUMBERS = 37  # in a window; measured, as are the next two
_FEWEST_FEATURES = 8
_FEWEST_CHANNELS_OF_GROUP = 8


def product(x: Array, kernel: Array, window: Window) -> Array:
    """The convolution by XLA."""
    axes = len(window.size)
    images = (0, axes + 1, *range(1, axes + 1))  # where batch, channels and spatial axes are
    kernels = (axes + 1, axes, *range(axes))
    return lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=lax.ConvDimensionNumbers(images, kernels, images),
        feature_group_count=x.shape[-1] // kernel.shape[-2],
    )


def pays(x: Array, kernel: Array, window: Window) -> bool:
    """Whether that is fast on CPU."""
    if x.dtype != jnp.float32 or len(window.size) > 2 or min(map(min, window.padding)) < 0:
        return False
    channels, features = kernel.shape[-2:]
    if channels < min(x.shape[-1], _FEWEST_CHANNELS_OF_GROUP) or features < _FEWEST_FEATURES:
        return False
    return wide(kernel)


def wide(kernel: Array) -> bool:
    """Whether windows have so many numbers that it is worth not to write them out."""
    return math.prod(kernel.shape[:-1]) >= _FEWEST_NUMBERS


def unless_mapped(otherwise: Callable[[Array, Array, Window], Array], window: Window) -> Callable[..., Array]:
    """The convolution by XLA, and another one for each kernel under `vmap` over kernels.

    Under `vmap` over images alone, it takes them all as one batch.
    """

    @custom_vmap
    def convolved(x: Array, kernel: Array) -> Array:
        return product(x, kernel, window)

    @convolved.def_vmap
    def _(size: int, mapped: Sequence[bool], x: Array, kernel: Array) -> tuple[Array, Any]:
        if mapped[1]:
            axes = [0 if each else None for each in mapped]
            return jax.vmap(lambda x, kernel: otherwise(x, kernel, window), axes)(x, kernel), True
        y = convolved(x.reshape(-1, *x.shape[2:]), kernel)
        return y.reshape(size, -1, *y.shape[1:]), True

    return convolved
