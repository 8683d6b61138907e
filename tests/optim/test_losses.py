"""Losses against NumPy, PyTorch and closed forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

TORCH = np.load(Path(__file__).with_name("torch_values.npz"))


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# --- cross-entropy ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_cross_entropy_and_its_gradient_are_those_of_pytorch(kind: str, smoothing: float) -> None:
    targets = jnp.asarray(TORCH[kind])

    def total(logits: Any) -> Any:
        losses = optim.softmax_cross_entropy(logits, targets, label_smoothing=smoothing)
        return losses.sum(), losses

    gradient, losses = jax.grad(total, has_aux=True)(jnp.asarray(TORCH["logits"]))
    np.testing.assert_allclose(losses, TORCH[f"cross_entropy_{kind}_{smoothing}"], rtol=1e-12)
    np.testing.assert_allclose(
        gradient, TORCH[f"cross_entropy_gradient_{kind}_{smoothing}"], rtol=1e-12, atol=1e-14
    )


@pytest.mark.usefixtures("float64")
def test_cross_entropy_is_its_formula_over_any_leading_axes() -> None:
    random = np.random.default_rng(1)
    logits, classes = random.normal(size=(2, 3, 5)), random.integers(0, 5, size=(2, 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    t = 0.8 * np.eye(5)[classes] + 0.2 / 5
    losses = optim.softmax_cross_entropy(jnp.asarray(logits), jnp.asarray(classes), label_smoothing=0.2)
    assert losses.shape == (2, 3)
    np.testing.assert_allclose(losses, -(t * np.log(p)).sum(-1), rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_equal_logits_cost_ln_c(smoothing: float) -> None:
    losses = optim.softmax_cross_entropy(jnp.full((4, 10), 7.0), jnp.arange(4), label_smoothing=smoothing)
    np.testing.assert_allclose(losses, np.full(4, np.log(10)), rtol=1e-6)


def test_the_gradient_is_softmax_minus_target() -> None:
    logits = jnp.array([1.0, -2.0, 0.5])
    gradient = jax.grad(optim.softmax_cross_entropy)(logits, jnp.array(2))
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(gradient, p - np.array([0, 0, 1]), atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_value_and_gradient_are_finite_and_right_at_huge_logits(dtype: Any, smoothing: float) -> None:
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    targets = jnp.array([0, 1])
    difference = float(logits[0, 0]) - float(logits[0, 1])  # 20 000 but for rounding in 16 bits

    def total(logits: Any) -> Any:
        losses = optim.softmax_cross_entropy(logits, targets, label_smoothing=smoothing)
        return losses.sum(), losses

    gradient, losses = jax.grad(total, has_aux=True)(logits)
    wrong = np.array([smoothing / 2, 1 - smoothing / 2])  # probability that the target gives the other class
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, wrong * difference, rtol=1e-6)
    np.testing.assert_allclose(
        np.asarray(gradient, np.float32), np.stack([wrong, -wrong], axis=-1), rtol=1e-2
    )
    assert gradient.dtype == dtype


def test_a_traced_smoothing_is_a_value() -> None:
    logits, targets = jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0])

    def loss(smoothing: Any) -> jax.Array:
        return optim.softmax_cross_entropy(logits, targets, label_smoothing=smoothing)[0]

    smoothings = jnp.array([0.0, 0.5, 1.0])
    log_p = np.asarray(jax.nn.log_softmax(logits[0]))
    expected = [-((1 - s) * log_p[0] + s * log_p.mean()) for s in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(smoothings), expected, rtol=1e-6)


def test_the_gradient_has_no_scatter() -> None:
    def total(logits: Any) -> Any:
        return optim.softmax_cross_entropy(logits, jnp.zeros(8, int)).sum()

    assert "scatter" not in str(jax.make_jaxpr(jax.grad(total))(jnp.ones((8, 10))))


def test_a_class_that_does_not_exist_costs_nan_and_spares_the_others() -> None:
    losses = optim.softmax_cross_entropy(jnp.zeros((4, 3)), jnp.array([-1, 0, 2, 3]))
    assert np.isnan(losses).tolist() == [True, False, False, True]


# --- squared error ----------------------------------------------------------------------------------------


def test_the_squared_error_is_a_mean_over_all_but_the_first_axis() -> None:
    random = np.random.default_rng(2)
    for shape in ((4,), (4, 1), (4, 3), (4, 2, 3)):
        y, t = random.normal(size=(2, *shape)).astype(np.float32)
        losses = optim.mean_squared_error(jnp.asarray(y), jnp.asarray(t))
        np.testing.assert_allclose(losses, ((y - t) ** 2).reshape(4, -1).mean(-1), rtol=1e-5)
        assert losses.shape == (4,)


def test_the_squared_error_of_bytes_does_not_wrap_around() -> None:
    loss = optim.mean_squared_error(jnp.array([[0, 255]], jnp.uint8), jnp.array([[255, 255]], jnp.uint8))
    assert loss.tolist() == [255**2 / 2]


# --- accuracy ---------------------------------------------------------------------------------------------


def test_accuracy_is_one_or_zero_per_example() -> None:
    logits = jnp.array([[0.1, 0.9, 0.0], [5.0, -1.0, 2.0], [0.0, 0.0, 1.0]])
    assert optim.accuracy(logits, jnp.array([1, 2, 2])).tolist() == [1, 0, 1]
    assert optim.accuracy(logits, jnp.array([1, 2, 2])).dtype == jnp.float32
    probabilities = jnp.array([[0.2, 0.7, 0.1], [0.2, 0.3, 0.5], [0.3, 0.3, 0.4]])
    assert optim.accuracy(logits, probabilities).tolist() == [1, 0, 1]
    assert optim.accuracy(logits[None], jnp.array([[1, 0, 0]])).tolist() == [[1, 1, 0]]


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [optim.softmax_cross_entropy, optim.accuracy])
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (jnp.zeros((8, 1), int), r"integer targets .* shape \(8, 10\) must have shape \(8,\), not \(8, 1\)"),
        (jnp.zeros((8, 10), int), r"integer targets .* must have shape \(8,\), not \(8, 10\)"),
        (jnp.zeros((8,)), r"float targets .* must have shape \(8, 10\), not \(8,\)"),
        (jnp.zeros((8,), bool), "targets must be integer classes or float probabilities, not bool"),
    ],
)
def test_targets_that_do_not_fit_are_refused(function: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(jnp.zeros((8, 10)), targets)


def test_shapes_without_classes_or_examples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits must have an axis of classes, shape \(..., C\), not"):
        optim.softmax_cross_entropy(jnp.array(1.0), jnp.array(1))
    with pytest.raises(ValueError, match=r"must have the same shape, not \(4, 1\) and \(4,\)"):
        optim.mean_squared_error(jnp.zeros((4, 1)), jnp.zeros(4))
    with pytest.raises(ValueError, match="predictions must have an axis of examples"):
        optim.mean_squared_error(jnp.array(1.0), jnp.array(1.0))


def test_a_smoothing_out_of_range_or_a_schedule_is_refused() -> None:
    logits, targets = jnp.zeros((1, 2)), jnp.zeros(1, int)
    with pytest.raises(ValueError, match=r"label_smoothing must be at least 0 and at most 1, not 1\.5"):
        optim.softmax_cross_entropy(logits, targets, label_smoothing=1.5)
    with pytest.raises(TypeError, match="label_smoothing must be a number or a scalar array here, not a sch"):
        optim.softmax_cross_entropy(logits, targets, label_smoothing=optim.exponential(0.1, 0.5))
