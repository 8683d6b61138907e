"""How often the babysitter is wrong: its findings on sound and on broken runs.

    python experiments/calibration/calibrate.py             # trains the corpus: half an hour on two cores
    python experiments/calibration/calibrate.py --judge     # only judges the runs that are recorded

The runs' numbers go to runs.json beside this file. Configurations with even numbers set the thresholds in
`fnn/tune/_table.py`; those with odd ones, which had no part in that, give the error rates. Writes the tables
between their marks in docs/diagnostics.md, and the figure there.
"""

import argparse
import json
import math
import multiprocessing
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import fnn

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUNS = HERE / "runs.json"
PAGE, FIGURE = ROOT / "docs" / "diagnostics.md", ROOT / "docs" / "figures" / "calibration.png"


STAGES = ("data", "start", "training", "curve")


def train(asked: list[int]) -> None:
    """Train the configurations, each in a process of its own, and keep every run's numbers."""
    from corpus import CONFIGURATIONS

    known = json.loads(RUNS.read_text()) if RUNS.exists() and asked else []
    # A process that compiles some hundred programs runs out of what the system lets it map.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as process:
        for place in asked or range(len(CONFIGURATIONS)):
            known = [run for run in known if run["place"] != place] + process.apply(runs_at, (place,))
            RUNS.write_text(
                "[\n" + ",\n".join(map(json.dumps, sorted(known, key=lambda r: r["place"]))) + "\n]\n"
            )


def runs_at(place: int) -> list[dict[str, Any]]:
    """The runs of one configuration, as JSON has them."""
    from corpus import CONFIGURATIONS, runs_of

    def numbers(run: Any) -> dict[str, float | str]:
        return {id: _short(run.numbers[id]) for id in fnn.CHECKS if id in run.numbers}

    runs = runs_of(*CONFIGURATIONS[place])
    return [{"place": place, **run._asdict(), "numbers": numbers(run)} for run in runs]


def _short(value: float) -> float | str:
    """Four digits; what JSON has no number for as a word."""
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


class Judged:
    """The recorded runs of one half, each with its findings."""

    def __init__(self, runs: Iterable[dict[str, Any]], stages: tuple[str, ...] = STAGES) -> None:
        """Judge them by the checks of some stages."""
        from corpus import CAUSES

        def numbers(run: dict[str, Any]) -> dict[str, float]:
            return {
                id: value
                for id, value in _numbers(run).items()
                if id in fnn.CHECKS and fnn.CHECKS[id].stage in stages
            }

        self.causes = CAUSES
        self.runs = [(run, fnn.by_urgency(fnn.find_all(numbers(run)))) for run in runs]
        self.sound = [found for run, found in self.runs if run["kind"] == "sound"]
        self.broken = [(run["kind"], found) for run, found in self.runs if run["kind"] != "sound"]

    def rates(self) -> list[tuple[str, int, int]]:
        """What is counted, how many, of how many."""
        firsts = [found[0] for found in self.sound]
        noticed = [found[0].verdict in ("WARN", "FAIL") for _, found in self.broken]
        right = [
            n and found[0].id in self.causes[kind]
            for n, (kind, found) in zip(noticed, self.broken, strict=True)
        ]
        return [
            ("sound runs with a FAIL", sum(f.verdict == "FAIL" for f in firsts), len(firsts)),
            ("sound runs with a WARN and no FAIL", sum(f.verdict == "WARN" for f in firsts), len(firsts)),
            ("broken runs with a FAIL or WARN", sum(noticed), len(noticed)),
            ("broken runs with the right cause named first", sum(right), len(right)),
        ]

    def confusion(self) -> dict[str, Counter[str]]:
        """For each kind of trouble how often each check was named first."""
        named: dict[str, Counter[str]] = {}
        for kind, found in self.broken:
            first = found[0].id if found[0].verdict in ("WARN", "FAIL") else "nothing"
            named.setdefault(kind, Counter())[first] += 1
        return named

    def false_alarms(self, id: str) -> tuple[int, int, int]:
        """Of sound runs: failures and warnings of one check, and how many it was applied to."""
        own = [f.verdict for found in self.sound for f in found if f.id == id and f.verdict != "SKIP"]
        return own.count("FAIL"), own.count("WARN"), len(own)


def _numbers(run: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in run["numbers"].items()}


def interval(count: int, total: int) -> str:
    """A share with its 95 % interval by Wilson's formula."""
    low, high = stats.binomtest(count, total).proportion_ci(method="wilson")
    return f"{count} of {total}, {100 * count / total:.1f} % ({100 * low:.1f} – {100 * high:.1f} %)"


def rates_table(runs: list[dict[str, Any]]) -> str:
    """The four error rates on both halves, and on the unseen one by what each command sees."""
    seen, unseen = ([run for run in runs if run["place"] % 2 == half] for half in (0, 1))
    columns = {
        "the unseen half": Judged(unseen),
        "there, `fnn check CONFIG` alone": Judged(unseen, STAGES[:2]),
        "there, `fnn check RUN` alone": Judged(unseen, STAGES[2:]),
        "the half that set the thresholds": Judged(seen),
    }
    asked = ("at most 2 %", "at most 10 %", "at least 95 %", "at least 85 %")
    lines = [f"| | asked | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)]
    for row, wanted in enumerate(asked):
        counts = [judged.rates()[row] for judged in columns.values()]
        lines.append(f"| {counts[0][0]} | {wanted} | {' | '.join(interval(*c[1:]) for c in counts)} |")
    return "\n".join(lines)


def confusion_table(unseen: Judged) -> str:
    """Each kind of trouble and what was named first."""
    lines = ["| trouble | runs | right | named first |", "|---|---:|---:|---|"]
    for kind, named in sorted(unseen.confusion().items()):
        right = sum(count for id, count in named.items() if id in unseen.causes[kind])
        words = ", ".join(f"{id} {count}" for id, count in named.most_common())
        lines.append(f"| {kind} | {named.total()} | {right} | {words} |")
    return "\n".join(lines)


def checks_table(unseen: Judged) -> str:
    """Every check with its thresholds and its false alarms."""
    lines = [
        "| check | number | WARN | FAIL | sound runs: FAIL, WARN | what to try | source |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for id, check in fnn.CHECKS.items():
        sign = ">" if check.bad == "high" else "<"
        warn, fail = (f"{sign} {t:g}" if math.isfinite(t) else "–" for t in (check.warn, check.fail))
        failed, warned, applied = unseen.false_alarms(id)
        alarms = f"{failed}, {warned} of {applied}" if applied else "not in the corpus"
        measures = check.measures.replace("|", "\\|")
        lines.append(
            f"| `{id}` | {measures} | {warn} | {fail} | {alarms} | {check.advice} | {check.source} |"
        )
    return "\n".join(lines)


def draw(judged: Judged) -> None:
    """Sound and broken runs along the number of each check that names a kind of trouble."""
    import matplotlib.pyplot as plt

    panels = [(id, kind) for kind, ids in judged.causes.items() for id in ids[:1]]
    figure, grid = plt.subplots(-(-len(panels) // 3), 3, figsize=(12, 1.1 * -(-len(panels) // 3) + 0.5))
    for axes, (id, kind) in zip(grid.ravel(), panels, strict=False):
        check = fnn.CHECKS[id]
        for row, wanted, color in ((0, "sound", "C0"), (1, kind, "C3")):
            values = np.array([_numbers(r).get(id, math.nan) for r, _ in judged.runs if r["kind"] == wanted])
            values = np.clip(values[~np.isnan(values)], -1e9, 1e9)
            jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
            axes.plot(values, row + jitter, ".", color=color, alpha=0.5, markersize=4)
        for threshold, style in ((check.warn, ":"), (check.fail, "-")):
            if math.isfinite(threshold):
                axes.axvline(threshold, color="black", linestyle=style, linewidth=0.9)
        axes.set_xscale("symlog", linthresh=0.1)
        axes.xaxis.get_major_locator().set_params(numticks=5)
        axes.set_yticks([0, 1], ["sound", kind], fontsize=7)
        axes.set_title(id, fontsize=8, loc="left")
        axes.tick_params(axis="x", labelsize=6)
    for axes in grid.ravel()[len(panels) :]:
        axes.axis("off")
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)


def publish(runs: list[dict[str, Any]], unseen: Judged) -> None:
    """Put the tables between their marks."""
    page = PAGE.read_text()
    for mark, body in (
        ("rates", rates_table(runs)),
        ("confusion", confusion_table(unseen)),
        ("checks", checks_table(unseen)),
    ):
        before, found, rest = page.partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- /{mark} -->")
        if not found or not end:
            raise SystemExit(f"{PAGE} has no place for {mark}: <!-- {mark} --> and <!-- /{mark} -->")
        page = f"{before}{found}{body}\n{end}{after}"
    PAGE.write_text(page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--judge", action="store_true", help="judge the recorded runs, train none")
    parser.add_argument(
        "--only", type=int, nargs="+", default=[], help="numbers of configurations to train again"
    )
    arguments = parser.parse_args()
    if not arguments.judge:
        train(arguments.only)
    runs = json.loads(RUNS.read_text())
    unseen = Judged(run for run in runs if run["place"] % 2)
    publish(runs, unseen)
    draw(unseen)
    print(rates_table(runs), confusion_table(unseen), sep="\n\n")


if __name__ == "__main__":
    main()
