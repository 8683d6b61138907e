"""A few steps, or a few examples learnt by heart: runs that take seconds, as pure functions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn._tree import combine
from fnn._types import Array, Params
from fnn.data._dataset import has_classes
from fnn.optim import Optimizer, accuracy, apply_updates
from fnn.train._state import Batch, Make, Task, TrainState, network_input, task_at
from fnn.train._step import train_step
from fnn.tune._networks import without_noise

RANGE = tuple(10.0 ** (power / 2) for power in range(-6, 7))
"""The factors of the configured rate that the range test knows: 10⁻³ to 10³ by half powers of ten."""


def range_test(
    make: Make, hyperparameters: Any, state: TrainState, batches: Batch, pull: Array | float = 1.0
) -> tuple[Array, Array]:
    """The loss that a short run reaches at each of several learning rates, as one program.

    Whole powers of ten come first, then the half powers beside the best of them; at last the best of all
    runs on blank inputs.

    Args:
        make, hyperparameters, state, batches, pull: see `trained_for`.

    Returns:
        The mean loss of the last quarter of the steps for each factor of `RANGE`, infinite where it is no
        number and NaN where the factor was not tried; and that on blank inputs.
    """
    whole, blank = len(RANGE[::2]), len(RANGE[::2]) + 2

    def turn(losses: Array, number: Array) -> tuple[Array, Array]:
        low = jnp.where(jnp.isnan(losses), jnp.inf, losses)
        beside = 2 * low[::2].argmin() + jnp.where(number == whole, -1, 1)
        place = jnp.select([number < whole, number < blank], [2 * number, beside], low.argmin())
        place = place.clip(0, len(RANGE) - 1)
        x = jnp.where(number == blank, jnp.zeros((), batches.x.dtype), batches.x)
        run = trained_for(make, hyperparameters, jnp.array(RANGE)[place], state, batches._replace(x=x), pull)
        last = run[-(len(run) // 4) :].mean()
        last = jnp.where(jnp.isfinite(last), last, jnp.inf)
        return jnp.where(number == blank, losses, losses.at[place].set(last)), last

    losses, reached = lax.scan(turn, jnp.full(len(RANGE), jnp.nan), jnp.arange(blank + 1))
    return losses, reached[-1]


def trained_for(
    make: Make,
    hyperparameters: Any,
    factor: Array | float,
    state: TrainState,
    batches: Batch,
    pull: Array | float = 1.0,
) -> Array:
    """The training loss of each of a few steps, without penalty, with all updates `factor` times as large.

    Args:
        make, hyperparameters: see `fnn.fit`; numbers, no schedules.
        factor: of the learning rate.
        state: before the first step.
        batches: raw examples, each leaf with an axis (steps, batch, …).
        pull: a factor of the penalties that are trained on.

    Returns:
        (steps,).
    """

    def scaled(values: Any) -> Task:
        task = Task(*make(values))
        penalties = tuple(lambda params, own=own: pull * own(params) for own in task.penalties)
        return task._replace(optimizer=scaled_optimizer(task.optimizer, factor), penalties=penalties)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        state, metrics = train_step(scaled, hyperparameters, state, batch)
        return state, metrics.loss

    return lax.scan(step, state, batches)[1]


def overfit(
    make: Make,
    hyperparameters: Any,
    factor: Array | float,
    state: TrainState,
    examples: Any,
    *,
    steps: int = 300,
) -> tuple[Array, Array]:
    """Train on a few examples alone, without penalties, dropout and augmentation, until they are learnt.

    Args:
        make, hyperparameters, factor, state: see `trained_for`.
        examples: raw, `(x, y)` by name.
        steps: at most.

    Returns:
        The accuracy at the end (NaN without classes), and how far the mean loss is above the lowest that any
        outputs have: with label smoothing that is not 0. Without classes it is relative to the loss at the
        start, and NaN where the loss fell below what was taken for the lowest.
    """
    task = task_at(make, hyperparameters, state.step)
    net, optimizer = without_noise(task.net), scaled_optimizer(task.optimizer, factor)
    x, y = network_input(examples.x, state.moments), examples.y
    frozen, trained = task.cut(state.params)

    def apply(trained: Params) -> Array:
        return net.apply(combine(frozen, trained), state.state, x, train=True, key=state.key)[0]

    floor = _lowest_loss(task, jax.eval_shape(apply, trained), y)
    unit: Array | float = 1.0
    if not has_classes(y):
        unit = jnp.maximum(jnp.abs(task.loss(apply(trained), y).mean() - floor), 1e-9)

    def loss(trained: Params) -> tuple[Array, Array]:
        outputs = apply(trained)
        right = accuracy(outputs, y).mean() if has_classes(y) else jnp.asarray(jnp.nan)
        return task.loss(outputs, y).mean(), right

    def unfinished(carry: tuple) -> Array:
        count, _, _, excess, right = carry
        return (count < steps) & ~((excess <= 0.005) & ~(right < 1))

    def step(carry: tuple) -> tuple:
        count, trained, opt_state, _, _ = carry
        (value, right), grads = jax.value_and_grad(loss, has_aux=True)(trained)
        updates, opt_state = optimizer.update(grads, opt_state, trained)
        return count + 1, apply_updates(trained, updates), opt_state, (value - floor) / unit, right

    nothing = jnp.asarray(jnp.inf, jnp.float32)
    start = (0, trained, optimizer.init(trained), nothing, jnp.zeros((), jnp.float32))
    *_, excess, right = lax.while_loop(unfinished, step, start)
    excess = jnp.where(jnp.isnan(excess), jnp.inf, excess)
    return right, excess if has_classes(y) else jnp.where(excess < -0.01, jnp.nan, excess)


def _lowest_loss(task: Task, outputs: Any, y: Array) -> Array:
    """The mean loss of the best outputs of this shape: those that favour each right class by the same number.

    Where targets are probabilities, their logarithms are the best logits of a softmax; else the lowest is 0.
    """
    if not has_classes(y):
        if y.shape != outputs.shape or y.ndim < 2 or y.shape[-1] < 2:
            return jnp.zeros(())
        are_shares = jnp.all(y >= 0) & jnp.allclose(y.sum(-1), 1, atol=1e-4)
        # Logits of a softmax, of a sigmoid, and the shares themselves: the loss tells which it wants.
        best = (jnp.log(y + 1e-9), jnp.log(y + 1e-9) - jnp.log(1 - y + 1e-9), y)
        lowest = jnp.min(jnp.stack([task.loss(outputs, y).mean() for outputs in best]))
        return jnp.where(are_shares, lowest, 0.0)
    right = jax.nn.one_hot(y, outputs.shape[-1], dtype=outputs.dtype)
    sizes = (1, 2, 3, 4, 5, 6, 8, 10, 15, 30, 60)
    # Below 0 only where the outputs are none that the network can have, such as log-probabilities of 60.
    return jnp.maximum(0, jnp.min(jnp.stack([task.loss(size * right, y).mean() for size in sizes])))


def scaled_optimizer(optimizer: Optimizer, factor: Array | float) -> Optimizer:
    """The same optimizer with every update times a factor: as if all its learning rates were.

    Not so for what is no step along a gradient, such as the projection of `max_norm`.
    """

    def update(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(lambda u: (u * factor).astype(u.dtype), updates), state

    return Optimizer(optimizer.init, update)
