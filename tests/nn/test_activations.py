"""Activations: values and gradients against PyTorch, at 0 and far from it, in every precision."""

import math
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn

TORCH = np.load(Path(__file__).with_name("torch_values.npz"))
CASES = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "leaky_relu": nn.leaky_relu,
    "leaky_relu 0.3": partial(nn.leaky_relu, negative_slope=0.3),
    "leaky_relu 1.5": partial(nn.leaky_relu, negative_slope=1.5),  # max(αx, x) would be 1.5 x for x > 0
    "elu": nn.elu,
    "elu 0.4": partial(nn.elu, alpha=0.4),
    "selu": nn.selu,
    "gelu": nn.gelu,
    "gelu approximate": partial(nn.gelu, approximate=True),
    "silu": nn.silu,
    "softplus": nn.softplus,
}
ALL = {**CASES, "heaviside": nn.heaviside}
each = pytest.mark.parametrize("name", CASES)
each_of_all = pytest.mark.parametrize("name", ALL)


@cache
def compiled(function):
    @jax.jit
    def both(x):
        y, backward = jax.vjp(function, x)
        return y, *backward(jnp.ones_like(y))

    return both


def value_and_slope(function, x):
    return [np.asarray(numbers, np.float64) for numbers in compiled(function)(x)]


@each
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-8), ("float32", 2e-6), ("bfloat16", 2.0**-6)]
)
def test_values_and_gradients_are_pytorch_s(name, dtype, tolerance):
    y, slope = (TORCH[f"activation/{name}/{key}"] for key in ("y", "dx"))
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(TORCH[f"activation/{name}/x"], dtype)
        assert jax.eval_shape(CASES[name], x).dtype == dtype
        actual = value_and_slope(CASES[name], x)
    np.testing.assert_allclose(actual[0], y, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(actual[1], slope, rtol=tolerance, atol=tolerance)


@each_of_all
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_far_from_zero_nothing_overflows(name, dtype):
    """On the right each is the identity or saturates at 1; on the left a line, 0 or saturated."""
    x = jnp.array([[1e4, 1e30, 2e38], [-1e4, -1e30, -2e38]], dtype)
    left = {"leaky_relu": 0.01, "leaky_relu 0.3": 0.3, "leaky_relu 1.5": 1.5}.get(name, 0.0)
    level = {"tanh": -1, "elu": -1, "elu 0.4": -0.4, "selu": -1.7580993408473766}.get(name, 0.0)
    right = {"tanh": 0.0, "sigmoid": 0.0, "heaviside": 0.0, "selu": 1.0507009873554805}.get(name, 1.0)
    x64 = np.asarray(x, np.float64)
    y, slope = value_and_slope(ALL[name], x)
    expected = [right * x64[0] if right else [1] * 3, left * x64[1] if left else [level] * 3]
    np.testing.assert_allclose(y, expected, rtol=2**-7 if dtype == "bfloat16" else 1e-6)
    np.testing.assert_allclose(slope, [[right] * 3, [left] * 3], rtol=2**-7 if dtype == "bfloat16" else 1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu", "selu", "gelu", "gelu approximate", "silu"])
def test_a_dense_grid_has_no_nan(name):
    x = jnp.concatenate([jnp.linspace(-200, 200, 4001), jnp.array([jnp.inf, 1e-30, -1e-30, -0.0])])
    y, slope = value_and_slope(CASES[name], x)
    assert np.isfinite(y[x < jnp.inf]).all()
    assert np.isfinite(slope[x < jnp.inf]).all()


def test_heaviside_is_zero_at_zero_and_has_no_gradient():
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0])
    y, slope = value_and_slope(nn.heaviside, x)
    np.testing.assert_array_equal(y, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(slope, np.zeros(5))
    assert nn.heaviside(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_selu_keeps_mean_zero_and_variance_one():
    """The fixed point that defines its constants, by quadrature over the normal distribution."""
    with jax.enable_x64(True):
        x, weights = np.polynomial.hermite_e.hermegauss(200)
        y = np.asarray(nn.selu(jnp.asarray(x)))
    weights = weights / weights.sum()
    mean = weights @ y
    assert abs(mean) < 2e-3  # a kink costs the quadrature digits
    assert abs(weights @ np.square(y - mean) - 1) < 2e-3


def test_gelu_is_exact_unless_asked():
    x = np.linspace(-4, 4, 81)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    np.testing.assert_allclose(nn.gelu(jnp.asarray(x, jnp.float32)), exact, rtol=1e-4, atol=1e-6)
    off = np.abs(np.asarray(nn.gelu(jnp.asarray(x, jnp.float32), approximate=True)) - exact).max()
    assert 1e-4 < off < 5e-4


@pytest.mark.parametrize(
    ("function", "setting", "expected"),
    [(nn.leaky_relu, "negative_slope", -2.0), (nn.elu, "alpha", math.expm1(-2))],
)
def test_settings_may_be_traced_and_do_not_change_the_dtype(function, setting, expected):
    x = jnp.array([-2.0, 2.0], jnp.bfloat16)
    y = jax.vmap(lambda value: function(x, **{setting: value}))(jnp.array([0.1, 0.5], jnp.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), [[0.1 * expected, 2], [0.5 * expected, 2]], rtol=2**-7)
    slope = jax.grad(lambda value: function(x.astype(jnp.float32), **{setting: value}).sum())(0.3)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    with pytest.raises(TypeError, match=f"{setting} must be a number or a scalar array here, not a schedule"):
        function(x, **{setting: lambda count: 0.1})


@pytest.mark.parametrize("function", [nn.leaky_relu, nn.elu])
def test_settings_are_not_rounded_to_the_integers_of_the_input(function):
    np.testing.assert_allclose(function(jnp.array([-2, 2]), 0.3), function(jnp.array([-2.0, 2.0]), 0.3))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", *(name for name in CASES if name != "relu")])
def test_integers_become_floats(name, dtype):
    """Those of a byte would wrap around."""
    function = {"softmax": nn.softmax, "log_softmax": nn.log_softmax, **CASES}[name]
    x = np.array([[0, 1, 3], [20, 9, 0]]).astype(dtype)
    y = function(jnp.asarray(x))
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, function(jnp.asarray(x, jnp.float32)), rtol=1e-6)


def test_softmax_of_bytes_is_its_formula():
    x = np.array([[0, 1, 2], [200, 120, 190]], np.uint8)
    p = np.exp(x - 200.0) / np.exp(x - 200.0).sum(-1, keepdims=True)
    np.testing.assert_allclose(nn.softmax(jnp.asarray(x)), p, rtol=1e-5)
    np.testing.assert_allclose(nn.log_softmax(jnp.asarray(x)), np.log(p), rtol=1e-5, atol=1e-6)
