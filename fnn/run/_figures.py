"""The figures of a run: learning curves, the layers over time, the confusion matrix, the worst mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from fnn.run._curve_file import read_records
from fnn.run._look import (
    GREY,
    INK,
    LINE,
    NO_NUMBER,
    SHADES,
    TRAIN,
    VALIDATION,
    new_figure,
    plain,
    save,
)
from fnn.train._fit import rank

_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
_SHEET_COLUMNS, _SHEET_ROWS = 6, 4
_RATIOS = "log10 of ‖Δw‖ / ‖w‖"


def worst_mistakes(y: ArrayLike, outputs: ArrayLike, count: int) -> np.ndarray:
    """Indices of the misclassified examples with the highest loss, the worst first, `count` at most.

    Args:
        y: (N,) integers, the true classes.
        outputs: (N, C) logits.
    """
    y, outputs = np.asarray(y), np.asarray(outputs, np.float64)
    loss = -np.take_along_axis(_log_softmax(outputs), y[:, None], axis=-1)[:, 0]
    wrong = np.flatnonzero(outputs.argmax(axis=-1) != y)
    return wrong[np.argsort(-loss[wrong], kind="stable")][:count]


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Loss, and accuracy where there is one, of training and validation by epoch; the best epoch is marked.

    Args:
        history: the metrics of each epoch, as in `fnn.Fit`.
        path: the PNG to write.

    Raises:
        ValueError: no epoch is in the history.
    """
    if not history:
        raise ValueError("there are no learning curves to draw: no epoch has ended")
    names = [name for name in ("loss", "accuracy") if f"validation_{name}" in history[0]]
    best = max(range(len(history)), key=lambda epoch: rank(history[epoch]))
    epochs = np.arange(1, len(history) + 1)
    figure = new_figure(1.2 + 4.2 * len(names), 3.6)
    marker = "o" if len(history) <= 20 else ""
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        plain(axes, name.capitalize())
        # Where targets are no classes, an accuracy is measured in validation only.
        train = [metrics[name] for metrics in history if name in metrics]
        validation = [metrics[f"validation_{name}"] for metrics in history]
        axes.axvline(best + 1, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        line: dict[str, Any] = {"marker": marker, "markersize": 3.5, "linewidth": 1.6}
        if train:
            axes.plot(epochs, train, color=TRAIN, linestyle="--", label="train", **line)
        axes.plot(epochs, validation, color=VALIDATION, label="validation", **line)
        ring: dict[str, Any] = {"color": "white", "mec": VALIDATION, "mew": 1.8, "ms": 7.5, "clip_on": False}
        axes.plot(best + 1, validation[best], "o", **ring)
        reached = f"{validation[best]:.2%}" if name == "accuracy" else f"{validation[best]:.4g}"
        axes.set_title(f"best epoch {best + 1}: {reached}", loc="right", color=GREY, fontsize=9, pad=10)
        axes.set_xlabel("epoch", color=GREY)
        axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, len(history) + 0.5)
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        elif 0 < 50 * min(train + validation) < max(train + validation):
            axes.set_yscale("log")
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    save(figure, path)


def draw_layers(records: Path, path: Path) -> bool:
    """Heat maps of layer against time: update ratios, dead units, flat tails, running statistics.

    A watched step stands for those from it to the next one, a probe for those before it.

    Args:
        records: the `diagnostics.jsonl` of a run.
        path: the PNG to write.

    Returns:
        Whether there is anything to draw.
    """
    rows = read_records(records) if records.exists() else []
    watched = [row for row in rows if "update_ratio" in row]
    probes = [row for row in rows if "probe" in row]
    order = rows[0]["layers"] if rows else []
    end = max((row["step"] + ("probe" not in row) for row in rows[1:]), default=0)  # steps taken
    until_next = [*(row["step"] for row in watched), end]
    since_last = [0, *(row["step"] for row in probes[:-1]), end]
    found = {_RATIOS: (until_next, _by_layer(watched, order, lambda row: row["update_ratio"]))}
    for name, title in (
        ("dead_units", "share of dead rectified units"),
        ("saturated_units", "share of outputs in the flat tails"),
        ("statistics", "distance of running statistics, in deviations"),
    ):
        found[title] = since_last, _by_layer(probes, order, lambda row, name=name: row["probe"].get(name, {}))
    maps = {title: (edges, *values) for title, (edges, values) in found.items() if values is not None}
    if not maps:
        return False
    heights = [1.1 + 0.24 * len(layers) for _, layers, _ in maps.values()]
    figure = new_figure(8.0, sum(heights))
    for axes, (title, (edges, layers, values)) in zip(
        figure.subplots(len(maps), squeeze=False, height_ratios=heights)[:, 0], maps.items(), strict=True
    ):
        plain(axes, title)
        if title == _RATIOS:
            values = np.log10(np.maximum(values, 1e-30))  # what does not move is the lowest, and NaN stays
            limits: dict[str, Any] = {"vmin": -5, "vmax": -1, "cmap": colormaps["RdBu_r"]}
        else:
            limits = {"vmin": 0, "vmax": 1, "cmap": SHADES}
        limits["cmap"] = limits["cmap"].with_extremes(bad=NO_NUMBER)
        if np.isnan(values).any():
            axes.set_title("grey: no number", loc="right", color=GREY, fontsize=9, pad=10)
        image = axes.pcolormesh(edges, np.arange(len(layers) + 1) - 0.5, values, **limits)
        axes.set_xlim(0, end)
        axes.set_yticks(range(len(layers)), _labels(layers, most=40), fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("step", color=GREY)
        figure.colorbar(image, ax=axes, pad=0.02, aspect=12).ax.tick_params(
            colors=GREY, labelsize=8, length=0
        )
    save(figure, path)
    return True


def _by_layer(rows: list[dict[str, Any]], order: list[str], of: Any) -> tuple[list[str], np.ndarray] | None:
    """Layers in network order, and the values (layers, steps); None of fewer than two steps."""
    if len(rows) < 2 or not of(rows[0]):
        return None

    def place(path: str) -> int:
        return next((i for i, layer in enumerate(order) if f"{path}/".startswith(f"{layer}/")), len(order))

    layers = sorted(of(rows[0]), key=place)
    return layers, np.array([[of(row)[layer] for row in rows] for layer in layers], float)


def draw_confusion(matrix: ArrayLike, classes: Sequence[str], path: Path) -> None:
    """The confusion matrix, coloured by the share of each true class, with counts up to 20 classes.

    Args:
        matrix: (C, C) counts [true, predicted].
        classes: the C names.
        path: the PNG to write.
    """
    matrix = np.asarray(matrix)
    size, total = len(classes), matrix.sum()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.5 * size, 3.2, 11.0))
    figure = new_figure(side + 2.0, side + 1.3)
    axes = figure.subplots()
    plain(axes, f"{np.trace(matrix):,} of {total:,} correct ({np.trace(matrix) / max(total, 1):.1%})")
    # The square root shows a class's few mistakes beside its many hits.
    image = axes.imshow(share, cmap=SHADES, norm=PowerNorm(0.5, 0.0, 1.0), interpolation="nearest")
    shown = range(0, size, -(-size // 50))
    labels = _labels(classes)[:: shown.step]
    long = max(map(len, labels)) > 3
    small = 9 if size <= 20 else 7
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(shown, labels, fontsize=small, **turned)
    axes.set_yticks(shown, labels, fontsize=small)
    axes.set_xlabel("predicted", color=GREY)
    axes.set_ylabel("true", color=GREY)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.tick_params(which="both", length=0)
    axes.grid(which="minor", color=LINE, linewidth=0.6 if size <= 50 else 0.2)
    if size <= 20:
        for (true, predicted), count in np.ndenumerate(matrix):
            ink = "white" if share[true, predicted] > 0.3 else INK if count else LINE
            axes.text(predicted, true, f"{count}", color=ink, size=10 if size <= 10 else 8, **_CENTRED)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, aspect=30, format=PercentFormatter(1.0, 0))
    bar.set_label("share of the true class", color=GREY)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=GREY, labelsize=8, length=0)
    save(figure, path)


def draw_mistakes(x: ArrayLike, y: ArrayLike, outputs: ArrayLike, classes: Sequence[str], path: Path) -> bool:
    """The misclassified images with the highest loss, each with its true and its predicted class.

    Args:
        x: (N, H, W, C) images of 1 or 3 channels, as they are in the dataset.
        y: (N,) integers, the true classes.
        outputs: (N, C) logits.
        classes: the C names.
        path: the PNG to write.

    Returns:
        Whether `x` are images; of anything else nothing is drawn.
    """
    x, y, outputs = np.asarray(x), np.asarray(y), np.asarray(outputs, np.float64)
    if x.ndim != 4 or x.shape[-1] not in (1, 3):
        return False
    worst = worst_mistakes(y, outputs, _SHEET_ROWS * _SHEET_COLUMNS)
    if not worst.size:
        figure = new_figure(6.0, 1.6)
        figure.text(0.5, 0.5, f"No mistakes in {len(y):,} images", color=INK, size=13, **_CENTRED)
        save(figure, path)
        return True
    predicted = outputs.argmax(axis=-1)
    sure = np.exp(_log_softmax(outputs[worst])).max(axis=-1)
    labels = _labels(classes)
    names = [(labels[y[i]], labels[predicted[i]]) for i in worst]
    # Long names take a line each, and the probability another one.
    arrow, gap = (" →\n", "\n") if max(len(true + taken) for true, taken in names) > 12 else (" → ", " ")
    columns = min(_SHEET_COLUMNS, len(worst))
    rows = -(-len(worst) // columns)
    figure = new_figure(max(1.6 * columns, 4.0), 0.5 + (2.15 if gap == "\n" else 1.85) * rows)
    mistakes = int((predicted != y).sum())
    which = "" if mistakes == len(worst) else f", the {len(worst)} with the highest loss"
    figure.suptitle(f"{mistakes:,} of {len(y):,} mistaken{which} (true → predicted)", color=INK, fontsize=11)
    low, high = (0.0, 255.0) if x.dtype == np.uint8 else (min(0.0, float(x.min())), float(x.max()))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, i, (true, taken), p in zip(grid, worst, names, sure, strict=False):
        pixels = (x[i] - low) / max(high - low, 1e-12)
        axes.imshow(pixels.squeeze(-1) if x.shape[-1] == 1 else pixels, cmap="gray", vmin=0.0, vmax=1.0)
        axes.set_title(f"{true}{arrow}{taken}{gap}({p:.0%})", fontsize=8.5, color=INK, pad=4)
    for axes in grid:
        axes.axis("off")
    save(figure, path)
    return True


def _log_softmax(outputs: np.ndarray) -> np.ndarray:
    shifted = outputs - outputs.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _labels(names: Sequence[str], most: int = 18) -> list[str]:
    """The names, long ones without their middle; those that would be alike then begin with their numbers."""
    short = [_cut(name, most) for name in names]
    count = Counter(short)
    numbered = [_cut(f"{number} {name}", most) for number, name in enumerate(names)]
    labels = [one if count[one] == 1 else other for one, other in zip(short, numbered, strict=True)]
    return [label.replace("$", r"\$") for label in labels]  # no mathematics


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - 1) // 2 :]}"
