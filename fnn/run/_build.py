"""From a checked config to what trains: structure that is compiled, and values that are passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import jax
import numpy as np

import fnn
from fnn.run._config import Call, Calls, Config, ConfigError, Number
from fnn.run._registry import functions
from fnn.train import Task
from fnn.train._state import over_steps

Values = Mapping[str, Any]


_PARTS = {
    **{"model": "model", "loss": "loss", "penalties": "loss", "optimizer": "optimizer"},
    **{"augment": "train", "metrics": "train"},
}
"""The fields of a config, and of its `Make`, that hold calls, each with where their paths begin."""


@dataclass(frozen=True)
class _Slot:
    """The place of a hyperparameter in the structure; its value comes by its path."""


@dataclass(frozen=True)
class Make:
    """`make(hyperparameters) -> Task` for a config, as `fnn.fit` takes it.

    Two configs that differ only in the values of hyperparameters have equal structures, so the second
    reuses what was compiled for the first.
    """

    model: Call
    loss: Call
    penalties: Calls
    optimizer: Call
    augment: Calls
    metrics: Calls
    freeze: tuple[str, ...]
    steps: int  # the length of the run, for every schedule that was not told

    def __call__(self, values: Values) -> Task:
        """Make the calls, with `values[path]` for each hyperparameter."""
        unused = sorted(set(values) - set(self.paths()))
        if unused:
            raise ConfigError(unused[0], "no hyperparameter has this path")
        return Task(
            net=self._build(self.model, values, "model"),
            loss=self._build(self.loss, values, "loss"),
            optimizer=self._build(self.optimizer, values, "optimizer"),
            penalties=self._build_all(self.penalties, values, "loss"),
            augment=self._build_all(self.augment, values, "train"),
            metrics=self._build_all(self.metrics, values, "train"),
            freeze=self.freeze,
        )

    def paths(self) -> list[str]:
        """The path of every hyperparameter."""
        return [path for root, call in self._roots() for path in _slots(call, root)]

    def _roots(self) -> list[tuple[str, Call]]:
        lists = [("loss", self.penalties), ("train", self.augment), ("train", self.metrics)]
        members = [(f"{path}.{key}", call) for path, calls in lists for key, call in calls.items]
        return [("model", self.model), ("loss", self.loss), ("optimizer", self.optimizer), *members]

    def _build(self, call: Call, values: Values, path: str) -> Any:
        function = functions()[call.function]
        positional: list[Any] = []
        settings: dict[str, Any] = {}
        inner = self
        if call.function == "accumulate_gradients":  # what is inside counts its own, fewer steps
            every = max(1, dict(call.arguments)["every"])  # one below 1 is refused by the function itself
            inner = replace(self, steps=max(1, self.steps // every))
        for name, value in call.arguments:
            if isinstance(value, Calls):
                positional += inner._build_all(value, values, path)
            else:
                settings[name] = inner._argument(value, values, f"{path}.{name}")
        if "steps" in function.parameters:
            settings.setdefault("steps", self.steps)
        located = _located(function.call, path)
        if function.takes_data:
            return _bound(located, settings)
        made = located(*positional, **settings)
        if isinstance(made, fnn.Optimizer):  # which sees the parameters only then
            return made._replace(init=_located(made.init, path))
        return made

    def _build_all(self, calls: Calls, values: Values, path: str) -> tuple[Any, ...]:
        return tuple(self._build(call, values, f"{path}.{key}") for key, call in calls.items)

    def _argument(self, value: Any, values: Values, path: str) -> Any:
        if isinstance(value, _Slot):
            return values[path]
        if isinstance(value, Number):
            return value.value
        if isinstance(value, tuple):
            return tuple(self._argument(v, values, f"{path}.{place}") for place, v in enumerate(value))
        return self._build(value, values, path) if isinstance(value, Call) else value


def _descents(optimizer: Call) -> int:
    """How many of the functions that an update goes through turn a gradient into a step downwards."""
    if "learning_rate" in dict(optimizer.arguments):
        return 1
    inner = [_descents(child) for _, child in optimizer.children("") if isinstance(child, Call)]
    return max(inner, key=lambda count: abs(count - 1)) if optimizer.function == "by_path" else sum(inner)


def see_that_it_descends(optimizer: Call) -> None:
    """See that every parameter is stepped by one optimizer.

    Raises:
        ConfigError: by none, or by several in a chain, where a step is taken for a gradient.
    """
    found = _descents(optimizer)
    if found > 1:
        problem = (
            f"sends each gradient through {found} optimizers; a chain has one, after what changes gradients"
        )
        raise ConfigError("optimizer", f"{optimizer.function} {problem}")
    if not found:
        raise ConfigError(
            "optimizer",
            f"{optimizer.function} changes gradients but takes no step; put it in front of an optimizer, as "
            "in chain = {transforms = [{clip_by_value = {limit = 1}}, {sgd = {learning_rate = 0.1}}]}",
        )


def make_and_values(config: Config, steps: int) -> tuple[Make, dict[str, Any]]:
    """Part a config into structure and the values of its hyperparameters, by path.

    A schedule stands whole among the values, to be evaluated at each step; only an optimizer, which counts
    its own steps, keeps it, and its end-points are values.

    Args:
        config: a checked config.
        steps: the length of the run.
    """
    whole = Make(**{name: getattr(config, name) for name in _PARTS}, freeze=config.freeze, steps=steps)
    values: dict[str, Any] = {}

    def slot(value: Any, path: str) -> _Slot | None:
        if isinstance(value, Number):
            values[path] = value.value
            return _Slot()
        if _is_schedule(value) and not path.startswith("optimizer."):
            values[path] = whole._build(value, {}, path)
            return _Slot()
        return None

    return replace(
        whole, **{name: _rebuilt(getattr(config, name), _PARTS[name], slot) for name in _PARTS}
    ), values


def with_numbers(config: Config, make: Make, choose: Callable[[Any], Any]) -> Config:
    """The config with one number in place of each schedule.

    Args:
        config: a checked config.
        make: of the config, which knows how long the run is.
        choose: which of the values of a schedule over the run is taken, such as `max`.
    """

    def number(value: Any, path: str) -> Number | None:
        if not _is_schedule(value):
            return None
        schedule = make._build(value, {}, path)  # its end-points are numbers still
        steps = np.arange(0, make.steps + 1, max(1, make.steps // 200))
        return Number(choose(over_steps(schedule, steps).tolist()))

    return replace(config, **{name: _rebuilt(getattr(config, name), _PARTS[name], number) for name in _PARTS})


def _is_schedule(value: Any) -> bool:
    return isinstance(value, Call) and functions()[value.function].kind == "schedule"


def _rebuilt(value: Any, path: str, change: Callable[[Any, str], Any]) -> Any:
    """A tree of calls in which `change(value, path)` stands for each value of which it is not None."""
    if (changed := change(value, path)) is not None:
        return changed
    if isinstance(value, Calls):
        return Calls(tuple((key, _rebuilt(call, f"{path}.{key}", change)) for key, call in value.items))
    if isinstance(value, tuple):
        return tuple(_rebuilt(member, f"{path}.{place}", change) for place, member in enumerate(value))
    if not isinstance(value, Call):
        return value
    arguments = [
        (name, _rebuilt(argument, path if isinstance(argument, Calls) else f"{path}.{name}", change))
        for name, argument in value.arguments
    ]
    return Call(value.function, tuple(arguments))


def numbers_at(values: Values, step: int) -> dict[str, float]:
    """The values with every schedule among them evaluated after `step` steps."""
    return {path: float(jax.jit(value)(step)) if callable(value) else value for path, value in values.items()}


def call_plainly(call: Call, *data: Any) -> Any:
    """Call a function that no training depends on: a data set, a split, a distribution."""
    return getattr(fnn, call.function)(*data, **plain_settings(call))


def plain_settings(call: Call) -> dict[str, Any]:
    """The arguments of such a function, the calls among them made."""

    def plain(value: Any) -> Any:
        if isinstance(value, Call):
            return call_plainly(value)
        return value.value if isinstance(value, Number) else value

    return {name: plain(value) for name, value in call.arguments}


def _slots(call: Call, path: str) -> list[str]:
    found = []
    for child_path, value in call.children(path):
        if isinstance(value, _Slot):
            found.append(child_path)
        elif isinstance(value, Call):
            found += _slots(value, child_path)
    return found


def _bound(function: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """The function with its settings fixed, under its own name."""

    @wraps(function)
    def bound(*data: Any) -> Any:
        return function(*data, **settings)

    return bound


def _located(function: Callable[..., Any], path: str) -> Callable[..., Any]:
    """The function, whose complaints about its arguments say where in the config they stand."""

    @wraps(function)
    def located(*positional: Any, **settings: Any) -> Any:
        try:
            return function(*positional, **settings)
        except ConfigError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError(path, str(error)) from error

    return located
