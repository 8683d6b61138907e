"""Optuna's samplers as a search method."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any, Literal

from fnn._types import check_range
from fnn.tune._method import Method, Round, Rounds, numbered
from fnn.tune._space import Distribution, Space


def optuna_search(
    trials: int = 64, population: int = 16, sampler: Literal["tpe", "gp", "cmaes"] = "tpe"
) -> Method:
    """Trials that a sampler of Optuna proposes, a population at a time, from how the former ones did.

    The sampler sees the unit cube: a number that is drawn by its logarithm is uniform there, and options of a
    `choice` are categories. It needs the extra `optuna`.

    Args:
        trials: in all.
        population: how many are asked for, and trained together, before the sampler is told how they did.
            Smaller ones learn sooner; larger ones train faster.
        sampler: a tree-structured Parzen estimator, a Gaussian process (which needs the package torch too) or
            CMA-ES (which needs the package cmaes).

    Raises:
        ValueError: no trials, or another sampler.
        TypeError: a count that is no integer.
        ModuleNotFoundError: the extra is missing, or what a sampler needs beside it.

    Source: Akiba et al., "Optuna", KDD 2019; Bergstra et al., "Algorithms for hyper-parameter optimization",
    NeurIPS 2011.
    """
    check_range("trials", trials, at_least=1, integer=True)
    check_range("population", population, at_least=1, integer=True)
    if sampler not in ("tpe", "gp", "cmaes"):
        raise ValueError(f'sampler must be "tpe", "gp" or "cmaes", not {sampler!r}')

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        optuna = _optuna()
        named = space.distributions.items()
        axes = {path: _axis(optuna, distribution) for path, distribution in named}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(direction="maximize", sampler=_sampler(optuna, sampler, seed))
            for first in range(0, trials, population):
                asked = [study.ask(axes) for _ in range(min(population, trials - first))]
                points = [[_place(d, t.params[path]) for path, d in named] for t in asked]
                outcomes = yield Round(numbered(space, points, first), epochs)
                for trial, outcome in zip(asked, outcomes, strict=True):
                    if outcome.diverged:
                        study.tell(trial, state=optuna.trial.TrialState.FAIL)
                    else:
                        study.tell(trial, outcome.score)

    return Method("optuna_search", rounds)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "optuna_search needs the package optuna: pip install 'fnn[optuna]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    """Trials of one population are proposed as if those before them in it had done badly."""
    needs = {"gp": "torch", "cmaes": "cmaes"}.get(name)
    if needs is not None and find_spec(needs) is None:
        raise ModuleNotFoundError(f"the sampler {name} needs the package {needs}: pip install {needs}")
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return {"gp": optuna.samplers.GPSampler, "cmaes": optuna.samplers.CmaEsSampler}[name](seed=seed)


def _axis(optuna: Any, distribution: Distribution) -> Any:
    if distribution.kind == "choice":
        return optuna.distributions.CategoricalDistribution(range(distribution.options or 1))
    return optuna.distributions.FloatDistribution(0.0, 1.0)


def _place(distribution: Distribution, value: float) -> float:
    """The place in the unit interval of what the sampler chose."""
    return (value + 0.5) / (distribution.options or 1) if distribution.kind == "choice" else float(value)
