"""Initial values: variances by fan, distributions, dtypes."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.nn.initializers import fans

KEY = jax.random.key(3)


def assert_variance(values, expected, distribution="normal"):
    """Mean 0 and the variance, each within five standard errors."""
    values = np.asarray(values, np.float64).ravel()
    kurtosis = {"normal": 3.0, "uniform": 1.8}[distribution]
    assert abs(values.mean()) < 5 * math.sqrt(expected / values.size)
    error = expected * math.sqrt((kurtosis - 1) / values.size)
    assert abs(np.mean(np.square(values)) - expected) < 5 * error


@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"),
    [
        ((784, 10), 784, 10),
        ((3, 3, 16, 32), 144, 288),
        ((1, 5, 2, 7), 10, 35),
        ((3, 3, 1, 32), 9, 288),  # depthwise: one channel a group
    ],
)
def test_fans(shape, fan_in, fan_out):
    assert fans(shape) == (fan_in, fan_out)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_a_vector_has_no_fans(shape):
    with pytest.raises(ValueError, match=r"a kernel has at least two axes"):
        nn.kaiming(KEY, shape)


LINEAR = (200, 300)
CONV = (3, 2, 20, 300)  # fan-in 120, fan-out 1800
VARIANCES = [
    # initializer, settings, shape, variance
    (nn.kaiming, {}, LINEAR, 2 / 200),
    (nn.kaiming, {}, CONV, 2 / 120),
    (nn.kaiming, {"mode": "fan_out"}, CONV, 2 / 1800),
    (nn.kaiming, {"mode": "fan_avg"}, CONV, 2 / 960),
    (nn.kaiming, {"scale": 0.5}, LINEAR, 0.5 / 200),
    (nn.xavier, {}, LINEAR, 1 / 200),
    (nn.xavier, {}, CONV, 1 / 120),
    (nn.xavier, {"mode": "fan_out"}, LINEAR, 1 / 300),
    (nn.xavier, {"mode": "fan_avg"}, LINEAR, 1 / 250),  # Glorot's own, 2 / (fan-in + fan-out)
    (nn.xavier, {"scale": 3.0, "mode": "fan_avg"}, CONV, 3 / 960),
    (nn.xavier, {"scale": 0.0}, LINEAR, 0.0),
]


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize(("initializer", "settings", "shape", "variance"), VARIANCES)
def test_variance(initializer, settings, shape, variance, distribution):
    values = initializer(KEY, shape, jnp.float32, distribution=distribution, **settings)
    assert values.shape == shape
    if variance == 0:
        assert not values.any()
    else:
        assert_variance(values, variance, distribution)


def test_the_normal_is_not_truncated():
    z = np.abs(np.asarray(nn.kaiming(KEY, LINEAR))) / math.sqrt(2 / 200)
    expected = math.erfc(2 / math.sqrt(2))  # beyond two deviations
    assert abs((z > 2).mean() - expected) < 5 * math.sqrt(expected / z.size)


def test_the_uniform_fills_its_bounds_evenly():
    values = np.asarray(nn.kaiming(KEY, LINEAR, distribution="uniform"))
    bound = math.sqrt(3 * 2 / 200)
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert values.max() > 0.999 * bound
    assert values.min() < -0.999 * bound
    counts, _ = np.histogram(values, bins=10, range=(-bound, bound))
    expected = values.size / 10
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)


def test_normal_is_the_default():
    assert np.abs(nn.xavier(KEY, LINEAR)).max() > math.sqrt(3 / 200) * 1.2


@pytest.mark.parametrize("initializer", [nn.kaiming, nn.xavier])
def test_one_key_one_draw(initializer):
    np.testing.assert_array_equal(initializer(KEY, LINEAR), initializer(KEY, LINEAR))
    assert (initializer(KEY, LINEAR) != initializer(jax.random.key(4), LINEAR)).mean() > 0.99


def test_scale_may_be_traced():
    scales = jnp.array([1.0, 4.0])
    one, four = jax.vmap(lambda scale: nn.kaiming(KEY, (20, 30), scale=scale))(scales)
    np.testing.assert_allclose(four, 2 * one, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"mode": "fan"}, "mode must be one of fan_in, fan_out, fan_avg, not 'fan'"),
        ({"distribution": "gauss"}, 'distribution must be "normal" or "uniform", not \'gauss\''),
        ({"scale": -1.0}, "scale must be at least 0, not -1"),
    ],
)
def test_bad_settings(settings, problem):
    with pytest.raises(ValueError, match=problem):
        nn.kaiming(KEY, LINEAR, **settings)


# Inside the layers.


@pytest.mark.parametrize(
    ("layer", "shape", "kernel", "variance"),
    [
        (nn.linear(60), (1, 200), (200, 60), 2 / 200),
        (nn.linear(60, kernel_init=nn.xavier), (1, 200), (200, 60), 1 / 200),
        (nn.conv(60, 3), (1, 4, 4, 20), (3, 3, 20, 60), 2 / 180),
        (nn.conv(80, (3, 2), groups=4), (1, 4, 4, 80), (3, 2, 20, 80), 2 / 120),
        (nn.conv(320, 3, groups=40), (1, 4, 4, 40), (3, 3, 1, 320), 2 / 9),  # depthwise
        (nn.conv(60, 3, kernel_init=nn.xavier), (1, 4, 4, 20), (3, 3, 20, 60), 1 / 180),
        (
            nn.conv(60, 3, kernel_init=partial(nn.xavier, mode="fan_out")),
            (1, 4, 4, 20),
            (3, 3, 20, 60),
            1 / 540,
        ),
    ],
)
def test_kernels_of_layers(layer, shape, kernel, variance):
    """Over many draws of the layer, and biases start at zero."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.jit(jax.vmap(lambda key: layer.init(key, x)[0]))(jax.random.split(KEY, 6))
    assert params["kernel"].shape == (6, *kernel)
    assert_variance(params["kernel"], variance)
    assert params["bias"].shape == (6, kernel[-1])
    assert not params["bias"].any()


def test_signal_keeps_its_size_through_relu_layers():
    """The reason for 2 / fan-in: E[score²] neither vanishes nor explodes over ten layers."""
    net = nn.mlp((256,) * 10, 256)
    x = jax.random.normal(KEY, (64, 256))
    params, state = net.init(jax.random.key(5), x)
    y, _ = net.apply(params, state, x)
    assert 0.5 < float(jnp.square(y).mean()) / 2 < 2  # 2: the first layer sees no relu


LAYERS = {
    "linear": (nn.linear(3), (2, 4)),
    "conv": (nn.conv(3, 2), (2, 4, 4, 4)),
    "batch_norm": (nn.batch_norm(), (2, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("of_input", "of_params"),
    [
        ("float32", "float32"),
        ("bfloat16", "bfloat16"),
        ("float16", "float16"),
        ("uint8", "float32"),
        ("int32", "float32"),
        ("bool", "float32"),
    ],
)
def test_parameters_take_the_dtype_of_the_input(name, of_input, of_params):
    layer, shape = LAYERS[name]
    for net in (layer, nn.serial(layer)):
        params, _ = jax.eval_shape(net.init, KEY, jnp.ones(shape, of_input))
        assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {of_params}


@pytest.mark.parametrize("name", LAYERS)
def test_float64_where_it_is_enabled(name):
    layer, shape = LAYERS[name]
    x = np.ones(shape, np.float64)
    params, state = layer.init(KEY, x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, state))} == {"float32"}
    with jax.enable_x64(True):
        params, state = layer.init(KEY, x)
        assert {leaf.dtype.name for leaf in jax.tree.leaves((params, state))} == {"float64"}
        if "kernel" in params:  # drawn in float64, not a widened float32
            kernel = np.asarray(params["kernel"])
            assert (kernel != kernel.astype(np.float32)).any()
