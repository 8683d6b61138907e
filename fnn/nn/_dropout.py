"""The dropout layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

from fnn import ops
from fnn._types import Array, Hyperparameter, Key, Params, State, as_float, known_number
from fnn.nn._layer import Layer, check_train


def dropout(rate: Hyperparameter = 0.5, *, inverted: bool = True, name: str | None = None) -> Layer:
    """Drop each unit with probability `rate` in training, and scale the others by 1 / (1 − rate).

    At test time it is the identity: this is inverted dropout. The original, `inverted=False`, scales nothing
    in training and every unit by 1 − rate at test time: the same expected value, more work in prediction.
    `rate` is the fraction dropped; the notes' p is the fraction kept, p = 1 − rate. What is scaled is float32
    where the input holds integers.

    Args:
        rate: 0 ≤ rate < 1; a traced scalar is as good as a number.
        inverted: whether to scale in training rather than at test time.
        name: in place of dropout_1, dropout_2, …

    Raises:
        ValueError: a rate out of range; training without a key.

    Source: Srivastava et al. (2014), "Dropout".
    """

    def at_test_time(x: Array) -> Array:
        if inverted:
            return x
        x = as_float(x)
        return x * (1 - jnp.asarray(rate, jnp.promote_types(x.dtype, jnp.float32))).astype(x.dtype)

    return _stochastic("dropout", partial(ops.dropout, inverted=inverted), rate, name, at_test_time)


def spatial_dropout(rate: Hyperparameter = 0.5, *, name: str | None = None) -> Layer:
    """Drop whole feature maps with probability `rate` in training, and scale the others by 1 / (1 − rate).

    For convolutions, where a dropped pixel is given away by its neighbours. At test time it is the identity.
    PyTorch's Dropout2d and Keras's SpatialDropout2D do the same; Flax's Dropout does with `broadcast_dims`.

    Args:
        rate: 0 ≤ rate < 1; a traced scalar is as good as a number.
        name: in place of spatial_dropout_1, spatial_dropout_2, …

    Input and output (N, …, C) with at least one spatial axis.

    Raises:
        ValueError: a rate out of range; training without a key, or an input without a spatial axis.

    Source: Tompson et al. (2015), "Efficient Object Localization Using Convolutional Networks".
    """
    return _stochastic("spatial_dropout", ops.spatial_dropout, rate, name)


def alpha_dropout(rate: Hyperparameter = 0.05, *, name: str | None = None) -> Layer:
    """Drop each unit to the value at which `selu` saturates, and keep mean 0 and variance 1.

    For self-normalizing networks; see `fnn.ops.alpha_dropout` for the formula. At test time it is the
    identity. The paper finds rates of 0.05 and 0.1 right; PyTorch's default is 0.5.

    Args:
        rate: 0 ≤ rate < 1; a traced scalar is as good as a number.
        name: in place of alpha_dropout_1, alpha_dropout_2, …

    Raises:
        ValueError: a rate out of range; training without a key.

    Source: Klambauer et al. (2017), "Self-Normalizing Neural Networks", section 3.
    """
    return _stochastic("alpha_dropout", ops.alpha_dropout, rate, name)


def _stochastic(
    kind: str,
    drop: Callable[[Key, Array, Hyperparameter], Array],
    rate: Hyperparameter,
    name: str | None,
    at_test_time: Callable[[Array], Array] = lambda x: x,
) -> Layer:
    """A layer without parameters that draws in training and not at test time."""
    known_number("dropout rate", rate, at_least=0, below=1)

    def init(key: Key, x: Any) -> tuple[Params, State]:
        return {}, {}

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
        if not train:
            return at_test_time(x), state
        if key is None:
            raise ValueError(
                f"{kind} draws at random, so training needs a key: net.apply(…, train=True, key=key)"
            )
        return drop(key, x, rate), state

    return Layer(kind, init, apply, name)
