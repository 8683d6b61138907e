"""`fnn search`: hyperparameters for a config, from its [search] table to the config that it finds best."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tomli_w
from rich.console import Console

import fnn
from fnn.data import Folds, stratified_folds
from fnn.data._folds import one_fold
from fnn.run._build import call_plainly, make_and_values, plain_settings
from fnn.run._config import Config, ConfigError, check
from fnn.run._directory import (
    choose,
    create,
    environment,
    fingerprint,
    finite,
    kept,
    opened,
    read_json,
    write_json,
)
from fnn.run._lock import alone
from fnn.run._output import complain
from fnn.run._prepare import blamed_on, check_ranges, in_file, prepare, prepare_again
from fnn.run._read import all_replaced, read
from fnn.run._report import write_search_report
from fnn.run._search_display import SearchDisplay, show_search
from fnn.run._search_figures import draw_search
from fnn.run._settings import SearchSettings, search_settings
from fnn.run._signals import Stopped, signals
from fnn.run._train import train
from fnn.run._trials import Records, as_outcome, last_lines, read_trials
from fnn.train._check_fit import batch_of
from fnn.tune import Outcome, Space, Trial
from fnn.tune._engine import Engine, JournalError, structures_checked
from fnn.tune._method import Method, Round, Rounds, ranked
from fnn.tune._program import FitProgram, Program, Shared

_NOT_SEARCHED = (
    *("seed", "data", "split", "run", "search"),
    *("train.epochs", "train.patience", "train.standardize"),
)


def search_path(path: str, overrides: tuple[str, ...], console: Console) -> int:
    """Search, go on with an interrupted search, or print what a finished one found.

    Args:
        path: of a config with a [search] table, or the directory of a search.
        overrides: `key=value`, for a config.
        console: where to print.

    Returns:
        The exit code: 0 when done, 1 when every trial diverged or the training of the best did not end, 130
        or 143 when a signal stopped the search.

    Raises:
        ConfigError: bad input; nothing has been written then.
    """
    config, directory = opened(path, overrides, "search", "trials.jsonl")
    if config.search is None:
        raise ConfigError(path, "the table [search] is missing; it needs at least [search.space]")
    if directory is not None and all(
        (directory / name).is_file() for name in ("results.json", "report.html")
    ):
        return show_search(directory, console)
    return _Search(config, directory).run(console)


class _Search:
    """A search of a config, ready to start."""

    def __init__(self, config: Config, directory: Path | None) -> None:
        """Load the data and see that all of the space can be trained."""
        self.config, self._directory = config, directory
        self._ways: dict[Program, Literal["vmap", "map"]] = {}
        if dict(config.train.arguments)["patience"] is not None:
            raise ConfigError(
                config.source, "train.patience: a search says itself when trials end; leave patience out"
            )
        if directory is not None:
            _see_that_comparable(config, directory)
        self.base = prepare(config) if directory is None else prepare_again(config, directory)
        self.epochs: int = self.base.settings["epochs"]
        with in_file(config.source):
            assert config.search is not None
            with blamed_on("search"):
                self.settings: SearchSettings = search_settings(**plain_settings(config.search))
            with blamed_on("search.folds"):
                self.folds = self._cut(self.base.data)
            self.space = self._space()
            with blamed_on("search.method"):
                first = next(self.settings.method.rounds(self.space, self.epochs, config.seed))
            most, needed = self.settings.max_epochs, len(first.trials)
            if most is not None and most < needed:
                raise ConfigError(
                    "search.max_epochs",
                    f"a budget of {most} epochs is too small for one epoch of each of the {needed} trials "
                    f"that {self.settings.method.name} begins with; give it {needed} at least",
                )
            with blamed_on("search.space"):
                self.space.check_ends(self._check)
            self._checked_plan = structures_checked(self.plan, self._check)
            for trial in first.trials:
                self._planned(trial)

    # --- trials as configs ----------------------------------------------------------------------------------

    def trial_config(self, hyperparameters: dict[str, Any]) -> Config:
        """The config of a trial, those of fewer path segments first: a function before its settings."""
        raw = {key: value for key, value in self.config.raw.items() if key not in ("search", "run")}
        paths = sorted(hyperparameters, key=lambda path: path.count("."))
        raw = all_replaced(raw, [(path, hyperparameters[path]) for path in paths])
        return check(raw, name=self.config.name)

    def plan(self, trial: Trial) -> tuple[FitProgram, dict[str, Any]]:
        """See `fnn.tune._engine.Plan`."""
        config = self.trial_config(trial.hyperparameters)
        settings = dict(config.train.arguments)
        examples = self.folds.train.shape[1]
        batch_size = batch_of(examples, settings["batch_size"])
        steps = fnn.steps_of_run(examples, epochs=self.epochs, batch_size=batch_size)
        make, values = make_and_values(config, steps)
        return FitProgram(make, batch_size, len(self.folds.train), examples, settings["lsuv"]), values

    def _planned(self, trial: Trial) -> tuple[Program, dict[str, Any]]:
        """The same, seen to be one that can be trained."""
        with blamed_on("search.space"):
            return self._checked_plan(trial)

    def _cut(self, data: fnn.Splits) -> Folds:
        standardize = self.base.settings["standardize"]
        if self.settings.folds is None:
            return one_fold(data, standardize=standardize)
        pool = (np.concatenate(pair) for pair in zip(data.train, data.validation, strict=True))
        whole = fnn.Dataset(fnn.Examples(*pool), data.test, data.classes, data.name)
        seed = dict(self.config.split.arguments)["seed"]
        return stratified_folds(whole, count=self.settings.folds, standardize=standardize, seed=seed)

    def _space(self) -> Space:
        self._see_that_each_is_there_once()
        distributions = {}
        for path, call in self.config.space:
            for barred in _NOT_SEARCHED:
                if f"{path}.".startswith(f"{barred}."):
                    raise ConfigError(
                        f"search.space.{path}",
                        f"all trials have the same {barred}; leave it out of the space",
                    )
                if barred.startswith(f"{path}."):
                    raise ConfigError(
                        f"search.space.{path}",
                        f"all trials have the same {barred}; search what else is in {path} by its own path",
                    )
            with blamed_on(f"search.space.{path}"):
                distributions[path] = call_plainly(call)
        with blamed_on("search.space"):
            return Space(distributions, self._allowed)

    def _see_that_each_is_there_once(self) -> None:
        mark, found = object(), list[tuple[str, Any]]()
        for path, _ in self.config.space:
            place: Any = path
            with suppress(ConfigError):  # where something else has to be chosen before it leads anywhere
                place = all_replaced(self.config.raw, [(path, mark)])
            for other, taken in found:
                if place == taken:
                    raise ConfigError(
                        f"search.space.{path}",
                        f"the space has this setting twice, first as {other}; leave one of them out",
                    )
            found.append((path, place))

    def _allowed(self, hyperparameters: dict[str, Any]) -> bool:
        try:
            self._check(hyperparameters)
        except ConfigError:
            return False
        return True

    def _check(self, hyperparameters: dict[str, Any]) -> None:
        """See that a trial can be trained, without computing anything."""
        config = self.trial_config(hyperparameters)
        batch_size = dict(config.train.arguments)["batch_size"]
        with blamed_on("train.batch_size"):
            examples = self.folds.train.shape[1]
            steps = fnn.steps_of_run(examples, epochs=self.epochs, batch_size=batch_size)
        check_ranges(config, steps, self.base.data, {"epochs": 1, "batch_size": batch_size})

    # --- the search -----------------------------------------------------------------------------------------

    def run(self, console: Console) -> int:
        """Search, train the best again, and write everything down."""
        directory = self._directory or self._begun()
        with alone(directory, "searches"), kept(directory, "fnn search"):
            return self._run(directory, console)

    def _begun(self) -> Path:
        """The new directory of the search."""
        data, scores = fingerprint(self.base.data), _what_decides(self.config)
        about = json.dumps({**environment(), "data": data, "scores": scores}, indent=2)
        directory, config = choose(self.config), tomli_w.dumps(self.config.raw)
        create(directory, {"config.toml": config, "environment.json": f"{about}\n", "trials.jsonl": ""})
        return directory

    def _run(self, directory: Path, console: Console) -> int:
        """Go through the search in its directory."""
        console.print(
            f"{directory}: {self.settings.method.name} over {', '.join(self.space.distributions)}; "
            f"{self._judged_by()}",
            highlight=False,
        )
        try:
            with in_file(self.config.source), signals() as received, SearchDisplay(console) as display:
                search = self._engine(directory, "search", received, display, self.settings.seeds, 0)
                outcomes = search.run(
                    self.settings.method, self.space, epochs=self.epochs, seed=self.config.seed
                )
                searched = search.elapsed
                finalists = [outcome.trial for outcome in ranked(outcomes) if not outcome.diverged]
                finalists = finalists[: self.settings.finalists]
                final = self._engine(
                    directory, "final", received, display, self.settings.fresh_seeds, self.settings.seeds
                )
                again = final.run(_once(finalists), self.space, epochs=self.epochs, seed=self.config.seed)
        except Stopped as error:
            complain(f"{error}; fnn search {directory} goes on from here")
            return error.exit_code
        except JournalError as error:
            raise ConfigError(str(directory), str(error)) from error
        if not outcomes:
            if self._directory is None:
                shutil.rmtree(directory)
            problem = f"no trial was trained: {'; '.join(search.notes)}; start again with more of them"
            with in_file(self.config.source):
                raise ConfigError("search.seconds", problem)
        written = [as_outcome(line) for line in read_trials(directory) if line["stage"] == "search"]
        draw_search(outcomes, written, self.space, directory / "figures")
        if again:
            best = self._best(ranked(again)[0].trial)
            (directory / "best.toml").write_text(tomli_w.dumps(best), encoding="utf-8")
            code = self._train_best(directory)
            if code > 1:  # a signal
                complain(f"fnn search {directory} goes on with the search, and with this run")
                return code
        results = self._results(outcomes, again, search.notes, searched + final.elapsed, directory / "best")
        write_json(directory / "results.json", results)
        lines = last_lines(directory)
        in_order = ranked(map(as_outcome, lines.values()))
        write_search_report(directory, [lines[outcome.trial.number] for outcome in in_order])
        shutil.rmtree(directory / "checkpoints", ignore_errors=True)
        return show_search(directory, console)

    def _engine(
        self, directory: Path, stage: str, received: list[int], display: SearchDisplay, seeds: int, first: int
    ) -> Engine:
        """What trains the trials of a stage, with `seeds` seeds from number `first` on."""
        settings = self.settings
        devices, replicas = len(jax.devices()), len(self.folds.train) * seeds
        searching = stage == "search"
        return Engine(
            self._planned,
            Shared(self.folds, np.uint32(self._seed(first))),
            replicas=replicas,
            how=settings.how,
            fastest_ways=self._ways,
            mesh=fnn.mesh(data=1, population=devices) if devices > 1 else None,
            max_epochs=settings.max_epochs if searching else None,
            seconds=settings.seconds if searching else None,
            report=display.report(stage),
            journal=Records(directory, stage, received, replicas),
        )

    def _best(self, trial: Trial) -> dict[str, Any]:
        """The config of the best trial, with the first of the seeds that the finalists were trained with."""
        raw = self.trial_config(trial.hyperparameters).raw
        return {**raw, "seed": self._seed(self.settings.seeds)}

    def _seed(self, number: int) -> int:
        """The seed that comes so many after that of the config, the first again after the last."""
        return (self.config.seed + number) % 2**32

    def _train_best(self, directory: Path) -> int:
        """`best.toml` trained as `fnn train` does, which touches the test set, once."""
        run = directory / "best"
        config = replace(read(directory / "best.toml"), directory=str(run))
        begun = (run / "metrics.jsonl").is_file() and (
            replace(read(run / "config.toml"), directory=str(run)) == config  # else other finalists won since
        )
        if not begun:
            shutil.rmtree(run, ignore_errors=True)
        return train(config, run if begun else None, Console(file=StringIO()))

    def _judged_by(self) -> str:
        folds = self.settings.folds
        judge = f"{folds} folds" if folds else f"{len(self.base.data.validation.x):,} validation examples"
        return f"judged by {judge}, {self.epochs} epochs, {len(jax.devices())} devices"

    def _results(
        self,
        outcomes: Sequence[Outcome],
        again: Sequence[Outcome],
        notes: Sequence[str],
        seconds: float,
        best: Path,
    ) -> dict[str, Any]:
        results: dict[str, Any] = {
            "method": self.settings.method.name,
            "trials": len(outcomes),
            "diverged": sum(outcome.diverged for outcome in outcomes),
            "epochs": sum(outcome.epochs - outcome.trial.inherited for outcome in outcomes),
            "how": sorted(set(self._ways.values())) or [self.settings.how],
            "notes": list(notes),
            "finalists": [
                {"trial": o.trial.number, "score": o.score, "error": o.error} for o in ranked(again)
            ],
        }
        if again:
            run = json.loads((best / "results.json").read_text())
            results |= {part: run[part] for part in ("validation", "test", "stopped") if part in run}
        return finite({**results, "seconds": round(seconds, 2)})


def _what_decides(config: Config) -> dict[str, Any]:
    """The settings that decide how a trial scores, beside its hyperparameters and the data."""
    whole = config.to_dict()
    tables = {name: whole[name] for name in ("model", "loss", "optimizer", "train")}
    tables["search"] = {name: whole["search"].get(name) for name in ("folds", "seeds")}
    settings = {f"{table}.{name}": value for table, of in tables.items() for name, value in of.items()}
    return {"seed": config.seed, **settings}


def _see_that_comparable(config: Config, directory: Path) -> None:
    """See that trials score as they did when the search began, where it has written down what decides that.

    Raises:
        ConfigError: a setting that has changed since.
    """
    now = json.loads(json.dumps(_what_decides(config)))
    began = read_json(directory / "environment.json", {}).get("scores", now)
    changed = [key for key in {**began, **now} if began.get(key) != now.get(key)]
    if changed:
        raise ConfigError(
            config.source,
            f"{', '.join(changed)}: not as when {directory} began, so old and new scores could not be "
            "compared; put that back, or start the search anew",
        )


def _once(trials: Sequence[Trial]) -> Method:
    """The method that asks for some given trials."""

    def rounds(space: Space, epochs: int, seed: int) -> Rounds:
        if trials:
            yield Round(tuple(trial._replace(parent=None, inherited=0) for trial in trials), epochs)

    return Method("again", rounds)
