"""Which public functions a config file can call: all that make something of a known kind.

The kind of a function is what it returns, a `Layer`, an `Optimizer`, …, or where it takes data itself, the
types of that data. A function is usable from a config file the moment it is exported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from fnn._types import Array, DType, Hyperparameter, Initializer, Key, Metric, Params, Schedule, Shape
from fnn.data import Dataset, Mixed, Visit
from fnn.nn import Layer
from fnn.optim import Group, Optimizer
from fnn.tune import Distribution, Method

_MADE = {
    Layer: "layer",
    Optimizer: "optimizer",
    Group: "parameter group",
    Schedule: "schedule",
    Dataset: "data set",
    Distribution: "distribution",
    Method: "search method",
}
_TAKEN: dict[tuple[tuple[Any, ...], Any], str] = {
    ((Array,), Array): "activation",
    ((Array, Array), Array): "loss",
    ((Array, Array), Metric): "metric",
    ((Params,), Array): "penalty",
    ((Key, Array), Array): "augmentation",
    ((Key, Array), Mixed): "augmentation",
    ((Key, Array, Visit), Array): "augmentation",
    ((Key, Shape, DType), Array): "initializer",
}
_WANTED = {
    made: _MADE.get(made, "initializer")
    for made in (Layer, Optimizer, Group, Initializer, Schedule, Distribution, Method)
}
KINDS = tuple(dict.fromkeys([*_MADE.values(), *_TAKEN.values()]))


@dataclass(frozen=True)
class Parameter:
    """One setting of a function: an argument that is not data."""

    name: str
    hint: Any
    default: Any  # inspect.Parameter.empty: required
    variadic: bool

    @property
    def required(self) -> bool:
        """Whether a call must give it."""
        return self.default is inspect.Parameter.empty and not self.variadic

    @property
    def filled_in(self) -> bool:
        """Whether it is the length of the run, which is known later, so that a config may leave it out."""
        return self.required and self.name == "steps"

    @property
    def wants(self) -> str | None:
        """The kind of call that this argument takes; None where it is plain data."""
        members = _members(self.hint)
        return next((kind for made, kind in _WANTED.items() if made in members), None)

    @property
    def is_hyperparameter(self) -> bool:
        """Whether it is a value that training may be given without compiling again."""
        return set(_members(Hyperparameter)) <= set(_members(self.hint))

    @property
    def each(self) -> Parameter | None:
        """One of a list of hyperparameters, as the values of `piecewise` are; None for anything else."""
        members = get_args(self.hint)
        if members == (Hyperparameter, Ellipsis):
            return replace(self, hint=Hyperparameter)
        return None


@dataclass(frozen=True)
class Function:
    """A public function as a config file sees it."""

    name: str
    kind: str
    call: Callable[..., Any]
    parameters: dict[str, Parameter]
    takes_data: bool

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.call) or "").partition("\n")[0]


@cache
def functions() -> dict[str, Function]:
    """Every public function of a known kind, by name."""
    found = {}
    for room in ("nn", "optim", "data", "tune"):
        module = import_module(f"fnn.{room}")
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isfunction(member) and (function := describe(member)).kind:
                found[name] = function
    return found


def describe(function: Callable[..., Any]) -> Function:
    """The kind and the settings of any annotated function."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    data = tuple(hints[p.name] for p in parameters if p.kind is p.POSITIONAL_ONLY)
    returns = hints.get("return")
    kind = _TAKEN.get((data, returns)) if data else _MADE.get(_hashable(returns))
    if kind == "activation" and not function.__module__.endswith("activations"):
        kind = "layer"  # a plain function of one array, as flatten is
    settings = {
        p.name: Parameter(p.name, hints[p.name], p.default, p.kind is p.VAR_POSITIONAL)
        for p in parameters
        if p.kind is not p.POSITIONAL_ONLY
    }
    if any(_is_code(p) for p in settings.values()):
        kind = None
    return Function(function.__name__, kind or "", function, settings, bool(data))


def fits(kind: str, wanted: str) -> bool:
    """Whether a function of one kind may stand where another is wanted: an activation is a layer."""
    return kind == wanted or (wanted == "layer" and kind == "activation")


def nearest(name: str, valid: Any) -> str:
    """The end of an error message about an unknown name."""
    valid = sorted(set(valid))
    close = get_close_matches(name, valid, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(valid) or 'none'}"


def with_article(kind: str) -> str:
    """One of a kind: "a layer", "an optimizer"."""
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def describe_type(hint: Any) -> str:
    """An annotation in words, as a config file would meet it."""
    simple: dict[Any, str] = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a string",
        Any: "any value",
    }
    simple |= {made: with_article(kind) for made, kind in _WANTED.items()}
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is Annotated:
        return describe_type(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return " or ".join(f'"{value}"' for value in get_args(hint))
    if hint == Sequence[Any]:
        return "a list"
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if items[-1] is Ellipsis:
            return f"a list, each {describe_type(items[0])}"
        return "[" + ", ".join(map(describe_type, items)) + "]"
    members = [m for m in _members(hint) if m not in (NoneType, Array)]
    if Layer in members:
        return simple[Layer]  # or a plain function, which no config has
    if members == [hint]:
        return str(hint)
    return " or ".join(map(describe_type, members))


def _members(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in (Union, UnionType):
        return get_args(hint)
    return (hint,)


def _hashable(hint: Any) -> Any:
    try:
        hash(hint)
    except TypeError:
        return None
    return hint


def _is_code(parameter: Parameter) -> bool:
    """Whether an argument takes a function of no known kind, which a config file cannot write."""
    callables = [m for m in _members(parameter.hint) if get_origin(m) is get_origin(Schedule)]
    return bool(callables) and parameter.wants is None
