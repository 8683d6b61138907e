"""How often the babysitter is wrong: its findings on sound and on broken runs.

    python experiments/calibration/calibrate.py             # trains the corpus: about 20 minutes on two cores
    python experiments/calibration/calibrate.py --judge     # only judges the runs that are recorded

The runs' numbers go to runs.json beside this file. Configurations with even numbers set the thresholds in
`fnn/tune/_table.py`; those with odd ones, which had no part in that, give the error rates in docs/diagnostics.md.
"""

import argparse
import json
import math
from pathlib import Path

HERE = Path(__file__).parent
RUNS = HERE / "runs.json"


def train(asked: list[int]) -> None:
    """Train the configurations, and keep every run's numbers."""
    from corpus import CONFIGURATIONS, runs_of

    known = json.loads(RUNS.read_text()) if RUNS.exists() and asked else []
    for place, configuration in enumerate(CONFIGURATIONS):
        if asked and place not in asked:
            continue
        known = [run for run in known if run["place"] != place]
        for run in runs_of(*configuration):
            numbers = {key: _short(value) for key, value in run.numbers.items()}
            known.append({"place": place, **run._asdict(), "numbers": numbers})
        RUNS.write_text(
            "[\n" + ",\n".join(map(json.dumps, sorted(known, key=lambda r: r["place"]))) + "\n]\n"
        )


def _short(value: float) -> float | str:
    """Four digits; what JSON has no number for as a word."""
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--judge", action="store_true", help="judge the recorded runs, train none")
    parser.add_argument(
        "--only", type=int, nargs="+", default=[], help="numbers of configurations to train again"
    )
    arguments = parser.parse_args()
    if not arguments.judge:
        train(arguments.only)


if __name__ == "__main__":
    main()
