"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fnn import ops
from fnn._tree import fold_name
from fnn._types import Array, Initializer, Key, Params, check_channels, check_range
from fnn.nn._layer import Layer, layer
from fnn.nn.initializers import check_initializer, kaiming
from fnn.ops._conv import interleaved
from fnn.ops._norm import per_channel
from fnn.ops._window import Padding, Pair, Sizes, Window, check_sizes, per_axis, sliding_window, spatial_axes


def conv(
    features: int,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = kaiming,
    name: str | None = None,
) -> Layer:
    """A convolution of sequences, images or volumes with learned kernels.

    The input decides over how many axes the kernels slide: (N, L, C), (N, H, W, C) or (N, D, H, W, C).

    Args:
        features: the number of kernels, and of feature maps in the output.
        kernel_size: the size of the kernels, one integer or one for each spatial axis; so for stride and
            dilation.
        stride: how far the kernel moves.
        padding: "SAME" (⌈N/stride⌉ outputs), "VALID" (none), an integer for every side, or a pair
            (before, after) for each spatial axis.
        dilation: distance between neighbouring pixels that the kernel sees.
        groups: into how many independent parts the channels fall.
        bias: whether a number per feature map is added; it starts at zero.
        kernel_init: draws the kernels; Kaiming normal, fan-in kh·kw·Cin/groups.
        name: in place of conv_1, conv_2, …

    Parameters: `kernel` (kh, kw, Cin/groups, features), `bias` (features,). Input (N, H, W, Cin), output
    (N, Ho, Wo, features), each size by `conv_output_size`. Kernels are not flipped: what the field calls
    convolution is cross-correlation. A shift of the input by a multiple of the stride shifts the output,
    away from the borders, where padding differs; other shifts change it (`receptive_field`).

    Raises:
        ValueError: an input that is not a batch of images, a kernel larger than the padded input, groups
            that do not divide the channels and the features.

    Source: LeCun et al. (1998), "Gradient-Based Learning Applied to Document Recognition".
    """
    check_range("features", features, at_least=1, integer=True)
    check_range("groups", groups, at_least=1, integer=True)
    check_sizes("kernel_size", kernel_size)
    check_initializer(kernel_init)

    def init(key: Key, x: jax.ShapeDtypeStruct) -> Params:
        size = per_axis(kernel_size, spatial_axes(x), "kernel_size")
        shape = (*size, max(x.shape[-1] // groups, 1), features)
        params = {"kernel": kernel_init(fold_name(key, "kernel"), shape, x.dtype)}
        return {**params, "bias": jnp.zeros(features, x.dtype)} if bias else params

    def apply(params: Params, x: Array) -> Array:
        y = ops.conv(x, params["kernel"], stride=stride, padding=padding, dilation=dilation, groups=groups)
        return y + per_channel(params["bias"], y.ndim) if bias else y

    def window(x: jax.ShapeDtypeStruct) -> Window:
        return sliding_window(x, kernel_size, stride, padding, dilation, name="kernel")

    return layer("conv", apply, init, name=name, window=window)


def depthwise_conv(
    kernel_size: Sizes,
    *,
    multiplier: int = 1,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    bias: bool = True,
    kernel_init: Initializer = kaiming,
    name: str | None = None,
) -> Layer:
    """A convolution of each channel by itself: `conv` with as many groups as the input has channels.

    Args:
        kernel_size: the size of the kernels, one integer or one for each spatial axis.
        multiplier: how many kernels each channel has; output channel o sees the channel o // multiplier.
        stride, padding, dilation, bias: as in `conv`.
        kernel_init: draws the kernels; Kaiming normal, fan-in kh·kw.
        name: in place of depthwise_conv_1, depthwise_conv_2, …

    Parameters: `kernel` (kh, kw, 1, C·multiplier), `bias` (C·multiplier,). Input (N, H, W, C), output
    (N, Ho, Wo, C·multiplier). A convolution of size 1 behind it mixes the channels; together they are a
    depthwise separable convolution.

    Raises:
        ValueError: as `conv`; an input of another number of channels than the parameters.

    Source: Chollet (2017), "Xception"; Howard et al. (2017), "MobileNets".
    """
    check_range("multiplier", multiplier, at_least=1, integer=True)

    def grouped(channels: int) -> Layer:
        return conv(
            channels * multiplier,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=channels,
            bias=bias,
            kernel_init=kernel_init,
        )

    def init(key: Key, x: jax.ShapeDtypeStruct) -> Params:
        return grouped(x.shape[-1]).init(key, x)[0]

    def apply(params: Params, x: Array) -> Array:
        channels = params["kernel"].shape[-1] // multiplier
        check_channels(x, channels)
        return grouped(channels).apply(params, {}, x)[0]

    return layer("depthwise_conv", apply, init, name=name, window=grouped(1).window)


def conv_transpose(
    features: int,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    bias: bool = True,
    kernel_init: Initializer = kaiming,
    name: str | None = None,
) -> Layer:
    """A transposed convolution: the gradient of `conv` for its input, as a layer that enlarges images.

    Each input pixel adds a multiple of the kernel to the output, `stride` pixels from that of its neighbour;
    see `fnn.ops.conv_transpose` for the formula and for what PyTorch, lax and Flax do.

    Args:
        features: the number of feature maps in the output.
        kernel_size: the size of the kernels, one integer or one for each spatial axis.
        stride: how many times larger the output is.
        padding: of the convolution whose gradient it is: "SAME" (N·stride outputs), "VALID", an integer for
            every side, or a pair (before, after) for each spatial axis. It cuts pixels off the output.
        dilation: distance between neighbouring output pixels to which an input pixel adds.
        bias: whether a number per feature map is added; it starts at zero.
        kernel_init: draws the kernels; Kaiming normal.
        name: in place of conv_transpose_1, conv_transpose_2, …

    Parameters: `kernel` (kh, kw, Cin, features), `bias` (features,). Input (N, H, W, Cin), output
    (N, Ho, Wo, features) with Ho = H·s, or (H − 1)·s + d(kh − 1) + 1 − lo − hi unless "SAME".

    Fan-in: one output pixel sums over every s-th element of a kernel, ⌈kh/s⌉·⌈kw/s⌉·Cin products at most
    and not kh·kw·Cin. Those elements are drawn as the kernel of a convolution of that size, so a stride
    does not shrink the signal. Flax takes kh·kw·Cin, PyTorch and Keras kh·kw·features.

    Raises:
        ValueError: an input that is not a batch of images; padding that cuts off all of the output.

    Source: Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning", chapter 4.
    """
    check_range("features", features, at_least=1, integer=True)
    check_sizes("kernel_size", kernel_size)
    check_initializer(kernel_init)

    def init(key: Key, x: jax.ShapeDtypeStruct) -> Params:
        axes = spatial_axes(x)
        size, steps = per_axis(kernel_size, axes, "kernel_size"), per_axis(stride, axes, "stride")
        dilations = per_axis(dilation, axes, "dilation")
        steps = tuple(s // math.gcd(s, d) for s, d in zip(steps, dilations, strict=True))
        each = tuple(-(-k // s) for k, s in zip(size, steps, strict=True))  # elements that meet in a pixel
        shape = (*each, x.shape[-1], features * math.prod(steps))
        drawn = kernel_init(fold_name(key, "kernel"), shape, x.dtype)
        whole = jnp.moveaxis(interleaved(jnp.moveaxis(drawn, -2, 0), steps), 0, -2)
        params = {"kernel": whole[tuple(slice(k) for k in size)]}
        return {**params, "bias": jnp.zeros(features, x.dtype)} if bias else params

    def apply(params: Params, x: Array) -> Array:
        y = ops.conv_transpose(x, params["kernel"], stride=stride, padding=padding, dilation=dilation)
        return y + per_channel(params["bias"], y.ndim) if bias else y

    def window(x: jax.ShapeDtypeStruct) -> Window:
        raise ValueError(
            "a transposed convolution has no receptive field of one size: neighbouring outputs see different "
            "numbers of inputs; ask for that of the layers before it"
        )

    return layer("conv_transpose", apply, init, name=name, window=window)


def conv_output_size(
    size: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: Literal["SAME", "VALID"] | int | Pair = "SAME",
    dilation: int = 1,
) -> int:
    """How many outputs a convolution or a pool has along one axis, ⌊(N + lo + hi − D(F − 1) − 1) / S⌋ + 1.

    The notes' formula, (N − F + 2P) / S + 1, is this without dilation and with the same padding P at both
    ends; it lacks the floor: pixels at the end that no longer fill a window are left out.

    Args:
        size: N, pixels of the input.
        kernel_size: F, of the kernel or the window.
        stride: S.
        padding: "SAME" (⌈N / S⌉ outputs), "VALID" (none), an integer for both ends or (lo, hi).
        dilation: D, the distance between neighbouring pixels that the kernel sees.

    Raises:
        ValueError: a kernel that covers more than the padded input.

    Source: Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning", chapter 2.

    >>> conv_output_size(28, 5, padding="VALID"), conv_output_size(28, 3, stride=2, padding=1)
    (24, 14)
    """
    check_range("size", size, at_least=1, integer=True)
    pads: Any = (padding,) if isinstance(padding, tuple) else padding
    x = jax.ShapeDtypeStruct((1, size, 1), jnp.float32)
    window = sliding_window(x, kernel_size, stride, pads, dilation, name="kernel")
    return window.outputs((size,))[0]
