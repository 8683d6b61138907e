"""A run, read back from its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn.run._config import ConfigError
from fnn.run._directory import check_begun, load_checkpoint
from fnn.run._prepare import Prepared, prepare_again
from fnn.run._read import read
from fnn.train import Make
from fnn.train._fit import start_shapes
from fnn.train._state import as_values

_predict = jax.jit(fnn.predict, static_argnums=0)


class Run(NamedTuple):
    """What a run has trained, as `fnn.predict`, `fnn.evaluate` and `fnn.fit` take it.

    make, hyperparameters: the network, the loss and the optimizer of its config.
    state: of the checkpoint.
    data: what it was trained on, validated and tested with, and the names of the classes.
    """

    make: Make
    hyperparameters: dict[str, Any]
    state: fnn.TrainState
    data: fnn.Splits


def load(directory: str | Path, checkpoint: Literal["best", "last"] = "best") -> Run:
    """Read back a run that `fnn train` has trained; its data have to be where they were.

        run = fnn.run.load("runs/digits_cnn/1")
        logits = fnn.predict(run.make, run.hyperparameters, run.state, x)

    Args:
        directory: of the run; the best one of a search is its directory `best`.
        checkpoint: the state of the best epoch, or the last one.

    Raises:
        ValueError: not a run, one without that checkpoint, or data that have changed since.
    """
    if checkpoint not in ("best", "last"):
        raise ConfigError("", f'checkpoint must be "best" or "last", not {checkpoint!r}')
    prepared, state = loaded(Path(directory), checkpoint)
    return Run(prepared.make, prepared.values, state, prepared.data)


def loaded(directory: Path, name: str) -> tuple[Prepared, fnn.TrainState]:
    """A run's data and network, and the state of one of its checkpoints.

    Raises:
        ConfigError: not a run, or one without that checkpoint.
    """
    for name_of_file in ("config.toml", "metrics.jsonl"):
        check_begun(directory, "run", name_of_file)
    prepared = prepare_again(read(directory / "config.toml"), directory)
    return prepared, load_checkpoint(directory, name, like(prepared))


def like(prepared: Prepared) -> fnn.TrainState:
    """A state of the run, as shapes."""
    x, values = prepared.sample, as_values(prepared.values)
    channels: Any = jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32)
    moments = fnn.Moments(channels, channels) if prepared.settings["standardize"] else None
    return start_shapes(prepared.make, values, jax.eval_shape(jax.random.key, 0), x, moments)


def outputs_of(prepared: Prepared, state: fnn.TrainState, x: np.ndarray) -> np.ndarray:
    """What the network says of inputs."""
    return np.asarray(_predict(prepared.make, as_values(prepared.values), state, x))
