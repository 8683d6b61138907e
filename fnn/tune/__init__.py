"""Babysitting and search: whether a network will train and has trained, and which hyperparameters to take."""

from fnn.tune._check import Checked, check
from fnn.tune._curve import Curves
from fnn.tune._engine import Journal, SearchProgress
from fnn.tune._evolve import population_based
from fnn.tune._finding import Finding, by_urgency, find_all
from fnn.tune._halving import hyperband, successive_halving
from fnn.tune._judge import judge
from fnn.tune._method import Method, Outcome, Trial, coarse_to_fine, grid_search, random_search, sobol_search
from fnn.tune._optuna import optuna_search
from fnn.tune._probe import probe
from fnn.tune._search import Search, search, training
from fnn.tune._space import Distribution, Space, choice, int_uniform, log_uniform, only_if, uniform
from fnn.tune._table import CHECKS, Check

__all__ = [
    "CHECKS",
    "Check",
    "Checked",
    "Curves",
    "Distribution",
    "Finding",
    "Journal",
    "Method",
    "Outcome",
    "Search",
    "SearchProgress",
    "Space",
    "Trial",
    "by_urgency",
    "check",
    "choice",
    "coarse_to_fine",
    "find_all",
    "grid_search",
    "hyperband",
    "int_uniform",
    "judge",
    "log_uniform",
    "only_if",
    "optuna_search",
    "population_based",
    "probe",
    "random_search",
    "search",
    "sobol_search",
    "successive_halving",
    "training",
    "uniform",
]
