"""One table of layers, and what must hold for every row: a new layer is one more row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.nn._layer import as_layer

IMAGES, VECTORS = (4, 6, 6, 4), (4, 5)


class Row(NamedTuple):
    layer: fnn.LayerLike
    input: tuple[int, ...]
    output: tuple[int, ...]


def linear_init(key: jax.Array, x: jax.ShapeDtypeStruct) -> dict[str, jax.Array]:
    return {"factor": 1 + jax.random.normal(key, x.shape[-1:], x.dtype)}


def squash(x: jax.Array, slope: float = 1.0) -> jax.Array:
    return slope * jnp.arctan(x)


# The first word is the name in fnn.nn; what it becomes is input shape -> output shape.
TABLE = {
    "linear": Row(fnn.linear(3), VECTORS, (4, 3)),
    "linear without bias": Row(fnn.linear(3, bias=False), VECTORS, (4, 3)),
    "conv": Row(fnn.conv(3, 3), IMAGES, (4, 6, 6, 3)),
    "conv with stride, padding, dilation": Row(
        fnn.conv(3, (3, 2), stride=(2, 1), padding=((2, 1), (0, 1)), dilation=(1, 2), bias=False),
        IMAGES,
        (4, 4, 5, 3),
    ),
    "conv in groups": Row(fnn.conv(6, 3, groups=2, padding="VALID"), IMAGES, (4, 4, 4, 6)),
    "max_pool": Row(fnn.max_pool(2), IMAGES, (4, 3, 3, 4)),
    "max_pool, overlapping": Row(fnn.max_pool(3, stride=2, padding="SAME"), IMAGES, (4, 3, 3, 4)),
    "avg_pool": Row(fnn.avg_pool(2), IMAGES, (4, 3, 3, 4)),
    "avg_pool, overlapping": Row(fnn.avg_pool(3, stride=2, padding="SAME"), IMAGES, (4, 3, 3, 4)),
    "global_avg_pool": Row(fnn.global_avg_pool, IMAGES, (4, 4)),
    "flatten": Row(fnn.flatten, IMAGES, (4, 144)),
    "batch_norm": Row(fnn.batch_norm(), VECTORS, VECTORS),
    "batch_norm of images": Row(fnn.batch_norm(momentum=0.5, eps=1e-3), IMAGES, IMAGES),
    "dropout": Row(fnn.dropout(0.4), VECTORS, VECTORS),
    "relu": Row(fnn.relu, VECTORS, VECTORS),
    "tanh": Row(fnn.tanh, VECTORS, VECTORS),
    "sigmoid": Row(fnn.sigmoid, VECTORS, VECTORS),
    "softmax": Row(fnn.softmax, VECTORS, VECTORS),
    "log_softmax": Row(fnn.log_softmax, VECTORS, VECTORS),
    "layer": Row(fnn.layer("scale", lambda params, x: params["factor"][None] * x, linear_init), VECTORS, VECTORS),
    "mlp": Row(fnn.mlp((6, 4), 3, fnn.tanh), VECTORS, (4, 3)),
    "residual": Row(fnn.residual(fnn.conv(4, 3), fnn.batch_norm(), fnn.relu), IMAGES, IMAGES),
    "residual with a shortcut": Row(
        fnn.residual(fnn.conv(3, 3, stride=2), fnn.dropout(0.3), shortcut=fnn.conv(3, 1, stride=2)),
        IMAGES,
        (4, 3, 3, 3),
    ),
    "serial": Row(
        fnn.serial(
            fnn.conv(3, 3), fnn.batch_norm(), fnn.relu, fnn.max_pool(2), fnn.flatten, fnn.dropout(), fnn.linear(2)
        ),
        IMAGES,
        (4, 2),
    ),
    "serial of serials": Row(
        fnn.serial(fnn.serial(fnn.linear(6), fnn.dropout(0.2)), fnn.mlp((3,), 2)), VECTORS, (4, 2)
    ),
    "plain function": Row(squash, VECTORS, VECTORS),
    "plain function with a setting": Row(partial(squash, slope=0.5), VECTORS, VECTORS),
}
every_layer = pytest.mark.parametrize("name", TABLE)
both_modes = pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])


def test_every_layer_of_fnn_has_a_row() -> None:
    others = {"Layer", "LayerError", "LayerLike", "Summary", "intermediates", "kaiming", "summary", "xavier"}
    rows = {name.replace(",", "").split()[0] for name in TABLE} - {"plain"}
    assert rows == set(fnn.nn.__all__) - others


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def build(name: str, train: bool, dtype: Any = np.float32) -> tuple[Callable[..., Any], Any, Any, Any]:
    """`call(params, state, x) -> (y, state)`, its params and state, and two inputs, stacked."""
    layer = as_layer(TABLE[name].layer)
    xs = np.random.default_rng(1).normal(0.3, 1.0, (2, *TABLE[name].input)).astype(dtype)
    params, state = jax.jit(layer.init)(jax.random.key(2), xs[0])
    key = jax.random.key(3) if train else None
    return partial(layer.apply, train=train, key=key), params, state, xs


@cache
def eager(name: str, train: bool) -> Any:
    """What `build` builds, and the eager results of both inputs, the second after the first."""
    call, params, state, xs = build(name, train)
    first = call(params, state, xs[0])
    return call, params, state, xs, first, call(params, first[1], xs[1])


def assert_same(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


@both_modes
@every_layer
def test_output_has_the_shape_and_dtype_of_the_table(name: str, train: bool) -> None:
    _, _, state, xs, (y, new_state), _ = eager(name, train)
    assert y.shape == TABLE[name].output
    assert y.dtype == xs.dtype
    assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)


@both_modes
@every_layer
def test_jit_gives_the_eager_values(name: str, train: bool) -> None:
    call, params, state, xs, first, _ = eager(name, train)
    assert_same(jax.jit(call)(params, state, xs[0]), first)


@both_modes
@every_layer
def test_vmap_over_inputs_gives_the_eager_values(name: str, train: bool) -> None:
    call, params, state, xs, first, _ = eager(name, train)
    both = np.stack([xs[1], xs[0]])
    results = jax.jit(jax.vmap(call, in_axes=(None, None, 0)))(params, state, both)
    assert_same(jax.tree.map(lambda leaf: leaf[1], results), first)


@both_modes
@every_layer
def test_scan_gives_the_eager_values(name: str, train: bool) -> None:
    call, params, state, xs, (first, _), (second, last) = eager(name, train)

    def step(state: Any, x: Any) -> Any:
        y, state = call(params, state, x)
        return state, y

    end, ys = jax.lax.scan(step, state, xs)
    assert_same((ys[0], ys[1], end), (first, second, last))


@pytest.mark.usefixtures("float64")
@both_modes
@every_layer
def test_gradients_are_the_slopes_of_the_eager_values(name: str, train: bool) -> None:
    call, params, state, xs = build(name, train, np.float64)
    random = np.random.default_rng(4)
    weights = random.normal(size=TABLE[name].output)

    def objective(params: Any, x: Any) -> Any:
        return jnp.sum(weights * call(params, state, x)[0])

    grads = jax.jit(jax.grad(objective, argnums=(0, 1)))(params, xs[0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    direction = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), grads)

    def at(t: float) -> Any:
        return jitted(*jax.tree.map(lambda leaf, d: leaf + t * d, (params, xs[0]), direction))

    jitted = jax.jit(objective)
    slope = (at(1e-6) - at(-1e-6)) / 2e-6
    along = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (grads, direction)), strict=True))
    np.testing.assert_allclose(along, slope, rtol=1e-5, atol=1e-7)


@every_layer
def test_init_needs_shape_and_dtype_only(name: str) -> None:
    layer, shape = as_layer(TABLE[name].layer), TABLE[name].input
    from_array = jax.jit(layer.init)(jax.random.key(0), np.full(shape, 7.0, np.float32))
    from_shape = jax.jit(lambda key: layer.init(key, jax.ShapeDtypeStruct(shape, jnp.float32)))(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, from_array, from_shape)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("bfloat16", "bfloat16"), ("float16", "float16"), ("uint8", "float32"), ("float64", "float32")],
)
@pytest.mark.parametrize("name", ["linear", "conv in groups", "batch_norm", "mlp", "serial"])
def test_parameters_have_the_dtype_of_the_input(name: str, given: str, expected: str) -> None:
    layer = as_layer(TABLE[name].layer)
    x = jax.ShapeDtypeStruct(TABLE[name].input, np.dtype(given))
    params, state = jax.eval_shape(lambda key: layer.init(key, x), jax.random.key(0))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {expected}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state)} <= {"float32"}  # statistics


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["linear", "conv in groups", "batch_norm", "mlp", "serial"])
def test_parameters_of_a_float64_input_are_float64_under_x64(name: str) -> None:
    x = np.zeros(TABLE[name].input)
    params_and_state = jax.jit(as_layer(TABLE[name].layer).init)(jax.random.key(0), x)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params_and_state)} == {"float64"}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["linear", "conv", "batch_norm", "dropout", "serial", "max_pool, overlapping"])
def test_bfloat16_stays_bfloat16(name: str, train: bool) -> None:
    call, params, state, xs = build(name, train, jnp.bfloat16)
    assert jax.eval_shape(call, params, state, xs[0])[0].dtype == jnp.bfloat16


# --- plain layers against NumPy -------------------------------------------------------------------------


def random_like(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.usefixtures("float64")
def test_linear_is_x_w_plus_b() -> None:
    x, kernel, bias = random_like((4, 5), 0), random_like((5, 3), 1), random_like((3,), 2)
    y, state = fnn.linear(3).apply({"kernel": kernel, "bias": bias}, {}, x)
    np.testing.assert_allclose(y, np.einsum("ni,io->no", x, kernel) + bias, rtol=1e-13)
    np.testing.assert_allclose(fnn.linear(3, bias=False).apply({"kernel": kernel}, {}, x)[0], x @ kernel)
    assert state == {}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_layer_is_the_sum_of_its_formula(groups: int) -> None:
    x, kernel, bias = random_like((2, 5, 6, 4), 0), random_like((3, 2, 4 // groups, 6), 1), random_like((6,), 2)
    (top, bottom), (left, right), (sh, sw), (dh, dw) = (1, 2), (0, 1), (2, 1), (1, 2)
    layer = fnn.conv(
        6, (3, 2), stride=(sh, sw), padding=((top, bottom), (left, right)), dilation=(dh, dw), groups=groups
    )
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    height, width = (5 + top + bottom - dh * 2 - 1) // sh + 1, (6 + left + right - dw - 1) // sw + 1
    expected = np.zeros((2, height, width, 6))
    for i, j, o in np.ndindex(height, width, 6):
        start = o // (6 // groups) * (4 // groups)
        for a, b, c in np.ndindex(3, 2, 4 // groups):
            expected[:, i, j, o] += padded[:, i * sh + a * dh, j * sw + b * dw, start + c] * kernel[a, b, c, o]
    y, _ = layer.apply({"kernel": kernel, "bias": bias}, {}, x)
    np.testing.assert_allclose(y, expected + bias, rtol=1e-12, atol=1e-12)


def test_conv_and_pool_layers_hand_every_setting_to_ops() -> None:
    x = jnp.asarray(random_like((2, 7, 7, 2), 3), jnp.float32)
    settings = {"stride": (1, 2), "padding": ((1, 0), (2, 1))}
    for make, function in [(fnn.max_pool, fnn.ops.max_pool), (fnn.avg_pool, fnn.ops.avg_pool)]:
        y, _ = make((3, 2), **settings).apply({}, {}, x)
        np.testing.assert_array_equal(y, function(x, window=(3, 2), **settings))
        assert make(2).apply({}, {}, x)[0].shape == (2, 3, 3, 2)  # stride is the window, padding VALID
    kernel = jnp.ones((3, 3, 2, 1))
    y, _ = fnn.conv(1, 3, bias=False).apply({"kernel": kernel}, {}, x)
    assert y.shape == (2, 7, 7, 1)  # padding SAME


def test_flatten_and_global_avg_pool() -> None:
    x = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(fnn.flatten(jnp.asarray(x)), x.reshape(2, 12))
    np.testing.assert_array_equal(fnn.global_avg_pool(jnp.asarray(x)), [[5, 6], [17, 18]])
    np.testing.assert_array_equal(fnn.flatten(jnp.ones((3, 2))), np.ones((3, 2)))


def test_mlp_has_an_activation_between_and_none_behind() -> None:
    net = fnn.mlp((4, 3), 2, fnn.tanh)
    params, state = net.init(jax.random.key(0), jnp.ones((1, 5)))
    x = random_like((6, 5), 0).astype(np.float32)
    hidden = x
    for number in (1, 2, 3):
        layer = params[f"linear_{number}"]
        scores = hidden @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        hidden = np.tanh(scores)
    np.testing.assert_allclose(net.apply(params, state, x)[0], scores, rtol=1e-5, atol=1e-6)
    assert net.kind == "mlp"
    assert [name for name, _ in fnn.mlp((), 2).children] == ["linear_1"]


@pytest.mark.parametrize("shortcut", [None, fnn.linear(5)])
def test_residual_adds_its_input_or_its_shortcut(shortcut: fnn.Layer | None) -> None:
    net = fnn.residual(fnn.linear(5), fnn.tanh, shortcut=shortcut)
    params, _ = net.init(jax.random.key(0), jnp.ones(VECTORS))
    assert set(params) == ({"linear_1"} if shortcut is None else {"linear_1", "shortcut"})
    x = random_like(VECTORS, 0).astype(np.float32)
    side = x if shortcut is None else x @ np.asarray(params["shortcut"]["kernel"])
    expected = side + np.tanh(x @ np.asarray(params["linear_1"]["kernel"]))
    np.testing.assert_allclose(net.apply(params, {}, x)[0], expected, rtol=1e-5, atol=1e-6)
