"""The figures of a run: learning curves, the layers over time, the confusion matrix, the worst mistakes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from fnn.run._look import GREY, INK, LINE, SHADES, TRAIN, VALIDATION, new_figure, plain, save

_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
_SHEET_COLUMNS, _SHEET_ROWS = 6, 4


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
    best = max(range(len(history)), key=lambda epoch: _rank(history[epoch]))
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

    Args:
        records: the `diagnostics.jsonl` of a run.
        path: the PNG to write.

    Returns:
        Whether there is anything to draw.
    """
    rows = [json.loads(line) for line in records.read_text().splitlines()] if records.exists() else []
    watched = [row for row in rows if "update_ratio" in row]
    probes = [row for row in rows if "probe" in row]
    order = rows[0]["layers"] if rows else []
    found = {"log10 of ‖Δw‖ / ‖w‖": _by_layer(watched, order, lambda row: row["update_ratio"], np.log10)}
    for name, title in (
        ("dead_units", "share of dead rectified units"),
        ("saturated_units", "share of outputs in the flat tails"),
        ("statistics", "distance of running statistics, in deviations"),
    ):
        found[title] = _by_layer(probes, order, lambda row, name=name: row["probe"].get(name, {}))
    maps = {title: values for title, values in found.items() if values is not None}
    if not maps:
        return False
    heights = [1.1 + 0.24 * len(layers) for _, layers, _ in maps.values()]
    figure = new_figure(8.0, sum(heights))
    for axes, (title, (steps, layers, values)) in zip(
        figure.subplots(len(maps), squeeze=False, height_ratios=heights)[:, 0], maps.items(), strict=True
    ):
        plain(axes, title)
        if title.startswith("log10"):
            limits: dict[str, Any] = {"vmin": -5, "vmax": -1, "cmap": "RdBu_r"}
        else:
            limits = {"vmin": 0, "vmax": 1, "cmap": SHADES}
        image = axes.pcolormesh(steps, np.arange(len(layers)), values, shading="nearest", **limits)
        axes.set_yticks(range(len(layers)), list(map(_short, layers)), fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("step", color=GREY)
        figure.colorbar(image, ax=axes, pad=0.02, aspect=12).ax.tick_params(
            colors=GREY, labelsize=8, length=0
        )
    save(figure, path)
    return True


def _by_layer(
    rows: list[dict[str, Any]], order: list[str], of: Any, scale: Any = None
) -> tuple[np.ndarray, list[str], np.ndarray] | None:
    """Steps, layers in network order, and the values (layers, steps); None of fewer than two steps."""
    if len(rows) < 2 or not of(rows[0]):
        return None

    def place(path: str) -> int:
        return next((i for i, layer in enumerate(order) if f"{path}/".startswith(f"{layer}/")), len(order))

    layers = sorted(of(rows[0]), key=place)
    values = np.array([[of(row)[layer] for row in rows] for layer in layers], float)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = values if scale is None else scale(values)
    return (
        np.array([row["step"] for row in rows], float),
        layers,
        np.where(np.isfinite(values), values, np.nan),
    )


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
    labels = [_short(classes[i]) for i in shown]
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
    names = [(_short(classes[y[i]]), _short(classes[predicted[i]])) for i in worst]
    arrow = " →\n" if max(len(true + taken) for true, taken in names) > 12 else " → "
    columns = min(_SHEET_COLUMNS, len(worst))
    rows = -(-len(worst) // columns)
    figure = new_figure(max(1.6 * columns, 4.0), 0.5 + (2.0 if "\n" in arrow else 1.85) * rows)
    mistakes = int((predicted != y).sum())
    which = "" if mistakes == len(worst) else f", the {len(worst)} with the highest loss"
    figure.suptitle(f"{mistakes:,} of {len(y):,} mistaken{which} (true → predicted)", color=INK, fontsize=11)
    low, high = (0.0, 255.0) if x.dtype == np.uint8 else (min(0.0, float(x.min())), float(x.max()))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, i, (true, taken), p in zip(grid, worst, names, sure, strict=False):
        pixels = (x[i] - low) / max(high - low, 1e-12)
        axes.imshow(pixels.squeeze(-1) if x.shape[-1] == 1 else pixels, cmap="gray", vmin=0.0, vmax=1.0)
        axes.set_title(f"{true}{arrow}{taken} ({p:.0%})", fontsize=8.5, color=INK, pad=4)
    for axes in grid:
        axes.axis("off")
    save(figure, path)
    return True


def _log_softmax(outputs: np.ndarray) -> np.ndarray:
    shifted = outputs - outputs.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """What `fnn.fit` calls better: validation accuracy, then a lower validation loss."""
    return metrics.get("validation_accuracy", 0.0), -metrics["validation_loss"]


def _short(name: str, most: int = 18) -> str:
    name = name if len(name) <= most else name[: most - 1] + "…"
    return name.replace("$", r"\$")  # no mathematics
