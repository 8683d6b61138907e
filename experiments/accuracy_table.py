"""Test accuracy of the shipped configs, mean and spread over a few seeds: the table of the README.

    python experiments/accuracy_table.py                      # all: an hour and a half on two cores
    python experiments/accuracy_table.py digits_linear digits_mlp

Model and epoch are chosen on validation data; the test set is looked at once in each run. Runs that are
already below runs/accuracy_table are not repeated.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

SEEDS = {
    "digits_linear": 3,
    "digits_mlp": 3,
    "digits_cnn": 3,
    "fashion_linear": 3,
    "fashion_mlp": 3,
    "fashion_cnn": 3,
    "fashion_resnet": 3,
}
ROOT = Path(__file__).parents[1]
RUNS = Path("runs/accuracy_table")


def run(config: str, seed: int) -> dict:
    """Train one config with one seed in a process of its own; its results, and how long it took."""
    directory = RUNS / f"{config}_{seed}"
    if not (directory / "results.json").exists():
        path = ROOT / "configs" / f"{config}.toml"
        command = [Path(sys.executable).with_name("fnn"), "train", path, f"seed={seed}"]
        subprocess.run([*command, f'run.directory="{directory}"'], check=True)
    results = json.loads((directory / "results.json").read_text())
    seconds = json.loads((directory / "environment.json").read_text())["seconds"]
    return {**results, "seconds": seconds}


def main() -> None:
    """Print the table in Markdown."""
    print("| config | parameters | seeds | test accuracy, mean | lowest – highest | seconds |")
    print("|---|---:|---:|---:|---:|---:|")
    for config in sys.argv[1:] or SEEDS:
        runs = [run(config, seed) for seed in range(SEEDS[config])]
        accuracy = np.array([result["test"]["accuracy"] for result in runs])
        seconds = np.median([result["seconds"] for result in runs])
        print(
            f"| `{config}` | {runs[0]['parameters']:,} | {len(runs)} | {accuracy.mean():.4f} "
            f"| {accuracy.min():.4f} – {accuracy.max():.4f} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
