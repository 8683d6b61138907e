"""What a trained network says of examples, and how good that is."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from fnn._types import Array
from fnn.data import Examples
from fnn.optim import accuracy
from fnn.train._mesh import over_data
from fnn.train._state import Make, TrainState, evaluation_params, network_input, task_at
from fnn.train._step import has_classes


def predict(
    make: Make, hyperparameters: Any, state: TrainState, x: Any, /, *, batch_size: int = 100
) -> Array:
    """The network's outputs for every input, in evaluation mode, by its averaged parameters if it has such.

    Args:
        make, hyperparameters, state: see `train_step`.
        x: (N, …) raw inputs, which are scaled and standardised as the training inputs were.
        batch_size: how many go through the network at once; the last batch is filled and cut again. Few keep
            the feature maps in the cache of a core; an accelerator with memory to spare may like more.

    Returns:
        (N, …), one row per input.
    """
    task = task_at(make, hyperparameters, state.step)
    x = jnp.asarray(x)
    n = x.shape[0]
    batch_size = min(batch_size, n)
    batches = -(-n // batch_size)

    params = evaluation_params(task, state)

    def outputs(rows: Array) -> Array:
        inputs = network_input(over_data(x[rows]), state.moments)
        return task.net.apply(params, state.state, inputs)[0]

    rows = jnp.minimum(jnp.arange(batches * batch_size), n - 1).reshape(batches, batch_size)
    y = lax.map(outputs, rows)
    return y.reshape(-1, *y.shape[2:])[:n]


def evaluate(
    make: Make, hyperparameters: Any, state: TrainState, examples: Examples, /, *, batch_size: int = 100
) -> dict[str, Array]:
    """Mean loss, without penalties, accuracy where targets are classes, and the means of the task's metrics.

    Every example counts once.

    Args:
        make, hyperparameters, state: see `train_step`.
        examples: inputs and targets.
        batch_size: see `predict`.

    Returns:
        `{"loss": …, "accuracy": …}`, scalars.
    """
    outputs = predict(make, hyperparameters, state, examples.x, batch_size=batch_size)
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
        metrics[metric.__name__] = metric(outputs, targets).mean()
    return metrics
