"""Training as pure functions: a step, a chunk of steps, an epoch. None of them is jitted here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn._shuffle import permutation
from fnn._tree import combine, fold_name
from fnn._types import Array, Key, check_mask, check_range
from fnn.data import Examples, Mixed, Visit, to_float
from fnn.data._dataset import has_classes
from fnn.optim import Optimizer, accuracy, apply_updates
from fnn.train._mesh import over_data
from fnn.train._state import (
    Batch,
    Make,
    Task,
    TaskError,
    TrainState,
    as_pytree,
    check_examples_are,
    first_of_trees,
    network_input,
    task_at,
)
from fnn.train._watch import Watched, watch


class StepMetrics(NamedTuple):
    """What a step measured on its batch, in training mode and before its update."""

    loss: Array  # () mean over the real examples, without penalties
    penalty: Array  # () sum of the penalties
    accuracy: Array  # () share of right answers; NaN where targets are not classes
    examples: Array  # () how many real ones
    watched: Watched | None = None  # where it was asked for; of a chunk one for each watched step


def train_step(
    make: Make, hyperparameters: Any, state: TrainState, batch: Batch, *, watched: bool = False
) -> tuple[TrainState, StepMetrics]:
    """One step: augment, standardise, differentiate mean loss + penalties, update.

        w ← w + update(∇ [ (1/|Ω|) Σ_{i∈Ω} l(yᵢ, f_w(xᵢ)) + Σ penalties(w) ])

    The mean is over the examples of the batch Ω; the notes divide their sum by the n of the training set,
    which would shrink the gradient by |Ω| / n. Written for the whole batch; under a mesh the batch is cut
    over its `data` axis. Hyperparameters are evaluated at `state.step`, and everything drawn at random is
    addressed by that number.

    Args:
        make: `make(hyperparameters) -> (net, loss, optimizer)` or a `Task`, called inside the trace.
        hyperparameters: a pytree of numbers and schedules, as `make` takes it.
        state: of the run before the step, see `init_state`.
        batch: N examples, of which those whose `mask` is False count nowhere.
        watched: whether the step also measures its gradient and its update, see `Watched`.

    Returns:
        The state after the step, and what was measured before its update, in training mode.

    Raises:
        TypeError: no `Batch`; a `make` that returns something else, or an optimizer's update that does.
        ValueError: a mask that is not N booleans; a loss that does not return (N,); a penalty that does not
            return one number; updates unlike the parameters; an augmentation that does not return the batch;
            two that mix it; one that asks for a `visit` which the batch lacks.
    """
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be fnn.Batch(x, y, mask), not {type(batch).__name__}")
    check_mask(batch.mask, len(batch.x))
    task = task_at(make, hyperparameters, state.step)
    key = jax.random.fold_in(fold_name(state.key, "step"), state.step)
    batch = over_data(batch)
    x, mixed = _augmented(task, key, batch)
    x = network_input(x, state.moments)
    frozen, trained = task.cut(state.params)

    def objective(trained: Any) -> tuple[Array, tuple]:
        params = combine(frozen, trained)
        outputs, layer_state = task.net.apply(params, state.state, x, train=True, key=key, mask=batch.mask)
        loss = masked_mean(_loss(task, outputs, batch.y, mixed), batch.mask)
        penalty = sum((_penalty(penalty, params) for penalty in task.penalties), jnp.zeros_like(loss))
        return loss + penalty, (layer_state, outputs, loss, penalty)

    grads, (layer_state, outputs, loss, penalty) = jax.grad(objective, has_aux=True)(trained)
    updates, opt_state = _update(task.optimizer, grads, state.opt_state, trained)
    new_state = state._replace(
        step=state.step + 1,
        params=combine(frozen, apply_updates(trained, updates)),
        state=layer_state,
        opt_state=opt_state,
    )
    right = masked_mean(accuracy(outputs, batch.y), batch.mask) if has_classes(batch.y) else jnp.nan
    measured = watch(trained, grads, updates, batch.y, batch.mask) if watched else None
    return new_state, StepMetrics(loss, penalty, jnp.asarray(right, loss.dtype), batch.mask.sum(), measured)


def _update(optimizer: Optimizer, grads: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
    """What an optimizer returns, whose updates are added to the parameters.

    Raises:
        TypeError: it is not two things.
        ValueError: the updates are not of the parameters' shapes.
    """
    result = optimizer.update(grads, opt_state, params)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(f"the optimizer's update must return (updates, state), not {type(result).__name__}")
    updates, opt_state = result
    if difference := first_of_trees(params, updates, dtypes=False):
        path, wanted, came = difference
        raise ValueError(
            "the optimizer's update must return updates like the parameters: "
            f"{path or 'the parameter'} is {wanted} among the parameters, and {came} among the updates"
        )
    return updates, opt_state


def _augmented(task: Task, key: Key, batch: Batch) -> tuple[Array, Mixed | None]:
    """The batch after every augmentation, each with a key of its own, and who was mixed with whom."""
    x, mixed = to_float(batch.x), None
    for number, augment in enumerate(task.augment):
        visit = (_visit(augment, batch),) if "visit" in inspect.signature(augment).parameters else ()
        result = augment(fold_name(key, f"augment/{number}"), x, *visit)
        if isinstance(result, Mixed):
            if mixed is not None:
                problem = "two augmentations mix the examples of a batch; one of them has to go"
                raise TaskError("augment", problem)
            x, mixed = result.x, result
        else:
            x = result
        if getattr(x, "shape", ())[:1] != batch.mask.shape:
            problem = f"must return the batch, ({len(batch.mask)}, …), not {returned(x)}"
            raise TaskError("augment", f"{_name(augment)} {problem}")
    return x, mixed


def _visit(augment: Any, batch: Batch) -> Visit:
    if batch.visit is None:
        problem = "asks which examples it sees: give the batch a `visit`, as train_chunk does"
        raise ValueError(f"{_name(augment)} {problem}")
    return batch.visit


def _name(augment: Any) -> str:
    return getattr(augment, "__name__", "an augmentation")


def _penalty(penalty: Callable[[Any], Array], params: Any) -> Array:
    """The penalty on parameters, which is one number."""
    value = penalty(params)
    if not (isinstance(value, Real) or getattr(value, "ndim", None) == 0):
        raise TaskError("penalties", f"a penalty returns one number, not {returned(value)}")
    return value


def returned(value: Any) -> str:
    """What a function of a task returned, for an error: the shape of an array, the type of anything else."""
    return f"shape {value.shape}" if hasattr(value, "shape") else type(value).__name__


def _loss(task: Task, outputs: Array, targets: Array, mixed: Mixed | None) -> Array:
    """One value per example; of a mixed one that of both targets, each by its weight."""
    loss = task.loss(outputs, targets)
    if mixed is None:
        return loss
    return mixed.weight * loss + (1 - mixed.weight) * task.loss(outputs, targets[mixed.partner])


def train_chunk(
    make: Make,
    hyperparameters: Any,
    state: TrainState,
    examples: Examples,
    rows: Array,
    mask: Array,
    epoch: Array | int = 0,
    *,
    watch_every: int | None = None,
) -> tuple[TrainState, StepMetrics]:
    """Many steps as one `lax.scan` over data that lives on the device.

    Args:
        make, hyperparameters, state: see `train_step`.
        examples: all training examples.
        rows: (steps, batch) int32, which examples form each batch.
        mask: (steps, batch) bool, which of them count; a step whose rows are all padding does nothing.
        epoch: how often the examples have been seen before, which only `alternating_flip` asks.
        watch_every: how many steps there are for each watched one, which is the first of them; it divides
            the steps. By default none is watched. The program then holds the step twice.

    Returns:
        The state after the steps, and the metrics of each, stacked; `watched` of each watched step.

    Raises:
        TypeError: no `Examples`.
        ValueError: `watch_every` does not divide the steps.
    """
    check_examples_are(examples, "data.train")
    x, y = jnp.asarray(examples.x), jnp.asarray(examples.y)
    epoch = jnp.asarray(epoch, jnp.int32)
    values = as_pytree(hyperparameters)

    def step(
        state: TrainState, batch_rows: tuple[Array, Array], watched: bool = False
    ) -> tuple[TrainState, StepMetrics]:
        rows, mask = batch_rows

        def take(state: TrainState) -> tuple[TrainState, StepMetrics]:
            batch = Batch(x[rows], y[rows], mask, Visit(rows, epoch))
            return _step(make, values, state, batch, watched=watched)

        return advance_if(mask.any(), take, state)

    if watch_every is None:
        return lax.scan(step, state, (rows, mask))
    if watch_every < 1 or len(rows) % watch_every:
        raise ValueError(
            f"watch_every must divide the {len(rows)} steps of the chunk, {watch_every} does not"
        )

    def group(state: TrainState, batches: tuple[Array, Array]) -> tuple[TrainState, tuple]:
        rows, mask = batches
        state, metrics = step(state, (rows[0], mask[0]), watched=True)
        state, others = lax.scan(step, state, (rows[1:], mask[1:]))
        steps = jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), metrics[:4], others[:4])
        return state, (steps, metrics.watched)

    groups = (-1, watch_every, rows.shape[1])
    state, (steps, watched) = lax.scan(group, state, (rows.reshape(groups), mask.reshape(groups)))
    loss, penalty, right, count = (leaf.reshape(-1) for leaf in steps)
    return state, StepMetrics(loss, penalty, right, count, watched)


def advance_if(condition: Array, advance: Callable[[Any], tuple[Any, Any]], state: Any) -> tuple[Any, Any]:
    """`advance(state)`, the next state and its metrics; or else the state as it is, with metrics of 0."""

    def rest(state: Any) -> tuple[Any, Any]:
        _, metrics = jax.eval_shape(advance, state)
        return state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics)

    return lax.cond(condition, advance, rest, state)


_step = jax.jit(train_step, static_argnums=0, static_argnames="watched")  # traced once, wherever it is used


def epoch_rows(
    key: Key, epoch: Array, *, examples: int, batch_size: int, chunk_steps: int
) -> tuple[Array, Array]:
    """The batches of one epoch, a new order each: every example exactly once, the rest padding.

    Args:
        key: of the run.
        epoch: its number, which addresses the order.
        examples: how many there are.
        batch_size: of each step.
        chunk_steps: steps of each chunk; the last chunk is filled with padding.

    Returns:
        rows and mask, each (chunks, chunk_steps, batch_size). Padding repeats real examples.
    """
    order = permutation(jax.random.fold_in(fold_name(key, "epoch"), epoch), examples)
    chunks = -(-examples // (batch_size * chunk_steps))
    places = jnp.arange(chunks * chunk_steps * batch_size)
    shape = (chunks, chunk_steps, batch_size)
    return order[places % examples].reshape(shape), (places < examples).reshape(shape)


def train_epoch(
    make: Make, hyperparameters: Any, state: TrainState, examples: Examples, epoch: Array, *, batch_size: int
) -> tuple[TrainState, StepMetrics]:
    """Every example once, in an order that `state.key` and `epoch` decide.

    Args:
        make, hyperparameters, state: see `train_step`.
        examples: all training examples.
        epoch: its number.
        batch_size: of each step; the last batch may be smaller, its padding masked.

    Raises:
        TypeError: no `Examples`, or a batch size that is no integer.
        ValueError: a batch size below 1.
    """
    check_examples_are(examples, "data.train")
    check_range("batch_size", batch_size, at_least=1, integer=True)
    n = examples.x.shape[0]
    steps = -(-n // batch_size)
    rows, mask = epoch_rows(state.key, epoch, examples=n, batch_size=batch_size, chunk_steps=steps)
    return train_chunk(make, hyperparameters, state, examples, rows[0], mask[0], epoch)


def masked_mean(values: Array, mask: Array, /) -> Array:
    """The mean of one value per example over the real examples.

    Args:
        values: (N,).
        mask: (N,) bool.

    Raises:
        ValueError: values of another shape: a loss returns one value per example; a mask that is not bool,
            such as weights, which belong in the values.
    """
    if values.shape != mask.shape:
        raise ValueError(f"a loss returns one value per example, shape {mask.shape}, not {values.shape}")
    check_mask(mask, len(mask))
    return jnp.where(mask, values, 0).sum() / mask.sum()
