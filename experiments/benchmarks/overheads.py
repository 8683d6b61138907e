"""What surrounds the arithmetic: start, import, compilation, and whether a long run stays as it began.

    python experiments/benchmarks/overheads.py        # two minutes on two cores

Each figure is a median of several processes; where two are compared, they take turns.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
FNN = Path(sys.executable).with_name("fnn")

IMPORT_PEERS = "import jax, chex"
IMPORT_FNN = "import fnn; fnn.adam(1e-3)"

COMPILE = """
import json, time, jax, jax.numpy as jnp
from fnn.run._workloads import BATCH, WORKLOADS, images
import fnn.run._workloads as w
from fnn.train._fit import _chunk
from fnn.train._state import as_values
import fnn
examples = jax.device_put(images(20 * BATCH))
rows = jnp.arange(20 * BATCH, dtype=jnp.int32).reshape(20, BATCH)
state = fnn.init_state(w.cnn, 1e-3, jax.random.key(0), examples.x[:1])
arguments = (w.cnn, as_values(1e-3), state, examples, rows, jnp.ones(rows.shape, bool), 0)
start = time.perf_counter()
lowered = _chunk.lower(*arguments)
middle = time.perf_counter()
lowered.compile()
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""

LONG = """
import json, resource, time
from pathlib import Path
import jax
from fnn.run._workloads import WORKLOADS
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
run = WORKLOADS["digits_mlp"].prepare(None)
for _ in range(10):
    run()
steps_per_call, lines, calls = 29, [], 0
for target in (1_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000):
    begun, first = time.perf_counter(), calls
    while calls * steps_per_call < target:
        run()
        calls += 1
    each = (time.perf_counter() - begun) / ((calls - first) * steps_per_call)
    lines.append([target, 1e6 * each, resident()])
print(json.dumps(lines))
"""


def seconds(command: list, **environment: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def printed(code: str) -> list:
    """What a process prints as JSON that runs this code."""
    return json.loads(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    )


def main() -> None:
    seconds([FNN, "--help"])
    helps = [seconds([FNN, "--help"]) for _ in range(9)]
    print(f"fnn --help: {median(helps):.3f} s")

    pairs = [
        [seconds([sys.executable, "-c", code]) for code in (IMPORT_PEERS, IMPORT_FNN)] for _ in range(11)
    ]
    peers, own = (median(times) for times in zip(*pairs, strict=True))
    print(f"{IMPORT_PEERS}: {peers:.3f} s; {IMPORT_FNN}: {own:.3f} s, {1e3 * (own - peers):.0f} ms more")

    lower, compile_ = zip(*(printed(COMPILE) for _ in range(3)), strict=True)
    print(
        f"the CNN's chunk: traced and lowered in {median(lower):.2f} s, compiled in {median(compile_):.2f} s"
    )

    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as runs:
        command = [FNN, "train", ROOT / "configs" / "digits_cnn.toml", "train.epochs=1"]
        starts = [
            seconds([*command, f'run.directory="{runs}/{number}"'], XDG_CACHE_HOME=cache)
            for number in range(4)
        ]
    print(f"digits_cnn for one epoch: first start {starts[0]:.1f} s, later {median(starts[1:]):.1f} s")

    print("digits MLP:  steps   µs a step   resident MiB")
    for steps, each, resident in printed(LONG):
        print(f"{steps:18,} {each:11.1f} {resident:14.0f}")


if __name__ == "__main__":
    main()
