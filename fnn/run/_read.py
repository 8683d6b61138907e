"""A config file, and what a command line or a search replaces in it before it is checked."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fnn.run._config import Config, ConfigError, as_call, check, member_keys, shown
from fnn.run._registry import fits, functions, nearest

_TOO_DEEP = "its brackets are nested too deep to be read"


def read(path: str | Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read, override and check a config file.

    Args:
        path: of a TOML file.
        overrides: `key=value`, with dotted keys; see `override`.

    Raises:
        ConfigError: one sentence about the first thing that is wrong, which names the file and the key.
    """
    path = Path(path)
    try:
        raw = _loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError("", f"there is no config file {path}") from error
    except OSError as error:
        raise ConfigError("", f"cannot read the config file {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(str(path), f"this is not TOML: {error}") from error
    try:
        raw = _with_whole_path(override(raw, *overrides))
        return replace(check(raw, name=path.stem), source=str(path))
    except ConfigError as error:
        raise ConfigError(str(path), str(error)) from error
    except RecursionError as error:
        raise ConfigError(str(path), _TOO_DEEP) from error


def _loads(text: str) -> dict[str, Any]:
    """What TOML says.

    Raises:
        ValueError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # of Python
        raise ValueError("an integer has thousands of digits") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def _with_whole_path(raw: dict[str, Any]) -> dict[str, Any]:
    """The path of the data from the root on, so that a run finds them from every working directory."""
    data = raw.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("path"), str):
        return raw
    return {**raw, "data": {**data, "path": os.path.abspath(os.path.expanduser(data["path"]))}}


# --- replacing -----------------------------------------------------------------------------------------


def override(raw: dict[str, Any], *texts: str) -> dict[str, Any]:
    """Replace values of a config that is not checked yet.

    Args:
        raw: the config as TOML gave it; it is not changed.
        texts: `key=value`. The key is a dotted path through tables, list places and layers' names, as in
            `optimizer.learning_rate=3e-3` or `model.head.features=20`. The value is TOML; a bare word is a
            string. `optimizer=adam` replaces the function and keeps the settings that both have.

    Raises:
        ConfigError: a path that leads nowhere.
    """
    return all_replaced(raw, map(_parsed, texts))


def _parsed(text: str) -> tuple[str, Any]:
    """The key of an override, and the value."""
    key, equals, written = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(text, "an override is key=value, such as optimizer.learning_rate=3e-3")
    try:
        (value,) = _loads(f"value = {written}").values()
    except ValueError:  # not TOML, or more than one line of it
        value = written.strip()
        if not value or any(character in value for character in "[]{}\"'\n"):
            raise ConfigError(
                key,
                f"the value {shown(written)} is not TOML; a string stands in quotes, '{key.strip()}=\"…\"'",
            ) from None
    return key.strip(), value


def all_replaced(raw: dict[str, Any], values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Several values replaced, one after the other, by the names that layers have in `raw`.

    The name of a layer without one is its function and a number, which change where layers are replaced. What
    leads into a replaced value leads into the new one.
    """
    changed = _named(raw)
    for key, value in values:
        names = key.split(".")
        if len(names) == 1 and isinstance(value, str) and isinstance(changed.get(key), dict):
            value = _other_function(changed[key], value)
        changed = _replaced(changed, names, value, "")
    return _unnamed(changed)


class _Named(list[Any]):
    """A list whose members keep the names that they had at first, whatever replaces them."""

    def __init__(self, members: Iterable[Any], names: list[str]) -> None:
        super().__init__(members)
        self.names = names


def _named(node: Any) -> Any:
    """A copy in which every list is a `_Named`."""
    if isinstance(node, dict):
        return {key: _named(value) for key, value in node.items()}
    return _Named(map(_named, node), _layers(node)) if isinstance(node, list) else node


def _unnamed(node: Any) -> Any:
    """A copy in which every list is a plain one."""
    if isinstance(node, dict):
        return {key: _unnamed(value) for key, value in node.items()}
    return [*map(_unnamed, node)] if isinstance(node, list) else node


def _other_function(table: dict[str, Any], name: str) -> dict[str, Any]:
    """A section that uses another function, with the settings that this one has too."""
    function = functions().get(name)
    kept = {*(function.parameters if function else table), "penalties"} - {"use"}
    return {"use": name, **{key: value for key, value in table.items() if key in kept}}


def _replaced(node: Any, names: list[str], value: Any, path: str) -> Any:
    """A copy of `node` in which what the names lead to is `value`."""
    if not names:
        return value
    name, rest = names[0], names[1:]
    here = f"{path}.{name}" if path else name
    if isinstance(node, dict):
        node = _with_default(node.get("use"), node, name)
        if _means_setting(node, names):
            return {name: _replaced(node[name], names, value, path)}
        for length in range(len(names), 0, -1):  # the longest key first: those of a search's space have dots
            key = ".".join(names[:length])
            if key in node:
                inside = _replaced(node[key], names[length:], value, f"{path}.{key}" if path else key)
                return {**node, key: inside}
        for key, members in node.items():  # a layer by its name
            if isinstance(members, list) and name in _layers(members):
                return {**node, key: _replaced(members, names, value, path)}
        if len(node) == 1 and isinstance(next(iter(node.values())), dict):  # through a call's own name
            ((function, arguments),) = node.items()
            if function in functions():
                return {function: _replaced(_with_default(function, arguments, name), names, value, path)}
        if rest and path:
            raise ConfigError(here, f"there is nothing of this name to override{nearest(name, _parts(node))}")
        return {**node, name: _replaced({}, rest, value, here)}
    if isinstance(node, list):
        layers = _layers(node)
        keys = layers if name in layers else [*map(str, range(len(node)))]
        if name not in keys:
            near = nearest(name, _parts(node, path.rpartition(".")[2]))
            raise ConfigError(here, f"there is nothing of this name to override{near}")
        place = keys.index(name) % len(node)
        members = [*node[:place], _replaced(node[place], rest, value, here), *node[place + 1 :]]
        return _Named(members, node.names) if isinstance(node, _Named) else members
    if isinstance(node, str) and node in functions():
        return {node: _replaced(_with_default(node, {}, name), names, value, path)}
    raise ConfigError(here, f"{path} is {shown(node)}, which has no parts to override")


def _means_setting(node: dict[str, Any], names: list[str]) -> bool:
    """Whether the names lead into a call of their first to the setting of its own name, as in `momentum`."""
    function, arguments = functions().get(names[0]), node.get(names[0])
    return (
        function is not None
        and len(node) == 1
        and isinstance(arguments, dict)
        and {names[0], *arguments} <= {*function.parameters}
        and not {*names[1:2]} & {*function.parameters}
    )


def _with_default(function: Any, arguments: dict[str, Any], name: str) -> dict[str, Any]:
    """The arguments with that one written out where its default is a call, so that paths lead into it."""
    if not isinstance(function, str) or function not in functions() or name in arguments:
        return arguments
    parameter = functions()[function].parameters.get(name)
    if parameter is None or parameter.required or not callable(parameter.default):
        return arguments
    return {**arguments, name: parameter.default.__name__}


def _parts(node: Any, key: str = "") -> list[str]:
    """What can be overridden in a table, or in a list that has this key there."""
    if isinstance(node, dict):
        lists = [(name, value) for name, value in node.items() if isinstance(value, list)]
        return [*node, *(part for name, members in lists for part in _parts(members, name))]
    return _layers(node) or [f"{key}.{place}" for place in range(len(node))]


def _layers(members: list[Any]) -> list[str]:
    """The names of layers; none where a list holds something else."""
    if isinstance(members, _Named):
        return [*members.names, *_layers([*members])]  # the first names come before those of now
    try:
        keys = member_keys(members, "")
        called = [functions().get(as_call(member, "")[0]) for member in members]
    except ConfigError:
        return []
    return keys if any(function is None or fits(function.kind, "layer") for function in called) else []
