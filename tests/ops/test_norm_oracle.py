"""Batch moments, batch normalisation and dropout of `fnn.ops`: NumPy in float64, PyTorch, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_cases import NORM, TORCH_VALUES, assert_close, generator, norm_arrays

from fnn import ops

cases = pytest.mark.parametrize("case", NORM, ids=lambda case: case.name)
shapes = pytest.mark.parametrize("shape", [(6, 3), (6, 4, 5, 3), (6, 7, 2)], ids=str)

MASKS = {
    "all": [True] * 6,
    "tail": [True, True, True, True, False, False],
    "head": [False, False, True, True, True, True],
    "scattered": [True, False, True, True, False, True],
    "one": [False, False, False, True, False, False],
}


# --- The oracle.


def moments(x):
    rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    mean = rows.sum(0) / len(rows)
    return mean, ((rows - mean) ** 2).sum(0) / len(rows), len(rows)


def column(mask, x):
    """The mask (N,) of x's rows, all by default, as numbers that broadcast over the other axes."""
    return np.reshape(np.ones(len(x)) if mask is None else mask, (-1, *(1,) * (x.ndim - 1)))


def normalise(x, scale, bias, eps, mask=None):
    mean, var, _ = moments(x if mask is None else x[mask])
    return (x - mean) / np.sqrt(var + eps) * scale + bias


def normalise_gradients(x, scale, cotangent, eps, mask=None):
    """With z = (x − mean)/σ: ∂scale = Σ c·z, ∂bias = Σ c, over all rows, since all of them are normalised;
    ∂x = scale/σ · (c − (Σ c + z · Σ c·z)/m), the part through the moments only at the m values in them.
    """
    mean, var, m = moments(x if mask is None else x[mask])
    sigma = np.sqrt(var + eps)
    z = (x - mean) / sigma
    axes = tuple(range(x.ndim - 1))
    dscale, dbias = (cotangent * z).sum(axes), cotangent.sum(axes)
    return scale / sigma * (cotangent - column(mask, x) * (dbias + z * dscale) / m), dscale, dbias


# --- What is tested.


def by_parts(x, scale, bias, mask, eps):
    mean, var, _ = ops.batch_moments(x, mask)
    return ops.batch_norm(x, scale, bias, mean, var, eps=eps)


def at_once(x, scale, bias, mask, eps):
    return ops.batch_norm_train(x, scale, bias, mask, eps=eps)[0]


forms = pytest.mark.parametrize("form", [by_parts, at_once], ids=lambda form: form.__name__)


def value_and_gradients(form, mask=None, eps=1e-5):
    def function(x, scale, bias, cotangent):
        y, pullback = jax.vjp(lambda *arrays: form(*arrays, mask, eps), x, scale, bias)
        return y, *pullback(cotangent)

    return jax.jit(function)


def assert_moments(got, want, tolerance=1e-9):
    assert_close(got[0], want[0], tolerance)
    assert_close(got[1], want[1], tolerance)
    np.testing.assert_array_equal(got[2], np.full(np.shape(got[2]), want[2]))


@shapes
def test_moments_are_numpys(shape, x64):
    x = generator("moments").normal(size=shape) * 2 + 5
    assert_moments(jax.jit(ops.batch_moments)(x), moments(x))
    assert_moments(ops.batch_moments(jnp.asarray(x)), moments(x))


def test_variance_is_the_biased_one():
    mean, var, count = ops.batch_moments(jnp.asarray([[1.0], [3.0]]))
    assert (float(mean[0]), float(var[0]), float(np.ravel(count)[0])) == (2.0, 1.0, 2.0)


@shapes
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masked_moments_are_those_of_the_real_rows(shape, mask, x64):
    x = generator("masked").normal(size=shape)
    mask = np.asarray(mask)
    want = moments(x[mask])
    assert_moments(jax.jit(ops.batch_moments)(x, mask), want)
    # Whatever stands in the other rows.
    assert_moments(
        jax.jit(ops.batch_moments)(np.where(mask.reshape(6, *(1,) * (x.ndim - 1)), x, 1e3), mask), want
    )


@pytest.mark.parametrize("filler", [1e30, np.inf, np.nan], ids=str)
@pytest.mark.parametrize("mask", [MASKS["tail"], MASKS["head"]], ids=["tail", "head"])
def test_rows_that_do_not_count_may_hold_anything(mask, filler):
    x = np.float32(generator("filler").normal(size=(6, 4, 5, 3)))
    mask = np.asarray(mask)
    want = moments(x[mask])
    x[~mask] = filler
    assert_moments(jax.jit(ops.batch_moments)(x, mask), want, 1e-5)


def test_moments_under_vmap(x64):
    """A population: every member has its own batch and its own mask."""
    x = generator("population").normal(size=(3, 6, 2, 4))
    mask = np.asarray([MASKS["all"], MASKS["scattered"], MASKS["head"]])
    mean, var, count = jax.vmap(ops.batch_moments)(x, mask)
    for k in range(3):
        assert_moments((mean[k], var[k], count[k]), moments(x[k][mask[k]]))


@shapes
@pytest.mark.parametrize("mask", [None, MASKS["scattered"]], ids=["no mask", "mask"])
def test_gradient_of_the_moments(shape, mask, x64):
    """∂mean/∂x = 1/m and ∂var/∂x = 2 (x − mean)/m at the rows that count, zero elsewhere."""
    rng = generator("moment gradients")
    x, for_mean, for_var = rng.normal(size=shape), rng.normal(size=shape[-1:]), rng.normal(size=shape[-1:])
    real = np.ones(6, bool) if mask is None else np.asarray(mask)
    mean, _, m = moments(x[real])
    want = column(real, x) * (for_mean + 2 * (x - mean) * for_var) / m

    _, pullback = jax.vjp(lambda x: ops.batch_moments(x, None if mask is None else real)[:2], x)
    assert_close(pullback((jnp.asarray(for_mean), jnp.asarray(for_var)))[0], want)


@cases
@forms
def test_batch_norm_and_its_gradient(case, form, x64):
    x, scale, bias, cotangent = norm_arrays(case)
    y, *gradients = value_and_gradients(form, eps=case.eps)(x, scale, bias, cotangent)
    assert_close(y, normalise(x, scale, bias, case.eps))
    for got, want in zip(gradients, normalise_gradients(x, scale, cotangent, case.eps), strict=True):
        assert_close(got, want)


@cases
@forms
def test_batch_norm_is_pytorchs(case, form, x64):
    with np.load(TORCH_VALUES) as file:
        stored = {
            key: file[f"norm/{case.name}/{key}"]
            for key in ("x", "scale", "bias", "cotangent", "y", "dx", "dscale", "dbias")
        }
    inputs = (stored[key] for key in ("x", "scale", "bias", "cotangent"))
    got = value_and_gradients(form, eps=case.eps)(*inputs)
    for value, key in zip(got, ("y", "dx", "dscale", "dbias"), strict=True):
        assert_close(value, stored[key])


@forms
@pytest.mark.parametrize("seen", [False, True], ids=["loss of real rows", "loss of all rows"])
def test_gradient_through_masked_moments(form, seen, x64):
    """The rows that do not count are normalised too; a loss that ignores them gives them no gradient."""
    rng = generator("masked gradients")
    x, cotangent = rng.normal(size=(6, 2, 3, 4)), rng.normal(size=(6, 2, 3, 4))
    scale, bias = rng.normal(size=4), rng.normal(size=4)
    mask = np.asarray(MASKS["scattered"])
    if not seen:
        cotangent[~mask] = 0
    y, *gradients = value_and_gradients(form, jnp.asarray(mask))(x, scale, bias, cotangent)
    assert_close(y, normalise(x, scale, bias, 1e-5, mask))
    for got, want in zip(gradients, normalise_gradients(x, scale, cotangent, 1e-5, mask), strict=True):
        assert_close(got, want)
    if not seen:
        np.testing.assert_array_equal(gradients[0][~mask], 0)


@pytest.mark.parametrize("mask", [None, MASKS["head"]], ids=["no mask", "mask"])
def test_batch_norm_train_returns_the_moments_without_gradient(mask, x64):
    x, one = generator("returned").normal(size=(6, 2, 3, 4)) + 3, jnp.ones(4)
    mask = None if mask is None else np.asarray(mask)
    train = jax.jit(lambda x: ops.batch_norm_train(x, 2 * one, one, mask)[1:])
    assert_moments(train(x), moments(x if mask is None else x[mask]))
    np.testing.assert_array_equal(jax.grad(lambda x: sum(map(jnp.sum, train(x))))(x), 0)


@pytest.mark.parametrize("mask", [None, MASKS["head"]], ids=["no mask", "mask"])
def test_second_derivatives_are_those_of_the_formula_written_in_steps(mask, x64):
    random = generator("second")
    x, weights = random.normal(size=(2, 6, 2, 3, 4))
    scale, bias = random.normal(size=(2, 4))
    rows = np.ones(6, bool) if mask is None else np.asarray(mask)

    def in_steps(x, scale, bias):
        seen = x[np.flatnonzero(rows)]
        mean = seen.mean((0, 1, 2), keepdims=True)
        variance = ((seen - mean) ** 2).mean((0, 1, 2), keepdims=True)
        normal = (x - mean) / jnp.sqrt(variance + 1e-5)
        return scale[None, None, None] * normal + bias[None, None, None]

    def fused(x, scale, bias):
        return ops.batch_norm_train(x, scale, bias, None if mask is None else rows)[0]

    def steepness(normalised):
        loss = lambda *given: jnp.sum(weights * jnp.tanh(normalised(*given)))  # noqa: E731
        slope = jax.grad(loss, argnums=(0, 1, 2))
        return jax.grad(lambda *given: sum(jnp.vdot(g, g) for g in slope(*given)), argnums=(0, 1, 2))

    want = steepness(in_steps)(x, scale, bias)
    for got, wanted in zip(steepness(fused)(x, scale, bias), want, strict=True):
        assert_close(got, wanted)


@forms
def test_batch_norm_under_vmap(form, x64):
    """A population: every member has its own batch, scale, bias and mask."""
    rng = generator("vmapped")
    x, cotangent = rng.normal(size=(2, 3, 6, 2, 4))
    scale, bias = rng.normal(size=(2, 3, 4))
    mask = np.asarray([MASKS["all"], MASKS["scattered"], MASKS["head"]])

    def member(x, scale, bias, cotangent, mask):
        return value_and_gradients(form, mask)(x, scale, bias, cotangent)

    results = jax.vmap(member)(x, scale, bias, cotangent, mask)
    for k in range(3):
        want = (
            normalise(x[k], scale[k], bias[k], 1e-5, mask[k]),
            *normalise_gradients(x[k], scale[k], cotangent[k], 1e-5, mask[k]),
        )
        for got, value in zip(results, want, strict=True):
            assert_close(got[k], value)


def test_eps_is_inside_the_root(x64):
    """A deviation of 3 from the mean, var 16, eps 9: 3 / √25, not 3 / (4 + 9) or 3 / (4 + 3)."""
    one = jnp.ones(1)
    y = ops.batch_norm(jnp.asarray([[5.0]]), 2 * one, 7 * one, 2 * one, 16 * one, eps=9.0)
    assert_close(y, [[3 / 5 * 2 + 7]])


def test_default_eps_is_1e_5(x64):
    one = jnp.ones(1)
    assert_close(ops.batch_norm(jnp.ones((1, 1)), one, 0 * one, 0 * one, 0 * one), [[1e5**0.5]])


@pytest.mark.parametrize("shape", [(50, 3), (64, 28, 28, 3)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
@forms
def test_a_mean_of_ten_thousand_deviations_in_float32(shape, masked, form):
    rng = generator("stability")
    x = np.float32(rng.normal([1e4, -1e4, 0.0], 1, shape))
    cotangent = np.float32(rng.normal(size=shape))
    scale, bias = np.ones(3, np.float32), np.zeros(3, np.float32)
    mask = None
    if masked:
        mask = np.ones(shape[0], bool)
        mask[[0, 1, -1]] = False
        x[~mask] = cotangent[~mask] = 0  # the usual filler, here ten thousand deviations off
    real = np.ones(shape[0], bool) if mask is None else mask

    y, dx, dscale, _ = value_and_gradients(form, mask)(x, scale, bias, cotangent)

    x, cotangent = np.float64(x), np.float64(cotangent)
    want_dx, want_dscale, _ = normalise_gradients(x, scale, cotangent, 1e-5, mask)
    atol = 1e-2 if form is by_parts else 1e-5  # the mean that the parts hand on is rounded
    np.testing.assert_allclose(y[real], normalise(x, scale, bias, 1e-5, mask)[real], rtol=0, atol=atol)
    np.testing.assert_allclose(dx[real], want_dx[real], rtol=0, atol=atol)
    np.testing.assert_allclose(dscale, want_dscale, rtol=0, atol=atol * np.sqrt(cotangent.size))


# --- Dropout.

X = np.float32(generator("dropout").uniform(1, 2, size=(200, 100)))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_zeroes_a_share_and_scales_the_rest(rate):
    y = np.asarray(ops.dropout(jax.random.key(0), jnp.asarray(X), rate))
    assert y.dtype == np.float32
    kept = y != 0
    np.testing.assert_allclose(y[kept], X[kept] / (1 - rate), rtol=1e-6)
    variance = rate * (1 - rate)
    assert abs(kept.sum() - X.size * (1 - rate)) < 4 * np.sqrt(X.size * variance)
    # Independent elements: the counts of rows and of columns scatter as binomials do.
    for axis in (0, 1):
        assert 0.5 < kept.sum(axis).var() / (X.shape[axis] * variance) < 2


def test_dropout_mask_is_a_function_of_the_key():
    def mask(key, x):
        return np.asarray(ops.dropout(key, jnp.asarray(x), 0.5)) != 0

    first = mask(jax.random.key(1), X)
    np.testing.assert_array_equal(mask(jax.random.key(1), X), first)
    np.testing.assert_array_equal(mask(jax.random.key(1), X + 1), first)
    same = (mask(jax.random.key(2), X) == first).sum()
    assert abs(same - X.size / 2) < 4 * np.sqrt(X.size / 4)


def test_dropout_at_rate_zero_is_the_identity():
    np.testing.assert_array_equal(ops.dropout(jax.random.key(0), jnp.asarray(X), 0.0), X)
    np.testing.assert_array_equal(jax.jit(ops.dropout)(jax.random.key(0), X, jnp.float32(0.0)), X)


def test_dropouts_gradient_is_its_mask():
    y, pullback = jax.vjp(lambda x: ops.dropout(jax.random.key(3), x, 0.75), jnp.asarray(X))
    (dx,) = pullback(jnp.ones_like(y))
    np.testing.assert_allclose(dx, np.where(np.asarray(y) != 0, 4.0, 0.0), rtol=1e-6)


def test_dropout_with_traced_rates_under_vmap():
    """A population of rates, one key: each member is the run it would have been alone."""
    rates = np.float32([0.0, 0.25, 0.5, 0.875])
    key = jax.random.key(4)
    together = jax.jit(jax.vmap(ops.dropout, (None, None, 0)))(key, X, rates)
    for y, rate in zip(np.asarray(together), rates, strict=True):
        np.testing.assert_allclose(y, ops.dropout(key, jnp.asarray(X), float(rate)), rtol=1e-6)
        assert abs((y != 0).sum() - X.size * (1 - rate)) <= 4 * np.sqrt(X.size * rate * (1 - rate))


def test_dropout_with_keys_under_vmap():
    keys = jax.random.split(jax.random.key(5), 3)
    together = np.asarray(jax.vmap(ops.dropout, (0, None, None))(keys, X, 0.5))
    for y, key in zip(together, keys, strict=True):
        np.testing.assert_array_equal(y, ops.dropout(key, jnp.asarray(X), 0.5))
    assert not np.array_equal(together[0], together[1])
