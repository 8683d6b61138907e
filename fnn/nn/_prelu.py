"""The parametric rectified linear unit."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, Key, Params, check_channels, known_number
from fnn.nn._layer import Layer, layer
from fnn.nn.activations import leaky_relu
from fnn.ops._norm import per_channel


def prelu(*, shared: bool = False, initial: Hyperparameter = 0.25, name: str | None = None) -> Layer:
    """A leaky ReLU that learns its slope: x where x > 0, αx otherwise.

    Args:
        shared: one α for all channels, not one each.
        initial: α at the start.
        name: in place of prelu_1, prelu_2, …

    Parameters: `slope` α (C,), or (1,) if shared. Input and output (N, C) or (N, …, C). `l1` and `l2` touch
    kernels only, so they leave α alone, as the paper does: a penalty would draw it to 0, a plain ReLU.

    PyTorch's PReLU shares one α unless told otherwise, and so does Flax's, from 0.01; Keras learns one for
    every position of a feature map, from 0.

    Raises:
        ValueError: an input without a channel axis, or of another number of channels.

    Source: He et al. (2015), "Delving Deep into Rectifiers".
    """
    start = known_number("initial", initial)

    def init(key: Key, x: jax.ShapeDtypeStruct) -> Params:
        if len(x.shape) < 2:
            raise ValueError(f"prelu takes (batch, …, channels), got an input of shape {x.shape}")
        return {"slope": jnp.full(1 if shared else x.shape[-1], start, x.dtype)}

    def apply(params: Params, x: Array) -> Array:
        slope = params["slope"]
        if not shared:
            check_channels(x, slope.shape[0])
        return leaky_relu(x, per_channel(slope, x.ndim))

    return layer("prelu", apply, init, name=name)
