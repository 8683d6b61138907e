"""Activations with parameters: PReLU against PyTorch, maxout against what it generalises."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import nn

TORCH = np.load(Path(__file__).with_name("torch_values.npz"))
KEY = jax.random.key(0)


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def shapes(net, x):
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(net.init, KEY, x)[0])


def size(net, x):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(net.init, KEY, x)))


@pytest.mark.parametrize("of", ["channels", "shared"])
@pytest.mark.parametrize("shape", ["vectors", "sequences", "images", "volumes"])
def test_prelu_is_pytorch_s(of, shape):
    x, slope, cotangent, y, dx, dslope = (
        TORCH[f"prelu/{of}/{shape}/{key}"] for key in ("x", "slope", "cotangent", "y", "dx", "dslope")
    )
    net = nn.prelu(shared=of == "shared")
    with jax.enable_x64(True):

        @jax.jit
        def value_and_gradients(x, slope, cotangent):
            y, backward = jax.vjp(lambda x, slope: net.apply({"slope": slope}, {}, x)[0], x, slope)
            return y, *backward(cotangent)

        actual, actual_dx, actual_dslope = value_and_gradients(x, slope, cotangent)
    np.testing.assert_allclose(actual, y, rtol=1e-12)
    np.testing.assert_allclose(actual_dx, dx, rtol=1e-12)
    np.testing.assert_allclose(actual_dslope, dslope, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, [0.25] * 5), ({"shared": True}, [0.25]), ({"initial": 0.1}, [0.1] * 5)],
)
def test_prelu_starts_at_its_initial_slope(settings, expected):
    params, state = nn.prelu(**settings).init(KEY, jnp.ones((2, 3, 5)))
    np.testing.assert_allclose(params["slope"], expected, rtol=1e-6)
    assert state == {}


def test_prelu_s_slope_is_no_kernel_so_penalties_leave_it():
    net = nn.serial(nn.linear(3), nn.prelu())
    params, _ = net.init(KEY, jnp.ones((2, 4)))
    gradient = jax.grad(lambda params: fnn.l2(params, 1.0) + fnn.l1(params, 1.0))(params)
    assert gradient["linear_1"]["kernel"].all()
    assert not gradient["prelu_1"]["slope"].any()


def test_prelu_refuses():
    with pytest.raises(ValueError, match=r"prelu takes \(batch, …, channels\), got .*\(3,\)"):
        nn.prelu().init(KEY, jnp.ones(3))
    with pytest.raises(ValueError, match="expected 4 channels, got an input of shape"):
        nn.prelu().apply({"slope": jnp.ones(4)}, {}, jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="initial must be a number"):
        nn.prelu(initial=lambda count: 0.25)


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_maxout_is_the_largest_of_its_pieces(pieces):
    x, kernel, bias = random(5, 4), random(4, 3 * pieces, seed=1), random(3 * pieces, seed=2)
    y, _ = nn.maxout(3, pieces).apply({"kernel": kernel, "bias": bias}, {}, x)
    scores = np.asarray(x) @ np.asarray(kernel) + np.asarray(bias)[None]
    expected = np.stack([scores[:, j * pieces : (j + 1) * pieces].max(1) for j in range(3)], 1)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("pieces", "groups"), [(3, 1), (2, 2)])
def test_conv_maxout_is_the_largest_of_convolutions(pieces, groups):
    """Each piece by itself is a grouped convolution of the same input."""
    x = random(2, 5, 5, 4)
    settings = {"stride": 2, "padding": "VALID", "groups": groups}
    net = nn.conv_maxout(6, 3, pieces, **settings)
    params = {"kernel": random(3, 3, 4 // groups, 6 * pieces), "bias": random(6 * pieces, seed=3)}
    assert jax.tree.map(jnp.shape, params) == shapes(net, x)
    y, _ = net.apply(params, {}, x)
    convolve = jax.jit(lambda params: nn.conv(6, 3, **settings).apply(params, {}, x)[0])
    convolutions = [
        convolve({name: leaf[..., i::pieces] for name, leaf in params.items()}) for i in range(pieces)
    ]
    assert y.shape == (2, 2, 2, 6)
    np.testing.assert_allclose(y, np.max(convolutions, axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("kind", ["maxout", "conv_maxout"])
def test_maxout_generalises_relu_and_leaky_relu_exactly(kind, slope):
    """Pieces x and αx; scaling by a number is exact in both, so nothing needs a tolerance."""
    channels = 4
    kernel = np.zeros((channels, channels, 2), np.float32)
    kernel[..., 0], kernel[..., 1] = np.eye(channels), slope * np.eye(channels)
    kernel = kernel.reshape(channels, 2 * channels)
    if kind == "maxout":
        net, x = nn.maxout(channels, bias=False), random(7, channels)
    else:
        net, x, kernel = (
            nn.conv_maxout(channels, 1, bias=False),
            random(2, 3, 3, channels),
            kernel[None, None],
        )
    params = {"kernel": jnp.asarray(kernel)}
    function = nn.relu if slope == 0 else partial(nn.leaky_relu, negative_slope=slope)

    @partial(jax.jit, static_argnums=0)
    def value_and_gradient(function, x):
        y, backward = jax.vjp(function, x)
        return y, backward(y)

    actual = value_and_gradient(lambda x: net.apply(params, {}, x)[0], x)
    jax.tree.map(np.testing.assert_array_equal, actual, value_and_gradient(function, x))


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_maxout_has_k_times_the_parameters(pieces):
    vectors, images = jnp.ones((2, 6)), jnp.ones((2, 4, 4, 3))
    assert size(nn.maxout(7, pieces), vectors) == pieces * size(nn.linear(7), vectors)
    assert size(nn.conv_maxout(7, 3, pieces), images) == pieces * size(nn.conv(7, 3), images)


@pytest.mark.parametrize(("initializer", "growth"), [(nn.xavier, 1.0), (nn.kaiming, 2.0)])
def test_the_size_of_the_signal_behind_two_pieces(initializer, growth):
    """E[max(s₁, s₂)²] = Var(s) for independent normal s₁, s₂."""
    x = jax.random.normal(KEY, (300, 300))
    net = nn.maxout(300, kernel_init=initializer)
    params, _ = net.init(jax.random.key(1), x)
    np.testing.assert_allclose(jnp.square(net.apply(params, {}, x)[0]).mean(), growth, rtol=0.1)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: nn.maxout(0), "features must be at least 1, not 0"),
        (lambda: nn.maxout(3, 0), "pieces must be at least 1, not 0"),
        (lambda: nn.conv_maxout(3, 3, 0), "pieces must be at least 1, not 0"),
        (lambda: nn.conv_maxout(3, 3, 2, groups=2), "groups must divide features, .*2 does not divide 3"),
    ],
)
def test_maxout_refuses(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()


def test_maxout_of_no_examples():
    net = nn.maxout(3)
    params, _ = net.init(KEY, jnp.ones((1, 4)))
    assert net.apply(params, {}, jnp.ones((0, 4)))[0].shape == (0, 3)
