"""Losses against NumPy, PyTorch and closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

TORCH = np.load(Path(__file__).with_name("torch_values.npz"))
MORE = np.load(Path(__file__).with_name("torch_loss_values.npz"))


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


Z, LOG_P = [2.0, 0.0, -1.0], np.array([2.0, 0.0, -1.0]) - np.log(np.exp([2.0, 0.0, -1.0]).sum())
SLOPES_OF_TARGETS: dict[str, tuple[Any, list[float], Any, np.ndarray]] = {
    "of probabilities": (optim.softmax_cross_entropy, Z, [0.7, 0.2, 0.1], -LOG_P),
    "of one class": (optim.softmax_cross_entropy, Z, [0.0, 1.0, 0.0], -LOG_P),
    "of a masked class": (
        optim.softmax_cross_entropy,
        [0.0, 0.0, -np.inf],
        [0.0, 1.0, 0.0],
        np.log([2, 2, 1]),
    ),
    "of the divergence": (optim.kl_divergence, Z, [0.7, 0.2, 0.1], np.log([0.7, 0.2, 0.1]) + 1 - LOG_P),
}


@pytest.mark.parametrize("name", SLOPES_OF_TARGETS)
def test_the_slope_of_a_target_is_what_its_class_costs(name: str) -> None:
    """H = -Σ t log p is linear in t, so ∂H/∂t = -log p, where t is 0 as elsewhere."""
    loss, logits, target, slope = SLOPES_OF_TARGETS[name]
    np.testing.assert_allclose(jax.grad(loss, 1)(jnp.array(logits), jnp.array(target)), slope, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_slope_of_the_smoothing(smoothing: float) -> None:
    """∂H/∂s = Σ_c (t_c - 1/C) log p_c for every s."""

    def loss(smoothing: Any) -> jax.Array:
        return optim.softmax_cross_entropy(jnp.array(Z), jnp.array(0), label_smoothing=smoothing)

    np.testing.assert_allclose(jax.grad(loss)(smoothing), LOG_P[0] - LOG_P.mean(), rtol=1e-5)


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


# --- all of them ------------------------------------------------------------------------------------------

# Loss, the name of its targets and of its values in PyTorch, and ours over PyTorch's.
PYTORCH: dict[str, tuple[Any, str, str, float]] = {
    "sigmoid_cross_entropy": (optim.sigmoid_cross_entropy, "labels", "sigmoid_cross_entropy", 1),
    "sigmoid_cross_entropy of fractions": (
        optim.sigmoid_cross_entropy,
        "fractions",
        "sigmoid_cross_entropy_fractions",
        1,
    ),
    "mean_absolute_error": (optim.mean_absolute_error, "numbers", "mean_absolute_error", 1),
    "huber": (partial(optim.huber, delta=0.7), "numbers", "huber", 1),
    "huber and SmoothL1Loss": (partial(optim.huber, delta=0.7), "numbers", "smooth_l1", 0.7),
    "multiclass_hinge": (partial(optim.multiclass_hinge, margin=1.5), "classes", "multi_margin", 4),
    "kl_divergence": (optim.kl_divergence, "probabilities", "kl_divergence", 1),
}


def losses_and_gradient(loss: Any, outputs: Any, targets: Any) -> tuple[Any, Any]:
    """One loss per example, and the gradient of their sum."""

    def total(outputs: Any) -> Any:
        losses = loss(outputs, targets)
        return losses.sum(), losses

    gradient, losses = jax.jit(jax.grad(total, has_aux=True))(outputs)
    return losses, gradient


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PYTORCH)
def test_a_loss_and_its_gradient_are_those_of_pytorch(name: str) -> None:
    loss, targets, values, factor = PYTORCH[name]
    losses, gradient = losses_and_gradient(loss, jnp.asarray(MORE["outputs"]), jnp.asarray(MORE[targets]))
    np.testing.assert_allclose(losses, factor * MORE[values], rtol=1e-12)
    np.testing.assert_allclose(gradient, factor * MORE[f"{values}_gradient"], rtol=1e-12, atol=1e-15)


# Loss, outputs, targets, and by hand: the losses and the gradient of their sum.
BY_HAND: dict[str, tuple[Any, Any, Any, Any, Any]] = {
    "sigmoid at 0": (optim.sigmoid_cross_entropy, [0.0, 0.0], [0, 1], [np.log(2)] * 2, [0.5, -0.5]),
    "sigmoid, far": (optim.sigmoid_cross_entropy, [1e4, 1e4, -1e4], [0, 1, 0], [1e4, 0, 0], [1, 0, 0]),
    "sigmoid, sure": (
        optim.sigmoid_cross_entropy,
        [[20.0, -20.0]],
        [[1, 0]],
        [np.exp(-20)],
        [[-np.exp(-20) / 2, np.exp(-20) / 2]],
    ),
    "sigmoid, infinite": (
        optim.sigmoid_cross_entropy,
        [np.inf, -np.inf, np.inf, -np.inf, np.inf, -np.inf],
        [1, 0, 0, 1, 0.25, 0.25],
        [0, 0, np.inf, np.inf, np.inf, np.inf],
        [0, 0, 1, -1, 0.75, -0.25],
    ),
    "sigmoid of halves": (
        optim.sigmoid_cross_entropy,
        [[1e4], [-1e4]],
        [[0.5], [0.5]],
        [5e3, 5e3],
        [[0.5], [-0.5]],
    ),
    "hinge of equal scores": (optim.multiclass_hinge, [[3.0] * 3], [1], [2], [[1, -2, 1]]),
    "hinge at the kink": (optim.multiclass_hinge, [[2.0, 1.0, 0.5]], [0], [0], [[0, 0, 0]]),
    "hinge, far": (optim.multiclass_hinge, [[1e4, -1e4]], [1], [2e4 + 1], [[1, -1]]),
    "CS231n's image": (
        optim.multiclass_hinge,
        [[13.0, -7.0, 11.0]],
        [1],
        [13 + 7 + 1 + 11 + 7 + 1],
        [[1, -2, 1]],
    ),
    "perceptron, right": (optim.perceptron_loss, [[3.0, 1.0]], [0], [0], [[0, 0]]),
    "perceptron, mistaken": (optim.perceptron_loss, [[3.0, 1.0, 2.0]], [1], [2], [[1, -1, 0]]),
    "perceptron, two rivals": (optim.perceptron_loss, [[3.0, 1.0, 3.0]], [1], [2], [[1, -1, 0]]),
    "perceptron, tied": (optim.perceptron_loss, [[1.0, 2.0, 2.0]], [1], [0], [[0, -1, 1]]),
    "perceptron, of one class": (optim.perceptron_loss, [[1.0]], [0], [0], [[0]]),
    "absolute": (optim.mean_absolute_error, [[1.0, 2.0]], [[3.0, 2.0]], [1], [[-0.5, 0]]),
    "huber": (
        optim.huber,
        [0.0, 0.5, 1.0, -1.0, 3.0, -1e30],
        [0.0] * 6,
        [0, 0.125, 0.5, 0.5, 2.5, 1e30],
        [0, 0.5, 1, -1, 1, -1],
    ),
    "KL of nothing": (optim.kl_divergence, [[0.0, 0.0]], [[1.0, 0.0]], [np.log(2)], [[-0.5, 0.5]]),
    "KL of the same": (optim.kl_divergence, [[0.0, 0.0]], [[0.5, 0.5]], [0], [[0, 0]]),
    "KL with a masked class": (
        optim.kl_divergence,
        [[2.0, 0.0, -np.inf]],
        [[0.5, 0.5, 0.0]],
        [-np.log(2) - 1 + np.log(np.exp(2) + 1)],
        [[np.exp(2) / (np.exp(2) + 1) - 0.5, 1 / (np.exp(2) + 1) - 0.5, 0]],
    ),
    "KL, far": (optim.kl_divergence, [[1e4, -1e4]], [[0.0, 1.0]], [2e4], [[1, -1]]),
}


IN_BFLOAT16 = "sigmoid at 0", "CS231n's image", "perceptron, tied", "absolute", "huber", "KL of nothing"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, jnp.float32) for name in BY_HAND), *((name, jnp.bfloat16) for name in IN_BFLOAT16)],
)
def test_a_loss_by_hand(name: str, dtype: Any) -> None:
    loss, outputs, targets, expected, slope = BY_HAND[name]
    losses, gradient = losses_and_gradient(loss, jnp.array(outputs, dtype), jnp.array(targets))
    rtol = 1e-5 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(losses, np.array(expected), rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(np.asarray(gradient, np.float32), np.array(slope), rtol=rtol, atol=1e-12)
    assert (losses.dtype, gradient.dtype) == (jnp.float32, dtype)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (optim.multiclass_hinge, "classes"),
        (optim.perceptron_loss, "classes"),
        (optim.kl_divergence, "probabilities"),
    ],
)
def test_leading_axes_stay(loss: Any, targets: str) -> None:
    outputs, targets = jnp.asarray(MORE["outputs"]), jnp.asarray(MORE[targets])
    losses = loss(outputs.reshape(2, 3, 4), targets.reshape(2, 3, *targets.shape[1:]))
    np.testing.assert_allclose(losses, loss(outputs, targets).reshape(2, 3), rtol=1e-14)


@pytest.mark.parametrize("loss", [optim.sigmoid_cross_entropy, optim.mean_absolute_error, optim.huber])
def test_the_mean_is_over_all_but_the_first_axis(loss: Any) -> None:
    random = np.random.default_rng(2)
    for shape in ((4,), (4, 1), (4, 2, 3)):
        y, t = random.uniform(size=(2, *shape)).astype(np.float32)
        elements = loss(jnp.asarray(y.ravel()), jnp.asarray(t.ravel()))
        losses = loss(jnp.asarray(y), jnp.asarray(t))
        np.testing.assert_allclose(losses, elements.reshape(4, -1).mean(-1), rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_the_divergence_is_cross_entropy_less_entropy() -> None:
    logits, t = jnp.asarray(MORE["outputs"]), MORE["probabilities"]
    entropy = -(t * np.log(np.where(t == 0, 1, t))).sum(-1)
    cross_entropy = optim.softmax_cross_entropy(logits, jnp.asarray(t))
    np.testing.assert_allclose(
        optim.kl_divergence(logits, jnp.asarray(t)), cross_entropy - entropy, atol=1e-13
    )
    assert float(optim.kl_divergence(jnp.log(jnp.asarray(t[1])), jnp.asarray(t[1]))) == pytest.approx(
        0, abs=1e-15
    )


@pytest.mark.parametrize("start", ["zeros", "random"])
def test_sgd_of_rate_1_on_the_perceptron_s_loss_is_the_perceptron_rule(start: str) -> None:
    random = np.random.default_rng(3)
    x = random.integers(-3, 4, size=(40, 5)).astype(np.float32)  # integers: the sums are exact, and tie
    y = random.integers(0, 3, size=40)
    w = np.zeros((5, 3)) if start == "zeros" else random.integers(-2, 3, size=(5, 3)).astype(float)
    ours = jnp.asarray(w, jnp.float32)
    gradient = jax.jit(jax.grad(lambda w, x, y: optim.perceptron_loss(x @ w, y)))
    mistakes = 0
    for row, true in zip(x, y, strict=True):
        ours = ours - gradient(ours, jnp.asarray(row), jnp.asarray(true))
        scores = row @ w
        others = [c for c in range(3) if c != true]
        rival = max(others, key=lambda c: (scores[c], -c))
        if scores[rival] >= scores[true]:
            w[:, true] += row
            w[:, rival] -= row
            mistakes += 1
        np.testing.assert_array_equal(ours, w)
    assert 5 < mistakes < 40


def test_traced_settings_are_values() -> None:
    scores, y = jnp.array([0.0, 0.5]), jnp.array(0)
    hinge = jax.jit(jax.vmap(lambda margin: optim.multiclass_hinge(scores, y, margin=margin)))
    np.testing.assert_allclose(hinge(jnp.array([0.0, 1.0, 2.0])), [0.5, 1.5, 2.5])
    error = jax.jit(jax.vmap(lambda delta: optim.huber(jnp.ones(1), jnp.zeros(1), delta=delta)[0]))
    np.testing.assert_allclose(error(jnp.array([0.5, 1.0, 2.0])), [0.375, 0.5, 0.5])


@pytest.mark.parametrize("loss", [optim.multiclass_hinge, optim.perceptron_loss])
def test_a_margin_to_a_class_that_does_not_exist_is_nan_and_spares_the_others(loss: Any) -> None:
    losses = loss(jnp.ones((4, 3)), jnp.array([-1, 0, 2, 3]))
    assert np.isnan(losses).tolist() == [True, False, False, True]


@pytest.mark.parametrize("loss", [optim.softmax_cross_entropy, optim.multiclass_hinge, optim.perceptron_loss])
@pytest.mark.parametrize(
    ("dtype", "classes", "label"), [("int8", 200, 3), ("uint8", 256, 255), ("uint8", 300, 7)]
)
def test_labels_may_be_of_a_type_too_narrow_for_the_number_of_classes(
    loss: Any, dtype: str, classes: int, label: int
) -> None:
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, classes)), jnp.float32)
    narrow, wide = (loss(logits, jnp.array([label], kind)) for kind in (dtype, "int32"))
    assert np.isfinite(wide).all()
    np.testing.assert_array_equal(narrow, wide)


def test_counts_of_labels_of_a_narrow_type() -> None:
    counts = optim.confusion_matrix(jnp.zeros((1, 200)), jnp.array([3], jnp.int8))
    assert np.argwhere(counts).tolist() == [[3, 0]]


def test_a_masked_class_is_a_class_less() -> None:
    """A logit of −∞ takes its class out: loss and gradient are those of the other classes alone."""
    logits, target = jnp.array([[1.0, 2.0, -jnp.inf]]), jnp.array([1])
    for loss in (optim.softmax_cross_entropy, optim.multiclass_hinge, optim.perceptron_loss):
        value, slope = jax.value_and_grad(lambda z, loss=loss: loss(z, target).sum())(logits)
        wanted, its = jax.value_and_grad(lambda z, loss=loss: loss(z, target).sum())(logits[:, :2])
        np.testing.assert_allclose(value, wanted, rtol=1e-6)
        np.testing.assert_allclose(slope, np.pad(its, [(0, 0), (0, 1)]), rtol=1e-6)
    assert float(optim.softmax_cross_entropy(logits, target)[0]) == pytest.approx(np.log1p(np.exp(-1)))
    assert float(optim.softmax_cross_entropy(jnp.array([3e38, -3e38, 0.0]), jnp.array(0))) == 0


@pytest.mark.parametrize("loss", [optim.softmax_cross_entropy, optim.multiclass_hinge, optim.perceptron_loss])
def test_a_row_that_does_not_count_may_have_any_label(loss: Any) -> None:
    counts, targets = jnp.array([True, False]), jnp.array([1, -1])
    mean = lambda z: jnp.where(counts, loss(z, targets), 0).sum()  # noqa: E731
    slope = jax.grad(mean)(jnp.array([[1.0, 0.5, 0.0], [1.0, 2.0, 3.0]]))
    assert np.isfinite(slope).all()
    assert (slope[0] != 0).any()
    np.testing.assert_array_equal(slope[1], 0)


def test_a_label_that_is_none_is_nan_and_spares_the_others() -> None:
    losses = optim.sigmoid_cross_entropy(jnp.ones(4), jnp.array([-1, 0, 1, 2]))
    assert np.isnan(losses).tolist() == [True, False, False, True]
    assert optim.sigmoid_cross_entropy(jnp.zeros(2), jnp.array([True, False])).shape == (2,)


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [optim.softmax_cross_entropy, optim.accuracy, optim.top_k_accuracy])
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (jnp.zeros((8, 1), int), r"integer targets .* shape \(8, 10\) must have shape \(8,\), not \(8, 1\)"),
        (jnp.zeros((8, 10), int), r"integer targets .* must have shape \(8,\), not \(8, 10\)"),
        (
            jnp.zeros((8,)),
            r"float targets .* must have shape \(8, 10\), not \(8,\); classes are integers of shape \(8,\): "
            r"targets.astype\(np.int32\)$",
        ),
        (
            jnp.zeros((8, 1)),
            r"not \(8, 1\); classes are integers of shape \(8,\): targets\[..., 0\].astype\(np.int32\)$",
        ),
        (jnp.zeros((8, 9)), r"float targets .* must have shape \(8, 10\), not \(8, 9\)$"),
        (jnp.zeros((8,), bool), "targets must be integer classes or float probabilities, not bool"),
    ],
)
def test_targets_that_do_not_fit_are_refused(function: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(jnp.zeros((8, 10)), targets)


def test_shapes_without_classes_or_examples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits must have an axis of classes, shape \(..., C\), not"):
        optim.softmax_cross_entropy(jnp.array(1.0), jnp.array(1))
    for loss in (optim.mean_squared_error, optim.mean_absolute_error, optim.huber):
        with pytest.raises(
            ValueError, match=r"predictions and .* not \(4, 1\) and \(4,\); .* shape \(4, 1\)"
        ):
            loss(jnp.zeros((4, 1)), jnp.zeros(4))
        with pytest.raises(ValueError, match=r"give the targets the shape \(4, 1\)"):
            loss(jnp.zeros((4, 1)), jnp.zeros(4, int))
        with pytest.raises(ValueError, match="predictions must have an axis of examples"):
            loss(jnp.array(1.0), jnp.array(1.0))
    with pytest.raises(
        ValueError, match=r"logits and .* the same shape, not \(4, 2\) and \(4,\); .*one_hot\(targets, 2\)"
    ):
        optim.sigmoid_cross_entropy(jnp.zeros((4, 2)), jnp.zeros(4, int))


def test_classes_and_probabilities_are_not_taken_for_each_other() -> None:
    with pytest.raises(
        ValueError, match=r"kl_divergence needs float targets \(probabilities\), not integer classes"
    ):
        optim.kl_divergence(jnp.zeros((4, 2)), jnp.zeros(4, int))
    for loss in (optim.multiclass_hinge, optim.perceptron_loss):
        with pytest.raises(
            ValueError, match=r"this loss needs integer targets \(classes\), not probabilities"
        ):
            loss(jnp.zeros((4, 2)), jnp.zeros((4, 2)))


def test_a_margin_or_delta_out_of_range_or_a_schedule_is_refused() -> None:
    schedule = optim.exponential(0.1, 0.5)
    scores, y, numbers = jnp.zeros((1, 2)), jnp.zeros(1, int), jnp.zeros(1)
    with pytest.raises(ValueError, match=r"margin must be at least 0, not -1\.0"):
        optim.multiclass_hinge(scores, y, margin=-1.0)
    with pytest.raises(TypeError, match="margin must be a number or a scalar array here, not a schedule"):
        optim.multiclass_hinge(scores, y, margin=schedule)
    with pytest.raises(ValueError, match=r"delta must be above 0 and below inf, not 0\.0"):
        optim.huber(numbers, numbers, delta=0.0)
    with pytest.raises(ValueError, match="delta must be above 0 and below inf, not inf"):
        optim.huber(numbers, numbers, delta=math.inf)
    with pytest.raises(TypeError, match="delta must be a number or a scalar array here, not a schedule"):
        optim.huber(numbers, numbers, delta=schedule)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (optim.softmax_cross_entropy, "label_smoothing"),
        (optim.multiclass_hinge, "margin"),
        (optim.huber, "delta"),
    ],
)
def test_a_setting_is_one_number_for_all_examples(loss: Any, name: str) -> None:
    outputs, y = (jnp.ones(3), jnp.ones(3)) if loss is optim.huber else (jnp.ones((3, 3)), jnp.zeros(3, int))
    with pytest.raises(ValueError, match=rf"^{name} must be a scalar, not an array of shape \(3,\); use jax"):
        loss(outputs, y, **{name: jnp.full(3, 0.1)})
    alone = jnp.stack([loss(z[None], t[None], **{name: 0.1})[0] for z, t in zip(outputs, y, strict=True)])
    mapped = jax.vmap(lambda z, t, s: loss(z[None], t[None], **{name: s})[0])(outputs, y, jnp.full(3, 0.1))
    np.testing.assert_allclose(mapped, alone, rtol=1e-6)


def test_a_smoothing_out_of_range_or_a_schedule_is_refused() -> None:
    logits, targets = jnp.zeros((1, 2)), jnp.zeros(1, int)
    with pytest.raises(ValueError, match=r"label_smoothing must be at least 0 and at most 1, not 1\.5"):
        optim.softmax_cross_entropy(logits, targets, label_smoothing=1.5)
    with pytest.raises(TypeError, match="label_smoothing must be a number or a scalar array here, not a sch"):
        optim.softmax_cross_entropy(logits, targets, label_smoothing=optim.exponential(0.1, 0.5))


@pytest.mark.parametrize(
    "function",
    [optim.softmax_cross_entropy, optim.mean_squared_error, optim.sigmoid_cross_entropy, optim.accuracy],
)
def test_outputs_with_the_state_of_a_network_and_lists_are_refused_by_name(function: Any) -> None:
    outputs = jnp.ones((2, 3))
    with pytest.raises(TypeError, match=r"must be an array, not tuple; .* apply returns \(outputs, state\)"):
        function((outputs, {}), outputs)
    with pytest.raises(TypeError, match=r"targets must be an array, not list$"):
        function(outputs, [[0.0, 1.0, 0.0]] * 2)
