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

from fnn._types import Array, Hyperparameter, Schedule, check_range, check_sequence

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
    # The exponent is an integer: of 0⁰ only then the derivative is 0.
    return _end_point(initial, count) * _end_point(factor, count) ** drops.astype(jnp.int32)


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


def inverse_time(initial: Hyperparameter, rate: Hyperparameter, every: int = 1) -> Schedule:
    """Decay as one over the time: fast at first, and ever more slowly.

        value(t) = initial / (1 + rate · t / every)

    Args:
        initial: the value at the first step; at least 0.
        rate: by how much the denominator grows in `every` steps; at least 0. After `every` / `rate` steps
            the value has halved.
        every: number of steps that `rate` is about, such as those of an epoch; at least 1.

    Raises:
        ValueError: if a number is out of its range.

    It falls a little at each step, as Keras's InverseTimeDecay does unless it is told `staircase`.

    Source: Robbins and Monro 1951, "A Stochastic Approximation Method": the steps add up to infinity and
    their squares do not, for which SGD converges on a noisy gradient.

    Example:
        >>> from fnn.optim import inverse_time
        >>> schedule = inverse_time(1.0, rate=0.5)
        >>> [float(schedule(t)) for t in (0, 2, 6)]
        [1.0, 0.5, 0.25]
    """
    check_range("initial", initial, at_least=0)
    check_range("rate", rate, at_least=0)
    check_range("every", every, at_least=1)
    return Partial(_inverse_time, initial, rate, every)


def _inverse_time(initial: Hyperparameter, rate: Hyperparameter, every: Array, count: Array) -> Array:
    periods = _float32(count) / _float32(every)
    return _end_point(initial, count) / (1 + _end_point(rate, count) * periods)


def polynomial(
    initial: Hyperparameter, steps: int, end: Hyperparameter = 0.0, power: Hyperparameter = 1.0
) -> Schedule:
    """Go from one value to another along a power of the time that is left; a line for power 1.

        value(t) = end + (initial - end) · (1 - t / steps)^power    for t ≤ steps
        value(t) = end                                              beyond

    Args:
        initial: the value at the first step; at least 0.
        steps: the step from which on the value is `end`; at least 1.
        end: the last value; at least 0, and above `initial` to rise, as a momentum from 0.5 to 0.99 does.
        power: above 0; the larger, the more of the way lies in the first steps.

    Raises:
        ValueError: if a number is out of its range.

    PyTorch's PolynomialLR ends at 0, and is this with `end` 0; its LinearLR and Optax's polynomial_schedule
    have both ends. Keras's PolynomialDecay ends at 1e-4 unless told otherwise.

    Example:
        >>> from fnn.optim import polynomial
        >>> momentum = polynomial(0.5, steps=4, end=1.0)
        >>> [float(momentum(t)) for t in range(6)]
        [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]
        >>> [float(polynomial(1.0, steps=4, power=2.0)(t)) for t in range(5)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    check_range("initial", initial, at_least=0)
    check_range("steps", steps, at_least=1)
    check_range("end", end, at_least=0)
    check_range("power", power, above=0)
    return Partial(_polynomial, initial, steps, end, power)


def _polynomial(
    initial: Hyperparameter, steps: Array, end: Hyperparameter, power: Hyperparameter, count: Array
) -> Array:
    initial, end, power = (_end_point(value, count) for value in (initial, end, power))
    left = jnp.clip(1 - _float32(count) / _float32(steps), 0, 1)
    return end + (initial - end) * left**power


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
    falling = _half_cosine(peak, end, progress)
    return jnp.where(t < warmup_steps, rising, jnp.where(t < steps, falling, end))


def _half_cosine(first: float | Array, last: Array, progress: Array) -> Array:
    """From the first value to the last as progress goes from 0 to 1, flat at both ends."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * progress)) / 2


def warm_restarts(
    peak: Hyperparameter, period: int, multiplier: Hyperparameter = 1.0, end: Hyperparameter = 0.0
) -> Schedule:
    """Fall along half a cosine again and again, each time from the peak.

        r_i      = round(period · (1 + m + … + m^{i-1}))                                restart i, r_0 = 0
        value(t) = end + (peak - end) · (1 + cos(π · (t - r_i) / (r_{i+1} - r_i))) / 2  for r_i ≤ t < r_{i+1}

    Args:
        peak: the value after each restart; at least 0.
        period: number of steps from the start to the first restart; at least 1.
        multiplier: m, how much longer each fall is than the one before; at least 1.
        end: the value that each fall comes close to; the step that would reach it restarts. At least 0.

    Raises:
        ValueError: if a number is out of its range.

    A restart falls on a whole step, also where the multiplier is a fraction. For whole multipliers this is
    PyTorch's CosineAnnealingWarmRestarts, to the step for half a million steps. Of a fraction, float32 may
    move a restart by a step where the formula gives nearly a half, and after tens of thousands of steps.

    Source: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts".

    Example:
        >>> from fnn.optim import warm_restarts
        >>> schedule = warm_restarts(1.0, period=2, multiplier=2.0)
        >>> [round(float(schedule(t)), 3) for t in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """
    check_range("peak", peak, at_least=0)
    check_range("period", period, at_least=1)
    check_range("multiplier", multiplier, at_least=1)
    check_range("end", end, at_least=0)
    return Partial(_warm_restarts, peak, period, multiplier, end)


def _warm_restarts(
    peak: Hyperparameter, period: Array, multiplier: Hyperparameter, end: Hyperparameter, count: Array
) -> Array:
    peak, multiplier, end = (_end_point(value, count) for value in (peak, multiplier, end))
    period, t = _float32(period), _float32(count)
    grows = multiplier > 1
    growth = jnp.where(grows, multiplier - 1, 1)  # never 0, also where it is not used

    def restart(i: Array) -> Array:
        series = jnp.where(grows, jnp.expm1(i * jnp.log1p(growth)) / growth, i)
        return jnp.round(period * series)

    periods = t / period
    i = jnp.floor(jnp.where(grows, jnp.log1p(periods * growth) / jnp.log1p(growth), periods))
    i += jnp.where(t >= restart(i + 1), 1, jnp.where(t < restart(i), -1, 0))  # what rounding has shifted
    progress = (t - restart(i)) / jnp.maximum(restart(i + 1) - restart(i), 1)
    return _half_cosine(peak, end, progress)


def one_cycle(
    peak: Hyperparameter,
    steps: int,
    warmup: Hyperparameter = 0.3,
    start_factor: Hyperparameter = 0.04,
    end_factor: Hyperparameter = 0.0,
) -> Schedule:
    """Rise along half a cosine to a high peak, then fall along another until the end of the run.

        w        = round(warmup · steps)
        value(t) = start + (peak - start) · (1 - cos(π · t / w)) / 2                for t < w
        value(t) = end + (peak - end) · (1 + cos(π · (t - w) / (steps - w))) / 2    for w ≤ t ≤ steps
        value(t) = end                                                              beyond

    Args:
        peak: the value at step w; at least 0.
        steps: length of the run in steps; at least 1.
        warmup: the fraction of the steps that rise; at least 0 and below 1.
        start_factor: start / peak, at least 0.
        end_factor: end / peak, at least 0. With both above 1 the cycle is a valley, which a momentum goes
            through while the learning rate is high.

    Raises:
        ValueError: if a number is out of its range.

    PyTorch's OneCycleLR of T steps peaks at step 0.3 T - 1 and ends at step T - 1, one step earlier each.
    Its `div_factor` 25 is 1 / start_factor, and its `final_div_factor` 1e4 is start_factor / end_factor.
    It moves the momentum as well; here that is a schedule of its own.

    Source: Smith and Topin 2018, "Super-Convergence" (there with straight lines); the cosines: fastai.

    Example:
        >>> from fnn.optim import one_cycle
        >>> schedule = one_cycle(1.0, steps=8, warmup=0.5, start_factor=0.2)
        >>> [round(float(schedule(t)), 3) for t in range(9)]
        [0.2, 0.317, 0.6, 0.883, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    check_range("peak", peak, at_least=0)
    check_range("steps", steps, at_least=1)
    check_range("warmup", warmup, at_least=0, below=1)
    check_range("start_factor", start_factor, at_least=0)
    check_range("end_factor", end_factor, at_least=0)
    return Partial(_one_cycle, peak, steps, warmup, start_factor, end_factor)


def _one_cycle(
    peak: Hyperparameter,
    steps: Array,
    warmup: Hyperparameter,
    start_factor: Hyperparameter,
    end_factor: Hyperparameter,
    count: Array,
) -> Array:
    peak, warmup, start, end = (
        _end_point(value, count) for value in (peak, warmup, start_factor, end_factor)
    )
    steps, t = _float32(steps), _float32(count)
    warmup_steps = jnp.round(warmup * steps)
    rises = t < warmup_steps
    length = jnp.where(rises, warmup_steps, steps - warmup_steps)
    progress = jnp.clip(jnp.abs(t - warmup_steps) / jnp.maximum(length, 1), 0, 1)  # 0 at the peak, 1 far off
    progress = jnp.where(t < steps, progress, 1)  # also where all of it is warm-up
    return peak * _half_cosine(1.0, jnp.where(rises, start, end), progress)


def linear_warmup(after: Hyperparameter, steps: int, warmup: Hyperparameter = 0.1) -> Schedule:
    """Put a linear warm-up before any hyperparameter.

        w        = round(warmup · steps)
        value(t) = after(t) · min(1, (t + 1) / w)

    Args:
        after: a number or a schedule, which goes on as if there were no warm-up: it counts from the start
            of the run, so one that ends with the run still does.
        steps: length of the run in steps, warm-up included; at least 1.
        warmup: the fraction of the steps that warm up; from 0 to 1.

    Raises:
        ValueError: if a number is out of its range.

    The first step already learns, and step w - 1 has the full value. This is PyTorch's ChainedScheduler of
    LinearLR(start_factor=1/w, total_iters=w-1) and another, whose factors multiply. SequentialLR, and
    Optax's join_schedules, start the other one when the warm-up is over; so does `join`.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD".

    Example:
        >>> from fnn.optim import linear_warmup, step_decay
        >>> schedule = linear_warmup(step_decay(1.0, every=6), steps=8, warmup=0.5)
        >>> [round(float(schedule(t)), 3) for t in range(8)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.1, 0.1]
    """
    check_range("after", after, at_least=0)
    check_range("steps", steps, at_least=1)
    check_range("warmup", warmup, at_least=0, at_most=1)
    return Partial(_linear_warmup, after, steps, warmup)


def _linear_warmup(after: Hyperparameter, steps: Array, warmup: Hyperparameter, count: Array) -> Array:
    warmup_steps = jnp.round(_end_point(warmup, count) * _float32(steps))
    rising = (_float32(count) + 1) / jnp.maximum(warmup_steps, 1)
    return _end_point(after, count) * jnp.minimum(rising, 1)


# --- one after another ----------------------------------------------------------------------------------


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
    check_sequence("boundaries", boundaries)
    check_sequence("values", values)
    boundaries, values = tuple(boundaries), tuple(values)
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"piecewise needs one more value than boundaries, "
            f"not {len(values)} values for {len(boundaries)} boundaries"
        )
    for value in values:
        check_range("each of values", value, at_least=0)
    _check_boundaries(boundaries)
    return Partial(_piecewise, boundaries, values)


def _piecewise(boundaries: tuple[Array, ...], values: tuple[Hyperparameter, ...], count: Array) -> Array:
    count = jnp.asarray(count)
    value = jnp.broadcast_to(_end_point(values[0], count), count.shape)
    for boundary, following in zip(boundaries, values[1:], strict=True):
        value = jnp.where(count < boundary, value, _end_point(following, count))
    return value


def join(*schedules: Schedule, boundaries: tuple[int, ...]) -> Schedule:
    """One schedule after another, each counting from its own start.

        value(t) = schedules[i](t - boundaries[i - 1])    for boundaries[i - 1] ≤ t < boundaries[i]

    Args:
        schedules: the pieces, first to last.
        boundaries: the step at which each piece but the first starts, rising strictly, the first at least 1.

    Raises:
        ValueError: if the boundaries do not rise, or their number is not one less than that of the pieces.
        TypeError: if a piece is not a schedule.

    This is PyTorch's SequentialLR and Optax's join_schedules. In `piecewise` a piece that is a schedule
    counts from the start of the run. In a config give each piece its own `steps`: one that is not told gets
    the length of the whole run.

    Example:
        >>> from fnn.optim import join, polynomial, step_decay
        >>> schedule = join(polynomial(0.0, steps=4, end=1.0), step_decay(1.0, every=2), boundaries=(4,))
        >>> [round(float(schedule(t)), 2) for t in range(8)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.1, 0.1]
    """
    for schedule in schedules:
        if not callable(schedule):
            raise TypeError(
                f"join takes schedules, not {schedule!r}; a constant piece is piecewise((), ({schedule!r},))"
            )
    check_sequence("boundaries", boundaries)
    boundaries = tuple(boundaries)
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"join needs one more schedule than boundaries, "
            f"not {len(schedules)} schedules for {len(boundaries)} boundaries"
        )
    _check_boundaries(boundaries)
    return Partial(_join, schedules, boundaries)


def _join(schedules: tuple[Schedule, ...], boundaries: tuple[Array, ...], count: Array) -> Array:
    count = jnp.asarray(count)
    value = _float32(schedules[0](count))
    for boundary, schedule in zip(boundaries, schedules[1:], strict=True):
        own = jnp.maximum(count - boundary, 0)  # no piece is asked about steps before its start
        value = jnp.where(count < boundary, value, _float32(schedule(own)))
    return value


def _check_boundaries(boundaries: tuple[int, ...]) -> None:
    for boundary in boundaries:
        check_range("each of boundaries", boundary, at_least=1)
    if not any(isinstance(boundary, jax.core.Tracer) for boundary in boundaries) and not all(
        before < after for before, after in pairwise(boundaries)
    ):
        raise ValueError(f"boundaries must rise strictly, not {boundaries}")


def _end_point(hyperparameter: Hyperparameter, count: Array) -> Array:
    return _float32(hyperparameter(count) if callable(hyperparameter) else hyperparameter)


def _float32(value: float | Array) -> Array:
    return jnp.asarray(value, jnp.float32)
