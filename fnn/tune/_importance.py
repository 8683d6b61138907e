"""Which hyperparameters made the difference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnn.tune._method import Outcome
from fnn.tune._space import Space

_BINS = 5


def importance(outcomes: Sequence[Outcome], space: Space) -> dict[str, float]:
    """The share of the variation between trials that each hyperparameter explains by itself.

    Trials are put into five bins of equal numbers by the hyperparameter's place in its range, equal places
    into one; those of a `choice` by their options and those without it into a bin of their own. Then

        ω² = (SS_between − (bins − 1) MS_within) / (SS_total + MS_within),    0 where it is negative

    of the ranks of their scores, which unlike scores have no outliers; diverged trials share the lowest rank.
    It is the first-order effect that functional ANOVA finds, without its forest, and corrected for chance:
    what works only together with another hyperparameter does not show.

    Source: Hays, "Statistics", 1963, for ω²; Hutter, Hoos and Leyton-Brown, "An efficient approach for
    assessing hyperparameter importance", ICML 2014.
    """
    ranks = _ranks(np.array([outcome.score for outcome in outcomes]))
    return {
        name: _omega_squared(ranks, _bins(outcomes, space, axis, name))
        for axis, name in enumerate(space.distributions)
    }


def _bins(outcomes: Sequence[Outcome], space: Space, axis: int, name: str) -> np.ndarray:
    """The bin of each trial."""
    options = space.distributions[name].options
    places = np.array([outcome.trial.point[axis] for outcome in outcomes])
    if options is not None and options <= _BINS:
        bins = np.minimum((places * options).astype(int), options - 1)
    else:
        distinct, which = np.unique(places, return_inverse=True)
        before = np.searchsorted(np.sort(places), places)  # how many lie lower: equal places share a bin
        bins = which if len(distinct) <= _BINS else before * _BINS // len(places)
    absent = np.array([name not in outcome.trial.hyperparameters for outcome in outcomes])
    return np.where(absent, -1, bins)


def _omega_squared(values: np.ndarray, bins: np.ndarray) -> float:
    groups = [values[bins == group] for group in np.unique(bins)]
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    total = float(((values - values.mean()) ** 2).sum())
    free = len(values) - len(groups)
    if free <= 0 or len(groups) < 2 or total == 0:
        return 0.0
    noise = within / free
    return max(0.0, (total - within - (len(groups) - 1) * noise) / (total + noise))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
