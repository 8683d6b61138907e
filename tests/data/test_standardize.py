import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.data import Moments, moments, standardize, to_float
from fnn.data._standardize import CHUNK

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (CHUNK + 7, 3, 2, 3), dtype=np.uint8)


def test_to_float_scales_bytes_and_nothing_else():
    np.testing.assert_allclose(to_float(jnp.array([0, 51, 255], jnp.uint8)), [0, 0.2, 1], rtol=1e-6)
    assert to_float(jnp.zeros(3, jnp.uint8)).dtype == jnp.float32
    x = jnp.array([-3.0, 300.0], jnp.bfloat16)
    assert to_float(x) is x
    with pytest.raises(TypeError, match="to_float takes uint8 images or floats, not int32"):
        to_float(jnp.zeros(3, jnp.int32))


@pytest.mark.parametrize(
    "x",
    [
        BYTES,
        BYTES[..., :1],
        BYTES[:, 0, 0],
        RANDOM.integers(0, 256, (3, 5000), np.uint8),
        RANDOM.normal(2, 3, (CHUNK + 7, 4)).astype(np.float32),
        jnp.asarray(RANDOM.normal(2, 3, (50, 4)), jnp.bfloat16),
        RANDOM.normal(1000, 0.01, (500, 2, 2, 3)).astype(
            np.float32
        ),  # squares of values would drown this deviation
    ],
)
def test_moments_by_the_formula(x):
    values = np.asarray(x).astype(np.float64) / (255 if x.dtype == np.uint8 else 1)
    axes = tuple(range(x.ndim - 1))
    mean, std = moments(x)
    assert mean.shape == std.shape == x.shape[-1:]
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, values.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(std, values.std(axes), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_moments_of_wide_examples_take_little_memory(dtype):
    x = np.zeros((200, 100_000), dtype)
    tracemalloc.start()
    moments(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80e6  # a table of all values, or all examples in float64, takes four times that


@pytest.mark.parametrize("x", [np.full((9, 4, 4, 2), 77, np.uint8), np.full((3001, 2), 0.1)])
def test_a_constant_channel_has_deviation_one(x):
    mean, std = moments(x)
    np.testing.assert_array_equal(std, [1, 1])
    np.testing.assert_allclose(mean, to_float(x).reshape(-1, 2)[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "plain", "standardized"),
    [
        (np.uint8, np.float32, np.float32),
        (np.float16, np.float16, np.float32),
        (jnp.bfloat16, jnp.bfloat16, np.float32),
        (np.float32, np.float32, np.float32),
        (np.float64, np.float64, np.float64),
    ],
)
def test_parameters_are_as_wide_as_what_the_network_is_fed(dtype, plain, standardized):
    def make(rate):
        return fnn.linear(2), fnn.mean_squared_error, fnn.sgd(rate)

    with jax.enable_x64(True):
        x = jnp.ones((4, 3), dtype)
        for means, expected in ((None, plain), (Moments(np.zeros(3), np.ones(3)), standardized)):
            for sample in (x, jax.ShapeDtypeStruct(x.shape, x.dtype)):
                params = fnn.init_state(make, 0.1, jax.random.key(0), sample, means).params
                assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(expected)}


@pytest.mark.parametrize("x", [BYTES, RANDOM.normal(2, 3, (500, 4)).astype(np.float32)])
def test_standardized_values_have_mean_0_and_deviation_1(x):
    y = np.asarray(jax.jit(standardize)(x, moments(x)))
    assert y.dtype == np.float32
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(y.mean(axes, dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axes, dtype=np.float64), 1, atol=1e-5)


def test_standardize_by_hand():
    x = np.array([[0, 255], [255, 51]], np.uint8)
    y = standardize(x, Moments(np.array([0.5, 0.2], np.float32), np.array([0.25, 2.0], np.float32)))
    np.testing.assert_allclose(y, [[-2, 0.4], [2, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: moments(np.zeros((0, 3), np.uint8)), ValueError, r"moments takes examples, .* not \(0, 3\)"),
        (lambda: moments(np.zeros(3, np.uint8)), ValueError, r"moments takes examples, .* not \(3,\)"),
        (
            lambda: moments(np.zeros((3, 1), np.int64)),
            TypeError,
            "moments takes uint8 images or floats, not int64",
        ),
        (lambda: standardize(BYTES, moments(BYTES[..., :1])), ValueError, "and moments of 1 channels"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_deviation_too_small_for_the_device_is_none():
    x = np.array([[1e-42], [3e-42], [5e-42]], np.float32)
    found = moments(x)
    assert found.std.tolist() == [1]
    assert np.isfinite(standardize(jnp.asarray(x), found)).all()
