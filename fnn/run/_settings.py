"""The settings of a search that a config's [search] table has."""

from __future__ import annotations

from typing import Literal, NamedTuple

from fnn._types import check_optional, check_range
from fnn.tune import Method, random_search


class SearchSettings(NamedTuple):
    """See `search_settings`."""

    method: Method
    folds: int | None
    seeds: int
    finalists: int
    fresh_seeds: int
    how: Literal["vmap", "map"] | None
    max_epochs: int | None
    seconds: float | None


def search_settings(
    *,
    method: Method = random_search,  # type: ignore[assignment]
    folds: int | None = None,
    seeds: int = 1,
    finalists: int = 3,
    fresh_seeds: int = 3,
    how: Literal["vmap", "map"] | None = None,
    max_epochs: int | None = None,
    seconds: float | None = None,
) -> SearchSettings:
    """How `fnn search` goes about it.

    Args:
        method: which trials, and for how long.
        folds: of a cross-validation; by default the validation part of [split] judges.
        seeds: how often each trial is trained on each fold.
        finalists: how many of the best trials are trained again, since the best of many looks better than
            it is.
        fresh_seeds: how often they are, with seeds that the search has not seen.
        how: how a population is computed; measured by default.
        max_epochs: how many epochs all trials may have in all; finalists come on top.
        seconds: how long the search may take; finalists come on top.

    Raises:
        ValueError: a number out of its range.
    """
    check_optional("folds", folds, at_least=2)
    for name, value in (("finalists", finalists), ("seeds", seeds), ("fresh_seeds", fresh_seeds)):
        check_range(name, value, at_least=1)
    check_optional("max_epochs", max_epochs, at_least=1)
    check_optional("seconds", seconds, above=0)
    return SearchSettings(method, folds, seeds, finalists, fresh_seeds, how, max_epochs, seconds)
