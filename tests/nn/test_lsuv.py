"""Layer-sequential unit variance: what it promises, and what it leaves alone."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn

KEY, ANOTHER = jax.random.key(0), jax.random.key(5)
# Neither centred nor of variance 1.
IMAGES = np.random.default_rng(0).uniform(0, 5, (32, 4, 4, 3)).astype(np.float32)


def network(**settings):
    return nn.serial(
        nn.conv(4, 3, stride=2, **settings),
        nn.batch_norm(),
        nn.prelu(),
        nn.flatten,
        nn.residual(nn.linear(6, **settings), nn.tanh, shortcut=nn.linear(6, **settings)),
        nn.dropout(0.5),
        nn.maxout(8, **settings),
        nn.linear(5, name="head", **settings),
    )


@cache
def start():
    return jax.jit(network().init)(KEY, IMAGES)


@jax.jit
def settle(params, state):
    return nn.lsuv(network(), params, state, IMAGES)


@cache
def settled(orthonormal):
    if orthonormal:
        return jax.jit(lambda *start: nn.lsuv(network(), *start, IMAGES, key=ANOTHER))(*start())
    return settle(*start())


@jax.jit
def variances(params, state):
    """Of the output of every layer with a kernel."""
    outputs = nn.intermediates(network(), params, state, IMAGES)
    names = ["conv_1", "residual_1/linear_1", "residual_1/shortcut", "maxout_1", "head"]
    return jnp.stack([outputs[name].var() for name in names])


@pytest.mark.parametrize("orthonormal", [False, True])
def test_every_layer_with_a_kernel_has_unit_variance(orthonormal):
    params, state = start()
    assert np.abs(variances(params, state) - 1).max() > 0.5
    after = settled(orthonormal)
    assert np.abs(variances(after, state) - 1).max() < 0.01
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, params)


def test_without_a_key_kernels_keep_their_direction_and_nothing_else_changes():
    params, _ = start()
    for (path, before), after in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(settled(False)), strict=True
    ):
        if path[-1].key == "kernel":
            ratio = np.asarray(after) / np.asarray(before)
            np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)
            assert abs(ratio.mean() - 1) > 1e-3
        else:
            np.testing.assert_array_equal(after, before)


def test_the_start_is_what_the_orthogonal_initializer_draws_from_the_same_key():
    orthonormal = jax.jit(network(kernel_init=nn.orthogonal).init)(ANOTHER, IMAGES)
    expected = settle(*orthonormal)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), settled(True), expected)


def test_one_layer_by_its_closed_form():
    """Without a bias, the kernel over the deviation of its output."""
    x = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32) * 3
    net = nn.linear(6, bias=False)
    params, state = net.init(KEY, x)
    kernel = np.asarray(params["kernel"], np.float64)
    settled = nn.lsuv(net, params, state, jnp.asarray(x))
    np.testing.assert_allclose(settled["kernel"], kernel / np.std(x @ kernel), rtol=1e-5)


@pytest.mark.parametrize(("iterations", "settles"), [(1, False), (10, True)])
def test_a_bias_of_its_own_takes_more_divisions(iterations, settles):
    x = np.random.default_rng(2).normal(size=(200, 4)).astype(np.float32)
    params = {"kernel": jnp.full((4, 3), 2.0), "bias": jnp.array([0.7, 0.0, -0.7])}
    settled = nn.lsuv(nn.linear(3), params, {}, jnp.asarray(x), max_iterations=iterations)
    variance = float(nn.linear(3).apply(settled, {}, x)[0].var())
    assert (abs(variance - 1) < 0.01) is settles


def test_a_wide_tolerance_is_satisfied_at_once():
    x = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
    params, _ = nn.linear(6, kernel_init=nn.xavier).init(KEY, x)
    settled = nn.lsuv(nn.linear(6), params, {}, jnp.asarray(x), tolerance=0.9)
    np.testing.assert_array_equal(settled["kernel"], params["kernel"])


def test_a_constant_output_is_left_as_it_is():
    x = jnp.ones((5, 4))
    net = nn.serial(nn.linear(3, kernel_init=nn.constant), nn.linear(2))
    params, state = net.init(KEY, x)
    settled = nn.lsuv(net, params, state, x)
    jax.tree.map(np.testing.assert_array_equal, settled, params)


def test_jit_vmap_and_bfloat16():
    net = nn.mlp((8,), 4, nn.tanh)
    x = jnp.asarray(np.random.default_rng(4).normal(size=(64, 6)) * 4, jnp.float32)
    many = jax.jit(jax.vmap(lambda key: net.init(key, x)[0]))(jax.random.split(KEY, 2))
    settle = jax.jit(lambda params, x: nn.lsuv(net, params, {}, x))
    settled = jax.vmap(settle, (0, None))(many, x)
    alone = settle(jax.tree.map(lambda leaf: leaf[1], many), x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4), settled, alone)
    half = jax.tree.map(lambda leaf: leaf[0].astype(jnp.bfloat16), many)
    settled = settle(half, x.astype(jnp.bfloat16))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(settled)} == {"bfloat16"}
    y = net.apply(settled, {}, x.astype(jnp.bfloat16))[0]
    assert abs(float(y.astype(jnp.float32).var()) - 1) < 0.03


def test_parameters_that_a_layer_sees_rounded_keep_all_their_digits():
    net = nn.mixed_precision(nn.linear(16), nn.relu, nn.linear(4))
    x = jnp.asarray(np.random.default_rng(5).normal(size=(256, 8)), jnp.float32)
    params, state = net.init(KEY, x)
    settled = nn.lsuv(net, params, state, x)
    assert jax.tree.map(jax.typeof, settled) == jax.tree.map(jax.typeof, params)
    for name in ("linear_1", "linear_2"):
        ratio = np.asarray(settled[name]["kernel"], float) / np.asarray(params[name]["kernel"], float)
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-6)
    assert abs(float(net.apply(settled, state, x)[0].var()) - 1) < 0.05


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"tolerance": 0}, "tolerance must be above 0, not 0"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, not 0"),
    ],
)
def test_bad_settings(settings, problem):
    with pytest.raises(ValueError, match=problem):
        nn.lsuv(nn.linear(3), {}, {}, jnp.ones((2, 3)), **settings)


def test_errors_name_the_layer():
    net = nn.serial(nn.linear(3), nn.relu, nn.linear(2))
    params, state = net.init(KEY, jnp.ones((2, 4)))
    with pytest.raises(nn.LayerError, match=r"^linear_1: expected 4 inputs"):
        nn.lsuv(net, params, state, jnp.ones((2, 5)))
