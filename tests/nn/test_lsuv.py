"""Layer-sequential unit variance: what it promises, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn

KEY = jax.random.key(0)
WITH_KERNEL = ("linear", "conv", "maxout", "conv_maxout")


def images(seed=0):
    """Neither centred nor of variance 1."""
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 5, (32, 6, 6, 3)), jnp.float32)


def network(**settings):
    return nn.serial(
        nn.conv(8, 3, **settings),
        nn.relu,
        nn.residual(nn.conv(6, 3, **settings), nn.tanh, shortcut=nn.conv(6, 1, **settings)),
        nn.batch_norm(),
        nn.prelu(),
        nn.conv_maxout(4, 3, stride=2, **settings),
        nn.dropout(0.5),
        nn.flatten,
        nn.linear(5, name="head", **settings),
    )


def variances(net, params, state, x):
    """Of the output of every layer with a kernel."""
    outputs = nn.intermediates(net, params, state, x)
    names = ["conv_1", "residual_1/conv_1", "residual_1/shortcut", "conv_maxout_1", "head"]
    return {name: float(np.var(np.asarray(outputs[name], np.float64))) for name in names}


@pytest.mark.parametrize("key", [None, jax.random.key(5)], ids=["as they are", "orthonormal start"])
def test_every_layer_with_a_kernel_has_unit_variance(key):
    x, net = images(), network()
    params, state = net.init(KEY, x)
    assert max(abs(v - 1) for v in variances(net, params, state, x).values()) > 0.5
    settled = nn.lsuv(net, params, state, x, key=key)
    assert max(abs(v - 1) for v in variances(net, settled, state, x).values()) < 0.01
    assert jax.tree.map(jnp.shape, settled) == jax.tree.map(jnp.shape, params)


def test_without_a_key_kernels_keep_their_direction_and_nothing_else_changes():
    x, net = images(), network()
    params, state = net.init(KEY, x)
    settled = nn.lsuv(net, params, state, x)
    for (path, before), after in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(settled), strict=True
    ):
        if path[-1].key == "kernel":
            ratio = np.asarray(after) / np.asarray(before)
            np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)
            assert abs(ratio.mean() - 1) > 1e-3
        else:
            np.testing.assert_array_equal(after, before)


def test_the_start_is_what_the_orthogonal_initializer_draws_from_the_same_key():
    x = images()
    params, state = network().init(KEY, x)
    orthonormal, _ = network(kernel_init=nn.orthogonal).init(jax.random.key(5), x)
    actual = nn.lsuv(network(), params, state, x, key=jax.random.key(5))
    expected = nn.lsuv(network(), orthonormal, state, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)


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
    many = jax.vmap(lambda key: net.init(key, x)[0])(jax.random.split(KEY, 2))
    settled = jax.jit(jax.vmap(lambda params: nn.lsuv(net, params, {}, x)))(many)
    for row in range(2):
        alone = nn.lsuv(net, jax.tree.map(lambda leaf: leaf[row], many), {}, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[row], b, rtol=1e-4), settled, alone)
    half = jax.tree.map(lambda leaf: leaf[0].astype(jnp.bfloat16), many)
    settled = nn.lsuv(net, half, {}, x.astype(jnp.bfloat16))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(settled)} == {"bfloat16"}
    y = net.apply(settled, {}, x.astype(jnp.bfloat16))[0]
    assert abs(float(y.astype(jnp.float32).var()) - 1) < 0.03


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
    with pytest.raises(nn.LayerError, match="^linear_1: expected 4 inputs"):
        nn.lsuv(net, params, state, jnp.ones((2, 5)))
