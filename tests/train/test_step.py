"""One step by value: against NumPy, with schedules, augmentation, moments, padding and in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import softmax_regression

import fnn
from fnn.data import Examples, Moments
from fnn.train import Batch, Task, TrainState, init_state, train_chunk, train_step

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(6, 3)).astype(np.float32)
Y = np.array([0, 3, 1, 1, 2, 0], np.int32)
ALL = np.ones(6, bool)
KEY = jax.random.key(3)


one_step = jax.jit(train_step, static_argnums=0)


def step(make: Callable, hyperparameters: Any, state: TrainState, batch: Batch) -> Any:
    return one_step(make, hyperparameters, state, batch)


def close(actual: Any, expected: Any, tolerance: float) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), actual, expected)


def identical(one: Any, other: Any) -> None:
    def bits(leaf: Any) -> np.ndarray:
        keyed = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if keyed else leaf)

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(bits(a), bits(b), strict=True), one, other)


# --- against NumPy --------------------------------------------------------------------------------------


def test_a_step_is_that_of_numpy() -> None:
    settings = {"learning_rate": 0.5, "strength": 0.125}
    kernel, bias = softmax_regression.start((3, 4)), np.zeros(4)
    state = init_state(softmax_regression.make, settings, KEY, X)
    for number in range(3):
        expected = softmax_regression.measure(kernel, bias, X, Y, 0.125)
        kernel, bias = softmax_regression.descend(kernel, bias, X, Y, 0.5, 0.125)
        state, measured = step(softmax_regression.make, settings, state, Batch(X, Y, ALL))
        close(state.params, {"kernel": kernel, "bias": bias}, 1e-6)
        close(tuple(measured[:4]), (*expected, 6), 1e-6)
        assert int(state.step) == number + 1


SCHEDULES: dict[str, tuple[Any, Callable[[int], float]]] = {
    "a number": (0.5, lambda t: 0.5),
    "an array": (jnp.float32(0.5), lambda t: 0.5),
    "step_decay": (fnn.step_decay(0.5, every=2, factor=0.1), lambda t: 0.5 * 0.1 ** (t // 2)),
    "piecewise": (fnn.piecewise((4,), (0.5, 0.25)), lambda t: 0.5 if t < 4 else 0.25),
    "a function": (lambda step: 0.5 / (step + 1), lambda t: 0.5 / (t + 1)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_hyperparameters_are_evaluated_at_the_step_of_the_state(name: str) -> None:
    schedule, value = SCHEDULES[name]
    seen = []

    def make(hyperparameters: Any) -> Task:
        seen.append(hyperparameters["learning_rate"])
        return softmax_regression.make(hyperparameters)

    settings = {"learning_rate": schedule, "strength": 0.0}
    compiled = jax.jit(partial(train_step, make, settings))
    for first in (0, 3):
        kernel, bias = softmax_regression.start((3, 4)), np.zeros(4)
        state = init_state(make, settings, KEY, X)._replace(step=jnp.int32(first))
        for t in range(first, first + 3):
            kernel, bias = softmax_regression.descend(kernel, bias, X, Y, value(t), 0.0)
            state, _ = compiled(state, Batch(X, Y, ALL))
        close(state.params, {"kernel": kernel, "bias": bias}, 2e-6)
    assert len(seen) >= 2
    assert all(not callable(number) and jnp.shape(number) == () for number in seen)


# --- what reaches the network ---------------------------------------------------------------------------


def input_of_network(
    x: np.ndarray, *augment: Callable, moments: Moments | None = None, at: int = 0, key: Any = KEY
) -> np.ndarray:
    """The mean example that the network sees: the gradient of a linear network's mean output."""

    def make(hyperparameters: Any) -> Task:
        net = fnn.linear(1, bias=False, kernel_init=lambda key, shape, dtype: jnp.zeros(shape, dtype))
        return Task(net, lambda outputs, targets: -outputs[:, 0], fnn.sgd(1.0), augment=augment)

    state = init_state(make, {}, key, jax.ShapeDtypeStruct(x.shape, jnp.float32), moments)
    state, _ = train_step(
        make, {}, state._replace(step=jnp.int32(at)), Batch(x, np.zeros(len(x)), np.ones(len(x), bool))
    )
    return np.asarray(state.params["kernel"][:, 0])


def noise(key: jax.Array, x: jax.Array) -> jax.Array:
    return x + jax.random.normal(key, x.shape)


def test_bytes_are_scaled_augmented_and_then_standardised() -> None:
    x = RANDOM.integers(0, 256, (5, 3)).astype(np.uint8)
    moments = Moments(np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 2.0, 0.25]))
    actual = input_of_network(x, lambda key, x: x + 0.25, lambda key, x: 2 * x, moments=moments)
    expected = ((x / 255.0 + 0.25) * 2 - np.array([[0.1, 0.2, 0.3]])) / np.array([[0.5, 2.0, 0.25]])
    close(actual, expected.mean(0), 1e-6)
    close(input_of_network(x), (x / 255.0).mean(0), 1e-6)


def test_each_step_each_augmentation_and_each_run_draws_its_own() -> None:
    x = np.zeros((1, 3), np.float32)
    draws = [
        input_of_network(x, noise),
        input_of_network(x, noise, at=1),
        input_of_network(x, noise, at=2),
        input_of_network(x, lambda key, x: x, noise),
        input_of_network(x, noise, key=jax.random.key(4)),
    ]
    for i, one in enumerate(draws):
        assert np.all(one != 0)
        assert all(np.all(one != other) for other in draws[:i])
    np.testing.assert_array_equal(input_of_network(x, noise, at=1), draws[1])
    close(input_of_network(x, noise, noise), draws[0] + draws[3], 1e-6)


# --- padding --------------------------------------------------------------------------------------------


def convolutional(hyperparameters: Any) -> Task:
    net = fnn.serial(
        fnn.conv(4, 3, stride=2, bias=False),
        fnn.batch_norm(),
        fnn.relu,
        fnn.flatten,
        fnn.dropout(0.25),
        fnn.linear(5, bias=False),
        fnn.batch_norm(),
        fnn.linear(4),
    )
    return Task(
        net,
        fnn.softmax_cross_entropy,
        fnn.momentum(0.1),
        penalties=(partial(fnn.l2, strength=1e-2),),
    )


@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-6), (True, 1e-12)])
def test_padding_counts_in_no_loss_gradient_or_statistic(x64: bool, tolerance: float) -> None:
    with jax.enable_x64(x64):
        dtype = np.float64 if x64 else np.float32
        x = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype(dtype)
        x[6:] = 1e3  # far from the others
        y = np.array([*Y, 3, 3], np.int32)
        state = init_state(convolutional, {}, KEY, x)
        padded, measured = step(convolutional, {}, state, Batch(x, y, np.arange(8) < 6))
        plain, expected = step(convolutional, {}, state, Batch(x[:6], y[:6], ALL))
        counted, _ = step(convolutional, {}, state, Batch(x, y, np.ones(8, bool)))
        assert padded.params["conv_1"]["kernel"].dtype == dtype
        fields = ("params", "state", "opt_state")
        close(*([getattr(s, f) for f in fields] for s in (padded, plain)), tolerance)
        close(tuple(measured[:4]), tuple(expected[:4]), tolerance)
        assert int(measured.examples) == 6
        for field in fields:  # the padding would have mattered
            with pytest.raises(AssertionError):
                close(getattr(counted, field), getattr(plain, field), 1e-3)


def test_a_step_of_padding_only_does_nothing() -> None:
    x = RANDOM.normal(size=(6, 6, 6, 2)).astype(np.float32)
    examples = Examples(jnp.asarray(x), jnp.asarray(Y))
    state = init_state(convolutional, {}, KEY, x)
    chunk = jax.jit(partial(train_chunk, convolutional, {}))
    rows = np.array([[0, 1], [2, 3], [0, 1]], np.int32)
    after_nothing, measured = chunk(state, examples, rows, np.zeros((3, 2), bool))
    identical(after_nothing, state)
    assert not any(np.any(leaf) for leaf in measured[:4])
    with_gap, measured = chunk(state, examples, rows, np.array([[1, 1], [0, 0], [1, 1]], bool))
    without, _ = chunk(state, examples, rows[[0, 2, 1]], np.array([[1, 1], [1, 1], [0, 0]], bool))
    assert int(with_gap.step) == int(without.step) == 2
    assert measured.examples.tolist() == [2, 0, 2]
    close([with_gap.params, with_gap.state], [without.params, without.state], 1e-6)


# --- what is measured, and what is refused --------------------------------------------------------------


def test_targets_that_are_no_classes_have_no_accuracy() -> None:
    def make(hyperparameters: Any) -> tuple:
        return fnn.linear(2), fnn.mean_squared_error, fnn.sgd(0.1)

    targets = RANDOM.normal(size=(6, 2)).astype(np.float32)
    state = init_state(make, {}, KEY, X)
    _, measured = step(make, {}, state, Batch(X, targets, ALL))
    outputs = X @ np.asarray(state.params["kernel"])
    close(measured.loss, np.square(outputs - targets).mean(), 1e-6)
    assert np.isnan(measured.accuracy)


def test_a_loss_that_returns_no_value_per_example_is_refused() -> None:
    def make(hyperparameters: Any) -> tuple:
        return fnn.linear(4), lambda z, y: fnn.softmax_cross_entropy(z, y).mean(), fnn.sgd(0.1)

    with pytest.raises(ValueError, match=r"a loss returns one value per example, shape \(6,\), not \(\)"):
        train_step(make, {}, init_state(make, {}, KEY, X), Batch(X, Y, ALL))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((X, Y), r"batch must be fnn.Batch\(x, y, mask\), not tuple"),
        (Examples(X, Y), r"batch must be fnn.Batch\(x, y, mask\), not Examples"),
        (Batch(X, Y, None), r"a mask is an array of 6 booleans, one for each example, got NoneType"),
        (Batch(X, Y, ALL / 2), r"a mask is an array of 6 booleans, one for each example, got float64"),
        (Batch(X, Y, ALL[:1]), r"a mask is an array of 6 booleans.* of shape \(1,\)"),
    ],
)
def test_a_step_names_a_batch_that_is_none(batch: Any, message: str) -> None:
    def make(hyperparameters: Any) -> tuple:
        return fnn.linear(4), fnn.softmax_cross_entropy, fnn.sgd(0.1)

    with pytest.raises((TypeError, ValueError), match=message):
        train_step(make, {}, init_state(make, {}, KEY, X), batch)


@pytest.mark.parametrize("data", [(X, Y), X, fnn.Dataset(Examples(X, Y), Examples(X, Y), (), "six")])
def test_an_epoch_and_a_chunk_name_examples_that_are_none(data: Any) -> None:
    def make(hyperparameters: Any) -> tuple:
        return fnn.linear(4), fnn.softmax_cross_entropy, fnn.sgd(0.1)

    state = init_state(make, {}, KEY, X)
    message = rf"examples must be fnn.Examples\(x, y\), such as data.train, not {type(data).__name__}"
    with pytest.raises(TypeError, match=message):
        fnn.train_epoch(make, {}, state, data, 0, batch_size=2)
    with pytest.raises(TypeError, match=message):
        train_chunk(make, {}, state, data, np.zeros((1, 2), int), np.ones((1, 2), bool))


def test_a_masked_mean_does_not_look_at_padding() -> None:
    values, mask = jnp.array([1.0, 2.0, jnp.nan, 6.0]), jnp.array([True, True, False, True])
    assert float(fnn.masked_mean(values, mask)) == 3
    with pytest.raises(ValueError, match=r"one value per example, shape \(4,\), not \(4, 1\)"):
        fnn.masked_mean(values[:, None], mask)
    with pytest.raises(ValueError, match="a mask is an array of 4 booleans, one for each example, got float"):
        fnn.masked_mean(values, mask / 2)


def test_a_plain_function_is_a_network() -> None:
    def make(hyperparameters: Any) -> tuple:
        return lambda x: 2 * x, fnn.mean_squared_error, fnn.sgd(0.1)

    state, measured = step(make, {}, init_state(make, {}, KEY, X), Batch(X, X, ALL))
    assert state.params == {}
    close(measured.loss, np.square(X).mean(), 1e-6)


# --- bfloat16 -------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], fnn.Optimizer]] = {
    "sgd": fnn.sgd,
    "momentum": lambda rate: fnn.momentum(rate, momentum=rate),
    "nesterov": lambda rate: fnn.nesterov(rate, momentum=rate),
    "adagrad": lambda rate: fnn.adagrad(rate, eps=rate),
    "rmsprop": lambda rate: fnn.rmsprop(rate, decay=rate, eps=rate),
    "adam": lambda rate: fnn.adam(rate, b1=rate, b2=rate, eps=rate),
    "clip and adam": lambda rate: fnn.chain(fnn.clip_by_global_norm(rate), fnn.adam(rate)),
}
KINDS: dict[str, Any] = {
    "number": 0.5,
    "array": jnp.float32(0.5),
    "schedule": fnn.exponential(0.5, 0.9),
}


def half_task(optimizer: str, hyperparameters: Any) -> Task:
    rate = hyperparameters["rate"]
    net = fnn.serial(fnn.linear(5), fnn.batch_norm(momentum=rate), fnn.relu, fnn.dropout(rate), fnn.linear(4))
    return Task(
        net,
        partial(fnn.softmax_cross_entropy, label_smoothing=rate),
        OPTIMIZERS[optimizer](rate),
        penalties=(partial(fnn.l2, strength=rate), partial(fnn.l1, strength=rate)),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bfloat16_stays_bfloat16(optimizer: str, kind: str) -> None:
    make, settings = partial(half_task, optimizer), {"rate": KINDS[kind]}
    state = init_state(make, settings, KEY, jax.ShapeDtypeStruct((1, 3), jnp.bfloat16))
    examples = Examples(jnp.asarray(X, jnp.bfloat16), jnp.asarray(Y))
    after, measured = jax.eval_shape(  # a scan refuses a state whose dtypes change
        partial(train_chunk, make, settings),
        state,
        examples,
        np.zeros((2, 3), np.int32),
        np.ones((2, 3), bool),
    )
    dtypes = jax.tree.map(lambda leaf: leaf.dtype, (state, after))
    assert dtypes[0] == dtypes[1]
    params = jax.tree.leaves(after.params)
    assert {leaf.dtype for leaf in params} == {jnp.dtype(jnp.bfloat16)}
    slots = [leaf for leaf in jax.tree.leaves(after.opt_state) if leaf.shape]
    assert {leaf.dtype for leaf in slots} <= {jnp.dtype(jnp.float32)}
    assert len(slots) == len(params) * {"sgd": 0, "adam": 2, "clip and adam": 2}.get(optimizer, 1)
    assert measured.loss.dtype == jnp.float32


def test_bfloat16_learns() -> None:
    make = partial(half_task, "sgd")
    state = init_state(make, {"rate": 0.0}, KEY, jax.ShapeDtypeStruct((1, 3), jnp.bfloat16))
    examples = Examples(jnp.asarray(X, jnp.bfloat16), jnp.asarray(Y))
    rows = np.tile(np.arange(6), (60, 1))

    def make_with_rate(hyperparameters: Any) -> Task:
        return make({"rate": 0.0})._replace(optimizer=fnn.sgd(hyperparameters))

    after, measured = jax.jit(partial(train_chunk, make_with_rate))(
        jnp.float32(0.1), state, examples, rows, np.ones((60, 6), bool)
    )
    assert after.params["linear_1"]["kernel"].dtype == jnp.bfloat16
    assert measured.loss[-1] < measured.loss[0] / 2
