"""Composition: names, paths in errors, addressed randomness."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import fnn
from fnn import nn
from fnn._tree import paths

KEY = jax.random.key(0)
IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
VECTORS = jax.ShapeDtypeStruct((2, 5), jnp.float32)


def names(net):
    return [name for name, _ in net.children]


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), (_, y) in zip(paths(a), paths(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=path)


# Names.


def double(x):
    return 2 * x


class Callable:
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([], []),
        ([nn.linear(1), nn.relu, nn.linear(1), nn.relu], ["linear_1", "relu_1", "linear_2", "relu_2"]),
        # An explicit name counts: naming a layer renames no other.
        ([nn.linear(1), nn.linear(1, name="head"), nn.linear(1)], ["linear_1", "head", "linear_3"]),
        ([nn.conv(1, 1, name="stem"), nn.conv(1, 1)], ["stem", "conv_2"]),
        ([nn.mlp(), nn.serial(nn.relu), nn.residual(nn.relu)], ["mlp_1", "serial_1", "residual_1"]),
        ([nn.batch_norm(), nn.dropout(), nn.max_pool(2)], ["batch_norm_1", "dropout_1", "max_pool_1"]),
        ([nn.avg_pool(2, name="pool"), nn.flatten, nn.serial(name="tail")], ["pool", "flatten_1", "tail"]),
        ([double, double, lambda x: x, Callable()], ["double_1", "double_2", "lambda_1", "function_1"]),
        ([partial(jnp.clip, min=0), jax.jit(double)], ["clip_1", "double_1"]),
    ],
)
def test_automatic_names_count_per_kind(layers, expected):
    assert names(nn.serial(*layers)) == expected
    assert names(nn.residual(*layers)) == expected


@pytest.mark.parametrize("container", [nn.serial, nn.residual])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.linear(1, name="head"), nn.linear(2, name="head")),
        (nn.linear(1, name="relu_1"), nn.relu),
        (nn.linear(1, name="linear_2"), nn.linear(1)),
    ],
)
def test_two_layers_of_one_name_are_an_error(container, first, second):
    with pytest.raises(
        ValueError, match=r"^2 layers have the name '\w+'; names beside each other must differ"
    ):
        container(first, second)


@pytest.mark.parametrize("shortcut", [None, nn.linear(5)])
def test_a_layer_of_a_residual_may_not_pass_for_its_shortcut(shortcut):
    with pytest.raises(ValueError, match="the name 'shortcut' belongs to a residual's shortcut"):
        nn.residual(nn.linear(5, name="shortcut"), nn.relu, shortcut=shortcut)
    assert names(nn.serial(nn.linear(5, name="shortcut"))) == ["shortcut"]


@pytest.mark.parametrize("name", ["a/b", "a b", "1", "a-b", "*", "conv.1", 5])
def test_bad_names(name):
    with pytest.raises(
        ValueError, match=r"a layer's name is a string of letters, digits and underscores, .* digit, not "
    ):
        nn.serial(nn.linear(1, name=name))


@pytest.mark.parametrize(
    "layer",
    [
        nn.linear(2, name="mine"),
        nn.conv(2, 1, name="mine"),
        nn.batch_norm(name="mine"),
        nn.dropout(name="mine"),
        nn.max_pool(1, name="mine"),
        nn.avg_pool(1, name="mine"),
        nn.mlp(name="mine"),
        nn.serial(name="mine"),
        nn.residual(name="mine"),
        nn.layer("kind", lambda params, x: x, name="mine"),
    ],
    ids=lambda layer: layer.kind,
)
def test_every_layer_takes_a_name(layer):
    assert names(nn.serial(layer)) == ["mine"]


def test_one_layer_used_twice_is_two_layers():
    square = nn.linear(5)
    params, _ = nn.serial(square, square).init(KEY, VECTORS)
    assert list(params) == ["linear_1", "linear_2"]
    assert (params["linear_1"]["kernel"] != params["linear_2"]["kernel"]).all()


def test_layers_without_parameters_leave_no_trace():
    net = nn.serial(nn.relu, nn.residual(nn.dropout(), nn.tanh), nn.serial(), nn.linear(3), nn.batch_norm())
    params, state = net.init(KEY, VECTORS)
    assert list(params) == ["linear_1", "batch_norm_1"]
    assert list(state) == ["batch_norm_1"]
    _, state = net.apply(params, state, jnp.ones((2, 5)), train=True, key=KEY)
    assert list(state) == ["batch_norm_1"]
    assert nn.serial(nn.relu).init(KEY, VECTORS) == ({}, {})


class Count(NamedTuple):
    calls: jax.Array


def counting(first, after):
    """The identity, with a state of one's own make."""
    return nn.Layer("count", lambda key, x: ({}, first), lambda params, state, x, **_: (x, after(state)))


GAIN = nn.layer("gain", lambda params, x: params * x, lambda key, x: jnp.arange(1.0, 1 + x.shape[-1])[None])
SHIFT = nn.layer("shift", lambda params, x: x + params, lambda key, x: jnp.zeros(()))
WRAPPED = nn.layer("wrapped", lambda params, x: x + len(params["inner"]), lambda key, x: {"inner": {}})
COUNTER = counting(jnp.zeros((), jnp.int32), lambda count: count + 1)
NAMED_COUNTER = counting(Count(jnp.zeros((), jnp.int32)), lambda count: Count(count.calls + 1))
OF_ANY_TREE = GAIN, SHIFT, WRAPPED, COUNTER, NAMED_COUNTER


@pytest.mark.parametrize("container", [nn.serial, nn.residual, nn.mixed_precision])
def test_parameters_and_state_are_any_pytree(container):
    net = container(*OF_ANY_TREE)
    x = jnp.array([[3.0, 4.0]])
    params, state = net.init(KEY, x)
    same(params, {"gain_1": np.array([[1.0, 2.0]]), "shift_1": np.zeros(()), "wrapped_1": {"inner": {}}})
    same(state, {"count_1": np.array(0), "count_2": Count(np.array(0))})
    moved = {**params, "shift_1": jnp.ones(())}
    y, after = net.apply(moved, state, x)
    same(after, {"count_1": np.array(1), "count_2": Count(np.array(1))})
    np.testing.assert_array_equal(y, np.array([[4, 9]]) + (np.array(x) if container is nn.residual else 0))
    outputs = nn.intermediates(net, moved, state, x)
    assert list(outputs) == ["gain_1", "shift_1", "wrapped_1", "count_1", "count_2"]
    for path, value in zip(outputs, ([[3, 8]], *[[[4, 9]]] * 4), strict=True):
        np.testing.assert_array_equal(outputs[path], value, err_msg=path)
    assert [row.parameters for row in nn.summary(net, x).rows] == [2, 1, 0, 0, 0]
    np.testing.assert_array_equal(nn.lsuv(net, moved, state, x)["gain_1"], [[1, 2]])


@pytest.mark.parametrize("net", OF_ANY_TREE, ids=lambda net: net.kind)
def test_so_are_those_of_one_layer_alone(net):
    x = jnp.array([[3.0, 4.0]])
    params, state = net.init(KEY, x)
    y, _ = net.apply(params, state, x)
    (output,) = nn.intermediates(net, params, state, x).values()
    np.testing.assert_array_equal(output, y)
    same(nn.lsuv(net, params, state, x), params)


def test_serial_of_nothing_is_the_identity():
    x = jnp.arange(6.0).reshape(2, 3)
    y, state = nn.serial().apply({}, {}, x)
    np.testing.assert_array_equal(y, x)
    assert state == {}


# Shapes.


def network():
    return nn.serial(
        nn.conv(4, 3),
        nn.batch_norm(),
        nn.relu,
        nn.residual(nn.conv(8, 3, stride=2), nn.dropout(), shortcut=nn.conv(8, 1, stride=2)),
        nn.flatten,
        nn.mlp((6,), 3),
    )


def test_shapes_are_found():
    params, state = jax.eval_shape(network().init, KEY, IMAGES)
    assert {path: leaf.shape for path, leaf in paths(params)} == {
        "batch_norm_1/bias": (4,),
        "batch_norm_1/scale": (4,),
        "conv_1/bias": (4,),
        "conv_1/kernel": (3, 3, 3, 4),
        "mlp_1/linear_1/bias": (6,),
        "mlp_1/linear_1/kernel": (4 * 4 * 8, 6),
        "mlp_1/linear_2/bias": (3,),
        "mlp_1/linear_2/kernel": (6, 3),
        "residual_1/conv_1/bias": (8,),
        "residual_1/conv_1/kernel": (3, 3, 4, 8),
        "residual_1/shortcut/bias": (8,),
        "residual_1/shortcut/kernel": (1, 1, 4, 8),
    }
    assert {path: leaf.shape for path, leaf in paths(state)} == {
        "batch_norm_1/mean": (4,),
        "batch_norm_1/var": (4,),
    }


def test_init_takes_only_shape_and_dtype():
    net = nn.serial(nn.conv(4, 3), nn.batch_norm(), nn.flatten, nn.linear(2))
    expected = net.init(KEY, IMAGES)
    same(net.init(KEY, jnp.ones(IMAGES.shape)), expected)
    same(net.init(KEY, np.full(IMAGES.shape, np.nan, np.float32)), expected)
    same(net.init(KEY, jax.ShapeDtypeStruct(IMAGES.shape, jnp.uint8)), expected)
    compiled = jax.jit(lambda key: net.init(key, IMAGES))(KEY)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), compiled, expected)


def test_the_batch_size_changes_no_initial_value():
    net = nn.serial(nn.conv(4, 3), nn.batch_norm(), nn.flatten, nn.linear(2))
    same(net.init(KEY, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)), net.init(KEY, IMAGES))


# Errors.


@pytest.mark.parametrize(
    "forgotten", [nn.batch_norm, nn.linear, nn.conv, nn.dropout, nn.mlp, nn.max_pool, nn.serial, nn.residual]
)
def test_a_forgotten_call_says_so(forgotten):
    name = forgotten.__name__
    for value in (forgotten, partial(forgotten, name="mine")):
        with pytest.raises(
            TypeError, match=rf"^{name} is a function that makes a layer: call it, {name}\(…\)"
        ):
            fnn.serial(value)


def test_a_forgotten_call_without_annotation_says_so_at_init():
    def block(width):
        return nn.linear(3)

    with pytest.raises(
        TypeError, match=r"block is a function that makes a layer: call it, block\(…\)"
    ) as caught:
        nn.serial(nn.relu, block).init(KEY, VECTORS)
    assert "in the layer block_1" in caught.value.__notes__


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (3, "int"),
        ("conv", "str"),
        (fnn.adam(0.1), "Optimizer"),
        ([nn.linear(8), nn.relu], r"list; pass them one by one, serial\(\*layers\)"),
        ((jnp.tanh, jnp.sin), r"tuple; pass them one by one, serial\(\*layers\)"),
    ],
)
def test_something_else_than_a_layer(value, named):
    with pytest.raises(TypeError, match=f"^a layer or a function of one array is wanted, not {named}$"):
        nn.serial(value)


def test_a_layer_without_its_kind():
    def double(params, x):
        return 2 * x

    with pytest.raises(
        TypeError, match=r"^a layer begins with .*: layer\(kind, apply, init\), not with double$"
    ):
        nn.layer(double, lambda key, x: {})


@pytest.mark.parametrize(
    ("layer", "path", "problem"),
    [
        (
            nn.layer("mine", lambda params, x: (x, {})),
            "mine_1",
            "the layer mine must return one array, not tuple",
        ),
        (lambda x: None, "lambda_1", "the layer lambda must return one array, not NoneType"),
    ],
)
def test_a_layer_that_returns_something_else_than_an_array(layer, path, problem):
    with pytest.raises(TypeError, match=f"^{problem}\n") as caught:
        nn.serial(layer, nn.linear(3)).init(KEY, VECTORS)
    assert f"in the layer {path}" in caught.value.__notes__


@pytest.mark.parametrize("net", [nn.serial(nn.relu), nn.residual(nn.relu), nn.dropout(), nn.batch_norm()])
def test_a_traced_train_says_how_to_write_it(net):
    params, state = net.init(KEY, VECTORS)
    x = jnp.ones(VECTORS.shape)
    with pytest.raises(
        TypeError, match=r"train must be a Python bool, .*jit\(partial\(net.apply, train=True\)\)"
    ):
        jax.jit(net.apply)(params, state, x, train=True)
    # Both ways that it names work.
    advised, _ = jax.jit(partial(net.apply, train=True))(params, state, x, key=KEY)
    static, _ = jax.jit(net.apply, static_argnames="train")(params, state, x, train=True, key=KEY)
    np.testing.assert_array_equal(advised, static)


@pytest.mark.parametrize(
    ("net", "path"),
    [
        (nn.serial(nn.dropout()), "dropout_1"),
        (nn.serial(nn.relu, nn.residual(nn.linear(5), nn.dropout())), "residual_1/dropout_1"),
        (nn.serial(nn.serial(nn.residual(nn.relu, shortcut=nn.dropout()))), "serial_1/residual_1/shortcut"),
        (nn.serial(nn.residual(nn.dropout(name="noise"), name="block")), "block/noise"),
    ],
)
def test_dropout_in_training_without_a_key(net, path):
    params, state = net.init(KEY, VECTORS)
    with pytest.raises(
        nn.LayerError, match=rf"^{path}: dropout draws at random, so training needs a key"
    ) as caught:
        net.apply(params, state, jnp.ones(VECTORS.shape), train=True)
    assert caught.value.path == path
    assert net.apply(params, state, jnp.ones(VECTORS.shape))[0].shape == VECTORS.shape


MISFITS = {
    "linear before flatten": (
        nn.serial(nn.relu, nn.linear(3)),
        IMAGES,
        r"^linear_1: a linear layer takes \(batch, inputs\), got .* shape \(2, 8, 8, 3\); put flatten",
    ),
    "linear of one example": (
        nn.serial(nn.relu, nn.linear(3)),
        jax.ShapeDtypeStruct((5,), jnp.float32),
        r"^linear_1: a linear layer takes .* shape \(5,\); x\[None\] makes a batch of a single example$",
    ),
    "in a nested network": (
        nn.serial(nn.serial(nn.residual(nn.mlp(name="head")))),
        IMAGES,
        r"^serial_1/residual_1/head/linear_1: a linear layer takes",
    ),
    "kernel larger than its input": (
        nn.serial(nn.conv(4, 3), nn.conv(4, 9, padding="VALID")),
        IMAGES,
        r"^conv_2: a kernel that covers 9×9 pixels does not fit its padded input of 8×8",
    ),
    "dilated kernel larger than its input": (
        nn.serial(nn.conv(4, (3, 2), padding="VALID", dilation=4)),
        IMAGES,
        r"^conv_1: a kernel that covers 9×5 pixels does not fit its padded input of 8×8",
    ),
    "window larger than its input": (
        nn.serial(nn.max_pool(3), nn.avg_pool(3)),
        IMAGES,
        r"^avg_pool_1: a window that covers 3×3 pixels does not fit its padded input of 2×2",
    ),
    "groups that do not divide the channels": (
        nn.serial(nn.conv(4, 3, groups=2)),
        IMAGES,
        r"^conv_1: 2 group\(s\) .* input of 3 channels: groups must divide both",
    ),
    "groups that do not divide the features": (
        nn.serial(nn.conv(4, 3, groups=3)),
        IMAGES,
        r"^conv_1: 3 group\(s\) .* 4 features .*: groups must divide both",
    ),
    "convolution of vectors": (
        nn.serial(nn.residual(nn.conv(4, 3))),
        VECTORS,
        r"^residual_1/conv_1: expected images \(batch, height, width, channels\), got shape \(2, 5\)",
    ),
    "a function that refuses": (
        nn.serial(nn.flatten, nn.global_avg_pool),
        IMAGES,
        r"^global_avg_pool_1: expected images",
    ),
    "summands of a residual": (
        nn.serial(nn.residual(nn.linear(3))),
        VECTORS,
        r"^residual_1: a residual adds its input \(2, 5\) to its output \(2, 3\), which differ; give",
    ),
    "batch normalisation of one axis": (
        nn.serial(lambda x: x[:, 0], nn.batch_norm()),
        VECTORS,
        r"^batch_norm_1: batch normalisation takes \(batch, …, channels\), got shape \(2,\)",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_layer_that_does_not_fit_says_where(name):
    net, x, problem = MISFITS[name]
    with pytest.raises(nn.LayerError, match=problem):
        net.init(KEY, x)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (
            nn.serial(nn.linear(5, name="stem"), nn.relu, nn.linear(3)),
            "there is no layer named 'stem' here; the layers are linear_1, relu_1, linear_2; use the params",
        ),
        (
            nn.serial(nn.linear(5)),
            "^linear_2: there is no parameter 'kernel'; use the params that this network",
        ),
        (
            nn.serial(nn.linear(5, bias=False), nn.relu, nn.linear(3)),
            "^linear_1: there is no parameter 'bias'; use the params that this network's init returned",
        ),
        (
            nn.serial(nn.linear(4), nn.relu, nn.linear(3)),
            r"^linear_2: expected 4 inputs, got an input of shape \(2, 5\)|^linear_1",
        ),
    ],
)
def test_params_of_another_network(other, problem):
    net = nn.serial(nn.linear(5), nn.relu, nn.linear(3))
    params, state = other.init(KEY, VECTORS)
    if problem.startswith("^linear_2: expected"):  # the second layer's of the other, the first of this
        params["linear_1"] = net.init(KEY, VECTORS)[0]["linear_1"]
    with pytest.raises(ValueError, match=problem):
        net.apply(params, state, jnp.ones(VECTORS.shape))


def test_params_of_another_network_inside_a_residual():
    net = nn.serial(nn.residual(nn.linear(5)))
    params = {"residual_1": {"conv_1": {}}}
    with pytest.raises(nn.LayerError, match=r"^residual_1: there is no layer named 'conv_1' here"):
        net.apply(params, {}, jnp.ones(VECTORS.shape))


def test_another_exception_keeps_its_type_and_learns_its_path():
    def broken(x):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no") as caught:
        nn.serial(nn.residual(broken)).init(KEY, VECTORS)
    assert caught.value.__notes__[-2:] == ["in the layer broken_1", "in the layer residual_1"]


def test_a_key_that_a_layer_misses_in_a_dict_of_its_own_is_no_missing_parameter():
    gains = {}
    scale = nn.layer(
        "scale", lambda params, x: gains["relu"] * params["factor"] * x, lambda *_: {"factor": jnp.ones(())}
    )
    with pytest.raises(KeyError, match="relu") as caught:
        nn.serial(nn.residual(scale)).init(KEY, VECTORS)
    assert caught.value.__notes__[-2:] == ["in the layer scale_1", "in the layer residual_1"]
    gains["relu"] = 2.0
    with pytest.raises(nn.LayerError, match=r"^scale_1: there is no parameter 'factor'"):
        nn.serial(scale).apply({}, {}, jnp.ones(VECTORS.shape))


@pytest.mark.parametrize(
    ("block", "pattern"),
    [
        (nn.conv(3, 3), "*kernel"),
        (nn.conv(3, 3), "*bias"),
        (nn.serial(nn.conv(3, 3)), "*kernel"),
        (nn.batch_norm(), "*scale"),
        (nn.batch_norm(), "*bias"),
    ],
)
def test_one_part_of_the_parameters_is_refused(block, pattern):
    net, x = nn.serial(nn.residual(block, nn.batch_norm(name="last"))), jnp.ones(IMAGES.shape)
    params, state = net.init(KEY, x)
    matching, rest = fnn.partition(params, pattern)
    for part in (matching, rest):
        with pytest.raises(
            nn.LayerError,
            match=r"^residual_1/.*: the parameters hold None: they are one part of `partition`; make",
        ):
            net.apply(part, state, x)
    whole, _ = net.apply(fnn.combine(matching, rest), state, x)
    np.testing.assert_array_equal(whole, net.apply(params, state, x)[0])


@pytest.mark.parametrize("block", [nn.conv(3, 3), nn.depthwise_conv(3), nn.batch_norm()])
def test_forward_mode_says_what_to_do_instead(block):
    with jax.enable_x64(True):
        net, x = nn.serial(nn.residual(nn.tanh, block)), jax.random.normal(KEY, (2, 4, 4, 3))
        params, state = net.init(KEY, x)
        v = jax.tree.map(lambda w: jax.random.normal(KEY, w.shape), params)

        def loss(params):
            return jnp.sum(jnp.tanh(net.apply(params, state, x, train=True)[0]) ** 2)

        message = (
            r"^residual_1/\w+: its gradient is written out, in reverse mode only; for a Hessian times v take "
            r"jax.vjp\(jax.grad\(loss\), params\)\[1\]\(v\), for a Hessian jax.jacrev\(jax.grad\(loss\)\)"
        )
        with pytest.raises(nn.LayerError, match=message):
            jax.jvp(loss, (params,), (v,))

        above, below = (
            jax.grad(loss)(jax.tree.map(lambda w, v, h=h: w + h * v, params, v)) for h in (1e-5, -1e-5)
        )
        expected = jax.tree.map(lambda a, b: (a - b) / 2e-5, above, below)
        (product,) = jax.vjp(jax.grad(loss), params)[1](v)
        flat, whole = ravel_pytree(params)
        matrix = jax.jacrev(jax.grad(lambda flat: loss(whole(flat))))(flat)
        for found in (ravel_pytree(product)[0], matrix @ ravel_pytree(v)[0]):
            np.testing.assert_allclose(found, ravel_pytree(expected)[0], rtol=1e-5, atol=1e-7)


def test_context_reaches_every_layer():
    """`train`, `key` and `mask` pass through containers; each layer gets a key of its own."""
    seen = []

    def apply(params, state, x, **context):
        seen.append(context)
        return x, state

    spy = nn.Layer("spy", lambda key, x: ({}, {}), apply)
    mask = jnp.array([True, False])
    net = nn.serial(spy, nn.serial(spy), nn.residual(spy, shortcut=spy))
    net.apply({}, {}, jnp.ones((2, 3)), train=True, key=KEY, mask=mask)
    assert [context["train"] for context in seen] == [True] * 4
    assert all(context["mask"] is mask for context in seen)
    assert len({jax.random.key_data(context["key"]).tobytes() for context in seen}) == 4


# Addressed randomness.


def base(*, before=(), between=(), after=()):
    return nn.serial(
        *before,
        nn.conv(4, 3),
        *between,
        nn.relu,
        nn.residual(nn.conv(4, 3), nn.batch_norm()),
        nn.flatten,
        nn.linear(5),
        *after,
    )


CHANGES = {
    "another kind in front": {"before": [nn.batch_norm()]},
    "a function in front": {"before": [double]},
    "another kind between": {"between": [nn.batch_norm(), nn.dropout()]},
    "a network between": {"between": [nn.serial(nn.conv(4, 1))]},
    "one of the same kind at the end": {"after": [nn.linear(7)]},
    "several at the end": {"after": [nn.relu, nn.mlp((3,), 2)]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_new_layer_changes_no_initial_value_of_the_others(change):
    expected, _ = base().init(KEY, IMAGES)
    params, _ = base(**CHANGES[change]).init(KEY, IMAGES)
    same({name: params[name] for name in expected}, expected)


def test_naming_a_layer_changes_no_other():
    plain, _ = nn.serial(nn.linear(5), nn.linear(5), nn.linear(5)).init(KEY, VECTORS)
    one_named, _ = nn.serial(nn.linear(5), nn.linear(5, name="middle"), nn.linear(5)).init(KEY, VECTORS)
    for name in ("linear_1", "linear_3"):
        same(one_named[name], plain[name])
    assert (one_named["middle"]["kernel"] != plain["linear_2"]["kernel"]).all()


def test_no_two_layers_draw_the_same():
    square = nn.linear(5)
    block = nn.residual(square, square, shortcut=square)
    net = nn.serial(square, square, block, block, nn.serial(block))
    params, _ = net.init(KEY, VECTORS)
    kernels = [np.asarray(leaf).tobytes() for path, leaf in paths(params) if path.endswith("kernel")]
    assert len(kernels) == 2 + 3 * 3
    assert len(set(kernels)) == len(kernels)


def test_another_key_draws_other_kernels():
    first, _ = base().init(KEY, IMAGES)
    second, _ = base().init(jax.random.key(1), IMAGES)
    for (path, a), (_, b) in zip(paths(first), paths(second), strict=True):
        assert (a != b).all() == path.endswith("kernel"), path


def test_a_layer_is_not_changed_by_its_use():
    layer = nn.linear(5)
    net = nn.serial(layer, name="net")
    assert layer.name is None
    assert names(nn.serial(net, layer)) == ["net", "linear_1"]
    with pytest.raises(AttributeError):
        layer.name = "other"


def test_a_key_error_of_a_layer_without_a_key_stays_one():
    def missing(x):
        raise KeyError

    with pytest.raises(KeyError):
        nn.serial(missing).apply({}, {}, jnp.ones((1, 2)))


@pytest.mark.parametrize(
    ("x", "found"),
    [
        ((1, 8, 8, 3), "tuple"),
        ([[1.0, 2.0]], "list"),
        (None, "NoneType"),
        (fnn.Examples(np.zeros((1, 5)), np.zeros(1)), "Examples"),
        (KEY, r"a random key: init\(key, x\)"),
    ],
)
@pytest.mark.parametrize("net", [fnn.linear(2), fnn.batch_norm(), fnn.serial(fnn.flatten, fnn.linear(2))])
def test_parameters_are_made_for_an_array_or_its_shape(net, x, found):
    message = rf"x must be an array .* or a jax.ShapeDtypeStruct\(shape, dtype\), not {found}"
    with pytest.raises(TypeError, match=message):
        net.init(KEY, x)
    with pytest.raises(TypeError, match=message):
        fnn.init_state(lambda hyperparameters: (net, fnn.mean_squared_error, fnn.sgd(0.1)), {}, KEY, x)


def test_a_network_that_is_fed_outputs_and_state_says_so():
    net = fnn.serial(fnn.linear(5))
    params, state = net.init(KEY, VECTORS)
    pair = net.apply(params, state, jnp.ones((2, 5)))
    with pytest.raises(
        TypeError, match=r"x must be an array, not tuple; .* apply returns \(outputs, state\)"
    ):
        net.apply(params, state, pair)
