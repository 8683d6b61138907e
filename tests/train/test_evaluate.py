"""What a trained network says: every example counts exactly once, whatever the batches."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

RANDOM = np.random.default_rng(1)
N = 10
X = RANDOM.normal(size=(N, 4)).astype(np.float32)
Y = RANDOM.integers(0, 3, N).astype(np.int32)
KERNEL, BIAS = RANDOM.normal(size=(4, 3)).astype(np.float32), RANDOM.normal(size=3).astype(np.float32)
MOMENTS = fnn.Moments(np.array([0.5, 0, 0, -1], np.float32), np.array([2, 1, 1, 0.5], np.float32))


def make(_: Any) -> Any:
    """Dropout and a penalty must not show in evaluation."""
    penalties = (partial(fnn.l2, strength=10.0),)
    return fnn.serial(fnn.dropout(0.9), fnn.linear(3)), fnn.softmax_cross_entropy, fnn.sgd(0.1), penalties


def regression(_: Any) -> Any:
    return fnn.serial(fnn.linear(3)), fnn.mean_squared_error, fnn.sgd(0.1)


def state_with(moments: fnn.Moments | None) -> fnn.TrainState:
    params = {"linear_1": {"kernel": jnp.asarray(KERNEL), "bias": jnp.asarray(BIAS)}}
    return fnn.TrainState(jnp.zeros((), jnp.int32), params, {}, (), jax.random.key(0), moments)


def numpy_logits(moments: fnn.Moments | None) -> np.ndarray:
    x = X if moments is None else (X - moments.mean) / moments.std
    return x.astype(np.float64) @ KERNEL + BIAS


every_size = pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 1000])
with_moments = pytest.mark.parametrize("moments", [None, MOMENTS], ids=["raw", "standardised"])


@every_size
@with_moments
def test_predict_gives_a_row_for_every_input(batch_size: int, moments: Any) -> None:
    outputs = fnn.predict(make, None, state_with(moments), jnp.asarray(X), batch_size=batch_size)
    assert outputs.shape == (N, 3)
    np.testing.assert_allclose(outputs, numpy_logits(moments), rtol=1e-5, atol=1e-5)


@every_size
@with_moments
def test_loss_and_accuracy_are_numpys_over_all_examples(batch_size: int, moments: Any) -> None:
    measured = fnn.evaluate(make, None, state_with(moments), fnn.Examples(X, Y), batch_size=batch_size)
    logits = numpy_logits(moments)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(N), Y]
    assert set(measured) == {"loss", "accuracy"}
    np.testing.assert_allclose(measured["loss"], losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(measured["accuracy"], (logits.argmax(1) == Y).mean(), rtol=1e-6)


@every_size
def test_targets_that_are_no_classes_have_a_loss_alone(batch_size: int) -> None:
    targets = RANDOM.normal(size=(N, 3)).astype(np.float32)
    measured = fnn.evaluate(
        regression, None, state_with(None), fnn.Examples(X, targets), batch_size=batch_size
    )
    assert set(measured) == {"loss"}
    np.testing.assert_allclose(measured["loss"], ((numpy_logits(None) - targets) ** 2).mean(), rtol=1e-5)


def test_bytes_are_scaled_as_in_training() -> None:
    x = RANDOM.integers(0, 256, (N, 4)).astype(np.uint8)
    outputs = fnn.predict(regression, None, state_with(MOMENTS), jnp.asarray(x), batch_size=4)
    expected = ((x / 255 - MOMENTS.mean) / MOMENTS.std) @ KERNEL + BIAS
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_uses_its_running_statistics() -> None:
    def make(_: Any) -> Any:
        return fnn.serial(fnn.batch_norm(eps=1e-5)), fnn.mean_squared_error, fnn.sgd(0.1)

    params = {"batch_norm_1": {"scale": jnp.full(4, 2.0), "bias": jnp.full(4, 1.0)}}
    statistics = {"batch_norm_1": {"mean": jnp.full(4, 3.0), "var": jnp.full(4, 4.0)}}
    state = state_with(None)._replace(params=params, state=statistics)
    outputs = fnn.predict(make, None, state, jnp.asarray(X), batch_size=3)
    np.testing.assert_allclose(outputs, 2 * (X - 3) / np.sqrt(4 + 1e-5) + 1, rtol=1e-5)


def test_hyperparameters_are_evaluated_at_the_step() -> None:
    def make(shift: Any) -> Any:
        return lambda x: x + shift, fnn.mean_squared_error, fnn.sgd(0.1)

    schedule = fnn.piecewise((5,), (1.0, 2.0))
    for step, shift in [(4, 1), (5, 2)]:
        state = state_with(None)._replace(step=jnp.asarray(step), params={})
        np.testing.assert_allclose(fnn.predict(make, schedule, state, jnp.asarray(X)), X + shift, rtol=1e-6)
