"""Cutting examples into folds for cross-validation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fnn._types import check_number
from fnn.data._dataset import Dataset, Examples, check_examples
from fnn.data._split import Splits, check_dataset, strata
from fnn.data._standardize import Moments, moments


class Folds(NamedTuple):
    """All examples once, and which of them each fold trains on and is judged by; a pytree of arrays.

    All folds have the same sizes, so that they are one program.
    """

    x: Any  # (N, …)
    y: Any  # (N,) or (N, …)
    train: Any  # (folds, n) int32: rows of x
    validation: Any  # (folds, m) int32
    moments: Moments | None  # (folds, channels), of training inputs; None: inputs stay as they are
    classes: Any  # () int, how many; 0 where targets are none

    def fold(self, number: int) -> tuple[Examples, Examples]:
        """The examples that a fold trains on, and those that it is judged by."""
        train, validation = self.train[number], self.validation[number]
        return Examples(self.x[train], self.y[train]), Examples(self.x[validation], self.y[validation])


def stratified_folds(
    dataset: Dataset, /, *, count: int = 5, standardize: bool = True, seed: int = 0
) -> Folds:
    """Cut the training part of a data set into folds, each of which validates once.

    Every class keeps its share in every fold, rounded down or up to a whole example. All folds validate on
    ⌊N / count⌋ examples; of the N mod count that remain, chosen at random, all folds train and none validates
    (in scikit-learn's `StratifiedKFold` some folds are larger by one instead).

    Args:
        dataset: only its training part is used.
        count: k, how many folds.
        standardize: whether the moments of each fold's training inputs are taken.
        seed: decides which examples.

    Raises:
        DataError: the training part is not sound, or this is no data set.
        ValueError: fewer than 2 folds, or more than the rarest class has examples; a seed below 0.
        TypeError: a count or a seed that is not an integer.

    Source: Kohavi, "A study of cross-validation and bootstrap for accuracy estimation", IJCAI 1995.

    >>> import fnn
    >>> folds = stratified_folds(fnn.digits(), count=5)
    >>> folds.train.shape, folds.validation.shape
    ((5, 1150), (5, 287))
    """
    check_dataset(dataset)
    check_examples(dataset.train, dataset.classes, "the training part")
    x, y = (np.asarray(part) for part in dataset.train)
    labels = strata(y)
    classes, sizes = np.unique(labels, return_counts=True)
    check_number("seed", seed, at_least=0, integer=True)
    check_number("count", count, integer=True)
    if count < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, not {count}")
    if count > sizes.min():
        rarest = f"class {dataset.classes[classes[sizes.argmin()]]!r}" if dataset.classes else "the data"
        raise ValueError(
            f"{count} folds are more than the {sizes.min()} examples of {rarest}; take fewer folds"
        )
    random = np.random.default_rng(int(seed))
    # Dealt out class by class, as cards are, every fold gets its share of each.
    order = np.concatenate([random.permutation(np.flatnonzero(labels == label)) for label in classes])
    size = len(order) // count
    # Left over are some of those that do not go round in their class.
    odd = [np.arange(end - n % count, end) for end, n in zip(np.cumsum(sizes), sizes, strict=True)]
    left_over = random.permutation(np.concatenate(odd))[: len(order) % count]
    dealt = np.delete(order, left_over)
    held = np.sort(dealt.reshape(size, count).T, axis=1)
    train = np.stack([np.setdiff1d(np.arange(len(order)), rows) for rows in held])
    return _folds(x, y, train, held, standardize, len(dataset.classes))


def one_fold(splits: Splits, /, *, standardize: bool = True) -> Folds:
    """The split that is there already, as the only fold."""
    x, y = (np.concatenate(pair) for pair in zip(splits.train, splits.validation, strict=True))
    n, m = len(splits.train.x), len(splits.validation.x)
    return _folds(x, y, np.arange(n)[None], n + np.arange(m)[None], standardize, len(splits.classes))


def _folds(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, held: np.ndarray, standardize: bool, classes: int
) -> Folds:
    input_moments = None
    if standardize:
        each = [moments(x[rows]) for rows in train]
        input_moments = Moments(*(np.stack(parts) for parts in zip(*each, strict=True)))
    return Folds(x, y, train.astype(np.int32), held.astype(np.int32), input_moments, classes)
