"""The loop on the host: its arithmetic, its choice of the best epoch, what it reports and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import softmax_regression

import fnn
from fnn.data import Examples, Splits
from fnn.train import Diverged, Fit, Progress, Task, evaluate, fit, init_state, steps_of_run, train_epoch
from fnn.train._fit import _chunk

FOUR = ("north", "east", "south", "west")


def blobs(training: int, validation: int = 7, seed: int = 0) -> Splits:
    """Four clouds around the points of the compass, so that a linear network can learn them."""
    random = np.random.default_rng(seed)
    corners = np.array([[0, 2, 1], [2, 0, 1], [0, -2, 1], [-2, 0, 1]], np.float32)

    def part(n: int) -> Examples:
        y = (np.arange(n) % 4).astype(np.int32)
        return Examples((corners[y] + random.normal(size=(n, 3))).astype(np.float32), y)

    return Splits(part(training), part(validation), part(5), FOUR, "blobs")


def perceptron(hyperparameters: Any) -> Task:
    net = fnn.serial(
        fnn.linear(8, bias=False),
        fnn.batch_norm(),
        fnn.relu,
        fnn.dropout(hyperparameters["rate"]),
        fnn.linear(4),
    )
    return Task(net, fnn.softmax_cross_entropy, fnn.adam(hyperparameters["learning_rate"]))


SETTINGS = {"learning_rate": 0.01, "rate": 0.2}


def bits(tree: Any) -> list[np.ndarray]:
    def leaf_bits(leaf: Any) -> np.ndarray:
        keyed = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if keyed else leaf)

    return [leaf_bits(leaf) for leaf in jax.tree.leaves(tree)]


def same(one: Any, other: Any) -> bool:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    return all(np.array_equal(a, b) for a, b in zip(bits(one), bits(other), strict=True))


# --- arithmetic -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
def test_full_batch_descent_is_that_of_numpy(standardize: bool) -> None:
    data = blobs(10)
    steps: list[int] = []
    result = fit(
        softmax_regression.make,
        {"learning_rate": 0.3, "strength": 0.02},
        data,
        epochs=3,
        batch_size="all",
        standardize=standardize,
        report=lambda progress: steps.append(progress.step),
    )
    mean, std = data.train.x.mean(0, keepdims=True), data.train.x.std(0, keepdims=True)
    x, validation = ((p.x - mean) / std if standardize else p.x for p in (data.train, data.validation))
    kernel, bias = softmax_regression.start((3, 4)), np.zeros(4)
    for metrics in result.history:
        before = softmax_regression.measure(kernel, bias, x, data.train.y, 0.02)
        kernel, bias = softmax_regression.descend(kernel, bias, x, data.train.y, 0.3, 0.02)
        after = softmax_regression.measure(kernel, bias, validation, data.validation.y, 0.02)
        expected = {
            **before._asdict(),
            "validation_loss": after.loss,
            "validation_accuracy": after.accuracy,
        }
        assert metrics == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(result.last.params["kernel"], kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.last.params["bias"], bias, rtol=1e-5, atol=1e-6)
    assert steps == [1, 2, 3]
    assert int(result.last.step) == 3


def dropping(hyperparameters: Any) -> Task:
    net = fnn.serial(fnn.linear(8), fnn.relu, fnn.dropout(0.2), fnn.linear(4))
    return Task(net, fnn.softmax_cross_entropy, fnn.sgd(hyperparameters["learning_rate"]))


def test_a_run_is_its_epochs() -> None:
    """Chunks, donation and reports change nothing: the same as epochs run one by one."""
    data, settings = blobs(205), {"learning_rate": 0.05}
    result = fit(dropping, settings, data, epochs=2, batch_size=2, seed=5, standardize=False)
    state = init_state(dropping, settings, jax.random.key(5), data.train.x)
    epoch = jax.jit(partial(train_epoch, dropping, batch_size=2))
    for number in range(2):
        state, _ = epoch(settings, state, jax.tree.map(jnp.asarray, data.train), number)
    assert int(result.last.step) == int(state.step) == 206
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), result.last.params, state.params)


def test_it_learns() -> None:
    data = blobs(128, 64)
    result = fit(perceptron, {"learning_rate": 0.05, "rate": 0.0}, data, epochs=8, batch_size=16)
    assert result.history[-1]["validation_accuracy"] > 0.75
    assert result.history[-1]["loss"] < result.history[0]["loss"] / 2


def test_data_may_be_arrays_of_jax() -> None:
    data = blobs(8)
    arrays = data._replace(
        **{part: jax.tree.map(jnp.asarray, getattr(data, part)) for part in data._fields[:3]}
    )
    runs = [fit(perceptron, SETTINGS, d, epochs=1, batch_size=8, lsuv=True) for d in (data, arrays)]
    assert same(runs[0].last, runs[1].last)
    assert fit(perceptron, SETTINGS, arrays, epochs=1, batch_size=8).best_epoch == 1


def test_a_run_may_begin_with_weights_of_ones_own_of_which_some_are_frozen() -> None:
    def make(learning_rate: Any) -> Task:
        return perceptron({"learning_rate": learning_rate, "rate": 0.0})._replace(
            freeze=("linear_1/*", "batch_norm_1/*")
        )

    data, random = blobs(16), np.random.default_rng(5)
    start = init_state(make, 0.0, jax.random.key(1), data.train.x[:1], fnn.moments(data.train.x))
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), start.params)
    state = start._replace(params=params)
    last = fit(make, 0.0, data, epochs=1, batch_size="all", so_far=Fit(state, state, 0, ())).last
    assert same(last.params, params)
    x = (data.train.x - data.train.x.mean(0)) / data.train.x.std(0)
    mean = (x @ params["linear_1"]["kernel"]).mean(0)  # 0 but for rounding, as that of x
    var = (x @ params["linear_1"]["kernel"]).var(0, ddof=1)
    statistics = last.state["batch_norm_1"]  # not frozen with the layers around it
    np.testing.assert_allclose(statistics["mean"], 0.1 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * var, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_inputs_below_float32_are_standardised_in_float32(dtype: Any) -> None:
    def of(data: Splits, dtype: Any) -> Splits:
        train, validation = (part._replace(x=part.x.astype(dtype)) for part in data[:2])
        return data._replace(train=train, validation=validation)

    narrow = of(blobs(8), dtype)
    runs = [
        fit(perceptron, SETTINGS, data, epochs=1, batch_size=8) for data in (narrow, of(narrow, np.float32))
    ]
    assert same(runs[0].last, runs[1].last)
    assert len(fit(perceptron, SETTINGS, narrow, epochs=2, batch_size=8, so_far=runs[0]).history) == 2


def test_the_seed_decides_everything() -> None:
    data = blobs(30)
    runs = [fit(perceptron, SETTINGS, data, epochs=2, batch_size=8, seed=seed) for seed in (1, 1, 2)]
    assert runs[0].history == runs[1].history
    assert same(runs[0], runs[1])
    assert runs[0].history != runs[2].history
    assert not same(runs[0].last.params, runs[2].last.params)


# --- the best epoch -------------------------------------------------------------------------------------


def scripted(script: Any) -> Task:
    """A network whose accuracy and loss after each step are written down beforehand.

    The optimizer only counts. An example is its number in x; those below `right` are classified rightly.
    """

    def apply(params: Any, x: jax.Array) -> jax.Array:
        now = params["count"].astype(jnp.int32)
        right = jnp.where(x < script["right"][now], 1.0, -1.0)
        return jnp.concatenate([right, -right], 1) + script["loss"][now] / 2

    def init(key: Any, x: Any) -> dict[str, jax.Array]:
        return {"count": jnp.zeros(())}

    def count(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(jnp.ones_like, grads), state

    def loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        return outputs.sum(1) + 0 * targets

    return Task(fnn.layer("script", apply, init), loss, fnn.Optimizer(lambda params: (), count))


SCRIPTS: dict[str, tuple[list[int], list[float], int, int]] = {
    # right of 4 and loss after each epoch; the best epoch by accuracy then loss; by loss alone
    "rises and falls": ([1, 3, 2, 1], [4, 3, 3.5, 4], 2, 2),
    "accuracy comes before loss": ([1, 2, 4, 3], [1, 2, 9, 0.5], 3, 4),
    "of equals the lower loss": ([1, 3, 3, 3], [4, 3, 1, 2], 3, 3),
    "of equals in both the first": ([2, 2, 2, 2], [1, 1, 1, 1], 1, 1),
    "the last": ([1, 2, 3, 4], [4, 3, 2, 1], 4, 4),
    "negative losses": ([2, 2, 2, 2], [-1, -3, -2, 5], 2, 2),
    "never right": ([0, 0, 0, 0], [5, 4, 3, 3], 3, 3),
}


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_best_epoch(name: str, regression: bool) -> None:
    right, loss, by_accuracy, by_loss = SCRIPTS[name]
    x = np.arange(4, dtype=np.float32)[:, None]
    examples = Examples(x, np.zeros(4, np.float32 if regression else np.int32))
    data = Splits(examples, examples, examples, () if regression else ("a", "b"), "script")
    script = {"right": jnp.float32([0, *right]), "loss": jnp.float32([0, *loss])}
    seen: list[Fit | None] = []
    result = fit(
        scripted,
        script,
        data,
        epochs=4,
        batch_size="all",
        standardize=False,
        report=lambda progress: seen.append(progress.fit),
    )
    best = by_loss if regression else by_accuracy
    assert result.best_epoch == best
    assert int(result.best.step) == float(result.best.params["count"]) == best
    assert int(result.last.step) == float(result.last.params["count"]) == 4
    assert [metrics["validation_loss"] for metrics in result.history] == loss
    if regression:
        assert not any("accuracy" in key for metrics in result.history for key in metrics)
    else:
        assert [metrics["validation_accuracy"] for metrics in result.history] == [r / 4 for r in right]
    for epochs, so_far in enumerate(seen, start=1):  # what was reported then is still what it was
        assert so_far is not None
        assert so_far.history == result.history[:epochs]
        assert int(so_far.last.step) == epochs
        assert int(so_far.best.step) == so_far.best_epoch <= epochs
    assert seen[-1] is result


def test_a_regression_keeps_the_best_by_loss() -> None:
    random = np.random.default_rng(1)
    weights = random.normal(size=(3, 2)).astype(np.float32)

    def part(n: int) -> Examples:
        x = random.normal(size=(n, 3)).astype(np.float32)
        return Examples(x, x @ weights)

    def make(hyperparameters: Any) -> tuple:
        return fnn.linear(2), fnn.mean_squared_error, fnn.sgd(hyperparameters["learning_rate"])

    data = Splits(part(33), part(7), part(5), (), "plane")
    # five epochs of nine steps, the last at a rate that throws the weights away
    schedule = fnn.piecewise((36,), (0.2, 4.0))
    result = fit(make, {"learning_rate": schedule}, data, epochs=5, batch_size=4, standardize=False)
    keys = {"loss", "penalty", "validation_loss"}
    assert all(set(metrics) == keys for metrics in result.history)
    losses = [metrics["validation_loss"] for metrics in result.history]
    assert result.best_epoch == 1 + int(np.argmin(losses)) == 4
    assert losses[3] < 0.1 < losses[4]
    np.testing.assert_allclose(result.best.params["kernel"], weights, atol=0.3)
    again = evaluate(make, {"learning_rate": 0.1}, result.best, data.validation)
    np.testing.assert_allclose(again["loss"], losses[3], rtol=1e-5)


# --- reports --------------------------------------------------------------------------------------------

REPORTS = {  # examples, batch_size, the steps at which fit reports in two epochs
    "one chunk": (10, 4, [3, 6]),
    "a small batch at the end": (9, 8, [2, 4]),
    "101 steps": (101, 1, [51, 101, 152, 202]),
    "a padded batch and a padded chunk": (205, 2, [52, 103, 155, 206]),
    "three chunks": (203, 1, [68, 136, 203, 271, 339, 406]),
    "all": (10, "all", [1, 2]),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports_come_in_order_and_count_every_example_once(name: str) -> None:
    """Nothing is learned, so the mean over the batches, some of them smaller, is that of all examples."""
    n, batch_size, steps = REPORTS[name]
    reports: list[Progress] = []
    settings = {"learning_rate": 0.0, "strength": 0.5}
    data = blobs(n)
    result = fit(
        softmax_regression.make,
        settings,
        data,
        epochs=2,
        batch_size=batch_size,
        standardize=False,
        report=reports.append,
    )
    kernel = softmax_regression.start((3, 4))
    expected = softmax_regression.measure(kernel, np.zeros(4), data.train.x, data.train.y, 0.5)
    for metrics in result.history:
        actual = {name: metrics[name] for name in expected._fields}
        assert actual == pytest.approx(expected._asdict(), rel=1e-5)
    assert [progress.step for progress in reports] == steps
    assert {progress.steps for progress in reports} == {steps[-1]}
    assert steps[-1] == steps_of_run(n, epochs=2, batch_size=batch_size)
    assert int(result.last.step) == steps[-1]
    chunks = len(steps) // 2
    assert [progress.epoch for progress in reports] == [1] * chunks + [2] * chunks
    assert {progress.epochs for progress in reports} == {2}
    training = {"loss", "penalty", "accuracy"}
    for number, progress in enumerate(reports, start=1):
        if number % chunks:
            assert progress.fit is None
            assert set(progress.metrics) == training
        else:
            assert progress.fit is not None
            assert len(progress.fit.history) == progress.epoch
            assert progress.metrics == progress.fit.history[-1]
            assert set(progress.metrics) == training | {"validation_loss", "validation_accuracy"}
    assert reports[-1].fit is result


# --- divergence -----------------------------------------------------------------------------------------


def two_layers(hyperparameters: Any) -> Task:
    net = fnn.mlp((5,), 4)
    return Task(net, fnn.softmax_cross_entropy, fnn.sgd(hyperparameters["learning_rate"]))


TOO_HIGH: dict[str, tuple[Any, int | str, int, int]] = {
    # learning rate, batch size (of 210 examples), the step whose loss is not finite, epochs before it
    "at once": (1e30, 21, 2, 0),
    "in the first chunk, later": (fnn.piecewise((6,), (0.01, 1e30)), 21, 8, 0),
    "in the second epoch": (fnn.piecewise((12,), (0.01, 1e30)), 21, 14, 1),
    "in the second chunk": (fnn.piecewise((150,), (0.01, 1e30)), 1, 152, 0),
    "at validation": (fnn.piecewise((9,), (0.01, 1e30)), 21, 10, 0),
    "at validation after a full batch": (fnn.piecewise((1,), (0.01, 1e30)), "all", 2, 1),
}


@pytest.mark.parametrize("name", TOO_HIGH)
def test_a_run_that_diverges_says_where_and_keeps_what_was_before(name: str) -> None:
    learning_rate, batch_size, step, epochs_before = TOO_HIGH[name]
    data = blobs(210)
    settings = {"learning_rate": learning_rate}
    reports: list[Progress] = []
    message = rf"^the loss became (nan|inf) at step {step}; try a lower learning rate, clip_by_global_norm"
    with pytest.raises(Diverged, match=message) as caught:
        fit(two_layers, settings, data, epochs=3, batch_size=batch_size, report=reports.append)
    assert isinstance(caught.value, ArithmeticError)
    assert caught.value.step == step
    before = caught.value.fit
    assert len(before.history) == before.best_epoch == epochs_before
    steps_before = epochs_before * steps_of_run(210, epochs=1, batch_size=batch_size)
    assert int(before.best.step) == int(before.last.step) == steps_before
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(before.last.params))
    assert all(np.isfinite(value) for p in reports for value in p.metrics.values())
    assert all(progress.step < step for progress in reports)
    if epochs_before:
        alone = evaluate(two_layers, {"learning_rate": 0.0}, before.last, data.validation)
        np.testing.assert_allclose(alone["loss"], before.history[-1]["validation_loss"], rtol=1e-5)


def test_a_penalty_that_overflows_is_a_divergence() -> None:
    with pytest.raises(Diverged, match="the loss became inf at step 2"):
        fit(
            softmax_regression.make,
            {"learning_rate": 1e30, "strength": 1e-3},
            blobs(16),
            batch_size=8,
            epochs=2,
        )


# --- what is given and what comes back stay usable -------------------------------------------------------


def test_nothing_that_was_given_or_returned_is_used_up() -> None:
    settings = {
        "learning_rate": fnn.cosine(jnp.float32(0.1), steps=8),
        "rate": jnp.float32(0.25),
    }
    before = bits(settings)
    data = blobs(16)
    images = [np.array(array) for array in (*data.train, *data.validation)]
    fits: list[Fit] = []

    def report(progress: Progress) -> None:
        assert progress.fit is not None
        fits.append(progress.fit)

    first = fit(perceptron, settings, data, epochs=4, batch_size=8, report=report)
    assert settings["rate"].dtype == jnp.float32
    assert all(np.array_equal(a, b) for a, b in zip(bits(settings), before, strict=True))
    assert all(map(np.array_equal, images, (*data.train, *data.validation)))
    second = fit(perceptron, settings, data, epochs=4, batch_size=8)
    assert same(first, second)
    for epoch, so_far in enumerate(fits, start=1):
        for state, number in ((so_far.last, epoch), (so_far.best, so_far.best_epoch)):
            assert not any(
                leaf.is_deleted() for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)
            )
            measured = evaluate(perceptron, settings, state, data.validation)
            recorded = first.history[number - 1]
            np.testing.assert_allclose(measured["loss"], recorded["validation_loss"], rtol=1e-5)
            np.testing.assert_allclose(measured["accuracy"], recorded["validation_accuracy"], rtol=1e-5)


# --- going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [None, 3])
def test_a_run_that_goes_on_ends_where_the_run_in_one_piece_does(patience: int | None) -> None:
    data = blobs(30)
    settings = {**SETTINGS, "learning_rate": fnn.cosine(0.1, steps=24)}
    keywords = {"batch_size": 8, "patience": patience, "seed": 3, "watch_every": 2}
    reports: list[Progress] = []
    whole = fit(perceptron, settings, data, epochs=6, report=reports.append, **keywords)
    again: list[Progress] = []
    part = fit(perceptron, settings, data, epochs=2, **keywords)
    part = jax.tree.map(lambda leaf: leaf, part)  # what is read from a file is no longer the same object
    for epochs in (2, 3, 6):
        before = part
        part = fit(perceptron, settings, data, epochs=epochs, report=again.append, so_far=part, **keywords)
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((before.best, before.last)))
    assert part.history == whole.history
    assert part.best_epoch == whole.best_epoch
    assert same(part, whole)
    assert [p.step for p in again] == [p.step for p in reports[2:]]
    assert [p.watched for p in again] == [p.watched for p in reports[2:]]
    assert again[-1].steps == reports[-1].steps


@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_patience_goes_on_too(before: int) -> None:
    right, losses, *_ = SCRIPTS["rises and falls"]
    script = {"right": [0, *right, 0, 0], "loss": [0.0, *losses, 5.0, 6.0]}
    script = {name: jnp.asarray(values, jnp.float32) for name, values in script.items()}
    examples = Examples(np.arange(4, dtype=np.float32)[:, None], np.zeros(4, np.int32))
    data = Splits(examples, examples, examples, ("a", "b"), "script")
    keywords = {"batch_size": "all", "standardize": False, "patience": 2}
    whole = fit(scripted, script, data, epochs=6, **keywords)
    assert (len(whole.history), whole.best_epoch) == (4, 2)
    part = fit(scripted, script, data, epochs=before, **keywords)
    assert fit(scripted, script, data, epochs=6, so_far=part, **keywords).history == whole.history


OTHERS: dict[str, tuple[Callable, dict[str, Any], str]] = {
    "fewer epochs": (
        perceptron,
        {"epochs": 1},
        "so_far went through 2 epochs, which are more than 1 in all",
    ),
    "another batch": (
        perceptron,
        {"batch_size": 4},
        "so_far took 4 steps in 2 epochs, where an epoch of these examples with this batch_size has 4; go on "
        "with those that it had",
    ),
    "another network": (
        lambda h: perceptron(h)._replace(net=fnn.linear(4)),
        {},
        "so_far is a run of another network or optimizer: params/batch_norm_1/bias is float32 of shape (8,) "
        "there, and missing here",
    ),
    "another optimizer": (
        lambda h: perceptron(h)._replace(optimizer=fnn.sgd(0.1)),
        {},
        "so_far is a run of another network or optimizer: opt_state/first_moment/",
    ),
    "no run": (perceptron, {"so_far": 3}, "so_far must be a Fit, as fit returns it, not int"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_goes_on_only_as_itself(name: str) -> None:
    make, options, message = OTHERS[name]
    keywords = {"epochs": 4, "batch_size": 8}
    run = fit(perceptron, SETTINGS, blobs(16), **{**keywords, "epochs": 2})
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        fit(make, SETTINGS, blobs(16), **{**keywords, "so_far": run, **options})


# --- compilation ----------------------------------------------------------------------------------------

_compiled: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def listener() -> Iterator[None]:
    def listen(event: str, duration: float, **context: Any) -> None:
        if event.endswith("backend_compile_duration"):
            _compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield
    jax.monitoring.unregister_event_duration_listener(listen)


def compiled_by(function: Callable[[], Any]) -> tuple[int, int]:
    """How many programs a call compiles, and how many of them are chunks."""
    programs, chunks = len(_compiled), _chunk._cache_size()
    function()
    return len(_compiled) - programs, _chunk._cache_size() - chunks


def test_another_value_compiles_nothing_and_another_structure_does() -> None:
    data = blobs(16)

    def fresh(hyperparameters: Any) -> Task:
        return softmax_regression.make(hyperparameters)

    def other(hyperparameters: Any) -> Task:
        return softmax_regression.make(hyperparameters)

    def run(learning_rate: Any, strength: Any, make: Callable = fresh) -> tuple[int, int]:
        settings = {"learning_rate": learning_rate, "strength": strength}
        return compiled_by(lambda: fit(make, settings, data, epochs=2, batch_size=8))

    programs, chunks = run(0.01, 0.1)
    assert chunks == 1
    assert programs >= 3  # the state, the chunk, the evaluation
    for number in range(1, 10):
        assert run(0.01 * (number + 1), number / 20) == (0, 0)
    assert run(jnp.float32(0.3), np.float64(0.1)) == (0, 0)

    assert run(fnn.cosine(0.1, steps=4), 0.1)[1] == 1
    assert run(fnn.cosine(0.2, steps=40, warmup=0.5, end=0.01), 0.3) == (0, 0)
    assert run(fnn.piecewise((2,), (0.1, 0.01)), 0.1)[1] == 1
    assert run(fnn.piecewise((3,), (0.2, 0.0)), 0.1) == (0, 0)
    assert run(fnn.piecewise((2, 3), (0.1, 0.01, 0.0)), 0.1)[1] == 1
    assert run(0.5, 0.5) == (0, 0)
    assert run(0.01, 0.1, other)[1] == 1


def test_more_chunks_epochs_and_seeds_compile_nothing_new() -> None:
    data = blobs(101)
    settings = {"learning_rate": 0.01, "strength": 0.0}
    run = partial(fit, softmax_regression.make, settings, data, batch_size=1)
    _, chunks = compiled_by(lambda: run(epochs=1))
    assert chunks <= 1
    assert compiled_by(lambda: run(epochs=3, seed=7)) == (0, 0)


WIDTH = 8


@pytest.mark.parametrize("lsuv", [False, True])
def test_a_make_that_is_not_pure_is_refused(lsuv: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(hyperparameters: Any) -> Task:
        return perceptron(hyperparameters)._replace(net=fnn.serial(fnn.linear(WIDTH), fnn.linear(4)))

    run = partial(fit, make, SETTINGS, blobs(16), batch_size=8, lsuv=lsuv)
    first = run(epochs=1)
    monkeypatch.setitem(globals(), "WIDTH", 16)
    with pytest.raises(
        ValueError,
        match=r"^make returns another network or optimizer than when it was compiled: params/linear_1/bias was "
        r"float32 of shape \(8,\), and is float32 of shape \(16,\) now; it must be pure, so define it anew",
    ):
        run(epochs=1)
    with pytest.raises(ValueError, match=r"^so_far is a run of another .* \(8,\) there, and .* \(16,\) here"):
        run(epochs=2, so_far=first)
    again = fit(lambda hyperparameters: make(hyperparameters), *run.args[1:], epochs=1, **run.keywords)
    assert again.last.params["linear_1"]["bias"].shape == (16,)


# --- refusals -------------------------------------------------------------------------------------------


def three_outputs(hyperparameters: Any) -> tuple:
    return fnn.linear(3), fnn.softmax_cross_entropy, fnn.sgd(0.1)


def one_output(hyperparameters: Any) -> tuple:
    return fnn.linear(1), fnn.mean_squared_error, fnn.sgd(0.1)


def images_out(hyperparameters: Any) -> tuple:
    return lambda x: jnp.stack([x, x], -1), fnn.softmax_cross_entropy, fnn.sgd(0.1)


def scalar_loss(hyperparameters: Any) -> tuple:
    return fnn.linear(4), lambda z, y: fnn.softmax_cross_entropy(z, y).mean(), fnn.sgd(0.1)


def no_flatten(hyperparameters: Any) -> tuple:
    return fnn.serial(fnn.linear(5), fnn.conv(4, 3)), fnn.softmax_cross_entropy, fnn.sgd(0.1)


REFUSED: dict[str, tuple[Callable, dict[str, Any], dict[str, Any], str]] = {
    "no epochs": (perceptron, SETTINGS, {"epochs": 0}, "epochs must be at least 1, not 0"),
    "no batch": (perceptron, SETTINGS, {"batch_size": 0}, "batch_size must be at least 1, not 0"),
    "negative batch": (perceptron, SETTINGS, {"batch_size": -3}, "batch_size must be at least 1, not -3"),
    "large batch": (
        perceptron,
        SETTINGS,
        {"batch_size": 17},
        'batch_size 17 exceeds the 16 training examples; "all" takes all of them',
    ),
    "outputs": (
        three_outputs,
        {},
        {},
        "the data has 4 classes, so the network must end in (batch, 4) outputs, not (batch, 3)",
    ),
    "one output": (
        one_output,
        {},
        {},
        "must end in (batch, 4) outputs, not (batch, 1); a regression takes float targets (batch, 1)",
    ),
    "axes": (images_out, {}, {}, "the network must end in (batch, 4) outputs, not (batch, 3, 2)"),
    "scalar loss": (scalar_loss, {}, {}, "a loss returns one value per example, shape (8,), not ()"),
    "layers": (no_flatten, {}, {}, "conv_1: "),
    "learning rate": (
        perceptron,
        {**SETTINGS, "learning_rate": -1.0},
        {},
        "learning_rate must be at least 0, not -1",
    ),
    "learning rate in an array": (
        perceptron,
        {**SETTINGS, "learning_rate": jnp.float32(-1)},
        {},
        "learning_rate must be at least 0, not -1",
    ),
    "dropout rate": (
        perceptron,
        {**SETTINGS, "rate": 1.0},
        {},
        "dropout rate must be at least 0 and below 1, not 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_do_not_fit_are_refused_before_anything_is_compiled(name: str) -> None:
    make, settings, options, message = REFUSED[name]
    data = blobs(16)

    def refused() -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            fit(make, settings, data, **{"epochs": 1, "batch_size": 8, **options})

    assert compiled_by(refused)[1] == 0


def returning(*fields: Any) -> Callable:
    return lambda hyperparameters: fields


NET, LOSS, SGD = fnn.linear(4), fnn.softmax_cross_entropy, fnn.sgd(0.1)


def updating(update: Callable) -> Callable:
    """A task whose optimizer's state begins as two whole numbers."""
    return returning(NET, LOSS, fnn.Optimizer(lambda params: (0, 0), update))


MISUSED: dict[str, tuple[Callable, Any, dict[str, Any], str]] = {
    "an optimizer that was not called": (
        returning(NET, LOSS, fnn.adam),
        {},
        {},
        "a task takes optimizers, not adam; an optimizer's function has to be called",
    ),
    "loss and optimizer swapped": (
        returning(NET, SGD, LOSS),
        {},
        {},
        "make must return (net, loss, optimizer), whose loss is a function of outputs and targets, not Optimizer",
    ),
    "the net alone": (
        lambda hyperparameters: NET,
        {},
        {},
        "make must return (net, loss, optimizer) or a Task, not Layer",
    ),
    "what make returns in its place": (
        (NET, LOSS, SGD),
        {},
        {},
        "make must be a function, make(hyperparameters) -> (net, loss, optimizer), not tuple",
    ),
    "updates alone": (
        updating(lambda grads, state, params: grads),
        {},
        {},
        "the optimizer's update must return (updates, state), not dict",
    ),
    "updates of another shape": (
        updating(lambda grads, state, params: (jax.tree.map(jnp.sum, grads), state)),
        {},
        {},
        "the optimizer's update must return updates like the parameters: bias is of shape (4,) among the "
        "parameters, and of shape () among the updates",
    ),
    "updates in a list": (
        updating(lambda grads, state, params: (jax.tree.leaves(grads), state)),
        {},
        {},
        "the optimizer's update must return updates like the parameters: bias is of shape (4,) among the "
        "parameters, and missing among the updates",
    ),
    "a count that becomes a float": (
        updating(lambda grads, state, params: (grads, (state[0] + 1.0, 0))),
        {},
        {},
        "the optimizer's update must return a state like that of init: opt_state/0 was int32 of shape (), and "
        "is float32 of shape () after a step",
    ),
    "a state that grows": (
        updating(lambda grads, state, params: (grads, (0, grads))),
        {},
        {},
        "the optimizer's update must return a state like that of init: opt_state/1 was int32 of shape (), and "
        "is missing after a step",
    ),
    "a state in a list": (
        updating(lambda grads, state, params: (grads, list(state))),
        {},
        {},
        "the optimizer's update must return a state like that of init: opt_state was PyTreeDef((*, *)), and "
        "is PyTreeDef([*, *]) after a step",
    ),
    "statistics that become others": (
        returning(
            replace(NET, apply=lambda params, state, x, **_: (NET.apply(params, {}, x)[0], {"mean": 0.5})),
            LOSS,
            SGD,
        ),
        {},
        {},
        "the network's apply must return a state like that of init: state/mean was missing, and is float32",
    ),
    "a string to freeze": (
        returning(NET, LOSS, SGD, (), (), (), "kernel"),
        {},
        {},
        "freeze: a tuple is wanted, not 'kernel'; a comma makes one of it, ('kernel',)",
    ),
    "one penalty": (
        returning(NET, LOSS, SGD, fnn.l2),
        {},
        {},
        "penalties: a tuple is wanted, not l2; a comma makes one of it, (l2,)",
    ),
    "a string among hyperparameters": (
        returning(NET, LOSS, SGD),
        {"activation": "relu"},
        {},
        "hyperparameters are numbers and schedules, and not 'relu'; set what is structure beforehand, as in "
        "lambda hyperparameters: make({**hyperparameters, 'name': 'relu'}), and leave it out of the hyper",
    ),
    "half an epoch": (returning(NET, LOSS, SGD), {}, {"epochs": 1.5}, "epochs must be an integer, not 1.5"),
    "a batch of floats": (
        returning(NET, LOSS, SGD),
        {},
        {"batch_size": 8.0},
        "batch_size must be an integer, not 8.0",
    ),
    "a width among hyperparameters": (
        lambda h: (fnn.mlp((h["width"],), 4), LOSS, SGD),
        {"width": 8},
        {},
        "make decides about structure by a number among the hyperparameters, such as a width",
    ),
    "half a seed": (returning(NET, LOSS, SGD), {}, {"seed": 1.5}, "seed must be an integer, not 1.5"),
}


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_one_sentence(name: str) -> None:
    make, hyperparameters, options, message = MISUSED[name]
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        fit(make, hyperparameters, blobs(16), **{"epochs": 1, "batch_size": 8, **options})


def regression(targets: np.ndarray, **changed: Any) -> Splits:
    data = blobs(12, 12)
    parts = {name: getattr(data, name)._replace(y=targets) for name in ("train", "validation")}
    return data._replace(**{**parts, **changed})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: fnn.digits(), "expected a data set that is split, fnn.split"),
        (lambda: blobs(12, 0), "the validation part is empty"),
        (
            lambda: blobs(12)._replace(train=Examples(blobs(12).train.x, blobs(9).train.y)),
            r"the training part has 12 examples in x but y has shape \(9,\)",
        ),
        (
            lambda: blobs(12)._replace(train=blobs(12).train._replace(y=blobs(12).train.y + 1)),
            "label 4 at example 3 in the training part lies outside the 4 classes",
        ),
        (
            lambda: blobs(12)._replace(train=blobs(12).train._replace(x=blobs(12).train.x * np.nan)),
            "x of the training part holds nan at example 0",
        ),
        (
            lambda: blobs(12)._replace(train=Examples(np.zeros((12, 3), np.uint8), blobs(12).train.y)),
            r"one example's x is uint8 of shape \(3,\) in the training part and float32 of shape",
        ),
        (
            lambda: regression(np.tile(np.array([1, -1, 1, 0], np.float32), (12, 1))),
            r"the target of example 0 of the training part, \[ 1. -1.  1.  0.\], is none that "
            "softmax_cross_entropy takes",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(data: Any, message: str) -> None:
    def make(hyperparameters: Any) -> Task:
        return Task(fnn.serial(fnn.linear(4)), fnn.softmax_cross_entropy, fnn.sgd(0.1))

    with pytest.raises(ValueError, match=message):
        fit(make, (), data(), epochs=1, batch_size=4)


@pytest.mark.parametrize("last", [lambda z: z, lambda z: z[:, 0]])
def test_one_score_for_two_classes_wants_float_targets(last: Any) -> None:
    def make(hyperparameters: Any) -> tuple:
        return fnn.serial(fnn.linear(1), last), fnn.sigmoid_cross_entropy, fnn.sgd(0.1)

    answers = (np.arange(12) % 2).astype(np.int32)
    shape = last(np.zeros((12, 1))).shape
    wanted = f"not {str(shape).replace('12', 'batch').replace(',)', ')')}; sigmoid_cross_entropy of one"
    with pytest.raises(ValueError, match=re.escape(wanted)):
        fit(make, (), regression(answers, classes=("no", "yes")), epochs=1, batch_size=4)
    floats = regression(answers.astype(np.float32).reshape(shape), classes=())
    assert fit(make, (), floats, epochs=1, batch_size=4).best_epoch == 1


def test_targets_that_are_probabilities_are_taken() -> None:
    def make(hyperparameters: Any) -> Task:
        return Task(fnn.serial(fnn.linear(4)), fnn.softmax_cross_entropy, fnn.sgd(0.1))

    shares = np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (12, 1))
    assert fit(make, (), regression(shares), epochs=1, batch_size=4).best_epoch == 1


def test_a_loss_of_ones_own_may_have_no_value_at_0() -> None:
    """Cross-entropy of probabilities is NaN there: 0 · log 0."""

    def cross_entropy(p: Any, y: Any) -> Any:
        return -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).mean(-1)

    def make(hyperparameters: Any) -> Task:
        return Task(fnn.serial(fnn.linear(1), jax.nn.sigmoid), cross_entropy, fnn.sgd(0.1))

    answers = (np.arange(12) % 2).astype(np.float32)[:, None]
    assert fit(make, (), regression(answers), epochs=1, batch_size=4).best_epoch == 1


def test_metrics_are_called_by_their_function_and_hide_nothing() -> None:
    def make(metric: Any) -> Any:
        return lambda hyperparameters: Task(
            fnn.serial(fnn.linear(4)), fnn.softmax_cross_entropy, fnn.sgd(0.1), metrics=(metric,)
        )

    history = fit(make(partial(fnn.top_k_accuracy, k=2)), (), blobs(12), epochs=1, batch_size=4).history
    assert "validation_top_k_accuracy" in history[0]

    class Recall:
        def __call__(self, outputs: Any, y: Any) -> Any:
            return fnn.accuracy(outputs, y)

    for metric in (Recall(), partial(Recall())):
        history = fit(make(metric), (), blobs(12), epochs=1, batch_size=4).history
        assert history[0]["validation_Recall"] == history[0]["validation_accuracy"]

    def loss(outputs: Any, y: Any) -> Any:
        return outputs[:, 0]

    def accuracy(outputs: Any, y: Any) -> Any:
        return 100 * fnn.accuracy(outputs, y)

    for metric in (loss, accuracy):
        with pytest.raises(ValueError, match=f"a metric named {metric.__name__} would hide the"):
            fit(make(metric), (), blobs(12), epochs=1, batch_size=4)


def test_lsuv_looks_at_all_classes_of_sorted_data() -> None:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1], 300).astype(np.int32)
    x = (random.normal(size=(2, 20))[y] + 0.1 * random.normal(size=(600, 20))).astype(np.float32)
    part = Examples(x, y)

    def make(hyperparameters: Any) -> Task:
        return Task(fnn.mlp((32,), 2), fnn.softmax_cross_entropy, fnn.sgd(0.0))

    data = Splits(part, part, part, ("a", "b"), "sorted")
    found = fit(make, (), data, epochs=1, batch_size=50, lsuv=True).last
    outputs = fnn.predict(make, (), found, x)
    assert 0.9 < float(outputs.var()) < 1.1


@pytest.mark.parametrize(
    ("examples", "epochs", "batch_size", "steps"),
    [(10, 1, 4, 3), (10, 3, 5, 6), (10, 7, "all", 7), (10, 2, 10, 2), (1, 1, 1, 1), (60000, 10, 128, 4690)],
)
def test_steps_of_a_run(examples: int, epochs: int, batch_size: int | str, steps: int) -> None:
    assert steps_of_run(examples, epochs=epochs, batch_size=batch_size) == steps


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_inside_of_a_transformation_it_says_what_to_call(transform):
    with pytest.raises(TypeError, match="fit is a loop on the host"):
        transform(lambda rate: fit(perceptron, {"rate": rate}, blobs(12), epochs=1).best.params)(jnp.ones(2))
