"""What a run measures of itself while it trains."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import softmax_regression

import fnn
from fnn.train import Batch, train_step

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 3)).astype(np.float32)
Y = RANDOM.integers(0, 4, 24).astype(np.int32)
VALUES = {"learning_rate": 0.2, "strength": 0.0}


def test_ratio_and_norm_are_those_of_softmax_regression_in_numpy() -> None:
    state = fnn.init_state(softmax_regression.make, VALUES, jax.random.key(0), X)
    mask = np.ones(24, bool)
    _, metrics = train_step(softmax_regression.make, VALUES, state, Batch(X, Y, mask), watched=True)
    kernel = softmax_regression.start((3, 4))
    p = np.exp(X @ kernel) / np.exp(X @ kernel).sum(1, keepdims=True)
    error = (p - np.eye(4)[Y]) / 24
    gradient, of_bias = X.T @ error, error.sum(0)
    assert metrics.watched is not None
    ratio = metrics.watched.update_ratio
    assert float(ratio["kernel"]) == pytest.approx(
        0.2 * np.linalg.norm(gradient) / np.linalg.norm(kernel), rel=1e-4
    )
    assert np.isnan(ratio["bias"])  # it starts at zero
    whole = np.sqrt(np.sum(gradient**2) + np.sum(of_bias**2))
    assert float(metrics.watched.grad_norm) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("real", [24, 10])
def test_purity_is_the_share_of_pairs_of_one_class(real: int) -> None:
    state = fnn.init_state(softmax_regression.make, VALUES, jax.random.key(0), X)
    mask = np.arange(24) < real
    _, metrics = train_step(softmax_regression.make, VALUES, state, Batch(X, Y, mask), watched=True)
    pairs = sum(n * (n - 1) for n in Counter(Y[:real].tolist()).values())
    assert metrics.watched is not None
    assert float(metrics.watched.batch_purity) == pytest.approx(pairs / (real * (real - 1)))


def fitted(batch_size: int = 5, **settings: Any) -> tuple[fnn.Fit, list[dict[str, Any]]]:
    data = fnn.Splits(
        fnn.Examples(X, Y), fnn.Examples(X[:8], Y[:8]), fnn.Examples(X[:0], Y[:0]), tuple("abcd"), "x"
    )
    records: list[dict[str, Any]] = []
    fit = fnn.fit(
        softmax_regression.make, VALUES, data, epochs=3, batch_size=batch_size,
        report=lambda progress: records.extend(progress.watched), **settings,
    )  # fmt: skip
    return fit, records


@pytest.mark.cpu  # elsewhere the compiler rounds the watched program otherwise
def test_watching_changes_no_bit_of_a_run() -> None:
    plain, nothing = fitted()
    watched, records = fitted(watch_every=1)
    assert nothing == []
    assert len(records) == 15
    jax.tree.map(
        np.testing.assert_array_equal, plain.last._replace(key=None), watched.last._replace(key=None)
    )
    assert plain.history == watched.history


def test_watching_takes_no_step_more_where_chunks_do_not_end_with_the_epoch(monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "fnn.train._fit._CHUNK_STEPS", 3
    )  # 12 steps an epoch: four chunks, or three of 4 steps
    plain, _ = fitted(batch_size=2)
    for every in (2, 3):
        watched, _ = fitted(batch_size=2, watch_every=every)
        assert int(watched.last.step) == int(plain.last.step) == 36
        assert watched.history == plain.history


def test_a_chunk_that_diverges_is_reported_whole() -> None:
    data = fnn.Splits(
        fnn.Examples(X, Y), fnn.Examples(X[:8], Y[:8]), fnn.Examples(X[:0], Y[:0]), tuple("abcd"), "x"
    )
    values = {**VALUES, "learning_rate": fnn.piecewise([7], [0.1, 1e38])}
    with pytest.raises(fnn.Diverged) as raised:
        fnn.fit(softmax_regression.make, values, data, epochs=3, batch_size=5, watch_every=2)
    progress = raised.value.progress
    assert (progress.epoch, progress.step, raised.value.step) == (2, 10, 9)
    assert (progress.losses > 1e30).tolist() == [False, False, False, True, True]  # steps 6 to 10
    assert [record["step"] for record in progress.watched] == [5, 7, 9]


def test_a_large_batch_has_the_purity_of_its_first_256() -> None:
    x, y = np.zeros((600, 3), np.float32), np.zeros(600, np.int32)
    y[256:] = 1
    state = fnn.init_state(softmax_regression.make, VALUES, jax.random.key(0), x)
    _, metrics = train_step(
        softmax_regression.make, VALUES, state, Batch(x, y, np.ones(600, bool)), watched=True
    )
    assert metrics.watched is not None
    assert float(metrics.watched.batch_purity) == pytest.approx(1, abs=1e-6)


def test_every_kth_step_of_the_run_leaves_a_record() -> None:
    _, each = fitted(watch_every=1)
    _, records = fitted(watch_every=4)
    assert [record["step"] for record in records] == [0, 4, 5, 9, 10, 14], "from the first of each epoch"
    for record in records:
        alike = each[record["step"]]
        assert record["batch_purity"] == alike["batch_purity"]
        assert record["update_ratio"] == pytest.approx(alike["update_ratio"], nan_ok=True)
    assert set(records[0]["update_ratio"]) == {"kernel", "bias"}


def test_a_population_is_watched_member_by_member() -> None:
    rows, mask = jnp.arange(24, dtype=jnp.int32).reshape(4, 6), jnp.ones((4, 6), bool)
    examples = fnn.Examples(X, Y)

    def member(rate: Any) -> Any:
        values = {**VALUES, "learning_rate": rate}
        state = fnn.init_state(softmax_regression.make, values, jax.random.key(0), X)
        _, metrics = fnn.train_chunk(
            softmax_regression.make, values, state, examples, rows, mask, watch_every=2
        )
        return metrics.watched.update_ratio["kernel"]

    both = jax.vmap(member)(jnp.array([0.1, 0.2]))
    assert both.shape == (2, 2)  # two members, two of four steps
    np.testing.assert_allclose(both[:, 0], jnp.stack([member(0.1)[0], member(0.2)[0]]), rtol=1e-5)


def test_a_chunk_that_the_watched_steps_do_not_divide_is_refused() -> None:
    state = fnn.init_state(softmax_regression.make, VALUES, jax.random.key(0), X)
    rows, mask = jnp.zeros((4, 6), jnp.int32), jnp.ones((4, 6), bool)
    with pytest.raises(ValueError, match="watch_every must divide the 4 steps of the chunk, 3 does not"):
        fnn.train_chunk(softmax_regression.make, VALUES, state, fnn.Examples(X, Y), rows, mask, watch_every=3)
