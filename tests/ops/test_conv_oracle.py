"""`fnn.ops.conv` against a convolution written from its definition, PyTorch, and under transformations."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_cases import (
    CONV,
    LARGE_CONV,
    TORCH_VALUES,
    assert_close,
    conv_arrays,
    each,
    generator,
    resolve_pads,
)

from fnn import ops

BY_NAME = {case.name: case for case in CONV}
# One case for each kind of lowering: transformations meet each of them.
KINDS = [
    "same_3x3",
    "same_4x3_stride_2",
    "valid_3x3_stride_2_remainder",
    "same_1x1",
    "same_1x1_stride_2",
    "asymmetric_4x3_stride_2_1",
    "dilated_same_stride_2",
    "groups_2_valid_4x3_stride_2",
    "depthwise_multiplier_2_stride_2",
    "one_channel",
    "sequence_causal_dilated",
    "volume_stride_2_dilated",
]


def cases(table):
    return pytest.mark.parametrize("case", table, ids=lambda case: case.name)


def kinds():
    return cases([BY_NAME[name] for name in KINDS])


# --- The oracle: plain loops over output pixels, kernel elements and groups.


def terms(case):
    """Each product: output pixel, input pixel, kernel element, input channels, output channels."""
    (*size, c_group, c_out), axes = case.kernel, len(case.kernel) - 2
    stride, dilation = each(case.stride, axes), each(case.dilation, axes)
    pads = resolve_pads(case, tuple(size), stride, dilation)
    assert case.x[-1] == case.groups * c_group
    for output in np.ndindex(*case.output[1:-1]):
        for element in np.ndindex(*size):
            pixel = tuple(output[a] * stride[a] + element[a] * dilation[a] - pads[a][0] for a in range(axes))
            if all(0 <= p < n for p, n in zip(pixel, case.x[1:-1], strict=True)):
                for g in range(case.groups):
                    inputs = slice(g * c_group, (g + 1) * c_group)
                    outputs = slice(g * c_out // case.groups, (g + 1) * c_out // case.groups)
                    yield output, pixel, element, inputs, outputs


def conv(case, x, kernel):
    y = np.zeros((len(x), *case.output[1:]))
    for output, pixel, element, inputs, outputs in terms(case):
        y[:, *output, outputs] += x[:, *pixel, inputs] @ kernel[*element, :, outputs]
    return y


def conv_dx(case, cotangent, kernel):
    dx = np.zeros((len(cotangent), *case.x[1:]))
    for output, pixel, element, inputs, outputs in terms(case):
        dx[:, *pixel, inputs] += cotangent[:, *output, outputs] @ kernel[*element, :, outputs].T
    return dx


def conv_dkernel(case, cotangent, x):
    dkernel = np.zeros(case.kernel)
    for output, pixel, element, inputs, outputs in terms(case):
        dkernel[*element, :, outputs] += x[:, *pixel, inputs].T @ cotangent[:, *output, outputs]
    return dkernel


# --- What is tested.


def conv_under_test(case):
    return partial(ops.conv, **case.settings)


def value_and_gradients(case):
    def function(x, kernel, cotangent):
        y, pullback = jax.vjp(conv_under_test(case), x, kernel)
        return y, *pullback(cotangent)

    return jax.jit(function)


compiled_once = lru_cache(value_and_gradients)


@cases(CONV)
def test_padding_worked_out_by_hand(case):
    assert resolve_pads(case, case.kernel[:-2], case.stride, case.dilation) == case.pads


@cases(CONV)
def test_conv_is_its_definition(case, x64):
    x, kernel, cotangent = conv_arrays(case)
    y, dx, dkernel = compiled_once(case)(x, kernel, cotangent)
    assert y.dtype == dx.dtype == dkernel.dtype == jnp.float64
    assert_close(y, conv(case, x, kernel))
    assert_close(dx, conv_dx(case, cotangent, kernel))
    assert_close(dkernel, conv_dkernel(case, cotangent, x))


@kinds()
def test_the_form_for_other_platforms_is_the_definition_too(case, x64, monkeypatch, retraced):
    """Where an operation is chosen per platform, the one for GPU and TPU, run here on the CPU."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, default, **platforms: default(*args))
    x, kernel, cotangent = conv_arrays(case)
    y, dx, dkernel = value_and_gradients(case)(x, kernel, cotangent)
    assert_close(y, conv(case, x, kernel))
    assert_close(dx, conv_dx(case, cotangent, kernel))
    assert_close(dkernel, conv_dkernel(case, cotangent, x))


@cases(CONV)
def test_conv_is_pytorchs(case, x64):
    with np.load(TORCH_VALUES) as file:
        stored = {
            key: file[f"conv/{case.name}/{key}"] for key in ("x", "kernel", "cotangent", "y", "dx", "dkernel")
        }
    got = compiled_once(case)(stored["x"], stored["kernel"], stored["cotangent"])
    for value, key in zip(got, ("y", "dx", "dkernel"), strict=True):
        assert_close(value, stored[key])


@cases([BY_NAME[name] for name in ("same_4x3_stride_2", "groups_2")])
def test_conv_without_jit(case, x64):
    x, kernel, _ = conv_arrays(case)
    assert_close(ops.conv(jnp.asarray(x), jnp.asarray(kernel), **case.settings), conv(case, x, kernel))


def test_defaults_are_stride_1_same(x64):
    case = BY_NAME["same_3x3"]
    x, kernel, _ = conv_arrays(case)
    assert_close(ops.conv(jnp.asarray(x), jnp.asarray(kernel)), conv(case, x, kernel))


@cases(LARGE_CONV)
def test_conv_of_large_arrays_in_float32(case):
    x, kernel, cotangent = (np.float32(array) for array in conv_arrays(case))
    y, dx, dkernel = value_and_gradients(case)(x, kernel, cotangent)
    assert y.dtype == dx.dtype == dkernel.dtype == jnp.float32
    x, kernel, cotangent = (np.float64(array) for array in (x, kernel, cotangent))
    # Sums of up to 25 000 terms, each rounded at 6e-8 of the largest partial sum.
    assert_close(y, conv(case, x, kernel), 1e-5)
    assert_close(dx, conv_dx(case, cotangent, kernel), 1e-5)
    assert_close(dkernel, conv_dkernel(case, cotangent, x), 1e-5)


# --- Transformations: each is a loop over the oracle.


@pytest.mark.parametrize(
    ("name", "mapped"),
    [(name, "both") for name in KINDS]
    + [(name, mapped) for name in KINDS[1:8:6] for mapped in ("x", "kernel")],
)
def test_conv_under_vmap(name, mapped, x64):
    case = BY_NAME[name]
    size = 3
    rng = generator(case.name + mapped)
    x, kernel, _ = conv_arrays(case)
    x = rng.normal(size=(size, *case.x)) if mapped != "kernel" else x
    # The mapped axis of the kernel is its last: vmap must not take the position for granted.
    kernel = rng.normal(size=(*case.kernel, size)) if mapped != "x" else kernel
    cotangent = rng.normal(size=(size, *case.output))
    axes = (0 if mapped != "kernel" else None, -1 if mapped != "x" else None, 0)
    y, dx, dkernel = jax.vmap(value_and_gradients(case), axes)(x, kernel, cotangent)

    for k in range(size):
        one_x = x[k] if mapped != "kernel" else x
        one_kernel = kernel[..., k] if mapped != "x" else kernel
        assert_close(y[k], conv(case, one_x, one_kernel))
        assert_close(dx[k], conv_dx(case, cotangent[k], one_kernel))
        assert_close(dkernel[k], conv_dkernel(case, cotangent[k], one_x))


def test_large_conv_under_vmap():
    """A population of kernels on one batch, in float32, where each member alone would be cut into blocks."""
    case = next(case for case in LARGE_CONV if case.name == "large_batch_3x3")
    x, kernel, cotangent = (np.float32(array) for array in conv_arrays(case))
    kernels = np.stack([kernel, -2 * kernel[::-1]])
    y, dx, dkernel = jax.vmap(value_and_gradients(case), (None, 0, None))(x, kernels, cotangent)
    x, kernels, cotangent = (np.float64(array) for array in (x, kernels, cotangent))
    for k in range(2):
        assert_close(y[k], conv(case, x, kernels[k]), 1e-5)
        assert_close(dx[k], conv_dx(case, cotangent, kernels[k]), 1e-5)
        assert_close(dkernel[k], conv_dkernel(case, cotangent, x), 1e-5)


def test_gradient_of_a_vmapped_sum_adds_up_the_shared_kernels_gradient(x64):
    case = BY_NAME["same_4x3_stride_2"]
    rng = generator("shared")
    x, cotangent = rng.normal(size=(3, *case.x)), rng.normal(size=(3, *case.output))
    kernel = conv_arrays(case)[1]

    def loss(kernel):
        return jnp.sum(cotangent * jax.vmap(conv_under_test(case), (0, None))(x, kernel))

    want = sum(conv_dkernel(case, cotangent[k], x[k]) for k in range(3))
    assert_close(jax.jit(jax.grad(loss))(kernel), want)


@pytest.mark.devices
@cases(LARGE_CONV[2:4])
def test_conv_of_a_batch_spread_over_devices(case):
    """Each of four devices convolves its part, in blocks; the kernel's gradient adds them all up."""
    case = case._replace(x=(4 * (case.x[0] + 1), *case.x[1:]))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x, kernel, cotangent = (np.float32(array) for array in conv_arrays(case))
    with jax.set_mesh(mesh):
        spread = [jax.device_put(array, jax.P("data")) for array in (x, cotangent)]
        whole = jax.device_put(kernel, jax.P())
        y, dx, dkernel = value_and_gradients(case)(spread[0], whole, spread[1])
    assert len(y.sharding.device_set) == len(dx.sharding.device_set) == 4
    x, kernel, cotangent = (np.float64(array) for array in (x, kernel, cotangent))
    assert_close(y, conv(case, x, kernel), 1e-5)
    assert_close(dx, conv_dx(case, cotangent, kernel), 1e-5)
    assert_close(dkernel, conv_dkernel(case, cotangent, x), 1e-5)


def test_conv_under_scan(x64):
    """Three layers by scan: the value, and the chain rule through the carry and to each kernel."""
    case = BY_NAME["asymmetric_3x3"]._replace(kernel=(3, 3, 2, 2), padding="SAME", pads=((1, 1), (1, 1)))
    rng = generator("scan")
    x, kernels = rng.normal(size=case.x), rng.normal(size=(3, *case.kernel))
    cotangent = rng.normal(size=case.output)

    def layers(x, kernels):
        return jax.lax.scan(lambda h, kernel: (conv_under_test(case)(h, kernel), None), x, kernels)[0]

    y, pullback = jax.vjp(jax.jit(layers), x, kernels)
    dx, dkernels = pullback(jnp.asarray(cotangent))

    activations = [x]
    for kernel in kernels:
        activations.append(conv(case, activations[-1], kernel))
    assert_close(y, activations[-1])
    for k in reversed(range(3)):
        assert_close(dkernels[k], conv_dkernel(case, cotangent, activations[k]))
        cotangent = conv_dx(case, cotangent, kernels[k])
    assert_close(dx, cotangent)


TINY = [
    BY_NAME["same_3x3"]._replace(name="tiny", x=(1, 3, 2, 2), kernel=(2, 2, 2, 2), pads=((0, 1), (0, 1))),
    BY_NAME["same_3x3"]._replace(name="tiny_1x1", x=(2, 2, 2, 2), kernel=(1, 1, 2, 2), pads=((0, 0), (0, 0))),
    BY_NAME["same_3x3_stride_2_even"]._replace(
        name="tiny_stride_2", x=(1, 4, 3, 1), kernel=(3, 2, 1, 2), pads=((0, 1), (0, 1))
    ),
    BY_NAME["depthwise_dilated"]._replace(
        name="tiny_depthwise", x=(1, 3, 3, 2), kernel=(2, 2, 1, 4), groups=2
    ),
]


@cases(TINY)
def test_second_derivatives(case, x64):
    """Of sum(conv(x, kernel)²) / 2, from the Jacobians A of x and B of kernel, built column by column:
    AᵀA, BᵀB, and the mixed one AᵀB + Σ y ∂²y, whose last term is the bilinear map of two unit vectors.
    """
    x, kernel, _ = conv_arrays(case)

    def half_square(x, kernel):
        return jnp.sum(conv_under_test(case)(x, kernel) ** 2) / 2

    (xx, xk), (kx, kk) = jax.jit(jax.jacrev(jax.grad(half_square, (0, 1)), (0, 1)))(x, kernel)

    unit_x = np.eye(x.size).reshape(x.size, *x.shape)
    unit_k = np.eye(kernel.size).reshape(kernel.size, *kernel.shape)
    y = conv(case, x, kernel)
    a = np.stack([conv(case, unit, kernel).ravel() for unit in unit_x], 1)
    b = np.stack([conv(case, x, unit).ravel() for unit in unit_k], 1)
    curvature = np.stack([conv_dx(case, y, unit).ravel() for unit in unit_k], 1)
    assert_close(np.reshape(xx, (x.size, x.size)), a.T @ a)
    assert_close(np.reshape(kk, (kernel.size, kernel.size)), b.T @ b)
    assert_close(np.reshape(xk, (x.size, kernel.size)), a.T @ b + curvature)
    assert_close(np.reshape(kx, (kernel.size, x.size)), (a.T @ b + curvature).T)


@pytest.mark.cpu
@pytest.mark.parametrize("groups", [1, 32])
def test_sums_of_half_precision_are_rounded_once(groups):
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(2, 9, 9, 32)), random.normal(size=(7, 7, 32 // groups, 32))
    x, kernel = (jnp.asarray(values, jnp.bfloat16) for values in (x, kernel))
    got = jax.jit(partial(ops.conv, groups=groups))(x, kernel)
    assert got.dtype == jnp.bfloat16
    want = ops.conv(x.astype(jnp.float32), kernel.astype(jnp.float32), groups=groups)
    np.testing.assert_allclose(np.asarray(got, np.float32), want, rtol=2**-8, atol=1e-3)
