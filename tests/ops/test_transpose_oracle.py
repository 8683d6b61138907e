"""`fnn.ops.conv_transpose` and `locally_connected` against their definitions in loops, and PyTorch."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_cases import (
    CONV,
    TORCH_VALUES,
    TRANSPOSE,
    Conv,
    assert_close,
    conv_arrays,
    each,
    generator,
    resolve_pads,
)

from fnn import ops

BY_NAME = {case.name: case for case in TRANSPOSE}
KINDS = ["same_4x2_stride_2_1", "same_2x1_stride_3_gaps", "valid_dilated_stride_2_3", "volume_valid"]


def cases(table):
    return pytest.mark.parametrize("case", table, ids=lambda case: case.name)


# --- The oracle: each input pixel adds to the output pixels under its kernel.


def terms(case):
    """Each product: input pixel, kernel element, output pixel."""
    axes = len(case.pads)
    stride, dilation = each(case.stride, axes), each(case.dilation, axes)
    for pixel in np.ndindex(*case.x[1:-1]):
        for element in np.ndindex(*case.kernel[:-2]):
            output = tuple(
                pixel[a] * stride[a] + element[a] * dilation[a] - case.pads[a][0] for a in range(axes)
            )
            if all(0 <= p < n for p, n in zip(output, case.output[1:-1], strict=True)):
                yield pixel, element, output


def transposed(case, x, kernel):
    y = np.zeros((len(x), *case.output[1:]))
    for pixel, element, output in terms(case):
        y[:, *output] += x[:, *pixel] @ kernel[element]
    return y


def transposed_gradients(case, x, kernel, cotangent):
    dx, dkernel = np.zeros(x.shape), np.zeros(kernel.shape)
    for pixel, element, output in terms(case):
        dx[:, *pixel] += cotangent[:, *output] @ kernel[element].T
        dkernel[element] += x[:, *pixel].T @ cotangent[:, *output]
    return dx, dkernel


def with_gradients(function):
    def value_and_gradients(x, kernel, cotangent):
        y, pullback = jax.vjp(function, x, kernel)
        return y, *pullback(cotangent)

    return jax.jit(value_and_gradients)


@lru_cache
def compiled_once(case):
    return with_gradients(partial(ops.conv_transpose, **case.settings))


@cases(TRANSPOSE)
def test_transpose_is_its_definition(case, x64):
    x, kernel, cotangent = conv_arrays(case)
    y, dx, dkernel = compiled_once(case)(x, kernel, cotangent)
    assert y.dtype == dx.dtype == dkernel.dtype == jnp.float64
    want_dx, want_dkernel = transposed_gradients(case, x, kernel, cotangent)
    assert_close(y, transposed(case, x, kernel))
    assert_close(dx, want_dx)
    assert_close(dkernel, want_dkernel)


@cases(TRANSPOSE)
def test_transpose_is_pytorchs(case, x64):
    with np.load(TORCH_VALUES) as file:
        keys = ("x", "kernel", "cotangent", "y", "dx", "dkernel")
        *inputs, y, dx, dkernel = (file[f"transpose/{case.name}/{key}"] for key in keys)
    for got, want in zip(compiled_once(case)(*inputs), (y, dx, dkernel), strict=True):
        assert_close(got, want)


@cases([case for case in TRANSPOSE if case.padding == "SAME"])
def test_transpose_is_the_gradient_of_conv(case, x64):
    """Of `lax`'s convolution of an image of the output's size, for that image."""
    x, kernel, _ = conv_arrays(case)
    axes = len(case.pads)

    @jax.jit
    def pull_back(x, kernel):
        letters = "DHW"[-axes:]
        conv = partial(
            jax.lax.conv_general_dilated,
            rhs=jnp.swapaxes(kernel, -1, -2),
            window_strides=each(case.stride, axes),
            padding="SAME",
            rhs_dilation=each(case.dilation, axes),
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        )
        return jax.vjp(conv, jnp.zeros(case.output))[1](x)

    got = compiled_once(case)(*conv_arrays(case))[0]
    assert_close(got, *pull_back(x, kernel))


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(3, 2, "SAME"), (4, 2, "SAME"), (2, 3, "SAME"), (3, 2, "VALID"), (4, 3, "VALID")],
)
def test_transpose_is_that_of_lax_with_the_kernel_reversed(size, stride, padding, x64):
    rng = generator(f"{size}{stride}{padding}")
    x, kernel = rng.normal(size=(2, 5, 3)), rng.normal(size=(size, 3, 2))
    want = jax.lax.conv_transpose(
        x, kernel[::-1], (stride,), padding, dimension_numbers=("NHC", "HIO", "NHC")
    )
    got = ops.conv_transpose(jnp.asarray(x), jnp.asarray(kernel), stride=stride, padding=padding)
    assert_close(got, want)


@cases([BY_NAME[name] for name in KINDS])
def test_transpose_under_vmap(case, x64):
    rng = generator(case.name)
    x, cotangent = rng.normal(size=(2, *case.x)), rng.normal(size=(2, *case.output))
    kernel = rng.normal(size=(2, *case.kernel))
    y, dx, dkernel = jax.vmap(compiled_once(case))(x, kernel, cotangent)
    for k in range(2):
        want_dx, want_dkernel = transposed_gradients(case, x[k], kernel[k], cotangent[k])
        assert_close(y[k], transposed(case, x[k], kernel[k]))
        assert_close(dx[k], want_dx)
        assert_close(dkernel[k], want_dkernel)


@cases([BY_NAME[name] for name in KINDS[:2]])
def test_transpose_under_scan(case, x64):
    rng = generator(case.name)
    x, cotangent = rng.normal(size=(3, *case.x)), rng.normal(size=(3, *case.output))
    kernel = conv_arrays(case)[1]

    def step(total, inputs):
        y, dx, dkernel = compiled_once(case)(inputs[0], kernel, inputs[1])
        return total + dkernel, (y, dx)

    total, (y, dx) = jax.lax.scan(step, jnp.zeros(case.kernel), (x, cotangent))
    want = [transposed_gradients(case, x[k], kernel, cotangent[k]) for k in range(3)]
    assert_close(y, np.stack([transposed(case, x[k], kernel) for k in range(3)]))
    assert_close(dx, np.stack([dx for dx, _ in want]))
    assert_close(total, sum(dkernel for _, dkernel in want))


def test_transpose_of_a_large_batch_in_float32():
    """Above the size at which the batch is cut into blocks."""
    case = BY_NAME["same_3x3_stride_2"]._replace(x=(90, 14, 14, 8), kernel=(3, 3, 8, 6))
    x, kernel, cotangent = (np.float32(array) for array in conv_arrays(case))
    y, dx, dkernel = compiled_once(case)(x, kernel, cotangent)
    x, kernel, cotangent = (np.float64(array) for array in (x, kernel, cotangent))
    want_dx, want_dkernel = transposed_gradients(case, x, kernel, cotangent)
    assert_close(y, transposed(case, x, kernel), 1e-5)
    assert_close(dx, want_dx, 1e-5)
    assert_close(dkernel, want_dkernel, 1e-5)


# --- Without shared kernels.

LOCAL = [
    *(
        case
        for case in CONV
        if case.name in ("same_4x3_stride_2", "valid_2x2_stride_3_gaps", "sequence_same")
    ),
    Conv(
        "volume_asymmetric",
        (2, 3, 2, 4, 2),
        (2, 2, 3, 2, 3),
        ((1, 0), (0, 1), (2, 0)),
        ((1, 0), (0, 1), (2, 0)),
    ),
]


def local_terms(case):
    axes = len(case.pads)
    size, stride = case.kernel[:-2], each(case.stride, axes)
    pads = resolve_pads(case, size, stride)
    for place in np.ndindex(*case.output[1:-1]):
        for element in np.ndindex(*size):
            pixel = tuple(place[a] * stride[a] + element[a] - pads[a][0] for a in range(axes))
            if all(0 <= p < n for p, n in zip(pixel, case.x[1:-1], strict=True)):
                yield place, element, pixel


@cases(LOCAL)
@pytest.mark.parametrize("mapped", [False, True])
def test_locally_connected_is_its_definition(case, mapped, x64):
    shape = (*case.output[1:-1], *case.kernel)
    rng = generator(case.name + "local")
    x, kernel, cotangent = rng.normal(size=case.x), rng.normal(size=shape), rng.normal(size=case.output)
    y, dx, dkernel = np.zeros(case.output), np.zeros(case.x), np.zeros(shape)
    for place, element, pixel in local_terms(case):
        y[:, *place] += x[:, *pixel] @ kernel[*place, *element]
        dx[:, *pixel] += cotangent[:, *place] @ kernel[*place, *element].T
        dkernel[*place, *element] += x[:, *pixel].T @ cotangent[:, *place]

    function = with_gradients(partial(ops.locally_connected, stride=case.stride, padding=case.padding))
    if mapped:
        both = [np.stack([array, -2 * array]) for array in (x, kernel, cotangent)]
        got = [array[1] / 4 for array in jax.vmap(function)(*both)]
    else:
        got = function(x, kernel, cotangent)
    for value, want in zip(got, (y, dx, dkernel), strict=True):
        assert_close(value, want)


BAD = {
    "kernel of other channels": (
        lambda: ops.conv_transpose(jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 2, 5))),
        r"a kernel of shape \(2, 2, 2, 5\) does not fit an input of 3 channels",
    ),
    "kernel of another number of axes": (
        lambda: ops.conv_transpose(jnp.ones((1, 4, 3)), jnp.ones((2, 2, 3, 5))),
        r"a kernel of shape \(2, 2, 3, 5\) does not fit an input of shape \(1, 4, 3\): it has one window",
    ),
    "convolution with a kernel of another number of axes": (
        lambda: ops.conv(jnp.ones((1, 4, 4, 3)), jnp.ones((2, 3, 5))),
        r"a kernel of shape \(2, 3, 5\) does not fit an input of shape \(1, 4, 4, 3\)",
    ),
    "padding that leaves nothing": (
        lambda: ops.conv_transpose(jnp.ones((1, 2, 3)), jnp.ones((2, 3, 5)), padding=2),
        r"the padding 2 cuts off all of an output of size \(3,\)",
    ),
    "padding that is no padding": (
        lambda: ops.conv_transpose(jnp.ones((1, 2, 3)), jnp.ones((2, 3, 5)), padding="same"),
        r'padding must be "SAME", "VALID", an integer, or a pair .* each of 1 spatial axes, not \'same\'',
    ),
    "padding of one pair for two axes": (
        lambda: ops.max_pool(jnp.ones((1, 4, 4, 3)), window=2, padding=((1, 1),)),
        r"padding must be .* for each of 2 spatial axes, not \(\(1, 1\),\)",
    ),
    "stride for another number of axes": (
        lambda: ops.conv(jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 3, 5)), stride=(1, 1, 1)),
        r"stride must be one integer or a tuple of 2, the number of spatial axes, not \(1, 1, 1\)",
    ),
    "local kernels of another size": (
        lambda: ops.locally_connected(jnp.ones((1, 5, 3)), jnp.ones((5, 2, 3, 1))),
        r"expected a kernel of shape \(4, 2, 3\) and features, .* got shape \(5, 2, 3, 1\)",
    ),
    "convolution of other channels": (
        lambda: ops.conv(jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 4, 5))),
        r"^expected 4 channels, got an input of shape \(1, 4, 4, 3\)$",
    ),
    "convolution of no channels": (
        lambda: ops.conv(jnp.ones((1, 4, 0)), jnp.ones((2, 0, 5))),
        r"needs channels and features, got an input of shape \(1, 4, 0\) and a kernel of shape \(2, 0, 5\)",
    ),
    "convolution of no features": (
        lambda: ops.conv(jnp.ones((1, 4, 3)), jnp.ones((2, 3, 0))),
        r"needs channels and features, got an input of shape \(1, 4, 3\) and a kernel of shape \(2, 3, 0\)",
    ),
    "padding of an array for two axes": (
        lambda: ops.max_pool(jnp.ones((1, 4, 4, 3)), window=2, padding=np.array([1, 1])),
        r"padding must be .* for each of 2 spatial axes, not array\(\[1, 1\]\)",
    ),
    "vectors": (
        lambda: ops.adaptive_max_pool(jnp.ones((4, 3)), size=2),
        r"expected images .* got shape \(4, 3\); sequences",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(name):
    call, problem = BAD[name]
    with pytest.raises(ValueError, match=problem):
        call()


@pytest.mark.parametrize("convolution", [ops.conv, ops.conv_transpose, ops.locally_connected])
def test_a_convolution_of_integers_is_refused(convolution):
    """One would be rounded on CPU and overflow elsewhere."""
    images, kernel = jnp.ones((1, 4, 4, 3), jnp.uint8), jnp.ones((2, 2, 3, 5), jnp.int8)
    if convolution is ops.locally_connected:
        kernel = jnp.broadcast_to(kernel, (3, 3, 2, 2, 3, 5))
    with pytest.raises(
        TypeError, match="takes floating-point images or kernels, not uint8 and int8; convert"
    ):
        convolution(images, kernel)
    assert convolution(images, kernel.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "function",
    [
        lambda x, padding: ops.conv(x, jnp.ones((2, 2, 3, 5)), padding=padding),
        lambda x, padding: ops.conv_transpose(x, jnp.ones((2, 2, 3, 5)), padding=padding),
        lambda x, padding: ops.max_pool(x, window=2, padding=padding),
    ],
    ids=["conv", "conv_transpose", "max_pool"],
)
def test_padding_may_be_an_array_of_numpy(function):
    x, pads = jnp.arange(48.0).reshape(1, 4, 4, 3), ((1, 0), (0, 1))
    np.testing.assert_array_equal(function(x, np.array(pads)), function(x, pads))
