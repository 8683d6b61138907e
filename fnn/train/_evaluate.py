"""What a trained network says of examples, and how good that is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import Array, check_optional, check_range
from fnn.data import Dataset, Examples, Splits
from fnn.data._dataset import check_arrays, check_labels_exist, has_classes
from fnn.optim import accuracy
from fnn.train._mesh import over_data
from fnn.train._state import (
    Make,
    TrainState,
    check_examples_are,
    evaluation_params,
    network_input,
    task_at,
)

CPU_BATCH, ACCELERATOR_BATCH = 100, 1000
"""Examples that go through a network at once: a hundred keep feature maps in a CPU's cache, a thousand keep
an accelerator busy."""


def predict(
    make: Make, hyperparameters: Any, state: TrainState, x: Any, /, *, batch_size: int | None = None
) -> Array:
    """The network's outputs for every input, in evaluation mode, by its averaged parameters if it has such.

    Args:
        make, hyperparameters, state: see `train_step`.
        x: (N, …) raw inputs, which are scaled and standardised as the training inputs were: bytes where those
            were bytes.
        batch_size: how many go through the network at once; the last batch is filled and cut again. By
            default `CPU_BATCH` on a CPU and `ACCELERATOR_BATCH` elsewhere, chosen as the program is lowered.

    Returns:
        (N, …), one row per input.

    Raises:
        ValueError: a batch size below 1, no inputs, or the states of several networks in one.
        TypeError: no `TrainState`, or a data set in place of its inputs.
    """
    check_inputs(state, x)
    check_optional("batch_size", batch_size, at_least=1, integer=True)
    task = task_at(make, hyperparameters, state.step)
    params = evaluation_params(task, state)

    def outputs(x: Array) -> Array:
        inputs = network_input(over_data(x), state.moments)
        return task.net.apply(params, state.state, inputs)[0]

    x = jnp.asarray(x)
    if batch_size is not None:
        return _in_batches(outputs, batch_size, x)
    if len(x) <= CPU_BATCH:  # all at once everywhere
        return _in_batches(outputs, CPU_BATCH, x)
    return lax.platform_dependent(
        x,
        cpu=partial(_in_batches, outputs, CPU_BATCH),
        default=partial(_in_batches, outputs, ACCELERATOR_BATCH),
    )


def check_inputs(state: Any, x: Any) -> None:
    """See that there is a state and what it can be asked about.

    Raises:
        TypeError: no `TrainState`, or a data set in place of its inputs.
        ValueError: no inputs, or the states of several networks in one.
    """
    if not isinstance(state, TrainState):
        raise TypeError(
            f"state must be a TrainState, such as result.best of what fit returns, not {type(state).__name__}"
        )
    if jnp.ndim(state.step):
        raise ValueError(
            f"the state is that of {len(state.step)} networks; ask each of them, by jax.vmap over the state"
        )
    if isinstance(x, Examples | Dataset | Splits):
        raise TypeError(f"x must be an array of inputs, such as data.test.x, not {type(x).__name__}")
    check_range("the number of inputs", len(x), at_least=1)


def _in_batches(function: Callable[[Array], Array], size: int, x: Array) -> Array:
    """`function` of so many rows of x at a time; the last batch repeats the last row."""
    n = len(x)
    size = min(size, n)
    batches = -(-n // size)
    rows = jnp.minimum(jnp.arange(batches * size), n - 1).reshape(batches, size)
    y = lax.map(lambda rows: function(x[rows]), rows)
    return y.reshape(-1, *y.shape[2:])[:n]


def evaluate(
    make: Make,
    hyperparameters: Any,
    state: TrainState,
    examples: Examples,
    /,
    *,
    batch_size: int | None = None,
) -> dict[str, Array]:
    """Mean loss, without penalties, accuracy where targets are classes, and the means of the task's metrics.

    Every example counts once.

    Args:
        make, hyperparameters, state: see `train_step`.
        examples: inputs and targets.
        batch_size: see `predict`.

    Returns:
        `{"loss": …, "accuracy": …}`, scalars.

    Raises:
        ValueError: see `predict`; outside of transformations also what `split` refuses of training examples.
        TypeError: see `predict`; no `Examples`.
    """
    check_examples_are(examples, "data.test")
    known = not any(isinstance(part, jax.core.Tracer) for part in examples)
    if known:
        check_arrays(examples, "the part to evaluate")
    outputs = predict(make, hyperparameters, state, examples.x, batch_size=batch_size)
    if known and has_classes(examples.y):
        check_labels_exist(examples.y, outputs.shape[-1], "the part to evaluate")
    return score(make, hyperparameters, state, outputs, examples.y)


def score(
    make: Make, hyperparameters: Any, state: TrainState, outputs: Any, targets: Any, /
) -> dict[str, Array]:
    """The same of outputs that are there already."""
    task = task_at(make, hyperparameters, state.step)
    targets = jnp.asarray(targets)
    metrics = {"loss": task.loss(outputs, targets).mean()}
    if has_classes(targets):
        metrics["accuracy"] = accuracy(outputs, targets).mean()
    for metric in task.metrics:
        metrics[metric_name(metric)] = metric(outputs, targets).mean()
    return metrics


def metric_name(metric: Callable[..., Any]) -> str:
    """What a metric is called in a history: the name of its function or class, whatever is bound to it."""
    function = unbound(metric)
    return getattr(function, "__name__", type(function).__name__)


def unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function without the settings that are bound to it."""
    return unbound(function.func) if isinstance(function, partial) else function
