"""`fnn bench`: how long fnn's work takes on this device."""

from __future__ import annotations

import time
from json import dumps
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import fnn
from fnn.run._config import ConfigError
from fnn.run._directory import environment, writing
from fnn.run._workloads import WORKLOADS, Workload


def bench(names: tuple[str, ...], rounds: int, json: Path | None, console: Console) -> int:
    """Time workloads, print them as a table, and write them to a file where one is given.

    Raises:
        ConfigError: a name that is not a workload's, or a file that cannot be written.
    """
    for name in names:
        if name not in WORKLOADS:
            raise ConfigError("", f"there is no workload {name!r}; there are {', '.join(WORKLOADS)}")
    if json is not None and not json.parent.is_dir():
        raise ConfigError("", f"cannot write {json}: there is no directory {json.parent}")
    if json is not None:
        with writing(json), json.open("a"):  # before anything is measured for nothing
            pass
    mesh = fnn.mesh() if len(jax.devices()) > 1 else None
    device = f"{len(jax.devices())} × {jax.devices()[0].device_kind}"
    table = Table(title=f"fnn {fnn.__version__} on {device}", title_justify="left")
    for heading in ("workload", "what", "median", "quartiles", "first call"):
        table.add_column(heading, justify="left" if heading in ("workload", "what") else "right")
    results = {}
    for name in names or tuple(WORKLOADS):
        with console.status(name):
            results[name] = measured = measure(WORKLOADS[name], rounds, mesh)
        low, high = measured["quartiles_ms"]
        median, first = f"{measured['median_ms']:.3f} ms", f"{measured['first_s']:.1f} s"
        what = f"{WORKLOADS[name].what}: {WORKLOADS[name].unit}"
        table.add_row(name, what, median, f"{low:.3f} – {high:.3f}", first)
    console.print(table)
    if json is not None:
        found = {"environment": environment(), "rounds": rounds, "workloads": results}
        with writing(json):
            json.write_text(f"{dumps(found, indent=2)}\n", encoding="utf-8")
    return 0


def measure(workload: Workload, rounds: int, mesh: Any) -> dict[str, Any]:
    """Milliseconds per unit over a few rounds; the first call, which compiles, counts apart, in seconds."""
    start = time.perf_counter()
    run = workload.prepare(mesh)
    run()
    first = time.perf_counter() - start
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start) / workload.units)
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
    return {
        "unit": workload.unit,
        "median_ms": float(median),
        "quartiles_ms": [float(low), float(high)],
        "first_s": first,
        "all_ms": times,
    }
