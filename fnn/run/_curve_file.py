"""Curves from a file that any framework has written: CSV, TSV or JSONL, with columns of several names."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

import fnn
from fnn.run._config import ConfigError, shown
from fnn.run._directory import with_nan

# How other frameworks' files name the columns, as `_plainly` has the names.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "step": ("step", "global_step", "iteration", "iter", "epoch"),
    "epoch": ("epoch",),
    "loss": ("loss", "train_loss", "training_loss", "train_loss_step", "train_loss_epoch"),
    "accuracy": (
        "accuracy", "train_accuracy", "training_accuracy", "acc", "train_acc", "train_accuracy_epoch",
        "train_acc_epoch",
    ),
    "validation_loss": ("validation_loss", "val_loss", "valid_loss", "eval_loss"),
    "validation_accuracy": (
        "validation_accuracy", "val_accuracy", "val_acc", "valid_accuracy", "valid_acc", "eval_accuracy",
        "eval_acc",
    ),
}  # fmt: skip


def _plainly(name: Any) -> str:
    """A name without its marks: `train_loss` for "train/loss", "Train Loss" and " train_loss"."""
    return "_".join(re.findall("[a-z0-9]+", str(name).lower()))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV, TSV or JSONL file.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    if not path.is_file():
        raise ConfigError("", f"there is no run, config or file of curves {path}")
    separators = {".csv": ",", ".tsv": "\t"}
    if path.suffix.lower() not in separators:
        return read_records(path)
    text = _text(path).removeprefix("\ufeff")
    try:
        rows = list(csv.DictReader(text.splitlines(), delimiter=separators[path.suffix.lower()]))
    except csv.Error as error:  # a cell of 131,072 characters or more
        raise ConfigError(str(path), f"this is no table of numbers: {error}; mend the file") from error
    return rows[:-1] if rows and not text.endswith("\n") and _is_cut(rows) else rows


def _is_cut(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last row was not written to its end: it lacks cells, or ends in half a number."""
    ends = [[*row.values()][-1] for row in rows[-2:]]
    return None in rows[-1].values() or (_is_number(ends[0]) and not _is_number(ends[-1]))


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "this is not text in UTF-8; save it so") from error
    except OSError as error:
        raise ConfigError("", f"cannot read {path}: {error.strerror}") from error


_EPOCH = TypeAdapter(dict[str, float | None])  # a line of metrics.jsonl; null is no number


def read_history(directory: Path, epochs: int | None = None) -> list[dict[str, float]]:
    """The metrics of a run's epochs, or of so many of them, from its `metrics.jsonl`, with their numbers.

    Raises:
        ConfigError: a line is none of an epoch.
    """
    path, history = directory / "metrics.jsonl", []
    for number, record in enumerate(read_records(path)[:epochs], 1):
        try:
            _EPOCH.validate_python(record, strict=True)
            complete = {"epoch", "validation_loss"} <= record.keys()
        except ValidationError:
            complete = False
        if not complete:
            raise ConfigError(
                f"{path}, line {number}",
                'expected the metrics of an epoch, such as {"epoch": 1, "loss": 0.5, "validation_loss": 0.6}'
                "; put it back as it was",
            )
        history.append(with_nan(record))
    return history


def read_records(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; a last line that was not written to its end is left out.

    Raises:
        ConfigError: another line is none.
    """
    records = []
    lines = _text(path).splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            remedy = "mend the line, or remove it"
            if path.suffix != ".jsonl":
                remedy = 'curves are in a .csv or .tsv file, or objects such as {"loss": 0.5}, one a line'
            raise ConfigError(f"{path}, line {number}", f"this is not JSON: {error}; {remedy}") from error
        if not isinstance(record, dict):
            raise ConfigError(
                f"{path}, line {number}", 'expected an object such as {"epoch": 1, "loss": 0.5}'
            )
        records.append(record)
    return records


def curves_of(rows: Sequence[Mapping[str, Any]], path: Path) -> fnn.Curves:
    """Rows with names as some framework gives them; a row may lack some of them."""
    if not rows:
        raise ConfigError(str(path), "there are no losses in it; check it once it has some")
    names = {_plainly(name): name for row in rows for name in row if name is not None}
    known = {
        column: next((names[alias] for alias in aliases if alias in names), None)
        for column, aliases in _COLUMNS.items()
    }
    if known["loss"] is None:
        problem = "no column holds the training loss (loss or train_loss)"
        raise ConfigError(str(path), f"{problem}; name it so, of {', '.join(map(str, names.values()))}")

    def column(which: str) -> tuple[np.ndarray, list[Mapping[str, Any]]]:
        """The numbers of a column, and the rows that have them."""
        name = known[which]
        if name is None:
            return np.zeros(0), []
        having = [row for row in rows if name in row]  # a JSON record without it is about something else
        given = [place for place, row in enumerate(having) if row[name] not in (None, "")]
        # Some write a blank for NaN, others where a row is about something else. Blanks to the end, more
        # than ever before, are numbers that are none.
        gaps = np.diff([-1, *given, len(having)])
        lost = [given[-1] + 1] if given and gaps[-1] > 1 + gaps[:-1].max() else []
        values = [_float(having[place][name], f"{path}, {name}") for place in given] + [math.nan] * len(lost)
        return np.array(values), [having[place] for place in [*given, *lost]]

    def numbers(rows: list[Mapping[str, Any]], name: Any) -> np.ndarray:
        """What stands beside the losses; NaN where nothing does."""
        cells = [None if name is None else row.get(name) for row in rows]
        return np.array(
            [math.nan if cell in (None, "") else _float(cell, f"{path}, {name}") for cell in cells]
        )

    loss, rows_of_losses = column("loss")
    steps, epochs = (numbers(rows_of_losses, known[name]) for name in ("step", "epoch"))
    right, held = column("accuracy")[0], column("validation_accuracy")[0]
    in_percent = any(value > 1.001 for value in (*right, *held))  # means of 1 may be rounded up
    unit = 100 if in_percent else 1
    return fnn.Curves(
        steps if np.isfinite(steps).all() else np.arange(1.0, len(loss) + 1),
        loss,
        right / unit,
        column("validation_loss")[0],
        held / unit,
        whole_epochs=known["step"] is None or _one_each(epochs),
    )


def _one_each(epochs: np.ndarray) -> bool:
    """Whether losses are means over epochs: there is one for each."""
    return np.isfinite(epochs).all() and (epochs % 1 == 0).all() and len(set(epochs)) == len(epochs)


def _float(cell: Any, where: str) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):  # no float is as large as some integers of JSON
        raise ConfigError(where, f"expected a number, not {shown(cell)}") from None
