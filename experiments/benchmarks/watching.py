"""What watching costs: the same chunk of training with and without `watch_every`, in turns.

    python experiments/benchmarks/watching.py      # a minute on two cores

Prints the ratio of medians, watched over plain, at the k that `fnn train` takes for a run of that length.
"""

import time
from statistics import median

import jax
import jax.numpy as jnp

import fnn
from fnn.run import _workloads as work
from fnn.train._fit import _chunk
from fnn.train._state import as_values

ROWS = {  # what is trained, steps of a chunk, every how many steps it is watched
    "cnn": (work.cnn, 50, 50),
    "mlp": (work.mlp_128, 500, 50),
    "deep": (work.deep_cnn, 6, 6),
}
ROUNDS = 7


def main() -> None:
    for name, (make, steps, every) in ROWS.items():
        examples = jax.device_put(work.images(steps * work.BATCH))
        rows = jnp.arange(steps * work.BATCH, dtype=jnp.int32).reshape(steps, work.BATCH)
        mask = jnp.ones(rows.shape, bool)
        states = {k: fnn.init_state(make, 1e-3, jax.random.key(0), examples.x[:1]) for k in (None, every)}
        seconds: dict = {k: [] for k in states}
        for number in range(ROUNDS + 1):
            for k in list(states)[:: 1 if number % 2 else -1]:
                start = time.perf_counter()
                states[k], measured = _chunk(
                    make, as_values(1e-3), states[k], examples, rows, mask, 0, watch_every=k
                )
                jax.block_until_ready((states[k], measured))
                seconds[k].append(time.perf_counter() - start)
        plain, watched = (median(times[1:]) for times in seconds.values())
        step = 1e3 * plain / steps
        print(f"{name:5} every {every:3} steps: {step:.3f} ms a step, watched {watched / plain:.3f} of it")


if __name__ == "__main__":
    main()
