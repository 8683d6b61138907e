"""Sliding and adaptive pools against loops over windows of real pixels, and against PyTorch."""

import math
from functools import lru_cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_cases import (
    ADAPTIVE,
    POOL,
    TORCH_VALUES,
    Adaptive,
    assert_close,
    each,
    generator,
    pool_arrays,
    resolve_pads,
)

import fnn
from fnn import ops

BY_NAME = {case.name: case for case in POOL + ADAPTIVE}
KINDS = ["window_2_odd", "window_3_padded_1", "window_2_3_stride_1_2", "window_2_stride_3_gaps"]
KINDS += ["volume_padded", "overlaps"]

cases = pytest.mark.parametrize("case", POOL + ADAPTIVE, ids=lambda case: case.name)
kinds = pytest.mark.parametrize("case", [BY_NAME[name] for name in KINDS], ids=lambda case: case.name)
both = pytest.mark.parametrize("kind", ["max", "avg"])


# --- The oracle: for each output pixel, how much of each input pixel is in it. Both pools are that linear map
# at a point, so value, gradient and tangent all follow from the shares.


def windows(case):
    """Each output pixel, with the real input pixels (rows, columns, …) that its window covers."""
    sizes, outputs = case.x[1:-1], case.output[1:-1]
    axes = len(sizes)
    if not isinstance(case, Adaptive):
        window = each(case.window, axes)
        stride = window if case.stride is None else each(case.stride, axes)
        pads = resolve_pads(case, window, stride)
        assert pads == case.pads

    def covered(axis, output):
        if isinstance(case, Adaptive):
            cell = sizes[axis] / outputs[axis]
            return range(math.floor(output * cell), math.ceil((output + 1) * cell))
        start = output * stride[axis] - pads[axis][0]
        return range(max(start, 0), min(start + window[axis], sizes[axis]))

    for output in np.ndindex(*outputs):
        pixels = product(*(covered(axis, o) for axis, o in enumerate(output)))
        yield output, tuple(np.transpose(list(pixels)))


def shares(case, x, kind):
    """Each output pixel, its input pixels, and the share (N, pixels, C) of each of them."""
    for output, pixels in windows(case):
        values = x[:, *pixels]
        if kind == "max":  # all of it to the first of the largest
            weight = np.arange(values.shape[1])[:, None] == values.argmax(1)[:, None]
        else:
            weight = np.ones_like(values)
        yield output, pixels, weight / weight.sum(1, keepdims=True)


def pool(case, x, kind, tangent=None):
    y = np.zeros((len(x), *case.output[1:]))
    for output, pixels, share in shares(case, x, kind):
        y[:, *output] = (share * (x if tangent is None else tangent)[:, *pixels]).sum(1)
    return y


def pool_dx(case, x, kind, cotangent):
    dx = np.zeros(x.shape)
    for output, pixels, share in shares(case, x, kind):
        for k, pixel in enumerate(zip(*pixels, strict=True)):
            dx[:, *pixel] += share[:, k] * cotangent[:, *output]
    return dx


# --- What is tested.


def pool_under_test(case, kind):
    if isinstance(case, Adaptive):
        pools = {"max": ops.adaptive_max_pool, "avg": ops.adaptive_avg_pool}
    else:
        pools = {"max": ops.max_pool, "avg": ops.avg_pool}
    return partial(pools[kind], **case.settings)


@lru_cache
def value_and_gradient(case, kind):
    def function(x, cotangent):
        y, pullback = jax.vjp(pool_under_test(case, kind), x)
        return y, *pullback(cotangent)

    return jax.jit(function)


@cases
@both
def test_pool_is_its_definition(case, kind, x64):
    x, cotangent = pool_arrays(case)
    y, dx = value_and_gradient(case, kind)(x, cotangent)
    assert y.dtype == dx.dtype == jnp.float64
    assert_close(y, pool(case, x, kind))
    assert_close(dx, pool_dx(case, x, kind, cotangent))


@cases
@both
def test_pool_is_pytorchs(case, kind, x64):
    with np.load(TORCH_VALUES) as file:
        x, cotangent, want_y, want_dx = (
            file[f"pool/{case.name}/{key}"] for key in ("x", "cotangent", kind, f"dx_{kind}")
        )
    y, dx = value_and_gradient(case, kind)(x, cotangent)
    assert_close(y, want_y)
    assert_close(dx, want_dx)


@both
@pytest.mark.parametrize("name", ["window_2_odd", "window_3_padded_1"])
def test_pool_without_jit(name, kind, x64):
    case = BY_NAME[name]
    x, _ = pool_arrays(case)
    assert_close(pool_under_test(case, kind)(jnp.asarray(x)), pool(case, x, kind))


@both
def test_stride_defaults_to_the_window_and_padding_to_valid(kind, x64):
    case = BY_NAME["window_2_3"]
    x, _ = pool_arrays(case)
    y = {"max": ops.max_pool, "avg": ops.avg_pool}[kind](jnp.asarray(x), window=(2, 3))
    assert_close(y, pool(case, x, kind))


@kinds
@both
def test_pool_under_vmap(case, kind, x64):
    rng = generator(case.name + kind)
    x, cotangent = rng.normal(size=(3, *case.x)), rng.normal(size=(3, *case.output))
    y, dx = jax.vmap(value_and_gradient(case, kind))(x, cotangent)
    for k in range(3):
        assert_close(y[k], pool(case, x[k], kind))
        assert_close(dx[k], pool_dx(case, x[k], kind, cotangent[k]))


@kinds
@both
def test_jvp_takes_each_pixels_share(case, kind, x64):
    x, _ = pool_arrays(case)
    x = np.round(x)  # with ties
    tangent = generator(case.name + "tangent").normal(size=case.x)
    y, dy = jax.jvp(jax.jit(pool_under_test(case, kind)), (x,), (tangent,))
    assert_close(y, pool(case, x, kind))
    assert_close(dy, pool(case, x, kind, tangent))


@kinds
@both
def test_second_derivative_of_the_half_square(case, kind, x64):
    """∂ sum(y²)/2 = Pᵀy with P piecewise constant in x, so the Hessian times v is Pᵀ P v."""
    x, _ = pool_arrays(case)
    v = generator(case.name + "direction").normal(size=case.x)

    def half_square(x):
        return jnp.sum(pool_under_test(case, kind)(x) ** 2) / 2

    hessian_v = jax.grad(lambda x: jnp.sum(jax.grad(half_square)(x) * v))
    want = pool_dx(case, x, kind, pool(case, x, kind, v))
    assert_close(jax.jit(hessian_v)(x), want)


# --- Ties and padding, in closed form.


@pytest.mark.parametrize(
    ("window", "values", "want"),
    [
        ((2, 2), [[0, 1], [1, 1]], [[0, 6], [0, 0]]),  # three of four tie
        ((2, 2), [[5, 5], [5, 5]], [[6, 0], [0, 0]]),
        ((2, 2), [[4, 5], [5, 0]], [[0, 6], [0, 0]]),  # row by row, not column by column
        ((1, 2), [[3, 3], [2, 4]], [[6, 0], [0, 6]]),  # ties within a window only
        ((2, 1), [[0, -1], [0, -2]], [[6, 6], [0, 0]]),
    ],
)
def test_the_first_of_equal_values_has_the_gradient(window, values, want):
    x = jnp.asarray(values, jnp.float32).reshape(1, 2, 2, 1)
    dx = jax.grad(lambda x: 6 * jnp.sum(ops.max_pool(x, window=window)))(x)
    assert dx.dtype == jnp.float32
    np.testing.assert_array_equal(dx[0, :, :, 0], want)


def test_ties_in_overlapping_windows_add_up():
    """Windows (a, a) and (a, b), b < a."""
    x = jnp.asarray([2.0, 2.0, 1.0]).reshape(1, 1, 3, 1)
    dx = jax.grad(lambda x: jnp.sum(ops.max_pool(x, window=(1, 2), stride=1)))(x)
    np.testing.assert_array_equal(dx.ravel(), [1.0, 1.0, 0.0])


def test_padding_takes_no_part_in_a_tie():
    """All zeros, as after a relu: the nine windows of 3×3 with padding 1 begin in the first 2×2 real pixels."""
    x = jnp.zeros((1, 3, 3, 1))
    y, pullback = jax.vjp(lambda x: ops.max_pool(x, window=3, stride=1, padding=((1, 1), (1, 1))), x)
    (dx,) = pullback(jnp.ones_like(y))
    np.testing.assert_array_equal(y, np.zeros((1, 3, 3, 1)))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[4, 2, 0], [2, 1, 0], [0, 0, 0]])


CELLS = {  # the pool, and the size of its windows, which lie side by side
    "max_pool": (partial(ops.max_pool, window=2), 2),
    "adaptive_max_pool": (partial(ops.adaptive_max_pool, size=14), 2),
    "global_max_pool": (fnn.global_max_pool, 28),
}


@pytest.mark.parametrize(("pool", "size"), CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("taps", [2, 9])
def test_no_gradient_is_lost_where_xla_computes_the_input_anew(pool, size, taps):
    """A sum of products, as of a depthwise convolution, may be rounded otherwise in the gradient's program.

    The slope of the sum of all maxima in a shift of the input, against that of the values that win in NumPy.
    Where winners are found by comparing values with their maximum, as in `jnp.max`, up to a fifth
    of the gradient was lost.
    """
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(4, 28, 28, 16)), rng.normal(size=(taps, 1, 1, 1, 16))
    places = [(i % 3, i // 3) for i in range(taps)]

    def loss(shift, x, weights):
        rectified = jnp.pad(jax.nn.relu(x + shift), ((0, 0), (0, 2), (0, 2), (0, 0)))
        taken = [rectified[:, i : i + 28, j : j + 28] for i, j in places]
        return pool(jax.nn.relu(sum(v * w for v, w in zip(taken, weights, strict=True)) + 9)).sum()

    slope = jax.jit(jax.grad(loss))(jnp.zeros((1, 1, 1, 16)), jnp.float32(x), jnp.float32(weights))

    padded = np.pad(x, ((0, 0), (0, 2), (0, 2), (0, 0)))
    taken = [padded[:, i : i + 28, j : j + 28] for i, j in places]
    y = sum(np.maximum(view, 0) * w for view, w in zip(taken, weights, strict=True))
    slopes = sum((view > 0) * w for view, w in zip(taken, weights, strict=True))

    def in_cells(values):
        cells = values.reshape(4, 28 // size, size, 28 // size, size, 16).transpose(0, 1, 3, 5, 2, 4)
        return cells.reshape(*cells.shape[:4], -1)

    winners = in_cells(y).argmax(-1)[..., None]
    want = np.take_along_axis(in_cells(slopes), winners, -1).sum((0, 1, 2, 4))
    np.testing.assert_allclose(slope.ravel(), want, rtol=1e-4, atol=1e-3)


def test_max_pool_of_very_negative_values_ignores_padding():
    x = jnp.full((1, 3, 3, 2), -1e30)
    y, pullback = jax.vjp(lambda x: ops.max_pool(x, window=2, stride=2, padding=((1, 1), (1, 1))), x)
    (dx,) = pullback(jnp.ones_like(y))
    np.testing.assert_array_equal(y, np.full((1, 2, 2, 2), np.float32(-1e30)))
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(np.sum(dx), 8, rtol=1e-6)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1)), ((0, 1), (2, 0))])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_mean_of_a_constant_is_the_constant(padding, stride):
    """Padding must not count, and none of it may be NaN."""
    x = jnp.full((2, 7, 5, 3), 3.0)

    @jax.jit
    def value_and_gradient(x):
        y, pullback = jax.vjp(partial(ops.avg_pool, window=3, stride=stride, padding=padding), x)
        return y, *pullback(jnp.ones_like(y))

    y, dx = value_and_gradient(x)
    np.testing.assert_allclose(y, np.full(y.shape, 3.0), rtol=1e-6)
    np.testing.assert_allclose(np.sum(dx), y.size, rtol=1e-5)  # each window hands out exactly its cotangent


@both
@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "want"),
    [
        ((28, 28), 3, None, "VALID", (9, 9)),
        ((28, 28), 3, None, "SAME", (10, 10)),
        ((7, 10), 2, None, "VALID", (3, 5)),
        ((7, 10), 2, None, "SAME", (4, 5)),
        ((13, 13), 3, 2, "VALID", (6, 6)),
        ((112, 11), 3, 2, ((1, 1), (1, 1)), (56, 6)),
        ((5, 5), 2, 3, "VALID", (2, 2)),
    ],
)
def test_sizes_that_do_not_divide(kind, size, window, stride, padding, want):
    pool = {"max": ops.max_pool, "avg": ops.avg_pool}[kind]
    function = partial(pool, window=window, stride=stride, padding=padding)
    assert jax.eval_shape(function, jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)).shape == (2, *want, 3)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize(
    ("pool", "window"),
    [
        (partial(ops.avg_pool, window=17, stride=1), 17),
        (partial(ops.avg_pool, window=32), 32),
        (partial(ops.adaptive_avg_pool, size=1), 32),
    ],
    ids=["sliding", "tiled", "adaptive"],
)
def test_means_of_half_precision_are_rounded_once(pool, window, dtype):
    """3,000 added up leaves the range of float16; ones are counted to 256 in bfloat16."""
    x = jnp.asarray(3000 + 100 * np.random.default_rng(0).random((1, 32, 32, 1)), dtype)
    got = jax.jit(pool)(x)
    assert got.dtype == dtype
    views = np.lib.stride_tricks.sliding_window_view(np.asarray(x, float), (window, window), (1, 2))
    np.testing.assert_allclose(np.asarray(got, float), views.mean((4, 5)), rtol=float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("pool", [ops.max_pool, ops.avg_pool])
@pytest.mark.parametrize("padding", [2, ((0, 0), (0, 3)), ((2, 0), (0, 0))])
def test_a_window_that_sees_only_padding_is_refused(pool, padding):
    with pytest.raises(ValueError, match="so wide that some windows of 2 see nothing else"):
        pool(jnp.ones((1, 4, 4, 1)), window=2, padding=padding)


@pytest.mark.parametrize("pool", [partial(ops.max_pool, window=2), partial(ops.adaptive_max_pool, size=2)])
@pytest.mark.parametrize("dtype", [bool, jnp.complex64])
def test_the_largest_of_what_are_no_real_numbers_is_refused(pool, dtype):
    with pytest.raises(TypeError, match=f"the largest of numbers is wanted, not of {jnp.dtype(dtype)}; take"):
        pool(jnp.ones((1, 4, 4, 1), dtype))


@pytest.mark.parametrize("stride", [1, 2])
def test_integers_are_averaged_in_the_width_that_comes_back(stride, x64):
    x = jnp.full((1, 4, 4, 1), 2**24 + 1, jnp.int64)  # not a float32
    assert (ops.avg_pool(x, window=2, stride=stride) == 2**24 + 1).all()
    assert (ops.adaptive_avg_pool(x, size=3) == 2**24 + 1).all()
