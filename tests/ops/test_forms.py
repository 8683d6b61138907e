"""Each way to convolve on CPU against the definition of a convolution, under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_cases import CONV, Conv, assert_close, conv_arrays, each, generator
from test_conv_oracle import conv, conv_dkernel, conv_dx, value_and_gradients

from fnn import ops
from fnn.ops import _kn2row, _library, _on_cpu, _winograd
from fnn.ops._depthwise import DEPTHWISE
from fnn.ops._im2col import IM2COL
from fnn.ops._kn2row import KN2ROW
from fnn.ops._window import sliding_window
from fnn.ops._winograd import WINOGRAD

ODD = Conv("odd", (6, 7, 10, 3), (3, 3, 3, 5), pads=((1, 1), (1, 1)))
DEPTHWISE_ODD = Conv("depthwise_odd", (6, 7, 10, 3), (3, 3, 1, 6), pads=((1, 1), (1, 1)), groups=3)
# every second case, to save time
POSSIBLE = {
    "winograd": [c for c in CONV if c.kernel[:-2] == (3, 3) and c.stride == c.dilation == c.groups == 1],
    "kn2row": [c for c in CONV[::2] if c.groups == 1 and each(c.stride, len(c.pads))[0] == 1],
    "im2col": CONV[1::2],
    "depthwise": [c for c in CONV if c.kernel[-2] == 1 < c.groups],
    "library": CONV[::2],
}
WRITTEN_OUT = {"winograd": WINOGRAD, "kn2row": KN2ROW, "im2col": IM2COL, "depthwise": DEPTHWISE}
SMALL_BLOCKS = {"winograd": 40_000, "kn2row": 40_000, "im2col": 40_000, "depthwise": 3_000}
LIKE = {form: DEPTHWISE_ODD if form == "depthwise" else ODD for form in POSSIBLE}
FORMS = pytest.mark.parametrize("form", POSSIBLE)


@pytest.fixture(params=["whole", "blocks"])
def only(request, monkeypatch, x64, retraced):
    """A function that lets every convolution go one way, the batch at once or in blocks of one image or two."""

    def allow(form):
        monkeypatch.setattr(_on_cpu, "_library_pays", lambda *rest: form == "library")
        # What the library leaves: kernels' gradients, and kernels that `vmap` maps over.
        written_out = WRITTEN_OUT.get(form, IM2COL)
        if request.param == "blocks" and form in SMALL_BLOCKS:
            written_out = written_out._replace(block_bytes=SMALL_BLOCKS[form])
        monkeypatch.setattr(_on_cpu, "_form", lambda *rest: written_out)

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
        *((form, LIKE[form], "blocks") for form in SMALL_BLOCKS),
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


@pytest.mark.parametrize("channels", [64, 80])
def test_winograds_algorithm_in_float32_is_as_exact_as_the_plain_sum(channels):
    """Such convolutions go this way by themselves, in blocks."""
    case = Conv("large", (21, 15, 14, 64), (3, 3, 64, channels), pads=((1, 1), (1, 1)))
    arrays = [np.float32(array) for array in conv_arrays(case)]
    results = value_and_gradients(case)(*arrays)
    x, kernel, cotangent = (np.float64(array) for array in arrays)
    assert_close(results[0], conv(case, x, kernel), 3e-6)
    assert_close(results[1], conv_dx(case, cotangent, kernel), 3e-6)
    assert_close(results[2], conv_dkernel(case, cotangent, x), 3e-6)


@pytest.mark.parametrize(
    ("kernel", "settings", "expected"),
    [
        ((3, 3, 32, 32), {}, True),
        ((3, 3, 32, 31), {}, False),
        ((3, 3, 16, 64), {}, False),  # groups, of 32 channels
        ((5, 5, 32, 32), {}, False),
        ((3, 32, 32), {}, False),
        ((3, 3, 32, 32), {"stride": 2}, False),
        ((3, 3, 32, 32), {"dilation": 2}, False),
    ],
)
def test_when_winograds_algorithm_is_chosen(kernel, settings, expected):
    x = jax.ShapeDtypeStruct((2, *(9,) * (len(kernel) - 2), 32), jnp.float32)
    given = {"stride": 1, "padding": "SAME", **settings}
    window = sliding_window(x, kernel[:-2], **given, name="kernel")
    assert _winograd.pays(x, jnp.zeros(kernel), window, fewest_channels=32) is expected


@pytest.mark.parametrize(
    ("x", "kernel", "settings", "dtype", "expected"),
    [
        ((2, 28, 28, 16), (3, 3, 16, 16), {}, jnp.float32, True),
        ((2, 28, 28, 16), (5, 5, 16, 16), {"stride": 2, "padding": "VALID"}, jnp.float32, True),
        ((2, 28, 28, 16), (3, 3, 16, 16), {"dilation": 2}, jnp.float32, True),
        ((2, 28, 16), (3, 16, 16), {}, jnp.float32, True),
        ((2, 9, 9, 9, 16), (3, 3, 3, 16, 16), {}, jnp.float32, False),
        ((2, 28, 28, 16), (3, 3, 16, 16), {}, jnp.float64, False),
        ((2, 28, 28, 16), (3, 3, 16, 7), {}, jnp.float32, False),
        ((2, 28, 28, 4), (3, 3, 4, 16), {}, jnp.float32, False),  # 36 numbers in a window
        ((2, 28, 28, 5), (3, 3, 5, 16), {}, jnp.float32, True),
        ((2, 28, 28, 16), (3, 3, 8, 16), {}, jnp.float32, True),  # groups
        ((2, 28, 28, 16), (3, 3, 4, 16), {}, jnp.float32, False),
        ((2, 28, 28, 64), (3, 3, 64, 63), {}, jnp.float32, True),
        ((2, 28, 28, 64), (3, 3, 64, 64), {}, jnp.float32, False),  # Winograd's algorithm
        ((2, 28, 28, 16), (7, 7, 1, 16), {}, jnp.float32, False),  # depthwise
    ],
)
def test_when_the_convolution_is_xlas(x, kernel, settings, dtype, expected, x64):
    x, kernel = (jax.ShapeDtypeStruct(shape, dtype) for shape in (x, kernel))
    given = {"stride": 1, "padding": "SAME", **settings}
    window = sliding_window(x, kernel.shape[:-2], **given, name="kernel")
    assert _on_cpu._library_pays(x, kernel, window) is expected


def test_no_convolution_of_xla_cuts_pixels_off():
    """The reversed window of a 3×3 one that is padded by 4 has a padding of -2."""
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 9, 9, 16), (3, 3, 16, 16)))
    window = sliding_window(x, (3, 3), 1, 4, name="kernel")
    assert _library.pays(x, kernel, window)
    assert not _library.pays(x, kernel, window.reversed)


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
    assert _kn2row.pays(x, kernel, window) is expected
    twice = jax.ShapeDtypeStruct((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    assert not _kn2row.pays(twice, kernel, window)  # in two groups


@pytest.mark.cpu
def test_a_large_kernel_makes_a_small_program():
    """Its size goes by the sum of the kernel's sides, not by their product."""
    x = jnp.zeros((1, 40, 40, 1))

    def operations(size):
        return str(jax.jit(ops.conv).lower(x, jnp.zeros((size, size, 1, 1))).as_text()).count("\n")

    assert operations(31) < 4 * operations(11)
