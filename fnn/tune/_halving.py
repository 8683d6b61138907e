"""Methods that stop the worst trials early."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fnn._types import check_optional, check_range
from fnn.tune._method import Method, Outcome, Round, Rounds, Trial, at_random, parts, ranked
from fnn.tune._space import Space

_LOWEST_LOSSES = 0.1  # the part of the trials whose training loss protects them


def successive_halving(
    trials: int = 64, eta: int = 4, min_epochs: int = 1, population: int | None = None
) -> Method:
    """Train all a little, keep the best of them, train those longer, and so on.

    Each rung keeps a part 1/η of its trials and gives them η times the epochs, so that every rung costs about
    the same. A trial that was ever among the tenth with the lowest training loss is not dropped for its
    validation curve alone: such trials may take up to half of the places. Diverged ones are not continued.

    Args:
        trials: of the first rung.
        eta: η, how many share one place on the next rung.
        min_epochs: of the first rung, at least. The last one has all R epochs, the one before it R/η, and
            so on.
        population: how many trials compete, which form a bracket of their own; all by default. Fewer take a
            good trial to its end earlier, and more often a lesser one as well.

    Raises:
        ValueError: no trials, η below 2, no epochs, no trials at a time, or, when it starts, fewer epochs
            than `min_epochs`.
        TypeError: a count that is no integer.

    Source: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
    AISTATS 2016. The protection by training loss is ours.
    """
    check_range("trials", trials, at_least=1, integer=True)
    check_range("eta", eta, at_least=2, integer=True)
    check_range("min_epochs", min_epochs, at_least=1, integer=True)
    check_optional("population", population, at_least=1, integer=True)

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        if epochs < min_epochs:
            raise ValueError(
                f"successive_halving cannot give its first rung min_epochs={min_epochs}, since whole "
                f"trainings have {epochs}; give it at most {epochs}, or train longer"
            )
        rungs = _rungs(epochs // min_epochs, eta)
        for some in parts(at_random(space, trials, seed), population):
            yield from _bracket(some, rungs, epochs, eta)

    return Method("successive_halving", rounds, stops_early=True)


def hyperband(eta: int = 3) -> Method:
    """Several brackets of successive halving, from many trials that start with few epochs to few with all.

    For R epochs and s from ⌊log_η R⌋ to 0, a bracket of ⌈(s_max + 1) ηˢ / (s + 1)⌉ trials starts with
    R η⁻ˢ epochs, so that each costs about the same: no one has to know how early a curve tells its end.

    Args:
        eta: η, how many share one place on the next rung.

    Raises:
        ValueError: η below 2.
        TypeError: η that is no integer.

    Source: Li et al., "Hyperband", JMLR 2018, algorithm 1.
    """
    check_range("eta", eta, at_least=2, integer=True)

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        most = _rungs(epochs, eta)
        first = 0
        for s in range(most, -1, -1):
            count = math.ceil((most + 1) * eta**s / (s + 1))
            trials = at_random(space, count, seed, first)
            first += count
            yield from _bracket(trials, s, epochs, eta)

    return Method("hyperband", rounds, stops_early=True)


def _rungs(factor: int, eta: int) -> int:
    """⌊log_η factor⌋, without rounding."""
    count = 0
    while eta ** (count + 1) <= factor:
        count += 1
    return count


def _bracket(trials: tuple[Trial, ...], rungs: int, epochs: int, eta: int) -> Rounds:
    """Rungs of R η⁻ˢ, R η¹⁻ˢ, … and at last R epochs."""
    protected: set[int] = set()
    for left in range(rungs, -1, -1):
        outcomes = yield Round(trials, epochs // eta**left)
        protected |= low_losses(outcomes)
        trials = survivors(outcomes, max(1, len(trials) // eta), protected)
        if not trials:
            return


def low_losses(outcomes: Sequence[Outcome]) -> set[int]:
    """The trials that were, after some epoch, among the tenth with the lowest training losses."""
    alive = [outcome for outcome in outcomes if not outcome.diverged]
    count = math.ceil(_LOWEST_LOSSES * len(outcomes))
    found: set[int] = set()
    for epoch in range(max((outcome.epochs for outcome in alive), default=0)):
        losses = [(o.curve[epoch]["loss"], o.trial.number) for o in alive if "loss" in o.curve[epoch]]
        found |= {number for _, number in sorted(losses)[:count]}
    return found


def survivors(outcomes: Sequence[Outcome], places: int, protected: set[int]) -> tuple[Trial, ...]:
    """The best by score, of whom the last make room for protected ones that score less, half at most."""
    alive = ranked(o for o in outcomes if not o.diverged)
    best, others = alive[:places], alive[places:]
    unprotected = [o for o in best if o.trial.number not in protected]
    room = min(len(unprotected), places // 2 - (len(best) - len(unprotected)))
    saved = [o for o in others if o.trial.number in protected][: max(0, room)]
    dropped = {o.trial.number for o in unprotected[len(unprotected) - len(saved) :]}
    return tuple(o.trial for o in [*best, *saved] if o.trial.number not in dropped)
