"""Holding examples out: the validation part of a run and the test part of a data set that has none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fnn._types import check_number
from fnn.data._dataset import DataError, Dataset, Examples, check_alike, check_examples


class Splits(NamedTuple):
    """A Dataset whose training part has been split in two: train, validation and test are disjoint."""

    train: Examples
    validation: Examples
    test: Examples
    classes: tuple[str, ...]
    name: str


def check_splits(splits: Splits) -> None:
    """Raise ValueError where a run cannot be trained on one part and judged by the other."""
    if not isinstance(splits, Splits):
        raise DataError(
            "expected a data set that is split, fnn.split(dataset, validation=0.2), not "
            f"{type(splits).__name__}"
        )
    parts = {"the training part": splits.train, "the validation part": splits.validation}
    for where, examples in parts.items():
        check_examples(examples, splits.classes, where)
    check_alike(parts)
    if not isinstance(splits.test, Examples):
        raise DataError(
            f"the test part must be fnn.Examples(x, y), not {type(splits.test).__name__}; where there is "
            "none, it is one without examples, fnn.Examples(x[:0], y[:0])"
        )


def check_dataset(dataset: Dataset | Splits) -> None:
    """Raise DataError where something else stands for a data set."""
    if not isinstance(dataset, (Dataset, Splits)):
        raise DataError(
            f"expected a data set, such as fnn.digits() returns, not {type(dataset).__name__}; of arrays "
            "make fnn.Dataset(fnn.Examples(x, y), fnn.Examples(test_x, test_y), classes, name)"
        )


def split(dataset: Dataset, /, *, validation: float = 0.1, seed: int = 0) -> Splits:
    """Hold out a validation part of the training examples, chosen at random within each class.

    Every class keeps its share, rounded down or up so that the size is met exactly. Both parts keep the order
    in which the examples stood. For float targets the choice ignores their values.

    Args:
        dataset: Only its training part is split; the test part passes through.
        validation: A number of examples (1 or more), or a fraction of the training part (below 1).
        seed: Decides which examples; the same seed chooses the same ones.

    Raises:
        DataError: The training part is not sound, or this is no data set.
        ValueError: The size is not positive, not a whole number, not below the number of training examples,
            or leaves a class without an example in one of the parts; the seed is below 0.
        TypeError: The size is not a number, or the seed not an integer.

    Example:
        >>> import fnn.data
        >>> splits = fnn.data.split(fnn.data.digits(), validation=137)
        >>> len(splits.train.y), len(splits.validation.y), len(splits.test.y)
        (1300, 137, 360)
    """
    check_dataset(dataset)
    train, held_out = hold_out(dataset.train, dataset.classes, validation, seed, name="validation")
    return Splits(train, held_out, dataset.test, dataset.classes, dataset.name)


def hold_out(
    examples: Examples, classes: tuple[str, ...], size: float, seed: int, *, name: str
) -> tuple[Examples, Examples]:
    """The examples that stay for training and those held out; `name` is what the held-out part is called."""
    check_examples(examples, classes, "the training part")
    x, y = examples
    check_number("seed", seed, at_least=0, integer=True)
    count = _whole(size, len(x), name)
    labels = strata(y)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    quotas = _quotas(np.array([len(indices) for indices in members]), count)
    for indices, quota in zip(members, quotas, strict=True):
        if not 0 < quota < len(indices):
            label, part = classes[labels[indices[0]]], "training" if quota else name
            raise ValueError(
                f"{name}={size} leaves no example of class {label!r}, which has {len(indices)}, in the "
                f"{part} part; change {name} or add examples of that class"
            )
    random = np.random.default_rng(int(seed))
    held = np.zeros(len(y), bool)
    for indices, quota in zip(members, quotas, strict=True):
        held[random.permutation(indices)[:quota]] = True
    return Examples(x[~held], y[~held]), Examples(x[held], y[held])


def strata(y: np.ndarray) -> np.ndarray:
    """The classes whose shares are kept: those of integer targets, else one for all examples."""
    return y if np.issubdtype(y.dtype, np.integer) else np.zeros(len(y), np.int32)


def _whole(size: float, total: int, name: str) -> int:
    """A size, given as a count or as a fraction of the total, as a count."""
    check_number(name, size)
    if not size > 0:
        raise ValueError(f"{name} must be a count or a fraction above 0, not {size}")
    count = size if size >= 1 else max(1, round(size * total))
    if count % 1 != 0:
        raise ValueError(f"{name} must be a fraction below 1 or a whole number of examples, not {size}")
    if count >= total:
        raise ValueError(f"{name}={size} leaves none of the {total} examples to train on; make it smaller")
    return int(count)


def _quotas(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many of each group to take so that `count` are taken in all: the method of largest remainders."""
    exact, remainders = np.divmod(sizes * count, sizes.sum())
    most = np.argsort(-remainders, kind="stable")[: count - exact.sum()]
    exact[most] += 1
    return exact
