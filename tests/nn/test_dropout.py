"""Dropout that scales at test time, drops whole feature maps, or keeps a self-normalizing network's moments."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, ops

TORCH = np.load(Path(__file__).with_name("torch_values.npz"))
KEY = jax.random.key(7)
LAYERS = {
    "dropout": nn.dropout,
    "spatial_dropout": nn.spatial_dropout,
    "alpha_dropout": nn.alpha_dropout,
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def trained(net, x, key=KEY):
    return np.asarray(net.apply({}, {}, jnp.asarray(x), train=True, key=key)[0])


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9])
def test_the_original_drops_without_scaling_and_scales_at_test_time(rate):
    x = random(100, 200) + 10
    net = nn.dropout(rate, inverted=False)
    y = trained(net, x)
    kept = y != 0
    np.testing.assert_array_equal(y, np.where(kept, x, 0))
    assert abs(kept.mean() - (1 - rate)) <= 5 * math.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_allclose(net.apply({}, {}, jnp.asarray(x))[0], x * (1 - rate), rtol=1e-6)


def test_the_two_forms_drop_alike_and_differ_by_the_factor():
    x, rate = random(20, 30), 0.3
    np.testing.assert_allclose(
        trained(nn.dropout(rate), x) * (1 - rate), trained(nn.dropout(rate, inverted=False), x), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(40, 5, 30), (40, 3, 2, 30), (40, 2, 2, 2, 30)])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_spatial_dropout_drops_whole_feature_maps(shape, rate):
    x = random(*shape) + 10
    y = trained(nn.spatial_dropout(rate), x)
    maps = (y != 0).reshape(40, -1, 30)
    kept = maps[:, 0]
    assert (maps == kept[:, None]).all()
    assert abs(kept.mean() - (1 - rate)) <= 5 * math.sqrt(rate * (1 - rate) / kept.size)
    mask = kept.reshape(40, *(1,) * (x.ndim - 2), 30)
    np.testing.assert_allclose(y, np.where(mask, x / (1 - rate), 0), rtol=1e-6)
    if rate:  # each example by itself
        assert len(np.unique(kept, axis=0)) == 40


def test_spatial_dropout_refuses_vectors():
    with pytest.raises(ValueError, match=r"takes feature maps .*got an input of shape \(2, 3\); use dropout"):
        trained(nn.spatial_dropout(0.5), jnp.ones((2, 3)))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("number", [0, 1])
def test_alpha_dropout_has_pytorch_s_constants(rate, number):
    """Two values come out of one number: kept and dropped, each times a plus b."""
    with jax.enable_x64(True):
        y = ops.alpha_dropout(KEY, jnp.full(1000, float(number)), rate)
    expected = TORCH[f"alpha_dropout/{rate}/{number}"]
    np.testing.assert_allclose(np.unique(np.asarray(y)), expected, rtol=1e-12)
    dropped = np.isclose(y, expected[0])
    kept_is_larger = rate if number == 1 or expected[1] > 0 else 1 - rate
    assert abs(dropped.mean() - kept_is_larger) < 5 * math.sqrt(rate * (1 - rate) / 1000)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_alpha_dropout_keeps_mean_zero_and_variance_one(rate):
    """Where plain dropout raises the variance to 1 / (1 − rate)."""
    x = random(1000, 200)
    y = trained(nn.alpha_dropout(rate), x).astype(np.float64)
    assert abs(y.mean()) < 5 / math.sqrt(y.size)
    spread = np.var(np.square(y - y.mean()))
    assert abs(y.var() - 1) < 5 * math.sqrt(spread / y.size) + 1e-6
    if rate >= 0.05:
        np.testing.assert_allclose(trained(nn.dropout(rate), x).var(), 1 / (1 - rate), rtol=0.05)


def test_alpha_dropout_at_rate_zero_is_the_identity():
    x = random(30, 30)
    np.testing.assert_allclose(trained(nn.alpha_dropout(0.0), x), x, rtol=1e-6)


@each_layer
def test_at_test_time_it_is_the_identity(name):
    x = jnp.asarray(random(3, 4, 5))
    assert LAYERS[name](0.3).apply({}, {}, x)[0] is x


@each_layer
def test_the_rate_may_be_traced_and_bfloat16_stays(name):
    x = jnp.asarray(random(20, 2, 30), jnp.bfloat16)

    def drop(rate):
        return LAYERS[name](rate).apply({}, {}, x, train=True, key=KEY)[0]

    y = jax.jit(jax.vmap(drop))(jnp.array([0.25, 0.5]))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        y[1].astype(jnp.float32), jax.jit(lambda: drop(0.5))().astype(jnp.float32), rtol=2**-7
    )


def test_the_original_at_test_time_keeps_bfloat16_and_a_traced_rate():
    x = jnp.ones((4, 4), jnp.bfloat16)
    y = jax.jit(lambda rate: nn.dropout(rate, inverted=False).apply({}, {}, x)[0])(jnp.float32(0.25))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, 0.75)


@each_layer
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_integers_become_floats(name, dtype):
    """200 / 0.7 is no byte."""
    x = (200 * np.ones((3, 4, 5))).astype(dtype)
    y = trained(LAYERS[name](0.3), x)
    np.testing.assert_array_equal(y, trained(LAYERS[name](0.3), x.astype(np.float32)))
    assert y.dtype == np.float32
    original = nn.dropout(0.3, inverted=False)
    assert trained(original, x).dtype == np.float32
    np.testing.assert_allclose(original.apply({}, {}, jnp.asarray(x))[0], x * 0.7, rtol=1e-6)


@each_layer
def test_training_needs_a_key(name):
    with pytest.raises(ValueError, match=f"{name} draws at random, so training needs a key"):
        LAYERS[name](0.5).apply({}, {}, jnp.ones((2, 3, 4)), train=True)


@each_layer
@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_rates_outside_the_range_are_refused(name, rate):
    with pytest.raises(ValueError, match="dropout rate must be at least 0 and below 1, not"):
        LAYERS[name](rate)
    with pytest.raises(ValueError, match="dropout rate must be at least 0 and below 1, not"):
        getattr(ops, name)(KEY, jnp.ones((2, 3, 4)), rate)


@each_layer
def test_a_schedule_is_refused(name):
    with pytest.raises(TypeError, match="must be a number or a scalar array here, not a schedule"):
        LAYERS[name](lambda count: 0.5)
