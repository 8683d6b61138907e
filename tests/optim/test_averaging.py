"""Accumulated gradients, averaged weights, lookahead."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

GRADIENTS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


def walk(optimizer: optim.Optimizer, params: Any, gradients: Any = GRADIENTS) -> tuple[Any, Any]:
    """The parameters and states after each of the given gradients, in one scan."""

    def step(carry: Any, gradient: Any) -> tuple[Any, Any]:
        params, state = carry
        updates, state = optimizer.update(gradient.astype(params.dtype), state, params)
        params = optim.apply_updates(params, updates)
        return (params, state), (params, state)

    return jax.lax.scan(step, (params, optimizer.init(params)), jnp.asarray(gradients))[1]


# --- accumulated gradients --------------------------------------------------------------------------------


def test_accumulating_is_stepping_with_the_means() -> None:
    schedule = optim.piecewise((2,), (0.1, 0.01))  # of steps, not of gradients
    accumulated, states = walk(optim.accumulate_gradients(optim.adam(schedule), 3), jnp.ones(3))
    stepped, _ = walk(optim.adam(schedule), jnp.ones(3), GRADIENTS.reshape(4, 3, 3).mean(1))
    np.testing.assert_allclose(accumulated[2::3], stepped, rtol=1e-5)
    np.testing.assert_array_equal(accumulated[:2], 1.0)
    np.testing.assert_array_equal(accumulated[3:5], np.stack([accumulated[2]] * 2))
    assert states.count.tolist() == list(range(1, 13))
    assert states.inner.count.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    np.testing.assert_allclose(states.sum_of_gradients[1], GRADIENTS[:2].sum(0), rtol=1e-6)
    np.testing.assert_array_equal(states.sum_of_gradients[2], 0.0)


def test_small_gradients_add_up_in_bfloat16() -> None:
    gradients = np.array([[1.0], *[[2**-9]] * 255])
    params, _ = walk(optim.accumulate_gradients(optim.sgd(256.0), 256), jnp.zeros(1, jnp.bfloat16), gradients)
    np.testing.assert_allclose(float(params[-1, 0]), -(1 + 255 / 512), rtol=1e-2)


# --- the average of the weights ---------------------------------------------------------------------------


def test_the_average_starts_at_the_initial_weights_and_takes_in_those_after_each_update() -> None:
    start = jnp.array([1.0, -2.0, 3.0])
    params, states = walk(optim.ema(optim.sgd(0.5), decay=0.75), start)
    plain, _ = walk(optim.sgd(0.5), start)
    np.testing.assert_array_equal(params, plain)
    expected = np.asarray(start)
    for x, average in zip(np.asarray(plain), states.average, strict=True):
        expected = 0.75 * expected + 0.25 * x
        np.testing.assert_allclose(average, expected, rtol=1e-5)


def test_the_average_of_a_chain_is_of_projected_weights() -> None:
    optimizer = optim.ema(optim.chain(optim.sgd(0.0), optim.max_norm(1.0, pattern="*")), decay=0.0)
    params = jnp.array([[3.0], [4.0]])
    _, state = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(optim.averaged_params(params, state), [[0.6], [0.8]], rtol=1e-6)


def test_small_steps_move_the_average_in_bfloat16() -> None:
    gradients = np.array([[1.0], [0.0]])
    params, states = walk(optim.ema(optim.sgd(1.0), 0.999), jnp.ones(1, jnp.bfloat16), gradients)
    np.testing.assert_allclose(states.average, [[0.999], [0.999**2]], rtol=1e-6)
    assert optim.averaged_params(params, states).dtype == jnp.bfloat16


def test_averaged_params_finds_the_average_anywhere_and_leaves_the_rest() -> None:
    params = {"a": {"kernel": jnp.array([[8.0]]), "bias": jnp.array([8.0])}}
    averaging = optim.ema(optim.sgd(1.0), decay=0.5)
    everywhere = [
        averaging,
        optim.chain(optim.clip_by_value(100.0), averaging),
        optim.lookahead(averaging, every=10),
        optim.by_path(optim.group("*", averaging), default=optim.sgd(1.0)),
        optim.accumulate_gradients(optim.chain(averaging), every=1),
    ]
    for optimizer in everywhere:
        _, state = optimizer.update(params, optimizer.init(params), params)
        average = optim.averaged_params(params, state)
        assert jax.tree.map(lambda x: x.tolist(), average) == {"a": {"kernel": [[4.0]], "bias": [4.0]}}
    some = optim.by_path(optim.group("*bias", averaging), default=optim.sgd(1.0))
    _, state = some.update(params, some.init(params), params)
    average = jax.jit(optim.averaged_params)(params, state)
    assert jax.tree.map(lambda x: x.tolist(), average) == {"a": {"kernel": [[8.0]], "bias": [4.0]}}
    none = optim.chain(optim.adam(0.1))
    assert optim.averaged_params(params, none.init(params)) is params


def test_a_state_shares_no_buffer_with_the_parameters() -> None:
    params = jnp.ones(3)
    for optimizer in (optim.ema(optim.sgd(0.1)), optim.lookahead(optim.sgd(0.1))):
        leaves = jax.tree.leaves(optimizer.init(params))
        assert all(leaf.unsafe_buffer_pointer() != params.unsafe_buffer_pointer() for leaf in leaves)


# --- lookahead --------------------------------------------------------------------------------------------


def test_lookahead_meets_its_slow_weights_every_few_steps() -> None:
    params, states = walk(optim.lookahead(optim.sgd(0.5), every=4, slow_step=0.25), jnp.zeros(3))
    slow = np.zeros(3)
    for first in (0, 4, 8):
        fast = slow - 0.5 * np.cumsum(GRADIENTS[first : first + 4], axis=0)
        np.testing.assert_allclose(params[first : first + 3], fast[:3], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(states.slow[first + 2], slow, rtol=1e-5, atol=1e-6)
        slow = slow + 0.25 * (fast[3] - slow)
        np.testing.assert_allclose(params[first + 3], slow, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(states.slow[first + 3], slow, rtol=1e-5, atol=1e-6)


def test_a_slow_step_of_one_is_no_lookahead_and_of_zero_stands_still() -> None:
    whole, _ = walk(optim.lookahead(optim.adam(0.1), every=3, slow_step=1.0), jnp.zeros(3))
    plain, _ = walk(optim.adam(0.1), jnp.zeros(3))
    np.testing.assert_allclose(whole, plain, rtol=1e-4, atol=1e-6)
    none, _ = walk(optim.lookahead(optim.adam(0.1), every=3, slow_step=0.0), jnp.ones(3))
    np.testing.assert_allclose(none[2::3], np.ones((4, 3)), rtol=1e-6)


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [optim.ema, optim.lookahead])
def test_a_wrapper_needs_an_optimizer_and_the_parameters(wrapper: Any) -> None:
    optimizer = wrapper(optim.sgd(0.1))
    with pytest.raises(TypeError, match=rf"{wrapper.__name__} needs the parameters: update\(grads, state, p"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
    with pytest.raises(TypeError, match=f"{wrapper.__name__} takes optimizers, not sgd; an optimizer's func"):
        wrapper(optim.sgd)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.accumulate_gradients(optim.sgd(0.1), 0), "every must be at least 1, not 0"),
        (lambda: optim.ema(optim.sgd(0.1), 1.0), "decay must be at least 0 and below 1, not 1.0"),
        (lambda: optim.lookahead(optim.sgd(0.1), 0), "every must be at least 1, not 0"),
        (
            lambda: optim.lookahead(optim.sgd(0.1), slow_step=1.5),
            "slow_step must be at least 0 and at most 1, not 1.5",
        ),
    ],
)
def test_a_number_out_of_range_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("wrapper", [optim.accumulate_gradients, optim.lookahead])
def test_a_fraction_of_a_step_is_refused(wrapper: Any) -> None:
    for every in (2.5, 256 / 100, np.float64(1.5), jnp.float32(2.5)):
        with pytest.raises(TypeError, match=rf"every must be an integer, not {re.escape(repr(every))}"):
            wrapper(optim.sgd(0.1), every)
    wanted, _ = walk(wrapper(optim.sgd(0.1), 4), jnp.ones(3))
    for every in (256 / 64, np.int64(4), jnp.float32(4)):
        np.testing.assert_array_equal(walk(wrapper(optim.sgd(0.1), every), jnp.ones(3))[0], wanted)
    traced = jax.jit(lambda every: walk(wrapper(optim.sgd(0.1), every), jnp.ones(3))[0])(4.0)
    np.testing.assert_allclose(traced, wanted, rtol=1e-6)


def test_accumulating_takes_an_optimizer() -> None:
    with pytest.raises(TypeError, match="accumulate_gradients takes optimizers, not sgd"):
        optim.accumulate_gradients(optim.sgd, 2)
