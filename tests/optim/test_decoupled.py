"""What AdamW, Lion, LAMB and Muon decay, and what is theirs alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

PARAMS = {"linear_1": {"kernel": jnp.full((2, 3), 4.0), "bias": jnp.full(3, 4.0)}}
decoupled = pytest.mark.parametrize("make", [optim.adamw, optim.lion, optim.lamb])


def step(optimizer: optim.Optimizer, grads: Any, params: Any) -> Any:
    return optimizer.update(grads, optimizer.init(params), params)[0]


@pytest.mark.parametrize("make", [optim.adamw, optim.lion])
def test_kernels_decay_by_rate_times_strength_and_biases_only_if_asked(make: Any) -> None:
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates = step(make(0.5, weight_decay=0.25), zero, PARAMS)["linear_1"]
    np.testing.assert_array_equal(updates["kernel"], -0.5 * 0.25 * 4)
    np.testing.assert_array_equal(updates["bias"], 0.0)
    updates = step(make(0.5, weight_decay=0.25, pattern="*"), zero, PARAMS)["linear_1"]
    np.testing.assert_array_equal(updates["bias"], -0.5 * 0.25 * 4)


def test_adamws_decay_does_not_depend_on_the_gradient_as_an_l2_penalty_does() -> None:
    params = {"kernel": jnp.array([1.0, 1.0])}
    grads = {"kernel": jnp.array([1e-3, 1e3])}
    with_decay = step(optim.adamw(0.1, weight_decay=0.5), grads, params)["kernel"]
    without = step(optim.adamw(0.1, weight_decay=0.0), grads, params)["kernel"]
    np.testing.assert_allclose(with_decay - without, [-0.05, -0.05], rtol=1e-5)
    np.testing.assert_array_equal(without, step(optim.adam(0.1), grads, params)["kernel"])


def test_lambs_steps_are_a_fraction_of_each_leafs_norm_but_for_leaves_of_zero() -> None:
    params = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "bias": jnp.zeros(2)}
    grads = {"kernel": jnp.array([[1.0, -2.0], [3.0, 4.0]]), "bias": jnp.array([5.0, -6.0])}
    updates = step(optim.lamb(0.01, weight_decay=0.0), grads, params)
    np.testing.assert_allclose(updates["kernel"], -0.01 * 5 / 2 * np.sign(grads["kernel"]), rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], [-0.01, 0.01], rtol=1e-5)


def test_lion_steps_by_the_sign_of_momentum_and_gradient_together() -> None:
    optimizer = optim.lion(0.5, b1=0.75, b2=0.5, weight_decay=0.0, pattern="*")
    state = optimizer.init(jnp.zeros(()))
    moves = []
    for gradient in (4.0, -2.0, -8.0, 0.0):
        update, state = optimizer.update(jnp.array(gradient), state, jnp.zeros(()))
        moves.append((float(update), float(state.first_moment)))
    # c = ¾ m + ¼ g: 1, 1, -2, -3
    assert moves == [(-0.5, 2.0), (-0.5, 0.0), (0.5, -4.0), (0.5, -2.0)]


@decoupled
def test_nothing_to_decay_is_refused_with_what_to_do(make: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"the pattern '\*kernel' matches no parameter; the parameters are one array without a name; "
        r'the pattern "\*" matches them all',
    ):
        make(0.1).init(jnp.ones(2))
    with pytest.raises(
        ValueError, match=r"the pattern '\*kernel' matches no parameter; the parameters are w;"
    ):
        make(0.1).init({"w": jnp.ones(2)})
    with pytest.raises(
        TypeError, match=rf"{make.__name__} needs the parameters: update\(grads, state, params"
    ):
        make(0.1, pattern="*").update(jnp.ones(2), make(0.1, pattern="*").init(jnp.ones(2)))


# --- Muon -------------------------------------------------------------------------------------------------


def test_muon_moves_by_about_as_much_in_every_direction() -> None:
    u, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    v, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))
    gradient = jnp.asarray(u * np.logspace(-2, 0, 8) @ v, jnp.float32)
    update = step(optim.muon(1.0), gradient, gradient)
    singular_values = np.linalg.svd(update, compute_uv=False)
    assert singular_values.min() > 0.68
    assert singular_values.max() < 1.21
    assert np.all(np.diag(u.T @ np.asarray(update) @ v.T) < 0)  # downhill in each


def test_muon_takes_a_convolution_as_a_matrix_of_inputs_and_outputs() -> None:
    gradient = np.random.default_rng(0).normal(size=(2, 2, 3, 24)).astype(np.float32)
    update = step(optim.muon(0.1), jnp.asarray(gradient), jnp.asarray(gradient))
    matrix = step(optim.muon(0.1), jnp.asarray(gradient.reshape(12, 24)), jnp.zeros((12, 24)))
    np.testing.assert_array_equal(update.reshape(12, 24), matrix)
    # Twelve directions of about 1, times √(24 / 12): more outputs than inputs.
    size = np.linalg.norm(matrix) / np.sqrt(12) / np.sqrt(2)
    assert 0.1 * 0.68 < size < 0.1 * 1.21
    narrow = step(optim.muon(0.1), jnp.asarray(gradient.reshape(12, 24).T), jnp.zeros((24, 12)))
    np.testing.assert_allclose(narrow.T, matrix / np.sqrt(2), rtol=1e-4, atol=1e-6)


def test_muon_leaves_a_kernel_alone_whose_gradient_is_zero() -> None:
    updates = step(optim.muon(0.1), jnp.zeros((2, 3)), jnp.ones((2, 3)))
    np.testing.assert_array_equal(updates, 0.0)


def test_muon_refuses_vectors_and_names_what_to_use() -> None:
    with pytest.raises(
        ValueError, match=r"two axes or more; linear_1/bias has shape \(3,\).* by_path\(group\(.*default=adam"
    ):
        optim.muon(0.1).init(PARAMS)
    with pytest.raises(TypeError, match=r"muon needs the parameters: update\(grads, state, params\)"):
        optim.muon(0.1).update(jnp.ones((2, 2)), optim.muon(0.1).init(jnp.ones((2, 2))))
