"""A judgement: a number against its threshold, what it means, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from fnn.tune._table import CHECKS, Check

Verdict = Literal["PASS", "WARN", "FAIL", "SKIP"]


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        id: of the check, a row of `fnn.tune.CHECKS`.
        verdict: PASS, WARN, FAIL, or SKIP where the check does not apply.
        value: the measured number; NaN where it was skipped.
        threshold: the one that the number crossed, or the nearer one that it did not.
        why: what the number is, and the evidence.
        advice: what to try next; empty unless something is wrong.
        source: the paper or textbook.
    """

    id: str
    verdict: Verdict
    value: float
    threshold: float
    why: str
    advice: str
    source: str


def find(id: str, value: float, evidence: str = "") -> Finding:
    """Hold a number against the thresholds of its check.

    Args:
        id: of the check.
        value: the number; NaN skips the check, infinity fails it where large numbers are bad.
        evidence: what is added to the check's own words, such as a layer or a step.
    """
    check = CHECKS[id]
    value = float(value)
    verdict, threshold = _held(check, value)
    why = f"{check.measures}{': ' if evidence else ''}{evidence}"
    advice = check.advice if verdict in ("WARN", "FAIL") else ""
    return Finding(id, verdict, value, threshold, why, advice, check.source)


def _held(check: Check, value: float) -> tuple[Verdict, float]:
    if math.isnan(value):
        return "SKIP", check.warn
    sign = 1 if check.bad == "high" else -1
    if sign * value > sign * check.fail:
        return "FAIL", check.fail
    if sign * value > sign * check.warn:
        return "WARN", check.warn
    return "PASS", check.warn


def find_all(values: Mapping[str, float], evidence: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """A finding for each number, in the order of the table."""
    evidence = evidence or {}
    return tuple(find(id, values[id], evidence.get(id, "")) for id in CHECKS if id in values)


def by_urgency(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Failures first, then warnings, each in the order of the table: the first is the likeliest cause."""
    order = {id: place for place, id in enumerate(CHECKS)}
    rank = {"FAIL": 0, "WARN": 1, "PASS": 2, "SKIP": 3}
    return tuple(sorted(findings, key=lambda found: (rank[found.verdict], order[found.id])))
