"""How a search goes about it: a method asks for trials, is told how they did, and asks again."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fnn._types import check_optional, check_range
from fnn.tune._space import Space, identity


class Trial(NamedTuple):
    """One choice of hyperparameters.

    number: from 0, in the order in which the method asked.
    hyperparameters: by path.
    point: its place in the unit cube of the space.
    parent: the number of the trial whose state it goes on from; None for a fresh start.
    inherited: how many epochs the parent had had then.
    """

    number: int
    hyperparameters: dict[str, Any]
    point: tuple[float, ...]
    parent: int | None = None
    inherited: int = 0


class Round(NamedTuple):
    """What a method asks for: train these trials, from where they stand, until they have had `epochs`."""

    trials: tuple[Trial, ...]
    epochs: int
    note: str = ""  # what a reader should know


class Outcome(NamedTuple):
    """How a trial has done so far.

    epochs: how many it has had.
    score: of its best epoch, the mean over folds and seeds, higher is better; −∞ where it diverged.
    error: the standard error of that mean; NaN of a single run.
    curve: for each epoch its metrics, means over folds and seeds.
    diverged: whether a loss became NaN or infinite; such a trial is kept and counted, and never continued.
    """

    trial: Trial
    epochs: int
    score: float
    error: float
    curve: tuple[dict[str, float], ...]
    diverged: bool

    @property
    def order(self) -> tuple[float, float]:
        """What trials are sorted by: the score, and of equal ones the lower validation loss."""
        losses = [m["validation_loss"] for m in self.curve if "validation_loss" in m]
        return self.score, -min(losses, default=0.0) if not self.diverged else -math.inf


def worth(metrics: Mapping[str, float]) -> float:
    """What an epoch is judged by, higher is better: its score, else accuracy, else minus the loss."""
    if "score" in metrics:
        return metrics["score"]
    return metrics.get("validation_accuracy", -metrics.get("validation_loss", math.inf))


def ranked(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """The best first."""
    return tuple(sorted(outcomes, key=lambda outcome: outcome.order, reverse=True))


Rounds = Generator[Round, list[Outcome], None]


@dataclass(frozen=True)
class Method:
    """A named way of searching.

    rounds: `rounds(space, epochs, seed)` yields a `Round` and is sent its outcomes, until it returns.
        `epochs` is what a whole training has. It depends on nothing else, so that a search that is told old
        outcomes again asks the same questions again: this is how one is resumed.
    stops_early: whether trials are trained in parts, for which they must be able to go on.
    """

    name: str
    rounds: Callable[[Space, int, int], Rounds]
    stops_early: bool = False


def random_search(trials: int = 64, population: int | None = None) -> Method:
    """Trials at random, independent of each other.

    With equal budgets it beats a grid wherever only a few of the hyperparameters matter, since it tries as
    many values of each as there are trials.

    Args:
        trials: how many.
        population: how many train together; all by default. With fewer the first are done earlier.

    Raises:
        ValueError: no trials, or none at a time.
        TypeError: a count that is no integer.

    Source: Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 2012.
    """
    check_range("trials", trials, at_least=1, integer=True)
    check_optional("population", population, at_least=1, integer=True)

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        for some in parts(at_random(space, trials, seed), population):
            yield Round(some, epochs)

    return Method("random_search", rounds)


def sobol_search(trials: int = 64) -> Method:
    """Trials at the points of a scrambled Sobol sequence, which leave no large holes.

    A power of two keeps its balance.

    Raises:
        ValueError: no trials.
        TypeError: a count that is no integer.

    Source: Sobol, "On the distribution of points in a cube", 1967; scrambled after Owen, as SciPy does.
    """
    check_range("trials", trials, at_least=1, integer=True)

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        from scipy.stats import qmc

        points = qmc.Sobol(space.axes, rng=np.random.default_rng(seed)).random_base2(
            math.ceil(math.log2(trials))
        )
        yield Round(numbered(space, points[:trials]), epochs)

    return Method("sobol_search", rounds)


def grid_search(points: int = 4) -> Method:
    """Every combination of a few values of each hyperparameter, for comparison.

    Args:
        points: of each axis, in the middle of equal parts of its range; a choice has all its options.

    Raises:
        ValueError: no points.
        TypeError: a count that is no integer.
    """
    check_range("points", points, at_least=1, integer=True)

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        counts = [
            points if d.options is None else d.options if d.kind == "choice" else min(points, d.options)
            for d in space.distributions.values()
        ]
        axes = [(np.arange(count) + 0.5) / count for count in counts]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
        distinct: dict[Any, Any] = {}
        for point in grid:  # where a condition does not hold, many points are the same trial
            distinct.setdefault(identity(space.at(point)), point)
        yield Round(numbered(space, [*distinct.values()]), epochs)

    return Method("grid_search", rounds)


_COARSE = 5  # a coarse epoch budget is at most this part of the fine one
_EDGE = 0.05  # of the range: nearer to its end than this, the best lies on the border
_BEYOND = 0.25  # how far a range is widened then


def coarse_to_fine(coarse: int = 32, fine: int = 32, zoom: float = 0.3) -> Method:
    """Many short trials over the whole space, then full ones around the best.

    The coarse stage trains for a fifth of the epochs. The fine one draws from a box around the best trial,
    and is left out where all have diverged.
    Where that lies on the border of a range, the box reaches beyond it, if such values are allowed: those of
    a config that its functions take; from Python none, but what `Space(distributions, allowed)` says.

    Args:
        coarse: trials of the first stage.
        fine: trials of the second.
        zoom: the side of the box, as a part of each range.

    Raises:
        ValueError: no trials, a `zoom` outside of (0, 1], or, when it starts, fewer than 5 epochs.
        TypeError: a count that is no integer.

    Source: Stanford's course CS231n, "Neural Networks Part 3: Learning and Evaluation".
    """
    check_range("coarse", coarse, at_least=1, integer=True)
    check_range("fine", fine, at_least=1, integer=True)
    check_range("zoom", zoom, above=0, at_most=1)

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        if epochs < _COARSE:
            raise ValueError(
                f"coarse_to_fine trains its first stage for a fifth of the epochs, so it needs at least "
                f"{_COARSE}, not {epochs}"
            )
        outcomes = yield Round(at_random(space, coarse, seed), epochs // _COARSE)
        if all(outcome.diverged for outcome in outcomes):
            return
        best = ranked(outcomes)[0].trial
        low, high, widened = _box(space, best, zoom)
        points = low + np.random.default_rng([seed, coarse, 1]).random((fine, space.axes)) * (high - low)
        note = f"the fine stage looks around trial {best.number}"
        if widened:
            note += f", whose {', '.join(widened)} lies on the border, so the range reaches beyond it"
        yield Round(numbered(space, points, first=coarse), epochs, note=note)

    return Method("coarse_to_fine", rounds, stops_early=True)


def _box(space: Space, best: Trial, zoom: float) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The part of the cube around a trial, and which of its hyperparameters reach beyond their range."""
    at = np.array(best.point)
    low, high = np.clip(at - zoom / 2, 0, 1), np.clip(at + zoom / 2, 0, 1)
    widened = []
    for axis, (path, distribution) in enumerate(space.distributions.items()):
        if distribution.kind == "choice":  # an option has no neighbours
            low[axis] = high[axis] = at[axis]
        if distribution.options is not None:
            continue
        for near, end, further in (
            (at[axis] < _EDGE, low, -_BEYOND),
            (at[axis] > 1 - _EDGE, high, 1 + _BEYOND),
        ):
            if near and path in best.hyperparameters:
                beyond = best.hyperparameters | {path: distribution.at(further)}
                if space.allowed(beyond):
                    end[axis] = further
                    widened.append(path)
    return low, high, widened


def at_random(space: Space, trials: int, seed: int, first: int = 0) -> tuple[Trial, ...]:
    """Trials at random points; the same number is the same trial, however many there are."""
    points = [np.random.default_rng([seed, first + k]).random(space.axes) for k in range(trials)]
    return numbered(space, points, first)


def parts(trials: tuple[Trial, ...], size: int | None) -> Iterator[tuple[Trial, ...]]:
    """So many at a time, in their order; all at once where that is None."""
    size = size or len(trials)
    return (trials[first : first + size] for first in range(0, len(trials), size))


def numbered(space: Space, points: Sequence[Any] | np.ndarray, first: int = 0) -> tuple[Trial, ...]:
    """Trials at points of the cube."""
    return tuple(
        Trial(first + k, space.at(point), tuple(float(u) for u in point)) for k, point in enumerate(points)
    )
