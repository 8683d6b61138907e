"""Penalties against closed forms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

PARAMS = {
    "conv_1": {"kernel": jnp.array([[1.0, -2.0], [0.0, 3.0]]), "bias": jnp.array([5.0])},
    "residual_1": {"conv_1": {"kernel": jnp.array([-4.0])}},
    "batch_norm_1": {"scale": jnp.array([7.0])},
}


def test_the_sums_are_over_kernels_at_any_depth() -> None:
    np.testing.assert_allclose(optim.l1(PARAMS, 0.5), 0.5 * (1 + 2 + 3 + 4))
    np.testing.assert_allclose(optim.l2(PARAMS, 0.5), 0.5 * (1 + 4 + 9 + 16))
    np.testing.assert_allclose(optim.elastic_net(PARAMS, 0.5, beta=0.2), 0.5 * (0.2 * 30 + 10))
    np.testing.assert_allclose(optim.elastic_net(PARAMS, 0.5), 0.5 * (30 + 10))
    assert optim.l2(PARAMS, 0.5).shape == ()


@pytest.mark.parametrize(("penalty", "value"), [(optim.l1, 0.3), (optim.l2, 0.9), (optim.elastic_net, 1.2)])
def test_a_kernel_at_the_top_counts_too(penalty: Any, value: float) -> None:
    np.testing.assert_allclose(
        penalty({"kernel": jnp.array([[-3.0]]), "bias": jnp.ones(1)}, 0.1), value, rtol=1e-6
    )


def test_a_pattern_picks_other_leaves() -> None:
    assert float(optim.l1(PARAMS, 1.0, pattern="*bias")) == 5
    assert float(optim.l2(PARAMS, 1.0, pattern="residual_1/*")) == 16
    assert float(optim.l1(PARAMS, 1.0, pattern="*")) == 22
    assert float(optim.elastic_net(PARAMS, 1.0, beta=2.0, pattern="*bias")) == 2 * 25 + 5


def test_gradients_are_sign_and_twice_the_weight_without_a_half() -> None:
    l1 = jax.grad(optim.l1)(PARAMS, 0.5)
    l2 = jax.grad(optim.l2)(PARAMS, 0.5)
    assert l1["conv_1"]["kernel"].tolist() == [[0.5, -0.5], [0.0, 0.5]]  # 0 at 0
    assert l2["conv_1"]["kernel"].tolist() == [[1.0, -2.0], [0.0, 3.0]]
    assert l1["conv_1"]["bias"].tolist() == l2["conv_1"]["bias"].tolist() == [0.0]
    both = jax.grad(optim.elastic_net)(PARAMS, 0.5, beta=2.0)  # λ (2 β w + sign w)
    assert both["conv_1"]["kernel"].tolist() == [[2.5, -4.5], [0.0, 6.5]]
    assert both["residual_1"]["conv_1"]["kernel"].tolist() == [-8.5]


def test_the_gradient_with_respect_to_the_strength_is_the_sum() -> None:
    assert float(jax.jit(jax.grad(lambda strength: optim.l2(PARAMS, strength)))(0.1)) == 30
    np.testing.assert_allclose(
        jax.vmap(lambda strength: optim.l1(PARAMS, strength))(jnp.array([0.0, 0.1])), [0.0, 1.0], rtol=1e-6
    )


def test_beta_may_be_traced() -> None:
    values = jax.jit(jax.vmap(lambda beta: optim.elastic_net(PARAMS, 0.1, beta)))(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(values, [1.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize(("penalty", "ones"), [(optim.l1, 1), (optim.l2, 1), (optim.elastic_net, 2)])
def test_bfloat16_kernels_are_summed_in_float32(penalty: Any, ones: int) -> None:
    value = penalty({"kernel": jnp.ones(1001, jnp.bfloat16)}, 1.0)  # bfloat16 has no 1001
    assert value.dtype == jnp.float32
    assert float(value) == ones * 1001


@pytest.mark.parametrize("penalty", [optim.l1, optim.l2, optim.elastic_net])
def test_errors(penalty: Any) -> None:
    with pytest.raises(ValueError, match=r"strength must be at least 0, not -0\.1"):
        penalty(PARAMS, -0.1)
    with pytest.raises(ValueError, match=r"the pattern 'linear\*' matches no parameter"):
        penalty(PARAMS, 0.1, pattern="linear*")
    with pytest.raises(TypeError, match="strength must be a number or a scalar array here, not a schedule"):
        penalty(PARAMS, optim.exponential(0.1, 0.5))


def test_a_beta_out_of_range_or_a_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"beta must be at least 0, not -0\.1"):
        optim.elastic_net(PARAMS, 0.1, beta=-0.1)
    with pytest.raises(TypeError, match="beta must be a number or a scalar array here, not a schedule"):
        optim.elastic_net(PARAMS, 0.1, beta=optim.exponential(0.1, 0.5))
