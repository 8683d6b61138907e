"""Backpropagation: gradients derived by hand, of batches, and against finite differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import fnn
from fnn import optim


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# --- the worked examples of the notes ---------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
def test_the_squared_norm_of_a_linear_map() -> None:
    """f = ‖Wx‖², q = Wx: ∇_W f = 2 q xᵀ and ∇_x f = 2 Wᵀ q."""
    random = np.random.default_rng(0)
    w, x = random.normal(size=(3, 4)), random.normal(size=4)
    by_w, by_x = jax.grad(lambda w, x: jnp.sum((w @ x) ** 2), argnums=(0, 1))(w, x)
    q = w @ x
    np.testing.assert_allclose(by_w, 2 * np.outer(q, x), rtol=1e-12)
    np.testing.assert_allclose(by_x, 2 * w.T @ q, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_the_squared_norm_of_two_layers_of_tanh() -> None:
    """f = ‖tanh(W₂ tanh(W₁ x + b₁) + b₂)‖², in which ∂f/∂y₃ = 2 y₄ ⊙ (1 + y₄) ⊙ (1 - y₄).

    The notes leave out the factor y₄, the derivative of the squared norm by y₄.
    """
    random = np.random.default_rng(1)
    w1, b1, w2, b2, x = (random.normal(size=size) for size in ((4, 3), 4, (2, 4), 2, 3))

    def f(w1: Any, b1: Any, w2: Any, b2: Any, x: Any) -> jax.Array:
        return jnp.sum(jnp.tanh(w2 @ jnp.tanh(w1 @ x + b1) + b2) ** 2)

    gradients = jax.grad(f, argnums=(0, 1, 2, 3, 4))(w1, b1, w2, b2, x)

    def by_hand(of_the_norm: Any) -> list[np.ndarray]:
        y2 = np.tanh(w1 @ x + b1)
        y4 = np.tanh(w2 @ y2 + b2)
        by_y3 = of_the_norm(y4) * (1 + y4) * (1 - y4)
        by_y1 = (w2.T @ by_y3) * (1 + y2) * (1 - y2)
        return [np.outer(by_y1, x), by_y1, np.outer(by_y3, y2), by_y3, w1.T @ by_y1]

    right, of_the_notes = by_hand(lambda y4: 2 * y4), by_hand(lambda y4: 2)
    for gradient, hand, notes in zip(gradients, right, of_the_notes, strict=True):
        np.testing.assert_allclose(gradient, hand, rtol=1e-10)
        assert np.abs(gradient - notes).max() > 0.1 * np.abs(gradient).max()


# --- batches ----------------------------------------------------------------------------------------------

EXAMPLES = 60


@pytest.fixture(scope="module")
def gradients() -> tuple[np.ndarray, np.ndarray]:
    """The gradient of each example (N, P), and that of the mean over all (P,), for a small network."""
    random = np.random.default_rng(2)
    with jax.enable_x64(True):
        x = jnp.asarray(random.normal(size=(EXAMPLES, 3)))
        y = jnp.asarray(random.integers(0, 4, size=EXAMPLES))
        net = fnn.serial(fnn.linear(5), fnn.tanh, fnn.linear(4))
        params, _ = net.init(jax.random.key(0), x)

        def mean_loss(params: Any, x: Any, y: Any) -> jax.Array:
            logits, _ = net.apply(params, {}, x)
            return optim.softmax_cross_entropy(logits, y).mean()

        def gradient(x: Any, y: Any) -> jax.Array:
            return ravel_pytree(jax.grad(mean_loss)(params, x, y))[0]

        each = jax.jit(jax.vmap(gradient))(x[:, None], y[:, None])
        return np.asarray(each), np.asarray(jax.jit(gradient)(x, y))


@pytest.mark.parametrize("batch_size", [1, 4, 20, 30])
def test_the_mean_gradient_of_a_partition_is_the_full_gradient(gradients: Any, batch_size: int) -> None:
    each, full = gradients
    order = np.random.default_rng(batch_size).permutation(EXAMPLES).reshape(-1, batch_size)
    batches = each[order].mean(axis=1)
    assert full.dtype == np.float64
    np.testing.assert_allclose(batches.mean(axis=0), full, rtol=0, atol=1e-9)
    assert np.abs(batches[0] - full).max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 3, 10, 30, 60])
def test_the_variance_of_a_batch_s_gradient_is_that_of_a_sample(gradients: Any, batch_size: int) -> None:
    """E ‖g_B - g‖² = σ² / B · (N - B) / (N - 1) for B of N examples drawn without replacement."""
    each, full = gradients
    variance = ((each - full) ** 2).sum(axis=-1).mean()
    random = np.random.default_rng(batch_size)
    draws = [each[random.permutation(EXAMPLES)[:batch_size]].mean(axis=0) for _ in range(4000)]
    found = ((np.stack(draws) - full) ** 2).sum(axis=-1).mean()
    expected = variance / batch_size * (EXAMPLES - batch_size) / (EXAMPLES - 1)
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-20)


# --- check_gradients --------------------------------------------------------------------------------------


def wrong_by(factor: float) -> Any:
    """Σ x³, whose gradient is wrong by a factor."""

    @jax.custom_vjp
    def cubes(x: Any) -> jax.Array:
        return jnp.sum(x**3)

    cubes.defvjp(lambda x: (cubes(x), x), lambda x, g: (g * 3 * x**2 * factor,))
    return cubes


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (1, "good"),
        (1 + 1e-6, "fine if the function has kinks"),
        (1 + 1e-3, "suspicious"),
        (1.1, "wrong"),
        (-1, "wrong"),
        (np.nan, "wrong"),
    ],
)
def test_the_verdict_is_that_of_the_course(factor: float, verdict: str) -> None:
    check = optim.check_gradients(wrong_by(factor), jnp.array([1.0, -2.0, 0.0]))
    assert check.verdict == verdict
    # |a - n| / max(|a|, |n|), where a = factor · n; n itself is exact to about 1e-10.
    expected = abs(factor - 1) / max(abs(factor), 1)
    np.testing.assert_allclose(check.largest, expected, atol=1e-8, rtol=1e-3)


def test_convolution_pooling_and_batch_norm_have_right_gradients() -> None:
    x = jax.random.normal(jax.random.key(1), (3, 6, 6, 2))
    net = fnn.serial(
        fnn.conv(3, 3),
        fnn.batch_norm(),
        jnp.tanh,
        fnn.avg_pool(2),
        fnn.flatten,
        fnn.dropout(0.3),
        fnn.linear(4),
    )
    params, state = net.init(jax.random.key(0), x)

    def loss(params: Any, x: Any, y: Any, key: Any) -> jax.Array:
        logits, _ = net.apply(params, state, x, train=True, key=key)
        return optim.softmax_cross_entropy(logits, y).mean()

    arguments = (params, x, jnp.array([0, 3, 1]), jax.random.key(2))
    check = fnn.check_gradients(loss, *arguments, samples=10)
    assert list(check.errors) == [
        "0/batch_norm_1/bias",
        "0/batch_norm_1/scale",
        "0/conv_1/bias",
        "0/conv_1/kernel",
        "0/linear_1/bias",
        "0/linear_1/kernel",
        "1",
    ]
    assert check.errors["0/conv_1/bias"] == 0  # batch norm subtracts it: what is left is rounding
    assert check.verdict == "good", str(check)
    assert not jax.config.jax_enable_x64
    assert params["conv_1"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize(
    "loss",
    [
        lambda s: optim.sigmoid_cross_entropy(s, jnp.eye(3, 4)),
        lambda s: optim.multiclass_hinge(s, jnp.array([0, 3, 1])),
        lambda s: optim.perceptron_loss(s, jnp.array([0, 3, 1])),
        lambda s: optim.kl_divergence(s, jnp.full((3, 4), 0.25)),
        lambda s: optim.mean_absolute_error(s, jnp.eye(3, 4)),
        lambda s: optim.huber(s, jnp.eye(3, 4)),
    ],
    ids=["sigmoid", "hinge", "perceptron", "KL", "absolute", "huber"],
)
def test_losses_have_right_gradients(loss: Any) -> None:
    scores = np.random.default_rng(3).normal(size=(3, 4)) * 2
    check = optim.check_gradients(lambda s: loss(s).sum(), scores)
    assert check.verdict == "good", str(check)


def test_a_sample_of_the_elements_is_drawn_by_seed() -> None:
    def half(x: Any) -> jax.Array:  # the gradient of the second half is wrong
        return jnp.sum(x[:50] ** 2) + wrong_by(2)(x[50:])

    x = jnp.arange(1.0, 101.0)
    assert optim.check_gradients(half, x, samples=100).verdict == "wrong"
    found = {optim.check_gradients(half, x, samples=1, seed=seed).verdict for seed in range(6)}
    assert found == {"wrong", "good"}
    assert optim.check_gradients(half, x, samples=1, seed=1) == optim.check_gradients(
        half, x, samples=1, seed=1
    )


def test_a_kink_that_the_step_crosses_shows() -> None:
    near = optim.check_gradients(lambda x: jnp.sum(jax.nn.relu(x)), jnp.array([1.0, 2e-6]))
    assert near.verdict == "wrong"
    assert (
        optim.check_gradients(lambda x: jnp.sum(jax.nn.relu(x)), jnp.array([1.0, 2e-6]), step=1e-6).verdict
        == "good"
    )


def test_it_reads_as_a_table() -> None:
    check = optim.GradientCheck({"0/conv_1/kernel": 2.04e-9, "1": 3e-5})
    assert str(check).splitlines() == [
        "                 relative error",
        "0/conv_1/kernel  2.0e-09",
        "1                3.0e-05",
        "largest          3.0e-05  fine if the function has kinks",
    ]


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (lambda x: x, (jnp.ones(2),), r"must be a float64 scalar .*, not float64 of shape \(2,\)"),
        (
            lambda x: jnp.sum(x.astype(jnp.float32)),
            (jnp.ones(2),),
            r"must be a float64 scalar where its arguments are float64, not float32 of shape \(\)",
        ),
        (
            lambda x: jnp.sum(x["a"]),
            ({"a": jnp.array([1e12])},),
            r"the step 1e-05 is lost beside the value 1e\+12 of 0/a; make the step larger",
        ),
        (lambda x: 1.0, (jnp.arange(2),), "needs at least one argument with a floating-point array"),
    ],
)
def test_what_cannot_be_checked_is_refused(function: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optim.check_gradients(function, *arguments)


def test_a_step_or_samples_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"step must be above 0, not 0\.0"):
        optim.check_gradients(jnp.sum, jnp.ones(2), step=0.0)
    with pytest.raises(ValueError, match="samples must be at least 1, not 0"):
        optim.check_gradients(jnp.sum, jnp.ones(2), samples=0)
