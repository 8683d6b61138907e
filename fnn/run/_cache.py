"""Compiled programs that outlive the process, so that the second start of a run does not compile again."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import jax


def use_compile_cache() -> Path | None:
    """Let JAX keep its compiled programs below the user's cache directory; a folder for each jaxlib.

    `JAX_COMPILATION_CACHE_DIR` decides where it is set, and `FNN_COMPILE_CACHE=0` switches the cache off. A
    directory that cannot be made, or that belongs to somebody else, is not used: programs from there would be
    run. Nor is there one for a user without a home.

    Returns:
        The directory that is in use; None without one.
    """
    if os.environ.get("FNN_COMPILE_CACHE") == "0":
        return None
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = Path(home) / "fnn" / f"jaxlib-{version('jaxlib')}"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if hasattr(os, "getuid") and directory.stat().st_uid != os.getuid():
            return None
        directory.chmod(0o700)
    except (OSError, RuntimeError):  # the latter where no home is known
        return None
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    return directory
