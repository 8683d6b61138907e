"""What a terminal or a log shows of a search."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fnn.run._directory import read_json, see_that_it_says, with_nan
from fnn.run._progress import duration, number, with_error
from fnn.run._trials import as_outcome, last_lines
from fnn.tune import Outcome, SearchProgress
from fnn.tune._method import ranked
from fnn.tune._space import in_words

_SHOWN = 10  # trials in a table


class SearchDisplay:
    """Shows the best trials so far: a live table on a terminal, at most a line a second elsewhere."""

    def __init__(self, console: Console) -> None:
        """Start the clock."""
        self._console, self._started, self._line_at = console, time.monotonic(), -math.inf
        live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, transient=True) if live else None

    def __enter__(self) -> SearchDisplay:
        """Start the live display."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop it."""
        if self._live is not None:
            self._live.stop()

    def report(self, stage: str) -> Callable[[SearchProgress], None]:
        """What an engine tells about a stage."""
        said: set[str] = set()

        def show(progress: SearchProgress) -> None:
            for note in progress.notes:
                if note not in said:
                    said.add(note)
                    self._console.print(note, highlight=False)
            words = self._words(progress, stage)
            if self._live is not None:
                table = trials_table(progress.outcomes)
                table.caption = words
                self._live.update(table)
            elif time.monotonic() - self._line_at >= 1 or progress.epoch == progress.epochs:
                self._line_at = time.monotonic()
                self._console.print(words, highlight=False, soft_wrap=True)

        return show

    def _words(self, progress: SearchProgress, stage: str) -> str:
        best = ranked(progress.outcomes)[0]
        doing = "" if stage == "search" else "again with fresh seeds, "
        return (
            f"{doing}{len(progress.training)} trials, epoch {progress.epoch}/{progress.epochs}  best "
            f"{number(best.score)} (trial {best.trial.number})  {duration(time.monotonic() - self._started)}"
        )


def trials_table(outcomes: Sequence[Outcome], shown: int = _SHOWN) -> Table:
    """The best trials with their hyperparameters."""
    paths = list(dict.fromkeys(path for o in outcomes for path in o.trial.hyperparameters))
    table = Table("trial", "score", "epochs", *map(_breakable, paths))
    for column in table.columns:
        column.justify = "right"
    table.columns[1].no_wrap = True
    for outcome in ranked(outcomes)[:shown]:
        score = "diverged" if outcome.diverged else with_error(outcome.score, outcome.error)
        values = (in_words(outcome.trial.hyperparameters.get(path, "–")) for path in paths)
        table.add_row(str(outcome.trial.number), score, str(outcome.epochs), *values)
    return table


def _breakable(path: str) -> str:
    """A path on two lines, so that a table is not too wide."""
    section, _, name = path.rpartition(".")
    return f"{section}\n{name}" if section else name


@dataclass
class _Finalist:
    """One of the best trials, trained again."""

    trial: int
    score: float
    error: float


@dataclass
class _Found:
    """What `results.json` says of a search, as far as it is shown."""

    trials: int
    diverged: int
    epochs: int
    seconds: float
    notes: list[str]
    finalists: list[_Finalist]
    stopped: str = ""
    test: dict[str, float] = field(default_factory=dict)


_FOUND = TypeAdapter(_Found)


def show_search(directory: Path, console: Console) -> int:
    """Print what a finished search found; its exit code."""
    path = directory / "results.json"
    results = with_nan(read_json(path, {}))
    problem = "this is not what a search found; delete it, and the search ends again"
    see_that_it_says(_FOUND, results, str(path), problem)
    console.print(trials_table([*map(as_outcome, last_lines(directory).values())]))
    console.print(
        f"{results['trials']} trials, {results['diverged']} diverged, {results['epochs']:,} epochs in "
        f"{duration(results['seconds'])}",
        highlight=False,
    )
    for words in _findings(results, directory):
        console.print(words, highlight=False, soft_wrap=True)
    console.print(f"report: {directory / 'report.html'}", highlight=False, soft_wrap=True)
    return int(not results["finalists"] or "stopped" in results)


def _findings(results: dict[str, Any], directory: Path) -> Iterator[str]:
    yield from results["notes"]
    if not results["finalists"]:
        yield "every trial diverged; try lower learning rates"
    for place, finalist in enumerate(results["finalists"]):
        yield (
            f"{'best' if place == 0 else 'then'}: trial {finalist['trial']}, trained again with fresh seeds: "
            f"{with_error(finalist['score'], finalist['error'])}"
        )
    if "stopped" in results:
        yield f"{directory / 'best'}: {results['stopped']}"
    if "test" in results:
        figures = ", ".join(f"{name} {number(value)}" for name, value in results["test"].items())
        yield f"{directory / 'best.toml'} on the test set: {figures}"
