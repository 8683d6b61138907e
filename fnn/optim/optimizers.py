"""Optimizers that follow the gradient itself: SGD, momentum and Nesterov's momentum.

Each is a bare transition, `…_update(grads, state, /, *, learning_rate, …) -> (updates, state)`, and on top
of it the optimizer, which evaluates its hyperparameters (a number, an array or a schedule) at the count in
the state. Updates are to be added to the parameters, with `apply_updates`.
"""

from __future__ import annotations

from typing import NamedTuple

from fnn._types import Array, Hyperparameter, Params, check_range
from fnn.optim.schedules import value_at
from fnn.optim.transforms import Optimizer, Updates, first_count, leafwise, transition, zeros_like

# --- stochastic gradient descent ------------------------------------------------------------------------


class SGDState(NamedTuple):
    """The state of `sgd`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken


def sgd(learning_rate: Hyperparameter) -> Optimizer:
    """Stochastic gradient descent.

        x_{t+1} = x_t - α_t ∇f(x_t)

    Args:
        learning_rate: α, at least 0.

    Raises:
        ValueError: if `learning_rate` is a number below 0.

    Source: Robbins and Monro 1951, "A Stochastic Approximation Method".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import sgd
        >>> optimizer = sgd(0.5)
        >>> updates, state = optimizer.update(jnp.array([4.0]), optimizer.init(jnp.zeros(1)))
        >>> updates.tolist(), int(state.count)
        ([-2.0], 1)
    """
    check_range("learning_rate", learning_rate, at_least=0)

    return transition(sgd_init, sgd_update, learning_rate=learning_rate)


def sgd_init(params: Params) -> SGDState:
    """The state before the first step."""
    return SGDState(count=first_count())


def sgd_update(
    grads: Updates, state: SGDState, /, *, learning_rate: float | Array
) -> tuple[Updates, SGDState]:
    """One step of `sgd`, with its hyperparameter given as a number."""
    (updates,) = leafwise(lambda g: (-learning_rate * g,), grads)
    return updates, SGDState(state.count + 1)


# --- momentum -------------------------------------------------------------------------------------------


class MomentumState(NamedTuple):
    """The state of `momentum` and `nesterov`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    velocity: Params  # v, shapes of the parameters, float32 or wider


def momentum(learning_rate: Hyperparameter, momentum: Hyperparameter = 0.9) -> Optimizer:
    """SGD with momentum: a ball that rolls downhill, with friction.

        v_{t+1} = ρ_t v_t - α_t ∇f(x_t)
        x_{t+1} = x_t + v_{t+1}

    Args:
        learning_rate: α, at least 0.
        momentum: ρ, the part of the velocity that is kept, at least 0 and below 1.

    Raises:
        ValueError: if a number is out of its range.

    The learning rate is inside the velocity, as in Keras. PyTorch and Optax keep v_{t+1} = ρ v_t + ∇f and
    step by -α_t v_{t+1}: the same while α is constant, but there a drop of α also slows what has already
    been gathered.

    Source: Polyak 1964, "Some methods of speeding up the convergence of iteration methods".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import momentum
        >>> optimizer = momentum(1.0, momentum=0.5)
        >>> state = optimizer.init(jnp.zeros(1))
        >>> for step in range(3):
        ...     updates, state = optimizer.update(jnp.array([1.0]), state)
        ...     print(updates.tolist())
        [-1.0]
        [-1.5]
        [-1.75]
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("momentum", momentum, at_least=0, below=1)

    return transition(momentum_init, momentum_update, learning_rate=learning_rate, momentum=momentum)


def momentum_init(params: Params) -> MomentumState:
    """The state before the first step of `momentum` or `nesterov`: at rest."""
    return MomentumState(count=first_count(), velocity=zeros_like(params))


def momentum_update(
    grads: Updates, state: MomentumState, /, *, learning_rate: float | Array, momentum: float | Array
) -> tuple[Updates, MomentumState]:
    """One step of `momentum`, with its hyperparameters given as numbers."""

    def rule(g: Array, v: Array) -> tuple[Array, Array]:
        v = momentum * v - learning_rate * g
        return v, v

    updates, velocity = leafwise(rule, grads, state.velocity)
    return updates, MomentumState(state.count + 1, velocity)


# --- Nesterov's momentum --------------------------------------------------------------------------------


def nesterov(learning_rate: Hyperparameter, momentum: Hyperparameter = 0.9) -> Optimizer:
    """Nesterov's momentum: the gradient is taken where the velocity is about to carry the parameters.

        v_{t+1} = ρ_t v_t - α_t ∇f(x_t + ρ_t v_t)
        x_{t+1} = x_t + v_{t+1}

    rearranged for the point ahead, x̃_t = x_t + ρ_t v_t, so that it takes the gradient of what it is given:

        v_{t+1} = ρ_t v_t - α_t ∇f(x̃_t)
        x̃_{t+1} = x̃_t - ρ_t v_t + (1 + ρ_{t+1}) v_{t+1}

    Args:
        learning_rate: α, at least 0.
        momentum: ρ, at least 0 and below 1. Give a schedule itself, not its value at the step: the point
            ahead needs the next step's momentum too, and a number counts as its own next value.

    Raises:
        ValueError: if a number is out of its range.

    The parameters that it trains are x̃. The learning rate is inside the velocity, as in Keras; PyTorch and
    Optax keep it outside (see `momentum`). All three use the momentum of one step where this uses ρ_t and
    ρ_{t+1}. With a constant learning rate and momentum all four agree.

    Source: Nesterov 1983; Sutskever et al. 2013, "On the importance of initialization and momentum in deep
    learning"; the rearrangement: Bengio et al. 2013, "Advances in optimizing recurrent networks".
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("momentum", momentum, at_least=0, below=1)

    return transition(
        momentum_init,
        nesterov_update,
        learning_rate=learning_rate,
        momentum=momentum,
        next_momentum=lambda count: value_at(momentum, count + 1),
    )


def nesterov_update(
    grads: Updates,
    state: MomentumState,
    /,
    *,
    learning_rate: float | Array,
    momentum: float | Array,
    next_momentum: float | Array,
) -> tuple[Updates, MomentumState]:
    """One step of `nesterov`, with its hyperparameters given as numbers."""

    def rule(g: Array, v: Array) -> tuple[Array, Array]:
        v_next = momentum * v - learning_rate * g
        return -momentum * v + (1 + next_momentum) * v_next, v_next

    updates, velocity = leafwise(rule, grads, state.velocity)
    return updates, MomentumState(state.count + 1, velocity)
