"""fnn against other frameworks on the same work and the same cores.

    python experiments/benchmarks/compare.py                  # everything: about half an hour on two cores
    python experiments/benchmarks/compare.py cnn mlp          # some rows

Needs `pip install -e '.[run,peers]'`. Each side runs in a process of its own; the sides of a row take turns,
one round each, so that a busy moment of the machine hits all of them. The first call, with compilation, is
not in the medians; its time stands beside them. Writes the measurements with versions and flags to
docs/benchmarks, one file for each kind of device, and from that file the chart in docs/figures and the table:
a CPU's in README.md, another device's in docs/performance.md. Where there is a GPU, JAX and PyTorch both
compute on it, and multiply float32 in TensorFloat-32 on both sides: JAX's default, PyTorch's "high".
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "docs" / "benchmarks"
CORES = len(os.sched_getaffinity(0))

NAMES = {
    "fnn": "fnn, one device",
    "fnn_mesh": f"fnn, mesh of {CORES}",  # of a CPU's cores
    "torch": "PyTorch eager, channels_last",
    "torch_nchw": "PyTorch eager, NCHW",
    "torch_compiled": "PyTorch compiled",
    "flax": "Flax + Optax",
    "equinox": "Equinox + Optax",
    "sklearn": "scikit-learn",
    "torch_loader": "PyTorch script, DataLoader",
    "torch_tensor": "PyTorch script, data as one tensor",
}
ALL = "fnn fnn_mesh torch torch_nchw torch_compiled flax equinox"
# row: what is timed, the unit, how many units a round has, and the sides
ROWS = {
    "cnn": ("train a CNN, batch 128", "step", 20, ALL),
    "deep_cnn": ("train six convolutions, batch 128", "step", 3, "fnn fnn_mesh torch torch_compiled flax"),
    "mlp": ("train an MLP 784-128-10, batch 128", "step", 500, "fnn torch torch_compiled flax equinox"),
    "digits_mlp": ("train an MLP 64-64-10 on digits", "epoch", 10, "fnn torch flax sklearn"),
    "mlp_population": ("train 64 MLPs 784-32-10", "step of all", 20, "fnn fnn_mesh torch"),
    "cnn_population": ("train 8 CNNs", "step of all", 6, "fnn fnn_mesh flax"),
    "inference_1": ("apply the CNN to 1 image", "call", 200, "fnn torch torch_compiled flax"),
    "inference_1000": ("apply the CNN to 1,000 images", "call", 5, "fnn torch torch_compiled flax"),
    "process": ("3 epochs of fashion_cnn", "process", 1, "fnn torch_loader torch_tensor"),
}
ROUNDS = {"deep_cnn": 9, "cnn_population": 5, "mlp_population": 11, "process": 3}


def environment(side: str) -> dict[str, str]:
    """The mesh is one virtual device per core; no side takes the memory of a GPU from the others."""
    devices = {"JAX_NUM_CPU_DEVICES": str(CORES)} if side == "fnn_mesh" else {}
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **devices, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def device() -> str:
    """The kind of device that JAX computes on, as a name for files: `cpu`, `nvidia_h100_80gb_hbm3`."""
    command = [sys.executable, "-c", "import jax; print(jax.devices()[0].device_kind)"]
    kind = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=environment("fnn")
    ).stdout
    return re.sub("[^a-z0-9]+", "_", kind.strip().lower())


class Worker:
    """A process that does the work of one side whenever it is asked."""

    def __init__(self, side: str, row: str) -> None:
        command = [sys.executable, HERE / "worker.py", side.removesuffix("_mesh"), row]
        self.process = subprocess.Popen(
            command, env=environment(side), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = json.loads(self.process.stdout.readline())

    def seconds(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Command:
    """A whole process each time, from its start to its end."""

    def __init__(self, side: str, row: str) -> None:
        self.side, self.about = side, {"first": None, "versions": {}}

    def seconds(self) -> float:
        if self.side.startswith("fnn"):
            directory = ROOT / "runs" / f"benchmark_{time.time_ns()}"
            config = ROOT / "configs" / "fashion_cnn.toml"
            command = [Path(sys.executable).with_name("fnn"), "train", config, "train.epochs=3"]
            command.append(f'run.directory="{directory}"')
        else:
            command = [sys.executable, HERE / "torch_fashion_cnn.py", self.side.removeprefix("torch_")]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment(self.side), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{command[1]} failed")
        self.about["peak_mib"] = round(usage.ru_maxrss / 1024)
        return time.perf_counter() - start

    def stop(self) -> None:
        pass


def measure(row: str, rounds: int, sides: list[str]) -> dict:
    """Every side of a row, in turns."""
    what, unit, units, _ = ROWS[row]
    workers = {side: (Command if row == "process" else Worker)(side, row) for side in sides}
    seconds = {side: [] for side in workers}
    for number in range(rounds):
        for side in list(workers)[:: 1 if number % 2 else -1]:
            seconds[side].append(workers[side].seconds() / units)
    for worker in workers.values():
        worker.stop()
    measured = {}
    for side, values in seconds.items():
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        measured[side] = {**workers[side].about, "median": median, "quartiles": [low, high], "all": values}
        print(f"{row:16} {side:16} {1e3 * median:10.3f} ms  ({1e3 * low:.3f} – {1e3 * high:.3f})", flush=True)
    return {"what": what, "unit": unit, "sides": measured}


def machine() -> dict:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].partition(": ")[2] if cpu else platform.processor(),
        "cores": CORES,
        "python": platform.python_version(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }


def table(results: dict) -> str:
    """fnn's best side against each peer, in Markdown."""
    lines = ["| work | fnn | against | theirs | fnn ÷ theirs |", "|---|---:|---|---:|---:|"]
    for row in results["rows"].values():
        own = {side: m for side, m in row["sides"].items() if side.startswith("fnn")}
        best = min(own, key=lambda side: own[side]["median"])
        device = "" if len(own) == 1 else f" ({'mesh' if best == 'fnn_mesh' else 'one device'})"
        fnn = own[best]["median"]
        for side, m in row["sides"].items():
            if side not in own:
                lines.append(
                    f"| {row['what']}: {row['unit']} | {duration(fnn)}{device} | {NAMES[side]} "
                    f"| {duration(m['median'])} | **{fnn / m['median']:.2g}** |"
                )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def chart(results: dict, path: Path) -> None:
    """A group of bars for each row: time relative to fnn's best."""
    import matplotlib.pyplot as plt

    rows = results["rows"].values()
    sides = [side for side in NAMES if any(side in row["sides"] for row in rows)]
    colors = dict(zip(sides, plt.get_cmap("tab10").colors, strict=False))
    figure, axes = plt.subplots(figsize=(8, 1 + 0.23 * sum(len(row["sides"]) + 1.5 for row in rows)))
    y, ticks = 0.0, {}
    for row in rows:
        best = min(m["median"] for side, m in row["sides"].items() if side.startswith("fnn"))
        ticks[y - (len(row["sides"]) - 1) / 2] = f"{row['what']}:\n{row['unit']}"
        for side, m in row["sides"].items():
            axes.barh(y, m["median"] / best, 0.9, color=colors[side], label=NAMES[side])
            axes.text(m["median"] / best * 1.03, y, duration(m["median"]), va="center", fontsize=7)
            y -= 1
        y -= 1
    axes.set(xscale="log", xlabel="time, relative to fnn (less is better)", yticks=list(ticks))
    axes.set_yticklabels(ticks.values(), fontsize=8)
    axes.set_xlim(right=1.5 * axes.get_xlim()[1])  # room for the longest label
    axes.axvline(1, color="black", linewidth=0.8)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique, fontsize=7, ncols=3, loc="outside lower center")
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--rounds", type=int, help="how often each side has its turn; 3 to 15 by default")
    arguments = parser.parse_args()
    asked = arguments.rows
    unknown = [row for row in asked if row not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; the rows are {', '.join(ROWS)}")
    kind = device()
    file = RESULTS / f"{kind}.json"
    results = json.loads(file.read_text()) if asked and file.exists() else {"rows": {}}
    for row in asked or ROWS:
        sides = [
            side for side in ROWS[row][3].split() if kind == "cpu" or side not in ("fnn_mesh", "sklearn")
        ]
        results["rows"][row] = measure(row, arguments.rounds or ROUNDS.get(row, 15), sides)
        results["machine"] = machine()
        file.write_text(json.dumps(results, indent=1) + "\n")
    results["rows"] = {row: results["rows"][row] for row in ROWS if row in results["rows"]}
    print(table(results))
    publish(results, kind)


def publish(results: dict, kind: str) -> None:
    """The chart, and the table between its two marks."""
    chart(results, ROOT / "docs" / "figures" / f"benchmarks_{kind}.png")
    page = ROOT / "README.md" if kind == "cpu" else ROOT / "docs" / "performance.md"
    begin, end = f"<!-- benchmarks: {kind} -->\n", "<!-- /benchmarks -->"
    before, found, rest = page.read_text().partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{page.name} has no place for the table: {begin.strip()} and {end}")
    page.write_text(f"{before}{begin}{table(results)}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
