"""Averages around an optimizer: of gradients before it steps, of the weights that it leaves behind.

Each of these wraps one optimizer, which may be a chain, and is one itself.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn._tree import combine
from fnn._types import Array, Hyperparameter, Params, at_least_float32, check_range
from fnn.optim.schedules import value_at
from fnn.optim.transforms import (
    Optimizer,
    OptimizerState,
    Updates,
    apply_updates,
    check_optimizer,
    first_count,
    leafwise,
    needed,
    zeros_like,
)

# --- of gradients ---------------------------------------------------------------------------------------


class AccumulateState(NamedTuple):
    """The state of `accumulate_gradients`."""

    count: Array  # type: ignore[assignment]  # () int32: gradients taken
    sum_of_gradients: Params  # since the last step, shapes of the parameters, float32 or wider
    inner: OptimizerState  # of the optimizer inside


def accumulate_gradients(optimizer: Optimizer, every: int) -> Optimizer:
    """Step once for every so many gradients, with their mean: a large batch in small pieces.

        x_{t+1} = x_t + update(1/k Σ_{i=1..k} g_i)    after k = every gradients, and x_t until then

    Args:
        optimizer: what steps.
        every: how many gradients make a step; at least 1.

    Returns:
        An optimizer whose updates are 0 but for each `every`-th. Steps of the optimizer inside are counted by
        itself, so the schedules that it is given advance once per step and not per gradient.

    Raises:
        ValueError: if `every` is below 1.
        TypeError: if `every` is no integer, or `optimizer` not one.

    The mean of the gradients of equal batches is the gradient of the whole. Optax's MultiSteps takes the mean
    too; in PyTorch's usual loop, `backward` adds, and the loss has to be divided by hand. Batch norm still
    sees the small batches.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import accumulate_gradients, sgd
        >>> optimizer = accumulate_gradients(sgd(1.0), every=2)
        >>> state = optimizer.init(jnp.zeros(()))
        >>> for gradient in (1.0, 3.0):
        ...     update, state = optimizer.update(jnp.array(gradient), state)
        ...     print(float(update))
        0.0
        -2.0
    """
    check_optimizer("accumulate_gradients", optimizer)
    _check_every(every)

    def init(params: Params) -> AccumulateState:
        return AccumulateState(first_count(), zeros_like(params), optimizer.init(params))

    def update(
        grads: Updates, state: AccumulateState, params: Params | None = None
    ) -> tuple[Updates, AccumulateState]:
        total = jax.tree.map(lambda total, g: total + g, state.sum_of_gradients, grads)

        def step() -> tuple[Updates, Params, OptimizerState]:
            (mean, _) = leafwise(lambda g, total: (total / every, total), grads, total)
            updates, inner = optimizer.update(mean, state.inner, params)
            return updates, zeros_like(total), inner

        def wait() -> tuple[Updates, Params, OptimizerState]:
            return jax.tree.map(jnp.zeros_like, grads), total, state.inner

        count = state.count + 1
        updates, total, inner = lax.cond(count % every == 0, step, wait)
        return updates, AccumulateState(count, total, inner)

    return Optimizer(init, update)


# --- of weights -----------------------------------------------------------------------------------------


class EMAState(NamedTuple):
    """The state of `ema`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    average: Params  # shapes of the parameters, float32 or wider
    inner: OptimizerState  # of the optimizer inside


def ema(optimizer: Optimizer, decay: Hyperparameter = 0.999) -> Optimizer:
    """Keep an exponential moving average of the weights beside those that train, to evaluate with.

        x_{t+1} = x_t + u_t                               u_t: the optimizer's update, unchanged
        a_{t+1} = decay · a_t + (1 - decay) · x_{t+1}     a_0 = x_0

    Args:
        optimizer: what trains the weights. This is the outermost wrapper: `ema(chain(…))`, since the average
            is of the weights as its own update leaves them.
        decay: weight of the old average, at least 0 and below 1; it averages over about 1 / (1 - decay)
            steps.

    Returns:
        An optimizer that trains as the one inside does. `averaged_params` takes the average out of its state.

    Raises:
        ValueError: if `decay` is a number out of its range.
        TypeError: if `optimizer` is not one.

    The average starts at the initial weights and is not corrected: after t steps they still have the weight
    decay^t in it. PyTorch's AveragedModel and Keras's `use_ema` start at the weights after the first step;
    optax.ema averages the updates. The average is float32 or wider, since in bfloat16 small steps would not
    count. Running statistics, as of batch norm, are not parameters and are not averaged.

    Source: Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; with
    exponential weights, Tarvainen and Valpola 2017, "Mean teachers are better role models".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import apply_updates, averaged_params, ema, sgd
        >>> optimizer = ema(sgd(1.0), decay=0.5)
        >>> params = jnp.array(8.0)
        >>> state = optimizer.init(params)
        >>> for gradient in (4.0, 4.0):
        ...     updates, state = optimizer.update(jnp.array(gradient), state, params)
        ...     params = apply_updates(params, updates)
        ...     print(float(params), float(averaged_params(params, state)))
        4.0 6.0
        0.0 3.0
    """
    check_optimizer("ema", optimizer)
    check_range("decay", decay, at_least=0, below=1)

    def init(params: Params) -> EMAState:
        # Copies, since the parameters may be donated.
        start = jax.tree.map(lambda x: jnp.array(at_least_float32(x)), params)
        return EMAState(first_count(), start, optimizer.init(params))

    def update(grads: Updates, state: EMAState, params: Params | None = None) -> tuple[Updates, EMAState]:
        updates, inner = optimizer.update(grads, state.inner, needed(params, "ema"))
        kept = value_at(decay, state.count)
        (average, _) = leafwise(
            lambda a, x: (kept * a + (1 - kept) * x, x), state.average, apply_updates(params, updates)
        )
        return updates, EMAState(state.count + 1, average, inner)

    return Optimizer(init, update)


def averaged_params(params: Params, opt_state: OptimizerState, /) -> Params:
    """The weights to evaluate with: the average that `ema` keeps, wherever it is in an optimizer's state.

    Args:
        params: the weights that train.
        opt_state: the state of any optimizer.

    Returns:
        The average in the dtypes of `params`; `params` themselves where no average is kept, so also for the
        leaves that belong to another group of `by_path`.
    """

    def is_average(state: OptimizerState) -> bool:
        return isinstance(state, EMAState)

    for state in filter(is_average, jax.tree.leaves(opt_state, is_leaf=is_average)):
        average = combine(state.average, params)
        params = jax.tree.map(lambda x, a: a.astype(jnp.result_type(x)), params, average)
    return params


class LookaheadState(NamedTuple):
    """The state of `lookahead`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    slow: Params  # φ, shapes and dtypes of the parameters
    inner: OptimizerState  # of the optimizer inside


def lookahead(optimizer: Optimizer, every: int = 5, slow_step: Hyperparameter = 0.5) -> Optimizer:
    """Let an optimizer run ahead, then go part of the way after it: k steps forward, one step back.

        θ ← θ + u                            at each step, u the optimizer's update
        φ ← φ + α (θ - φ),    θ ← φ          after each k-th

    Args:
        optimizer: what moves the fast weights θ, the parameters.
        every: k, how many steps it takes before the slow weights φ follow; at least 1.
        slow_step: α, the part of the way that they go, at least 0 and at most 1.

    Returns:
        An optimizer; its inner state, such as momentum, goes on through the step back. After each k-th step
        the parameters are the slow weights, which the paper evaluates, up to rounding in half precision.

    Raises:
        ValueError: if a number is out of its range.
        TypeError: if `every` is no integer, or `optimizer` not one.

    Optax's lookahead is the same on a pair of fast and slow weights. PyTorch and Keras have none.

    Source: Zhang, Lucas, Hinton and Ba 2019, "Lookahead Optimizer: k steps forward, 1 step back".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import apply_updates, lookahead, sgd
        >>> optimizer = lookahead(sgd(1.0), every=2, slow_step=0.25)
        >>> params = jnp.array(0.0)
        >>> state = optimizer.init(params)
        >>> for gradient in (-2.0, -2.0):
        ...     updates, state = optimizer.update(jnp.array(gradient), state, params)
        ...     params = apply_updates(params, updates)
        ...     print(float(params))
        2.0
        1.0
    """
    check_optimizer("lookahead", optimizer)
    _check_every(every)
    check_range("slow_step", slow_step, at_least=0, at_most=1)

    def init(params: Params) -> LookaheadState:
        return LookaheadState(first_count(), jax.tree.map(jnp.array, params), optimizer.init(params))

    def update(
        grads: Updates, state: LookaheadState, params: Params | None = None
    ) -> tuple[Updates, LookaheadState]:
        updates, inner = optimizer.update(grads, state.inner, needed(params, "lookahead"))
        alpha = value_at(slow_step, state.count)
        count = state.count + 1
        meet = count % every == 0

        def rule(update: Array, fast: Array, slow: Array) -> tuple[Array, Array, Array]:
            slow = jnp.where(meet, slow + alpha * (fast + update - slow), slow).astype(slow.dtype)
            return jnp.where(meet, slow - fast, update), fast, slow

        updates, _, slow = leafwise(rule, updates, params, state.slow)
        return updates, LookaheadState(count, slow, inner)

    return Optimizer(init, update)


def _check_every(every: int) -> None:
    """Raise ValueError or TypeError where no multiple of `every` is a count of steps.

    Whole numbers of another type will do, since hyperparameters are float32 where `make` sees them.
    """
    check_range("every", every, at_least=1)
    if not isinstance(every, jax.core.Tracer) and every % 1 != 0:
        raise TypeError(f"every must be an integer, not {every!r}")
