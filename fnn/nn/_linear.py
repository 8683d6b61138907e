"""The fully connected layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnn._tree import fold_name
from fnn._types import Array, Initializer, Key, Params, check_range
from fnn.nn._layer import Layer, layer
from fnn.nn.initializers import check_initializer, kaiming


def linear(
    features: int, *, bias: bool = True, kernel_init: Initializer = kaiming, name: str | None = None
) -> Layer:
    """A fully connected layer, y = x W + b.

    Args:
        features: the number of outputs.
        bias: whether b is added; it starts at zero.
        kernel_init: draws W; Kaiming normal, of variance 2 / fan-in.
        name: in place of linear_1, linear_2, …

    Parameters: `kernel` (inputs, features), `bias` (features,). Input (N, inputs), output (N, features).

    Raises:
        ValueError: an input that is not (N, inputs). Flax and Keras apply a dense layer to the last axis
            of anything; here an image in front of it is taken for a forgotten `flatten`.
    """
    check_range("features", features, at_least=1, integer=True)
    check_initializer(kernel_init)

    def init(key: Key, x: jax.ShapeDtypeStruct) -> Params:
        _check(x)
        params = {"kernel": kernel_init(fold_name(key, "kernel"), (x.shape[-1], features), x.dtype)}
        return {**params, "bias": jnp.zeros(features, x.dtype)} if bias else params

    def apply(params: Params, x: Array) -> Array:
        _check(x)
        if x.shape[-1] != params["kernel"].shape[0]:
            raise ValueError(f"expected {params['kernel'].shape[0]} inputs, got an input of shape {x.shape}")
        y = x @ params["kernel"]
        return y + params["bias"][None, :] if bias else y

    return layer("linear", apply, init, name=name)


def _check(x: Array | jax.ShapeDtypeStruct) -> None:
    if len(x.shape) != 2:
        way_out = (
            "x[None] makes a batch of a single example" if len(x.shape) == 1 else "put flatten before it"
        )
        raise ValueError(f"a linear layer takes (batch, inputs), got an input of shape {x.shape}; {way_out}")
