"""Predictions and their score: every example once, whatever the batch size."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import softmax_regression

import fnn
from fnn.data import Examples, Moments, Splits
from fnn.train import Fit, Task, TrainState, evaluate, init_state, predict

RANDOM = np.random.default_rng(9)
X = RANDOM.normal(size=(13, 3)).astype(np.float32)
Y = RANDOM.integers(0, 4, 13).astype(np.int32)
SETTINGS = {"learning_rate": 0.1, "strength": 5.0}
KERNEL, BIAS = softmax_regression.start((3, 4)), np.zeros(4)


def initial(moments: Moments | None = None) -> TrainState:
    return init_state(softmax_regression.make, SETTINGS, jax.random.key(0), X, moments)


@pytest.mark.parametrize("batch_size", [1, 5, 13, 1000])
def test_predictions_are_those_of_numpy_in_order(batch_size: int) -> None:
    actual = predict(softmax_regression.make, SETTINGS, initial(), jnp.asarray(X), batch_size=batch_size)
    assert actual.shape == (13, 4)
    np.testing.assert_allclose(actual, X @ KERNEL, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "batch_size"), [(13, 1), (13, 4), (13, 12), (13, 13), (13, 1000), (7, 2), (2, 5), (1, 1), (1, 4)]
)
def test_evaluation_counts_every_example_once(n: int, batch_size: int) -> None:
    examples = Examples(X[:n], Y[:n])
    actual = evaluate(softmax_regression.make, SETTINGS, initial(), examples, batch_size=batch_size)
    expected = softmax_regression.measure(KERNEL, BIAS, X[:n], Y[:n], strength=0)  # penalties do not count
    assert set(actual) == {"loss", "accuracy"}
    np.testing.assert_allclose(actual["loss"], expected.loss, rtol=1e-5)
    np.testing.assert_allclose(actual["accuracy"], expected.accuracy, rtol=1e-6)


def test_bytes_are_scaled_and_standardised_but_not_augmented() -> None:
    def make(hyperparameters: Any) -> Task:
        task = softmax_regression.make(hyperparameters)
        return task._replace(augment=(lambda key, x: x + 100.0,))

    x = RANDOM.integers(0, 256, (5, 3)).astype(np.uint8)
    moments = Moments(np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 2.0, 0.25]))
    actual = predict(make, SETTINGS, initial(moments), jnp.asarray(x), batch_size=2)
    inputs = (x / 255.0 - np.array([[0.1, 0.2, 0.3]])) / np.array([[0.5, 2.0, 0.25]])
    np.testing.assert_allclose(actual, inputs @ KERNEL, rtol=1e-5, atol=1e-5)


def test_the_network_is_in_evaluation_mode() -> None:
    """Dropout is off and batch norm uses its running statistics, so no example depends on another."""

    def make(hyperparameters: Any) -> tuple:
        return fnn.serial(fnn.batch_norm(), fnn.dropout(0.5)), fnn.mean_squared_error, fnn.sgd(0.1)

    state = init_state(make, {}, jax.random.key(0), X)
    state = state._replace(state={"batch_norm_1": {"mean": jnp.full(3, 0.5), "var": jnp.full(3, 4.0)}})
    actual = predict(make, {}, state, jnp.asarray(X), batch_size=5)
    np.testing.assert_allclose(actual, (X - 0.5) / np.sqrt(4 + 1e-5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(13,), (13, 2)])
def test_targets_of_a_regression_have_a_loss_only(shape: tuple[int, ...]) -> None:
    targets = RANDOM.normal(size=shape).astype(np.float32)

    def make(hyperparameters: Any) -> tuple:
        net = fnn.linear(2) if len(shape) == 2 else fnn.serial(fnn.linear(1), lambda x: x[:, 0])
        return net, fnn.mean_squared_error, fnn.sgd(0.1)

    state = init_state(make, {}, jax.random.key(0), X)
    actual = evaluate(make, {}, state, Examples(X, targets), batch_size=4)
    params = state.params if len(shape) == 2 else state.params["linear_1"]
    outputs = (X @ np.asarray(params["kernel"])).reshape(shape)
    assert set(actual) == {"loss"}
    np.testing.assert_allclose(actual["loss"], np.square(outputs - targets).mean(), rtol=1e-5)


def test_targets_of_several_axes_come_back_whole() -> None:
    def make(hyperparameters: Any) -> tuple:
        return fnn.conv(2, 3), fnn.mean_squared_error, fnn.sgd(0.1)

    x = RANDOM.normal(size=(5, 4, 4, 1)).astype(np.float32)
    state = init_state(make, {}, jax.random.key(0), x)
    whole = predict(make, {}, state, jnp.asarray(x))
    assert whole.shape == (5, 4, 4, 2)
    np.testing.assert_allclose(
        predict(make, {}, state, jnp.asarray(x), batch_size=2), whole, rtol=1e-5, atol=1e-6
    )


def test_hyperparameters_are_evaluated_at_the_step_of_the_state() -> None:
    def make(shift: Any) -> tuple:
        return lambda x: x + shift, fnn.mean_squared_error, fnn.sgd(0.1)

    schedule = fnn.piecewise((5,), (1.0, 2.0))
    for step, shift in [(4, 1), (5, 2)]:
        state = initial()._replace(step=jnp.int32(step), params={})
        np.testing.assert_allclose(predict(make, schedule, state, jnp.asarray(X)), X + shift, rtol=1e-6)


@pytest.mark.parametrize(("platform", "together"), [("cpu", 100), ("cuda", 1000), ("tpu", 1000)])
def test_a_cpu_predicts_few_at_a_time_and_an_accelerator_many(platform: str, together: int) -> None:
    def predictions(x: Any) -> Any:
        return predict(softmax_regression.make, SETTINGS, initial(), x)

    exported = jax.export.export(jax.jit(predictions), platforms=[platform])(jnp.zeros((2050, 3)))
    sizes = set(re.findall(r"dot_general .* -> tensor<(\d+)x4xf32>", exported.mlir_module()))
    assert sizes == {str(together)}


def test_by_default_every_row_is_predicted_once_and_in_order() -> None:
    x = RANDOM.normal(size=(1050, 3)).astype(np.float32)
    actual = predict(softmax_regression.make, SETTINGS, initial(), x)
    np.testing.assert_allclose(actual, x @ KERNEL, rtol=1e-5, atol=1e-5)


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        predict(softmax_regression.make, SETTINGS, initial(), X, batch_size=0)


@pytest.mark.parametrize(
    ("state", "examples", "message"),
    [
        (Fit(initial(), initial(), 0, ()), Examples(X, Y), "state must be a TrainState, .*, not Fit"),
        (initial(), (X, Y), r"examples must be fnn.Examples\(x, y\), such as data.test, not tuple"),
        (initial(), Splits(*[Examples(X, Y)] * 3, tuple("abcd"), "all"), "examples must be .*, not Splits"),
    ],
)
def test_a_run_and_data_as_a_whole_are_refused(state: Any, examples: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        evaluate(softmax_regression.make, SETTINGS, state, examples)


@pytest.mark.parametrize("x", [Examples(X, Y), Splits(*[Examples(X, Y)] * 3, tuple("abcd"), "all")])
def test_inputs_are_not_a_data_set(x: Any) -> None:
    with pytest.raises(TypeError, match=r"x must be an array of inputs, such as data.test.x, not [ES]"):
        predict(softmax_regression.make, SETTINGS, initial(), x)


NAN = np.where(np.arange(3) == 2, np.float32(np.nan), X)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (NAN, Y, "x of the part to evaluate holds nan at example 0"),
        (X, Y + 1, "label 4 at example . in the part to evaluate lies outside the 4 classes"),
        (X, Y - 1, "label -1 at example . in the part to evaluate lies outside the 4 classes"),
        (X, Y[:3], r"the part to evaluate has 13 examples in x but y has shape \(3,\)"),
    ],
)
def test_examples_that_are_not_sound_are_refused(x: Any, y: Any, message: str, array: Any) -> None:
    examples = Examples(array(x), array(y))
    with pytest.raises(ValueError, match=message):
        evaluate(softmax_regression.make, SETTINGS, initial(), examples)
    known = partial(evaluate, softmax_regression.make, SETTINGS)
    with pytest.raises(ValueError, match=message):  # where the state alone is traced
        jax.jit(lambda state: known(state, examples))(initial())


def test_names_are_no_labels() -> None:
    with pytest.raises(ValueError, match="y of the part to evaluate is <U1; expected integers"):
        evaluate(softmax_regression.make, SETTINGS, initial(), Examples(X, np.array(list("abcd"))[Y]))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_states_may_be_traced_and_examples_not(array: Any) -> None:
    examples = Examples(array(X), array(Y))
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), initial())
    known = partial(evaluate, softmax_regression.make, SETTINGS)
    many = jax.vmap(lambda state: known(state, examples))(states)
    np.testing.assert_allclose(many["loss"], [known(initial(), examples)["loss"]] * 2, rtol=1e-6)


def test_arrays_on_the_host_will_do() -> None:
    actual = predict(softmax_regression.make, SETTINGS, initial(), X, batch_size=5)
    np.testing.assert_allclose(actual, X @ KERNEL, rtol=1e-5, atol=1e-6)


def test_under_jit_it_is_the_same() -> None:
    examples = Examples(X, Y)
    eager = evaluate(softmax_regression.make, SETTINGS, initial(), examples, batch_size=4)
    compiled = jax.jit(partial(evaluate, softmax_regression.make, batch_size=4))(
        SETTINGS, initial(), examples
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), compiled, eager)


def test_the_states_of_several_networks_are_told_from_that_of_one() -> None:
    keys = jax.random.split(jax.random.key(0), 3)  # as many networks as inputs
    states = jax.vmap(lambda key: init_state(softmax_regression.make, SETTINGS, key, X))(keys)
    message = "^the state is that of 3 networks; ask each of them, by jax.vmap over the state$"
    with pytest.raises(ValueError, match=message):
        predict(softmax_regression.make, SETTINGS, states, X)
    with pytest.raises(ValueError, match=message):
        evaluate(softmax_regression.make, SETTINGS, states, Examples(X, Y))
    each = jax.vmap(lambda state: predict(softmax_regression.make, SETTINGS, state, X))(states)
    np.testing.assert_allclose(each, np.stack([X @ KERNEL] * 3), rtol=1e-5, atol=1e-6)
