"""Initial values: their variance, distribution and dtype, measured over many draws."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.nn.initializers import fans

KEY = jax.random.key(11)
IMAGES = jax.ShapeDtypeStruct((1, 8, 8, 32), jnp.float32)
VECTORS = jax.ShapeDtypeStruct((1, 100), jnp.float32)

# layer, input, fan-in and fan-out by hand
KERNELS = {
    "linear": (fnn.linear, {"features": 700}, VECTORS, 100, 700),
    "conv": (fnn.conv, {"features": 256, "kernel_size": 3}, IMAGES, 3 * 3 * 32, 3 * 3 * 256),
    "conv in groups": (
        fnn.conv,
        {"features": 512, "kernel_size": (3, 5), "groups": 4},
        IMAGES,
        3 * 5 * 8,
        3 * 5 * 512,
    ),
}

# initializer, and the variance it promises from fan-in and fan-out
DRAWS = {
    "kaiming": (fnn.kaiming, lambda i, o: 2 / i),
    "xavier": (fnn.xavier, lambda i, o: 1 / i),
    "kaiming fan_out": (partial(fnn.kaiming, mode="fan_out"), lambda i, o: 2 / o),
    "xavier fan_avg": (partial(fnn.xavier, mode="fan_avg"), lambda i, o: 2 / (i + o)),
    "kaiming uniform": (partial(fnn.kaiming, distribution="uniform"), lambda i, o: 2 / i),
    "xavier fan_avg uniform": (
        partial(fnn.xavier, mode="fan_avg", distribution="uniform"),
        lambda i, o: 2 / (i + o),
    ),
    "xavier scale": (partial(fnn.xavier, scale=3.0), lambda i, o: 3 / i),
    "kaiming scale": (partial(fnn.kaiming, scale=0.5, mode="fan_out"), lambda i, o: 0.5 / o),
}


def kernel_of(layer: str, initializer: Any) -> tuple[np.ndarray, int, int]:
    function, settings, x, fan_in, fan_out = KERNELS[layer]
    params, _ = function(**settings, kernel_init=initializer).init(KEY, x)
    return np.asarray(params["kernel"], np.float64), fan_in, fan_out


@pytest.mark.parametrize("layer", KERNELS)
@pytest.mark.parametrize("draw", DRAWS)
def test_mean_and_variance_of_a_layers_kernel(layer: str, draw: str) -> None:
    initializer, variance_of = DRAWS[draw]
    kernel, fan_in, fan_out = kernel_of(layer, initializer)
    variance, n = variance_of(fan_in, fan_out), kernel.size
    assert n > 50_000
    assert abs(kernel.mean()) < 5 * np.sqrt(variance / n)
    assert abs(kernel.var() / variance - 1) < 5 * np.sqrt(2 / n)  # five standard errors of a normal's
    kurtosis = ((kernel - kernel.mean()) ** 4).mean() / kernel.var() ** 2
    if "uniform" in draw:
        bound = np.sqrt(3 * variance)
        assert 0.999 * bound < np.abs(kernel).max() <= bound * (1 + 1e-6)
        np.testing.assert_allclose(kurtosis, 9 / 5, atol=0.05)
    else:
        assert np.abs(kernel).max() > 3.5 * np.sqrt(variance)  # not truncated
        np.testing.assert_allclose(kurtosis, 3, atol=0.15)


@pytest.mark.parametrize("layer", KERNELS)
def test_layers_draw_kaiming_and_start_their_biases_at_zero(layer: str) -> None:
    function, settings, x, fan_in, _ = KERNELS[layer]
    params, _ = function(**settings).init(KEY, x)
    assert set(params) == {"kernel", "bias"}
    assert not params["bias"].any()
    np.testing.assert_array_equal(params["kernel"], kernel_of(layer, fnn.kaiming)[0].astype(np.float32))
    assert set(function(**settings, bias=False).init(KEY, x)[0]) == {"kernel"}


def test_kernel_init_reaches_every_layer_of_an_mlp() -> None:
    params, _ = fnn.mlp((4, 3), 2, kernel_init=lambda key, shape, dtype: jnp.full(shape, 7, dtype)).init(KEY, VECTORS)
    assert all((params[f"linear_{n}"]["kernel"] == 7).all() for n in (1, 2, 3))


def test_relu_layers_keep_the_mean_square_of_the_signal() -> None:
    net = fnn.mlp((512,) * 6, 512)
    params, _ = net.init(KEY, jax.ShapeDtypeStruct((1, 512), jnp.float32))
    x = jax.random.normal(jax.random.key(0), (64, 512))
    outputs = fnn.intermediates(net, params, {}, x)
    sizes = [float(jnp.mean(jnp.square(outputs[f"relu_{n}"]))) for n in range(1, 7)]
    assert all(0.5 < size < 2.0 for size in sizes)  # with variance 1 / fan-in they end at 2⁻⁶


@pytest.mark.parametrize("initializer", [fnn.kaiming, fnn.xavier])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtype_and_shape_are_those_asked_for(initializer: Any, distribution: str, dtype: str) -> None:
    draw = partial(initializer, KEY, (3, 3, 2, 8), jnp.dtype(dtype), distribution=distribution)
    drawn = jax.eval_shape(draw)
    assert drawn.shape == (3, 3, 2, 8)
    assert drawn.dtype == dtype


@pytest.mark.parametrize("initializer", [fnn.kaiming, fnn.xavier])
def test_float64_is_drawn_in_float64(initializer: Any) -> None:
    with jax.enable_x64(True):
        drawn = np.asarray(initializer(KEY, (50, 50), jnp.float64))
    assert drawn.dtype == np.float64
    assert (drawn != drawn.astype(np.float32)).mean() > 0.9  # not float32 values that were widened


def test_fans_of_hand() -> None:
    assert fans((784, 10)) == (784, 10)
    assert fans((3, 5, 16, 32)) == (240, 480)
    with pytest.raises(ValueError, match=r"a kernel has at least two axes \(…, inputs, outputs\), not shape \(3,\)"):
        fans((3,))


def test_scale_may_be_traced() -> None:
    draws = jax.vmap(lambda scale: fnn.kaiming(KEY, (20, 20), scale=scale))(jnp.array([2.0, 8.0]))
    np.testing.assert_allclose(draws[1], 2 * draws[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "fan"}, "mode must be one of fan_in, fan_out, fan_avg, not 'fan'"),
        ({"distribution": "gauss"}, """distribution must be "normal" or "uniform", not 'gauss'"""),
        ({"scale": -1.0}, r"scale must be at least 0, not -1\.0"),
    ],
)
@pytest.mark.parametrize("initializer", [fnn.kaiming, fnn.xavier])
def test_settings_that_do_not_exist_are_errors(initializer: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initializer(KEY, (3, 3), jnp.float32, **settings)
