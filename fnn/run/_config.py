"""A config, checked once and without arrays: from what TOML says to a tree of calls with all defaults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError

import fnn
from fnn.run._registry import (
    Function,
    Parameter,
    describe,
    describe_type,
    fits,
    functions,
    nearest,
    with_article,
)
from fnn.run._settings import search_settings

# Arguments of `fnn.fit` that no [train] table has.
_GIVEN_BY_THE_RUN = ("seed", "mesh", "report", "watch_every", "so_far")
_SECTIONS = ("seed", "data", "split", "model", "loss", "optimizer", "train", "search", "run")
_BESIDE = {"loss": ("penalties",), "train": ("augment", "metrics", "freeze"), "search": ("space",)}
"""What a table holds beside the settings of its function."""

_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


class ConfigError(ValueError):
    """A config that cannot be used: one sentence that begins with the key."""

    def __init__(self, path: str, problem: str) -> None:
        """Name the key, as one would type it, and what is wrong with its value."""
        super().__init__(f"{path}: {problem}" if path else problem)


@dataclass(frozen=True)
class Number:
    """The value of a hyperparameter: a number that may change without anything being compiled again."""

    value: float


@dataclass(frozen=True)
class Calls:
    """A list of calls, each under the name by which paths know it."""

    items: tuple[tuple[str, Call], ...]


@dataclass(frozen=True)
class Call:
    """A function with its settings; equal where both are equal.

    An argument is a `Call`, `Calls`, a `Number`, plain data or a tuple of these.
    """

    function: str
    arguments: tuple[tuple[str, Any], ...]

    def children(self, path: str) -> Iterator[tuple[str, Any]]:
        """Each argument with its path, the members of a list of calls one by one."""
        for name, value in self.arguments:
            if isinstance(value, Calls):
                for key, call in value.items:
                    yield f"{path}.{key}", call
            elif isinstance(value, tuple):
                for place, member in enumerate(value):
                    yield f"{path}.{name}.{place}", member
            else:
                yield f"{path}.{name}", value


@dataclass(frozen=True)
class Config:
    """A checked config: what to call, with every setting."""

    seed: int
    data: Call
    split: Call
    model: Call
    loss: Call
    penalties: Calls
    optimizer: Call
    train: Call
    augment: Calls
    metrics: Calls
    freeze: tuple[str, ...]
    search: Call | None = None
    space: tuple[tuple[str, Call], ...] = ()  # of the search, by path
    directory: str | None = None
    raw: dict[str, Any] = field(default_factory=dict, compare=False)  # as it was written, overrides included
    name: str = field(default="run", compare=False)
    source: str = field(default="", compare=False)  # the file, for messages

    def to_dict(self) -> dict[str, Any]:
        """The config as TOML has it, with all defaults written out."""
        return {
            "seed": self.seed,
            "data": _section(self.data),
            "split": _arguments(self.split),
            "model": _section(self.model),
            "loss": {**_section(self.loss), "penalties": _written(self.penalties)},
            "optimizer": _section(self.optimizer),
            "train": {
                **_arguments(self.train),
                "augment": _written(self.augment),
                "metrics": _written(self.metrics),
                "freeze": list(self.freeze),
            },
            **({} if self.search is None else {"search": self._search()}),
            **({} if self.directory is None else {"run": {"directory": self.directory}}),
        }

    def _search(self) -> dict[str, Any]:
        assert self.search is not None
        return {**_arguments(self.search), "space": {path: _written(call) for path, call in self.space}}

    def to_toml(self) -> str:
        """The resolved config file; checking it gives this config again."""
        return tomli_w.dumps(self.to_dict())


def check(raw: dict[str, Any], *, name: str = "run") -> Config:
    """Check a config against the functions that it calls, and fill in their defaults.

    Raises:
        ConfigError: one sentence about the first thing that is wrong.
    """
    _no_others(raw, _SECTIONS, "")
    tables = {key: _table(raw.get(key, {}), key) for key in _SECTIONS if key != "seed"}
    for required in ("data", "model", "loss", "optimizer"):
        if required not in raw:
            raise ConfigError(required, f"the table [{required}] is missing")
    penalties = tables["loss"].pop("penalties", [])
    augment, metrics = (tables["train"].pop(key, []) for key in ("augment", "metrics"))
    freeze = _plain(tables["train"].pop("freeze", []), tuple[str, ...], "train.freeze")
    space = _space(tables["search"].pop("space", {}), "") if "search" in raw else []
    _no_others(tables["run"], ("directory",), "run")
    seed, settings = _plain(raw.get("seed", 0), int, "seed"), tables_of_settings()
    if not 0 <= seed < 2**32:
        raise ConfigError("seed", f"expected an integer from 0 to 2³² − 1, not {seed}")
    return Config(
        seed=seed,
        data=_checked_section(tables["data"], "data set", "data"),
        split=_checked_arguments(settings["split"], tables["split"], "split"),
        model=_checked_section({"use": "serial", **tables["model"]}, "layer", "model"),
        loss=_checked_section(tables["loss"], "loss", "loss"),
        penalties=_checked_list(penalties, "penalty", "loss", "penalties"),
        optimizer=_checked_section(tables["optimizer"], "optimizer", "optimizer"),
        train=_checked_arguments(settings["train"], tables["train"], "train"),
        augment=_checked_list(augment, "augmentation", "train", "augment"),
        metrics=_checked_list(metrics, "metric", "train", "metrics"),
        freeze=freeze,
        search=_checked_arguments(settings["search"], tables["search"], "search")
        if "search" in raw
        else None,
        space=tuple(space),
        directory=_plain(tables["run"].get("directory"), str | None, "run.directory"),
        raw=raw,
        name=name,
    )


@cache
def tables_of_settings() -> dict[str, Function]:
    """The tables that name no function, each as the one that takes its settings."""
    fit = describe(fnn.fit)
    settings = {k: p for k, p in fit.parameters.items() if k not in _GIVEN_BY_THE_RUN}
    return {
        "split": describe(fnn.split),
        "train": Function(fit.name, fit.kind, fit.call, settings, fit.takes_data),
        "search": describe(search_settings),
    }


# --- checking -------------------------------------------------------------------------------------------


def _checked_section(table: dict[str, Any], wanted: str, path: str) -> Call:
    table = dict(table)
    if "use" not in table:
        raise ConfigError(path, f'which {wanted}? Write use = "…", with {_choice(wanted)}')
    return _checked_arguments(_function(table.pop("use"), wanted, f"{path}.use"), table, path)


def _space(table: Any, path: str) -> list[tuple[str, Call]]:
    """The distributions of a search by the paths of what they are for, which may be written as tables."""
    found = []
    for key, value in _table(table, f"search.space.{path}".rstrip(".")).items():
        here = f"{path}.{key}" if path else key
        inside = isinstance(value, dict) and not any(_is_distribution(*item) for item in value.items())
        if inside and value:
            found += _space(value, here)
        else:
            found.append((here, _checked_call(value, "distribution", f"search.space.{here}")))
    return found


def _is_distribution(name: str, arguments: Any) -> bool:
    """Whether a call is that of a distribution, or has its settings under a name that none has."""
    distributions = {f.name: f.parameters for f in functions().values() if f.kind == "distribution"}
    settings = {setting for parameters in distributions.values() for setting in parameters}
    given = set(arguments) if isinstance(arguments, dict) else set()
    return name in distributions or bool(given and given <= settings)


def _checked_call(value: Any, wanted: str, path: str) -> Call:
    """A name, or a table whose one key is a name and whose value are its arguments."""
    name, arguments = as_call(value, path, wanted)
    return _checked_arguments(_function(name, wanted, path), arguments, path)


def as_call(value: Any, path: str, wanted: str = "call") -> tuple[str, dict[str, Any]]:
    """The function's name and its arguments in either way of writing a call."""
    if isinstance(value, str):
        return value, {}
    if isinstance(value, dict) and len(value) == 1:
        ((name, arguments),) = value.items()
        return name, _table(arguments, f"{path}.{name}")
    raise ConfigError(
        path, f"{with_article(wanted)} is a name or a table with one name as its key, not {shown(value)}"
    )


def _checked_list(values: Any, wanted: str, parent: str, name: str) -> Calls:
    if not isinstance(values, list):
        raise ConfigError(
            f"{parent}.{name}", f"expected a list, each {with_article(wanted)}, not {shown(values)}"
        )
    keys = member_keys(values, f"{parent}.{name}", None if wanted == "layer" else name)
    return Calls(
        tuple(
            (key, _checked_call(value, wanted, f"{parent}.{key}"))
            for key, value in zip(keys, values, strict=True)
        )
    )


def member_keys(values: list[Any], path: str, name: str | None = None) -> list[str]:
    """The keys by which paths know the members of a list of calls.

    Layers have their own names, which their parameters have too; others are known by the list's name and
    their place in it, `transforms.0`.
    """
    if name is not None:
        return [f"{name}.{place}" for place in range(len(values))]
    count: Counter[str] = Counter()
    keys = []
    for place, value in enumerate(values):
        function, arguments = as_call(value, f"{path}.{place}", "layer")
        count[function] += 1
        keys.append(str(arguments.get("name") or f"{function}_{count[function]}"))
    return keys


def _checked_arguments(function: Function, given: dict[str, Any], path: str) -> Call:
    for key in given:
        if key not in function.parameters:
            owner = f"[{path}]" if path in tables_of_settings() else function.name
            raise ConfigError(
                f"{path}.{key}",
                f"{owner} has no such setting{nearest(key, [*function.parameters, *_BESIDE.get(path, ())])}",
            )
    arguments = []
    for name, parameter in function.parameters.items():
        if name in given:
            value = _checked_value(parameter, given[name], f"{path}.{name}")
        elif parameter.filled_in:
            continue
        elif parameter.required:
            raise ConfigError(path, f"{function.name} needs {name}, {describe_type(parameter.hint)}")
        else:
            value = _default(parameter, f"{path}.{name}")
        if isinstance(value, Calls) and parameter.wants == "layer":
            _check_names(value, function, path)
        arguments.append((name, value))
    return Call(function.name, tuple(arguments))


def _check_names(layers: Calls, function: Function, path: str) -> None:
    """See that each layer has a path of its own."""
    for name, _ in layers.items:
        if name in (*function.parameters, "use"):
            raise ConfigError(
                f"{path}.{name}", f"{name} is a setting of {function.name}; give the layer another name"
            )


def _checked_value(parameter: Parameter, value: Any, path: str) -> Any:
    if parameter.is_hyperparameter:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Number(float(_plain(value, float, path)))
        if not isinstance(value, str | dict):
            raise ConfigError(path, f"expected a number or a schedule, not {shown(value)}")
        if isinstance(value, str) and not value[:1].isalpha():  # as no name begins
            problem = f"expected a number or a schedule, not the string {shown(value)}"
            raise ConfigError(path, f"{problem}; write a number as 0.1, without quotes")
    if parameter.each is not None:
        if not isinstance(value, list):
            raise ConfigError(path, f"expected {describe_type(parameter.hint)}, not {shown(value)}")
        members = [_checked_value(parameter.each, v, f"{path}.{place}") for place, v in enumerate(value)]
        return tuple(members)
    if parameter.wants is None:
        return _plain(value, parameter.hint, path)
    if parameter.variadic:
        return _checked_list(value, parameter.wants, *path.rsplit(".", 1))
    return _checked_call(value, parameter.wants, path)


def _default(parameter: Parameter, path: str) -> Any:
    default = parameter.default
    if parameter.variadic:
        return Calls(())
    if callable(default):
        return _checked_arguments(functions()[default.__name__], {}, path)
    if parameter.is_hyperparameter:
        return Number(float(default))
    return default


def _plain(value: Any, hint: Any, path: str) -> Any:
    """Plain data of an annotated type, strict as JSON is: 3 is a number, "3" and true are not."""
    if value is None:
        return None
    try:
        text = json.dumps(value)
        plain = _adapter(hint).validate_json(text)
    except (ValidationError, TypeError) as error:
        raise ConfigError(path, f"expected {describe_type(hint)}, not {shown(value)}") from error
    if isinstance(plain, float) and plain and not _LEAST <= abs(plain) <= _MOST:
        raise ConfigError(
            path,
            f"expected a number that float32 can hold, 0 or of a size from 1.2e-38 to 3.4e38, not {plain}",
        )
    return plain


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))


def _function(name: Any, wanted: str, path: str) -> Function:
    if not isinstance(name, str):
        raise ConfigError(path, f"expected the name of {with_article(wanted)}, not {shown(name)}")
    function = functions().get(name)
    valid = [f.name for f in functions().values() if fits(f.kind, wanted)]
    if function is None:
        raise ConfigError(path, f"there is no {wanted} {shown(name)}{nearest(name, valid)}")
    if not fits(function.kind, wanted):
        problem = f"{name} is {with_article(function.kind)}, {with_article(wanted)} is wanted"
        raise ConfigError(path, problem + nearest(name, valid))
    return function


def _choice(wanted: str) -> str:
    return ", ".join(sorted(f.name for f in functions().values() if f.kind == wanted))


def _table(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(path, f"expected a table, not {shown(value)}")
    return dict(value)


def _no_others(table: dict[str, Any], valid: tuple[str, ...], path: str) -> None:
    for key in table:
        if key not in valid:
            where = f"{path}.{key}" if path else key
            raise ConfigError(where, f"there is no such key here{nearest(key, valid)}")


def shown(value: Any) -> str:
    """A value as a message has it, cut where it is long."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "…"


# --- writing --------------------------------------------------------------------------------------------


def _section(call: Call) -> dict[str, Any]:
    return {"use": call.function, **_arguments(call)}


def _arguments(call: Call) -> dict[str, Any]:
    return {name: _written(value) for name, value in call.arguments if value is not None}


def _written(value: Any) -> Any:
    if isinstance(value, Number):
        return value.value
    if isinstance(value, Calls):
        return [_written(call) for _, call in value.items]
    if isinstance(value, Call):
        arguments = _arguments(value)
        return {value.function: arguments} if arguments else value.function
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    return value
