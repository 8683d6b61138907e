"""One step, a chunk and an epoch, against NumPy written from the formula."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn._tree import paths

KEY = jax.random.key(4)
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(9, 4)), RANDOM.integers(0, 3, 9).astype(np.int32)
IMAGES = RANDOM.normal(1.0, 2.0, (9, 4, 4, 2))


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def everything(rows: int) -> np.ndarray:
    return np.ones(rows, bool)


def bits(tree: Any) -> list[bytes]:
    leaves = [
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for leaf in jax.tree.leaves(tree)
    ]
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    for (path, a), (_, e) in zip(paths(actual), paths(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance, err_msg=path)


# --- the formula ----------------------------------------------------------------------------------------


def softmax_regression(hyperparameters: Any) -> fnn.Task:
    return fnn.Task(
        fnn.serial(fnn.linear(3)),
        fnn.softmax_cross_entropy,
        fnn.sgd(hyperparameters["learning_rate"]),
        penalties=(partial(fnn.l2, strength=hyperparameters["strength"]),),
    )


def numpy_step(kernel: Any, bias: Any, x: Any, y: Any, learning_rate: float, strength: float) -> Any:
    """(kernel, bias) after a step of gradient descent; loss, penalty and accuracy before it."""
    logits = x @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss, penalty = -np.log(p[np.arange(len(y)), y]).mean(), strength * (kernel**2).sum()
    error = (p - np.eye(3)[y]) / len(y)
    kernel_gradient, bias_gradient = x.T @ error + 2 * strength * kernel, error.sum(0)
    right = (logits.argmax(1) == y).mean()
    return (kernel - learning_rate * kernel_gradient, bias - learning_rate * bias_gradient), (loss, penalty, right)


@pytest.mark.usefixtures("float64")
def test_steps_are_those_of_the_formula() -> None:
    hyperparameters = {"learning_rate": 0.7, "strength": 0.05}
    state = fnn.init_state(softmax_regression, hyperparameters, KEY, X)
    expected = tuple(np.asarray(state.params["linear_1"][name]) for name in ("kernel", "bias"))
    for step in range(3):
        assert int(state.step) == step
        batch = fnn.Batch(X, Y, everything(9))
        state, metrics = fnn.train_step(softmax_regression, hyperparameters, state, batch)
        expected, measured = numpy_step(*expected, X, Y, **hyperparameters)
        np.testing.assert_allclose(metrics[:2], measured[:2], rtol=1e-12)
        np.testing.assert_allclose(metrics.accuracy, measured[2], rtol=1e-6)  # float32
        assert int(metrics.examples) == 9
        for name, value in zip(("kernel", "bias"), expected, strict=True):
            np.testing.assert_allclose(state.params["linear_1"][name], value, rtol=1e-12, atol=1e-14)
    assert int(state.opt_state.count) == 3


def test_initial_values_do_not_depend_on_the_step_key_or_the_input() -> None:
    state = fnn.init_state(softmax_regression, {"learning_rate": 0.1, "strength": 0.0}, KEY, X)
    again = fnn.init_state(softmax_regression, {"learning_rate": 0.9, "strength": 1.0}, KEY, 0 * X)
    assert bits(state) == bits(again)
    assert (int(state.step), state.moments, state.state) == (0, None, {})


# --- what the network is fed ----------------------------------------------------------------------------


def recording() -> fnn.Layer:
    """The identity, which keeps its input in its state."""
    return fnn.Layer(
        "recording",
        lambda key, x: ({}, {"seen": jnp.zeros(x.shape, x.dtype)}),
        lambda params, state, x, **context: (x, {"seen": x}),
    )


def add_noise(key: jax.Array, x: jax.Array) -> jax.Array:
    return x + jax.random.normal(key, x.shape, x.dtype)


def recorded(state: fnn.TrainState, x: Any, *augment: Any) -> np.ndarray:
    """What the network sees of the inputs x in a step from this state, whose layers remember nothing."""

    def make(_: Any) -> fnn.Task:
        net = fnn.serial(recording(), fnn.flatten, fnn.linear(3))
        return fnn.Task(net, fnn.softmax_cross_entropy, fnn.sgd(0.1), augment=augment)

    start = fnn.init_state(make, None, state.key, jax.ShapeDtypeStruct(x.shape, jnp.float32), state.moments)
    start = start._replace(step=state.step)
    batch = fnn.Batch(x, Y[: len(x)], everything(len(x)))
    new_state, _ = fnn.train_step(make, None, start, batch)
    return np.asarray(new_state.state["recording_1"]["seen"])


def state_at(step: int, key: jax.Array = KEY, moments: Any = None) -> fnn.TrainState:
    return fnn.TrainState(jnp.asarray(step, jnp.int32), {}, {}, (), key, moments)


def test_bytes_become_brightness_and_moments_standardise() -> None:
    x = RANDOM.integers(0, 256, (5, 2, 2, 2)).astype(np.uint8)
    np.testing.assert_allclose(recorded(state_at(0), x), x / 255, rtol=1e-6)
    moments = fnn.Moments(np.array([0.25, 0.5], np.float32), np.array([0.5, 2.0], np.float32))
    expected = (x / 255 - [0.25, 0.5]) / [0.5, 2.0]
    np.testing.assert_allclose(recorded(state_at(0, moments=moments), x), expected, rtol=1e-5, atol=1e-6)


def test_augmentation_comes_before_standardisation_in_the_order_given() -> None:
    x = IMAGES.astype(np.float32)
    moments = fnn.Moments(np.array([1.0, 3.0], np.float32), np.array([2.0, 4.0], np.float32))
    seen = recorded(state_at(0, moments=moments), x, lambda key, x: x + 2, lambda key, x: 10 * x)
    np.testing.assert_allclose(seen, (10 * (x + 2) - [1, 3]) / [2, 4], rtol=1e-5)


def test_augmentation_is_addressed_by_the_step() -> None:
    x = np.zeros((4, 50), np.float32)
    third = recorded(state_at(3), x, add_noise)
    np.testing.assert_array_equal(third, recorded(state_at(3), x, add_noise))
    others = [state_at(4), state_at(0), state_at(3, jax.random.key(5))]
    twice = recorded(state_at(3), x, add_noise, add_noise) - third  # the second draw
    for other in [*(recorded(state, x, add_noise) for state in others), twice]:
        assert abs(np.corrcoef(third.ravel(), other.ravel())[0, 1]) < 0.3
        np.testing.assert_allclose(other.std(), 1, atol=0.2)


def test_augmentations_of_fnn_work_in_a_step() -> None:
    x = np.broadcast_to(np.arange(4, dtype=np.float32)[None, None, :, None], (40, 4, 4, 1))
    batch = np.asarray(recorded_flips(x))
    flipped = (batch == x[:, :, ::-1]).all((1, 2, 3))
    assert (flipped | (batch == x).all((1, 2, 3))).all()
    assert 8 < flipped.sum() < 32


def recorded_flips(x: np.ndarray) -> np.ndarray:
    def make(_: Any) -> fnn.Task:
        net = fnn.serial(recording(), fnn.flatten, fnn.linear(2))
        return fnn.Task(net, fnn.softmax_cross_entropy, fnn.sgd(0.1), augment=(fnn.random_flip,))

    batch = fnn.Batch(x, np.zeros(len(x), np.int32), everything(len(x)))
    state = fnn.init_state(make, None, KEY, x)
    return fnn.train_step(make, None, state, batch)[0].state["recording_1"]["seen"]


# --- schedules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [fnn.piecewise((1, 2), (0.5, 0.25, 2.0)), lambda step: jnp.array([0.5, 0.25, 2.0])[step]],
    ids=["of fnn", "plain function"],
)
def test_schedules_are_evaluated_at_the_step(schedule: Any) -> None:
    """Loss w x, so each step subtracts rate · mean(x); the penalty is shown in the metrics."""

    def make(hyperparameters: Any) -> fnn.Task:
        return fnn.Task(
            fnn.linear(1, bias=False, kernel_init=lambda key, shape, dtype: jnp.ones(shape, dtype)),
            lambda outputs, targets: outputs[:, 0],
            fnn.sgd(hyperparameters["rate"]),
            penalties=(lambda params: jax.lax.stop_gradient(hyperparameters["strength"]),),
        )

    hyperparameters = {"rate": schedule, "strength": schedule}
    x = np.array([[1.0], [3.0]], np.float32)
    state = fnn.init_state(make, hyperparameters, KEY, x)
    weight = 1.0
    for value in (0.5, 0.25, 2.0):
        batch = fnn.Batch(x, np.zeros(2, np.float32), everything(2))
        state, metrics = fnn.train_step(make, hyperparameters, state, batch)
        assert float(metrics.penalty) == value
        assert float(metrics.loss) == 2 * weight
        assert np.isnan(metrics.accuracy)  # targets are no classes
        weight -= value * 2
        assert float(state.params["kernel"][0, 0]) == weight


# --- padding --------------------------------------------------------------------------------------------


def conv_net(hyperparameters: Any) -> fnn.Task:
    net = fnn.serial(fnn.conv(3, 3), fnn.batch_norm(), fnn.relu, fnn.flatten, fnn.linear(3))
    return fnn.Task(
        net,
        partial(fnn.softmax_cross_entropy, label_smoothing=0.1),
        fnn.momentum(hyperparameters["learning_rate"]),
        penalties=(partial(fnn.l2, strength=1e-2),),
    )


init_conv_net = jax.jit(partial(fnn.init_state, conv_net))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_padding_touches_no_loss_gradient_or_statistic(dtype: Any, tolerance: float) -> None:
    with jax.enable_x64(dtype is np.float64):
        x, y, hyperparameters = IMAGES[:5].astype(dtype), Y[:5], {"learning_rate": 0.1}
        state = init_conv_net(hyperparameters, KEY, x)
        step = jax.jit(partial(fnn.train_step, conv_net, hyperparameters))
        expected = step(state, fnn.Batch(x, y, everything(5)))
        for fill in (x[:3], 20 - 3 * x[2:5]):
            padded = fnn.Batch(np.concatenate([x, fill]), np.concatenate([y, (y[:3] + 1) % 3]), np.arange(8) < 5)
            actual = step(state, padded)
            assert int(actual[1].examples) == 5
            for name in ("params", "state", "opt_state"):
                assert_close(getattr(actual[0], name), getattr(expected[0], name), tolerance)
            assert_close(actual[1], expected[1], tolerance)
            assert np.abs(actual[0].state["batch_norm_1"]["mean"]).max() > 1e-3  # this batch did arrive


def test_a_step_of_padding_alone_changes_no_bit() -> None:
    hyperparameters = {"learning_rate": 0.1}
    examples = fnn.Examples(jnp.asarray(IMAGES, jnp.float32), jnp.asarray(Y))
    state = init_conv_net(hyperparameters, KEY, examples.x)
    chunk = jax.jit(partial(fnn.train_chunk, conv_net, hyperparameters))
    rows = np.arange(8, dtype=np.int32).reshape(2, 4)
    mask = np.ones((2, 4), bool)
    once, metrics = chunk(state, examples, rows, mask & np.array([[True], [False]]))
    assert [leaf[1].item() for leaf in metrics] == [0, 0, 0, 0]
    assert metrics.examples.tolist() == [4, 0]
    assert int(once.step) == int(once.opt_state.count) == 1
    again, _ = chunk(once, examples, rows, 0 * mask != 0)
    assert bits(again) == bits(once)
    twice, _ = chunk(state, examples, rows, mask & np.array([[False], [True]]))
    assert bits(twice) != bits(state)


def test_a_chunk_is_its_steps() -> None:
    hyperparameters = {"learning_rate": 0.1}
    examples = fnn.Examples(jnp.asarray(IMAGES, jnp.float32), jnp.asarray(Y))
    state = init_conv_net(hyperparameters, KEY, examples.x)
    rows, mask = np.array([[8, 0, 3], [1, 2, 2]]), np.array([[True, True, True], [True, False, True]])
    actual, metrics = jax.jit(partial(fnn.train_chunk, conv_net, hyperparameters))(state, examples, rows, mask)
    step = jax.jit(partial(fnn.train_step, conv_net, hyperparameters))
    for number in range(2):
        batch = fnn.Batch(examples.x[rows[number]], examples.y[rows[number]], mask[number])
        state, measured = step(state, batch)
        assert_close(jax.tree.map(lambda leaf, n=number: leaf[n], metrics), measured, 1e-5)
    assert_close(actual.params, state.params, 1e-5)
    assert_close(actual.state, state.state, 1e-5)


# --- epochs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("examples", "batch_size", "chunk_steps"), [(10, 3, 2), (12, 4, 3), (7, 7, 1), (5, 1, 4)])
def test_epoch_rows_hold_every_example_exactly_once(examples: int, batch_size: int, chunk_steps: int) -> None:
    of_epoch = partial(fnn.epoch_rows, examples=examples, batch_size=batch_size, chunk_steps=chunk_steps)
    rows, mask = of_epoch(KEY, 0)
    chunks = -(-examples // (batch_size * chunk_steps))
    assert rows.shape == mask.shape == (chunks, chunk_steps, batch_size)
    assert sorted(rows[mask].tolist()) == list(range(examples))
    assert mask.ravel().tolist() == sorted(mask.ravel().tolist(), reverse=True)  # padding comes last
    assert 0 <= int(rows.min()) <= int(rows.max()) < examples  # padding repeats real examples
    np.testing.assert_array_equal(rows, of_epoch(KEY, jnp.asarray(0))[0])


def test_epochs_have_orders_of_their_own_whatever_the_batches() -> None:
    def order(key: jax.Array, epoch: int, batch_size: int = 6) -> list[int]:
        rows, mask = fnn.epoch_rows(key, epoch, examples=50, batch_size=batch_size, chunk_steps=2)
        return rows[mask].tolist()

    orders = [order(KEY, 0), order(KEY, 1), order(KEY, 2), order(jax.random.key(5), 0), list(range(50))]
    assert len({tuple(o) for o in orders}) == 5
    assert order(KEY, 1, batch_size=7) == order(KEY, 1)


def embedding(_: Any) -> fnn.Task:
    """A weight for each example, and the example's weight as its loss: SGD subtracts 1 / |batch| from it."""
    net = fnn.linear(1, bias=False, kernel_init=lambda key, shape, dtype: jnp.zeros(shape, dtype))
    return fnn.Task(net, lambda outputs, targets: outputs[:, 0], fnn.sgd(1.0))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10])
def test_an_epoch_touches_every_example_exactly_once(batch_size: int) -> None:
    n = 10
    examples = fnn.Examples(jnp.eye(n), jnp.zeros(n))
    state = fnn.init_state(embedding, None, KEY, examples.x)
    state, metrics = jax.jit(partial(fnn.train_epoch, embedding, None, batch_size=batch_size))(state, examples, 0)
    full, rest = divmod(n, batch_size)
    expected = [1 / batch_size] * (full * batch_size) + [1 / rest for _ in range(rest)]
    np.testing.assert_allclose(np.sort(-state.params["kernel"][:, 0]), np.sort(expected), rtol=1e-6)
    assert metrics.examples.tolist() == [batch_size] * full + ([rest] if rest else [])
    assert int(state.step) == full + bool(rest)


def test_masked_mean_counts_real_examples_only() -> None:
    values = jnp.array([1.0, 2.0, jnp.nan, 6.0])
    mask = jnp.array([True, True, False, True])
    assert float(fnn.masked_mean(values, mask)) == 3
    with pytest.raises(ValueError, match=r"one value per example, shape \(4,\), not \(4, 1\)"):
        fnn.masked_mean(values[:, None], mask)
    with pytest.raises(ValueError, match=r"one value per example, shape \(4,\), not \(\)"):
        fnn.masked_mean(jnp.ones(()), mask)


# --- dtypes ---------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": fnn.sgd,
    "momentum": fnn.momentum,
    "nesterov": fnn.nesterov,
    "adagrad": fnn.adagrad,
    "rmsprop": fnn.rmsprop,
    "adam": fnn.adam,
    "clip and adam": lambda rate: fnn.chain(fnn.clip_by_global_norm(1.0), fnn.adam(rate)),
}


@pytest.mark.parametrize(
    "rate",
    [0.5, jnp.asarray(0.5), fnn.cosine(0.5, 10), lambda step: 0.5 / (1 + step)],
    ids=["number", "array", "schedule", "function"],
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bfloat16_stays_bfloat16_through_a_chunk(name: str, rate: Any) -> None:
    def make(rate: Any) -> fnn.Task:
        net = fnn.serial(fnn.conv(3, 3), fnn.batch_norm(), fnn.flatten, fnn.dropout(0.1), fnn.linear(3))
        penalties = (partial(fnn.l2, strength=rate),)
        return fnn.Task(net, fnn.softmax_cross_entropy, OPTIMIZERS[name](rate), penalties)

    def run(rate: Any, x: jax.Array, y: jax.Array) -> Any:
        state = fnn.init_state(make, rate, KEY, x)
        rows, mask = fnn.epoch_rows(KEY, 0, examples=9, batch_size=4, chunk_steps=3)
        return state, fnn.train_chunk(make, rate, state, fnn.Examples(x, y), rows[0], mask[0])

    x = jax.ShapeDtypeStruct(IMAGES.shape, jnp.bfloat16)
    y = jax.ShapeDtypeStruct(Y.shape, jnp.int32)
    if isinstance(rate, jax.Array):
        before, (after, metrics) = jax.eval_shape(run, rate, x, y)
    else:
        before, (after, metrics) = jax.eval_shape(partial(run, rate), x, y)
    assert {leaf.dtype for leaf in jax.tree.leaves(before.params)} == {jnp.dtype(jnp.bfloat16)}
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, before)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(after.state)} == {"float32"}
    assert metrics.loss.dtype == jnp.float32


def test_bfloat16_parameters_move_as_float32_ones_do() -> None:
    hyperparameters = {"learning_rate": 0.5, "strength": 0.0}
    states = []
    for dtype in (jnp.bfloat16, jnp.float32):
        x = jnp.asarray(X, dtype)
        state = fnn.init_state(softmax_regression, hyperparameters, KEY, x)
        kernel = jnp.asarray(RANDOM.normal(size=(4, 3)) if not states else states[0][0], dtype)
        params = {"linear_1": {"kernel": kernel, "bias": jnp.zeros(3, dtype)}}
        step = jax.jit(partial(fnn.train_step, softmax_regression, hyperparameters))
        state, _ = step(state._replace(params=params), fnn.Batch(x, Y, everything(9)))
        states.append((kernel, state.params["linear_1"]["kernel"]))
    assert states[0][1].dtype == jnp.bfloat16
    np.testing.assert_allclose(states[0][1].astype(jnp.float32), states[1][1], rtol=2e-2, atol=1e-2)
