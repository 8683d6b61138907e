"""The convolution layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnn import ops
from fnn._tree import fold_name
from fnn._types import Array, Initializer, Key, Params, check_range
from fnn.nn._layer import Layer, layer
from fnn.nn.initializers import kaiming
from fnn.ops._norm import per_channel
from fnn.ops._window import Padding, Pair, pair


def conv(
    features: int,
    kernel_size: int | Pair,
    *,
    stride: int | Pair = 1,
    padding: Padding = "SAME",
    dilation: int | Pair = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = kaiming,
    name: str | None = None,
) -> Layer:
    """A two-dimensional convolution of images with learned kernels.

    Args:
        features: the number of kernels, and of feature maps in the output.
        kernel_size: height and width of the kernels, one integer for both.
        stride: how far the kernel moves.
        padding: "SAME" (⌈N/stride⌉ outputs), "VALID" (none) or ((top, bottom), (left, right)).
        dilation: distance between neighbouring pixels that the kernel sees.
        groups: into how many independent parts the channels fall.
        bias: whether a number per feature map is added; it starts at zero.
        kernel_init: draws the kernels; Kaiming normal, fan-in kh·kw·Cin/groups.
        name: in place of conv_1, conv_2, …

    Parameters: `kernel` (kh, kw, Cin/groups, features), `bias` (features,). Input (N, H, W, Cin), output
    (N, Ho, Wo, features) with Ho = ⌊(H + top + bottom − d(kh − 1) − 1) / s⌋ + 1. Kernels are not flipped:
    what the field calls convolution is cross-correlation.

    Raises:
        ValueError: an input that is not a batch of images, a kernel larger than the padded input, groups
            that do not divide the channels.
    """
    check_range("features", features, at_least=1)
    check_range("groups", groups, at_least=1)
    size = pair(kernel_size, "kernel_size")

    def init(key: Key, x: jax.ShapeDtypeStruct) -> Params:
        shape = (*size, max(x.shape[-1] // groups, 1), features)
        params = {"kernel": kernel_init(fold_name(key, "kernel"), shape, x.dtype)}
        return {**params, "bias": jnp.zeros(features, x.dtype)} if bias else params

    def apply(params: Params, x: Array) -> Array:
        y = ops.conv(x, params["kernel"], stride=stride, padding=padding, dilation=dilation, groups=groups)
        return y + per_channel(params["bias"], y.ndim) if bias else y

    return layer("conv", apply, init, name=name)
