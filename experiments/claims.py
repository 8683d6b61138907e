"""What the experiments share: a verdict from paired seeds, a table, a figure.

An experiment is a module with one function, `study(seeds=range(5), *, mechanism=True) -> Study`. Without its
mechanism both sides of the comparison are the same, in some studies on other seeds, and no claim may hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

FIGURES = Path(__file__).parents[1] / "docs" / "figures"


class Verdict(NamedTuple):
    """Whether a claim held: by how much its side is ahead, seed by seed, against a fixed margin."""

    claim: str
    differences: np.ndarray  # one per seed, in the unit of the margin
    margin: float

    @property
    def at_least(self) -> float:
        """The lower end of the one-sided 95 % confidence interval of the mean difference (Student's t)."""
        n = len(self.differences)
        spread = self.differences.std(ddof=1) / np.sqrt(n)
        return float(self.differences.mean() - stats.t.ppf(0.95, n - 1) * spread)

    @property
    def held(self) -> bool:
        """Whether even that end lies above the margin."""
        return bool(self.at_least > self.margin)

    def __str__(self) -> str:
        """One line."""
        return (
            f"{'held' if self.held else 'not held'}: {self.claim}: {self.differences.mean():.3g}, "
            f"at least {self.at_least:.3g} with 95 % confidence, margin {self.margin:g}, "
            f"{len(self.differences)} seeds"
        )


def verdict(claim: str, ahead: Sequence[float], behind: Sequence[float], margin: float) -> Verdict:
    """Compare two sides that share their seeds.

    Args:
        claim: what is claimed of `ahead - behind`, in words.
        ahead, behind: one number per seed, the same seeds on both sides; at least 5.
        margin: by how much `ahead` must exceed `behind`.
    """
    ahead, behind = np.asarray(ahead, float), np.asarray(behind, float)
    if ahead.shape != behind.shape or ahead.ndim != 1 or len(ahead) < 5:
        raise ValueError(
            f"a verdict takes two rows of at least 5 seeds, not {ahead.shape} and {behind.shape}"
        )
    return Verdict(claim, ahead - behind, margin)


def others(seeds: Sequence[int]) -> tuple[int, ...]:
    """As many other seeds, for one of two sides that are the same: their difference is then noise, not 0."""
    return tuple(seed + 1000 for seed in seeds)


class Study(NamedTuple):
    """What an experiment found."""

    table: list[dict[str, Any]]  # its rows; the keys are the columns
    verdicts: list[Verdict]
    figure: Figure


def markdown(table: list[dict[str, Any]]) -> str:
    """A table in Markdown."""
    rows = [list(table[0]), ["---"] * len(table[0]), *(list(map(_shown, row.values())) for row in table)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def publish(name: str, study: Study) -> None:
    """Print table and verdicts, and save the figure under the experiment's name."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    study.figure.savefig(FIGURES / f"{name}.png", dpi=100)
    print(markdown(study.table), *study.verdicts, f"figure: docs/figures/{name}.png", sep="\n")


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
