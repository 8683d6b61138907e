"""The perceptron: its layer, its rule by hand, its bound, and what it cannot learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.run._registry import functions

KEY = jax.random.key(0)


@jax.jit
def epoch(state, x, y):
    return jax.lax.scan(lambda state, one: (nn.perceptron_update(state, *one), None), state, (x, y))[0]


def by_hand(x, y, epochs):
    """The rule in NumPy, one example after the other."""
    w, b, mistakes = np.zeros(x.shape[1]), 0.0, 0
    for _ in range(epochs):
        for example, target in zip(x, y, strict=True):
            error = target - float(w @ example + b > 0)
            w, b, mistakes = w + error * example, b + error, mistakes + (error != 0)
    return w, b, mistakes


def separable(seed, count=60, margin=0.05):
    """Points on both sides of a random plane, and the plane as a unit vector (w, b)."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=3)
    plane /= np.linalg.norm(plane)
    x = rng.uniform(-1, 1, (10 * count, 2))
    distance = x @ plane[:2] + plane[2]
    x = x[np.abs(distance) > margin][:count]
    return x.astype(np.float32), (x @ plane[:2] + plane[2] > 0).astype(np.int32), plane


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_the_rule_by_value(epochs):
    x, y, _ = separable(0)
    state = nn.perceptron_init(2)
    for _ in range(epochs):
        state = epoch(state, x, y)
    weights, bias, mistakes = by_hand(x, y, epochs)
    np.testing.assert_allclose(state.weights, weights, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.bias, bias, rtol=1e-5)
    assert int(state.mistakes) == mistakes


@pytest.mark.parametrize("seed", range(5))
def test_it_converges_within_novikoff_s_bound(seed):
    x, y, plane = separable(seed)
    extended = np.concatenate([x, np.ones((len(x), 1))], 1)  # the bias is the weight of an input of 1
    margin = np.min((2 * y - 1) * (extended @ plane))
    bound = np.max(np.sum(extended**2, 1)) / margin**2
    state, before = nn.perceptron_init(2), -1
    while int(state.mistakes) != before:  # an epoch without a mistake ends it
        before = int(state.mistakes)
        assert before <= bound
        state = epoch(state, x, y)
    np.testing.assert_array_equal(nn.perceptron_predict(state, jnp.asarray(x)), y)
    assert 0 < before <= bound


def test_it_never_learns_xor():
    x = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1.0]])
    state = nn.perceptron_init(2)
    for _ in range(100):
        after = epoch(state, x, jnp.array([0, 1, 1, 0]))
        assert int(after.mistakes) > int(state.mistakes)
        state = after
    assert (nn.perceptron_predict(state, x) != jnp.array([0, 1, 1, 0])).any()
    assert np.abs(state.weights).max() < 10  # they go in circles


def test_an_epoch_maps_over_many_perceptrons():
    x, y, _ = separable(1)
    classes = jnp.stack([y, 1 - y])
    both = jax.vmap(epoch, (None, None, 0))(nn.perceptron_init(2), x, classes)
    alone = [epoch(nn.perceptron_init(2), x, targets) for targets in classes]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), both, expected)


def test_the_state_keeps_its_dtypes():
    state = nn.perceptron_init(2)
    after = nn.perceptron_update(state, jnp.ones(2, jnp.bfloat16), jnp.uint8(1))
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)
    np.testing.assert_array_equal(after.weights, [1, 1])


def test_the_layer_starts_at_zero_and_steps_above_zero():
    x = np.random.default_rng(2).normal(size=(20, 4)).astype(np.float32)
    params, _ = nn.perceptron(3).init(KEY, x)
    assert {name: leaf.shape for name, leaf in params.items()} == {"kernel": (4, 3), "bias": (3,)}
    assert not any(leaf.any() for leaf in params.values())
    np.testing.assert_array_equal(nn.perceptron(3).apply(params, {}, x)[0], np.zeros((20, 3)))
    rng = np.random.default_rng(3)
    params = {"kernel": rng.normal(size=(4, 3)).astype(np.float32), "bias": np.float32([1, 0, -1])}
    y, _ = nn.perceptron(3).apply(params, {}, x)
    np.testing.assert_array_equal(y, x @ params["kernel"] + params["bias"][None] > 0)
    gradient = jax.grad(lambda params: nn.perceptron(3).apply(params, {}, x)[0].sum())(params)
    assert not any(leaf.any() for leaf in gradient.values())


def test_what_was_learned_fits_into_the_layer():
    x, y, _ = separable(4)
    state = nn.perceptron_init(2)
    for _ in range(50):
        state = epoch(state, x, y)
    params = {"kernel": state.weights[:, None], "bias": state.bias[None]}
    np.testing.assert_array_equal(nn.perceptron().apply(params, {}, x)[0][:, 0], y)


def test_refusals():
    with pytest.raises(ValueError, match="inputs must be at least 1, not 0"):
        nn.perceptron_init(0)
    with pytest.raises(ValueError, match="features must be at least 1, not 0"):
        nn.perceptron(0)


def test_a_config_can_call_the_layer_and_not_the_rule():
    assert functions()["perceptron"].kind == "layer"
    assert not {"perceptron_init", "perceptron_update", "perceptron_predict", "lsuv"} & set(functions())
