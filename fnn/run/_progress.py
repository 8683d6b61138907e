"""What a terminal or a log shows of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fnn.train import Progress

_MANY_EPOCHS = 50


class Display:
    """Shows the progress of a run: a live bar on a terminal, a line an epoch elsewhere.

    Use as a context around the run and give it to `fnn.fit` as `report`. Of more than 50 epochs at most one
    line a second is written, and always the last. Lines hold no control characters.

    Args:
        console: where to write; standard output by default.
        title: what stands in front of the bar.
        clock: tells the time in seconds.
    """

    def __init__(
        self, console: Console | None = None, title: str = "", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """See the class."""
        self._console = console or Console()
        self._title = title
        self._clock = clock
        self._started = clock()
        self._first: tuple[int, float] | None = None  # step and time of the first report: compiled by then
        self._now = self._started
        self._progress: Progress | None = None
        self._validation: dict[str, float] = {}  # of the last epoch that has ended
        self._line_at = float("-inf")
        self._pending = ""  # a line held back
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, get_renderable=self._render) if live else None

    def __enter__(self) -> Display:
        """Start the clock and the live display."""
        self._started = self._clock()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what was held back; the last state of a live display stays on the screen."""
        if self._live is not None:
            self._live.stop()
        elif self._pending:
            self._write()

    def __call__(self, progress: Progress) -> None:
        """Take the next report of `fnn.fit`."""
        self._progress, self._now = progress, self._clock()
        if self._first is None:
            self._first = progress.step, self._now
        if progress.fit is None:
            return
        self._validation = {k: v for k, v in progress.metrics.items() if k.startswith("validation_")}
        if self._live is None:
            words = [f"epoch {progress.epoch}/{progress.epochs}", *self._metrics(), *self._speed()]
            self._pending = "  ".join(words)
            calm = progress.epochs <= _MANY_EPOCHS or self._now - self._line_at >= 1.0
            if calm or progress.step == progress.steps:
                self._write()

    def _write(self) -> None:
        self._console.out(self._pending, highlight=False)
        self._console.file.flush()
        self._pending, self._line_at = "", self._now

    def _metrics(self) -> list[str]:
        """Training metrics of the current epoch, validation metrics of the last one that has ended."""
        assert self._progress is not None
        metrics = self._progress.metrics | self._validation
        names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
        return [f"{name.replace('_', ' ')} {number(metrics[name])}" for name in names if name in metrics]

    def _speed(self) -> list[str]:
        """Steps per second since the first report, and the time left; the time taken at the end."""
        assert self._progress is not None
        assert self._first is not None
        first_step, first_time = self._first
        step, steps = self._progress.step, self._progress.steps
        words = []
        if step > first_step and self._now > first_time:
            rate = (step - first_step) / (self._now - first_time)
            words = [f"{rate:,.0f} steps/s" if rate >= 10 else f"{rate:.2g} steps/s"]
            if step < steps:
                words.append(f"{duration((steps - step) / rate)} left")
        if step == steps:
            words.append(f"took {duration(self._now - self._started)}")
        return words

    def _render(self) -> RenderableType:
        """The live display: a bar, and a line of metrics under it."""
        progress = self._progress
        if progress is None:
            return Text(f"{self._title}  compiling, {duration(self._clock() - self._started)}".strip())
        title = Text(self._title, style="bold")
        words = Text("  ".join([f"epoch {progress.epoch}/{progress.epochs}", *self._speed()]))
        width = min(40, max(4, self._console.width - title.cell_len - words.cell_len - 6))
        row = Table.grid(padding=(0, 2))
        row.add_row(title, ProgressBar(total=progress.steps, completed=progress.step, width=width), words)
        return Group(row, Text("  ".join(self._metrics()), style="dim"))


def results_table(results: Mapping[str, Any]) -> Table:
    """The final figures as a table: a row for validation and for test, a column for each metric.

    Args:
        results: what `results.json` holds.
    """
    parts = {name: results[name] for name in ("validation", "test") if name in results}
    metrics = list(dict.fromkeys(["loss", *(metric for part in parts.values() for metric in part)]))
    table = Table("", *(metric.replace("_", " ") for metric in metrics))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, part in parts.items():
        table.add_row(name, *(number(part[metric]) if metric in part else "–" for metric in metrics))
    return table


def number(value: float) -> str:
    """A loss or an accuracy with three decimals, or in powers of ten where those would not show it.

    >>> number(0.41234), number(0.00012)
    ('0.412', '1.20e-04')
    """
    return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def with_error(value: float, error: float | None) -> str:
    """A score with its standard error, where there is one.

    >>> with_error(0.9, 0.01), with_error(0.9, None)
    ('0.900 ± 0.010', '0.900')
    """
    if error is None or not math.isfinite(error):
        return number(value)
    return f"{number(value)} ± {number(error)}"


def duration(seconds: float) -> str:
    """A time as one says it.

    >>> duration(42), duration(185), duration(3720)
    ('42 s', '3 m 05 s', '1 h 02 m')
    """
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} m {total % 60:02} s"
    minutes = round(total / 60)
    return f"{minutes // 60} h {minutes % 60:02} m"
