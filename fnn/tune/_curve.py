"""Reading a run from its curves, the way an experienced eye does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fnn.tune._table import CHECKS

_PIECES = 50  # into which a training curve is averaged

Measured = dict[str, tuple[float, str]]
"""The number of each check, by its id, and the evidence in words."""


class Curves(NamedTuple):
    """A run as curves; arrays may be empty where something was not recorded.

    Attributes:
        steps: (M,) when `loss` was taken, in steps or epochs, of which people read: a run's first step is 1.
        loss: (M,) training losses, of single batches or means over epochs.
        accuracy: (E,) training accuracy of each epoch.
        validation_loss, validation_accuracy: (E,) at the end of each epoch.
        validation_examples: how many there are, for the standard error of accuracies; 0 if unknown.
        whole_epochs: whether `loss` holds means over epochs, so that the start was not seen.
        highest: (M,) the highest loss of a step of those that each of `loss` is a mean of.
    """

    steps: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    validation_loss: np.ndarray
    validation_accuracy: np.ndarray
    validation_examples: int = 0
    whole_epochs: bool = False
    highest: np.ndarray = np.zeros(0)


def in_pieces(losses: np.ndarray, size: int, first: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The losses of single steps as means over pieces: when each begins, its mean and its highest.

    The first step of a run stands alone: a run may fall far within one piece.

    Args:
        losses: (M,), at least one.
        size: how many steps make a piece.
        first: the number of the first of these steps, from 0.
    """
    begins = [*([0] if first == 0 else []), *range(1 if first == 0 else 0, len(losses), size)]
    pieces = [losses[i:j] for i, j in zip(begins, [*begins[1:], len(losses)], strict=True)]
    means, highest = (np.array([f(piece) for piece in pieces], float) for f in (np.mean, np.max))
    return first + np.array(begins), means, highest


def of_curves(curves: Curves) -> Measured:
    """What each check of the curves measures."""
    loss, held = np.asarray(curves.loss, float), np.asarray(curves.validation_loss, float)
    if len(loss) < 2:
        return {}
    bad, bad_held = np.flatnonzero(~np.isfinite(loss)), np.flatnonzero(~np.isfinite(held))
    if len(bad):
        return {"diverged": (math.inf, f"no number at {_step(curves, bad[0])}")}
    if len(bad_held):
        return {"diverged": (math.inf, f"no number in validation after epoch {bad_held[0] + 1}")}
    return {**_of_fall(curves, loss), **_of_spikes(curves, loss), **_of_gap(curves), **_of_validation(held)}


def _of_fall(curves: Curves, loss: np.ndarray) -> Measured:
    """How far, how evenly and when the training loss falls."""
    start = loss[0]
    steps, smooth = _averaged(np.asarray(curves.steps, float), loss)
    end, low = smooth[-max(1, len(smooth) // 10) :].mean(), smooth.min()
    scale, fall = max(abs(start), 1e-12), start - low
    grown = end / scale if start > 0 else 1 + (end - start) / scale if start < 0 else math.nan
    found: Measured = {"diverged": (grown, f"{start:.3g} at the start, {end:.3g} at the end")}
    if not curves.whole_epochs:
        # A run that diverged wants a lower rate, whatever it removed before, and not a higher one.
        removed = math.nan if grown > CHECKS["diverged"].warn or start == 0 else fall / scale
        found["barely_moves"] = removed, f"from {start:.3g} to at best {low:.3g}"
    span = max(smooth.max(), start) - low
    if span > 0:
        ups = np.maximum(np.diff(smooth), 0)
        place = int(ups.argmax())
        largest = f"{smooth[place]:.3g} to {smooth[place + 1]:.3g} at step {steps[place]:g}"
        says = f"the largest from {largest}" if ups[place] else "it only falls"
        found["jumps"] = float(ups.sum() / span), says
    if fall > 0.2 * scale and len(smooth) >= 10 and not curves.whole_epochs:
        late, plateau = _shape(steps - curves.steps[0], smooth, start, low, end)
        found["late_fall"] = late, f"the loss falls from {start:.3g} to {low:.3g}"
        found["high_plateau"] = plateau, f"{start:.3g} at the start, {end:.3g} at the end"
    return found


def _of_spikes(curves: Curves, loss: np.ndarray) -> Measured:
    """How far the highest loss of a step is above those around it."""
    if not len(curves.highest) == len(loss) > 10:
        return {}
    # The larger of what was and what comes, as a loss may fall a hundredfold within a piece.
    around = [
        max(np.median(loss[max(0, i - 5) : i + 1]), np.median(loss[i : i + 6])) for i in range(len(loss))
    ]
    heights = np.asarray(curves.highest, float) / np.maximum(np.abs(around), 1e-6)
    worst = int(heights.argmax())
    return {"spikes": (float(heights[worst]), f"{curves.highest[worst]:.3g} at {_step(curves, worst)}")}


def _step(curves: Curves, place: int) -> str:
    """When a loss was taken; a mean over several steps begins there."""
    means = len(curves.highest) and np.diff(curves.steps).max() > 1
    return f"step {curves.steps[place]:g}{' or soon after' if means else ''}"


def _shape(
    steps: np.ndarray, smooth: np.ndarray, start: float, low: float, end: float
) -> tuple[float, float]:
    """Where the fall happens, in steps from the first that is known, and what is left after a steep one."""
    fall = start - low

    def time(part: float) -> float:
        return float(steps[int((smooth <= start - part * fall).argmax())])

    early = (start - smooth[: max(1, len(smooth) // 10)].min()) / fall
    half = time(0.5)
    late = time(0.1) / half if half > steps[0] and half > 0.2 * steps[-1] else 0.0
    return late, end / start if early > 0.9 else 0.0


def _averaged(steps: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means over at most 50 pieces of equal length, and where each ends."""
    pieces = np.array_split(np.arange(len(loss)), min(_PIECES, len(loss)))
    return np.array([steps[piece[-1]] for piece in pieces]), np.array(
        [loss[piece].mean() for piece in pieces]
    )


def _positive(values: list[float]) -> np.ndarray:
    found = np.array(values, float)
    return found[np.isfinite(found) & (found > 0)]


def _of_gap(curves: Curves) -> Measured:
    """How far training accuracy is above that of validation, beyond its standard error."""
    right, held = np.asarray(curves.accuracy, float), np.asarray(curves.validation_accuracy, float)
    if not len(right) or not len(held):
        return {}
    tail = max(1, len(held) // 10)
    train, validation, examples = right[-tail:].mean(), held[-tail:].mean(), curves.validation_examples
    error = math.sqrt(validation * (1 - validation) / examples) if examples else 0.0
    error = max(error, float(np.std(held[-max(3, len(held) // 3) :])))
    gap = train - validation
    beyond = gap > 2 * error
    says = "beyond two: it overfits" if beyond else "within two: the capacity may be increased"
    rates = f"training {train:.3f}, validation {validation:.3f}"
    evidence = f"{rates}, a gap of {gap:.3f}, standard error {error:.3f}, {says}"
    return {"overfitting": (float(np.maximum(0.0, gap - 2 * error)), evidence)}  # NaN stays NaN


def _of_validation(loss: np.ndarray) -> Measured:
    """Whether the validation loss rises again, or still falls."""
    if len(loss) < 5:
        return {}
    found: Measured = {}
    end, low = float(loss[-max(1, len(loss) // 10) :].mean()), float(loss.min())
    if low > 0:
        lowest = f"{low:.3g} after epoch {int(loss.argmin()) + 1}"
        found["validation_rise"] = end / low - 1, f"{lowest}, {end:.3g} at the end"
    fifth = max(1, len(loss) // 5)
    before, after = loss[-2 * fifth : -fifth].mean(), loss[-fifth:].mean()
    fell = float((before - after) / before) if before > 0 else math.nan
    found["still_falling"] = fell, f"from {before:.3g} to {after:.3g}"
    return found


def of_watched(records: Iterable[Mapping[str, Any]], guess: float = math.nan) -> Measured:
    """What each check of a watched run measures, from its records.

    Args:
        records: with the fields of `Watched`.
        guess: how often two examples of the data share a class.
    """
    records = list(records)
    if not records:
        return {}
    ratios = {
        path: float(np.median(values))
        for path in records[0]["update_ratio"]
        if path.rpartition("/")[2] == "kernel" or len(records[0]["update_ratio"]) == 1
        # An optimizer that accumulates gradients stands still at most steps.
        if len(values := _positive([record["update_ratio"][path] for record in records]))
    }
    found: Measured = {}
    if ratios:
        top = max(ratios, key=ratios.__getitem__)
        largest = math.log10(max(ratios[top], 1e-30)), f"{ratios[top]:.2g} of {top}"
        found = {"update_ratio_high": largest, "update_ratio_low": largest}
    purity = float(np.nanmean([r["batch_purity"] for r in records])) if math.isfinite(guess) else math.nan
    if math.isfinite(purity):
        says = f"{purity:.3f} in batches, {guess:.3f} in the data"
        found["batch_purity"] = (purity - guess) / max(1 - guess, 1e-9), says
    return found
