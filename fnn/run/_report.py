"""The report of a run or of a search: one page that needs nothing else."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from fnn.run._config import ConfigError
from fnn.run._curve_file import read_history
from fnn.run._directory import read_json, with_nan, write_whole
from fnn.run._progress import with_error
from fnn.train._fit import rank

_CAPTIONS = {
    "curves": "Learning curves. Training figures are means over an epoch while it learns, validation figures "
    "are measured at its end.",
    "confusion": "How often each class was taken for each; darker is a larger share of the true class.",
    "layers": "What the layers did while the run trained, by layer and step: how large each update "
    "was beside its parameters (about 1e-3 is usual), and what the probed examples showed. Grey is no "
    "number, as where the parameters are 0.",
    "mistakes": "The worst mistakes: true → predicted class, with the probability of the prediction.",
}
_SEARCH_CAPTIONS = {
    "budget": "The best score so far, after so many epochs of all trials; those that train together count "
    "one after the other.",
    "hyperparameters": "The score of every trial against each hyperparameter, and the share of the variation "
    "between trials that it explains.",
    "parallel": "Every trial as a line through its hyperparameters, with a gap where it does not have one; "
    "the darker, the better.",
    "curves": "The learning curve of every trial; the darker, the better it ended.",
    "rungs": "For how many epochs each trial was trained.",
}

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --ink: #26323d; --grey: #64717d; --line: #dfe4e8; --page: #fff; --box: #f5f7f9; --warn: #b4531a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dde4ea; --grey: #93a1ad; --line: #36414b; --page: #151a1f; --box: #1e252c;
    --warn: #f0a36b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 1.25rem 4rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.05rem; font-weight: 600; color: var(--grey); overflow-wrap: anywhere; }
h2 { margin: 2.75rem 0 0.75rem; font-size: 1.2rem; font-weight: 600; }
.headline { margin: 0.25rem 0 0; font-size: clamp(2rem, 8vw, 3.25rem); font-weight: 700; line-height: 1.15; }
.facts { margin: 0.5rem 0 0; color: var(--grey); }
.stopped { margin: 1.25rem 0 0; padding: 0.6rem 0.9rem; border-left: 4px solid var(--warn);
  background: var(--box); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 1.5rem 0.35rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 500; color: var(--grey); white-space: nowrap; }
.numbers td, .numbers th + th { text-align: right; white-space: nowrap; }
.words td { overflow-wrap: anywhere; }
figure { margin: 0 0 2rem; }
img { display: block; max-width: 100%; max-height: 48rem; margin: 0 auto; padding: 0.5rem;
  background: #fff; border: 1px solid var(--line); border-radius: 6px; }
figcaption { margin-top: 0.6rem; color: var(--grey); font-size: 0.9rem; text-align: center; }
pre { margin: 0; padding: 0.9rem 1rem; overflow-x: auto; background: var(--box); border-radius: 6px;
  font: 0.82rem/1.5 ui-monospace, monospace; }
summary { cursor: pointer; color: var(--grey); }
details[open] summary { margin-bottom: 0.75rem; }
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="headline">$headline</p>
<p class="facts">$facts</p>
$stopped
</header>
<main>
$sections
</main>
</body>
</html>
""")


def results_so_far(history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What a run came to by its validation, from the metrics of each of its epochs."""
    best = max(range(len(history)), key=lambda epoch: rank(history[epoch]))
    return {
        "epochs": len(history),
        "best_epoch": best + 1,
        "validation": _validation(history[best]),
        "last_validation": _validation(history[-1]),
    }


def _validation(metrics: Mapping[str, float]) -> dict[str, float]:
    prefix = "validation_"
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def write_report(directory: Path) -> Path:
    """Write `report.html` from what a run directory holds.

    The page shows `results.json`, `metrics.jsonl`, the figures in `figures/`, `summary.txt` and
    `findings.json` (which may be absent), `config.toml` and `environment.json`. Images and styles are
    inside; it loads nothing. Of a run that has not ended it shows how far that has come.

    Returns:
        The path of the page.

    Raises:
        ConfigError: the directory lacks one of those files, or what it has is none.
    """
    results = with_nan(read_json(directory / "results.json", {"stopped": "the run has not ended"}))
    history = read_history(directory)
    if "stopped" in results and history:  # those of an earlier stop may be out of date
        results |= results_so_far(history)
    surroundings = read_json(directory / "environment.json", {})
    summary, findings = directory / "summary.txt", directory / "findings.json"
    parts, facts = _parts(results)
    sections = [
        ("Results", _numbers(parts)),
        ("Figures", _figures(directory / "figures", _CAPTIONS)),
        ("Diagnosis", _findings(json.loads(findings.read_text()) if findings.exists() else [])),
        ("Epochs", _epochs(history)),
        ("Network", f"<pre>{escape(_text(directory, summary.name))}</pre>" if summary.exists() else ""),
        ("Config", f"<pre>{escape(_text(directory, 'config.toml'))}</pre>"),
        ("Environment", _words(surroundings)),
    ]
    return _page(directory, _headline(parts), facts, results.get("stopped") or "", sections)


def write_search_report(directory: Path, trials: Sequence[Mapping[str, Any]]) -> Path:
    """Write `report.html` from what the directory of a finished search holds.

    Args:
        directory: of the search, with `results.json`, `figures/`, `config.toml`, `environment.json`, and
            with `best.toml` unless every trial diverged.
        trials: the lines of `trials.jsonl` to show, the best first.

    Returns:
        The path of the page.
    """
    results = with_nan(json.loads(_text(directory, "results.json")))
    surroundings = read_json(directory / "environment.json", {})
    surroundings.pop("scores", None)  # the settings, which best.toml shows as they were written
    parts, facts = _parts(results)
    best = directory / "best.toml"
    paths = list(dict.fromkeys(path for trial in trials for path in trial["hyperparameters"]))
    chosen = {
        trial["trial"]: [_value(trial["hyperparameters"].get(path, "–")) for path in paths]
        for trial in trials
    }
    again = [
        (str(one["trial"]), with_error(one["score"], one["error"]), *chosen[one["trial"]])
        for one in results["finalists"]
    ]
    rows = [
        (
            str(trial["trial"]),
            "diverged" if trial["diverged"] else with_error(trial["score"], trial["error"]),
            _value(trial["epochs"]),
            *chosen[trial["trial"]],
        )
        for trial in trials
    ]
    sections = [
        (
            "The best, trained again with fresh seeds",
            _table(["trial", "score", *paths], again) if again else "",
        ),
        ("The best of them, trained as a run", _numbers(parts)),
        ("Figures", _figures(directory / "figures", _SEARCH_CAPTIONS)),
        ("Trials", _folded(f"all {len(rows)}", _table(["trial", "score", "epochs", *paths], rows))),
        ("Config", f"<pre>{escape(_text(directory, 'config.toml'))}</pre>"),
        ("best.toml", f"<pre>{escape(_text(directory, best.name))}</pre>" if best.exists() else ""),
        ("Environment", _words(surroundings)),
    ]
    said = [*results["notes"], *([results["stopped"]] if "stopped" in results else [])]
    return _page(directory, _headline(parts), facts, " ".join(said), sections)


def _parts(results: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The figures of each part of the data, and the single facts."""
    parts = {name: part for name, part in results.items() if isinstance(part, dict)}
    facts = {
        name: part
        for name, part in results.items()
        if name != "stopped" and not isinstance(part, dict | list)
    }
    return parts, facts


def _page(
    directory: Path, headline: str, facts: Mapping[str, Any], said: str, sections: Sequence[tuple[str, str]]
) -> Path:
    """Write the page: a headline, a line of facts, what has to be said first, and the sections that have
    something."""
    page = _PAGE.substitute(
        title=escape("/".join(directory.resolve().parts[-2:])),
        headline=escape(headline),
        facts=escape(" · ".join(f"{_name(name)} {_value(value)}" for name, value in facts.items())),
        stopped=f'<p class="stopped">{escape(said)}</p>' if said else "",
        sections="\n".join(
            f"<section>\n<h2>{name}</h2>\n{body}\n</section>" for name, body in sections if body
        ),
    )
    path = directory / "report.html"
    write_whole(path, page)
    return path


def _text(directory: Path, name: str) -> str:
    """A file to show as it is, damaged or not."""
    try:
        return (directory / name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise ConfigError("", f"{directory} has no {name}, so there is nothing to report on") from None


def _headline(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """The accuracy, or the loss where there is none; of the test part, or of validation."""
    for part in ("test", "validation"):
        for metric in ("accuracy", "loss"):
            if metric in parts.get(part, ()):
                return f"{_value(parts[part][metric], metric)} {part} {metric}"
    return "no results"


def _numbers(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """A table with a row for each part of the data and a column for each metric."""
    metrics = list(dict.fromkeys(metric for part in parts.values() for metric in part))
    rows = [
        (name, *(_value(part[metric], metric) if metric in part else "–" for metric in metrics))
        for name, part in parts.items()
    ]
    return _table(["", *map(_name, metrics)], rows) if rows else ""


def _findings(findings: Sequence[Mapping[str, Any]]) -> str:
    """What the babysitter says, the worst first."""
    rows = []
    for finding in findings:
        words = [
            finding["why"],
            *([f"{finding['advice']} ({finding['source']})"] if finding["advice"] else []),
        ]
        value = "–" if finding["value"] is None else _value(finding["value"])
        cell = "<br>".join(map(escape, words))
        head = f'<th scope="row">{finding["verdict"]} {escape(_name(finding["id"]))}</th>'
        rows.append(f"<tr>{head}<td>{value}</td><td>{cell}</td></tr>")
    return _lines('<table class="words">', *rows, "</table>") if rows else ""


def _epochs(epochs: Sequence[Mapping[str, Any]]) -> str:
    """A table of all epochs, folded up."""
    if not epochs:
        return ""
    names = list(dict.fromkeys(name for metrics in epochs for name in metrics))
    rows = [[_value(metrics.get(name, "–"), name) for name in names] for metrics in epochs]
    return _folded(f"all {len(epochs)}", _table(map(_name, names), rows))


def _folded(summary: str, body: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n{body}\n</details>"


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = [f"<tr>{names}</tr>"]
    for name, *values in rows:
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return _lines('<div class="wide"><table class="numbers">', *lines, "</table></div>")


def _words(environment: Mapping[str, Any]) -> str:
    """A table of names and values; a list or a table inside takes a line for each entry."""
    rows = []
    for name, value in environment.items():
        if isinstance(value, dict):
            lines = [f"{key} {item}" for key, item in value.items()]
        else:
            lines = [str(item) for item in (value if isinstance(value, list) else [value])]
        cell = "<br>".join(map(escape, lines)) or "–"
        rows.append(f'<tr><th scope="row">{escape(name)}</th><td>{cell}</td></tr>')
    return _lines('<table class="words">', *rows, "</table>") if rows else ""


def _figures(folder: Path, captions: Mapping[str, str]) -> str:
    """All of a folder, those with a caption first."""
    rank = {name: place for place, name in enumerate(captions)}
    images = sorted(folder.glob("*.png"), key=lambda path: (rank.get(path.stem, len(rank)), path.name))
    return "\n".join(_figure(path, captions.get(path.stem, _name(path.stem))) for path in images)


def _figure(path: Path, caption: str) -> str:
    data = b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><img alt="{escape(_name(path.stem))}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _lines(*lines: str) -> str:
    return "\n".join(lines)


def _name(key: str) -> str:
    return key.replace("_", " ")


def _value(value: Any, name: str = "") -> str:
    """Accuracies in percent, counts with commas, other numbers to four digits."""
    if isinstance(value, float) and name.endswith("accuracy"):
        return f"{value:.2%}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
