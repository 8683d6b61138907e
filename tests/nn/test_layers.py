"""Every layer, under every transformation; and what each computes, against NumPy."""

import math
import re
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import nn, ops

IMAGES = (4, 6, 6, 4)
VECTORS = (4, 6)


class Case(NamedTuple):
    """A layer, or a plain function, and the shape of an input; a new layer is one more row."""

    make: object
    shape: tuple[int, ...]
    trains: bool = False  # whether it computes something else in training


CASES = {
    "linear": Case(nn.linear(3), VECTORS),
    "linear without bias": Case(nn.linear(3, bias=False), VECTORS),
    "conv": Case(nn.conv(3, 3), IMAGES),
    "conv strided": Case(nn.conv(3, (3, 2), stride=2, padding="VALID", bias=False), IMAGES),
    "conv depthwise": Case(nn.conv(8, 3, groups=4), IMAGES),
    "conv dilated": Case(nn.conv(2, 2, dilation=2, padding=((1, 0), (0, 2))), IMAGES),
    "conv_transpose": Case(nn.conv_transpose(3, 3, stride=2), IMAGES),
    "depthwise_conv": Case(nn.depthwise_conv(3, multiplier=2), IMAGES),
    "locally_connected": Case(nn.locally_connected(3, 3, stride=2), IMAGES),
    "conv_maxout": Case(nn.conv_maxout(3, 3), IMAGES),
    "maxout": Case(nn.maxout(3, 3), VECTORS),
    "adaptive_avg_pool": Case(nn.adaptive_avg_pool(4), IMAGES),
    "adaptive_max_pool": Case(nn.adaptive_max_pool((3, 4)), IMAGES),
    "global_max_pool": Case(nn.global_max_pool, IMAGES),
    "max_pool": Case(nn.max_pool(2), IMAGES),
    "max_pool overlapping": Case(nn.max_pool(3, stride=2, padding="SAME"), IMAGES),
    "avg_pool": Case(nn.avg_pool(2), IMAGES),
    "avg_pool overlapping": Case(nn.avg_pool(3, stride=2, padding="SAME"), IMAGES),
    "global_avg_pool": Case(nn.global_avg_pool, IMAGES),
    "flatten": Case(nn.flatten, IMAGES),
    "batch_norm": Case(nn.batch_norm(momentum=0.7), VECTORS, trains=True),
    "batch_norm of images": Case(nn.batch_norm(eps=1e-3), IMAGES, trains=True),
    "dropout": Case(nn.dropout(0.4), VECTORS, trains=True),
    "layer_norm": Case(nn.layer_norm(), IMAGES),
    "group_norm": Case(nn.group_norm(2), IMAGES),
    "instance_norm": Case(nn.instance_norm(), IMAGES),
    "dropout as in the notes": Case(nn.dropout(0.4, inverted=False), VECTORS, trains=True),
    "spatial_dropout": Case(nn.spatial_dropout(0.4), IMAGES, trains=True),
    "alpha_dropout": Case(nn.alpha_dropout(0.4), VECTORS, trains=True),
    "perceptron": Case(nn.perceptron(3), VECTORS),
    "prelu": Case(nn.prelu(), VECTORS),
    "leaky_relu": Case(partial(nn.leaky_relu, negative_slope=0.1), VECTORS),
    "relu": Case(nn.relu, VECTORS),
    "tanh": Case(nn.tanh, VECTORS),
    "sigmoid": Case(nn.sigmoid, VECTORS),
    "softmax": Case(nn.softmax, VECTORS),
    "log_softmax": Case(nn.log_softmax, VECTORS),
    "a plain function": Case(lambda x: x * jnp.sin(x), VECTORS),
    "a partial": Case(partial(jnp.clip, min=-1.0, max=1.0), VECTORS),
    "mlp": Case(nn.mlp((5,), 3, nn.tanh), VECTORS),
    "residual": Case(nn.residual(nn.batch_norm(), nn.relu, nn.conv(4, 3)), IMAGES, trains=True),
    "residual with shortcut": Case(
        nn.residual(
            nn.conv(8, 3, stride=2),
            nn.dropout(),
            shortcut=nn.serial(nn.conv(8, 1, stride=2), nn.batch_norm()),
        ),
        IMAGES,
        trains=True,
    ),
    "serial": Case(
        nn.serial(nn.conv(3, 3), nn.batch_norm(), nn.relu, nn.flatten, nn.dropout(0.2), nn.linear(2)),
        IMAGES,
        trains=True,
    ),
}
NOT_LAYERS = {"Layer", "LayerError", "LayerLike", "PerceptronState", "ReceptiveField", "Summary"}
NOT_LAYERS |= {"conv_output_size", "intermediates", "layer", "lsuv", "receptive_field", "summary"}
NOT_LAYERS |= {"perceptron_init", "perceptron_predict", "perceptron_update"}
NOT_LAYERS |= {"constant", "delta_orthogonal", "kaiming", "lecun", "orthogonal", "truncated_normal", "xavier"}
NOT_LAYERS |= {"elu", "gelu", "heaviside", "selu", "silu", "softplus"}  # tested in test_activations.py
NOT_LAYERS |= {"mixed_precision"}  # changes the dtype, tested in test_precision.py

KEY = jax.random.key(7)

each_case = pytest.mark.parametrize("name", CASES)
each_mode = pytest.mark.parametrize(
    ("name", "train"),
    [
        pytest.param(name, train, id=f"{name}, {'training' if train else 'evaluation'}")
        for name, case in CASES.items()
        for train in ([False, True] if case.trains else [False])
    ],
)


@cache
def made(name):
    """The layer, values in place of its initial ones (no zero biases) and three inputs along a new axis."""
    net = nn.serial(CASES[name].make)
    shapes = jax.eval_shape(net.init, KEY, jax.ShapeDtypeStruct(CASES[name].shape, jnp.float32))
    rng = np.random.default_rng(1)

    def draw(leaf):
        return jnp.asarray(rng.uniform(0.2, 1, leaf.shape) * rng.choice([-1, 1], leaf.shape), leaf.dtype)

    params, state = jax.tree.map(draw, shapes)
    state = jax.tree.map(jnp.abs, state)
    return net, params, state, jnp.asarray(random(3, *CASES[name].shape))


@cache
def eagerly(name, train):
    """Outputs and states of the three inputs, each from the state of `init`."""
    net, params, state, inputs = made(name)
    return [net.apply(params, state, x, train=train, key=KEY if train else None) for x in inputs]


def applied(name, train):
    net, params, _, _ = made(name)
    return lambda state, x: net.apply(params, state, x, train=train, key=KEY if train else None)


def assert_close(actual, expected, **tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-5, **tolerance})


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def test_every_layer_has_a_row():
    def kinds(net):
        yield net.kind
        for _, child in net.children:
            yield from kinds(child)

    in_table = {kind for name in CASES for kind in kinds(made(name)[0])}
    assert set(nn.__all__) - NOT_LAYERS <= in_table


@each_mode
def test_jit_changes_nothing(name, train):
    _, _, state, inputs = made(name)
    assert_close(jax.jit(applied(name, train))(state, inputs[0]), eagerly(name, train)[0])


@each_mode
def test_vmap_over_inputs_is_a_loop(name, train):
    _, _, state, inputs = made(name)
    y, states = jax.vmap(applied(name, train), in_axes=(None, 0))(state, inputs)
    expected_y, expected_states = stacked(eagerly(name, train))
    assert_close(y, expected_y)
    assert_close(states, expected_states)


@each_mode
def test_scan_is_a_loop_that_carries_the_state(name, train):
    net, params, state, inputs = made(name)

    def step(state, x):
        y, state = applied(name, train)(state, x)
        return state, y

    last, outputs = jax.lax.scan(step, state, inputs)
    expected = []
    for x in inputs:
        y, state = net.apply(params, state, x, train=train, key=KEY if train else None)
        expected.append(y)
    assert_close(outputs, jnp.stack(expected))
    assert_close(last, state)


@each_mode
def test_gradient_is_finite_and_the_slope(name, train):
    """Along a random direction in parameters and inputs at once, against central differences."""
    with jax.enable_x64(True):
        net, *values = made(name)
        params, state, inputs = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), values)
        rng = np.random.default_rng(4)
        weights = rng.normal(size=eagerly(name, train)[0][0].shape)

        @jax.jit
        @jax.value_and_grad
        def loss(point):
            params, x = point
            y, _ = net.apply(params, state, x, train=train, key=KEY if train else None)
            return jnp.vdot(weights, y)

        point = params, inputs[0]
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), point)
        _, gradient = loss(point)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.vdot(g, d), gradient, direction)))
        h = 1e-6
        above = loss(jax.tree.map(lambda leaf, d: leaf + h * d, point, direction))[0]
        below = loss(jax.tree.map(lambda leaf, d: leaf - h * d, point, direction))[0]
        np.testing.assert_allclose(slope, (above - below) / (2 * h), rtol=1e-6, atol=1e-7)


@each_case
def test_training_computes_something_else_only_where_the_table_says_so(name):
    net, params, state, inputs = made(name)

    def program(train):
        apply = partial(net.apply, train=train, key=KEY)
        return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(apply)(params, state, inputs[0])))

    assert (program(train=True) != program(train=False)) == CASES[name].trains


@each_case
def test_evaluation_changes_no_state_and_needs_no_key(name):
    _, _, state, _ = made(name)
    assert_close(eagerly(name, train=False)[0][1], state, rtol=0, atol=0)


@each_case
def test_half_precision_in_half_precision_out(name):
    net = nn.serial(CASES[name].make)
    x = jax.ShapeDtypeStruct(CASES[name].shape, jnp.bfloat16)
    params, state = jax.eval_shape(net.init, KEY, x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} <= {"bfloat16"}
    y, new_state = jax.eval_shape(partial(net.apply, train=True, key=KEY), params, state, x)
    assert y.dtype == jnp.bfloat16
    assert jax.tree.map(lambda leaf: leaf.dtype, new_state) == jax.tree.map(lambda leaf: leaf.dtype, state)


# What the layers compute.


def value(net, params, x):
    return net.apply(params, {}, jnp.asarray(x))[0]


def shapes_of(net, x):
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(net.init, KEY, x)[0])


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    x, kernel, shift = random(5, 3), random(3, 2, seed=1), random(2, seed=2)
    params = {"kernel": kernel, **({"bias": shift} if bias else {})}
    net = nn.linear(2, bias=bias)
    assert shapes_of(net, x) == jax.tree.map(np.shape, params)
    expected = x @ kernel + shift[None, :] * bias
    np.testing.assert_allclose(value(net, params, x), expected, rtol=1e-5, atol=1e-6)


def explicit_padding(padding, shape, extent, stride):
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding == "SAME":
        total = [
            max((math.ceil(n / s) - 1) * s + k - n, 0) for n, k, s in zip(shape, extent, stride, strict=True)
        ]
        return tuple((t // 2, t - t // 2) for t in total)
    return padding


def windows(x, size, stride, padding, dilation, fill):
    """Each output pixel with the patch (N, kh, kw, C) that it sees."""
    extent = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    pads = explicit_padding(padding, x.shape[1:3], extent, stride)
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    height, width = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], extent, stride, strict=True))
    for i in range(height):
        for j in range(width):
            top, left = i * stride[0], j * stride[1]
            rows = slice(top, top + extent[0], dilation[0])
            yield (i, j), (height, width), x[:, rows, left : left + extent[1] : dilation[1]]


def over_windows(x, function, size, stride, padding="VALID", dilation=(1, 1), fill=0.0):
    found = list(windows(x, size, stride, padding, dilation, fill))
    rows, columns = found[0][1]
    y = np.stack([function(patch) for _, _, patch in found], 1)
    return y.reshape(x.shape[0], rows, columns, -1)


CONVOLUTIONS = {
    "same": ((3, 3), {}),
    "same, even size": ((2, 4), {}),
    "same, strided": ((3, 3), {"stride": (2, 3)}),
    "valid": ((3, 2), {"padding": "VALID"}),
    "explicit, dilated": ((2, 3), {"padding": ((1, 0), (2, 1)), "dilation": (2, 1)}),
    "grouped": ((3, 3), {"groups": 2}),
    "depthwise": ((3, 3), {"groups": 4, "padding": "VALID"}),
    "one pixel": ((1, 1), {"stride": (2, 2), "bias": False}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv(name):
    size, settings = CONVOLUTIONS[name]
    groups, features = settings.get("groups", 1), 8
    x, kernel, shift = (
        random(2, 7, 6, 4),
        random(*size, 4 // groups, features, seed=1),
        random(features, seed=2),
    )
    bias = settings.get("bias", True)
    net = nn.conv(features, size, **settings)
    params = {"kernel": kernel, **({"bias": shift} if bias else {})}
    assert shapes_of(net, x) == jax.tree.map(np.shape, params)

    def see(patch):
        parts = [
            np.einsum("nhwc,hwco->no", channels, kernels)
            for channels, kernels in zip(
                np.split(patch, groups, -1), np.split(kernel, groups, -1), strict=True
            )
        ]
        return np.concatenate(parts, -1) + shift[None] * bias

    expected = over_windows(
        x,
        see,
        size,
        settings.get("stride", (1, 1)),
        settings.get("padding", "SAME"),
        settings.get("dilation", (1, 1)),
    )
    np.testing.assert_allclose(value(net, params, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((2, 2), None, "VALID"),
        ((3, 2), (1, 2), "VALID"),
        ((3, 3), (2, 2), "SAME"),
        ((2, 2), (2, 2), ((1, 0), (0, 1))),
    ],
)
@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
def test_pools(kind, size, stride, padding):
    x = random(2, 7, 6, 3) - 5  # negative: padding must neither win nor count
    net = getattr(nn, kind)(size, stride=stride, padding=padding)
    reduce = {"max_pool": np.nanmax, "avg_pool": np.nanmean}[kind]
    expected = over_windows(
        x, lambda patch: reduce(patch, (1, 2)), size, stride or size, padding, fill=np.nan
    )
    np.testing.assert_allclose(value(net, {}, x), expected, rtol=1e-6)


def test_flatten():
    x = random(2, 3, 4, 5)
    np.testing.assert_array_equal(nn.flatten(jnp.asarray(x)), np.stack([image.ravel() for image in x]))
    assert nn.flatten(jnp.ones((3,))).shape == (3, 1)


def test_global_avg_pool():
    x = random(2, 3, 4, 5)
    expected = np.einsum("nhwc->nc", x) / 12
    np.testing.assert_allclose(nn.global_avg_pool(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"expected images .*got shape \(2, 3\)"):
        nn.global_avg_pool(jnp.ones((2, 3)))


def test_mlp_is_its_formula():
    net = nn.mlp((5, 4), 3, jnp.tanh)
    x = random(6, 2)
    params, state = net.init(KEY, x)
    assert net.kind == "mlp"
    assert [name for name, _ in net.children] == ["linear_1", "tanh_1", "linear_2", "tanh_2", "linear_3"]
    w = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, params)  # biases too

    def affine(x, name):
        return x @ w[name]["kernel"] + w[name]["bias"][None]

    expected = affine(np.tanh(affine(np.tanh(affine(x, "linear_1")), "linear_2")), "linear_3")
    np.testing.assert_allclose(net.apply(w, state, x)[0], expected, rtol=1e-5, atol=1e-6)


def test_mlp_without_hidden_layers_is_linear_and_its_initializer_reaches_every_kernel():
    def ones(key, shape, dtype):
        return jnp.ones(shape, dtype)

    assert [name for name, _ in nn.mlp((), 3).children] == ["linear_1"]
    params, _ = nn.mlp((5, 4), 3, kernel_init=ones).init(KEY, jnp.ones((1, 2)))
    for layer in params.values():
        np.testing.assert_array_equal(layer["kernel"], np.ones(layer["kernel"].shape))


@pytest.mark.parametrize("with_shortcut", [False, True])
def test_residual_adds_input_and_output(with_shortcut):
    x = jnp.asarray(random(4, 3))
    shortcut = nn.linear(3) if with_shortcut else None
    net = nn.residual(nn.linear(3), nn.relu, shortcut=shortcut)
    params, state = net.init(KEY, x)
    w = params["linear_1"]["kernel"]
    skipped = x @ params["shortcut"]["kernel"] if with_shortcut else x
    expected = np.asarray(skipped) + np.maximum(np.asarray(x @ w), 0)
    np.testing.assert_allclose(net.apply(params, state, x)[0], expected, rtol=1e-5, atol=1e-6)


# Dropout.


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_drops_the_rate_and_scales_the_rest(rate):
    x = jnp.asarray(random(100, 200)) + 10
    net = nn.dropout(rate)
    y, state = net.apply({}, {}, x, train=True, key=KEY)
    kept = np.asarray(y) != 0
    assert state == {}
    np.testing.assert_allclose(y, np.where(kept, np.asarray(x) / (1 - rate), 0), rtol=1e-6)
    deviation = math.sqrt(rate * (1 - rate) / x.size)
    assert abs(kept.mean() - (1 - rate)) <= 5 * deviation
    if rate:  # each unit of each example by itself: no row and no column is like another
        assert len(np.unique(kept, axis=0)) == 100
        assert len(np.unique(kept, axis=1).T) == 200
    np.testing.assert_array_equal(net.apply({}, {}, x)[0], x)


def test_dropout_gradient_is_the_mask():
    x = jnp.asarray(random(20, 30)) + 10

    def total(x):
        y = nn.dropout(0.25).apply({}, {}, x, train=True, key=KEY)[0]
        return y.sum(), y

    gradient, y = jax.grad(total, has_aux=True)(x)
    np.testing.assert_allclose(gradient, np.where(np.asarray(y) != 0, 1 / 0.75, 0), rtol=1e-6)


def test_dropout_draws_by_key_and_by_path():
    x = jnp.ones((30, 30))
    net = nn.serial(nn.dropout(), nn.dropout(), nn.residual(nn.dropout()))
    outputs = nn.intermediates(net, {}, {}, x, train=True, key=KEY)
    again = nn.intermediates(net, {}, {}, x, train=True, key=KEY)
    other = nn.intermediates(net, {}, {}, x, train=True, key=jax.random.key(8))
    first, second = (np.asarray(outputs[name]) for name in ("dropout_1", "dropout_2"))
    np.testing.assert_array_equal(first, again["dropout_1"])
    assert (first != np.asarray(other["dropout_1"])).any()
    assert (np.sign(first) != np.sign(second)).any()
    # With one mask for both, three quarters would not be dropped but half.
    assert abs((second != 0).mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / x.size)
    inner = np.asarray(outputs["residual_1/dropout_1"])
    assert abs((inner != 0).mean() - 0.125) < 5 * math.sqrt(0.125 * 0.875 / x.size)


def test_dropout_takes_a_traced_rate():
    x = jnp.ones((50, 50))

    def kept(rate):
        return (nn.dropout(rate).apply({}, {}, x, train=True, key=KEY)[0] != 0).mean()

    fractions = jax.vmap(kept)(jnp.array([0.0, 0.3, 0.8]))
    np.testing.assert_allclose(fractions, [1, 0.7, 0.2], atol=5 * 0.5 / 50)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, math.nan])
def test_dropout_refuses_rates_outside_its_range(rate):
    with pytest.raises(ValueError, match="dropout rate must be at least 0 and below 1, not"):
        nn.dropout(rate)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: nn.linear(0), "features must be at least 1, not 0"),
        (lambda: nn.conv(0, 3), "features must be at least 1, not 0"),
        (lambda: nn.conv(4, 3, groups=0), "groups must be at least 1, not 0"),
        (lambda: nn.conv(4, 0), "kernel_size must be at least 1, not 0"),
        (lambda: nn.batch_norm(momentum=1.5), "momentum must be at least 0 and at most 1, not 1.5"),
        (lambda: nn.batch_norm(eps=0), "eps must be above 0, not 0"),
    ],
)
def test_settings_outside_their_range_are_refused_at_once(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: nn.linear(8.0), "features must be an integer, not 8.0"),
        (lambda: nn.mlp((8.0,), 2), "features must be an integer, not 8.0"),
        (lambda: nn.mlp((8,), 2.5), "features must be an integer, not 2.5"),
        (lambda: nn.conv(8.0, 3), "features must be an integer, not 8.0"),
        (lambda: nn.conv(4, 3, groups=2.0), "groups must be an integer, not 2.0"),
        (lambda: nn.conv_transpose(4.0, 3), "features must be an integer, not 4.0"),
        (lambda: nn.depthwise_conv(3, multiplier=1.5), "multiplier must be an integer, not 1.5"),
        (lambda: nn.locally_connected(4.0, 3), "features must be an integer, not 4.0"),
        (lambda: nn.maxout(4, 2.0), "pieces must be an integer, not 2.0"),
        (lambda: nn.conv_maxout(4.0, 3), "features must be an integer, not 4.0"),
        (lambda: nn.group_norm(3.0), "groups must be an integer, not 3.0"),
        (lambda: nn.group_norm(1.5), "groups must be an integer, not 1.5"),
        (lambda: nn.conv_output_size(28.0, 3), "size must be an integer, not 28.0"),
        (lambda: nn.perceptron_init(2.0), "inputs must be an integer, not 2.0"),
        (lambda: nn.linear(None), "features must be an integer, not None"),
        (lambda: nn.linear("3"), "features must be an integer, not '3'"),
        (lambda: nn.linear((3, 4)), "features must be an integer, not (3, 4)"),
        (lambda: nn.conv(None, 3), "features must be an integer, not None"),
        (lambda: nn.conv(4, 3, groups=None), "groups must be an integer, not None"),
        (lambda: nn.conv_transpose(None, 3), "features must be an integer, not None"),
        (lambda: nn.locally_connected(None, 3), "features must be an integer, not None"),
        (lambda: nn.depthwise_conv(3, multiplier=None), "multiplier must be an integer, not None"),
        (lambda: nn.maxout(3, None), "pieces must be an integer, not None"),
        (lambda: nn.conv_maxout(4, 3, groups=None), "groups must be an integer, not None"),
        (lambda: nn.group_norm(None), "groups must be an integer, not None"),
        (lambda: nn.conv_output_size((28, 28), 3), "size must be an integer, not (28, 28)"),
    ],
)
def test_counts_and_sizes_are_integers(make, problem):
    with pytest.raises(TypeError, match=f"^{re.escape(problem)}$"):
        make()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: nn.conv(4, None), "kernel_size must be a number, not None"),
        (lambda: nn.adaptive_avg_pool(None), "size must be a number, not None"),
        (lambda: nn.batch_norm(eps=None), "eps must be a number, not None"),
        (lambda: nn.batch_norm(momentum="0.9"), "momentum must be a number, not '0.9'"),
        (lambda: nn.batch_norm(momentum=None), "momentum must be a number, not None"),
        (lambda: nn.layer_norm(eps=None), "eps must be a number, not None"),
        (lambda: nn.dropout(None), "dropout rate must be a number, not None"),
        (lambda: nn.dropout([0.1, 0.2]), "dropout rate must be a number, not [0.1, 0.2]"),
        (lambda: nn.leaky_relu(jnp.ones(2), None), "negative_slope must be a number, not None"),
        (lambda: nn.elu(jnp.ones(2), None), "alpha must be a number, not None"),
        (lambda: nn.prelu(initial=None), "initial must be a number, not None"),
        (lambda: nn.mlp(32, 10), "hidden must be a sequence such as (32,), not 32"),
        (
            lambda: nn.linear(3, kernel_init="kaiming"),
            "kernel_init must be a function such as fnn.kaiming, not 'kaiming'",
        ),
        (
            lambda: nn.depthwise_conv(3, kernel_init="kaiming"),
            "kernel_init must be a function such as fnn.kaiming, not 'kaiming'",
        ),
        (
            lambda: nn.conv_transpose(3, 3, kernel_init=None),
            "kernel_init must be a function such as fnn.kaiming, not None",
        ),
        (
            lambda: nn.locally_connected(3, 3, kernel_init=1.0),
            "kernel_init must be a function such as fnn.kaiming, not 1.0",
        ),
    ],
)
def test_what_is_no_number_sequence_or_function_is_refused_at_once(make, problem):
    with pytest.raises(TypeError, match=f"^{re.escape(problem)}$"):
        make()


@pytest.mark.parametrize(
    "call",
    [
        lambda key: nn.linear(3).init(key, jnp.ones((2, 3))),
        lambda key: nn.serial(nn.dropout(0.5)).apply({}, {}, jnp.ones((2, 3)), train=True, key=key),
        lambda key: ops.dropout(key, jnp.ones((2, 3)), 0.5),
        lambda key: ops.alpha_dropout(key, jnp.ones((2, 3)), 0.5),
        lambda key: nn.kaiming(key, (3, 4)),
        lambda key: nn.orthogonal(key, (3, 4)),
        lambda key: nn.truncated_normal(key, (3, 4)),
    ],
    ids=["init", "apply", "dropout", "alpha_dropout", "kaiming", "orthogonal", "truncated_normal"],
)
def test_a_seed_is_no_key(call):
    for seed in (0, np.int32(0), jnp.int32(0)):
        with pytest.raises(
            TypeError, match=r"^key must be a random key such as jax.random.key\(0\), not .*0"
        ):
            call(seed)
    call(jax.random.key(0))
    call(jax.random.PRNGKey(0))


# Activations.

ONE = 1 / (1 + math.exp(-1.0))
ACTIVATIONS = [
    # function, x, value, gradient
    (nn.relu, 0.0, 0.0, 0.0),
    (nn.relu, 2.0, 2.0, 1.0),
    (nn.relu, -2.0, 0.0, 0.0),
    (nn.relu, 1e30, 1e30, 1.0),
    (nn.relu, -1e30, 0.0, 0.0),
    (nn.tanh, 0.0, 0.0, 1.0),
    (nn.tanh, 1.0, math.tanh(1), 1 - math.tanh(1) ** 2),
    (nn.tanh, 1e4, 1.0, 0.0),
    (nn.tanh, -1e4, -1.0, 0.0),
    (nn.sigmoid, 0.0, 0.5, 0.25),
    (nn.sigmoid, 1.0, ONE, ONE * (1 - ONE)),
    (nn.sigmoid, 1e4, 1.0, 0.0),
    (nn.sigmoid, -1e4, 0.0, 0.0),
]


@pytest.mark.parametrize(("function", "x", "y", "slope"), ACTIVATIONS)
def test_activations(function, x, y, slope):
    actual, gradient = jax.value_and_grad(lambda x: function(x))(jnp.float32(x))
    np.testing.assert_allclose(actual, y, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_softmax_is_stable_and_so_is_its_logarithm(offset):
    x = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [-3.0, 3.0, 1.0]]) + offset
    exponentials = np.exp(x - x.max(1, keepdims=True))
    p = exponentials / exponentials.sum(1, keepdims=True)
    scores = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(nn.softmax(scores), p, rtol=1e-5)
    np.testing.assert_allclose(nn.log_softmax(scores), np.log(p), rtol=1e-5)
    # ∂pⱼ/∂xₖ = pⱼ (δⱼₖ − pₖ), ∂ln pⱼ/∂xₖ = δⱼₖ − pₖ, here for j = 0.
    first = np.eye(3)[:1]
    gradient = jax.grad(lambda x: nn.softmax(x)[:, 0].sum())(scores)
    np.testing.assert_allclose(gradient, p[:, :1] * (first - p), rtol=1e-4, atol=1e-7)
    gradient = jax.grad(lambda x: nn.log_softmax(x)[:, 0].sum())(scores)
    np.testing.assert_allclose(gradient, first - p, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("gap", [1e3, 1e30])
def test_softmax_of_scores_far_apart(gap):
    scores = jnp.array([[gap, 0.0]])
    np.testing.assert_array_equal(nn.softmax(scores), [[1, 0]])
    np.testing.assert_allclose(nn.log_softmax(scores), [[0, -gap]], rtol=1e-6)
    gradient = jax.grad(lambda x: nn.log_softmax(x)[0, 1])(scores)
    np.testing.assert_array_equal(gradient, [[-1, 1]])


def test_activations_are_names_of_fnn():
    assert fnn.relu is nn.relu
    assert fnn.softmax is nn.softmax


@pytest.mark.parametrize("make", [nn.dropout, lambda rate: nn.batch_norm(momentum=rate)])
def test_a_layer_takes_the_value_of_a_schedule_not_the_schedule(make):
    with pytest.raises(TypeError, match="must be a number or a scalar array here, not a schedule"):
        make(lambda count: 0.5)


def test_flatten_of_no_examples():
    assert nn.flatten(jnp.ones((0, 3, 4))).shape == (0, 12)


def test_max_pool_of_integers():
    x = jnp.arange(9).reshape(1, 3, 3, 1)
    y, _ = nn.max_pool(3, stride=1, padding="SAME").apply({}, {}, x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[4, 5, 5], [7, 8, 8], [7, 8, 8]])
