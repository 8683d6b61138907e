"""What a trained or half-trained network does with examples, layer by layer."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fnn._tree import at_path
from fnn._types import Array
from fnn.nn._intermediates import intermediates
from fnn.nn._layer import walk
from fnn.ops._norm import per_channel
from fnn.train._evaluate import check_inputs
from fnn.train._state import Make, TrainState, network_input, task_at
from fnn.tune._start import shares

_EPS = 1e-5  # of batch norm's root


def probe(make: Make, hyperparameters: Any, state: TrainState, x: Any) -> dict[str, dict[str, Array]]:
    """Dead units, flat tails and running statistics of a network in evaluation mode.

    Args:
        make, hyperparameters, state: see `fnn.train_step`.
        x: some hundred raw training examples.

    Returns:
        By layer: `dead_units`, the share of rectified units that are 0 for every example; `saturated_units`,
        the share of sigmoid or tanh outputs in the flat tails; `statistics`, how far the running mean and
        deviation of a batch norm are from those of these examples,

            √ mean over channels of ( ((m − m̂) / ŝ)² + ln(s / ŝ)² ),   ŝ² = running variance + 1e-5

        and 1e-5 is added to s² too, so that a constant channel is no trouble.

    Raises:
        ValueError: no inputs.
        TypeError: no `TrainState`.
    """
    check_inputs(state, x)
    task = task_at(make, hyperparameters, state.step)
    layers = dict(walk(task.net))
    outputs = intermediates(task.net, state.params, state.state, network_input(jnp.asarray(x), state.moments))
    dead, saturated = shares(layers, outputs)
    distance = {}
    for path, layer in layers.items():
        if layer.kind == "batch_norm":
            own = at_path(state.params, path)
            y = outputs[path]
            scale = jnp.where(own["scale"] == 0, jnp.nan, own["scale"])
            normal = (y - per_channel(own["bias"], y.ndim)) / per_channel(scale, y.ndim)
            axes = tuple(range(normal.ndim - 1))
            mean, deviation = normal.mean(axes), normal.std(axes)
            running = at_path(state.state, path)["var"] + _EPS
            wide = jnp.square(deviation) + _EPS / running
            each = jnp.square(mean) + jnp.square(jnp.log(wide) / 2)
            distance[path] = jnp.sqrt(jnp.nanmean(each))
    return {"dead_units": dead, "saturated_units": saturated, "statistics": distance}
