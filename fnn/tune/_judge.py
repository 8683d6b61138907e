"""Judging a run by what was recorded of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fnn.tune._curve import Curves, of_curves, of_watched
from fnn.tune._finding import Finding, find, find_all


def judge(
    curves: Curves,
    watched: Iterable[Mapping[str, Any]] = (),
    probes: Mapping[str, Mapping[str, float]] | None = None,
    *,
    same_class: float = math.nan,
    reference: Curves | None = None,
) -> tuple[Finding, ...]:
    """Read a finished run: what its curves look like, and how its layers fared.

    Args:
        curves: of the run.
        watched: the records that `fnn.fit` reports with `watch_every`.
        probes: what `fnn.tune.probe` said of its last state.
        same_class: how often two training examples share a class.
        reference: the curves of a run twice as wide or twice as long, by which a run without a gap between
            training and validation is told to be too small.

    Raises:
        TypeError: no `Curves`.
        ValueError: a curve whose `steps` are not those of its `loss`.
    """
    _check_curves("curves", curves)
    if reference is not None:
        _check_curves("reference", reference)
    found = of_curves(curves) | of_watched(watched, same_class)
    for name, by_layer in (probes or {}).items():
        known = {path: v for path, v in by_layer.items() if not math.isnan(v)}
        if known:
            worst = max(known, key=known.__getitem__)
            found[name] = known[worst], f"{known[worst]:.3g} in {worst}"
    numbers = {id: number for id, (number, _) in found.items()}
    findings = find_all(numbers, {id: says for id, (_, says) in found.items()})
    return findings if reference is None else (*findings, _underfitting(curves, reference))


def _check_curves(name: str, curves: Any) -> None:
    if not isinstance(curves, Curves):
        raise TypeError(
            f"{name} must be fnn.Curves, not {type(curves).__name__}; of the epochs of a fit's history make "
            "fnn.Curves(steps, loss, accuracy, validation_loss, validation_accuracy, whole_epochs=True)"
        )
    if len(curves.steps) != len(curves.loss):
        raise ValueError(
            f"the steps of {name} say when each loss was taken, so there must be as many: not "
            f"{len(curves.steps)} for {len(curves.loss)} losses"
        )


def _underfitting(curves: Curves, reference: Curves) -> Finding:
    """Training error against that of the larger run, in standard errors of their difference."""
    if not len(curves.accuracy) or not len(reference.accuracy):
        return find("underfitting", math.nan)
    tail = max(1, len(curves.accuracy) // 10), max(1, len(reference.accuracy) // 10)
    own = float(np.mean(curves.accuracy[-tail[0] :]))
    larger = float(np.mean(reference.accuracy[-tail[1] :]))
    examples = max(curves.validation_examples, 100)
    error = math.sqrt((own * (1 - own) + larger * (1 - larger)) / examples + 1e-9)
    evidence = f"training accuracy {own:.3f} against {larger:.3f} of the reference"
    return find("underfitting", (larger - own) / error, evidence)
