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
    (nn.lecun, {}, LINEAR, 1 / 200),
    (nn.lecun, {}, CONV, 1 / 120),
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


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_bfloat16_rounds_the_numbers_and_not_their_moments(distribution):
    values = nn.kaiming(KEY, (400, 1000), jnp.bfloat16, distribution=distribution)
    assert_variance(values, 2 / 400, distribution)


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


def test_lecun_is_xavier_by_fan_in():
    np.testing.assert_array_equal(nn.lecun(KEY, CONV), nn.xavier(KEY, CONV))


DRAWN = [nn.kaiming, nn.xavier, nn.lecun, nn.truncated_normal, nn.orthogonal, nn.delta_orthogonal]


@pytest.mark.parametrize("initializer", DRAWN)
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


# Truncated, orthogonal, constant.


@pytest.mark.parametrize("stddev", [0.02, 3.0])
def test_truncated_normal_is_cut_at_two_deviations_and_not_corrected(stddev):
    values = np.asarray(nn.truncated_normal(KEY, LINEAR, stddev=stddev), np.float64) / stddev
    assert 1.99 < np.abs(values).max() <= 2 + 1e-6
    density, inside = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
    variance = 1 - 4 * density / inside  # of the normal cut at ±2
    assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)
    assert abs(values.std() - math.sqrt(variance)) < 5 / math.sqrt(2 * values.size)
    np.testing.assert_allclose(math.sqrt(variance), 0.8796, atol=1e-4)


def test_a_truncated_normal_of_bfloat16_has_mean_0():
    values = np.asarray(nn.truncated_normal(KEY, (400, 1000), jnp.bfloat16, stddev=0.5), np.float64)
    assert abs(values.mean()) < 5 * 0.5 / math.sqrt(values.size)


def test_truncated_normal_s_deviation_is_small_by_default():
    assert 0.039 < np.abs(nn.truncated_normal(KEY, LINEAR)).max() <= 0.04 + 1e-6


@pytest.mark.parametrize("scale", [1.0, math.sqrt(2)])
@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9), (3, 3, 2, 5), (2, 1, 2, 8), (3, 2, 2, 2, 4)])
def test_orthogonal_has_orthonormal_columns_or_rows(shape, scale):
    """Columns where the flattened kernel is tall, rows where it is wide."""
    kernel = np.asarray(nn.orthogonal(KEY, shape, scale=scale), np.float64).reshape(-1, shape[-1])
    tall = kernel.shape[0] >= kernel.shape[1]
    product = kernel.T @ kernel if tall else kernel @ kernel.T
    np.testing.assert_allclose(product, scale**2 * np.eye(len(product)), atol=1e-5)


def test_all_orthonormal_matrices_are_equally_likely():
    """Each element of a Haar matrix has mean 0 and variance 1 / n; QR without its signs is biased."""
    draws = np.asarray(jax.vmap(lambda key: nn.orthogonal(key, (4, 4)))(jax.random.split(KEY, 2000)))
    np.testing.assert_allclose(draws.mean(0), np.zeros((4, 4)), atol=5 * 0.5 / math.sqrt(2000))
    np.testing.assert_allclose(np.square(draws).mean(0), np.full((4, 4), 0.25), atol=0.03)


@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6), (3, 3, 4, 4), (2, 4, 3, 6), (3, 5, 3, 4, 6)])
def test_delta_orthogonal_is_orthonormal_at_the_centre_and_zero_elsewhere(shape):
    kernel = np.array(nn.delta_orthogonal(KEY, shape, scale=2.0), np.float64)
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    matrix = kernel[centre].copy()
    np.testing.assert_allclose(matrix @ matrix.T, 4 * np.eye(shape[-2]), atol=1e-5)
    kernel[centre] = 0
    assert not kernel.any()


@pytest.mark.parametrize("size", [2, 3, (4, 1)])
def test_a_delta_orthogonal_convolution_keeps_the_length_of_each_pixel(size):
    x = jax.random.normal(KEY, (2, 6, 5, 3))
    net = nn.conv(8, size, kernel_init=nn.delta_orthogonal)
    params, _ = net.init(KEY, x)
    y, _ = net.apply(params, {}, x)
    np.testing.assert_allclose(jnp.square(y).sum(-1), jnp.square(x).sum(-1), rtol=1e-4)


def test_delta_orthogonal_needs_as_many_outputs():
    with pytest.raises(ValueError, match=r"at least as many outputs as inputs, .* has 4 for 5; use ortho"):
        nn.delta_orthogonal(KEY, (3, 3, 5, 4))


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_constant(value):
    np.testing.assert_array_equal(nn.constant(KEY, (2, 3), value=value), np.full((2, 3), value, np.float32))
    assert not nn.constant(KEY, (2, 3)).any()


MORE = {
    "lecun": nn.lecun,
    "truncated_normal": nn.truncated_normal,
    "orthogonal": nn.orthogonal,
    "delta_orthogonal": nn.delta_orthogonal,
    "constant": nn.constant,
}


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_the_dtype_is_the_one_asked_for(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        assert MORE[name](KEY, (4, 6), dtype).dtype == dtype
        assert MORE[name](KEY, (4, 6)).dtype == ("float64" if dtype == "float64" else "float32")


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("truncated_normal", "stddev"),
        ("orthogonal", "scale"),
        ("delta_orthogonal", "scale"),
        ("constant", "value"),
    ],
)
def test_the_size_of_the_values_may_be_traced(name, setting):
    def draw(size):
        return MORE[name](KEY, (3, 4), jnp.bfloat16, **{setting: size})

    one, four = jax.vmap(draw)(jnp.array([1.0, 4.0]))
    assert one.dtype == jnp.bfloat16
    np.testing.assert_allclose(four.astype(jnp.float32), 4 * one.astype(jnp.float32), rtol=2**-7)
    with pytest.raises(TypeError, match=f"{setting} must be a number or a scalar array here"):
        draw(lambda count: 1.0)
    if name != "constant":
        with pytest.raises(ValueError, match=f"{setting} must be at least 0, not -1"):
            draw(-1.0)


@pytest.mark.parametrize("initializer", [nn.orthogonal, nn.delta_orthogonal, nn.lecun])
def test_a_vector_is_no_kernel(initializer):
    with pytest.raises(ValueError, match="a kernel has at least two axes"):
        initializer(KEY, (5,))


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
