"""Metrics against NumPy and cases by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

RANDOM = np.random.default_rng(0)
LOGITS = (RANDOM.normal(size=(400, 6)) * 2).astype(np.float32)
TARGETS = np.where(RANDOM.uniform(size=400) < 0.6, LOGITS.argmax(-1), RANDOM.integers(0, 6, size=400))


def one_hot(classes: Any) -> jax.Array:
    return jnp.eye(6)[classes]


# --- accuracy ---------------------------------------------------------------------------------------------


def test_accuracy_is_one_or_zero_per_example() -> None:
    logits = jnp.array([[0.1, 0.9, 0.0], [5.0, -1.0, 2.0], [0.0, 0.0, 1.0]])
    assert optim.accuracy(logits, jnp.array([1, 2, 2])).tolist() == [1, 0, 1]
    assert optim.accuracy(logits, jnp.array([1, 2, 2])).dtype == jnp.float32
    probabilities = jnp.array([[0.2, 0.7, 0.1], [0.2, 0.3, 0.5], [0.3, 0.3, 0.4]])
    assert optim.accuracy(logits, probabilities).tolist() == [1, 0, 1]
    assert optim.accuracy(logits[None], jnp.array([[1, 0, 0]])).tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_top_k_accuracy_is_whether_fewer_than_k_logits_are_larger(k: int) -> None:
    own = np.take_along_axis(LOGITS, TARGETS[:, None], axis=-1)
    expected = (own < LOGITS).sum(-1) < k
    for targets in (jnp.asarray(TARGETS), one_hot(TARGETS)):
        hits = optim.top_k_accuracy(jnp.asarray(LOGITS), targets, k=k)
        np.testing.assert_array_equal(hits, expected)
    assert hits.dtype == jnp.float32
    assert 0 < expected.mean() < 1 or k == 6


def test_of_equal_logits_the_first_are_among_the_top_k() -> None:
    logits, classes = jnp.zeros((4, 4)), jnp.arange(4)
    assert optim.top_k_accuracy(logits, classes, k=2).tolist() == [1, 1, 0, 0]
    assert optim.top_k_accuracy(logits, classes, k=1).tolist() == optim.accuracy(logits, classes).tolist()
    assert optim.top_k_accuracy(logits[None], classes[None], k=3).tolist() == [[1, 1, 1, 0]]


# --- of all examples together -----------------------------------------------------------------------------


def test_logits_that_are_no_numbers_predict_nothing() -> None:
    logits = jnp.array([[jnp.nan, 0.0, 1.0], [0.0, 1.0, jnp.nan], [0.0, jnp.inf, -jnp.inf]])
    for metric in (optim.accuracy, lambda logits, y: optim.top_k_accuracy(logits, y, k=3)):
        assert metric(logits, jnp.array([0, 2, 1])).tolist() == [0, 0, 1]
    matrix = optim.confusion_matrix(logits, jnp.array([0, 2, 1]))
    assert matrix.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_the_confusion_matrix_has_a_row_for_each_true_class() -> None:
    expected = np.zeros((6, 6), int)
    for row, true in zip(LOGITS, TARGETS, strict=True):
        expected[true, row.argmax()] += 1
    for targets in (jnp.asarray(TARGETS), one_hot(TARGETS)):
        matrix = jax.jit(optim.confusion_matrix)(jnp.asarray(LOGITS), targets)
        np.testing.assert_array_equal(matrix, expected)
        assert matrix.dtype == jnp.int32
    assert (expected != expected.T).any()
    shaped = optim.confusion_matrix(
        jnp.asarray(LOGITS).reshape(4, 100, 6), jnp.asarray(TARGETS).reshape(4, 100)
    )
    np.testing.assert_array_equal(shaped, expected)


def test_a_class_that_does_not_exist_is_in_no_row() -> None:
    matrix = optim.confusion_matrix(jnp.eye(3)[jnp.array([0, 1, 2, 2])], jnp.array([0, -1, 3, 1]))
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_calibration_error_is_its_formula(bins: int) -> None:
    logits = LOGITS.astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    confidence, right = p.max(-1), p.argmax(-1) == TARGETS
    expected = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            expected += inside.sum() / 400 * abs(right[inside].mean() - confidence[inside].mean())
    for shape in ((400,), (4, 100)):
        error = optim.calibration_error(
            jnp.asarray(LOGITS).reshape(*shape, 6), jnp.asarray(TARGETS).reshape(shape), bins=bins
        )
        np.testing.assert_allclose(error, expected, rtol=1e-5)
        assert error.shape == ()
    assert expected > 0.05


def test_calibration_by_hand() -> None:
    sure, half = jnp.array([[100.0, 0.0]] * 4), jnp.zeros((4, 2))
    assert float(optim.calibration_error(sure, jnp.zeros(4, int))) == 0
    assert float(optim.calibration_error(sure, jnp.ones(4, int))) == 1
    assert float(optim.calibration_error(half, jnp.array([0, 1, 1, 0]))) == 0
    # 0.5 belongs to the lower of two bins and 1 to the upper: |2/4 (1 - 0.5)| + |2/4 (0 - 1)|.
    logits, classes = jnp.concatenate([half[:2], sure[:2]]), jnp.array([0, 0, 1, 1])
    assert float(optim.calibration_error(logits, classes, bins=2)) == 0.75
    assert float(optim.calibration_error(logits, classes, bins=1)) == 0.25
    assert float(optim.calibration_error(sure.astype(jnp.bfloat16), jnp.ones(4, int))) == 1


# --- errors -----------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    logits, classes = jnp.zeros((4, 3)), jnp.zeros(4, int)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k must be from 1 to 3, the number of classes, not {k}"):
            optim.top_k_accuracy(logits, classes, k=k)
    with pytest.raises(ValueError, match="bins must be at least 1, not 0"):
        optim.calibration_error(logits, classes, bins=0)
    with pytest.raises(TypeError, match=r"k must be an integer, not 2\.5"):
        optim.top_k_accuracy(logits, classes, k=2.5)
    with pytest.raises(TypeError, match=r"bins must be an integer, not 2\.5"):
        optim.calibration_error(logits, classes, bins=2.5)
    for metric in (optim.confusion_matrix, optim.calibration_error):
        with pytest.raises(ValueError, match=r"targets .* must have shape"):
            metric(logits, classes[:2])
