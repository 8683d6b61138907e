"""Schedules by value where they turn, and as values that pass through jit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

TORCH = np.load(Path(__file__).with_name("torch_loss_values.npz"))

# Schedule, then {step: value written from the formula}.
CASES: dict[str, tuple[Any, dict[int, float]]] = {
    "step_decay": (
        optim.step_decay(0.8, every=10, factor=0.5),
        {0: 0.8, 9: 0.8, 10: 0.4, 19: 0.4, 20: 0.2, 1000: 0.8 * 0.5**100},
    ),
    "step_decay, default factor": (optim.step_decay(1.0, every=3), {2: 1.0, 3: 0.1, 6: 0.01}),
    "exponential": (
        optim.exponential(0.8, rate=0.25, every=10),
        {0: 0.8, 5: 0.4, 10: 0.2, 15: 0.1, 20: 0.05},
    ),
    "exponential that grows": (optim.exponential(1e-6, rate=10.0, every=2), {0: 1e-6, 1: 10**-5.5, 12: 1.0}),
    "inverse_time": (optim.inverse_time(0.8, rate=3.0), {0: 0.8, 1: 0.2, 2: 0.8 / 7, 1000: 0.8 / 3001}),
    "inverse_time of epochs": (
        optim.inverse_time(0.8, rate=1.0, every=10),
        {0: 0.8, 5: 0.8 / 1.5, 10: 0.4, 30: 0.2},
    ),
    "polynomial": (optim.polynomial(0.8, steps=10), {0: 0.8, 1: 0.72, 5: 0.4, 9: 0.08, 10: 0, 11: 0}),
    "polynomial that rises": (
        optim.polynomial(0.5, steps=7, end=0.99),
        {0: 0.5, 1: 0.57, 6: 0.92, 7: 0.99, 8: 0.99, 1000: 0.99},
    ),
    "polynomial of power 3": (
        optim.polynomial(0.9, steps=10, end=0.1, power=3.0),
        {0: 0.9, 5: 0.2, 9: 0.1008, 10: 0.1, 99: 0.1},
    ),
    "cosine": (
        optim.cosine(0.6, steps=100),
        {0: 0.6, 25: 0.3 * (1 + np.sqrt(0.5)), 50: 0.3, 99: 0.3 * (1 + np.cos(0.99 * np.pi)), 100: 0, 101: 0},
    ),
    "cosine with warm-up and end": (
        optim.cosine(1.0, steps=100, warmup=0.2, end=0.1),
        {
            0: 1 / 20,
            1: 2 / 20,
            18: 19 / 20,
            19: 1.0,
            20: 1.0,
            40: 0.1 + 0.45 * (1 + np.sqrt(0.5)),
            60: 0.55,
            100: 0.1,
            500: 0.1,
        },
    ),
    "cosine with a warm-up of 2.5 steps": (  # rounded to 2: it never rises above its peak
        optim.cosine(1.0, steps=10, warmup=0.25),
        {0: 0.5, 1: 1.0, 2: 1.0, 6: 0.5, 10: 0.0},
    ),
    "cosine that only warms up": (optim.cosine(1.0, steps=2, warmup=0.99), {0: 0.5, 1: 1.0, 2: 0.0, 3: 0.0}),
    "warm_restarts": (
        optim.warm_restarts(0.8, period=4),
        {
            0: 0.8,
            1: 0.4 * (1 + np.sqrt(0.5)),
            2: 0.4,
            3: 0.4 * (1 - np.sqrt(0.5)),
            4: 0.8,
            8: 0.8,
            4002: 0.4,
        },
    ),
    "warm_restarts that grow": (  # restarts at 3, 9, 21
        optim.warm_restarts(1.0, period=3, multiplier=2.0, end=0.2),
        {0: 1.0, 2: 0.4, 3: 1.0, 6: 0.6, 8: 0.6 - 0.4 * np.sqrt(0.75), 9: 1.0, 15: 0.6, 21: 1.0, 33: 0.6},
    ),
    "warm_restarts that grow by a half": (  # at 3, 7.5, 14.25, 24.375, that is 3, 8, 14, 24
        optim.warm_restarts(1.0, period=3, multiplier=1.5),
        {0: 1.0, 3: 1.0, 7: 0.5 * (1 + np.cos(0.8 * np.pi)), 8: 1.0, 11: 0.5, 14: 1.0, 19: 0.5, 24: 1.0},
    ),
    "warm_restarts at every step": (optim.warm_restarts(0.5, period=1), {0: 0.5, 1: 0.5, 7: 0.5}),
    "one_cycle": (
        optim.one_cycle(0.8, steps=20, warmup=0.4, start_factor=0.25, end_factor=0.5),
        {
            0: 0.2,
            2: 0.5 - 0.3 * np.sqrt(0.5),
            4: 0.5,
            8: 0.8,
            14: 0.6,
            19: 0.6 - 0.2 * np.cos(np.pi / 12),
            20: 0.4,
            21: 0.4,
        },
    ),
    "one_cycle, default": (optim.one_cycle(0.5, steps=10), {0: 0.02, 3: 0.5, 10: 0.0, 99: 0.0}),
    "one_cycle of a momentum": (
        optim.one_cycle(0.8, steps=10, warmup=0.5, start_factor=1.25, end_factor=1.25),
        {0: 1.0, 5: 0.8, 10: 1.0, 99: 1.0},
    ),
    "one_cycle without a rise": (optim.one_cycle(0.8, steps=4, warmup=0.0), {0: 0.8, 2: 0.4, 4: 0.0}),
    "linear_warmup": (
        optim.linear_warmup(0.8, steps=40, warmup=0.1),
        {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 0.8, 1000: 0.8},
    ),
    "linear_warmup of a schedule": (  # which counts from the start of the run
        optim.linear_warmup(optim.step_decay(0.8, every=3, factor=0.5), steps=10, warmup=0.5),
        {0: 0.16, 2: 0.48, 3: 0.32, 4: 0.4, 5: 0.4, 6: 0.2},
    ),
    "linear_warmup of no steps": (optim.linear_warmup(0.8, steps=10, warmup=0.0), {0: 0.8, 1: 0.8}),
    "join": (  # each counts from its own start
        optim.join(
            optim.polynomial(0.1, steps=5, end=0.6),
            optim.step_decay(0.8, every=2, factor=0.5),
            optim.warm_restarts(0.4, period=2, multiplier=2.0),
            boundaries=(5, 9),
        ),
        {0: 0.1, 4: 0.5, 5: 0.8, 6: 0.8, 7: 0.4, 8: 0.4, 9: 0.4, 10: 0.2, 11: 0.4, 13: 0.2, 15: 0.4},
    ),
    "join of one": (optim.join(optim.step_decay(0.8, every=2), boundaries=()), {0: 0.8, 2: 0.08}),
    "piecewise": (
        optim.piecewise((3, 7), (1.0, 0.3, 0.6)),
        {0: 1.0, 2: 1.0, 3: 0.3, 6: 0.3, 7: 0.6, 1000: 0.6},
    ),
    "piecewise without boundaries": (optim.piecewise((), (0.5,)), {0: 0.5, 9: 0.5}),
    "piecewise of schedules": (
        optim.piecewise((4,), (0.5, optim.step_decay(1.0, every=5))),
        {3: 0.5, 4: 1.0, 5: 0.1},
    ),
}
every_schedule = pytest.mark.parametrize("name", CASES)


@every_schedule
def test_values_for_python_integers_integer_arrays_and_traced_steps(name: str) -> None:
    schedule, table = CASES[name]
    # Of one length, so that JAX compiles nothing anew for each case.
    steps = np.resize(list(table), 12)
    expected = np.resize(list(table.values()), 12)
    for values in (
        jnp.stack([schedule(step) for step in steps.tolist()]),
        schedule(jnp.array(steps)),
        jax.jit(lambda schedule, steps: schedule(steps))(schedule, jnp.array(steps)),
        jax.vmap(schedule)(jnp.array(steps)),
    ):
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=1e-7)
    assert schedule(0).shape == ()


@every_schedule
def test_a_schedule_is_a_partial_whose_end_points_pass_through_jit(name: str) -> None:
    schedule, _ = CASES[name]
    assert isinstance(schedule, jax.tree_util.Partial)
    traces = []

    @jax.jit
    def value(schedule: Any, step: Any) -> jax.Array:
        traces.append(name)
        return schedule(step)

    at_0 = float(value(schedule, 0))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, schedule)
    assert float(value(doubled, 0)) != at_0 or name == "cosine that only warms up"
    value(schedule, 5)
    assert len(traces) == 1


PYTORCH: dict[str, Any] = {
    "polynomial": optim.polynomial(0.8, steps=40, power=2.5),
    "linear": optim.polynomial(0.8, steps=40, end=0.2),
    "warm_restarts": optim.warm_restarts(0.8, period=7, multiplier=2.0, end=0.1),
    "equal_restarts": optim.warm_restarts(0.8, period=7),
    # PyTorch's T steps end at T - 1, after a rise of pct_start · T - 1.
    "one_cycle": optim.one_cycle(0.8, steps=40, warmup=0.3, end_factor=0.04 / 1e4),
    "chained": optim.linear_warmup(optim.exponential(0.8, 0.95), steps=60, warmup=0.2),
    "sequential": optim.join(
        optim.linear_warmup(0.8, steps=12, warmup=1.0), optim.exponential(0.8, 0.95), boundaries=(12,)
    ),
}


@pytest.mark.parametrize("name", PYTORCH)
def test_values_of_pytorch(name: str) -> None:
    expected = TORCH[name]
    values = PYTORCH[name](jnp.arange(len(expected)))
    np.testing.assert_allclose(values, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_warm_restarts_fall_on_the_exact_step(multiplier: int) -> None:
    schedule = jax.jit(
        lambda period, steps: optim.warm_restarts(1.0, period, float(multiplier), end=0.25)(steps)
    )
    for period in (3, 7, 469, 1000):
        restarts, length = [period], period
        while restarts[-1] < 400_000 and len(restarts) < 300:
            length *= multiplier
            restarts.append(restarts[-1] + length)
        first = np.array([restart for restart in restarts if restart < 400_000])
        np.testing.assert_array_equal(schedule(period, jnp.asarray(np.resize(first, 300))), 1.0)
        assert (schedule(period, jnp.asarray(np.resize(first, 300) - 1)) < 0.8).all()


@pytest.mark.parametrize("multiplier", [1.0, 1.5])
def test_warm_restarts_make_no_nan_on_the_way(multiplier: float) -> None:
    def value(end_points: Any) -> jax.Array:
        peak, multiplier, end = end_points
        return optim.warm_restarts(peak, 4, multiplier, end)(6)

    with jax.debug_nans(True):
        peak, _, end = gradients = jax.grad(value)((1.0, multiplier, 0.0))
    assert np.isfinite(gradients).all()
    np.testing.assert_allclose(peak + end, 1.0, rtol=1e-6)


@pytest.mark.parametrize("make", [optim.cosine, optim.one_cycle])
def test_the_end_comes_though_all_steps_warm_up(make: Any) -> None:
    schedule = make(1.0, steps=8, warmup=0.95)
    assert float(schedule(7)) > 0.9
    np.testing.assert_allclose([schedule(8), schedule(100)], 0, atol=1e-6)


def test_end_points_may_be_traced_and_mapped() -> None:
    peaks = jnp.array([1.0, 2.0])
    values = jax.jit(jax.vmap(lambda peak: optim.cosine(peak, 10, warmup=0.2)(6)))(peaks)
    np.testing.assert_allclose(values, [0.5, 1.0], rtol=1e-6)
    drops = jax.vmap(lambda step: optim.piecewise((step, 4), (1.0, 0.5, 0.1))(2))(jnp.array([2, 3]))
    np.testing.assert_allclose(drops, [0.5, 1.0])


def test_a_gradient_passes_to_the_end_points() -> None:
    slope = jax.grad(lambda initial: optim.step_decay(initial, every=2, factor=0.5)(4))(1.0)
    assert float(slope) == 0.25
    # 1 before the first drop, factor after it, then its square.
    slopes = jax.jacobian(lambda factor: optim.step_decay(1.0, 2, factor)(jnp.arange(6)))(0.0)
    assert slopes.tolist() == [0, 0, 1, 1, 0, 0]


def test_step_decay_drops_on_the_exact_step_for_any_interval() -> None:
    every = jnp.arange(1, 400)
    last, first = (
        jax.jit(jax.vmap(lambda e, offset=offset: optim.step_decay(1.0, e, factor=0.5)(7 * e + offset)))(
            every
        )
        for offset in (-1, 0)
    )
    assert set(last.tolist()) == {0.5**6}
    assert set(first.tolist()) == {0.5**7}


def test_value_at_takes_numbers_arrays_and_schedules() -> None:
    assert float(optim.value_at(0.5, 3)) == 0.5
    assert float(optim.value_at(jnp.array(2, jnp.bfloat16), 3)) == 2.0
    assert float(optim.value_at(lambda count: 2.0 * count, jnp.array(3))) == 6.0
    assert {optim.value_at(h, 0).dtype for h in (1, 1.0, jnp.array(1.0), lambda count: count)} == {
        jnp.dtype("float32")
    }
    with pytest.raises(ValueError, match=r"a hyperparameter must be a scalar, not an array of shape \(2,\)"):
        optim.value_at(jnp.ones(2), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.step_decay(-1.0, 2), "initial must be at least 0, not -1.0"),
        (lambda: optim.step_decay(1.0, 0), "every must be at least 1, not 0"),
        (lambda: optim.step_decay(1.0, 2, factor=-0.1), "factor must be at least 0, not -0.1"),
        (lambda: optim.exponential(-1.0, 0.5), "initial must be at least 0, not -1.0"),
        (lambda: optim.exponential(1.0, 0.0), "rate must be above 0, not 0.0"),
        (lambda: optim.exponential(1.0, 0.5, every=0), "every must be at least 1, not 0"),
        (lambda: optim.inverse_time(-1.0, 0.5), "initial must be at least 0, not -1.0"),
        (lambda: optim.inverse_time(1.0, -0.5), "rate must be at least 0, not -0.5"),
        (lambda: optim.inverse_time(1.0, 0.5, every=0), "every must be at least 1, not 0"),
        (lambda: optim.polynomial(-1.0, 5), "initial must be at least 0, not -1.0"),
        (lambda: optim.polynomial(1.0, 0), "steps must be at least 1, not 0"),
        (lambda: optim.polynomial(1.0, 5, end=-1.0), "end must be at least 0, not -1.0"),
        (lambda: optim.polynomial(1.0, 5, power=0.0), "power must be above 0, not 0.0"),
        (lambda: optim.warm_restarts(-1.0, 5), "peak must be at least 0, not -1.0"),
        (lambda: optim.warm_restarts(1.0, 0), "period must be at least 1, not 0"),
        (lambda: optim.warm_restarts(1.0, 5, 0.5), "multiplier must be at least 1, not 0.5"),
        (lambda: optim.warm_restarts(1.0, 5, end=-1.0), "end must be at least 0, not -1.0"),
        (lambda: optim.one_cycle(-1.0, 5), "peak must be at least 0, not -1.0"),
        (lambda: optim.one_cycle(1.0, 0), "steps must be at least 1, not 0"),
        (lambda: optim.one_cycle(1.0, 5, warmup=1.0), "warmup must be at least 0 and below 1, not 1.0"),
        (lambda: optim.one_cycle(1.0, 5, start_factor=-1.0), "start_factor must be at least 0, not -1.0"),
        (lambda: optim.one_cycle(1.0, 5, end_factor=-1.0), "end_factor must be at least 0, not -1.0"),
        (lambda: optim.linear_warmup(-1.0, 5), "after must be at least 0, not -1.0"),
        (lambda: optim.linear_warmup(1.0, 0), "steps must be at least 1, not 0"),
        (lambda: optim.linear_warmup(1.0, 5, 1.5), "warmup must be at least 0 and at most 1, not 1.5"),
        (
            lambda: optim.join(optim.cosine(1.0, 5), optim.cosine(1.0, 5), boundaries=()),
            "join needs one more schedule than boundaries, not 2 schedules for 0 boundaries",
        ),
        (
            lambda: optim.join(optim.cosine(1.0, 5), optim.cosine(1.0, 5), boundaries=(0,)),
            "each of boundaries must be at least 1, not 0",
        ),
        (
            lambda: optim.join(*3 * [optim.cosine(1.0, 5)], boundaries=(4, 3)),
            r"boundaries must rise strictly, not \(4, 3\)",
        ),
        (lambda: optim.cosine(-1.0, 10), "peak must be at least 0, not -1.0"),
        (lambda: optim.cosine(1.0, 0), "steps must be at least 1, not 0"),
        (lambda: optim.cosine(1.0, 10, warmup=1.0), "warmup must be at least 0 and below 1, not 1.0"),
        (lambda: optim.cosine(1.0, 10, end=-1.0), "end must be at least 0, not -1.0"),
        (lambda: optim.piecewise((1,), (1.0, -1.0)), "each of values must be at least 0, not -1.0"),
        (lambda: optim.piecewise((0,), (1.0, 0.5)), "each of boundaries must be at least 1, not 0"),
        (lambda: optim.piecewise((2, 2), (1.0, 0.5, 0.1)), r"boundaries must rise strictly, not \(2, 2\)"),
        (
            lambda: optim.piecewise((1, 2), (1.0, 0.5)),
            "piecewise needs one more value than boundaries, not 2 values for 2 boundaries",
        ),
    ],
)
def test_what_makes_no_schedule_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_join_refuses_what_is_not_a_schedule_with_what_to_do() -> None:
    with pytest.raises(
        TypeError, match=r"join takes schedules, not 0\.1; a constant piece is piecewise\(\(\), "
    ):
        optim.join(0.1, optim.cosine(1.0, 5), boundaries=(2,))  # type: ignore[arg-type]
