"""What a run records of its layers, and how a finished run, of fnn or of another framework, is judged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import TypeAdapter
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import fnn
from fnn.data._dataset import has_classes
from fnn.run._config import ConfigError
from fnn.run._curve_file import curves_of, read_records, rows_of
from fnn.run._directory import check_begun, finite, see_that_it_says, with_nan, write_whole
from fnn.run._prepare import Prepared
from fnn.train._fit import spread_rows
from fnn.train._state import as_values
from fnn.tune._curve import in_pieces
from fnn.tune._data import same_class

FILE = "diagnostics.jsonl"
_RECORDS, _PROBES = 200, 50  # in a whole run, about
_LEAST = 50  # steps from one watched step to the next, so that watching costs little
_PROBED = 256  # examples
STYLES = {"PASS": "green", "WARN": "yellow", "FAIL": "red", "SKIP": "dim"}

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
    records = read_records(path) if path.exists() else []
    for number, record in enumerate(records, 1):
        adapter: TypeAdapter[Any] = _ABOUT if number == 1 else _RECORD
        what = "what the run is" if number == 1 else "losses, a watched step or a probe"
        problem = f"this does not say {what}; the file is damaged: remove it to judge the run by its epochs"
        see_that_it_says(adapter, record, f"{path}, line {number}", problem)
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
        curves = curves_of(rows_of(path), path)
        if len(curves.loss) < 3:
            raise ConfigError(str(path), f"a curve of at least 3 losses is wanted, not of {len(curves.loss)}")
        return curves
    check_begun(path, "run", "metrics.jsonl")
    epochs, none = read_records(path / "metrics.jsonl"), np.zeros(0)
    curves = curves_of(epochs, path / "metrics.jsonl") if epochs else fnn.Curves(none, none, none, none, none)
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
