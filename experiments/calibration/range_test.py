"""Is the learning rate that `fnn check` suggests a good one?

    python experiments/calibration/range_test.py                # all shipped configs: half an hour
    python experiments/calibration/range_test.py digits_mlp

Every config is trained at 20 factors of its learning rate, 10⁻² to 10², as one population, and at the
suggested factor; the schedule keeps its shape. Large data sets are cut, and so are the epochs, by the table
below. Prints the validation accuracy of the best of the grid and of the suggestion, the mean of three seeds.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import fnn
from fnn.run._build import make_and_values
from fnn.run._check import check_config
from fnn.run._prepare import prepare
from fnn.run._read import read
from fnn.train._state import as_values
from fnn.tune._short_runs import scaled_optimizer

CONFIGS = Path(__file__).parents[2] / "configs"
SIZES = {  # training examples (a cut of Fashion-MNIST), epochs, seeds
    "digits_linear": (1150, 40, 3), "digits_mlp": (1150, 80, 3), "digits_cnn": (1150, 40, 3),
    "fashion_linear": (55_000, 15, 1), "fashion_mlp": (55_000, 15, 1), "fashion_cnn": (20_000, 8, 1),
    "fashion_resnet": (3200, 8, 1), "digits_search": (1150, 20, 3), "fashion_mlp_search": (55_000, 16, 1),
}  # fmt: skip
FACTORS = np.geomspace(1e-2, 1e2, 20)


@partial(jax.jit, static_argnums=(0, 5, 6, 7))
def accuracies(
    make: Any, values: Any, factors: Any, seeds: Any, data: Any, epochs: int, batch_size: int, how: str
) -> Any:
    """(factors,) the validation accuracy at the end of each run."""

    def run(member: tuple[Any, Any], train: Any, validation: Any, means: Any) -> Any:
        factor, seed = member

        def scaled(values: Any) -> fnn.Task:
            task = fnn.Task(*make(values))
            return task._replace(optimizer=scaled_optimizer(task.optimizer, factor))

        key = jax.random.key(seed)
        state = fnn.init_state(scaled, values, key, train.x[:1], means)

        def epoch(state: Any, number: Any) -> Any:
            return fnn.train_epoch(scaled, values, state, train, number, batch_size=batch_size)

        state, _ = lax.scan(epoch, state, jnp.arange(epochs))
        return fnn.evaluate(scaled, values, state, validation)["accuracy"]

    return fnn.over_population(run, how=how)((factors, seeds), *data)


def main() -> None:
    for name in sys.argv[1:] or SIZES:
        examples, epochs, seeds = SIZES[name]
        config = read(CONFIGS / f"{name}.toml")
        factor = check_config(config).suggested
        prepared = prepare(config)
        train = fnn.Examples(*(part[:examples] for part in prepared.data.train))
        batch_size = prepared.settings["batch_size"]
        steps = fnn.steps_of_run(len(train.x), epochs=epochs, batch_size=batch_size)
        make, values = make_and_values(config, steps)
        data = jax.tree.map(jnp.asarray, (train, prepared.data.validation, fnn.moments(train.x)))
        grid = jnp.repeat(jnp.array([*FACTORS, factor], jnp.float32), seeds)
        numbers = jnp.tile(jnp.arange(seeds, dtype=jnp.uint32), len(FACTORS) + 1)
        how = "map" if "cnn" in name or "resnet" in name else "vmap"
        found = accuracies(make, as_values(values), grid, numbers, data, epochs, batch_size, how)
        *reached, suggested = np.asarray(found).reshape(-1, seeds).mean(1)
        best = int(np.argmax(reached))
        print(
            f"{name:15} best {reached[best]:.3f} at {FACTORS[best]:.3g} times, suggested {suggested:.3f} at "
            f"{factor:.3g} times, behind by {100 * (reached[best] - suggested):.1f} points",
            flush=True,
        )


if __name__ == "__main__":
    main()
