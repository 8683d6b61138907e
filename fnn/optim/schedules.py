"""Schedules: hyperparameters that are functions of the number of steps already taken.

A schedule here is a `jax.tree_util.Partial`: a function together with its end-points. The end-points are
the leaves of a pytree, so a schedule passes through `jit` as a value and other end-points compile nothing.

A schedule takes a Python integer, an integer array (of any shape, to draw its curve) or a traced step, and
gives float32. An end-point may itself be a schedule.
"""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from fnn._types import Array, Hyperparameter, Schedule, check_range

# --- what becomes of a hyperparameter -------------------------------------------------------------------


def value_at(hyperparameter: Hyperparameter, count: Array | int) -> Array:
    """The value of a hyperparameter after `count` steps: a schedule's at that count, a number's own.

    Args:
        hyperparameter: a number, a scalar array or a schedule.
        count: the number of steps already taken, 0 at the first.

    Returns:
        A scalar, float32 (float64 where `jax_enable_x64` is on): a number, an array and a schedule that
        agree lead to the same arithmetic.

    Raises:
        ValueError: if the value is not a scalar.

    Example:
        >>> from fnn.optim import step_decay, value_at
        >>> float(value_at(0.5, 7)), float(value_at(step_decay(0.5, every=5, factor=0.5), 7))
        (0.5, 0.25)
    """
    value = hyperparameter(jnp.asarray(count)) if callable(hyperparameter) else hyperparameter
    if jnp.ndim(value) != 0:
        raise ValueError(
            f"a hyperparameter must be a scalar, not an array of shape {jnp.shape(value)}; "
            "use jax.vmap for one run per value"
        )
    return jnp.asarray(value, float)


# --- the schedules --------------------------------------------------------------------------------------


def step_decay(initial: Hyperparameter, every: int, factor: Hyperparameter = 0.1) -> Schedule:
    """Multiply by a factor every so many steps.

        value(t) = initial · factor^⌊t / every⌋

    Args:
        initial: the value during the first `every` steps; at least 0.
        every: number of steps between two drops; at least 1.
        factor: what each drop multiplies by; at least 0.

    Raises:
        ValueError: if a number is out of its range.

    The drop falls on step `every` itself, counted from 0, as in PyTorch's StepLR.

    Example:
        >>> from fnn.optim import step_decay
        >>> schedule = step_decay(1.0, every=10, factor=0.5)
        >>> [float(schedule(t)) for t in (0, 9, 10, 20)]
        [1.0, 1.0, 0.5, 0.25]
    """
    check_range("initial", initial, at_least=0)
    check_range("every", every, at_least=1)
    check_range("factor", factor, at_least=0)
    return Partial(_step_decay, initial, every, factor)


def _step_decay(initial: Hyperparameter, every: Array, factor: Hyperparameter, count: Array) -> Array:
    drops = jnp.floor_divide(count, every)  # in integers: a rounded quotient could drop one step late
    return _end_point(initial, count) * _end_point(factor, count) ** drops.astype(jnp.float32)


def exponential(initial: Hyperparameter, rate: Hyperparameter, every: int = 1) -> Schedule:
    """Decay (or grow) by a constant ratio, continuously.

        value(t) = initial · rate^(t / every)

    Args:
        initial: the value at the first step; at least 0.
        rate: the ratio over `every` steps; above 0, and above 1 to grow, as in a learning-rate range test.
        every: number of steps in which the value is multiplied by `rate` once; at least 1.

    Raises:
        ValueError: if a number is out of its range.

    It falls a little at each step; `step_decay` is the staircase (Optax and Keras have both under one name,
    and a `staircase` flag).

    Example:
        >>> from fnn.optim import exponential
        >>> schedule = exponential(1.0, rate=0.25, every=2)
        >>> [round(float(schedule(t)), 4) for t in (0, 1, 2)]
        [1.0, 0.5, 0.25]
    """
    check_range("initial", initial, at_least=0)
    check_range("rate", rate, above=0)
    check_range("every", every, at_least=1)
    return Partial(_exponential, initial, rate, every)


def _exponential(initial: Hyperparameter, rate: Hyperparameter, every: Array, count: Array) -> Array:
    periods = _float32(count) / _float32(every)
    return _end_point(initial, count) * _end_point(rate, count) ** periods


def cosine(
    peak: Hyperparameter, steps: int, warmup: Hyperparameter = 0.0, end: Hyperparameter = 0.0
) -> Schedule:
    """Rise linearly to the peak, then fall along half a cosine.

        w        = round(warmup · steps)
        value(t) = peak · (t + 1) / w                                              for t < w
        value(t) = end + (peak - end) · (1 + cos(π · (t - w) / (steps - w))) / 2   for w ≤ t ≤ steps
        value(t) = end                                                             beyond

    Args:
        peak: the largest value; at least 0.
        steps: length of the run in steps, warm-up included; at least 1.
        warmup: the fraction of the steps that warm up; at least 0 and below 1.
        end: the value from step `steps` on; at least 0.

    Raises:
        ValueError: if a number is out of its range.

    The first step of the warm-up already learns, with peak / w. In Optax's warmup_cosine_decay_schedule it
    is `init_value`, usually 0: its first batch changes nothing.

    Source: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts"; the warm-up
    from Goyal et al. 2017, "Accurate, Large Minibatch SGD".

    Example:
        >>> from fnn.optim import cosine
        >>> schedule = cosine(1.0, steps=8, warmup=0.5)
        >>> [round(float(schedule(t)), 3) for t in range(9)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    check_range("peak", peak, at_least=0)
    check_range("steps", steps, at_least=1)
    check_range("warmup", warmup, at_least=0, below=1)
    check_range("end", end, at_least=0)
    return Partial(_cosine, peak, steps, warmup, end)


def _cosine(
    peak: Hyperparameter, steps: Array, warmup: Hyperparameter, end: Hyperparameter, count: Array
) -> Array:
    peak, warmup, end = (_end_point(value, count) for value in (peak, warmup, end))
    steps, t = _float32(steps), _float32(count)
    warmup_steps = jnp.round(warmup * steps)
    rising = peak * (t + 1) / jnp.maximum(warmup_steps, 1)
    progress = jnp.clip((t - warmup_steps) / jnp.maximum(steps - warmup_steps, 1), 0, 1)
    falling = end + (peak - end) * (1 + jnp.cos(jnp.pi * progress)) / 2
    return jnp.where(t < warmup_steps, rising, falling)


def piecewise(boundaries: tuple[int, ...], values: tuple[Hyperparameter, ...]) -> Schedule:
    """Constant pieces.

        value(t) = values[i]    for boundaries[i - 1] ≤ t < boundaries[i]

    Args:
        boundaries: the steps at which the value changes, rising strictly, the first at least 1.
        values: the value of each piece, one more than there are boundaries; at least 0.

    Raises:
        ValueError: if the boundaries do not rise, or the numbers of boundaries and values do not fit.

    Step `boundaries[i]`, counted from 0, already has the new value, as in PyTorch's MultiStepLR and Optax's
    piecewise_constant_schedule. Keras's PiecewiseConstantDecay changes one step later. The first two take
    factors to multiply by; this takes the values themselves.

    Example:
        >>> from fnn.optim import piecewise
        >>> schedule = piecewise((2, 4), (1.0, 0.5, 0.25))
        >>> [float(schedule(t)) for t in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    boundaries, values = tuple(boundaries), tuple(values)
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"piecewise needs one more value than boundaries, "
            f"not {len(values)} values for {len(boundaries)} boundaries"
        )
    for value in values:
        check_range("each of values", value, at_least=0)
    for boundary in boundaries:
        check_range("each of boundaries", boundary, at_least=1)
    if not any(isinstance(boundary, jax.core.Tracer) for boundary in boundaries) and not all(
        before < after for before, after in pairwise(boundaries)
    ):
        raise ValueError(f"boundaries must rise strictly, not {boundaries}")
    return Partial(_piecewise, boundaries, values)


def _piecewise(boundaries: tuple[Array, ...], values: tuple[Hyperparameter, ...], count: Array) -> Array:
    count = jnp.asarray(count)
    value = jnp.broadcast_to(_end_point(values[0], count), count.shape)
    for boundary, following in zip(boundaries, values[1:], strict=True):
        value = jnp.where(count < boundary, value, _end_point(following, count))
    return value


def _end_point(hyperparameter: Hyperparameter, count: Array) -> Array:
    return _float32(hyperparameter(count) if callable(hyperparameter) else hyperparameter)


def _float32(value: float | Array) -> Array:
    return jnp.asarray(value, jnp.float32)
