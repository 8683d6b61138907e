"""`fnn list`: what a config file can set and call."""

from __future__ import annotations

from fnn.run._config import tables_of_settings
from fnn.run._registry import KINDS, Function, Parameter, functions

_LEGEND = (
    "~ marks a hyperparameter: a number or a schedule, which may change without compiling again; "
    "steps=… is the length of the run, unless given."
)
_LISTS = (
    "[train] has the lists augment, metrics and freeze too, [loss] penalties, [search] the table space; "
    "[data], [model], [loss] and [optimizer] name what they use and give its settings."
)


def listing() -> str:
    """Every table and every function by kind, with its settings and the first line of its docstring."""
    lines = [_LEGEND, "", "tables"]
    for table, function in tables_of_settings().items():
        lines += [f"  [{table}] {_settings(function)}", f"      {function.summary}"]
    lines += [f"  {_LISTS}"]
    for kind in KINDS:
        members = sorted((f for f in functions().values() if f.kind == kind), key=lambda f: f.name)
        lines += ["", _plural(kind)]
        for function in members:
            lines += [f"  {_signature(function)}", f"      {function.summary}"]
    return "\n".join(lines)


def _plural(kind: str) -> str:
    return {"loss": "losses", "penalty": "penalties"}.get(kind, f"{kind}s")


def _signature(function: Function) -> str:
    return f"{function.name}({_settings(function)})"


def _settings(function: Function) -> str:
    return ", ".join(map(_setting, function.parameters.values()))


def _setting(parameter: Parameter) -> str:
    name = parameter.name + "~" * (parameter.is_hyperparameter or parameter.each is not None)
    if parameter.variadic:
        return f"{name}=[…]"
    if parameter.filled_in:
        return f"{name}=…"
    if parameter.required:
        return name
    default = parameter.default
    return f"{name}={default.__name__ if callable(default) else repr(default)}"
