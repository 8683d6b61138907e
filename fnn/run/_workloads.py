"""What `fnn bench` times: pieces of work that a user would wait for, at a size that takes about a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

import fnn
from fnn.train._fit import _chunk
from fnn.train._mesh import on_mesh, placed
from fnn.train._population import How, over_population
from fnn.train._state import as_values

BATCH = 128

Run = Callable[[], Any]


class Workload(NamedTuple):
    """A piece of work. `prepare(mesh)` returns a function that does it once, and waits until it is done."""

    what: str
    unit: str  # what a time is given for
    units: int  # how many of them one call does
    prepare: Callable[[Mesh | None], Run]


def cnn(hyperparameters: Any) -> tuple:
    """Two convolutions of 3×3 with max-pooling, two linear layers, Adam."""
    net = fnn.serial(
        fnn.conv(32, 3), fnn.relu, fnn.max_pool(2),
        fnn.conv(64, 3), fnn.relu, fnn.max_pool(2),
        fnn.flatten, fnn.linear(128), fnn.relu, fnn.linear(10),
    )  # fmt: skip
    return net, fnn.softmax_cross_entropy, fnn.adam(hyperparameters)


def deep_cnn(hyperparameters: Any) -> tuple:
    """Six convolutions of 3×3 with batch norm, the third of stride 2, Adam."""
    stages = ((32, 1), (32, 1), (64, 2), (64, 1), (128, 1), (128, 1))
    convolutions = [
        part
        for features, stride in stages
        for part in (fnn.conv(features, 3, stride=stride, bias=False), fnn.batch_norm(), fnn.relu)
    ]
    net = fnn.serial(*convolutions, fnn.global_avg_pool, fnn.linear(10))
    return net, fnn.softmax_cross_entropy, fnn.adam(hyperparameters)


def mlp(hidden: int, hyperparameters: Any) -> tuple:
    """One hidden layer, Adam."""
    net = fnn.serial(fnn.flatten, fnn.mlp((hidden,), 10))
    return net, fnn.softmax_cross_entropy, fnn.adam(hyperparameters)


mlp_128, mlp_64, mlp_32 = (partial(mlp, hidden) for hidden in (128, 64, 32))


def images(count: int) -> fnn.Examples:
    """Images (count, 28, 28, 1) of noise and their classes; time does not depend on what they show."""
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 28, 28, 1)).astype(np.float32)
    return fnn.Examples(x, random.integers(0, 10, count).astype(np.int32))


def digits() -> fnn.Examples:
    """1,797 examples of 64 features, the size of the data set of digits."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1797, 64)).astype(np.float32)
    return fnn.Examples(x, random.integers(0, 10, 1797).astype(np.int32))


def training(make: Callable, steps: int, mesh: Mesh | None) -> Run:
    """So many steps of one network in one chunk."""
    examples = images(steps * BATCH)
    rows = jnp.arange(steps * BATCH, dtype=jnp.int32).reshape(steps, BATCH)
    return chunk_of(make, examples, rows, jnp.ones(rows.shape, bool), mesh)


def epochs_of_digits(epochs: int, mesh: Mesh | None) -> Run:
    """Epochs in batches of 64, each in a new order, as one program."""

    def train(values: Any, state: Any, examples: fnn.Examples, call: int) -> Any:
        def epoch(state: Any, number: jax.Array) -> Any:
            return fnn.train_epoch(mlp_64, values, state, examples, number, batch_size=64)

        return lax.scan(epoch, state, call * epochs + jnp.arange(epochs))

    return _going_on(jax.jit(train, donate_argnums=1), mlp_64, digits(), mesh)


def chunk_of(
    make: Callable, examples: fnn.Examples, rows: jax.Array, mask: jax.Array, mesh: Mesh | None
) -> Run:
    """The steps of `rows`, each call from where the one before ended."""
    return _going_on(
        lambda values, state, examples, _: _chunk(make, values, state, examples, rows, mask, 0),
        make, examples, mesh,
    )  # fmt: skip


def _going_on(train: Callable, make: Callable, examples: fnn.Examples, mesh: Mesh | None) -> Run:
    """`train(values, state, examples, call)` again and again, each time from the state it returned."""
    with on_mesh(mesh):
        state = placed(fnn.init_state(make, 1e-3, jax.random.key(0), examples.x[:1]), mesh)
        examples = placed(examples, mesh)
        values = as_values(1e-3)
    calls = 0

    def run() -> Any:
        nonlocal state, calls
        calls += 1
        with on_mesh(mesh):
            state, metrics = train(values, state, examples, calls)
            return jax.block_until_ready((state, metrics))

    return run


def training_population(make: Callable, members: int, steps: int, on_cpu: How, mesh: Mesh | None) -> Run:
    """So many steps of many networks that differ in their learning rate, in one program.

    How is what `fnn.fastest` finds for these: `on_cpu` there, "vmap" on an accelerator.
    """
    how: How = on_cpu if jax.default_backend() == "cpu" else "vmap"
    examples = images(steps * BATCH)
    rows = jnp.arange(steps * BATCH, dtype=jnp.int32).reshape(steps, BATCH)
    mask = jnp.ones(rows.shape, bool)
    rates = jnp.geomspace(1e-4, 1e-2, members)
    start = jax.vmap(lambda rate, key: fnn.init_state(make, rate, key, examples.x[:1]))
    states = start(rates, jax.random.split(jax.random.key(0), members))
    if mesh is not None:
        mesh = fnn.mesh(population=mesh.size, devices=list(mesh.devices.ravel()))
        states = placed(states, mesh, "population")
    examples = placed(examples, mesh)

    def member(member: Any, *shared: Any) -> Any:
        return fnn.train_chunk(make, *member, *shared)

    def together(states: Any, rates: Any, *shared: Any) -> Any:
        return over_population(member, how=how)((rates, states), *shared)

    chunk = jax.jit(together, donate_argnums=0)

    def run() -> None:
        nonlocal states
        with on_mesh(mesh):
            states, metrics = chunk(states, rates, examples, rows, mask)
            jax.block_until_ready((states, metrics))

    return run


def inference(batch: int, calls: int, mesh: Mesh | None) -> Run:
    """Predictions for a batch, again and again, on one device; the program holds the parameters."""
    x = placed(images(batch).x, None)
    state = fnn.init_state(cnn, 1e-3, jax.random.key(0), x[:1])
    predict = jax.jit(lambda x: fnn.predict(cnn, 1e-3, state, x))

    def run() -> None:
        for _ in range(calls):
            jax.block_until_ready(predict(x))

    return run


WORKLOADS: dict[str, Workload] = {
    "cnn": Workload("train a CNN, batch 128", "step", 20, partial(training, cnn, 20)),
    "deep_cnn": Workload("train six convolutions, batch 128", "step", 3, partial(training, deep_cnn, 3)),
    "mlp": Workload("train an MLP 784-128-10, batch 128", "step", 500, partial(training, mlp_128, 500)),
    "digits_mlp": Workload(
        "train an MLP 64-64-10 on digits, batch 64", "epoch", 10, partial(epochs_of_digits, 10)
    ),
    "mlp_population": Workload(
        "train 64 MLPs 784-32-10, batch 128", "step of all", 20,
        partial(training_population, mlp_32, 64, 20, "vmap"),
    ),
    "cnn_population": Workload(
        "train 8 CNNs, batch 128", "step of all", 6, partial(training_population, cnn, 8, 6, "map")
    ),
    "inference_1": Workload("apply the CNN to 1 image", "call", 200, partial(inference, 1, 200)),
    "inference_1000": Workload("apply the CNN to 1,000 images", "call", 5, partial(inference, 1000, 5)),
}  # fmt: skip
