"""The batch normalisation layer."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fnn import ops
from fnn._types import Array, Hyperparameter, Key, Params, State, check_range, known_number
from fnn.nn._layer import Layer, as_shape, check_train


def batch_norm(*, momentum: Hyperparameter = 0.9, eps: float = 1e-5, name: str | None = None) -> Layer:
    """Normalise each channel over the batch, then scale and shift it by learned numbers.

        y = γ · (x − E[x]) / √(Var[x] + eps) + β

    In training, E and Var are those of the batch, over all positions of a feature map as well; the rows
    that `mask` excludes do not count. At test time, which the notes leave out, they are running averages:

        running ← momentum · running + (1 − momentum) · batch

    `momentum` is the weight of the old value, as in Flax and Keras; PyTorch's `momentum` is the weight of
    the new one. The running variance takes the unbiased variance of the batch, m / (m − 1) · Var, as the
    paper and PyTorch do; Flax and Keras average the biased one.

    Args:
        momentum: from 0 (the last batch only) to 1 (never updated).
        eps: keeps a constant channel finite; inside the root.
        name: in place of batch_norm_1, batch_norm_2, …

    Parameters: `scale` γ (C,), from 1; `bias` β (C,), from 0. State: `mean` (C,), from 0; `var` (C,), from
    1; float32 at least. Input and output (N, C) or (N, …, C). A convolution in front needs no bias.

    Source: Ioffe and Szegedy (2015), "Batch Normalization".
    """
    check_range("momentum", known_number("momentum", momentum), at_least=0, at_most=1)
    check_range("eps", eps, above=0)

    def init(key: Key, x: Any) -> tuple[Params, State]:
        x = as_shape(x)
        if len(x.shape) < 2:
            raise ValueError(f"batch normalisation takes (batch, …, channels), got shape {x.shape}")
        channels, statistics = x.shape[-1], jnp.promote_types(x.dtype, jnp.float32)
        params = {"scale": jnp.ones(channels, x.dtype), "bias": jnp.zeros(channels, x.dtype)}
        return params, {"mean": jnp.zeros(channels, statistics), "var": jnp.ones(channels, statistics)}

    def apply(
        params: Params,
        state: State,
        x: Array,
        *,
        train: bool = False,
        key: Key | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, State]:
        check_train(train)
        scale, bias = params["scale"], params["bias"]
        if x.shape[-1] != scale.shape[0]:
            raise ValueError(f"expected {scale.shape[0]} channels, got an input of shape {x.shape}")
        if not train:
            return ops.batch_norm(x, scale, bias, state["mean"], state["var"], eps=eps), state
        y, mean, var, count = ops.batch_norm_train(x, scale, bias, mask, eps=eps)
        unbiased = var * count / jnp.maximum(count - 1, 1)
        weight = jnp.asarray(momentum, mean.dtype)
        return y, {
            "mean": weight * state["mean"] + (1 - weight) * mean,
            "var": weight * state["var"] + (1 - weight) * unbiased,
        }

    return Layer("batch_norm", init, apply, name)
