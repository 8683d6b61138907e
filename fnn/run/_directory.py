"""The directory of a run: everything needed to repeat it, and everything that it found."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

import fnn
from fnn.run._config import Config, ConfigError

_PACKAGES = ("jax", "jaxlib", "numpy", "chex", "orbax-checkpoint", "pydantic")


def choose(config: Config) -> Path:
    """The directory that a run of this config would have.

    Raises:
        ConfigError: the one that it names exists.
    """
    if config.directory is not None:
        directory = Path(config.directory).expanduser()
        try:
            exists = directory.exists()
        except OSError as error:  # a name that is too long, a folder that may not be entered
            raise _cannot_make(directory, error) from error
        if exists:
            raise ConfigError("run.directory", f"{directory} exists; name another one, or remove it")
        return directory
    parent = Path("runs") / config.name
    taken = [int(child.name) for child in parent.glob("*") if child.name.isdecimal()]
    return parent / str(max(taken, default=0) + 1)


def create(directory: Path) -> None:
    """Make the directory of a new run.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        directory.mkdir(parents=True)
        (directory / "checkpoints").mkdir()
    except (OSError, ValueError) as error:
        raise _cannot_make(directory, error) from error


def _cannot_make(directory: Path, error: OSError | ValueError) -> ConfigError:
    problem = getattr(error, "strerror", None) or error
    return ConfigError("run.directory", f"cannot make the directory {directory}: {problem}; name another one")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
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


def save_checkpoints(directory: Path, fit: fnn.Fit) -> None:
    """Save the best and the last state of a run."""
    with ocp.StandardCheckpointer() as checkpointer:
        for name in ("best", "last"):
            state = getattr(fit, name)._asdict()
            checkpointer.save((directory / "checkpoints" / name).resolve(), state, force=True)


def load_checkpoint(directory: Path, name: str, like: fnn.TrainState) -> fnn.TrainState:
    """Read back a state.

    Args:
        directory: of the run.
        name: "best" or "last".
        like: a state of the same shapes, for instance from `jax.eval_shape`.

    Raises:
        ConfigError: there is none, or it is of another network.
    """
    path = (directory / "checkpoints" / name).resolve()
    if not path.is_dir():
        raise ConfigError(
            "", f"{directory} has no checkpoint {name!r}: its run ended before its first epoch did"
        )
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return fnn.TrainState(**checkpointer.restore(path, target._asdict()))
    except Exception as error:  # orbax raises a bare Exception where an array's data are damaged
        raise ConfigError("", f"the checkpoint {path} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 200 else f"{line[:199]}…"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The commit of the directory in which the run was started, "+" where files were changed."""
    try:
        run = lambda *command: subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: E731
        changed = "+" if run("git", "status", "--porcelain", "--untracked-files=no").strip() else ""
        return run("git", "rev-parse", "HEAD").strip() + changed
    except (OSError, subprocess.CalledProcessError):
        return None
