"""Optimizers with running moments of the gradient: Adam, AdaMax and NAdam.

They start from means of 0 and correct for that. `eps` is outside the root, and a step of 0 / 0 is 0.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, Params, check_range
from fnn.optim.schedules import value_at
from fnn.optim.transforms import (
    Optimizer,
    Updates,
    first_count,
    leafwise,
    ratio,
    root,
    transition,
    zeros_like,
)

# --- Adam -----------------------------------------------------------------------------------------------


class AdamState(NamedTuple):
    """The state of `adam`, and of `nadam`, `adamw` and `lamb`, which are made from it."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    first_moment: Params  # m, running mean of g, shapes of the parameters, float32 or wider
    second_moment: Params  # v, running mean of g², shapes of the parameters, float32 or wider
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
    sum. The notes' t is this t + 1 and starts at 1: for 0 the sum would be 0. Under a schedule of b1 the sum
    is 1 - Π b1_i, a product over the steps, and is carried in the state.

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

    return transition(
        adam_init,
        partial(adam_update, bias_correction=bias_correction),
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
    )


def adam_init(params: Params) -> AdamState:
    """The state before the first step of `adam`, `nadam`, `adamw` or `lamb`."""
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
    first_weight = _next_weight(state.first_weight, b1)
    second_weight = _next_weight(state.second_weight, b2)
    # Two divisions in all, where each weight of the network would take two of its own.
    first, second = (1 / first_weight, 1 / second_weight) if bias_correction else (1, 1)

    def rule(g: Array, m: Array, v: Array) -> tuple[Array, Array, Array]:
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        return -learning_rate * ratio(first * m, root(second * v) + eps), m, v

    updates, first_moment, second_moment = leafwise(rule, grads, state.first_moment, state.second_moment)
    return updates, AdamState(state.count + 1, first_moment, second_moment, first_weight, second_weight)


def _next_weight(weight: Array, decay: float | Array) -> Array:
    """1 - Π decay after one more step, as the running mean of the constant 1.

    Computed so, no digits cancel while the product is close to 1.
    """
    return (decay * weight + (1 - decay)).astype(weight.dtype)


# --- AdaMax ---------------------------------------------------------------------------------------------


class AdaMaxState(NamedTuple):
    """The state of `adamax`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    first_moment: Params  # m, running mean of g, shapes of the parameters, float32 or wider
    largest: Params  # u, fading maximum of |g|, shapes of the parameters, float32 or wider
    first_weight: Array  # () float32: 1 - Π b1, what the weights in m add up to


def adamax(
    learning_rate: Hyperparameter,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
) -> Optimizer:
    """AdaMax: Adam with the largest recent gradient in place of the root mean square.

        m_{t+1} = b1 m_t + (1 - b1) g_t                    m̂ = m_{t+1} / (1 - b1^{t+1})
        u_{t+1} = max(b2 u_t, |g_t| + eps)
        x_{t+1} = x_t - α_t m̂ / u_{t+1}

    Args:
        learning_rate: α, at least 0; about the largest step.
        b1: weight of the old mean of the gradient, at least 0 and below 1.
        b2: what the old maximum fades by, at least 0 and below 1.
        eps: keeps the denominator from 0, in units of the gradient; at least 0.

    Raises:
        ValueError: if a number is out of its range.

    A maximum has no bias to correct. The paper has no eps. PyTorch and Optax add it to |g|, as here; Keras
    divides by u + eps.

    Source: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", Algorithm 2.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import adamax
        >>> optimizer = adamax(1.0, b1=0.5, b2=0.5)
        >>> state = optimizer.init(jnp.zeros(()))
        >>> for gradient in (4.0, 1.0):
        ...     update, state = optimizer.update(jnp.array(gradient), state)
        ...     print(float(update), float(state.largest))
        -1.0 4.0
        -1.0 2.0
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("b1", b1, at_least=0, below=1)
    check_range("b2", b2, at_least=0, below=1)
    check_range("eps", eps, at_least=0)

    return transition(adamax_init, adamax_update, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps)


def adamax_init(params: Params) -> AdaMaxState:
    """The state before the first step."""
    return AdaMaxState(
        count=first_count(),
        first_moment=zeros_like(params),
        largest=zeros_like(params),
        first_weight=jnp.zeros((), float),
    )


def adamax_update(
    grads: Updates,
    state: AdaMaxState,
    /,
    *,
    learning_rate: float | Array,
    b1: float | Array,
    b2: float | Array,
    eps: float | Array,
) -> tuple[Updates, AdaMaxState]:
    """One step of `adamax`, with its hyperparameters given as numbers."""
    first_weight = _next_weight(state.first_weight, b1)

    def rule(g: Array, m: Array, u: Array) -> tuple[Array, Array, Array]:
        m = b1 * m + (1 - b1) * g
        u = jnp.maximum(b2 * u, jnp.abs(g) + eps)
        return -learning_rate * ratio(m / first_weight, u), m, u

    updates, first_moment, largest = leafwise(rule, grads, state.first_moment, state.largest)
    return updates, AdaMaxState(state.count + 1, first_moment, largest, first_weight)


# --- NAdam ----------------------------------------------------------------------------------------------


def nadam(
    learning_rate: Hyperparameter,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
) -> Optimizer:
    """NAdam: Adam with Nesterov's momentum, the momentum of the next step applied already in this one.

        m_{t+1} = μ_t m_t + (1 - μ_t) g_t
        v_{t+1} = b2 v_t + (1 - b2) g_t²                   v̂ = v_{t+1} / (1 - b2^{t+1})
        m̂       = μ_{t+1} m_{t+1} / (1 - Π_{i≤t+1} μ_i) + (1 - μ_t) g_t / (1 - Π_{i≤t} μ_i)
        x_{t+1} = x_t - α_t m̂ / (√v̂ + eps)

    Args:
        learning_rate: α, at least 0.
        b1: μ, weight of the old mean of the gradient, at least 0 and below 1. Give a schedule itself, not its
            value at the step: the next step's momentum is needed too, and a number counts as its own next
            value.
        b2: weight of the old mean of its square, at least 0 and below 1.
        eps: keeps the denominator from 0, in units of the gradient; at least 0.

    Raises:
        ValueError: if a number is out of its range.

    A number for b1 is the plain form, as in Optax (`adam(…, nesterov=True)`). The paper lets μ rise, to
    μ (1 - ½ · 0.96^(t / 250)) in step t, counted from 1; here that is the schedule
    `b1=lambda count: 0.9 * (1 - 0.5 * 0.96 ** ((count + 1) / 250))`. PyTorch and Keras always let it rise,
    Keras without the 250, but keep the constant in m. PyTorch's NAdam with a huge `momentum_decay` is the
    plain form.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import nadam
        >>> optimizer = nadam(0.5, b1=0.5)
        >>> updates, state = optimizer.update(jnp.array([0.01, -200.0]), optimizer.init(jnp.zeros(2)))
        >>> [round(float(update), 3) for update in updates]
        [-0.667, 0.667]
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("b1", b1, at_least=0, below=1)
    check_range("b2", b2, at_least=0, below=1)
    check_range("eps", eps, at_least=0)

    return transition(
        adam_init,
        nadam_update,
        learning_rate=learning_rate,
        b1=b1,
        next_b1=lambda count: value_at(b1, count + 1),
        b2=b2,
        eps=eps,
    )


def nadam_update(
    grads: Updates,
    state: AdamState,
    /,
    *,
    learning_rate: float | Array,
    b1: float | Array,
    next_b1: float | Array,
    b2: float | Array,
    eps: float | Array,
) -> tuple[Updates, AdamState]:
    """One step of `nadam`, with its hyperparameters given as numbers."""
    first_weight = _next_weight(state.first_weight, b1)
    weight_ahead = _next_weight(first_weight, next_b1)
    second_weight = _next_weight(state.second_weight, b2)
    of_m, of_g, of_v = next_b1 / weight_ahead, (1 - b1) / first_weight, 1 / second_weight

    def rule(g: Array, m: Array, v: Array) -> tuple[Array, Array, Array]:
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        return -learning_rate * ratio(of_m * m + of_g * g, root(of_v * v) + eps), m, v

    updates, first_moment, second_moment = leafwise(rule, grads, state.first_moment, state.second_moment)
    return updates, AdamState(state.count + 1, first_moment, second_moment, first_weight, second_weight)
