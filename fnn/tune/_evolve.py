"""Methods that choose new trials by how the former did."""

from __future__ import annotations

import math
from itertools import count

import numpy as np

from fnn._types import check_range
from fnn.tune._method import Method, Outcome, Round, Rounds, Trial, at_random, numbered, worth
from fnn.tune._space import Space

_STEP = 0.1  # of a range, by which a hyperparameter is changed
_REDRAWN = 0.25  # of the changed hyperparameters are drawn anew


def population_based(members: int = 16, interval: int = 1, quantile: float = 0.25) -> Method:
    """Population-based training: the worst members go on from the best ones, with other hyperparameters.

    Every `interval` epochs each of the worst members is replaced by one of the best, whose parameters and
    optimizer it takes over. Each hyperparameter is moved by a tenth of its range, up or down, or drawn anew
    with probability 1/4. The paper multiplies by 1.2 or 0.8; a tenth of a range is the same for a number that
    is drawn by its logarithm over a factor of about six. An option of a `choice` and the number of an
    `int_uniform` are kept, since the parameters that are taken over belong to them. A member's score is the
    best of its own epochs, not of those that it inherited.

    What this finds is a history of hyperparameters, which no config can hold: `best.toml` has the last ones.

    Args:
        members: of the population.
        interval: epochs between two replacements.
        quantile: the part that is replaced, and the part that replaces it.

    Raises:
        ValueError: fewer than 2 members, no epochs, or a quantile outside of (0, 0.5].
        TypeError: a count that is no integer.

    Source: Jaderberg et al., "Population based training of neural networks", 2017; truncation selection.
    """
    check_range("members", members, at_least=2, integer=True)
    check_range("interval", interval, at_least=1, integer=True)
    check_range("quantile", quantile, above=0, at_most=0.5)

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        population = at_random(space, members, seed)
        numbers = count(members)
        replaced = max(1, int(members * quantile))
        for until in range(interval, epochs + interval, interval):
            outcomes = yield Round(population, min(until, epochs))
            if until >= epochs:
                return
            ranked = sorted(outcomes, key=_standing, reverse=True)
            alive = [outcome.trial for outcome in ranked if not outcome.diverged]
            best = alive[:replaced]
            if not best:
                return
            worst = [outcome.trial for outcome in ranked[-replaced:] if outcome.trial not in best]
            worst += [o.trial for o in ranked if o.diverged and o.trial not in worst]
            random = np.random.default_rng([seed, until, 1])
            kept = tuple(trial for trial in population if trial not in worst)
            parents = [best[random.integers(len(best))] for _ in worst]
            children = [_child(space, parent, random, next(numbers), until) for parent in parents]
            population = (*kept, *children)

    return Method("population_based", rounds, stops_early=True)


def _standing(outcome: Outcome) -> float:
    """How a member does after its last epoch, not after its best."""
    return -math.inf if outcome.diverged else worth(outcome.curve[-1])


def _child(space: Space, parent: Trial, random: np.random.Generator, number: int, epochs: int) -> Trial:
    """The parent with its hyperparameters changed."""
    point = np.array(parent.point)
    for axis, distribution in enumerate(space.distributions.values()):
        step, anew, redraw = random.choice([-_STEP, _STEP]), random.random(), random.random() < _REDRAWN
        if distribution.options is None:  # what a network is made of cannot change under its weights
            point[axis] = anew if redraw else np.clip(point[axis] + step, 0, 1)
    (child,) = numbered(space, [point], number)
    return child._replace(parent=parent.number, inherited=epochs)
