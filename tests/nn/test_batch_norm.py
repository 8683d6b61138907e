"""Batch normalisation by value: running statistics, masks, precision, gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, ops

KEY = jax.random.key(0)
SHAPES = {"vectors": (6, 3), "images": (6, 4, 5, 3)}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)

MASKS = {
    "padded at the end": [1, 1, 1, 1, 0, 0],
    "padded in front": [0, 0, 1, 1, 1, 1],
    "padded anywhere": [1, 0, 1, 1, 0, 1],
    "one real row": [0, 0, 1, 0, 0, 0],
}
each_mask = pytest.mark.parametrize("mask", [np.array(mask, bool) for mask in MASKS.values()], ids=MASKS)


def batches(shape, count, seed=0):
    """Batches of different means and deviations."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=shape) * rng.uniform(0.5, 3, shape[-1]) + rng.normal(size=shape[-1]) * 2).astype(
            np.float32
        )
        for _ in range(count)
    ]


def rows(x):
    return np.asarray(x, np.float64).reshape(-1, x.shape[-1])


def expected_output(x, scale, bias, eps=1e-5, mean=None, var=None):
    """From the formula in float64; the batch's own biased variance unless statistics are given."""
    mean = rows(x).mean(0) if mean is None else mean
    var = rows(x).var(0, ddof=0) if var is None else var
    mean, var, scale, bias = (np.asarray(numbers, np.float64) for numbers in (mean, var, scale, bias))
    x = np.asarray(x, np.float64)
    return scale * (x - mean) / np.sqrt(var + eps) + bias


def learned(seed=1):
    rng = np.random.default_rng(seed)
    return {
        "scale": jnp.asarray(rng.uniform(0.5, 2, 3), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=3), jnp.float32),
    }


def test_starts_as_plain_normalisation():
    params, state = nn.batch_norm().init(KEY, jax.ShapeDtypeStruct((2, 5, 5, 4), jnp.float32))
    np.testing.assert_array_equal(params["scale"], np.ones(4))
    np.testing.assert_array_equal(params["bias"], np.zeros(4))
    np.testing.assert_array_equal(state["mean"], np.zeros(4))
    np.testing.assert_array_equal(state["var"], np.ones(4))


@each_shape
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("updates", [1, 2, 10])
def test_running_statistics_by_value(shape, momentum, updates):
    """Momentum weighs the old value; the running variance is the unbiased one."""
    net = nn.batch_norm(momentum=momentum)
    params, state = net.init(KEY, jnp.ones(shape))
    mean, var = np.zeros(3), np.ones(3)
    for x in batches(shape, updates):
        _, state = net.apply(params, state, x, train=True)
        mean = momentum * mean + (1 - momentum) * rows(x).mean(0)
        var = momentum * var + (1 - momentum) * rows(x).var(0, ddof=1)
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["var"], var, rtol=1e-5, atol=1e-6)


def test_momentum_is_nine_tenths_by_default():
    x = jnp.array([[1.0], [3.0]])
    params, state = nn.batch_norm().init(KEY, x)
    _, state = nn.batch_norm().apply(params, state, x, train=True)
    np.testing.assert_allclose(state["mean"], [0.9 * 0 + 0.1 * 2], rtol=1e-6)
    np.testing.assert_allclose(state["var"], [0.9 * 1 + 0.1 * 2], rtol=1e-6)  # biased would be 1.0


def test_momentum_may_be_traced():
    x = jnp.array([[1.0], [3.0]])
    params, state = nn.batch_norm().init(KEY, x)

    def mean(momentum):
        return nn.batch_norm(momentum=momentum).apply(params, state, x, train=True)[1]["mean"][0]

    np.testing.assert_allclose(jax.vmap(mean)(jnp.array([0.0, 0.5, 1.0])), [2, 1, 0], rtol=1e-6)


@each_shape
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_training_normalises_by_the_biased_variance_of_the_batch(shape, eps):
    (x,), params = batches(shape, 1), learned()
    net = nn.batch_norm(eps=eps)
    state = {"mean": jnp.full(3, 50.0), "var": jnp.full(3, 70.0)}  # not used
    y, _ = net.apply(params, state, x, train=True)
    np.testing.assert_allclose(y, expected_output(x, **params, eps=eps), rtol=1e-4, atol=1e-5)


@each_shape
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_evaluation_uses_the_running_statistics(shape, eps):
    (x,), params = batches(shape, 1), learned()
    state = {"mean": jnp.array([1.0, -2.0, 0.5]), "var": jnp.array([4.0, 0.25, 1.0])}
    y, new_state = nn.batch_norm(eps=eps).apply(params, state, x)
    expected = expected_output(x, **params, eps=eps, **state)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert new_state is state


def test_evaluation_of_one_example_does_not_depend_on_the_others():
    (x,), params = batches((6, 3), 1), learned()
    state = {"mean": jnp.ones(3), "var": jnp.full(3, 2.0)}
    whole, _ = nn.batch_norm().apply(params, state, x)
    one, _ = nn.batch_norm().apply(params, state, x[2:3])
    np.testing.assert_allclose(one, whole[2:3], rtol=1e-6)


def test_a_constant_channel_becomes_the_bias():
    x = jnp.full((8, 3), 7.0)
    params = learned()
    y, state = nn.batch_norm(momentum=0.0).apply(params, {"mean": x[0], "var": x[0]}, x, train=True)
    np.testing.assert_allclose(y, np.broadcast_to(params["bias"], (8, 3)), rtol=1e-6)
    np.testing.assert_array_equal(state["var"], np.zeros(3))
    gradient = jax.grad(
        lambda x: jnp.square(ops.batch_norm_train(x, params["scale"], params["bias"])[0]).sum()
    )(x)
    assert np.isfinite(gradient).all()


def test_one_example_alone_is_refused():
    net = nn.batch_norm()
    with pytest.raises(ValueError, match=r"one value for each mean.*\(1, 3\): train in batches of several"):
        net.apply(learned(), {"mean": jnp.zeros(3), "var": jnp.ones(3)}, jnp.ones((1, 3)), train=True)


@pytest.mark.parametrize("shape", [(0, 3), (0, 2, 2, 3), (2, 0, 2, 3)])
def test_an_empty_batch_is_refused(shape):
    net, state = nn.batch_norm(), {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"a batch without values has no mean, got shape \("):
        net.apply(learned(), state, jnp.ones(shape), train=True)
    assert net.apply(learned(), state, jnp.ones(shape))[0].shape == shape


def test_one_example_that_counts_has_a_mean_and_no_variance_and_none_has_neither():
    rows = jnp.array([[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]])
    state = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    net, mask = nn.batch_norm(momentum=0.5), jnp.array([True, False])
    y, state = net.apply(learned(), state, rows, train=True, mask=mask)
    np.testing.assert_allclose(y[0], learned()["bias"], rtol=1e-6)
    np.testing.assert_allclose(state["mean"], [0.5, 1, 1.5])
    np.testing.assert_array_equal(state["var"], [1, 1, 1])
    _, kept = net.apply(learned(), state, rows, train=True, mask=jnp.zeros(2, bool))
    jax.tree.map(np.testing.assert_array_equal, kept, state)


# Masks.


@jax.jit
@partial(jax.grad, argnums=(0, 1), has_aux=True)
def both(params, x, weights, mask=None):
    """Gradients of a loss, and the outputs and statistics."""
    y, state = nn.batch_norm().apply(
        params, {"mean": jnp.zeros(3), "var": jnp.ones(3)}, x, train=True, mask=mask
    )
    return (weights * y).sum(), (y, state)


@each_shape
@each_mask
def test_a_masked_batch_is_the_batch_without_its_padding(shape, mask):
    """Outputs of the real rows, statistics and gradients, whatever the padding holds."""
    (x,), params = batches(shape, 1), learned()
    x[~mask] = 37.0 * np.random.default_rng(5).normal(size=x[~mask].shape)
    weights = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    padded_weights = np.where(mask.reshape((-1,) + (1,) * (x.ndim - 1)), weights, 0)
    (d_params, dx), (y, new_state) = both(params, jnp.asarray(x), padded_weights, jnp.asarray(mask))
    if x[mask][..., 0].size == 1:  # refused as a batch of its own, since all of it becomes the bias
        e_params, e_dx, e_y = {"scale": np.zeros(3), "bias": weights[mask][0]}, 0, params["bias"][None]
        e_state = {"mean": x[mask][0] / 10, "var": np.ones(3)}
    else:
        (e_params, e_dx), (e_y, e_state) = both(params, jnp.asarray(x[mask]), weights[mask])
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    close(y[mask], e_y)
    close(dx[mask], e_dx)
    assert not np.asarray(dx)[~mask].any()
    jax.tree.map(close, (d_params, new_state), (e_params, e_state))


@each_shape
def test_a_mask_of_all_is_no_mask(shape):
    (x,), params = batches(shape, 1), learned()
    net = nn.batch_norm()
    _, state = net.init(KEY, x)
    plain = net.apply(params, state, x, train=True)
    masked = net.apply(params, state, x, train=True, mask=jnp.ones(6, bool))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), masked, plain)


def test_the_mask_changes_nothing_in_evaluation():
    (x,), params = batches((6, 3), 1), learned()
    _, state = nn.batch_norm().init(KEY, x)
    plain, _ = nn.batch_norm().apply(params, state, x)
    masked, _ = nn.batch_norm().apply(params, state, x, mask=jnp.zeros(6, bool))
    np.testing.assert_array_equal(masked, plain)


def test_the_mask_reaches_a_norm_inside_a_network():
    (x,) = batches((6, 3), 1)
    mask = np.array(MASKS["padded at the end"], bool)
    net = nn.serial(nn.residual(nn.linear(3), nn.batch_norm(), shortcut=nn.batch_norm()))
    params, state = net.init(KEY, x)
    y, masked = net.apply(params, state, x, train=True, mask=jnp.asarray(mask))
    expected_y, expected = net.apply(params, state, x[mask], train=True)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(y[mask], expected_y)
    jax.tree.map(close, masked, expected)


# Precision.


@each_shape
@pytest.mark.parametrize("mask", [None, MASKS["padded at the end"], MASKS["padded in front"]])
@pytest.mark.parametrize("mean", [1e4, 1e6])
def test_a_large_mean_costs_no_precision(shape, mask, mean):
    """E[x²] − E[x]² in float32 is off by whole units here, and 1e6 itself is rounded to a sixteenth."""
    shape = (60, *shape[1:])
    real = np.ones(60, bool) if mask is None else np.repeat(mask, 10).astype(bool)
    x = (np.random.default_rng(0).normal(size=shape) + mean).astype(np.float32)
    x[~real] = 0
    ones, zeros = jnp.ones(3), jnp.zeros(3)
    net = nn.batch_norm(momentum=0.0)
    y, state = net.apply(
        {"scale": ones, "bias": zeros},
        {"mean": zeros, "var": ones},
        jnp.asarray(x),
        train=True,
        mask=None if mask is None else jnp.asarray(real),
    )
    np.testing.assert_allclose(y[real], expected_output(x[real], ones, zeros), atol=1e-5)
    np.testing.assert_allclose(state["mean"], rows(x[real]).mean(0), rtol=1e-6)
    np.testing.assert_allclose(state["var"], rows(x[real]).var(0, ddof=1), rtol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_float32_statistics(dtype):
    (x,) = batches((64, 3), 1)
    x = jnp.asarray(x, dtype)
    net = nn.batch_norm()
    params, state = net.init(KEY, x)
    assert {leaf.dtype for leaf in params.values()} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in state.values()} == {jnp.dtype("float32")}
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(10):
        y, state = net.apply(params, state, x, train=True)
        mean, var = 0.9 * mean + 0.1 * rows(x).mean(0), 0.9 * var + 0.1 * rows(x).var(0, ddof=1)
    assert y.dtype == dtype
    assert {leaf.dtype for leaf in state.values()} == {jnp.dtype("float32")}
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["var"], var, rtol=1e-5)
    np.testing.assert_allclose(y.astype("float32"), expected_output(x, np.ones(3), np.zeros(3)), atol=2e-2)
    y, _ = net.apply(params, state, x)
    assert y.dtype == dtype
    gradient = jax.grad(lambda x: net.apply(params, state, x, train=True)[0].astype("float32").max())(x)
    assert gradient.dtype == dtype


# The gradient, which is written out in ops, against automatic differentiation in float64.


EPS = 0.01


def plain_loss(x, scale, bias, mask, weights):
    """The formula, step by step; `mask` holds ones and zeros."""
    broad = (1,) * (x.ndim - 1) + (-1,)
    counts = jnp.broadcast_to(mask.reshape((-1,) + (1,) * (x.ndim - 1)), x.shape)
    axes = tuple(range(x.ndim - 1))
    mean = (counts * x).sum(axes, keepdims=True) / counts.sum(axes, keepdims=True)
    var = (counts * (x - mean) ** 2).sum(axes, keepdims=True) / counts.sum(axes, keepdims=True)
    y = scale.reshape(broad) * (x - mean) / jnp.sqrt(var + EPS) + bias.reshape(broad)
    return (weights * jnp.sin(y)).sum()


def loss(x, scale, bias, mask, weights):
    y, *_ = ops.batch_norm_train(x, scale, bias, mask, eps=EPS)
    return (weights * jnp.sin(y)).sum()


plain_gradient = jax.jit(jax.grad(plain_loss, argnums=(0, 1, 2)))
gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))


@each_shape
@pytest.mark.parametrize("mask", [None, *MASKS.values()], ids=["no mask", *MASKS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient(shape, mask, dtype):
    """Of a loss that looks at every row, padding too: padding is normalised by the real rows' moments."""
    (x,), params = batches(shape, 1), learned()
    weights = np.random.default_rng(2).normal(size=shape)
    with jax.enable_x64(True):
        arguments = [np.asarray(a, np.float64) for a in (x, params["scale"], params["bias"])]
        expected = plain_gradient(
            *arguments, np.ones(len(x)) if mask is None else np.array(mask, float), weights
        )
        real = None if mask is None else np.array(mask, bool)
        actual = gradient(*(a.astype(dtype) for a in arguments), real, weights.astype(dtype))
    # With one real row of vectors the variance is 0 and padding lies far from it: larger numbers.
    tolerance = {"float32": 2e-3, "float64": 1e-9}[dtype]
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("masked", [False, True])
def test_no_gradient_flows_through_the_statistics(masked):
    """mean, var and m are for running averages: they add nothing to the gradient of y."""
    (x,), params = batches((6, 3), 1), learned()
    mask = jnp.asarray(np.array(MASKS["padded at the end"], bool)) if masked else None

    def loss(x, with_statistics):
        y, mean, var, count = ops.batch_norm_train(x, params["scale"], params["bias"], mask)
        return jnp.square(y).sum() + with_statistics * (mean.sum() + var.sum() + count)

    without, with_them = (jax.grad(loss)(jnp.asarray(x), factor) for factor in (0.0, 1.0))
    np.testing.assert_array_equal(without, with_them)


def test_the_gradient_in_evaluation_is_a_constant_factor():
    (x,), params = batches((6, 3), 1), learned()
    state = {"mean": jnp.ones(3), "var": jnp.array([4.0, 0.25, 1.0])}
    gradient = jax.grad(lambda x: nn.batch_norm(eps=1e-9).apply(params, state, x)[0].sum())(jnp.asarray(x))
    factor = np.asarray(params["scale"]) / np.sqrt([4, 0.25, 1])
    np.testing.assert_allclose(gradient, np.broadcast_to(factor, (6, 3)), rtol=1e-5)


def test_batch_moments():
    (x,) = batches((6, 4, 5, 3), 1)
    mask = np.array(MASKS["padded anywhere"], bool)
    for real in (None, mask):
        kept = x if real is None else x[real]
        mean, var, count = ops.batch_moments(jnp.asarray(x), None if real is None else jnp.asarray(real))
        np.testing.assert_allclose(mean, rows(kept).mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(var, rows(kept).var(0, ddof=0), rtol=1e-5)
        assert count == len(kept) * 20


@pytest.mark.parametrize(
    ("x", "mask", "problem"),
    [
        ((6, 3), np.ones(1, bool), r"a mask is an array of 6 booleans, .* got bool of shape \(1,\)"),
        ((6, 3), np.ones((6, 1), bool), r"of 6 booleans, one for each example, got bool of shape \(6, 1\)"),
        ((6, 3), np.ones(6, np.float32), r"of 6 booleans, one for each example, got float32 of shape \(6,\)"),
        ((6, 3), [True] * 6, r"of 6 booleans, one for each example, got list of shape \(6,\)"),
        ((6,), None, r"the moments of a batch are of \(batch, …, channels\), got shape \(6,\)"),
    ],
)
def test_moments_of_what_does_not_fit_are_refused(x, mask, problem):
    with pytest.raises(ValueError, match=problem):
        ops.batch_moments(jnp.ones(x), mask)


def test_another_number_of_channels_is_refused():
    net = nn.batch_norm()
    params, state = net.init(jax.random.key(0), jnp.ones((2, 1)))
    with pytest.raises(ValueError, match=r"expected 1 channels, got an input of shape \(2, 4\)"):
        net.apply(params, state, jnp.ones((2, 4)))
