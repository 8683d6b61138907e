"""Layer, group and instance normalisation against PyTorch, and where float32 is short of digits."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, ops

TORCH = np.load(Path(__file__).with_name("torch_values.npz"))
KEY = jax.random.key(0)
LAYERS = {
    "layer_norm": nn.layer_norm,
    "group_norm": lambda **settings: nn.group_norm(2, **settings),
    "instance_norm": nn.instance_norm,
}
each_layer = pytest.mark.parametrize("name", LAYERS)
STORED = [
    (name, shape)
    for name in LAYERS
    for shape in ("vectors", "sequences", "images", "volumes")
    if (name, shape) != ("instance_norm", "vectors")
]


def applied(net, x, scale=None, bias=None):
    channels = x.shape[-1]
    params = {
        "scale": jnp.ones(channels) if scale is None else scale,
        "bias": jnp.zeros(channels) if bias is None else bias,
    }
    return jax.jit(net.apply)(params, {}, x)[0]


@pytest.mark.parametrize(("name", "shape"), STORED)
def test_values_and_gradients_are_pytorch_s(name, shape):
    keys = ("x", "scale", "bias")
    cotangent, expected = (TORCH[f"{name}/{shape}/{key}"] for key in ("cotangent", "y"))
    net = LAYERS[name](eps=1e-2)  # large, so that a place outside the root would show
    with jax.enable_x64(True):

        @jax.jit
        def value_and_gradients(cotangent, *inputs):
            y, backward = jax.vjp(lambda *inputs: applied(net, *inputs), *inputs)
            return y, backward(cotangent)

        y, gradients = value_and_gradients(cotangent, *(TORCH[f"{name}/{shape}/{key}"] for key in keys))
        assert y.dtype == jnp.float64
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    for key, gradient in zip(keys, gradients, strict=True):
        np.testing.assert_allclose(gradient, TORCH[f"{name}/{shape}/d{key}"], rtol=1e-11, atol=1e-11)


@each_layer
@pytest.mark.parametrize("mean", [0.0, 1e4, -1e4])
def test_a_large_mean_costs_no_precision(name, mean):
    """Mean 1e4 and deviation 1 in float32: E[x²] − E[x]² would be off by more than the variance."""
    x = (np.random.default_rng(1).normal(size=(3, 20, 20, 6)) + mean).astype(np.float32)
    parts = x.astype(np.float64).reshape(3, 20, 20, 2, 3)
    axes = {"layer_norm": (3, 4), "group_norm": (1, 2, 4), "instance_norm": (1, 2)}[name]
    centred = parts - parts.mean(axes, keepdims=True)
    expected = centred / np.sqrt(parts.var(axes, keepdims=True) + 1e-5)
    y = applied(LAYERS[name](), jnp.asarray(x))
    np.testing.assert_allclose(y, expected.reshape(x.shape), atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 8), (2, 5, 8), (2, 3, 3, 8), (2, 2, 3, 2, 8)])
def test_how_they_relate(shape):
    x = jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.float32)
    one_group = np.asarray(applied(nn.group_norm(1), x))
    flat = np.asarray(x, np.float64).reshape(shape[0], -1)
    expected = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(one_group.reshape(shape[0], -1), expected, atol=1e-5)
    if len(shape) == 2:
        np.testing.assert_allclose(one_group, applied(nn.layer_norm(), x), atol=1e-6)
    else:
        np.testing.assert_array_equal(applied(nn.group_norm(8), x), applied(nn.instance_norm(), x))


@each_layer
def test_no_state_and_one_number_a_channel(name):
    params, state = LAYERS[name]().init(KEY, jax.ShapeDtypeStruct((2, 4, 6), jnp.float32))
    assert state == {}
    np.testing.assert_array_equal(params["scale"], np.ones(6))
    np.testing.assert_array_equal(params["bias"], np.zeros(6))


@each_layer
def test_each_example_by_itself(name):
    x = jnp.asarray(np.random.default_rng(3).normal(size=(4, 3, 3, 6)), jnp.float32)
    alone = applied(LAYERS[name](), x[1:2])
    np.testing.assert_allclose(applied(LAYERS[name](), x)[1:2], alone, rtol=1e-6, atol=1e-6)


@each_layer
def test_constant_values_become_the_bias_and_the_gradient_is_finite(name):
    x, bias = jnp.full((2, 3, 3, 4), 7.0), jnp.arange(4.0)
    net = LAYERS[name]()

    @jax.jit
    def value_and_gradient(x):
        y, backward = jax.vjp(lambda x: applied(net, x, jnp.ones(4), bias), x)
        return y, *backward(x)

    y, gradient = value_and_gradient(x)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, x.shape))
    assert np.isfinite(gradient).all()


@each_layer
def test_bfloat16_is_normalised_in_float32(name):
    x = jnp.asarray(np.random.default_rng(4).normal(size=(2, 30, 30, 4)) * 2 + 30, jnp.bfloat16)
    y = LAYERS[name]().apply(*LAYERS[name]().init(KEY, x), x)[0]
    assert y.dtype == jnp.bfloat16
    expected = applied(LAYERS[name](), x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize(
    ("net", "shape", "problem"),
    [
        (nn.layer_norm(), (3,), r"layer_norm takes \(batch, …, channels\), got an input of shape \(3,\)"),
        (nn.layer_norm(), (3, 1), r"there is one value for each mean.*\(3, 1\): take batch_norm"),
        (nn.instance_norm(), (3, 4), r"there is one value for each mean.*\(3, 4\): take layer_norm"),
        (nn.instance_norm(), (3, 1, 1, 4), r"there is one value for each mean.*\(3, 1, 1, 4\): take layer"),
        (nn.group_norm(4), (3, 4), r"there is one value for each mean.*\(3, 4\): .* fewer groups"),
        (nn.group_norm(3), (3, 4), "groups must divide the 4 channels, 3 does not"),
    ],
)
def test_inputs_that_do_not_fit(net, shape, problem):
    with pytest.raises(ValueError, match=problem):
        nn.serial(net).init(KEY, jax.ShapeDtypeStruct(shape, jnp.float32))


@each_layer
def test_another_number_of_channels_is_refused(name):
    params = {"scale": jnp.ones(4), "bias": jnp.zeros(4)}
    with pytest.raises(ValueError, match="expected 4 channels, got an input of shape"):
        LAYERS[name]().apply(params, {}, jnp.ones((2, 3, 6)))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_scale_and_bias_have_a_number_for_each_channel(size):
    """One number would be that of all channels."""
    x, numbers, right = jnp.ones((2, 4)), jnp.ones(size), jnp.ones(4)
    for scale, bias in ((numbers, right), (right, numbers)):
        problem = (
            rf"scale and bias must have shape \(4,\), one .*, not \({scale.size},\) and \({bias.size},\)"
        )
        with pytest.raises(ValueError, match=problem):
            ops.layer_norm(x, scale, bias)
        with pytest.raises(ValueError, match=problem):
            ops.group_norm(x, scale, bias, 2)


def test_settings_outside_their_range_are_refused():
    for make in LAYERS.values():
        with pytest.raises(ValueError, match="eps must be above 0, not 0"):
            make(eps=0)
    with pytest.raises(ValueError, match="groups must be at least 1, not 0"):
        nn.group_norm(0)


def test_the_ops_are_what_the_layers_compute():
    x = jnp.asarray(np.random.default_rng(5).normal(size=(2, 3, 4)), jnp.float32)
    scale, bias = jnp.arange(4.0), jnp.ones(4)
    for actual, net in (
        (ops.layer_norm(x, scale, bias), nn.layer_norm()),
        (ops.group_norm(x, scale, bias, 2), nn.group_norm(2)),
    ):
        np.testing.assert_allclose(actual, applied(net, x, scale, bias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [nn.batch_norm(), nn.layer_norm(), nn.group_norm(1)])
def test_bytes_are_normalised_as_floats(layer):
    x = np.random.default_rng(0).integers(0, 256, (6, 4), np.uint8)
    params, state = layer.init(jax.random.key(0), x)
    y, _ = layer.apply(params, state, x, train=True)
    params, state = layer.init(jax.random.key(0), x.astype(np.float32))
    want, _ = layer.apply(params, state, x.astype(np.float32), train=True)
    assert y.dtype == want.dtype == np.float32
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [*LAYERS, "batch_norm"])
def test_eps_may_be_traced_and_has_a_slope(name, masked):
    x = np.random.default_rng(6).normal(size=(4, 3, 3, 4))
    mask = jnp.array([True, True, False, True]) if masked else None
    with jax.enable_x64(True):

        def loss(eps):
            net = {**LAYERS, "batch_norm": nn.batch_norm}[name](eps=eps)
            params, state = net.init(jax.random.key(0), x)
            params = {"scale": jnp.arange(1.0, 5.0), "bias": params["bias"]}
            y, _ = net.apply(params, state, jnp.asarray(x), train=True, mask=mask)
            return jnp.sum(y**3)

        some = jnp.array([0.1, 0.5])
        alone, above, below = ([float(loss(float(eps) + h)) for eps in some] for h in (0, 1e-6, -1e-6))
        np.testing.assert_allclose(jax.jit(jax.vmap(loss))(some), alone, rtol=1e-12)
        slopes = (np.array(above) - below) / 2e-6
        np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(loss)))(some), slopes, rtol=1e-6)
