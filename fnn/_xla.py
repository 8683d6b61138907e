"""What fnn sets in XLA before JAX starts, and why."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

_FLAG = "--xla_cpu_experimental_ynn_fusion_type="


def apply_defaults() -> str:
    """Switch off XLA's YNNPACK fusion on CPU where it is on by default, and say what was done.

    It is on from jaxlib 0.10.2, where it gave wrong results (jax issue 39103), and has an open data race
    (tensorflow issue 126812). `XLA_FLAGS` that mention it, a backend that is already up, and
    `FNN_XLA_DEFAULTS=0` leave everything as it is.
    """
    if os.environ.get("FNN_XLA_DEFAULTS") == "0":
        return "left alone: FNN_XLA_DEFAULTS=0"
    if tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 11):
        return "left alone: this jaxlib does not need any"
    flags = os.environ.get("XLA_FLAGS", "")
    if "ynn_fusion" in flags:
        return "left alone: XLA_FLAGS decides about YNNPACK"
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is not None and bridge.backends_are_initialized():
        return "left alone: JAX had already started; import fnn first to switch YNNPACK fusion off"
    os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}".strip()
    return "YNNPACK fusion switched off"
