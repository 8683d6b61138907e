"""Winograd's algorithm against the definition of a convolution, under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_cases import CONV, Conv, assert_close, conv_arrays, generator
from test_conv_oracle import conv, conv_dkernel, conv_dx, value_and_gradients

from fnn import ops
from fnn.ops import _im2col, _winograd
from fnn.ops._window import sliding_window

PLAIN = [
    case for case in CONV if case.kernel[:-2] == (3, 3) and case.stride == case.dilation == case.groups == 1
]
ODD = Conv("odd", (6, 7, 10, 3), (3, 3, 3, 5), pads=((1, 1), (1, 1)))


@pytest.fixture(params=["whole", "blocks"])
def winograd(request, monkeypatch, x64):
    """Every convolution that can go this way does, the batch at once or in blocks of one image or two."""

    def refused(*arguments):
        raise AssertionError("this should go by Winograd's algorithm")

    monkeypatch.setattr(_winograd, "_FEWEST_CHANNELS", 1)
    monkeypatch.setattr(_im2col, "conv", refused)
    if request.param == "blocks":
        monkeypatch.setattr(_winograd, "BLOCK_BYTES", 40_000)


def check(case, arrays, results):
    x, kernel, cotangent = arrays
    y, dx, dkernel = results
    assert_close(y, conv(case, x, kernel))
    assert_close(dx, conv_dx(case, cotangent, kernel))
    assert_close(dkernel, conv_dkernel(case, cotangent, x))


@pytest.mark.parametrize("case", [*PLAIN, ODD], ids=lambda case: case.name)
def test_it_is_the_definition(case, winograd):
    arrays = conv_arrays(case)
    check(case, arrays, value_and_gradients(case)(*arrays))


@pytest.mark.parametrize("mapped", ["x", "kernel", "both"])
def test_under_vmap(mapped, winograd):
    rng = generator(mapped)
    x, kernel, _ = conv_arrays(ODD)
    xs = rng.normal(size=(2, *x.shape)) if mapped != "kernel" else x
    kernels = rng.normal(size=(2, *kernel.shape)) if mapped != "x" else kernel
    cotangents = rng.normal(size=(2, *ODD.output))
    axes = (0 if mapped != "kernel" else None, 0 if mapped != "x" else None, 0)
    results = jax.vmap(value_and_gradients(ODD), axes)(xs, kernels, cotangents)
    for k in range(2):
        one = (xs[k] if mapped != "kernel" else x, kernels[k] if mapped != "x" else kernel, cotangents[k])
        check(ODD, one, [result[k] for result in results])


def test_under_scan(winograd):
    rng = generator("scan")
    arrays = [rng.normal(size=(2, *array.shape)) for array in conv_arrays(ODD)]
    step = value_and_gradients(ODD)
    _, results = jax.lax.scan(lambda carry, each: (carry, step(*each)), 0, tuple(map(jnp.asarray, arrays)))
    for k in range(2):
        check(ODD, [array[k] for array in arrays], [result[k] for result in results])


@pytest.mark.devices
def test_of_a_batch_spread_over_devices(winograd):
    case = ODD._replace(x=(8, *ODD.x[1:]))
    arrays = conv_arrays(case)
    with jax.set_mesh(jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))):
        x, cotangent = (jax.device_put(array, jax.P("data")) for array in (arrays[0], arrays[2]))
        results = value_and_gradients(case)(x, jax.device_put(arrays[1], jax.P()), cotangent)
    assert len(results[0].sharding.device_set) == 4
    check(case, arrays, results)


def test_second_derivatives(winograd):
    """The Hessian of a half square along one direction, by differences of the first derivative."""
    x, kernel, _ = conv_arrays(ODD)
    direction = generator("direction").normal(size=kernel.shape)

    def half_square(kernel):
        return jnp.square(ops.conv(jnp.asarray(x), kernel)).sum() / 2

    gradient = jax.jit(jax.grad(half_square))
    product = jax.grad(lambda kernel: jnp.vdot(jax.grad(half_square)(kernel), direction))(kernel)
    difference = (gradient(kernel + direction) - gradient(kernel - direction)) / 2  # exact: it is linear
    assert_close(product, difference)


@pytest.mark.parametrize("channels", [32, 48])
def test_float32_is_as_exact_as_the_plain_sum(channels):
    """Which also goes this way by itself, in blocks."""
    case = Conv("large", (37, 15, 14, 32), (3, 3, 32, channels), pads=((1, 1), (1, 1)))
    arrays = [np.float32(array) for array in conv_arrays(case)]
    results = value_and_gradients(case)(*arrays)
    x, kernel, cotangent = (np.float64(array) for array in arrays)
    assert_close(results[0], conv(case, x, kernel), 3e-6)
    assert_close(results[1], conv_dx(case, cotangent, kernel), 3e-6)
    assert_close(results[2], conv_dkernel(case, cotangent, x), 3e-6)


@pytest.mark.parametrize(
    ("kernel", "settings", "dtype", "expected"),
    [
        ((3, 3, 32, 32), {}, jnp.float32, True),
        ((3, 3, 16, 64), {}, jnp.float32, False),
        ((5, 5, 32, 32), {}, jnp.float32, False),
        ((3, 32, 32), {}, jnp.float32, False),
        ((3, 3, 32, 32), {"stride": 2}, jnp.float32, False),
        ((3, 3, 32, 32), {"dilation": 2}, jnp.float32, False),
        ((3, 3, 32, 32), {}, jnp.bfloat16, False),
    ],
)
def test_when_it_is_chosen(kernel, settings, dtype, expected):
    x = jax.ShapeDtypeStruct((2, *(9,) * (len(kernel) - 2), 32), dtype)
    given = {"stride": 1, "padding": "SAME", **settings}
    window = sliding_window(x, kernel[:-2], **given, name="kernel")
    assert _winograd.pays(jax.ShapeDtypeStruct(kernel, dtype), window, 1) is expected
    assert not _winograd.pays(jax.ShapeDtypeStruct(kernel, dtype), window, 2)
