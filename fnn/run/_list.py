"""`fnn list`: what a config file can call."""

from __future__ import annotations

from fnn.run._registry import KINDS, Function, Parameter, functions

_LEGEND = (
    "~ marks a hyperparameter: a number or a schedule, which may change without compiling again; "
    "steps=… is the length of the run, unless given."
)


def listing() -> str:
    """Every function by kind, with its settings and the first line of its docstring."""
    lines = [_LEGEND]
    for kind in KINDS:
        members = sorted((f for f in functions().values() if f.kind == kind), key=lambda f: f.name)
        lines += ["", _plural(kind)]
        for function in members:
            lines += [f"  {_signature(function)}", f"      {function.summary}"]
    return "\n".join(lines)


def _plural(kind: str) -> str:
    return {"loss": "losses", "penalty": "penalties"}.get(kind, f"{kind}s")


def _signature(function: Function) -> str:
    return f"{function.name}({', '.join(map(_setting, function.parameters.values()))})"


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
