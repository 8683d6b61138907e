"""Composition: names, paths, errors that name the layer, and randomness addressed by path."""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn._tree import paths

KEY = jax.random.key(5)
IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
VECTORS = jax.ShapeDtypeStruct((4, 6), jnp.float32)


def names(net: fnn.Layer) -> list[str]:
    return [name for name, _ in net.children]


def leaves(net: fnn.Layer, x: Any = IMAGES) -> dict[str, np.ndarray]:
    params, _ = jax.jit(lambda key: net.init(key, x))(KEY)
    return {path: np.asarray(leaf) for path, leaf in paths(params)}


# --- names ----------------------------------------------------------------------------------------------


def test_automatic_names_count_per_kind_and_explicit_names_count_too() -> None:
    net = fnn.serial(
        fnn.conv(4, 3), fnn.relu, fnn.conv(4, 3, name="stem"), fnn.relu, fnn.conv(4, 3), jnp.tanh,
        lambda x: x, partial(jnp.clip, min=0.0), fnn.residual(fnn.conv(4, 3)), fnn.serial(fnn.relu), fnn.mlp(),
    )  # fmt: skip
    assert names(net) == [
        "conv_1", "relu_1", "stem", "relu_2", "conv_3", "tanh_1",
        "lambda_1", "clip_1", "residual_1", "serial_1", "mlp_1",
    ]  # fmt: skip


def test_every_layer_function_takes_a_name() -> None:
    layers = [
        fnn.linear(2, name="a"), fnn.conv(2, 3, name="b"), fnn.batch_norm(name="c"), fnn.dropout(name="d"),
        fnn.max_pool(2, name="e"), fnn.avg_pool(2, name="f"), fnn.mlp(name="g"),
        fnn.residual(fnn.relu, name="h"), fnn.serial(fnn.relu, name="i"),
        fnn.layer("x", lambda params, x: x, name="j"),
    ]  # fmt: skip
    assert names(fnn.serial(*layers)) == list("abcdefghij")


def test_one_layer_used_twice_is_two_layers() -> None:
    shared = fnn.linear(6)
    values = leaves(fnn.serial(shared, shared), VECTORS)
    assert set(values) == {"linear_1/bias", "linear_1/kernel", "linear_2/bias", "linear_2/kernel"}
    assert not np.array_equal(values["linear_1/kernel"], values["linear_2/kernel"])


def test_layers_without_parameters_or_state_leave_no_trace() -> None:
    net = fnn.serial(
        fnn.conv(4, 3), fnn.relu, fnn.batch_norm(), fnn.residual(fnn.relu), fnn.max_pool(2), fnn.flatten,
        fnn.dropout(), fnn.serial(), fnn.linear(2),
    )  # fmt: skip
    params, state = net.init(KEY, IMAGES)
    assert set(params) == {"conv_1", "batch_norm_1", "linear_1"}
    assert set(state) == {"batch_norm_1"}
    y, new_state = net.apply(params, state, jnp.ones(IMAGES.shape), train=True, key=KEY)
    assert y.shape == (2, 2)
    assert set(new_state) == {"batch_norm_1"}


def test_serial_of_nothing_is_the_identity() -> None:
    assert fnn.serial().init(KEY, VECTORS) == ({}, {})
    np.testing.assert_array_equal(fnn.serial().apply({}, {}, jnp.ones((2, 3)))[0], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: fnn.serial(fnn.linear(2, name="head"), fnn.linear(2, name="head")),
            r"2 layers have the name 'head'; names beside each other must differ",
        ),
        (lambda: fnn.serial(fnn.relu, fnn.linear(2, name="relu_1")), r"2 layers have the name 'relu_1'"),
        (lambda: fnn.serial(fnn.linear(2, name="linear_2"), fnn.linear(2)), r"2 layers have the name 'linear_2'"),
        (
            lambda: fnn.residual(fnn.conv(3, 3, name="shortcut"), shortcut=fnn.conv(3, 1)),
            r"2 layers have the name 'shortcut'",
        ),
        (lambda: fnn.serial(fnn.linear(2, name="a/b")), r"letters, digits and underscores, not 'a/b'"),
        (lambda: fnn.serial(fnn.linear(2, name="the head")), r"letters, digits and underscores, not 'the head'"),
        (lambda: fnn.serial(fnn.linear(2, name="1st")), r"letters, digits and underscores, not '1st'"),
        (lambda: fnn.residual(fnn.linear(2, name="a.b")), r"letters, digits and underscores, not 'a\.b'"),
    ],
)
def test_names_that_clash_or_make_no_path_are_errors(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", ["batch_norm", "dropout", "linear", "conv", "mlp", "serial", "residual"])
def test_a_forgotten_call_says_so(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name} is a function that makes a layer: call it, {name}\("):
        fnn.serial(fnn.flatten, getattr(fnn, name))


def test_a_forgotten_call_that_shows_late_says_so_too() -> None:
    def block(x):  # type: ignore[no-untyped-def]  # without an annotation nothing shows before it is called
        return fnn.linear(2)

    with pytest.raises(TypeError, match=r"block is a function that makes a layer: call it, block\("):
        fnn.serial(block).init(KEY, VECTORS)


@pytest.mark.parametrize("value", ["relu", 3, None])
def test_what_is_no_layer_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=f"a layer or a function of one array is wanted, not {value!r}"):
        fnn.serial(value)


# --- errors with paths ----------------------------------------------------------------------------------

DEEP = fnn.serial(fnn.conv(3, 3), fnn.residual(fnn.conv(3, 3), fnn.dropout(0.5)), fnn.flatten, fnn.linear(2))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            fnn.serial(fnn.relu, fnn.linear(10)),
            r"^linear_1: a linear layer takes \(batch, inputs\), got an input of shape \(2, 8, 8, 3\); "
            r"put flatten before it$",
        ),
        (
            fnn.serial(fnn.max_pool(2), fnn.residual(fnn.conv(3, 5, padding="VALID", name="wide"))),
            r"^residual_1/wide: a kernel that covers 5×5 pixels does not fit its padded input of 4×4$",
        ),
        (fnn.serial(fnn.serial(fnn.max_pool(9))), r"^serial_1/max_pool_1: a window that covers 9×9 pixels"),
        (fnn.serial(fnn.conv(4, 3, groups=2)), r"^conv_1: 2 group\(s\) of 1 channels and 4 features do not fit"),
        (fnn.serial(fnn.conv(4, 3, groups=3)), r"^conv_1: 3 group\(s\) of 1 channels and 4 features do not fit"),
        (fnn.serial(fnn.flatten, fnn.conv(4, 3)), r"^conv_1: expected images \(batch, height, width, channels\)"),
        (fnn.serial(fnn.flatten, fnn.global_avg_pool), r"^global_avg_pool_1: expected images"),
        (
            fnn.serial(fnn.residual(fnn.conv(4, 3))),
            r"^residual_1: a residual adds its input \(2, 8, 8, 3\) to its output \(2, 8, 8, 4\), which differ; "
            r"give a shortcut",
        ),
        (
            fnn.serial(fnn.residual(fnn.conv(4, 3), shortcut=fnn.conv(4, 9, padding="VALID"))),
            r"^residual_1/shortcut: a kernel that covers 9×9",
        ),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(net: fnn.Layer, message: str) -> None:
    with pytest.raises(fnn.LayerError, match=message):
        net.init(KEY, IMAGES)


def test_layer_error_knows_its_path() -> None:
    with pytest.raises(fnn.LayerError) as caught:
        fnn.serial(fnn.residual(fnn.linear(3))).init(KEY, IMAGES)
    assert caught.value.path == "residual_1/linear_1"
    assert caught.value.problem.startswith("a linear layer takes")


def test_an_error_of_another_kind_keeps_its_type_and_gets_a_note() -> None:
    def broken(x: jax.Array) -> jax.Array:
        raise TypeError("no")

    with pytest.raises(TypeError, match="no") as caught:
        fnn.serial(fnn.residual(broken)).init(KEY, VECTORS)
    notes = [note for note in caught.value.__notes__ if note.startswith("in the layer")]
    assert notes == ["in the layer broken_1", "in the layer residual_1"]


def test_training_without_a_key_names_the_stochastic_layer() -> None:
    params, state = DEEP.init(KEY, IMAGES)
    with pytest.raises(
        fnn.LayerError,
        match=r"^residual_1/dropout_1: dropout draws at random, so training needs a key: "
        r"net\.apply\(…, train=True, key=key\)$",
    ):
        DEEP.apply(params, state, jnp.ones(IMAGES.shape), train=True)
    assert DEEP.apply(params, state, jnp.ones(IMAGES.shape))[0].shape == (2, 2)  # evaluation needs none


@pytest.mark.parametrize(
    "net", [DEEP, fnn.serial(), fnn.dropout(), fnn.batch_norm(), fnn.serial(fnn.dropout())]
)
def test_a_traced_train_says_how_to_write_it(net: fnn.Layer) -> None:
    params, state = net.init(KEY, IMAGES)

    def call(train: Any) -> Any:
        return net.apply(params, state, jnp.ones(IMAGES.shape), train=train, key=KEY)

    with pytest.raises(TypeError, match=r"train must be a Python bool.*jit\(partial\(net\.apply, train=True\)\)"):
        jax.jit(call)(True)
    with pytest.raises(TypeError, match="train must be a Python bool, not 1"):
        call(1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"linear_1": {"bias": jnp.zeros(2)}}, r"^linear_1: there is no parameter 'kernel'; use the params"),
        ({}, r"^linear_1: there is no parameter 'kernel'; use the params that this network's init returned$"),
        ({"dense_1": {}}, r"there is no layer named 'dense_1' here; the layers are linear_1, relu_1; use the"),
        (
            {"linear_1": {"kernel": jnp.zeros((9, 2)), "bias": jnp.zeros(2)}},
            r"^linear_1: expected 9 inputs, got an input of shape \(4, 6\)$",
        ),
    ],
)
def test_the_params_of_another_network_are_refused(params: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fnn.serial(fnn.linear(2), fnn.relu).apply(params, {}, jnp.ones((4, 6)))


def test_the_params_of_another_residual_are_refused_with_its_path() -> None:
    params, _ = fnn.serial(fnn.residual(fnn.linear(6), shortcut=fnn.linear(6))).init(KEY, VECTORS)
    with pytest.raises(fnn.LayerError, match=r"^residual_1: there is no layer named 'shortcut' here"):
        fnn.serial(fnn.residual(fnn.linear(6))).apply(params, {}, jnp.ones((4, 6)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fnn.linear(0), "features must be at least 1, not 0"),
        (lambda: fnn.conv(0, 3), "features must be at least 1, not 0"),
        (lambda: fnn.conv(4, 0), "kernel_size must be at least 1, not 0"),
        (lambda: fnn.conv(4, (3, 3, 3)), r"kernel_size must be one integer or two, not \(3, 3, 3\)"),
        (lambda: fnn.conv(4, 3, groups=0), "groups must be at least 1, not 0"),
        (lambda: fnn.dropout(1.0), "dropout rate must be at least 0 and below 1, not 1.0"),
        (lambda: fnn.dropout(-0.1), "dropout rate must be at least 0 and below 1, not -0.1"),
        (lambda: fnn.dropout(float("nan")), "dropout rate must be at least 0 and below 1, not nan"),
        (lambda: fnn.batch_norm(momentum=1.1), "momentum must be at least 0 and at most 1, not 1.1"),
        (lambda: fnn.batch_norm(eps=0.0), "eps must be above 0, not 0.0"),
    ],
)
def test_settings_out_of_range_are_errors_where_they_are_written(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


# --- addressed randomness -------------------------------------------------------------------------------


def address(key: jax.Array, *segments: str) -> jax.Array:
    """The rule of the design, written out."""
    for segment in segments:
        key = jax.random.fold_in(key, zlib.crc32(segment.encode()))
    return key


def test_initial_values_are_drawn_from_the_key_at_their_path() -> None:
    def draw(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
        return jax.random.normal(key, shape, dtype)

    conv, linear = partial(fnn.conv, kernel_init=draw), partial(fnn.linear, kernel_init=draw)
    net = fnn.serial(
        conv(3, 3), fnn.residual(conv(3, 3), shortcut=conv(3, 1)), fnn.flatten, linear(2, name="head")
    )
    values = leaves(net)
    for path in ("conv_1/kernel", "residual_1/conv_1/kernel", "residual_1/shortcut/kernel", "head/kernel"):
        expected = jax.random.normal(address(KEY, *path.split("/")), values[path].shape)
        np.testing.assert_array_equal(values[path], expected)


def test_what_a_layer_draws_in_training_is_addressed_by_its_path() -> None:
    net = fnn.serial(fnn.dropout(0.5), fnn.residual(fnn.dropout(0.25, name="noise")))
    x = jnp.ones((3, 50))
    first = fnn.ops.dropout(address(KEY, "dropout_1"), x, 0.5)
    expected = first + fnn.ops.dropout(address(KEY, "residual_1", "noise"), first, 0.25)
    np.testing.assert_array_equal(net.apply({}, {}, x, train=True, key=KEY)[0], expected)


BASE = (fnn.conv(4, 3), fnn.relu, fnn.conv(4, 3), fnn.flatten, fnn.linear(5))


@pytest.mark.parametrize(
    "changed",
    [
        (fnn.batch_norm(), *BASE),
        (*BASE[:1], fnn.batch_norm(), *BASE[1:]),
        (*BASE[:3], fnn.residual(fnn.conv(4, 3)), fnn.dropout(0.1), *BASE[3:]),
        (*BASE, fnn.linear(7)),
        (*BASE, fnn.conv(4, 3, name="unused"))[:5],
        (*BASE[:2], fnn.conv(4, 3), *BASE[3:]),
    ],
    ids=["first", "second", "middle", "appended", "same", "rebuilt"],
)
def test_another_layer_changes_no_layers_initial_values(changed: tuple[fnn.Layer, ...]) -> None:
    before, after = leaves(fnn.serial(*BASE)), leaves(fnn.serial(*changed))
    assert set(before) <= set(after)
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)


def test_two_layers_two_keys_and_two_places_differ() -> None:
    values = leaves(fnn.serial(fnn.linear(6), fnn.linear(6), fnn.residual(fnn.linear(6))), VECTORS)
    kernels = [values[f"{path}/kernel"] for path in ("linear_1", "linear_2", "residual_1/linear_1")]
    kernels.append(np.asarray(fnn.serial(fnn.linear(6)).init(jax.random.key(6), VECTORS)[0]["linear_1"]["kernel"]))
    for one in range(4):
        for other in range(one):
            assert abs(np.corrcoef(kernels[one].ravel(), kernels[other].ravel())[0, 1]) < 0.6


def test_two_dropout_layers_drop_different_units() -> None:
    x = jnp.ones((1, 400))
    outputs = fnn.intermediates(fnn.serial(fnn.dropout(), fnn.dropout()), {}, {}, x, train=True, key=KEY)
    first, second = (np.asarray(outputs[f"dropout_{n}"] > 0) for n in (1, 2))
    survive_both = second[first].mean()
    assert abs(survive_both - 0.5) < 0.2  # 1 if both drew the same
