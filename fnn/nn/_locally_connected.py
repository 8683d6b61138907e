"""The locally connected layer: a convolution without shared weights."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnn import ops
from fnn._tree import fold_name
from fnn._types import Array, Initializer, Key, Params, check_range
from fnn.nn._layer import Layer, layer
from fnn.nn.initializers import check_initializer, kaiming
from fnn.ops._window import Padding, Sizes, Window, check_sizes, sliding_window


def locally_connected(
    features: int,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Padding = "VALID",
    bias: bool = True,
    kernel_init: Initializer = kaiming,
    name: str | None = None,
) -> Layer:
    """A convolution with a kernel and a bias of its own at each place of the output.

    Connections are local as in `conv`, which is the special case of equal kernels everywhere; nothing is
    shared, so it has as many times the parameters as the output has places, does not follow a shift of its
    input, and takes inputs of one size only.

    Args:
        features: the number of kernels at each place, and of feature maps in the output.
        kernel_size: the size of the kernels, one integer or one for each spatial axis.
        stride: how far the window moves.
        padding: "VALID" (none), "SAME" (⌈N/stride⌉ outputs), an integer for every side, or a pair
            (before, after) for each spatial axis.
        bias: whether a number per output is added; it starts at zero.
        kernel_init: draws each place's kernels; Kaiming normal, fan-in kh·kw·Cin.
        name: in place of locally_connected_1, locally_connected_2, …

    Parameters: `kernel` (Ho, Wo, kh, kw, Cin, features), `bias` (Ho, Wo, features). Input (N, H, W, Cin),
    output (N, Ho, Wo, features), each size by `conv_output_size`; other numbers of spatial axes alike.

    Raises:
        ValueError: an input that is not a batch of images, or of another size than the parameters; a kernel
            larger than the padded input.

    Source: LeCun (1989), "Generalization and network design strategies"; Taigman et al. (2014), "DeepFace".
    """
    check_range("features", features, at_least=1, integer=True)
    check_sizes("kernel_size", kernel_size)
    check_initializer(kernel_init)

    def window(x: Array | jax.ShapeDtypeStruct) -> Window:
        return sliding_window(x, kernel_size, stride, padding, name="kernel")

    def init(key: Key, x: jax.ShapeDtypeStruct) -> Params:
        sliding = window(x)
        places, shape = sliding.outputs(x.shape[1:-1]), (*sliding.size, x.shape[-1], features)
        keys = jax.random.split(fold_name(key, "kernel"), math.prod(places))
        kernels = jax.vmap(lambda key: kernel_init(key, shape, x.dtype))(keys)
        params = {"kernel": kernels.reshape(*places, *shape)}
        return {**params, "bias": jnp.zeros((*places, features), x.dtype)} if bias else params

    def apply(params: Params, x: Array) -> Array:
        y = ops.locally_connected(x, params["kernel"], stride=stride, padding=padding)
        return y + params["bias"][None] if bias else y

    return layer("locally_connected", apply, init, name=name, window=window)
