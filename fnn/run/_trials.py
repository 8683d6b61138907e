"""What a search writes down of its trials: `trials.jsonl`, and the checkpoints of those in training."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp
from pydantic import TypeAdapter, ValidationError

from fnn.run._directory import finite, save, see_that_it_says, with_nan, write_json
from fnn.run._signals import Stopped
from fnn.tune import Journal, Outcome, Trial
from fnn.tune._engine import outcome_of, see_that_as_many
from fnn.tune._populations import Population

_SAVE_EVERY = 10.0  # seconds between two checkpoints


@dataclass
class _Kept:
    """What the index of a checkpoint says of a population."""

    trials: tuple[Trial, ...]
    epoch: int
    curves: tuple[tuple[dict[str, float | None], ...], ...]

    def __post_init__(self) -> None:
        """See that every trial has its curve."""
        if not self.trials or [*map(len, self.curves)] != [self.epoch] * len(self.trials):
            raise ValueError


@dataclass
class _Index:
    """The index of a checkpoint; null is no number."""

    count: int = 0
    name: str = ""
    seconds: float = 0.0
    populations: tuple[_Kept, ...] = ()


_INDEX = TypeAdapter(_Index)


class Records(Journal):
    """`trials.jsonl`, a line for each outcome, and the checkpoints of what is being trained."""

    def __init__(self, directory: Path, stage: str, received: list[int], replicas: int) -> None:
        """Read what an earlier process has written.

        Raises:
            JournalError: of trials that were trained more or less often than `replicas` times.
        """
        self._lines, self._stage, self._received = directory / "trials.jsonl", stage, received
        self._index, self._replicas = directory / "checkpoints" / f"{stage}.json", replicas
        written = self._lines.read_bytes()
        if written and not written.endswith(b"\n"):  # a process was killed while it wrote the last line
            with self._lines.open("ab") as file:  # a second kill costs no more than this
                file.write(b"\n")
        lines = [line for line in read_trials(directory) if line["stage"] == stage]
        self._known: dict[int, list[dict[str, Any]]] = {}
        for line in lines:
            see_that_as_many(line.get("replicas", replicas), replicas)
            self._known.setdefault(line["trial"], []).append(line)
        self.seconds = max([self._read().seconds, *(line["seconds"] for line in lines)])
        self._saved = time.monotonic()

    def recorded(self, trial: Trial, epochs: int) -> Outcome | None:
        """See `Journal`."""
        known = [line for line in self._known.get(trial.number, []) if line["epochs"] <= epochs]
        if not known:
            return None
        return as_outcome(max(known, key=lambda line: line["epochs"]))

    def record(self, outcome: Outcome, *, seconds: float) -> None:
        """See `Journal`."""
        about = {"replicas": self._replicas, "seconds": round(seconds, 3)}
        line = json.dumps(finite({"stage": self._stage, **as_line(outcome), **about}))
        with self._lines.open("a") as lines:
            lines.write(f"{line}\n")

    def border(self, populations: Sequence[Population], *, must: bool, seconds: float) -> None:
        """See `Journal`."""
        if must or self._received or time.monotonic() - self._saved > _SAVE_EVERY:
            self._save(populations, seconds)
        if self._received:
            raise Stopped(self._received[0])

    def _save(self, populations: Sequence[Population], seconds: float) -> None:
        before = self._read()
        count = before.count + 1
        name = f"{self._stage}-{count}"
        leaves = {
            str(k): {
                str(i): np.asarray(leaf)[list(population.rows)]
                for i, leaf in enumerate(jax.tree.leaves(population.mine))
            }
            for k, population in enumerate(populations)
        }
        save((self._index.parent / name).resolve(), leaves, f"fnn search {self._lines.parent}")
        about = [
            {
                "trials": [trial._asdict() for trial in population.trials],
                "epoch": population.epoch,
                "curves": population.curves,
            }
            for population in populations
        ]
        index = {"count": count, "name": name, "seconds": round(seconds, 3)}
        write_json(self._index, finite({**index, "populations": about}))
        if before.name:
            shutil.rmtree(self._index.parent / before.name, ignore_errors=True)
        self._saved = time.monotonic()

    def _read(self) -> _Index:
        """What the checkpoint holds; nothing where there is none, or where it is damaged."""
        try:
            return _INDEX.validate_json(self._index.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return _Index()

    def restored(self, like: Callable[[Trial], Population]) -> Sequence[Population]:
        """See `Journal`."""
        about = self._read()
        if not about.name:
            return ()
        targets, shapes = {}, []
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        for k, kept in enumerate(about.populations):
            trials, rows = kept.trials, tuple(range(len(kept.trials)))
            population = like(trials[0])._replace(trials=trials, rows=rows, epoch=kept.epoch)
            leaves, structure = jax.tree.flatten(population.mine)
            targets[str(k)] = {
                str(i): jax.ShapeDtypeStruct((len(trials), *leaf.shape[1:]), leaf.dtype, sharding=here)
                for i, leaf in enumerate(leaves)
            }
            shapes.append((population, structure, kept.curves))
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                loaded = checkpointer.restore((self._index.parent / about.name).resolve(), targets)
        except Exception:  # orbax raises a bare Exception where data are damaged; then trials start anew
            return ()
        return tuple(
            population._replace(
                mine=jax.tree.unflatten(
                    structure, [loaded[str(k)][str(i)] for i in range(len(loaded[str(k)]))]
                ),
                curves=tuple(tuple(map(with_nan, curve)) for curve in curves),
            )
            for k, (population, structure, curves) in enumerate(shapes)
        )


def as_line(outcome: Outcome) -> dict[str, Any]:
    """An outcome as `trials.jsonl` has it."""
    trial = outcome.trial
    names = list(dict.fromkeys(name for metrics in outcome.curve for name in metrics))
    return {
        "trial": trial.number,
        "hyperparameters": trial.hyperparameters,
        "point": list(trial.point),
        "parent": trial.parent,
        "inherited": trial.inherited,
        "epochs": outcome.epochs,
        "score": outcome.score,
        "error": outcome.error,
        "diverged": outcome.diverged,
        "curve": {name: [metrics.get(name, math.nan) for metrics in outcome.curve] for name in names},
    }


def as_outcome(line: dict[str, Any]) -> Outcome:
    """The outcome that a line of `trials.jsonl` has."""
    trial = Trial(
        line["trial"], line["hyperparameters"], tuple(line["point"]), line["parent"], line["inherited"]
    )
    curve = with_nan(line["curve"])
    return outcome_of(
        trial, [{name: column[k] for name, column in curve.items()} for k in range(line["epochs"])]
    )


@dataclass
class _Line:
    """A line of `trials.jsonl`; null is no number."""

    stage: Literal["search", "final"]
    trial: int
    hyperparameters: dict[str, Any]
    point: list[float]
    parent: int | None
    inherited: int
    epochs: int
    score: float | None
    error: float | None
    diverged: bool
    curve: dict[str, list[float | None]]
    seconds: float
    replicas: int = 0  # an older version has not written it down

    def __post_init__(self) -> None:
        """See that some epochs were trained, and that every column of the curve has them all."""
        if not 0 <= self.inherited < self.epochs or {*map(len, self.curve.values())} != {self.epochs}:
            raise ValueError


_LINE = TypeAdapter(_Line)


def read_trials(directory: Path) -> list[dict[str, Any]]:
    """The lines of `trials.jsonl`, without one that was cut off while it was written.

    Raises:
        ConfigError: a line that is none of a search.
    """
    lines, path = [], directory / "trials.jsonl"
    for number_of_line, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        problem = f"line {number_of_line} does not record a trial; take it out to train that one again"
        see_that_it_says(_LINE, line, str(path), problem)
        lines.append(line)
    return lines


def last_lines(directory: Path) -> dict[int, dict[str, Any]]:
    """What `trials.jsonl` says last of each trial of the search."""
    return {line["trial"]: line for line in read_trials(directory) if line["stage"] == "search"}
