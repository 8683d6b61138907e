"""What is said and drawn of a run from the files in its directory, at its end or by `fnn report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

import fnn
from fnn.run._config import ConfigError
from fnn.run._curve_file import read_history
from fnn.run._diagnose import FILE, as_json, judge_run
from fnn.run._directory import check_begun, read_json, write_json
from fnn.run._figures import draw_curves, draw_layers
from fnn.run._report import write_report


def report(directory: Path, console: Console) -> int:
    """Judge a run anew, draw its curves and its layers, and write its report.

    Of a run that still trains, or that was stopped, the page shows how far it has come. What takes the
    network, such as the confusion matrix, is as the run has drawn it at its end.

    Returns:
        The exit code, 0.

    Raises:
        ConfigError: not a run, or one of which no epoch has ended.
    """
    check_begun(directory, "run", "metrics.jsonl")
    history = read_history(directory)
    if not history:
        raise ConfigError(str(directory), "no epoch has ended yet, so there is nothing to report on")
    if (
        "stopped" not in read_json(directory / "results.json", {"stopped": ""})
        and not (directory / "report.html").is_file()
    ):
        raise ConfigError(
            str(directory), f"the run was cut off at its end; fnn train {directory} writes its report"
        )
    redraw(directory, history)
    console.print(f"report: {write_report(directory)}", highlight=False, soft_wrap=True)
    return 0


def redraw(directory: Path, history: Sequence[Mapping[str, float]]) -> tuple[fnn.Finding, ...]:
    """Judge a run, and draw its layers and its curves; what was found."""
    findings = judge_run(directory)
    write_json(directory / "findings.json", as_json(fnn.by_urgency(findings)))
    draw_layers(directory / FILE, directory / "figures" / "layers.png")
    if history:
        draw_curves(history, directory / "figures" / "curves.png")
    return findings
