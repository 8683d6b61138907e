"""Schedules by value where they turn, and as values that pass through jit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

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
    "cosine that only warms up": (optim.cosine(1.0, steps=2, warmup=0.99), {0: 0.5, 1: 1.0, 2: 1.0, 3: 0.0}),
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
    steps, expected = list(table), list(table.values())
    for values in (
        jnp.stack([schedule(step) for step in steps]),
        schedule(jnp.array(steps)),
        jax.jit(lambda schedule, steps: schedule(steps))(schedule, jnp.array(steps)),
        jax.vmap(schedule)(jnp.array(steps)),
    ):
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, np.array(expected), rtol=2e-6, atol=1e-7)
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


def test_end_points_may_be_traced_and_mapped() -> None:
    peaks = jnp.array([1.0, 2.0])
    values = jax.jit(jax.vmap(lambda peak: optim.cosine(peak, 10, warmup=0.2)(6)))(peaks)
    np.testing.assert_allclose(values, [0.5, 1.0], rtol=1e-6)
    drops = jax.vmap(lambda step: optim.piecewise((step, 4), (1.0, 0.5, 0.1))(2))(jnp.array([2, 3]))
    np.testing.assert_allclose(drops, [0.5, 1.0])


def test_a_gradient_passes_to_the_end_points() -> None:
    slope = jax.grad(lambda initial: optim.step_decay(initial, every=2, factor=0.5)(4))(1.0)
    assert float(slope) == 0.25


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
