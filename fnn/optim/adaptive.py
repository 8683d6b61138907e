"""Optimizers with a learning rate for each parameter: AdaGrad, RMSProp and AdaDelta.

Each divides by the root of the squared gradients it has seen, so a parameter with large gradients takes
smaller steps. `eps` is outside the root in AdaGrad and RMSProp, where a step of 0 / 0 is 0; in AdaDelta it
has to be inside.
"""

from __future__ import annotations

from typing import NamedTuple

from fnn._types import Array, Hyperparameter, Params, check_range
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

# --- AdaGrad --------------------------------------------------------------------------------------------


class AdaGradState(NamedTuple):
    """The state of `adagrad`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    sum_of_squares: Params  # Σ g², shapes of the parameters, float32 or wider


def adagrad(learning_rate: Hyperparameter, eps: Hyperparameter = 1e-8) -> Optimizer:
    """AdaGrad: steps shrink with the sum of all squared gradients.

        cache_{t+1} = cache_t + g_t²
        x_{t+1}     = x_t - α_t g_t / (√cache_{t+1} + eps)

    The rate α_t / √cache of a weight with small or infrequent gradients falls more slowly than others'. The
    notes say that it is increased; at a constant α no rate ever rises (`experiments/adagrad.py`).

    Args:
        learning_rate: α, at least 0.
        eps: keeps the denominator from 0, in units of the gradient; at least 0.

    Raises:
        ValueError: if a number is out of its range.

    The accumulator starts at 0, as in PyTorch: the first step is α · sign(g) whatever the gradient's size.
    PyTorch's eps is 1e-10.
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

    return transition(adagrad_init, adagrad_update, learning_rate=learning_rate, eps=eps)


def adagrad_init(params: Params) -> AdaGradState:
    """The state before the first step."""
    return AdaGradState(count=first_count(), sum_of_squares=zeros_like(params))


def adagrad_update(
    grads: Updates, state: AdaGradState, /, *, learning_rate: float | Array, eps: float | Array
) -> tuple[Updates, AdaGradState]:
    """One step of `adagrad`, with its hyperparameters given as numbers."""

    def rule(g: Array, cache: Array) -> tuple[Array, Array]:
        cache = cache + g**2
        return -learning_rate * ratio(g, root(cache) + eps), cache

    updates, sum_of_squares = leafwise(rule, grads, state.sum_of_squares)
    return updates, AdaGradState(state.count + 1, sum_of_squares)


# --- RMSProp --------------------------------------------------------------------------------------------


class RMSPropState(NamedTuple):
    """The state of `rmsprop`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    mean_square: Params  # running mean of g², shapes of the parameters, float32 or wider


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

    return transition(rmsprop_init, rmsprop_update, learning_rate=learning_rate, decay=decay, eps=eps)


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
        return -learning_rate * ratio(g, root(cache) + eps), cache

    updates, mean_square = leafwise(rule, grads, state.mean_square)
    return updates, RMSPropState(state.count + 1, mean_square)


# --- AdaDelta -------------------------------------------------------------------------------------------


class AdaDeltaState(NamedTuple):
    """The state of `adadelta`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    mean_square: Params  # running mean of g², shapes of the parameters, float32 or wider
    mean_square_step: Params  # running mean of Δx², shapes of the parameters, float32 or wider


def adadelta(
    learning_rate: Hyperparameter = 1.0, decay: Hyperparameter = 0.9, eps: Hyperparameter = 1e-6
) -> Optimizer:
    """AdaDelta: RMSProp whose step has the size of its own earlier steps, so it needs no learning rate.

        E[g²]_{t+1}  = decay · E[g²]_t + (1 - decay) · g_t²
        Δx_t         = - √(E[Δx²]_t + eps) / √(E[g²]_{t+1} + eps) · g_t
        E[Δx²]_{t+1} = decay · E[Δx²]_t + (1 - decay) · Δx_t²
        x_{t+1}      = x_t + α_t Δx_t

    Args:
        learning_rate: α, at least 0; the paper has none, which is 1.
        decay: weight of the old means, at least 0 and below 1.
        eps: a squared step and a squared gradient; above 0.

    Raises:
        ValueError: if a number is out of its range.

    Here `eps` is inside both roots, unlike in the other optimizers: E[Δx²] starts at 0, and the first step,
    about √(eps / (1 - decay)), is made of it. A larger eps starts faster. PyTorch, Optax and Keras have the
    same formula; Keras's learning rate is 0.001 by default, a thousand times smaller.

    Source: Zeiler 2012, "ADADELTA: An Adaptive Learning Rate Method".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import adadelta
        >>> optimizer = adadelta(decay=0.75, eps=1.0)
        >>> updates, state = optimizer.update(jnp.array([4.0]), optimizer.init(jnp.zeros(1)))
        >>> round(float(updates[0]), 4), float(state.mean_square[0])
        (-1.7889, 4.0)
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("decay", decay, at_least=0, below=1)
    check_range("eps", eps, above=0)

    return transition(adadelta_init, adadelta_update, learning_rate=learning_rate, decay=decay, eps=eps)


def adadelta_init(params: Params) -> AdaDeltaState:
    """The state before the first step."""
    return AdaDeltaState(
        count=first_count(), mean_square=zeros_like(params), mean_square_step=zeros_like(params)
    )


def adadelta_update(
    grads: Updates,
    state: AdaDeltaState,
    /,
    *,
    learning_rate: float | Array,
    decay: float | Array,
    eps: float | Array,
) -> tuple[Updates, AdaDeltaState]:
    """One step of `adadelta`, with its hyperparameters given as numbers."""

    def rule(g: Array, square: Array, square_step: Array) -> tuple[Array, Array, Array]:
        square = decay * square + (1 - decay) * g**2
        step = -root(square_step + eps) / root(square + eps) * g
        square_step = decay * square_step + (1 - decay) * step**2
        return learning_rate * step, square, square_step

    updates, mean_square, mean_square_step = leafwise(rule, grads, state.mean_square, state.mean_square_step)
    return updates, AdaDeltaState(state.count + 1, mean_square, mean_square_step)
