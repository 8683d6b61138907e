"""`fnn.search`: hyperparameters for any pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import isfunction
from typing import Any, Literal, NamedTuple

import numpy as np
from jax.sharding import Mesh

from fnn._types import Array, check_optional, check_range, check_seed
from fnn.data import Examples, Folds, Splits
from fnn.data._folds import one_fold
from fnn.data._split import check_splits
from fnn.train import Make, steps_of_run
from fnn.train._check_fit import batch_of, check_fit
from fnn.train._mesh import check_mesh
from fnn.tune._engine import Engine, Journal, Plan, SearchProgress, structures_checked
from fnn.tune._method import Method, Outcome, Trial, random_search, ranked
from fnn.tune._program import FitProgram, Fixed, FunctionProgram, Shared
from fnn.tune._space import Distribution, Space, identity


class Search(NamedTuple):
    """What a search found.

    outcomes: one for each trial, in the order of their numbers.
    notes: what happened on the way, a sentence each.
    """

    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]

    @property
    def ranked(self) -> tuple[Outcome, ...]:
        """The trials, the best first."""
        return ranked(self.outcomes)

    @property
    def best(self) -> Outcome:
        """The trial with the highest score; being the best of many, it is less good than it looks.

        Where all have diverged, which `notes` say, it is one of them, with a score of −∞.

        Raises:
            ValueError: no trial was trained, since the budget was too small.
        """
        if not self.outcomes:
            raise ValueError(f"no trial was trained: {'; '.join(self.notes)}; give the search more")
        return self.ranked[0]


class Training(NamedTuple):
    """A training whose hyperparameters are searched, see `training`."""

    plan: Plan
    shared: Any
    epochs: int
    replicas: int
    check: Callable[[dict[str, Any]], None] = lambda hyperparameters: None
    """Raises ValueError for hyperparameters that do not fit the data or each other."""


def training(
    make: Make,
    data: Splits | Folds,
    /,
    *,
    epochs: int = 10,
    batch_size: int | Literal["all"] = 128,
    standardize: bool = True,
    seeds: int = 1,
    seed: int = 0,
) -> Training:
    """The training of `fnn.fit`, for a search to make a population of.

    Args:
        make: see `fnn.fit`; its hyperparameters are a dict by path, floats as values and all else, such as
            widths, as they are.
        data: with a validation part; or `stratified_folds`, each of which every trial is trained on.
        epochs: of a whole training.
        batch_size, standardize: see `fnn.fit`. Folds have decided whether to standardize already.
        seeds: how often every trial is trained on each fold.
        seed: of the first of them.

    Raises:
        ValueError: numbers out of range.
        TypeError: a count that is no integer.
    """
    if isinstance(data, Folds):
        every = Examples(data.x, data.y)  # an example has the same shape in all folds
        folds, parts = data, Splits(every, every, every, tuple(map(str, range(data.classes))), "folds")
    else:
        check_splits(data)
        folds, parts = one_fold(data, standardize=standardize), data
    count, examples = folds.train.shape
    steps_of_run(examples, epochs=epochs, batch_size=batch_size)
    size = batch_of(examples, batch_size)
    check_range("seeds", seeds, at_least=1, integer=True)
    check_seed(seed)

    def plan(trial: Trial) -> tuple[FitProgram, dict[str, Any]]:
        values, fixed = _parted(trial.hyperparameters)
        return FitProgram(_Made(make, fixed), size, count, examples), values

    def check(hyperparameters: dict[str, Any]) -> None:
        values, fixed = _parted(hyperparameters)
        check_fit(_Made(make, fixed), values, parts, epochs=epochs, batch_size=size)

    return Training(plan, Shared(folds, np.uint32(seed)), epochs, count * seeds, check)


def search(
    train: Callable[[dict[str, Any], Array], Any] | Training,
    space: Mapping[str, Distribution] | Space,
    /,
    *,
    method: Method | None = None,
    seed: int = 0,
    how: Literal["vmap", "map"] | None = None,
    mesh: Mesh | None = None,
    max_epochs: int | None = None,
    seconds: float | None = None,
    report: Callable[[SearchProgress], None] | None = None,
    journal: Journal | None = None,
) -> Search:
    """Search hyperparameters, the trials as one program.

    Args:
        train: `train(hyperparameters, key) -> score`, a pure function of one trial; higher scores are better.
            Or a `training`, which methods that stop trials early need. Floats are values of the program;
            whatever else a distribution gives, such as an `int` for a width, is structure, and the trials
            that share it form one program.
        space: a distribution for each hyperparameter by name, see `uniform`, `log_uniform`, `int_uniform`,
            `choice` and `only_if`.
        method: `random_search()` by default.
        seed: decides the trials, and with them their draws. All trials get the same key, so
            that they differ by their hyperparameters alone.
        how: how a population is computed, see `over_population`. By default, a `training` measures which
            is fastest, and a function takes "vmap".
        mesh: devices that share the trials, along its axis `population`: `fnn.mesh(data=1, population=n)`.
        max_epochs, seconds: budgets of all trials together; the search ends at the border of the epoch that
            would exceed one. All trials of a round get equally many of the epochs that are left.
        report: called after every epoch of a population.
        journal: remembers outcomes from one process to the next.

    Raises:
        TypeError: no function and no `training`, a method or a mesh that is none, a space with what is no
            distribution, or `max_epochs` that is no integer.
        ValueError: a space, a method, a mesh or numbers that do not fit. Of a `training` both ends of every
            range, and a trial of every structure that a round has, are tried on shapes before anything of it
            is compiled.

    >>> import fnn
    >>> def train(hyperparameters, key):
    ...     return -((hyperparameters["x"] - 0.3) ** 2)
    >>> found = fnn.search(train, {"x": fnn.uniform(0.0, 1.0)}, method=fnn.sobol_search(64))
    >>> abs(found.best.trial.hyperparameters["x"] - 0.3) < 0.02
    True
    """
    check_seed(seed)
    check_optional("max_epochs", max_epochs, at_least=1, integer=True)
    check_optional("seconds", seconds, above=0)
    check_mesh(mesh, "population")
    method = method or random_search()
    if not isinstance(method, Method):
        raise TypeError(f"method must be a search method, such as fnn.random_search(), not {_named(method)}")
    space = space if isinstance(space, Space) else Space(space)
    if isinstance(train, Training):
        plan, shared, epochs, replicas, check = train
        space.check_ends(check)
        plan = structures_checked(plan, check)
    else:
        if not callable(train):
            raise TypeError(
                f"train must be a function of hyperparameters and a key, or a training, not {train!r}"
            )
        if method.stops_early:
            raise ValueError(
                f"{method.name} trains trials in parts, and a function can only be called as a whole; give "
                "it an fnn.training, or take a method such as random_search"
            )
        function = train
        how = how or "vmap"

        def plan(trial: Trial) -> tuple[FunctionProgram, dict[str, Any]]:
            values, fixed = _parted(trial.hyperparameters)
            return FunctionProgram(function, fixed), values

        shared, epochs, replicas = np.uint32(seed), 1, 1
    engine = Engine(
        plan,
        shared,
        replicas=replicas,
        how=how,
        mesh=mesh,
        max_epochs=max_epochs,
        seconds=seconds,
        report=report,
        journal=journal,
    )
    outcomes = engine.run(method, space, epochs=epochs, seed=seed)
    if outcomes and all(outcome.diverged for outcome in outcomes):
        engine.notes.append("every trial diverged")
    return Search(outcomes, tuple(engine.notes))


def _named(value: Any) -> str:
    """A function by its name."""
    return f"the function {value.__name__}, which was not called" if isfunction(value) else repr(value)


@dataclass(frozen=True)
class _Made:
    """`make` with what is no float known already; equal where both are."""

    make: Make
    fixed: Fixed

    def __call__(self, values: dict[str, Any], /) -> Any:
        return self.make({**self.fixed.hyperparameters, **values})


def _parted(hyperparameters: Mapping[str, Any]) -> tuple[dict[str, Any], Fixed]:
    """The floats among hyperparameters, and everything else."""
    values = {
        name: value for name, value in hyperparameters.items() if isinstance(value, float | np.floating)
    }
    fixed = {name: value for name, value in hyperparameters.items() if name not in values}
    return values, Fixed((tuple(values), identity(fixed)), fixed)
