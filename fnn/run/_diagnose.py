"""What a run records of its layers, and how a finished run, of fnn or of another framework, is judged."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import fnn
from fnn.run._config import ConfigError
from fnn.run._directory import write_whole
from fnn.run._prepare import Prepared
from fnn.run._registry import nearest
from fnn.train._fit import spread_rows
from fnn.train._state import as_values
from fnn.train._step import has_classes
from fnn.tune._curve import in_pieces
from fnn.tune._data import same_class

FILE = "diagnostics.jsonl"
_RECORDS, _PROBES = 200, 50  # in a whole run, about
_LEAST = 50  # steps from one watched step to the next, so that watching costs little
_PROBED = 256  # examples
STYLES = {"PASS": "green", "WARN": "yellow", "FAIL": "red", "SKIP": "dim"}

# How other frameworks' files name the columns.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "step": ("step", "global_step", "iteration", "iter", "epoch"),
    "epoch": ("epoch",),
    "loss": ("loss", "train_loss", "training_loss", "train/loss"),
    "accuracy": ("accuracy", "train_accuracy", "training_accuracy", "acc", "train_acc", "train/accuracy"),
    "validation_loss": ("validation_loss", "val_loss", "valid_loss", "val/loss", "eval_loss"),
    "validation_accuracy": (
        "validation_accuracy", "val_accuracy", "val_acc", "valid_accuracy", "val/accuracy", "eval_accuracy",
    ),
}  # fmt: skip

_probe = jax.jit(fnn.probe, static_argnums=0)


class Recorder:
    """Writes `diagnostics.jsonl`: what the run is, then its losses, its watched steps and its probes.

    Args:
        prepared: the run.
        directory: of the run.
        taken: the steps from which the run goes on; what the file says of later ones is forgotten.
    """

    def __init__(self, prepared: Prepared, directory: Path, taken: int = 0) -> None:
        """Begin the file, or cut it off."""
        self._prepared, self._path = prepared, directory / FILE
        x, y = prepared.data.train
        length = {name: prepared.settings[name] for name in ("epochs", "batch_size")}
        steps = fnn.steps_of_run(len(x), **length)
        self.every = max(_LEAST, steps // _RECORDS)
        self._piece = max(1, steps // _RECORDS)
        self._probe_every = -(-length["epochs"] // _PROBES)
        about = {
            "watch_every": self.every,  # steps, and at the first of every epoch
            "same_class": same_class(y) if has_classes(np.asarray(y)) else math.nan,
            "validation_examples": len(prepared.data.validation.x),
            "layers": [row.path for row in prepared.summary.rows],  # in network order
        }
        kept = list(_until(self._path, taken))
        write_whole(self._path, "".join(json.dumps(record) + "\n" for record in (finite(about), *kept)))

    def __call__(self, progress: fnn.Progress) -> None:
        """Take the next report of `fnn.fit`."""
        self.losses(progress.losses, progress.step - len(progress.losses))
        self._write(progress.watched)
        if progress.fit is not None and (
            progress.epoch % self._probe_every == 0 or progress.step == progress.steps
        ):
            x = self._prepared.data.train.x
            x = x[spread_rows(len(x), _PROBED)]
            found = _probe(self._prepared.make, as_values(self._prepared.values), progress.fit.last, x)
            self._write([{"step": progress.step, "probe": jax.tree.map(float, jax.device_get(found))}])

    def losses(self, losses: np.ndarray, first: int) -> None:
        """The losses of some steps, the first of which is number `first`, from 0."""
        pieces = zip(*(part.tolist() for part in in_pieces(losses, self._piece, first)), strict=True)
        self._write({"step": step, "loss": mean, "loss_max": highest} for step, mean, highest in pieces)

    def _write(self, records: Iterable[Mapping[str, Any]]) -> None:
        with self._path.open("a") as lines:
            lines.writelines(json.dumps(finite(record)) + "\n" for record in records)


def _until(path: Path, taken: int) -> Iterator[dict[str, Any]]:
    """What a run has recorded of its first steps."""
    for record in _recorded(path)[1:]:
        if record["step"] < taken or (record["step"] == taken and "probe" in record):  # after so many steps
            yield record


@dataclass
class _About:
    """What the first line of `diagnostics.jsonl` says; null is no number."""

    same_class: float | None
    validation_examples: int
    layers: list[str]


@dataclass
class _Losses:
    """A line of it about some steps, the first of which is number `step`, from 0."""

    step: int
    loss: float | None
    loss_max: float | None


@dataclass
class _Watched:
    """A line about a watched step."""

    step: int
    update_ratio: dict[str, float | None]
    batch_purity: float | None


@dataclass
class _Probe:
    """A line about the layers after so many steps."""

    step: int
    probe: dict[str, dict[str, float | None]]


_ABOUT = TypeAdapter(_About)
_RECORD: TypeAdapter[_Losses | _Watched | _Probe] = TypeAdapter(_Losses | _Watched | _Probe)


def _recorded(path: Path) -> list[dict[str, Any]]:
    """The lines of a `diagnostics.jsonl`; none where there is no such file.

    Raises:
        ConfigError: it is damaged.
    """
    records = _records(path) if path.exists() else []
    for number, record in enumerate(records, 1):
        try:
            (_ABOUT if number == 1 else _RECORD).validate_json(json.dumps(record), strict=True)
        except ValidationError as error:
            what = "what the run is" if number == 1 else "losses, a watched step or a probe"
            raise ConfigError(
                f"{path}, line {number}",
                f"this does not say {what}; the file is damaged: remove it to judge the run by its epochs",
            ) from error
    return records


def judge_run(path: Path, reference: Path | None = None) -> tuple[fnn.Finding, ...]:
    """Judge a run by its directory, or by a file of curves.

    Raises:
        ConfigError: there are no curves.
    """
    records = with_nan(_recorded(path / FILE))
    probes = [record["probe"] for record in records if "probe" in record]
    return fnn.judge(
        _curves(path, records),
        [record for record in records if "update_ratio" in record],
        probes[-1] if probes else None,
        same_class=records[0]["same_class"] if records else math.nan,
        reference=None if reference is None else _curves(reference, with_nan(_recorded(reference / FILE))),
    )


def _curves(path: Path, records: list[dict[str, Any]]) -> fnn.Curves:
    """The curves of a run, or of a CSV or JSONL file that any framework has written."""
    if not path.is_dir():
        curves = _columns(_rows(path), path)
        if len(curves.loss) < 3:
            raise ConfigError(str(path), f"a curve of at least 3 losses is wanted, not of {len(curves.loss)}")
        return curves
    if not (path / "metrics.jsonl").is_file():
        raise ConfigError("", f"{path} is not the directory of a run: it has no metrics.jsonl")
    epochs, none = _records(path / "metrics.jsonl"), np.zeros(0)
    curves = _columns(epochs, path / "metrics.jsonl") if epochs else fnn.Curves(none, none, none, none, none)
    if not records:
        return curves
    pieces = [record for record in records if "loss_max" in record]
    steps, loss, highest = (
        np.array([p[name] for p in pieces], float) for name in ("step", "loss", "loss_max")
    )
    return curves._replace(
        steps=steps + 1,  # the records count from 0, people from 1
        loss=loss,
        highest=highest,
        validation_examples=records[0]["validation_examples"],
        whole_epochs=False,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ConfigError("", f"there is no run, config or file of curves {path}")
    separators = {".csv": ",", ".tsv": "\t"}
    if path.suffix.lower() not in separators:
        return _records(path)
    text = _text(path).removeprefix("\ufeff")
    rows = list(csv.DictReader(text.splitlines(), delimiter=separators[path.suffix.lower()]))
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


def _records(path: Path) -> list[dict[str, Any]]:
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
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ConfigError(
                f"{path}, line {number}", f"this is not JSON: {error}; mend the line, or remove it"
            ) from error
        if not isinstance(record, dict):
            raise ConfigError(
                f"{path}, line {number}", 'expected an object such as {"epoch": 1, "loss": 0.5}'
            )
        records.append(record)
    return records


def _columns(rows: Sequence[Mapping[str, Any]], path: Path) -> fnn.Curves:
    """Rows with names as some framework gives them; a row may lack some of them."""
    names = {str(name).lower(): name for row in rows for name in row if name is not None}
    known = {
        column: next((names[alias] for alias in aliases if alias in names), None)
        for column, aliases in _COLUMNS.items()
    }
    if known["loss"] is None:
        hint = nearest("loss", names)
        raise ConfigError(str(path), f"no column holds the training loss (loss or train_loss){hint}")

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
    except (TypeError, ValueError):
        raise ConfigError(where, f"expected a number, not {cell!r}") from None


def finite(tree: Any) -> Any:
    """The tree with null for numbers that JSON does not have."""
    if isinstance(tree, dict):
        return {name: finite(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def with_nan(tree: Any) -> Any:
    """What `finite` wrote, as it was."""
    if isinstance(tree, dict):
        return {name: with_nan(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [with_nan(value) for value in tree]
    return math.nan if tree is None else tree


def as_json(findings: Iterable[fnn.Finding]) -> list[dict[str, Any]]:
    """Findings for machines: numbers that JSON does not have become null."""
    return [finite(finding._asdict()) for finding in findings]


def show(findings: Iterable[fnn.Finding], console: Console, *, passed: bool = True) -> None:
    """Findings for people, the likeliest cause first; `passed`: also those that complain of nothing."""
    quiet = Table.grid(padding=(0, 2))
    for finding in fnn.by_urgency(findings):
        verdict, held = Text(finding.verdict, STYLES[finding.verdict]), _held(finding)
        if finding.advice:
            console.print(verdict, Text(finding.id, "bold"), held, highlight=False)
            advice = Text(f"{finding.why}\n→ {finding.advice} ({finding.source})")
            console.print(Padding(advice, (0, 0, 0, 5)))
        elif passed and console.is_terminal:
            quiet.add_row(verdict, finding.id, held, Text(finding.why, no_wrap=True, overflow="ellipsis"))
        elif passed:  # a file has room for all of it
            console.print(verdict, finding.id, held, finding.why, sep="  ", highlight=False, soft_wrap=True)
    if quiet.rows:
        console.print(quiet)


def _held(finding: fnn.Finding) -> str:
    """The number beside its threshold."""
    if finding.verdict == "SKIP":
        return "–"
    bad = fnn.CHECKS[finding.id].bad
    sign = {("high", True): ">", ("high", False): "≤", ("low", True): "<", ("low", False): "≥"}
    return f"{_number(finding.value)} {sign[bad, bool(finding.advice)]} {_number(finding.threshold)}"


def exit_code(findings: Iterable[fnn.Finding]) -> int:
    """1 where one failed, else 0."""
    return int(any(finding.verdict == "FAIL" for finding in findings))


def _number(value: float) -> str:
    return "∞" if value == math.inf else "-∞" if value == -math.inf else f"{value:.3g}"
