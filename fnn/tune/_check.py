"""`fnn.check`: what can be known about a run before it is trained."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from fnn.data import Examples, Splits, Visit, moments
from fnn.data._dataset import has_classes
from fnn.data._split import check_splits
from fnn.nn._layer import walk
from fnn.optim import LookaheadState, check_gradients
from fnn.train._check_fit import batch_of, check_fit
from fnn.train._fit import start_shapes
from fnn.train._state import (
    Batch,
    Make,
    TrainState,
    as_values,
    init_state,
    network_input,
    over_steps,
    task_at,
)
from fnn.tune._data import of_data
from fnn.tune._finding import Finding, find_all
from fnn.tune._networks import in_full_precision, without_noise
from fnn.tune._short_runs import RANGE, overfit, range_test
from fnn.tune._start import at_start, hidden
from fnn.tune._table import CHECKS

DRAWS = 8  # of the initial values
BATCH = 128  # examples that the network is probed with, at most
_RANGE_BATCH, _RANGE_STEPS = 32, 40
_LARGE_BATCH = 512  # above it, rates are tuned for steps that the range test does not make
OVERFIT_FACTORS = (1.0, 0.1, 10.0, 0.01, 100.0)
_PER_CLASS = 2
_SMALL_PENALTY = 0.01  # of the loss's pull: below it the range test is the same without


class Checked(NamedTuple):
    """What `check` found.

    Attributes:
        findings: one for each check of the data and the start, in the order of `CHECKS`.
        rates: the factors of the configured learning rate that were tried: 10⁻³ to 10³ by powers of ten, and
            the half powers beside the best of them.
        losses: the training loss that each of them reached after a few steps, infinite where it diverged.
        suggested: the factor that the range test suggests; 1 where the loss starts at 0 and cannot fall.
        stable: the largest factor whose loss still fell.
        layers: for each layer's path the mean and deviation of its outputs at the start, and its dead or
            saturated share.
    """

    findings: tuple[Finding, ...]
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float
    stable: float
    layers: dict[str, dict[str, float]]


def check(
    make: Make,
    hyperparameters: Any,
    data: Splits,
    /,
    *,
    batch_size: int | Literal["all"] = 128,
    standardize: bool = True,
    lsuv: bool = False,
    seed: int = 0,
    anneals: bool | None = None,
) -> Checked:
    """Look at data, network, loss and optimizer before they are trained, in seconds.

    Among other things: whether the loss starts where chance puts it, whether penalties raise it, whether a
    tiny sample can be learnt by heart, whether the signal reaches every layer and the gradient every
    parameter, and which learning rates work. `fnn.tune.CHECKS` lists all with their thresholds.

    Args:
        make, hyperparameters, data: see `fnn.fit`. A schedule among the hyperparameters counts with its
            largest value of the first 10,000 steps.
        batch_size: of the run. Rates are tried with batches of 32; above 512 they are not judged.
        standardize, lsuv, seed: see `fnn.fit`.
        anneals: whether the learning rate falls in the end, by which one is suggested; by default whether a
            schedule among the hyperparameters does. What `make` keeps to itself is not seen.

    Raises:
        ValueError: what does not fit together.

    >>> import fnn
    >>> def make(hyperparameters):
    ...     net = fnn.serial(fnn.flatten, fnn.mlp((32,), 10))
    ...     return net, fnn.softmax_cross_entropy, fnn.adam(hyperparameters["learning_rate"])
    >>> data = fnn.split(fnn.digits(), validation=0.2)
    >>> found = fnn.check(make, {"learning_rate": 1e-2}, data).findings
    >>> [finding.id for finding in found if finding.verdict == "FAIL"]
    []
    """
    check_splits(data)
    check_fit(make, hyperparameters, data, epochs=1, batch_size=batch_size)
    peaks, falls = _over_time(hyperparameters)
    values = as_values(peaks)
    key = jax.random.key(seed)
    input_moments = moments(data.train.x) if standardize else None
    order = np.random.default_rng(seed).permutation(len(data.train.x))
    batch, sample = _take(data.train, order[:BATCH]), tiny_sample(data.train)
    batches = short_batches(data.train, order)
    start_shapes(make, values, key, batch.x, input_moments)
    with ThreadPoolExecutor() as pool:  # most of the time is compiling, and one program leaves cores idle
        pool.submit(_init.lower(make, values, key, batch.x, input_moments, rescale=lsuv).compile)
        numbers, evidence = of_data(data, input_moments, seed=seed)
        draw = _init.eval_shape(make, values, key, batch.x, input_moments, rescale=lsuv)
        stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((DRAWS, *leaf.shape), leaf.dtype), draw)
        pool.submit(_at_start.lower(make, values, stacked, batch).compile)
        pool.submit(_range_test.lower(make, values, draw, batches, 1.0).compile)
        pool.submit(_overfit.lower(make, values, OVERFIT_FACTORS[0], draw, sample).compile)
        draws = [
            _init(make, values, key, batch.x, input_moments, rescale=lsuv)
            for key in jax.random.split(key, DRAWS)
        ]
        numbers["gradients"] = _gradient_error(make, values, draws, _take(data.train, order[:4]))

    starts = jax.tree.map(_stacked, *draws)
    start, layers = jax.tree.map(float, jax.device_get(_at_start(make, values, starts, batch)))
    in_order = dict(walk(task_at(make, values, jnp.zeros((), jnp.int32)).net))
    layers = {path: layers[path] for path in in_order}
    numbers |= start
    evidence |= _about_the_start(
        start, {path: layers[path]["deviation"] for path in hidden(in_order, draws[0].params)}
    )

    losses, blank = jax.device_get(_range_test(make, values, draws[0], batches, 1.0))
    anneals = falls if anneals is None else anneals
    best = suggested(losses, start["loss"], anneals=anneals)
    says = f"{best:.3g} times the configured rate is suggested"
    if start["penalty_size"] > _SMALL_PENALTY:
        free, _ = jax.device_get(_range_test(make, values, draws[0], batches, 0.0))
        without = suggested(free, start["loss"], anneals=anneals)
        says += f", without the penalty {without:.3g} times" if without != best else ""
    evidence["rate_high"] = evidence["rate_low"] = says
    size = batch_of(len(data.train.x), batch_size)
    if size <= _LARGE_BATCH and not _looks_ahead(draws[0]):
        numbers |= rate_numbers(losses, start["loss"])
    numbers["blank"] = float(np.nanmin(losses) / blank) if blank > 0 else math.nan

    numbers["overfit"], numbers["overfit_loss"], factor = _learnt_by_heart(make, values, draws[0], sample)
    evidence["overfit"] = f"{len(sample.y)} examples, at {factor:g} times the configured rate"

    tried = {f: float(loss) for f, loss in zip(RANGE, losses, strict=True) if not math.isnan(loss)}
    stable = max((f for f, loss in tried.items() if loss < start["loss"]), default=math.nan)
    wanted = [id for id, check in CHECKS.items() if check.stage in ("data", "start")]
    findings = find_all({id: numbers.get(id, math.nan) for id in wanted}, evidence)
    return Checked(findings, tuple(tried), tuple(tried.values()), best, stable, layers)


def _about_the_start(start: dict[str, float], spreads: dict[str, float]) -> dict[str, str]:
    """The evidence in words, `spreads` being the deviations of the hidden layers."""
    evidence = {
        "initial_loss": _about_the_loss(start),
        "penalty_size": f"the loss is {start['loss']:.3g}, with the penalty {start['loss_with_penalty']:.3g}",
    }
    for id, worst in (("signal", min), ("signal_explodes", max)):
        if spreads:
            path = worst(spreads, key=spreads.__getitem__)
            evidence[id] = f"a deviation of {spreads[path]:.3g} in {path}"
    return evidence


def _looks_ahead(state: TrainState) -> bool:
    """Whether the optimizer is `lookahead`, whose steps back are no steps along a gradient."""
    nodes = jax.tree.leaves(state.opt_state, is_leaf=lambda node: isinstance(node, LookaheadState))
    return any(isinstance(node, LookaheadState) for node in nodes)


def _about_the_loss(start: dict[str, float]) -> str:
    """The loss at the start, and why it may lie above ln C."""
    if math.isnan(start.get("expected_loss", math.nan)):
        return f"{start['loss']:.3g}"
    says = f"{start['loss']:.3g}, expected {start['expected_loss']:.3g}"
    if start["logit_variance"] > 1:
        says += f"; above ln C since the variance of the logits is {start['logit_variance']:.3g}, above 1"
    return says


def short_batches(examples: Examples, order: np.ndarray) -> Batch:
    """The batches of the range test, stacked."""
    rows = np.resize(order, (_RANGE_STEPS, min(_RANGE_BATCH, len(order))))
    taken = _take(examples, rows)
    visit = Visit(jnp.asarray(rows, jnp.int32), jnp.zeros(len(rows), jnp.int32))
    return Batch(taken.x, taken.y, jnp.ones(rows.shape, bool), visit)


def rate_numbers(losses: np.ndarray, start: float) -> dict[str, float]:
    """How far the configured rate, the factor 1, is from the nearest one within 2 % of the lowest loss.

    A loss that starts at 0, as a perceptron's of equal scores does, cannot fall: it says nothing of the rate.
    """
    if start == 0:
        return {}
    low = np.nanmin(losses)
    good = [f for f, loss in zip(RANGE, losses, strict=True) if loss <= low + 0.02 * abs(low)]
    powers = [math.log10(factor) for factor in good] if math.isfinite(low) else [math.log10(RANGE[0])]
    power = min(powers, key=abs)
    return {"rate_high": max(0.0, -power), "rate_low": max(0.0, power)}


def suggested(losses: np.ndarray, start: float, *, anneals: bool) -> float:
    """One of the factors of `RANGE` whose loss is near the lowest; the smallest if all diverged.

    Where the loss starts at 0 it is 1.

    Near is within a tenth of the lowest loss and within a tenth of the range of all losses, which is narrow
    where no factor moves the loss. Of such factors it is the largest where the rate falls in the end: the
    lowest loss of a few steps is that of a rate which is too small for a whole run. It is the smallest where
    the rate does not fall: what is left at the end then is the noise of the steps, which grows with the rate.

    Source: Wu et al. (2018), "Understanding Short-Horizon Bias in Stochastic Meta-Optimization"; Bottou,
    Curtis and Nocedal (2018), "Optimization Methods for Large-Scale Machine Learning", section 4.2.
    """
    if start == 0:
        return 1.0
    low = np.nanmin(losses)
    if not math.isfinite(low):
        return RANGE[0]
    near = 0.1 * min(abs(low), losses[np.isfinite(losses)].max() - low)
    good = [f for f, loss in zip(RANGE, losses, strict=True) if loss <= low + near]
    return (max if anneals else min)(good)


def tiny_sample(examples: Examples) -> Any:
    """Two examples of each class, of at most twenty classes; twenty examples where there are no classes."""
    y = np.asarray(examples.y)
    if not has_classes(y):
        return _take(examples, np.arange(min(20, len(y))))
    rows = [np.flatnonzero(y == label)[:_PER_CLASS] for label in np.unique(y)[:20]]
    return _take(examples, np.concatenate(rows))


def _learnt_by_heart(make: Make, values: Any, state: TrainState, sample: Any) -> tuple[float, float, float]:
    """At the first rate that does it, else at the best: accuracy, loss above the lowest, factor."""
    tried = []
    for factor in OVERFIT_FACTORS:
        right, excess = map(float, _overfit(make, values, factor, state, sample))
        tried.append((right, excess, factor))
        if math.isnan(excess) or (excess <= 0.01 and not right < 1):
            return tried[-1]
    return max(tried, key=lambda t: (0 if math.isnan(t[0]) else t[0], -t[1]))


def _gradient_error(make: Make, values: Any, draws: list[TrainState], examples: Any) -> float:
    """The largest relative error of the loss's gradient in float64, by some numbers of each array.

    Taken beside the initial values, not at them: where a layer's inputs are 0 and its biases too, a ReLU
    begins exactly on its kink. A step over a kink shows as an error too, but by chance, and rarely where it
    is short: a large one is looked for again from other initial values, three times at most, and the smallest
    counts. NaN where a part of the network or the loss asks for less than float64.
    """
    errors: list[float] = []
    random = np.random.default_rng(0)
    for state in draws[:3]:
        params = jax.tree.map(lambda w: np.asarray(w) + 0.01 * random.standard_normal(w.shape), state.params)
        task = task_at(make, values, state.step)
        net = in_full_precision(without_noise(task.net))

        def loss(params: Any, state: Any = state, task: Any = task, net: Any = net) -> jax.Array:
            x = network_input(examples.x, state.moments).astype(jax.tree.leaves(params)[0].dtype)
            outputs, _ = net.apply(params, state.state, x, train=True, key=state.key)
            return task.loss(outputs, examples.y).mean()

        if not jax.tree.leaves(params) or _rounds(loss, params):
            return math.nan
        errors.append(check_gradients(loss, params, step=1e-7, samples=3).largest)
        if errors[-1] <= CHECKS["gradients"].warn:
            break
    return min(errors)


def _rounds(function: Any, params: Any) -> bool:
    """Whether a function of float64 arrays computes some of it in a narrower type."""
    with jax.enable_x64(True):
        program = jax.make_jaxpr(function)(params)
    waiting = [program.jaxpr]
    while waiting:
        for equation in waiting.pop().eqns:
            waiting += jaxprs_in_params(equation.params)
            if equation.primitive.name == "convert_element_type":
                taken, made = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
                if taken == jnp.float64 and jnp.issubdtype(made, jnp.floating) and made != taken:
                    return True
    return False


def _take(examples: Examples, rows: np.ndarray) -> Any:
    """Some of the examples, on the device."""
    return jax.tree.map(lambda part: jnp.asarray(np.asarray(part)[rows]), examples)


def _over_time(hyperparameters: Any) -> tuple[Any, bool]:
    """Every schedule at its largest value of 10,000 steps, and whether one ends them below that."""
    leaves, structure = jax.tree.flatten(hyperparameters, is_leaf=callable)
    steps = jnp.arange(10_000)
    curves = [np.asarray(over_steps(leaf, steps)) if callable(leaf) else None for leaf in leaves]
    peaks = [
        leaf if curve is None else float(curve.max()) for leaf, curve in zip(leaves, curves, strict=True)
    ]
    falls = any(curve[-1] < curve.max() for curve in curves if curve is not None)
    return jax.tree.unflatten(structure, peaks), falls


def _stacked(*leaves: Any) -> Any:
    """Arrays as one, on the host, since a device would compile a program for each shape."""
    is_key = jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
    return jnp.stack(leaves) if is_key else np.stack(leaves)


_init = jax.jit(init_state, static_argnums=0, static_argnames="rescale")
_at_start = jax.jit(at_start, static_argnums=0)
_range_test = jax.jit(range_test, static_argnums=0)
_overfit = jax.jit(overfit, static_argnums=0)
