"""Each way to convolve on CPU against the definition of a convolution, under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_cases import CONV, Conv, assert_close, conv_arrays, each, generator
from test_conv_oracle import conv, conv_dkernel, conv_dx, value_and_gradients

from fnn import ops
from fnn.ops import _conv, _kn2row, _winograd
from fnn.ops._window import sliding_window

ODD = Conv("odd", (6, 7, 10, 3), (3, 3, 3, 5), pads=((1, 1), (1, 1)))
DEPTHWISE = Conv("depthwise_odd", (6, 7, 10, 3), (3, 3, 1, 6), pads=((1, 1), (1, 1)), groups=3)
POSSIBLE = {
    "winograd": [c for c in CONV if c.kernel[:-2] == (3, 3) and c.stride == c.dilation == c.groups == 1],
    # every second case, to save time
    "kn2row": [c for c in CONV[::2] if c.groups == 1 and each(c.stride, len(c.pads))[0] == 1],
    "depthwise": [c for c in CONV if c.kernel[-2] == 1 < c.groups],
}
LIKE = {"winograd": ODD, "kn2row": ODD, "depthwise": DEPTHWISE}
FORMS = pytest.mark.parametrize("form", POSSIBLE)


@pytest.fixture(params=["whole", "blocks"])
def only(request, monkeypatch, x64, retraced):
    """A function that lets every convolution go one way, the batch at once or in blocks of one image or two."""

    def allow(form):
        monkeypatch.setattr(_winograd, "_FEWEST_CHANNELS", 1)
        monkeypatch.setattr(_conv, "IM2COL", None)  # what would go another way fails
        if form != "winograd":
            monkeypatch.setattr(_winograd, "pays", lambda *rest: False)
        monkeypatch.setattr(_kn2row, "pays", lambda *rest: form == "kn2row")
        if request.param == "blocks":
            monkeypatch.setattr(_winograd, "BLOCK_BYTES", 40_000)
            for name, block_bytes in (("KN2ROW", 40_000), ("DEPTHWISE", 3_000)):
                monkeypatch.setattr(_conv, name, getattr(_conv, name)._replace(block_bytes=block_bytes))

    return allow


def check(case, arrays, results):
    x, kernel, cotangent = arrays
    y, dx, dkernel = results
    assert_close(y, conv(case, x, kernel))
    assert_close(dx, conv_dx(case, cotangent, kernel))
    assert_close(dkernel, conv_dkernel(case, cotangent, x))


@pytest.mark.parametrize(
    ("form", "case", "only"),
    [
        *((form, case, "whole") for form, possible in POSSIBLE.items() for case in possible),
        *((form, LIKE[form], "blocks") for form in POSSIBLE),
    ],
    ids=lambda given: getattr(given, "name", given),
    indirect=["only"],
)
def test_it_is_the_definition(form, case, only):
    only(form)
    arrays = conv_arrays(case)
    check(case, arrays, value_and_gradients(case)(*arrays))


@FORMS
@pytest.mark.parametrize("mapped", ["x", "kernel", "both"])
def test_under_vmap(mapped, form, only):
    only(form)
    case, rng = LIKE[form], generator(mapped)
    x, kernel, _ = conv_arrays(case)
    xs = rng.normal(size=(2, *x.shape)) if mapped != "kernel" else x
    kernels = rng.normal(size=(2, *kernel.shape)) if mapped != "x" else kernel
    cotangents = rng.normal(size=(2, *case.output))
    axes = (0 if mapped != "kernel" else None, 0 if mapped != "x" else None, 0)
    results = jax.vmap(value_and_gradients(case), axes)(xs, kernels, cotangents)
    for k in range(2):
        one = (xs[k] if mapped != "kernel" else x, kernels[k] if mapped != "x" else kernel, cotangents[k])
        check(case, one, [result[k] for result in results])


@FORMS
def test_under_scan(form, only):
    only(form)
    case, rng = LIKE[form], generator("scan")
    arrays = [rng.normal(size=(2, *array.shape)) for array in conv_arrays(case)]
    step = value_and_gradients(case)
    _, results = jax.lax.scan(lambda carry, each: (carry, step(*each)), 0, tuple(map(jnp.asarray, arrays)))
    for k in range(2):
        check(case, [array[k] for array in arrays], [result[k] for result in results])


@FORMS
@pytest.mark.devices
def test_of_a_batch_spread_over_devices(form, only):
    only(form)
    case = LIKE[form]._replace(x=(8, *ODD.x[1:]))
    arrays = conv_arrays(case)
    with jax.set_mesh(jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))):
        x, cotangent = (jax.device_put(array, jax.P("data")) for array in (arrays[0], arrays[2]))
        results = value_and_gradients(case)(x, jax.device_put(arrays[1], jax.P()), cotangent)
    assert len(results[0].sharding.device_set) == 4
    check(case, arrays, results)


@FORMS
@pytest.mark.parametrize("only", ["whole"], indirect=True)
def test_of_no_images(form, only):
    only(form)
    case = LIKE[form]._replace(x=(0, *LIKE[form].x[1:]))
    y, dx, dkernel = value_and_gradients(case)(*conv_arrays(case))
    assert (y.shape, dx.shape) == (case.output, case.x)
    np.testing.assert_array_equal(dkernel, np.zeros(case.kernel))


@FORMS
def test_second_derivatives(form, only):
    """The Hessian of a half square along one direction, by differences of the first derivative."""
    only(form)
    case = LIKE[form]
    x, kernel, _ = conv_arrays(case)
    direction = generator("direction").normal(size=kernel.shape)

    def half_square(kernel):
        return jnp.square(ops.conv(jnp.asarray(x), kernel, groups=case.groups)).sum() / 2

    gradient = jax.jit(jax.grad(half_square))
    product = jax.grad(lambda kernel: jnp.vdot(jax.grad(half_square)(kernel), direction))(kernel)
    difference = (gradient(kernel + direction) - gradient(kernel - direction)) / 2  # exact: it is linear
    assert_close(product, difference)


@pytest.mark.parametrize("channels", [32, 48])
def test_winograds_algorithm_in_float32_is_as_exact_as_the_plain_sum(channels):
    """Such convolutions go this way by themselves, in blocks."""
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
def test_when_winograds_algorithm_is_chosen(kernel, settings, dtype, expected):
    x = jax.ShapeDtypeStruct((2, *(9,) * (len(kernel) - 2), 32), dtype)
    given = {"stride": 1, "padding": "SAME", **settings}
    window = sliding_window(x, kernel[:-2], **given, name="kernel")
    assert _winograd.pays(jax.ShapeDtypeStruct(kernel, dtype), window, 1) is expected
    assert not _winograd.pays(jax.ShapeDtypeStruct(kernel, dtype), window, 2)


@pytest.mark.parametrize(
    ("x", "kernel", "settings", "expected"),
    [
        ((2, 28, 28, 16), (3, 3, 16, 16), {}, True),
        ((2, 28, 28, 16), (3, 3, 16, 64), {}, True),  # 30 · (3·16 + 3·64) numbers against 28 · 9·16
        ((2, 28, 28, 16), (3, 3, 16, 96), {}, False),
        ((2, 28, 28, 1), (3, 3, 1, 32), {}, False),
        ((2, 28, 28, 1), (31, 31, 1, 8), {}, True),
        ((2, 28, 28, 8), (5, 5, 8, 16), {"stride": (1, 2)}, True),
        ((2, 28, 28, 8), (5, 5, 8, 16), {"stride": (2, 1)}, False),
        ((2, 7, 7, 64), (7, 7, 64, 64), {"padding": "VALID"}, False),  # one place
        ((2, 28, 64), (5, 64, 16), {}, True),
    ],
)
def test_when_kn2row_is_chosen(x, kernel, settings, expected):
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel))
    window = sliding_window(
        x, kernel.shape[:-2], **{"stride": 1, "padding": "SAME", **settings}, name="kernel"
    )
    assert _kn2row.pays(x, kernel, window, 1) is expected
    assert not _kn2row.pays(x, kernel, window, 2)


@pytest.mark.cpu
def test_a_large_kernel_makes_a_small_program():
    """Its size goes by the sum of the kernel's sides, not by their product."""
    x = jnp.zeros((1, 40, 40, 1))

    def operations(size):
        return str(jax.jit(ops.conv).lower(x, jnp.zeros((size, size, 1, 1))).as_text()).count("\n")

    assert operations(31) < 4 * operations(11)
