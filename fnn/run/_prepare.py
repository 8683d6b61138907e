"""From a checked config to everything that `fnn.fit` takes; every bad input ends here, before any work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

import fnn
from fnn.nn import LayerError
from fnn.run._build import Make, call_plainly, make_and_values, numbers_at, see_that_it_descends, with_numbers
from fnn.run._config import Config, ConfigError
from fnn.run._directory import fingerprint, read_json
from fnn.train._check_fit import check_fit, check_length
from fnn.train._state import TaskError


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    config: Config
    data: fnn.Splits
    make: Make
    values: dict[str, Any]
    settings: dict[str, Any]  # of fnn.fit
    mesh: Mesh | None

    @property
    def sample(self) -> jax.ShapeDtypeStruct:
        """One raw input with its batch axis, as a shape."""
        x = self.data.train.x
        return jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.result_type(x))

    @cached_property
    def summary(self) -> fnn.Summary:
        """The network as a table."""
        return fnn.summary(self.make(numbers_at(self.values, 0)).net, self.sample)


def prepare(config: Config) -> Prepared:
    """Load the data, build the network on shapes alone, and see that all of it fits together.

    Raises:
        ConfigError: one sentence that names the file and the key.
    """
    with in_file(config.source):
        return _prepare(config)


def prepare_again(config: Config, directory: Path) -> Prepared:
    """What has begun in a directory, whose data have to be those that it began with.

    Raises:
        ConfigError: see `prepare`; data that have changed since.
    """
    prepared = prepare(config)
    began = read_json(directory / "environment.json", {}).get("data")
    if began not in (None, fingerprint(prepared.data)):
        raise ConfigError(
            config.source,
            f"data: these are not the examples that {directory} began with; bring those back, or begin anew",
        )
    return prepared


def _prepare(config: Config) -> Prepared:
    with blamed_on("data"):
        dataset = call_plainly(config.data)
    with blamed_on("split"):
        data = call_plainly(config.split, dataset)
    settings = dict(config.train.arguments)
    with blamed_on("train"):
        steps = check_length(len(data.train.x), **_length(settings))
        make, values = make_and_values(config, steps)
    check_ranges(config, steps, data, _length(settings))
    see_that_it_descends(config.optimizer)
    mesh = fnn.mesh() if len(jax.devices()) > 1 else None
    return Prepared(config, data, make, values, settings, mesh)


def check_ranges(config: Config, steps: int, data: fnn.Splits, length: dict[str, Any]) -> None:
    """See that network, loss, optimizer and data fit together at the least and the largest of all schedules.

    Raises:
        ConfigError: what does not fit.
    """
    whole, values = make_and_values(config, steps)
    whole(numbers_at(values, 0))
    largest, least = (with_numbers(config, whole, choose) for choose in (max, min))
    for plain in (largest,) if least == largest else (largest, least):  # alike where there is no schedule
        make, numbers = make_and_values(plain, steps)
        make(numbers)
        with blamed_on("model"):
            check_fit(make, numbers, data, **length)


def _length(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("epochs", "batch_size", "patience")}


@contextmanager
def in_file(source: str) -> Iterator[None]:
    """Name the file in a complaint about a config."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(source, str(error)) from error
    except OverflowError as error:  # of JAX, which names an argument of its own
        where = "".join(f"{note}, " for note in _notes(error))
        problem = "a number or the size of an input is beyond 32 bits; take a smaller one"
        raise ConfigError(source, where + problem) from error


def _notes(error: Exception) -> list[str]:
    """In which layers it happened, the innermost first."""
    return [note for note in getattr(error, "__notes__", ()) if note.startswith("in the layer")]


@contextmanager
def blamed_on(section: str) -> Iterator[None]:
    """Turn a complaint from the core into one about a key of the config."""
    try:
        yield
    except ConfigError:
        raise
    except LayerError as error:
        cause: BaseException | None = error
        while isinstance(cause, LayerError):  # what a layer was given, such as its initializer, knows better
            cause = cause.__cause__
        if isinstance(cause, ConfigError):
            raise cause from error
        raise ConfigError(f"{section}.{error.path.replace('/', '.')}", error.problem) from error
    except TaskError as error:
        raise ConfigError(f"train.{error.field}", error.problem) from error
    except (ValueError, TypeError, ModuleNotFoundError) as error:
        section = "data" if isinstance(error, fnn.DataError) else section
        lines = [*str(error).strip().splitlines()[:1], *_notes(error)]
        raise ConfigError(section, ", ".join(lines)) from error
