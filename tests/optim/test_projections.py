"""Max-norm and the proximal L1 step."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

RANDOM = np.random.default_rng(0)


def project(transform: optim.Optimizer, params: Any, updates: Any = None) -> Any:
    """The parameters after one step of a chain's last transform."""
    updates = jax.tree.map(jnp.zeros_like, params) if updates is None else updates
    corrected, _ = transform.update(updates, transform.init(params), params)
    return optim.apply_updates(params, corrected)


# --- max-norm ---------------------------------------------------------------------------------------------


def test_a_unit_of_a_convolution_is_all_axes_but_the_last_and_its_bias_is_free() -> None:
    kernel = RANDOM.normal(size=(3, 3, 4, 5)).astype(np.float32) * np.array([0.1, 1, 2, 3, 0.2], np.float32)
    params = {"conv_1": {"kernel": jnp.asarray(kernel), "bias": jnp.full(5, 9.0)}}
    projected = project(optim.max_norm(3.0), params)["conv_1"]
    norms = np.sqrt((kernel**2).sum((0, 1, 2)))
    assert (norms > 3).tolist() == [False, True, True, True, False]
    expected = kernel * np.minimum(1, 3 / norms)
    np.testing.assert_allclose(projected["kernel"], expected, rtol=1e-5, atol=1e-6)
    assert projected["bias"].tolist() == [9.0] * 5


def test_the_bound_is_on_the_weights_after_the_update() -> None:
    params = {"kernel": jnp.array([[3.0, 0.0], [0.0, 0.5]])}
    moved = project(optim.max_norm(2.0), params, {"kernel": jnp.array([[-2.0, 0.0], [0.0, 5.0]])})
    np.testing.assert_allclose(moved["kernel"], [[1.0, 0.0], [0.0, 2.0]], rtol=1e-6)


def test_the_bound_may_follow_a_schedule_and_other_patterns() -> None:
    optimizer = optim.max_norm(optim.piecewise((1,), (4.0, 2.0)), pattern="a/*")
    params = {"a": {"bias": jnp.array([8.0])}, "b": jnp.array([8.0])}
    state = optimizer.init(params)
    for bound in (4.0, 2.0):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        assert optim.apply_updates(params, updates)["a"]["bias"].tolist() == [bound]
        assert updates["b"].tolist() == [0.0]


def test_a_bound_of_infinity_is_none() -> None:
    params = {"kernel": jnp.array([[3.0], [4.0]])}
    np.testing.assert_array_equal(project(optim.max_norm(math.inf), params)["kernel"], params["kernel"])


def test_norms_of_many_float16_weights_are_summed_in_float32() -> None:
    kernel = project(optim.max_norm(400.0), {"kernel": jnp.full((40_000, 1), 4.0, jnp.float16)})["kernel"]
    assert kernel.dtype == jnp.float16
    np.testing.assert_array_equal(kernel, 2.0)  # Σ w² = 640 000 is infinite in float16


def test_weights_of_zero_have_a_finite_derivative() -> None:
    def projected(x: jax.Array) -> jax.Array:
        return project(optim.max_norm(1.0, pattern="*"), x)

    np.testing.assert_array_equal(jax.jacobian(projected)(jnp.zeros((2, 1))).reshape(2, 2), np.eye(2))


# --- proximal L1 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_weights_shrink_by_the_threshold_to_true_zeros(dtype: Any) -> None:
    kernel = jnp.array([1.0, 0.5, 0.3, 0.0, -0.3, -0.75], dtype)
    updates = jnp.array([0.25, 0.0, 0.1, 0.0, 0.1, 0.0], dtype)
    params = {"kernel": kernel, "bias": jnp.array([0.1], dtype)}
    moved = project(optim.proximal_l1(0.5), params, {"kernel": updates, "bias": jnp.zeros(1, dtype)})
    assert moved["kernel"].tolist() == [0.75, 0.0, 0.0, 0.0, 0.0, -0.25]
    assert moved["kernel"].dtype == dtype
    np.testing.assert_array_equal(moved["bias"], params["bias"])


def test_the_proximal_gradient_method_finds_the_lasso_and_the_subgradient_hovers() -> None:
    # f(w) = ½ ‖w - b‖² + λ Σ |w| has its minimum at sign(b) max(|b| - λ, 0).
    b = jnp.array([2.0, -1.0, 0.3, -0.2, 0.05])
    minimum = [1.5, -0.5, 0.0, 0.0, 0.0]

    def train(optimizer: optim.Optimizer, penalty: Any) -> jax.Array:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            w, state = carry
            grads = jax.grad(lambda w: 0.5 * jnp.sum((w - b) ** 2) + penalty(w))(w)
            updates, state = optimizer.update(grads, state, w)
            return (optim.apply_updates(w, updates), state), None

        start = jnp.ones(5)
        return jax.lax.scan(step, (start, optimizer.init(start)), length=200)[0][0]

    proximal = train(optim.chain(optim.sgd(0.1), optim.proximal_l1(0.1 * 0.5, "*")), lambda w: 0.0)
    np.testing.assert_allclose(proximal, minimum, atol=1e-6)
    assert (proximal == 0).tolist() == [False, False, True, True, True]
    subgradient = train(optim.sgd(0.1), lambda w: optim.l1(w, 0.5, "*"))
    np.testing.assert_allclose(subgradient, minimum, atol=0.06)
    assert not np.any(subgradient == 0)


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [optim.max_norm, optim.proximal_l1])
def test_a_pattern_without_parameters_and_missing_parameters_are_refused(make: Any) -> None:
    with pytest.raises(
        ValueError, match=r"the pattern '\*kernel' matches no parameter; the parameters are b"
    ):
        make(1.0).init({"bias": jnp.ones(2)})
    transform = make(1.0, pattern="*")
    with pytest.raises(
        TypeError, match=rf"{make.__name__} needs the parameters: update\(grads, state, params"
    ):
        transform.update(jnp.ones(2), transform.init(jnp.ones(2)))


def test_a_number_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="limit must be above 0, not 0"):
        optim.max_norm(0)
    with pytest.raises(ValueError, match="threshold must be at least 0, not -1"):
        optim.proximal_l1(-1)
    with pytest.raises(ValueError, match="limit must be above 0, not 0"):
        optim.clip_by_value(0)
