"""An epoch: each example once, in an order of its own; and a population of runs as one program."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import softmax_regression

import fnn
from fnn.data import Examples
from fnn.train import Batch, Task, epoch_rows, init_state, train_epoch, train_step

KEY = jax.random.key(11)
SIZES = [  # examples, batch_size, chunk_steps, chunks
    (12, 4, 3, 1),
    (10, 4, 3, 1),
    (10, 4, 2, 2),
    (13, 2, 3, 3),
    (7, 7, 1, 1),
    (1, 1, 1, 1),
    (5, 4, 4, 1),
]


@pytest.mark.parametrize(("examples", "batch_size", "chunk_steps", "chunks"), SIZES)
def test_an_epoch_holds_every_example_once(
    examples: int, batch_size: int, chunk_steps: int, chunks: int
) -> None:
    rows, mask = epoch_rows(KEY, 2, examples=examples, batch_size=batch_size, chunk_steps=chunk_steps)
    assert rows.shape == mask.shape == (chunks, chunk_steps, batch_size)
    assert (rows.dtype, mask.dtype) == (jnp.int32, jnp.bool)
    assert sorted(np.asarray(rows)[np.asarray(mask)].tolist()) == list(range(examples))
    flat = np.asarray(mask).ravel()
    assert flat[:examples].all()
    assert not flat[examples:].any()
    assert np.all((np.asarray(rows) >= 0) & (np.asarray(rows) < examples))


def test_batches_of_no_examples_are_refused() -> None:
    examples = Examples(np.zeros((4, 3), np.float32), np.zeros(4, np.int32))
    make = softmax_regression.make
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        train_epoch(make, {}, None, examples, 0, batch_size=0)


def test_each_epoch_and_each_run_has_its_own_order() -> None:
    def order(key: Any, epoch: Any) -> list[int]:
        return epoch_rows(key, epoch, examples=50, batch_size=10, chunk_steps=5)[0].ravel().tolist()

    orders = [order(KEY, 0), order(KEY, 1), order(KEY, 2), order(jax.random.key(12), 0), list(range(50))]
    assert len({tuple(o) for o in orders}) == 5
    assert order(KEY, 1) == orders[1]
    assert order(KEY, jnp.int32(1)) == orders[1]


def test_the_order_of_the_examples_does_not_depend_on_the_batches() -> None:
    def order(batch_size: int, chunk_steps: int) -> list[int]:
        rows, mask = epoch_rows(KEY, 3, examples=23, batch_size=batch_size, chunk_steps=chunk_steps)
        return rows[mask].tolist()

    assert order(4, 6) == order(23, 1) == order(4, 2)


# --- training -------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(11, 3)).astype(np.float32)
Y = RANDOM.integers(0, 4, 11).astype(np.int32)
EXAMPLES = Examples(jnp.asarray(X), jnp.asarray(Y))


def task(hyperparameters: Any) -> Task:
    net = fnn.serial(
        fnn.linear(6, bias=False),  # whose gradient would be 0 but for rounding, which Adam would magnify
        fnn.batch_norm(),
        fnn.relu,
        fnn.dropout(hyperparameters["rate"]),
        fnn.linear(4),
    )
    return Task(
        net,
        fnn.softmax_cross_entropy,
        fnn.adam(hyperparameters["learning_rate"], b1=hyperparameters["b1"]),
        penalties=(partial(fnn.l2, strength=hyperparameters["strength"]),),
    )


def solo(values: Any, key: Any) -> tuple[Any, Any]:
    return train_epoch(task, values, init_state(task, values, key, X), EXAMPLES, 0, batch_size=4)


def test_an_epoch_is_its_steps_in_numpy() -> None:
    """Each batch, the last one smaller, is a step of gradient descent on its own examples."""
    settings = {"learning_rate": 0.3, "strength": 0.01}
    state = init_state(softmax_regression.make, settings, KEY, X)
    after, measured = jax.jit(partial(train_epoch, softmax_regression.make, batch_size=4))(
        settings, state, EXAMPLES, 6
    )
    order = np.asarray(epoch_rows(KEY, 6, examples=11, batch_size=11, chunk_steps=1)[0]).ravel()
    kernel, bias = softmax_regression.start((3, 4)), np.zeros(4)
    for number, some in enumerate((order[:4], order[4:8], order[8:])):
        expected = softmax_regression.measure(kernel, bias, X[some], Y[some], 0.01)
        np.testing.assert_allclose([leaf[number] for leaf in measured[:4]], (*expected, len(some)), rtol=1e-5)
        kernel, bias = softmax_regression.descend(kernel, bias, X[some], Y[some], 0.3, 0.01)
    np.testing.assert_allclose(after.params["kernel"], kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after.params["bias"], bias, rtol=1e-5, atol=1e-6)
    assert int(after.step) == 3


def test_an_epoch_is_its_steps_one_by_one() -> None:
    """Also where layers keep statistics and draw at random."""
    values = {"learning_rate": 0.05, "rate": 0.3, "b1": 0.8, "strength": 0.01}
    state = init_state(task, values, KEY, X)
    after, _ = jax.jit(partial(train_epoch, task, batch_size=4))(values, state, EXAMPLES, 1)
    rows, mask = epoch_rows(KEY, 1, examples=11, batch_size=4, chunk_steps=3)
    one_step = jax.jit(partial(train_step, task))
    for some, real in zip(rows[0], mask[0], strict=True):
        state, _ = one_step(values, state, Batch(X[some], Y[some], real))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        (after.params, after.state, after.opt_state),
        (state.params, state.state, state.opt_state),
    )


def test_a_population_is_its_runs() -> None:
    population = {
        "learning_rate": jnp.array([0.01, 0.1, 0.03]),
        "rate": jnp.array([0.0, 0.5, 0.2]),
        "b1": jnp.array([0.9, 0.0, 0.5]),
        "strength": jnp.array([0.0, 0.01, 0.1]),
    }
    keys = jnp.stack([KEY, KEY, jax.random.key(12)])
    together, measured = jax.jit(jax.vmap(solo))(population, keys)
    alone = jax.jit(solo)
    for member in range(3):
        state, expected = alone(jax.tree.map(lambda leaf, i=member: leaf[i], population), keys[member])
        jax.tree.map(
            lambda a, b, i=member: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5),
            (together.step, together.params, together.state, together.opt_state, measured),
            (state.step, state.params, state.state, state.opt_state, expected),
        )
    heads = np.asarray(together.params["linear_2"]["kernel"])
    assert np.abs(heads[0] - heads[1]).max() > 1e-2
