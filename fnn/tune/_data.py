"""Numbers about the data, before anything is trained: NumPy on the host."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from fnn.data import Moments, Splits
from fnn.data._dataset import has_classes
from fnn.train._state import network_input

_PROBED = 2000  # examples for what needs not all of them
_FAR = 12.0  # standard errors ahead of guessing, which who is always right must be for labels to be judged


def of_data(
    data: Splits, moments: Moments | None, *, seed: int = 0
) -> tuple[dict[str, float], dict[str, str]]:
    """A number for each check of the data, by its id, and the evidence in words.

    Args:
        data: what a run is given.
        moments: those that standardise the inputs; None where the network gets them raw.
        seed: decides which examples are probed.
    """
    x, y = (np.asarray(part) for part in data.train)
    rows = _fingerprints(x)
    apart = [_fingerprints(np.asarray(part.x)) for part in (data.validation, data.test) if len(part.x)]
    held = np.concatenate([rows[:0], *apart])
    unique, counts = np.unique(rows, return_counts=True)
    known = np.isin(held, unique)
    random = np.random.default_rng(seed)
    some = random.permutation(len(x))[:_PROBED]
    inputs = np.asarray(network_input(jnp.asarray(x[some]), moments), np.float64).reshape(len(some), -1)
    size = math.sqrt(float(np.square(inputs).mean()))
    flat = x.reshape(len(x), -1)
    constant = (flat == flat[:1]).all(0)
    numbers = {
        "data_leak": float(known.mean()) if len(held) else math.nan,
        "data_range": abs(math.log10(size)) if size > 0 else math.inf,
        "data_constant": float(constant.mean()),
        "data_duplicates": float((counts - 1).sum() / len(rows)),
    }
    evidence = {
        "data_leak": f"{known.sum():,} of {len(held):,}",
        "data_range": f"mean {inputs.mean():.3g}, root mean square {size:.3g}",
        "data_constant": f"{constant.sum():,} of {constant.size:,}",
        "data_duplicates": f"{(counts - 1).sum():,} of {len(rows):,}",
    }
    if has_classes(y):
        sizes = np.bincount(y, minlength=len(data.classes))
        names = data.classes or tuple(map(str, range(len(sizes))))
        numbers["data_balance"] = float(sizes.min() / sizes.max())
        evidence["data_balance"] = (
            f"{sizes.min():,} of {names[sizes.argmin()]}, {sizes.max():,} of {names[sizes.argmax()]}"
        )
        agreement, evidence["data_labels"] = label_agreement(inputs, y[some])
        numbers["data_labels"] = agreement if farthest(y[some]) > _FAR else math.nan
    return numbers, evidence


def label_agreement(inputs: np.ndarray, y: np.ndarray) -> tuple[float, str]:
    """How far the class of the nearest other example is ahead of guessing: (a - g) / √(g (1 - g) / n).

    a is how often it is right, g how often two examples drawn at random share a class. An example is not
    compared with its own duplicates.
    """
    squares = np.square(inputs).sum(1)
    distance = squares[:, None] + squares[None] - 2 * inputs @ inputs.T
    distance[distance <= 1e-9 * squares.mean()] = np.inf
    right = float((y[distance.argmin(1)] == y).mean())
    guess = same_class(y)
    return (right - guess) / _error(guess, len(y)), f"right for {right:.1%}, guessing for {guess:.1%}"


def farthest(y: np.ndarray) -> float:
    """How far a neighbour that is always right is ahead of guessing: not far where nearly all are alike."""
    guess = same_class(y)
    return (1 - guess) / _error(guess, len(y))


def _error(guess: float, examples: int) -> float:
    return math.sqrt(max(guess * (1 - guess), 1e-9) / examples)


def same_class(y: np.ndarray) -> float:
    """How often two examples, each drawn from all of them, share a class."""
    return float(np.square(np.bincount(y) / len(y)).sum())


def _fingerprints(x: np.ndarray) -> np.ndarray:
    """One number for each row, equal for equal rows; others agree with probability 2⁻⁶⁴."""
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    if rows.dtype != np.uint8:
        rows = np.ascontiguousarray(rows, np.float32).view(np.uint32)
    factors = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], dtype=np.uint64) | np.uint64(1)
    sums = np.zeros(len(rows), np.uint64)
    for start in range(
        0, rows.shape[1], 64
    ):  # in pieces, since the products are eight times as wide as bytes
        part = slice(start, start + 64)
        sums += (rows[:, part].astype(np.uint64) * factors[part]).sum(1, dtype=np.uint64)
    return sums
