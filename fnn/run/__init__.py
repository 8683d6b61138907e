"""Config files, run directories and the command line; `fnn.run.load` reads a run back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnn.run._load import Run as Run
    from fnn.run._load import load as load

__all__ = ["Run", "load"]


def __getattr__(name: str) -> Any:  # so that `fnn --help` loads no JAX
    if name in __all__:
        try:
            from fnn.run import _load
        except ModuleNotFoundError as error:
            problem = f"fnn.run.{name} needs the package {error.name}: pip install 'fnn[run]'"
            raise ModuleNotFoundError(problem, name=error.name) from error
        return getattr(_load, name)
    raise AttributeError(f"module 'fnn.run' has no attribute {name!r}")
