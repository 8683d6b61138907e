"""fnn: functional neural networks on JAX.

Every public name of the rooms `nn`, `optim`, `data`, `train` and `tune` is a name of `fnn` too. Names are
resolved when they are first used, so that importing `fnn` does not import JAX.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fnn._xla import apply_defaults

__version__ = "0.1.0"

xla_defaults = apply_defaults()
"""What importing fnn changed in XLA's settings, in words; runs record it."""

_ROOMS = ("nn", "optim", "data", "train", "tune")

if TYPE_CHECKING:
    from fnn import ops as ops
    from fnn.data import *
    from fnn.nn import *
    from fnn.optim import *
    from fnn.train import *
    from fnn.tune import *


def __getattr__(name: str) -> Any:
    if name in (*_ROOMS, "ops", "run"):
        return import_module(f"fnn.{name}")
    if not name.startswith("_"):
        for room in _ROOMS:
            module = import_module(f"fnn.{room}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'fnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    names = {name for room in _ROOMS for name in import_module(f"fnn.{room}").__all__}
    return sorted({*names, *_ROOMS, "ops", "run", "__version__", "xla_defaults"})
