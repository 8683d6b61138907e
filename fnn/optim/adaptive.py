"""Optimizers with a learning rate for each parameter: AdaGrad, RMSProp and Adam.

Each divides by the root of the squared gradients it has seen, so a parameter with large gradients takes
smaller steps. `eps` is outside the root in all of them, and a step of 0 / 0 is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, Params, check_range
from fnn.optim.schedules import value_at
from fnn.optim.transforms import Optimizer, Updates, first_count, leafwise, root, zeros_like


def _over_root(x: Array, square: Array, eps: float | Array) -> Array:
    """x / (√square + eps), and 0 where the denominator is 0."""
    denominator = root(square) + eps
    zero = denominator == 0
    return jnp.where(zero, 0, x / jnp.where(zero, 1, denominator))


# --- AdaGrad --------------------------------------------------------------------------------------------


class AdaGradState(NamedTuple):
    """The state of `adagrad`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    sum_of_squares: Params  # Σ g², shapes and dtypes of the parameters


def adagrad(learning_rate: Hyperparameter, eps: Hyperparameter = 1e-8) -> Optimizer:
    """AdaGrad: steps shrink with the sum of all squared gradients.

        cache_{t+1} = cache_t + g_t²
        x_{t+1}     = x_t - α_t g_t / (√cache_{t+1} + eps)

    Args:
        learning_rate: α, at least 0.
        eps: keeps the denominator from 0, in units of the gradient; at least 0.

    Raises:
        ValueError: if a number is out of its range.

    The accumulator starts at 0, as in PyTorch: the first step is α · sign(g) whatever the gradient's size.
    Optax and Keras start it at 0.1, which shortens the first steps, and have eps inside the root.

    Source: Duchi, Hazan and Singer 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import adagrad
        >>> optimizer = adagrad(1.0)
        >>> state = optimizer.init(jnp.zeros(()))
        >>> for gradient in (3.0, 4.0):
        ...     update, state = optimizer.update(jnp.array(gradient), state)
        ...     print(round(float(update), 4), float(state.sum_of_squares))
        -1.0 9.0
        -0.8 25.0
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("eps", eps, at_least=0)

    def update(
        grads: Updates, state: AdaGradState, params: Params | None = None
    ) -> tuple[Updates, AdaGradState]:
        return adagrad_update(
            grads,
            state,
            learning_rate=value_at(learning_rate, state.count),
            eps=value_at(eps, state.count),
        )

    return Optimizer(adagrad_init, update)


def adagrad_init(params: Params) -> AdaGradState:
    """The state before the first step."""
    return AdaGradState(count=first_count(), sum_of_squares=zeros_like(params))


def adagrad_update(
    grads: Updates, state: AdaGradState, /, *, learning_rate: float | Array, eps: float | Array
) -> tuple[Updates, AdaGradState]:
    """One step of `adagrad`, with its hyperparameters given as numbers."""

    def rule(g: Array, cache: Array) -> tuple[Array, Array]:
        cache = cache + g**2
        return -learning_rate * _over_root(g, cache, eps), cache

    updates, sum_of_squares = leafwise(rule, grads, state.sum_of_squares)
    return updates, AdaGradState(state.count + 1, sum_of_squares)


# --- RMSProp --------------------------------------------------------------------------------------------


class RMSPropState(NamedTuple):
    """The state of `rmsprop`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    mean_square: Params  # running mean of g², shapes and dtypes of the parameters


def rmsprop(
    learning_rate: Hyperparameter, decay: Hyperparameter = 0.9, eps: Hyperparameter = 1e-8
) -> Optimizer:
    """RMSProp: AdaGrad that forgets, so its steps do not die out.

        cache_{t+1} = decay · cache_t + (1 - decay) · g_t²
        x_{t+1}     = x_t - α_t g_t / (√cache_{t+1} + eps)

    Args:
        learning_rate: α, at least 0.
        decay: weight of the old mean, at least 0 and below 1; 0.9, 0.99 and 0.999 are typical.
        eps: keeps the denominator from 0, in units of the gradient; at least 0.

    Raises:
        ValueError: if a number is out of its range.

    The mean starts at 0 and is not corrected, so the first step is α / √(1 - decay) · sign(g). PyTorch has
    the same formula (its `alpha` is this `decay` and defaults to 0.99); Keras and, by default, Optax have
    eps inside the root.

    Source: Hinton 2012, "Neural Networks for Machine Learning", lecture 6e.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import rmsprop
        >>> optimizer = rmsprop(1.0, decay=0.75)
        >>> updates, state = optimizer.update(jnp.array([4.0]), optimizer.init(jnp.zeros(1)))
        >>> updates.tolist(), state.mean_square.tolist()
        ([-2.0], [4.0])
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("decay", decay, at_least=0, below=1)
    check_range("eps", eps, at_least=0)

    def update(
        grads: Updates, state: RMSPropState, params: Params | None = None
    ) -> tuple[Updates, RMSPropState]:
        return rmsprop_update(
            grads,
            state,
            learning_rate=value_at(learning_rate, state.count),
            decay=value_at(decay, state.count),
            eps=value_at(eps, state.count),
        )

    return Optimizer(rmsprop_init, update)


def rmsprop_init(params: Params) -> RMSPropState:
    """The state before the first step."""
    return RMSPropState(count=first_count(), mean_square=zeros_like(params))


def rmsprop_update(
    grads: Updates,
    state: RMSPropState,
    /,
    *,
    learning_rate: float | Array,
    decay: float | Array,
    eps: float | Array,
) -> tuple[Updates, RMSPropState]:
    """One step of `rmsprop`, with its hyperparameters given as numbers."""

    def rule(g: Array, cache: Array) -> tuple[Array, Array]:
        cache = decay * cache + (1 - decay) * g**2
        return -learning_rate * _over_root(g, cache, eps), cache

    updates, mean_square = leafwise(rule, grads, state.mean_square)
    return updates, RMSPropState(state.count + 1, mean_square)


# --- Adam -----------------------------------------------------------------------------------------------


class AdamState(NamedTuple):
    """The state of `adam`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    first_moment: Params  # m, running mean of g, shapes and dtypes of the parameters
    second_moment: Params  # v, running mean of g², shapes and dtypes of the parameters
    first_weight: Array  # () float32: 1 - Π b1, what the weights in m add up to
    second_weight: Array  # () float32: 1 - Π b2, what the weights in v add up to


def adam(
    learning_rate: Hyperparameter,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    bias_correction: bool = True,
) -> Optimizer:
    """Adam: momentum divided by the root mean square of the gradient.

        m_{t+1} = b1 m_t + (1 - b1) g_t                    m̂ = m_{t+1} / (1 - b1^{t+1})
        v_{t+1} = b2 v_t + (1 - b2) g_t²                   v̂ = v_{t+1} / (1 - b2^{t+1})
        x_{t+1} = x_t - α_t m̂ / (√v̂ + eps)

    The means start at 0, so at first their weights add up to less than 1; the correction divides by that
    sum. Under a schedule of b1 it is 1 - Π b1_i, a product over the steps, and is carried in the state.

    Args:
        learning_rate: α, at least 0; where a gradient keeps its sign, about the size of a step.
        b1: weight of the old mean of the gradient, at least 0 and below 1.
        b2: weight of the old mean of its square, at least 0 and below 1.
        eps: keeps the denominator from 0, in units of the gradient; at least 0.
        bias_correction: whether m and v are divided by their sums of weights (structure, not a value).

    Raises:
        ValueError: if a number is out of its range.

    This is Algorithm 1 of the paper, as in PyTorch and Optax. Keras takes the form at the end of the paper's
    section 2, whose eps is not scaled by the correction of v and so acts more strongly in the first steps;
    its default is 1e-7.

    Source: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import adam
        >>> optimizer = adam(0.5)
        >>> updates, state = optimizer.update(jnp.array([0.01, -200.0]), optimizer.init(jnp.zeros(2)))
        >>> updates.round(3).tolist()
        [-0.5, 0.5]
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("b1", b1, at_least=0, below=1)
    check_range("b2", b2, at_least=0, below=1)
    check_range("eps", eps, at_least=0)

    def update(grads: Updates, state: AdamState, params: Params | None = None) -> tuple[Updates, AdamState]:
        return adam_update(
            grads,
            state,
            learning_rate=value_at(learning_rate, state.count),
            b1=value_at(b1, state.count),
            b2=value_at(b2, state.count),
            eps=value_at(eps, state.count),
            bias_correction=bias_correction,
        )

    return Optimizer(adam_init, update)


def adam_init(params: Params) -> AdamState:
    """The state before the first step."""
    return AdamState(
        count=first_count(),
        first_moment=zeros_like(params),
        second_moment=zeros_like(params),
        first_weight=jnp.zeros((), float),
        second_weight=jnp.zeros((), float),
    )


def adam_update(
    grads: Updates,
    state: AdamState,
    /,
    *,
    learning_rate: float | Array,
    b1: float | Array,
    b2: float | Array,
    eps: float | Array,
    bias_correction: bool = True,
) -> tuple[Updates, AdamState]:
    """One step of `adam`, with its hyperparameters given as numbers."""
    # 1 - b1^t is the running mean of the constant 1. Computed so, no digits cancel while b1^t is close to 1.
    first_weight = (b1 * state.first_weight + (1 - b1)).astype(state.first_weight.dtype)
    second_weight = (b2 * state.second_weight + (1 - b2)).astype(state.second_weight.dtype)

    def rule(g: Array, m: Array, v: Array) -> tuple[Array, Array, Array]:
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = (m / first_weight, v / second_weight) if bias_correction else (m, v)
        return -learning_rate * _over_root(m_hat, v_hat, eps), m, v

    updates, first_moment, second_moment = leafwise(rule, grads, state.first_moment, state.second_moment)
    return updates, AdamState(state.count + 1, first_moment, second_moment, first_weight, second_weight)
