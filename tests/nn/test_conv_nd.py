"""Convolution layers over one, two and three spatial axes, and their relatives."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, ops

KEY = jax.random.key(7)


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def shapes_of(net, x):
    params, _ = jax.eval_shape(net.init, KEY, x)
    return jax.tree.map(lambda leaf: leaf.shape, params)


LAYERS = {
    # layer, input, parameters, output
    "conv of sequences": (nn.conv(5, 3, stride=2), (2, 7, 3), {"kernel": (3, 3, 5), "bias": (5,)}, (2, 4, 5)),
    "conv of images": (nn.conv(5, 3, stride=2), (2, 7, 4, 3), {"kernel": (3, 3, 3, 5), "bias": (5,)}, (2, 4, 2, 5)),
    "conv of volumes": (
        nn.conv(4, (1, 2, 3), padding="VALID", groups=2, bias=False),
        (2, 3, 4, 5, 2),
        {"kernel": (1, 2, 3, 1, 4)},
        (2, 3, 3, 3, 4),
    ),
    "padding of an integer": (
        nn.conv(2, 3, padding=2, dilation=2, bias=False), (1, 6, 5, 2), {"kernel": (3, 3, 2, 2)}, (1, 6, 5, 2),
    ),
    "depthwise": (
        nn.depthwise_conv(3, multiplier=2, stride=2), (2, 7, 4, 3), {"kernel": (3, 3, 1, 6), "bias": (6,)}, (2, 4, 2, 6),
    ),
    "depthwise of sequences": (
        nn.depthwise_conv(2, padding="VALID", bias=False), (2, 7, 3), {"kernel": (2, 1, 3)}, (2, 6, 3),
    ),
    "transposed": (
        nn.conv_transpose(5, 3, stride=2), (2, 4, 3, 2), {"kernel": (3, 3, 2, 5), "bias": (5,)}, (2, 8, 6, 5),
    ),
    "transposed of volumes": (
        nn.conv_transpose(3, (2, 3, 1), stride=(3, 2, 1), padding="VALID", bias=False),
        (1, 2, 3, 4, 2),
        {"kernel": (2, 3, 1, 2, 3)},
        (1, 5, 7, 4, 3),
    ),
    "locally connected": (
        nn.locally_connected(5, (3, 2), stride=2),
        (2, 7, 4, 3),
        {"kernel": (3, 2, 3, 2, 3, 5), "bias": (3, 2, 5)},
        (2, 3, 2, 5),
    ),
    "locally connected sequences": (
        nn.locally_connected(2, 3, padding="SAME", bias=False), (2, 4, 3), {"kernel": (4, 3, 3, 2)}, (2, 4, 2),
    ),
    "adaptive": (nn.adaptive_avg_pool((3, 2)), (2, 7, 4, 3), {}, (2, 3, 2, 3)),
    "pool of volumes": (nn.max_pool(2), (2, 4, 5, 6, 3), {}, (2, 2, 2, 3, 3)),
    "global of sequences": (nn.serial(nn.global_max_pool), (2, 5, 3), {}, (2, 3)),
    "global of volumes": (nn.serial(nn.global_avg_pool), (2, 5, 4, 2, 3), {}, (2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("examples", ["some", "none"])
def test_shapes(name, examples):
    net, shape, parameters, output = LAYERS[name]
    if examples == "none":
        shape, output = (0, *shape[1:]), (0, *output[1:])
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    assert shapes_of(net, x) == parameters
    params, state = jax.eval_shape(net.init, KEY, x)
    assert jax.eval_shape(net.apply, params, state, x)[0].shape == output


@pytest.mark.parametrize(
    "settings",
    [{}, {"stride": (2, 1), "padding": "SAME"}, {"padding": ((1, 0), (2, 1)), "bias": False}],
    ids=str,
)
def test_locally_connected_with_tied_kernels_is_conv(settings):
    conv = nn.conv(4, (3, 2), **{"padding": "VALID", **settings})
    local = nn.locally_connected(4, (3, 2), **settings)
    x = random(2, 6, 5, 3)
    shared = {name: random(*shape, seed=len(shape)) for name, shape in shapes_of(conv, x).items()}
    places = shapes_of(local, x)["kernel"][:2]

    def tied(params):
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*places, *leaf.shape)), params)

    @partial(jax.jit, static_argnums=0)
    def value_and_gradients(net, params, x):
        y, pull_back = jax.vjp(lambda params, x: net(params, {}, x)[0], params, x)
        return y, pull_back(y)

    want = value_and_gradients(conv.apply, shared, x)
    got = value_and_gradients(lambda params, *rest: local.apply(tied(params), *rest), shared, x)
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_locally_connected_adds_each_places_own_bias():
    net = nn.locally_connected(2, 2)
    bias = random(2, 3, 2)
    params = {"kernel": jnp.zeros((2, 3, 2, 2, 1, 2)), "bias": bias}
    np.testing.assert_array_equal(net.apply(params, {}, random(4, 3, 4, 1))[0], jnp.stack([bias] * 4))


def test_locally_connected_draws_every_place_by_itself_with_its_own_fan_in():
    kernel = jax.jit(nn.locally_connected(30, 3).init)(KEY, jnp.ones((1, 7, 8, 20)))[0]["kernel"]
    np.testing.assert_allclose(kernel.var(), 2 / 180, rtol=0.02)
    assert len(np.unique(np.asarray(kernel[..., 0, 0, 0, 0]))) == 30


def test_depthwise_is_a_convolution_of_each_channel():
    x, net = random(2, 6, 5, 3), nn.depthwise_conv(3, multiplier=2, stride=2)
    params = {"kernel": random(3, 3, 1, 6, seed=1), "bias": random(6, seed=2)}
    parts = [
        nn.conv(2, 3, stride=2).apply(
            {"kernel": params["kernel"][..., 2 * c : 2 * c + 2], "bias": params["bias"][2 * c : 2 * c + 2]},
            {}, x[..., c : c + 1],
        )[0]
        for c in range(3)
    ]  # fmt: skip
    np.testing.assert_allclose(net.apply(params, {}, x)[0], jnp.concatenate(parts, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "dilation"),
    [(4, 2, 1), (2, 2, 1), (3, 1, 1), ((4, 6), (1, 3), 1), (3, 2, 2), (1, 3, 1)],
)
def test_a_transposed_convolution_keeps_the_variance_that_its_initializer_aims_at(size, stride, dilation):
    """Unit variance in, gain 2 by Kaiming: at each output pixel that an input reaches, away from the border."""
    net = nn.conv_transpose(60, size, stride=stride, dilation=dilation)
    x = random(20, 12, 12, 50)
    y = np.asarray(jax.jit(lambda x: net.apply(net.init(KEY, x)[0], {}, x)[0])(x))
    top, left = y.shape[1] // 4, y.shape[2] // 4
    second_moment = np.square(y[:, top:-top, left:-left]).mean((0, 3))
    reached = second_moment > 0
    assert reached.any()
    np.testing.assert_allclose(second_moment[reached], 2, rtol=0.25)
    np.testing.assert_allclose(second_moment[reached].mean(), 2, rtol=0.08)


def test_the_initializer_of_a_transposed_convolution_fills_every_element():
    def ones(key, shape, dtype):
        return jnp.ones(shape, dtype)

    kernel = nn.conv_transpose(2, (3, 5), stride=2, kernel_init=ones).init(KEY, jnp.ones((1, 4, 4, 3)))[0][
        "kernel"
    ]
    np.testing.assert_array_equal(kernel, np.ones((3, 5, 3, 2)))


# --- Equivariance.


@pytest.mark.parametrize(
    ("make", "stride"),
    [
        (lambda: nn.conv(4, 3), 1),
        (lambda: nn.conv(4, 3, stride=2), 2),
        (lambda: nn.serial(nn.conv(4, 3, stride=2), nn.relu, nn.max_pool(2)), 4),
    ],
)
def test_a_shift_of_the_input_shifts_the_output_if_the_stride_divides_it(make, stride):
    """Away from the borders; a locally connected layer follows no shift at all."""
    net = make()
    x = random(2, 40, 2)
    params = net.init(KEY, x)[0]
    apply = jax.jit(lambda x: net.apply(params, {}, x)[0])
    inner = slice(4, -4)
    for shift in range(1, 2 * stride + 1):
        moved = apply(jnp.roll(x, shift, 1))
        expected = jnp.roll(apply(x), round(shift / stride), 1)
        same = np.allclose(moved[:, inner], expected[:, inner], rtol=1e-5, atol=1e-6)
        assert same == (shift % stride == 0), shift


def test_what_is_locally_connected_does_not_follow_a_shift():
    x, net = random(2, 12, 2), nn.locally_connected(4, 3)
    params = {"kernel": random(10, 3, 2, 4, seed=1), "bias": random(10, 4, seed=2)}
    moved, still = (net.apply(params, {}, image)[0] for image in (jnp.roll(x, 1, 1), x))
    assert not np.allclose(moved[:, 3:-3], jnp.roll(still, 1, 1)[:, 3:-3], atol=0.1)


# --- Sizes.


@pytest.mark.parametrize("size", [5, 6, 11])
@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (4, 1), (2, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID", 0, 1, (0, 2), (3, 1)])
def test_output_size_counts_the_places_of_the_kernel(size, kernel_size, dilation, stride, padding):
    if padding == "SAME":
        want = math.ceil(size / stride)
    else:
        lo, hi = {"VALID": (0, 0), 0: (0, 0), 1: (1, 1)}.get(padding, padding)
        want = len(range(-lo, size + hi - (kernel_size - 1) * dilation, stride))
    settings = {"stride": stride, "dilation": dilation}
    assert nn.conv_output_size(size, kernel_size, padding=padding, **settings) == want
    pads = padding if isinstance(padding, str | int) else (padding,)
    net, x = nn.conv(1, kernel_size, padding=pads, **settings), jnp.ones((1, size, 1))
    assert jax.eval_shape(lambda x: net.apply(net.init(KEY, x)[0], {}, x)[0], x).shape == (1, want, 1)


REFUSED = {
    "a kernel that does not fit": (
        lambda: nn.conv_output_size(4, 3, dilation=3, padding=(1, 0)),
        "a kernel that covers 7 pixels does not fit its padded input of 5",
    ),
    "no pixels": (lambda: nn.conv_output_size(0, 3), "size must be at least 1, not 0"),
    "no stride": (lambda: nn.conv_output_size(4, 3, stride=0), "stride must be at least 1, not 0"),
    "negative padding": (lambda: nn.conv_output_size(4, 3, padding=-1), "padding must be at least 0, not -1"),
    "no multiplier": (lambda: nn.depthwise_conv(3, multiplier=0), "multiplier must be at least 1, not 0"),
    "no features": (lambda: nn.conv_transpose(0, 3), "features must be at least 1, not 0"),
    "no kernel": (lambda: nn.locally_connected(2, (3, 0)), "kernel_size must be at least 1, not 0"),
    "no cells": (lambda: nn.adaptive_max_pool(0), "size must be at least 1, not 0"),
    "a kernel for images before sequences": (
        lambda: nn.conv(4, (3, 3)).init(KEY, jnp.ones((1, 5, 2))),
        r"kernel_size must be one integer or a tuple of 1, the number of spatial axes, not \(3, 3\)",
    ),
    "parameters of images before sequences": (
        lambda: nn.conv(4, 3).apply(
            nn.conv(4, 3).init(KEY, jnp.ones((1, 5, 5, 2)))[0], {}, jnp.ones((1, 5, 2))
        ),
        r"a kernel of shape \(3, 3, 2, 4\) does not fit an input of shape \(1, 5, 2\)",
    ),
    "one image without its batch axis": (
        lambda: nn.conv(4, 3).apply(
            nn.conv(4, 3).init(KEY, jnp.ones((1, 5, 5, 2)))[0], {}, jnp.ones((5, 5, 2))
        ),
        r"does not fit an input of shape \(5, 5, 2\): .*; x\[None\] makes a batch of a single example$",
    ),
    "a window for volumes before images": (
        lambda: nn.avg_pool((2, 2, 2)).apply({}, {}, jnp.ones((1, 4, 4, 2))),
        r"window must be one integer or a tuple of 2, .* not \(2, 2, 2\)",
    ),
    "a locally connected layer before an image of another size": (
        lambda: nn.locally_connected(2, 2).apply(
            nn.locally_connected(2, 2).init(KEY, jnp.ones((1, 4, 2)))[0], {}, jnp.ones((1, 5, 2))
        ),
        r"expected a kernel of shape \(4, 2, 2\) and features, .* got shape \(3, 2, 2, 2\)",
    ),
    "a bool as a size": (
        lambda: nn.conv(2, True).init(KEY, jnp.ones((1, 5, 2))),
        "kernel_size must be one integer or a tuple of 1, the number of spatial axes, not True",
    ),
    "half a pixel": (
        lambda: nn.max_pool((2, 1.5)).apply({}, {}, jnp.ones((1, 4, 4, 2))),
        r"window must be one integer or a tuple of 2, .* not \(2, 1.5\)",
    ),
    "padding of half a pixel": (
        lambda: nn.conv_output_size(4, 3, padding=0.5),
        "padding must be .*, an integer, or a pair .* not 0.5",
    ),
    **{
        f"depthwise kernels of four channels before {channels}": (
            lambda channels=channels: nn.depthwise_conv(3).apply(
                {"kernel": jnp.ones((3, 1, 4)), "bias": jnp.ones(4)}, {}, jnp.ones((1, 5, channels))
            ),
            rf"expected 4 channels, got an input of shape \(1, 5, {channels}\)",
        )
        for channels in (1, 2, 8)
    },
    **{
        f"{name} of no pixels": (
            lambda pool=pool: pool(jnp.ones((2, 0, 5, 3))),
            r"there are no pixels to pool in images of shape \(2, 0, 5, 3\)",
        )
        for name, pool in {
            "the mean": nn.global_avg_pool,
            "the largest": nn.global_max_pool,
            "means": partial(ops.adaptive_avg_pool, size=2),
            "the largest in cells": partial(ops.adaptive_max_pool, size=2),
        }.items()
    },
    "vectors": (lambda: nn.conv_transpose(2, 3).init(KEY, jnp.ones((4, 3))), r"expected images .* \(4, 3\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    call, problem = REFUSED[name]
    with pytest.raises(ValueError, match=problem):
        call()


@pytest.mark.parametrize("integer", [np.int64, np.uint8])
def test_integers_of_numpy_are_integers(integer):
    two, pairs = integer(2), tuple(map(tuple, np.array([[1, 0], [0, 1]], integer)))
    net, same = (
        nn.serial(
            nn.conv(n, (n, n), stride=n, padding=n),
            nn.conv_transpose(n, n, stride=(n, n), padding=pads),
            nn.max_pool(n),
            nn.adaptive_avg_pool(n),
        )
        for n, pads in ((two, pairs), (2, ((1, 0), (0, 1))))
    )
    x = random(2, 5, 5, 3)
    params, _ = net.init(KEY, x)
    np.testing.assert_array_equal(net.apply(params, {}, x)[0], same.apply(same.init(KEY, x)[0], {}, x)[0])
    assert nn.conv_output_size(5, two, stride=two, padding=two) == nn.conv_output_size(
        5, 2, stride=2, padding=2
    )


def test_global_max_pool():
    x = random(2, 3, 4, 5)
    y, pull_back = jax.vjp(nn.global_max_pool, x)
    np.testing.assert_array_equal(y, np.asarray(x).reshape(2, 12, 5).max(1))
    np.testing.assert_array_equal(
        pull_back(jnp.ones_like(y))[0], np.asarray(x) == np.asarray(y)[:, None, None]
    )


@pytest.mark.parametrize(
    "pool",
    [
        partial(nn.adaptive_avg_pool, 4),
        partial(nn.adaptive_max_pool, 4),
        lambda: nn.serial(nn.global_max_pool),
    ],
)
def test_pools_keep_half_precision(pool):
    net, x = pool(), random(2, 7, 3).astype(jnp.bfloat16)
    y = net.apply({}, {}, x)[0]
    assert y.dtype == jnp.bfloat16
    exact = net.apply({}, {}, x.astype(jnp.float32))[0]
    np.testing.assert_allclose(np.asarray(y, np.float32), exact, rtol=0.02, atol=0.01)
