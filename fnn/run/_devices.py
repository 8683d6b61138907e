"""How many devices a CPU is."""

from __future__ import annotations

import os

import jax


def one_device_per_core() -> None:
    """Let JAX see a device in each core of a CPU, on which the members of a population train side by side.

    It has no effect on GPUs and TPUs, nor where the number of CPU devices was set before.
    """
    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if jax.config.jax_num_cpu_devices <= 0 and not told:  # type: ignore[attr-defined]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", cores)
