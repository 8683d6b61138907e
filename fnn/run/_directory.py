"""The directory of a run: everything needed to repeat it, and everything that it found."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import rmtree
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from pydantic import TypeAdapter, ValidationError

import fnn
from fnn._tree import paths
from fnn.run._config import Config, ConfigError
from fnn.run._read import read

_PACKAGES = ("jax", "jaxlib", "numpy", "chex", "orbax-checkpoint", "pydantic")


def opened(path: str, overrides: tuple[str, ...], kind: str, marker: str) -> tuple[Config, Path | None]:
    """A config, and the directory where it has begun to run, if it has.

    Args:
        path: of a config, or of such a directory.
        overrides: `key=value`, for a config.
        kind: what is run, "run" or "search".
        marker: the file that the directory of one has.

    Raises:
        ConfigError: bad input; a directory in which something else has begun.
    """
    directory = Path(path)
    if os.path.isdir(directory):  # False for a name that is too long
        check_begun(directory, kind, marker)
        if overrides:
            raise ConfigError(overrides[0], f"{path} is a {kind} that has begun, where no key can be changed")
        return read(directory / "config.toml"), directory
    config = read(path, overrides)
    if config.directory is None:
        return config, None
    directory = _named(config.directory)
    if not os.path.isfile(directory / marker):
        return config, None
    if read(directory / "config.toml") != config:
        raise ConfigError(
            "run.directory", f"{directory} has a {kind} of another config; name another one, or remove it"
        )
    return config, directory


def check_begun(directory: Path, kind: str, marker: str) -> None:
    """Raise ConfigError where something is not the directory of what is run; see `opened`."""
    if (directory / marker).is_file():
        return
    if kind == "run" and (directory / "trials.jsonl").is_file():
        raise ConfigError(
            "",
            f"{directory} is the directory of a search, not of a run: its best run is {directory / 'best'}, "
            f"once the search has ended; fnn search {directory} goes on with it, or prints what it found",
        )
    raise ConfigError("", f"{directory} is not the directory of a {kind}: it has no {marker}")


def choose(config: Config) -> Path:
    """The directory that a run of this config would have.

    Raises:
        ConfigError: the one that it names exists; a path that checkpoints cannot have.
    """
    if config.directory is None:
        parent = Path("runs") / config.name
        taken = [int(child.name) for child in parent.glob("*") if child.name.isdecimal()]
        directory = parent / str(max(taken, default=0) + 1)
    else:
        directory = _named(config.directory)
        try:
            exists = directory.exists()
        except OSError as error:  # a name that is too long, a folder that may not be entered
            raise _cannot_make(directory, error) from error
        if exists:
            raise ConfigError("run.directory", f"{directory} exists; name another one, or remove it")
    try:
        os.path.abspath(directory).encode()
    except UnicodeEncodeError as error:
        problem = f"{os.path.abspath(directory)} is not UTF-8, as the path of a checkpoint has to be"
        raise ConfigError("run.directory", f"{problem}; name another one") from error
    return directory


def _named(directory: str) -> Path:
    """The directory that a config names.

    Raises:
        ConfigError: it is in the home directory of an unknown user.
    """
    try:
        return Path(directory).expanduser()
    except RuntimeError as error:
        problem = f"there is no home directory for {directory}; name another one"
        raise ConfigError("run.directory", problem) from error


def create(directory: Path, files: Mapping[str, str]) -> None:
    """Make the directory of a new run.

    Args:
        directory: that is not there yet.
        files: what it begins with, by name; the last is its marker, with which it can go on.

    Raises:
        ConfigError: it cannot be made.
        OSError: the files cannot be written; the directory is gone again then.
    """
    try:
        directory.mkdir(parents=True)
    except (OSError, ValueError) as error:
        raise _cannot_make(directory, error) from error
    try:
        (directory / "checkpoints").mkdir()
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError:
        rmtree(directory, ignore_errors=True)
        raise


def _cannot_make(directory: Path, error: OSError | ValueError) -> ConfigError:
    problem = getattr(error, "strerror", None) or error
    return ConfigError("run.directory", f"cannot make the directory {directory}: {problem}; name another one")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, default: dict[str, Any]) -> dict[str, Any]:
    """What a JSON file says, if it is there.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise ConfigError(str(path), f"this is not JSON: {error}; the file is damaged: remove it") from error
    if not isinstance(content, dict):
        raise ConfigError(str(path), "this is not a JSON object; the file is damaged: remove it")
    return content


def see_that_it_says(adapter: TypeAdapter[Any], content: Any, where: str, problem: str) -> None:
    """Raise ConfigError, a place and a problem, where what a file says is not what is written there."""
    try:
        adapter.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise ConfigError(where, problem) from error


def finite(tree: Any) -> Any:
    """The tree with null for numbers that JSON does not have."""
    if isinstance(tree, dict):
        return {name: finite(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def with_nan(tree: Any) -> Any:
    """What `finite` wrote, as it was."""
    if isinstance(tree, dict):
        return {name: with_nan(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [with_nan(value) for value in tree]
    return math.nan if tree is None else tree


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say that a file that people have named cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigError("", f"cannot write {path}: {error.strerror}; name another file") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def environment() -> dict[str, Any]:
    """What a run depends on beside its config."""
    return {
        "fnn": fnn.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "xla_defaults": fnn.xla_defaults,
        "command": " ".join(["fnn", *sys.argv[1:]]),
        "git": _git_revision(),
    }


def fingerprint(data: fnn.Splits) -> str:
    """A hash of all examples, which changes where a file or a split does."""
    found = blake2b(digest_size=8)
    for part in (data.train, data.validation, data.test):
        for array in map(np.ascontiguousarray, part):
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(array.data)
    return found.hexdigest()


class NotWritten(Exception):
    """What the machine cannot write: one sentence that says how to go on later."""


@contextmanager
def kept(directory: Path, command: str) -> Iterator[None]:
    """Say of files of a run or a search that fail how to go on later; what is written stays.

    Args:
        directory: of the run or search.
        command: what goes on with it.

    Raises:
        NotWritten: a full disk, for instance.
    """
    try:
        yield
    except OSError as error:  # which names no file where the disk is full
        problem = f"{error.filename or directory}: {error.strerror or error}"
        raise NotWritten(f"{problem}; {command} {directory} goes on when it can") from error


def save(path: Path, arrays: dict[str, Any], command: str) -> None:
    """Save a checkpoint.

    Args:
        path: where; what is there is replaced.
        arrays: a tree.
        command: what goes on from the checkpoint before.

    Raises:
        NotWritten: a full disk, for instance.
    """
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, arrays, force=True)
    except Exception as error:
        problem = f"the checkpoint {path} cannot be written: {_first_line(error)}"
        raise NotWritten(f"{problem}; {command} goes on when it can") from error


def save_checkpoints(directory: Path, fit: fnn.Fit) -> None:
    """Save the best and the last state of a run, each beside its former version and then in its place."""
    for name in ("best", "last"):
        path = _checkpoint(directory, name)
        new, old = path.with_name("new"), _former(path)
        save(new, getattr(fit, name)._asdict(), f"fnn train {directory}")
        if path.exists():
            rmtree(old, ignore_errors=True)
            path.rename(old)
        new.rename(path)
        rmtree(old, ignore_errors=True)


def checkpoint(directory: Path, name: str) -> Path:
    """Where a state is, if it is saved: its former version where the end came between two renames."""
    path = _checkpoint(directory, name)
    return _former(path) if _former(path).is_dir() and not path.is_dir() else path


def _checkpoint(directory: Path, name: str) -> Path:
    return (directory / "checkpoints" / name).resolve()


def _former(path: Path) -> Path:
    return path.with_name(f"{path.name}_former")


def load_checkpoint(directory: Path, name: str, like: fnn.TrainState) -> fnn.TrainState:
    """Read back a state.

    Args:
        directory: of the run.
        name: "best" or "last".
        like: a state of the same shapes, for instance from `jax.eval_shape`.

    Raises:
        ConfigError: there is none, or it is of another network.
    """
    path = checkpoint(directory, name)
    if not path.is_dir():
        raise ConfigError(
            "", f"{directory} has no checkpoint {name!r}: its run ended before it saved one; train it again"
        )
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), like)
    wanted = _shapes(target._asdict())
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            kept = _shapes(checkpointer.metadata(path).item_metadata.tree)
            if kept == wanted:
                return fnn.TrainState(**checkpointer.restore(path, target._asdict()))
    except Exception as error:  # orbax raises a bare Exception where an array's data are damaged
        remedy = (
            "remove it, and a run that was interrupted goes on after its best epoch"
            if name == "last"
            else "remove the checkpoints and the results.json of the run to train it from the start"
        )
        problem = f"the checkpoint {path} cannot be read: {_first_line(error)}"
        raise ConfigError("", f"{problem}; {remedy}") from error
    differing = [array for array in kept | wanted if kept.get(array) != wanted.get(array)]
    first = min(differing, key=lambda array: (not array.startswith("params/"), array))
    raise ConfigError(
        "",
        f"the checkpoint {path} is of another network: its {first} is {kept.get(first, 'absent')}, that of "
        f"the config {wanted.get(first, 'absent')}; change {directory / 'config.toml'} back",
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Of each array of a state but its key, of which orbax keeps the numbers."""
    return {name: tuple(leaf.shape) for name, leaf in paths(tree) if name != "key"}


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 120 else f"{line[:119]}…"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The commit of the directory in which the run was started, "+" where files were changed."""
    try:
        changed = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
        return _git("rev-parse", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
