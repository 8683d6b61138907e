"""The normalisation layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import ops
from fnn._types import Array, Hyperparameter, Key, Params, State, check_channels, check_range, known_number
from fnn.nn._layer import Layer, as_shape, check_train, layer


def batch_norm(*, momentum: Hyperparameter = 0.9, eps: float = 1e-5, name: str | None = None) -> Layer:
    """Normalise each channel over the batch, then scale and shift it by learned numbers.

        y = γ · (x − E[x]) / √(Var[x] + eps) + β

    In training, E and Var are those of the batch, over all positions of a feature map as well; the rows that
    `mask` excludes do not count. At test time, which the notes leave out, one example must not depend on the
    others, so E and Var are running averages:

        running ← momentum · running + (1 − momentum) · batch

    `momentum` is the weight of the old value, as in Flax and Keras; PyTorch's `momentum` is the weight of
    the new one. The running variance takes the unbiased variance of the batch, m / (m − 1) · Var, as the
    paper and PyTorch do; Flax and Keras average the biased one. A batch of which the mask leaves a
    single value for each channel has none, and leaves the running variance as it is; one of which it leaves
    nothing leaves the running mean as well.

    Args:
        momentum: from 0 (the last batch only) to 1 (never updated).
        eps: keeps a constant channel finite; inside the root.
        name: in place of batch_norm_1, batch_norm_2, …

    Parameters: `scale` γ (C,), from 1; `bias` β (C,), from 0. State: `mean` (C,), from 0; `var` (C,), from
    1; float32 at least. Input and output (N, C) or (N, …, C). A convolution in front needs no bias.

    Raises:
        ValueError: in training a batch of one value for each channel; another number of channels.

    Source: Ioffe and Szegedy (2015), "Batch Normalization".
    """
    known_number("momentum", momentum, at_least=0, at_most=1)
    check_range("eps", eps, above=0)

    def init(key: Key, x: Any) -> tuple[Params, State]:
        x = as_shape(x)
        if len(x.shape) < 2:
            raise ValueError(f"batch normalisation takes (batch, …, channels), got shape {x.shape}")
        channels, dtype = x.shape[-1], jnp.result_type(x.dtype, float)  # of bytes float32
        statistics = jnp.promote_types(dtype, jnp.float32)
        params = {"scale": jnp.ones(channels, dtype), "bias": jnp.zeros(channels, dtype)}
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
        check_channels(x, scale.shape[0])
        if not train:
            return ops.batch_norm(x, scale, bias, state["mean"], state["var"], eps=eps), state
        if math.prod(x.shape[:-1]) == 1:
            raise ValueError(
                "there is one value for each mean, so all would become 0; got an input of shape "
                f"{x.shape}: train in batches of several examples, or take layer_norm"
            )
        y, mean, var, count = ops.batch_norm_train(x, scale, bias, mask, eps=eps)
        # A single value has no variance; 0 would pull the running one down.
        unbiased = jnp.where(count > 1, var * count / jnp.maximum(count - 1, 1), state["var"])
        weight = jnp.asarray(momentum, mean.dtype)
        return y, {
            "mean": weight * state["mean"] + (1 - weight) * jnp.where(count > 0, mean, state["mean"]),
            "var": weight * state["var"] + (1 - weight) * unbiased,
        }

    return Layer("batch_norm", init, apply, name)


def layer_norm(*, eps: float = 1e-5, name: str | None = None) -> Layer:
    """Normalise the features of each example by themselves, then scale and shift each by learned numbers.

        y = γ · (x − E[x]) / √(Var[x] + eps) + β, E and Var over the last axis

    No example depends on another, so training and evaluation are the same. Feature maps are normalised at
    each position, over their channels, as in Flax and Keras; PyTorch asks over which axes. For all values of
    an image together, use `group_norm(1)`.

    Args:
        eps: keeps constant features finite; inside the root. 1e-5 as in PyTorch; Flax has 1e-6, Keras 1e-3.
        name: in place of layer_norm_1, layer_norm_2, …

    Parameters: `scale` γ (C,), from 1; `bias` β (C,), from 0. Input and output (N, C) or (N, …, C).

    Raises:
        ValueError: an input of one feature, or of another number of features.

    Source: Ba, Kiros and Hinton (2016), "Layer Normalization".
    """
    return _of_each_example("layer_norm", ops.layer_norm, eps, name)


def group_norm(groups: int, *, eps: float = 1e-5, name: str | None = None) -> Layer:
    """Normalise each group of channels of each example, then scale and shift each channel by learned numbers.

        y = γ · (x − E[x]) / √(Var[x] + eps) + β, E and Var over all positions and the channels of a group

    Unlike `batch_norm` it is as good for small batches, and the same in training and evaluation.

    Args:
        groups: into how many groups of neighbouring channels they fall; 1 takes all values of an example
            together. The paper and Flax take 32.
        eps: keeps a constant group finite; inside the root. 1e-5 as in PyTorch; Flax has 1e-6, Keras 1e-3.
        name: in place of group_norm_1, group_norm_2, …

    Parameters: `scale` γ (C,), from 1; `bias` β (C,), from 0. Input and output (N, C) or (N, …, C).

    Raises:
        ValueError: groups that do not divide the channels, or of one value each; another number of channels.

    Source: Wu and He (2018), "Group Normalization".
    """
    check_range("groups", groups, at_least=1, integer=True)
    return _of_each_example("group_norm", partial(ops.group_norm, groups=groups), eps, name)


def instance_norm(*, eps: float = 1e-5, name: str | None = None) -> Layer:
    """Normalise each feature map of each example, then scale and shift it by learned numbers.

        y = γ · (x − E[x]) / √(Var[x] + eps) + β, E and Var over all positions

    It takes the contrast out of an image. The same as `group_norm` with a group for each channel.

    Args:
        eps: keeps a constant feature map finite; inside the root. 1e-5 as in PyTorch; Flax has 1e-6.
        name: in place of instance_norm_1, instance_norm_2, …

    Parameters: `scale` γ (C,), from 1; `bias` β (C,), from 0; PyTorch's has none unless `affine=True`. Input
    and output (N, …, C).

    Raises:
        ValueError: feature maps of one pixel, or another number of channels.

    Source: Ulyanov, Vedaldi and Lempitsky (2016), "Instance Normalization".
    """

    def normalise(x: Array, scale: Array, bias: Array, *, eps: float) -> Array:
        return ops.group_norm(x, scale, bias, x.shape[-1], eps=eps)

    return _of_each_example("instance_norm", normalise, eps, name)


def _of_each_example(kind: str, normalise: Callable[..., Array], eps: float, name: str | None) -> Layer:
    """A layer that normalises each example by its own moments: no state."""
    check_range("eps", eps, above=0)

    def init(key: Key, x: jax.ShapeDtypeStruct) -> Params:
        if len(x.shape) < 2:
            raise ValueError(f"{kind} takes (batch, …, channels), got an input of shape {x.shape}")
        channels, dtype = x.shape[-1], jnp.result_type(x.dtype, float)
        return {"scale": jnp.ones(channels, dtype), "bias": jnp.zeros(channels, dtype)}

    def apply(params: Params, x: Array) -> Array:
        scale, bias = params["scale"], params["bias"]
        check_channels(x, scale.shape[0])
        return normalise(x, scale, bias, eps=eps)

    return layer(kind, apply, init, name=name)
