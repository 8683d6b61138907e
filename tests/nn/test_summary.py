"""A network as a table, and the outputs of its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn

KEY = jax.random.key(0)
IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)


def network():
    return nn.serial(
        nn.conv(4, 3),
        nn.batch_norm(),
        nn.relu,
        nn.residual(
            nn.conv(8, 3, stride=2, name="narrow"), nn.relu, shortcut=nn.conv(8, 1, stride=2, bias=False)
        ),
        nn.max_pool(2),
        nn.flatten,
        nn.dropout(),
        nn.mlp((64,), 10, name="head"),
    )


TABLE = """\
layer                kind        output   parameters   bytes
------------------------------------------------------------
input                            2×8×8×3
conv_1               conv        2×8×8×4         112     448
batch_norm_1         batch_norm  2×8×8×4           8      32
relu_1               relu        2×8×8×4           0       0
residual_1/narrow    conv        2×4×4×8         296   1,184
residual_1/relu_1    relu        2×4×4×8           0       0
residual_1/shortcut  conv        2×4×4×8          32     128
max_pool_1           max_pool    2×2×2×8           0       0
flatten_1            flatten     2×32              0       0
dropout_1            dropout     2×32              0       0
head/linear_1        linear      2×64          2,112   8,448
head/relu_1          relu        2×64              0       0
head/linear_2        linear      2×10            650   2,600
------------------------------------------------------------
total                                          3,210  12,840"""


def test_the_table():
    """In the order of the network; parameters worked out by hand: 3·3·3·4 + 4, 2·4, 3·3·4·8 + 8, 4·8, …"""
    assert str(nn.summary(network(), IMAGES)) == TABLE


def test_an_array_is_as_good_as_its_shape():
    assert nn.summary(network(), np.ones(IMAGES.shape, np.float32)) == nn.summary(network(), IMAGES)
    assert nn.summary(network(), np.ones(IMAGES.shape, np.uint8)) == nn.summary(network(), IMAGES)


def test_totals_are_those_of_the_parameters():
    table = nn.summary(network(), IMAGES)
    params, _ = jax.eval_shape(network().init, KEY, IMAGES)
    assert table.parameters == sum(leaf.size for leaf in jax.tree.leaves(params)) == 3210
    assert table.bytes == 4 * 3210


def test_half_precision_takes_half_the_bytes():
    table = nn.summary(network(), jax.ShapeDtypeStruct(IMAGES.shape, jnp.bfloat16))
    assert (table.parameters, table.bytes) == (3210, 6420)


@pytest.mark.parametrize(
    ("net", "row"),
    [
        (nn.linear(3), ("linear", "linear", "2×3", "15", "60")),
        (nn.relu, ("relu", "relu", "2×4", "0", "0")),
        (lambda x: x[:, 0], ("lambda", "lambda", "2", "0", "0")),
    ],
)
def test_one_layer_alone(net, row):
    table = str(nn.summary(net, jnp.ones((2, 4)))).splitlines()
    assert table[3].split() == list(row)
    assert table[-1].split() == ["total", *row[-2:]]


def test_a_network_of_terabytes_takes_no_memory():
    table = nn.summary(nn.linear(10**6), jax.ShapeDtypeStruct((1, 10**6), jnp.float32))
    assert table.parameters == 10**12 + 10**6
    assert table.bytes == 4 * (10**12 + 10**6)


def test_a_network_that_does_not_fit_says_where():
    with pytest.raises(nn.LayerError, match=r"^linear_1: .*put flatten before it"):
        nn.summary(nn.serial(nn.conv(4, 3), nn.linear(3)), IMAGES)


# Intermediates.


def flat_network():
    return nn.serial(nn.linear(4), nn.batch_norm(), nn.tanh, nn.dropout(), nn.linear(4), nn.relu)


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
def test_each_output_is_that_of_the_network_up_to_there(train):
    net = flat_network()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    mask = jnp.array([True, True, True, False, False])
    params, state = net.init(KEY, x)
    context = {"train": train, "key": KEY if train else None, "mask": mask if train else None}
    outputs = nn.intermediates(net, params, state, x, **context)
    assert list(outputs) == ["linear_1", "batch_norm_1", "tanh_1", "dropout_1", "linear_2", "relu_1"]
    for count, name in enumerate(outputs, start=1):
        layers = net.children[:count]
        known = {key for key, _ in layers}
        prefix = nn.serial(*(layer for _, layer in layers))
        y, _ = prefix.apply({k: v for k, v in params.items() if k in known}, state, x, **context)
        np.testing.assert_array_equal(outputs[name], y, err_msg=name)
    np.testing.assert_array_equal(outputs["relu_1"], net.apply(params, state, x, **context)[0])


def test_the_outputs_inside_containers():
    net = nn.serial(
        nn.linear(4),
        nn.residual(nn.linear(3, name="wide"), nn.relu, shortcut=nn.linear(3)),
        nn.serial(nn.residual(nn.tanh), name="tail"),
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    params, state = net.init(KEY, x)
    outputs = nn.intermediates(net, params, state, x)

    def affine(x, layer):
        return np.asarray(x, np.float64) @ np.asarray(layer["kernel"], np.float64)  # biases start at zero

    inside = params["residual_1"]
    first = affine(x, params["linear_1"])
    wide, short = affine(first, inside["wide"]), affine(first, inside["shortcut"])
    expected = {
        "linear_1": first,
        "residual_1/wide": wide,
        "residual_1/relu_1": np.maximum(wide, 0),
        "residual_1/shortcut": short,
        "tail/residual_1/tanh_1": np.tanh(np.maximum(wide, 0) + short),
    }
    assert list(outputs) == list(expected)
    for path, y in expected.items():
        np.testing.assert_allclose(outputs[path], y, rtol=1e-4, atol=1e-5, err_msg=path)


def test_intermediates_under_jit_and_vmap():
    net = flat_network()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)
    params, state = net.init(KEY, x[0])

    def outputs(x):
        return nn.intermediates(net, params, state, x)

    eager = [outputs(one) for one in x]
    for path, y in jax.jit(jax.vmap(outputs))(x).items():
        expected = np.stack([each[path] for each in eager])
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6, err_msg=path)


def test_intermediates_of_one_layer_alone():
    x = jnp.array([[-1.0, 2.0]])
    (only,) = nn.intermediates(nn.relu, {}, {}, x).values()
    np.testing.assert_array_equal(only, [[0, 2]])


def test_intermediates_raise_where_the_network_does():
    net = nn.serial(nn.residual(nn.dropout()))
    with pytest.raises(nn.LayerError, match=r"^residual_1/dropout_1: dropout draws at random"):
        nn.intermediates(net, {}, {}, jnp.ones((2, 3)), train=True)
