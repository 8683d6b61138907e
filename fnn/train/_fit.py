"""The host loop around the compiled chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fnn._types import check_range, check_seed
from fnn.data import Moments, Splits, moments
from fnn.data._split import check_splits
from fnn.train._check_fit import batch_of, check_fit
from fnn.train._evaluate import evaluate
from fnn.train._mesh import check_mesh, on_mesh, placed
from fnn.train._state import Make, TrainState, as_values, first_difference, init_state
from fnn.train._step import StepMetrics, epoch_rows, train_chunk

_CHUNK_STEPS = 100
RESCALE_EXAMPLES = 256  # what `lsuv` measures variances on, at least


class Fit(NamedTuple):
    """A training run so far.

    best: the state after the epoch with the best validation accuracy (of equals, the lowest validation
        loss); by validation loss alone where targets are not classes.
    last: the state after the last epoch. The two share their arrays where that is the best: donate a copy.
    best_epoch: the number of the best one, from 1; 0 before the first epoch is over.
    history: for each epoch its metrics: `loss`, `penalty` and `accuracy` are running means over the epoch's
        training batches, `validation_loss` and `validation_accuracy` are measured at its end.
    """

    best: TrainState
    last: TrainState
    best_epoch: int
    history: tuple[dict[str, float], ...]


class Progress(NamedTuple):
    """What `report` is told at the border of each chunk."""

    epoch: int  # from 1
    epochs: int
    step: int  # steps taken
    steps: int  # of the whole run
    metrics: dict[str, float]  # of this epoch so far
    fit: Fit | None  # the run so far where an epoch has just ended, else None
    losses: np.ndarray = np.zeros(0)  # of each step of the chunk
    watched: tuple[
        dict[str, Any], ...
    ] = ()  # `step`, from 0, and `Watched` of each watched step of the chunk


class Diverged(ArithmeticError):
    """The loss became NaN or infinite.

    `fit` holds the run up to the last epoch before, `progress` the chunk in which it happened.
    """

    def __init__(self, step: int, loss: float, fit: Fit, progress: Progress) -> None:
        """Name the step and say what to try."""
        super().__init__(
            f"the loss became {loss} at step {step}; try a lower learning rate, clip_by_global_norm in front "
            "of the optimizer, or look for inputs that are not standardised"
        )
        self.step = step
        self.fit = fit
        self.progress = progress


def fit(
    make: Make,
    hyperparameters: Any,
    data: Splits,
    /,
    *,
    epochs: int = 10,
    batch_size: int | Literal["all"] = 128,
    standardize: bool = True,
    patience: int | None = None,
    lsuv: bool = False,
    seed: int = 0,
    mesh: Mesh | None = None,
    report: Callable[[Progress], None] | None = None,
    watch_every: int | None = None,
    so_far: Fit | None = None,
) -> Fit:
    """Train one network and keep its best state by validation.

    Everything runs in one compiled chunk of steps, called again and again. Hyperparameters are arguments
    of that program: another value compiles nothing, for the same `make`.

    Args:
        make: `make(hyperparameters) -> (net, loss, optimizer)`, or a `Task` with penalties and
            augmentation; called inside the trace. It must be pure: what is compiled belongs to this function,
            and does not see when a global that it reads has changed. Values that change go through the
            hyperparameters; for another structure, such as another width, define it anew.
        hyperparameters: a pytree of numbers and schedules, as `make` takes it; numbers become float32.
        data: training and validation examples.
        epochs: how often every training example is seen, in a new order each time.
        batch_size: examples per step, or "all" for full-batch descent. The last batch of an epoch is
            filled up with padding that counts in no mean and no statistic.
        standardize: whether inputs are brought to zero mean and unit deviation per channel, by the moments
            of the training part.
        patience: after how many epochs without a new best the run stops early; never by default. Schedules
            keep the length of the whole run.
        lsuv: whether the initial kernels are scaled so that each layer's outputs have unit variance on a
            batch of training examples, see `fnn.lsuv`.
        seed: decides everything random.
        mesh: devices that share the work, see `fnn.mesh`; one device by default.
        report: called at the border of each chunk.
        watch_every: every how many steps of an epoch, from its first, the run measures its gradient and its
            updates for `report`; at most the steps of a chunk, about 100. By default never.
        so_far: a run to go on with until it has gone through `epochs`, those before included. With the same
            arguments it ends bit for bit where the run ends that was never interrupted. Its states hold
            what `seed`, `standardize` and `lsuv` gave it, which are not asked again. To begin with weights of
            your own take `Fit(state, state, 0, ())`, where `state` is that of `init_state`, given the
            `moments` of the training inputs if they are standardised, with other `params` and `state`.

    Raises:
        ValueError: settings or shapes that do not fit; a run to go on with that is of others; a `make` that
            returns other shapes than when it was compiled.
        TypeError: settings of another type, a `make` that returns something else, a call inside of `jit`.
        Diverged: the loss became NaN or infinite.

    >>> import fnn
    >>> def make(hyperparameters):
    ...     net = fnn.serial(fnn.flatten, fnn.mlp((32,), 10))
    ...     return net, fnn.softmax_cross_entropy, fnn.adam(hyperparameters["learning_rate"])
    >>> data = fnn.split(fnn.digits(), validation=0.2)
    >>> result = fnn.fit(make, {"learning_rate": 1e-2}, data, epochs=3)
    >>> result.history[-1]["validation_accuracy"] > 0.8
    True
    >>> longer = fnn.fit(make, {"learning_rate": 1e-2}, data, epochs=5, so_far=result)
    >>> len(longer.history), longer.history[:3] == result.history
    (5, True)
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(hyperparameters)):
        raise TypeError(
            "fit is a loop on the host, which jit and vmap cannot trace: call train_epoch inside of them, "
            "as the README does, or search"
        )
    check_splits(data)
    check_fit(make, hyperparameters, data, epochs=epochs, batch_size=batch_size, patience=patience)
    check_seed(seed)
    check_mesh(mesh, "data")
    if not isinstance(so_far, Fit | None):
        raise TypeError(f"so_far must be a Fit, as fit returns it, not {type(so_far).__name__}")
    train, validation = data.train, data.validation
    n = len(train.x)
    batch_size = batch_of(n, batch_size)
    steps = -(-n // batch_size)
    chunks, chunk_steps, watch_every = _in_chunks(steps, watch_every)
    values = as_values(hyperparameters)
    key = jax.random.key(seed)

    with on_mesh(mesh):
        first = jax.device_put(train.x[lsuv_rows(n, batch_size) if lsuv else slice(1)])
        input_moments = moments(train.x) if standardize and so_far is None else None
        if so_far is not None:
            input_moments = so_far.last.moments
        # Traced anew, since `_init` may have been compiled when `make` returned something else.
        start = start_shapes(make, values, key, first, input_moments)
        if so_far is None:
            state = _init(make, values, key, first, input_moments, rescale=lsuv)
            _check_pure(state, start)
            so_far = Fit(state, state, 0, ())
        else:
            _check_goes_on(so_far, start, epochs=epochs, steps=steps)
        so_far = so_far._replace(best=placed(so_far.best, mesh), last=placed(so_far.last, mesh))
        state = _copy(so_far.last)
        train, validation = placed((train, validation), mesh)
        while (epoch := len(so_far.history)) < _ends(so_far, epochs, patience):
            rows, mask = _rows(state.key, epoch, examples=n, batch_size=batch_size, chunk_steps=chunk_steps)
            seen: list[Any] = []
            for chunk in range(chunks):
                state, measured = _chunk(
                    make, values, state, train, rows[chunk], mask[chunk], epoch, watch_every=watch_every
                )
                seen.append(jax.device_get(measured))
                metrics = _running_means(seen)
                taken = epoch * steps + chunk * chunk_steps
                done = min(taken + chunk_steps, (epoch + 1) * steps)
                losses, watched = seen[-1].loss[: done - taken], _records(seen[-1], taken, watch_every)
                progress = Progress(epoch + 1, epochs, done, epochs * steps, metrics, None, losses, watched)
                _check_finite(seen[-1].loss + seen[-1].penalty, taken + 1, so_far, progress)
                if chunk + 1 == chunks:
                    measured = jax.device_get(_evaluate(make, values, state, validation))
                    _check_finite(measured["loss"][None], done, so_far, progress)
                    metrics |= {f"validation_{name}": float(value) for name, value in measured.items()}
                    so_far = _advance(so_far, state, metrics)
                    progress = progress._replace(metrics=metrics, fit=so_far)
                    if _ends(so_far, epochs, patience) == epoch + 1:
                        progress = progress._replace(epochs=epoch + 1, steps=done)
                if report is not None:
                    report(progress)
    return so_far


def _in_chunks(steps: int, watch_every: int | None) -> tuple[int, int, int | None]:
    """An epoch of so many steps as chunks of equal length, about 100 steps and a multiple of `watch_every`.

    Returns:
        How many chunks, their steps, and `watch_every`, which is at most those.
    """
    chunk_steps = -(-steps // -(-steps // _CHUNK_STEPS))
    if watch_every is not None:
        check_range("watch_every", watch_every, at_least=1, integer=True)
        watch_every = min(watch_every, chunk_steps)
        chunk_steps = -(-chunk_steps // watch_every) * watch_every
    return -(-steps // chunk_steps), chunk_steps, watch_every


def _ends(so_far: Fit, epochs: int, patience: int | None) -> int:
    """After how many epochs a run ends, unless one of them becomes its best."""
    return epochs if patience is None else min(epochs, so_far.best_epoch + patience)


def _check_pure(compiled: TrainState, traced: TrainState) -> None:
    """Raise ValueError where what is compiled of `make` begins with other shapes than it begins with now."""
    if difference := first_difference(compiled, traced):
        path, was, now = difference
        raise ValueError(
            f"make returns another network or optimizer than when it was compiled: {path} was {was}, and is "
            f"{now} now; it must be pure, so define it anew for another structure"
        )


def _check_goes_on(so_far: Fit, start: TrainState, *, epochs: int, steps: int) -> None:
    """See that a run to go on with is of this network, these data and this length.

    Raises:
        ValueError: one that is not.
    """
    before = len(so_far.history)
    if before > epochs:
        raise ValueError(f"so_far went through {before} epochs, which are more than {epochs} in all")
    if int(so_far.last.step) != before * steps:
        raise ValueError(
            f"so_far took {so_far.last.step} steps in {before} epochs, where an epoch of these examples with "
            f"this batch_size has {steps}; go on with those that it had"
        )
    if difference := first_difference(so_far.last, start):
        path, there, here = difference
        raise ValueError(
            f"so_far is a run of another network or optimizer: {path} is {there} there, and {here} here"
        )


def start_shapes(make: Make, values: Any, key: Any, x: Any, input_moments: Moments | None) -> TrainState:
    """The state before the first step, as shapes, traced anew; see `init_state`.

    Raises:
        TypeError: `make` wants to know a number among the hyperparameters, which is traced here.
    """
    try:
        return jax.eval_shape(partial(init_state, make), values, key, x, input_moments)
    except Exception as error:  # with the numbers themselves all went well before
        raise TypeError(
            "make decides about structure by a number among the hyperparameters, such as a width, but fit "
            "compiles one program for all of their values; set what is structure beforehand, as in "
            "lambda hyperparameters: make({**hyperparameters, 'width': 16})"
        ) from error


def lsuv_rows(examples: int, batch_size: int) -> np.ndarray:
    """The rows that `lsuv` measures variances on."""
    return spread_rows(examples, max(batch_size, RESCALE_EXAMPLES))


def spread_rows(examples: int, most: int) -> np.ndarray:
    """At most so many rows, evenly spread, since examples may be sorted by class."""
    count = min(examples, most)
    return np.arange(count) * examples // count


def _check_finite(losses: np.ndarray, first_step: int, so_far: Fit, progress: Progress) -> None:
    bad = ~np.isfinite(losses)
    if bad.any():
        raise Diverged(first_step + int(bad.argmax()), float(losses[bad][0]), so_far, progress)


def _advance(so_far: Fit, state: TrainState, metrics: dict[str, float]) -> Fit:
    """The run after one more epoch."""
    last, history = _copy(state), (*so_far.history, metrics)
    best = history[so_far.best_epoch - 1] if so_far.best_epoch else None
    if best is None or rank(metrics) > rank(best):
        return Fit(last, last, len(history), history)
    return so_far._replace(last=last, history=history)


def rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """What the best epoch has most of: validation accuracy, and of equals the lower validation loss."""
    return metrics.get("validation_accuracy", 0.0), -metrics["validation_loss"]


def _running_means(seen: list[Any]) -> dict[str, float]:
    """Means over the examples of an epoch so far, from the means over its batches."""
    loss, penalty, accuracy, examples = map(np.concatenate, zip(*(part[:4] for part in seen), strict=True))
    values = {"loss": loss, "penalty": penalty, "accuracy": accuracy}
    means = {name: float(np.average(value, weights=examples)) for name, value in values.items()}
    return {name: value for name, value in means.items() if not np.isnan(value)}


def _records(measured: StepMetrics, taken: int, every: int | None) -> tuple[dict[str, Any], ...]:
    """The watched steps of a chunk whose first step is number `taken`, from 0."""
    if every is None or measured.watched is None:
        return ()
    firsts = [i for i in range(0, len(measured.examples), every) if measured.examples[i]]
    groups = [jax.tree.map(lambda leaf, i=i: float(leaf[i // every]), measured.watched) for i in firsts]
    return tuple({"step": taken + i} | watched._asdict() for i, watched in zip(firsts, groups, strict=True))


@jax.jit
def _copy(state: TrainState) -> TrainState:
    """A state that outlives the donation of the original."""
    return jax.tree.map(jnp.copy, state)


_init = jax.jit(init_state, static_argnums=0, static_argnames="rescale")
_chunk = jax.jit(train_chunk, static_argnums=0, static_argnames="watch_every", donate_argnums=2)
_evaluate = jax.jit(evaluate, static_argnums=0)
_rows = jax.jit(epoch_rows, static_argnames=("examples", "batch_size", "chunk_steps"))
