"""The figures of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fnn.run._look import GREY, LINE, SHADES, VALIDATION, new_figure, plain, save
from fnn.tune import Outcome, Space, Trial
from fnn.tune._importance import importance
from fnn.tune._method import worth
from fnn.tune._space import Distribution


def draw_search(
    outcomes: Sequence[Outcome], written: Sequence[Outcome], space: Space, directory: Path
) -> None:
    """Score against each hyperparameter, importance, parallel coordinates, learning curves, budget.

    Args:
        outcomes: of all trials, in the order of their numbers.
        written: of every round that a trial was trained in, in the order of `trials.jsonl`.
        space: that they were drawn from.
        directory: where the PNGs go.
    """
    sound = [outcome for outcome in outcomes if not outcome.diverged]
    if not sound:
        return
    _draw_hyperparameters(sound, space, directory / "hyperparameters.png")
    _draw_parallel(sound, space, directory / "parallel.png")
    _draw_curves(outcomes, directory / "curves.png")
    _draw_budget(written, directory / "budget.png")
    if len({outcome.epochs for outcome in sound}) > 1:
        _draw_rungs(outcomes, directory / "rungs.png")


def _panel(width: float, height: float, title: str = "") -> tuple[Figure, Axes]:
    """A figure of one part."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    plain(axes, title)
    return figure, axes


def _colours(outcomes: Sequence[Outcome]) -> dict[int, Any]:
    """A shade for each trial: the better its rank, the darker."""
    ranked = sorted(outcomes, key=lambda outcome: outcome.order)
    return {o.trial.number: SHADES(0.25 + 0.75 * (k + 1) / len(ranked)) for k, o in enumerate(ranked)}


def _draw_hyperparameters(outcomes: Sequence[Outcome], space: Space, path: Path) -> None:
    """The score against each hyperparameter, with its share of the variation between trials."""
    shares = importance(outcomes, space)
    names = sorted(space.distributions, key=lambda name: -shares[name])
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(1.0 + 3.4 * columns, 3.0 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = _colours(outcomes)
    for axes, name in zip(grid, names, strict=False):
        plain(axes, "")
        distribution = space.distributions[name]
        have = [o for o in outcomes if name in o.trial.hyperparameters]
        values = [o.trial.hyperparameters[name] for o in have]
        if distribution.kind == "choice":
            labels = [str(option) for option in distribution.ends]
            labels = [label if len(label) < 16 else f"{label[:15]}…" for label in labels]
            values = [distribution.ends.index(value) for value in values]
            axes.set_xticks(range(len(labels)), labels)
        elif distribution.kind == "log_uniform":
            axes.set_xscale("log")
        axes.scatter(values, [o.score for o in have], c=[colours[o.trial.number] for o in have], s=18)
        axes.set_xlabel(name, color=GREY)
        axes.set_title(f"explains {shares[name]:.0%}", loc="right", color=GREY, fontsize=9)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for row in range(rows):
        grid[row * columns].set_ylabel("score", color=GREY)
    save(figure, path)


def _draw_parallel(outcomes: Sequence[Outcome], space: Space, path: Path) -> None:
    """Parallel coordinates: a line for each trial through its place in each range, and its score."""
    names = list(space.distributions)
    figure, axes = _panel(max(5.0, 1.6 * (len(names) + 1)), 3.8)
    colours = _colours(outcomes)
    scores = np.array([outcome.score for outcome in outcomes])
    ranks = scores.argsort().argsort() / max(1, len(scores) - 1)
    for outcome, rank in sorted(zip(outcomes, ranks, strict=True), key=lambda pair: pair[1]):
        places = [*_places(outcome.trial, space), rank]
        axes.plot(places, color=colours[outcome.trial.number], linewidth=1.0, marker="o", ms=2)
    axes.set_xticks(range(len(names) + 1), [*names, "rank of score"], rotation=15)
    for axis in range(len(names) + 1):
        axes.axvline(axis, color=LINE, linewidth=0.8, zorder=0)
    for axis, distribution in enumerate(space.distributions.values()):
        for place in _labelled(distribution):
            value = distribution.at(place)
            text = f"{value:.3g}" if isinstance(value, float) else str(value)[:12]
            va, away = ("top", -0.03) if place < 0.5 else ("bottom", 0.03)
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
            axes.text(axis, place + away, text, ha="center", va=va, fontsize=8, color=GREY, bbox=box)
    points = [u for outcome in outcomes for u in _places(outcome.trial, space) if not math.isnan(u)]
    axes.set_ylim(min(0, *points) - 0.1, max(1, *points) + 0.1)  # the whole of each range, and its labels
    axes.set_yticks([])
    save(figure, path)


def _places(trial: Trial, space: Space) -> list[float]:
    """Where a trial is in each range: in the middle of its option, and nowhere without the hyperparameter."""
    places = []
    for (path, distribution), place in zip(space.distributions.items(), trial.point, strict=True):
        middles = distribution.places or [place]
        option = max(0, min(len(middles) - 1, int(place * len(middles))))
        places.append(middles[option] if path in trial.hyperparameters else math.nan)
    return places


def _labelled(distribution: Distribution) -> list[float]:
    """The places that have a label: all options of a choice, or both ends."""
    places = distribution.places or [0.0, 1.0]
    return places if distribution.kind == "choice" else [places[0], places[-1]]


def _draw_curves(outcomes: Sequence[Outcome], path: Path) -> None:
    """What each trial was worth after each epoch; the darker, the better its result."""
    figure, axes = _panel(5.6, 3.8, "Score of each epoch")
    colours = _colours(outcomes)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.order):
        scores = [worth(metrics) for metrics in outcome.curve]
        epochs = range(1, len(scores) + 1)
        marker = "o" if len(scores) == 1 else ""
        axes.plot(epochs, scores, color=colours[outcome.trial.number], linewidth=1.1, marker=marker, ms=3)
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch", color=GREY)
    save(figure, path)


def _draw_budget(written: Sequence[Outcome], path: Path) -> None:
    """The best score so far against the epochs that all trials have had."""
    figure, axes = _panel(5.6, 3.4, "Best score so far")
    had: dict[int, int] = {}
    spent = []
    for outcome in written:
        number = outcome.trial.number
        spent.append(outcome.epochs - had.get(number, outcome.trial.inherited))
        had[number] = outcome.epochs
    best = np.maximum.accumulate([outcome.score for outcome in written])
    seen = np.isfinite(best)
    axes.step(np.cumsum(spent)[seen], best[seen], where="post", color=VALIDATION, linewidth=1.6)
    axes.set_xlabel("epochs of all trials, in the order in which they were trained", color=GREY)
    save(figure, path)


def _draw_rungs(outcomes: Sequence[Outcome], path: Path) -> None:
    """How long each trial was trained: the brackets of halving."""
    figure, axes = _panel(5.6, 3.8, "Epochs of each trial")
    colours = _colours(outcomes)
    for outcome in outcomes:
        number = outcome.trial.number
        axes.plot(
            [number, number], [outcome.trial.inherited, outcome.epochs], color=colours[number], linewidth=2.2
        )
    axes.set_xlabel("trial", color=GREY)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure, path)
