"""Babysitting: whether a network will train, is training, and has trained."""

from fnn.tune._check import Checked, check
from fnn.tune._curve import Curves
from fnn.tune._finding import Finding, by_urgency, find_all
from fnn.tune._judge import judge
from fnn.tune._probe import probe
from fnn.tune._table import CHECKS, Check

__all__ = [
    "CHECKS",
    "Check",
    "Checked",
    "Curves",
    "Finding",
    "by_urgency",
    "check",
    "find_all",
    "judge",
    "probe",
]
