"""`fnn search`: hyperparameters for a config, from its [search] table to the config that it finds best."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp
import tomli_w
from rich.console import Console
from rich.live import Live
from rich.table import Table

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
    opened,
    read_json,
    with_nan,
    write_json,
)
from fnn.run._output import complain
from fnn.run._prepare import blamed_on, check_ranges, in_file, prepare, prepare_again
from fnn.run._progress import duration, number, with_error
from fnn.run._read import all_replaced, read
from fnn.run._report import write_search_report
from fnn.run._search_figures import draw_search
from fnn.run._settings import SearchSettings, search_settings
from fnn.run._train import Stopped, signals, train
from fnn.tune import Journal, Outcome, SearchProgress, Space, Trial
from fnn.tune._engine import Engine, JournalError, outcome_of, structures_checked
from fnn.tune._method import Method, Round, Rounds, ranked
from fnn.tune._populations import Population
from fnn.tune._program import FitProgram, Program, Shared
from fnn.tune._space import in_words

_SAVE_EVERY = 10.0  # seconds between two checkpoints
_SHOWN = 10  # trials in a table
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
    if directory is not None and (directory / "results.json").is_file():
        return _show(directory, console)
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
        batch_size = examples if settings["batch_size"] == "all" else settings["batch_size"]
        fnn.steps_of_run(examples, epochs=self.epochs, batch_size=batch_size)
        make, values = make_and_values(config, self.epochs * -(-examples // batch_size))
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
        directory = self._directory or choose(self.config)
        if self._directory is None:
            create(directory)
            (directory / "config.toml").write_text(tomli_w.dumps(self.config.raw), encoding="utf-8")
            (directory / "trials.jsonl").touch()
            about = {"data": fingerprint(self.base.data), "scores": _what_decides(self.config)}
            write_json(directory / "environment.json", {**environment(), **about})
        console.print(
            f"{directory}: {self.settings.method.name} over {', '.join(self.space.distributions)}; "
            f"{self._judged_by()}",
            highlight=False,
        )
        try:
            with in_file(self.config.source), signals() as received, _Table(console) as display:
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

        def results(*best: Path) -> dict[str, Any]:
            return self._results(outcomes, again, search.notes, searched + final.elapsed, *best)

        if not outcomes:
            if self._directory is None:
                shutil.rmtree(directory)
            problem = f"no trial was trained: {'; '.join(search.notes)}; start again with more of them"
            with in_file(self.config.source):
                raise ConfigError("search.seconds", problem)
        written = [as_outcome(line) for line in read_trials(directory) if line["stage"] == "search"]
        draw_search(outcomes, written, self.space, directory / "figures")
        if not again:
            self._finish(directory, results())
            return _show(directory, console)
        best = ranked(again)[0]
        (directory / "best.toml").write_text(tomli_w.dumps(self._best(best.trial)), encoding="utf-8")
        code = self._train_best(directory)
        if code > 1:  # a signal
            complain(f"fnn search {directory} goes on with the search, and with this run")
            return code
        self._finish(directory, results(directory / "best"))
        shutil.rmtree(directory / "checkpoints", ignore_errors=True)
        return _show(directory, console)

    def _finish(self, directory: Path, results: dict[str, Any]) -> None:
        """Write what was found: for machines, and as a page."""
        write_json(directory / "results.json", results)
        lines = _last_lines(directory)
        write_search_report(
            directory, [lines[o.trial.number] for o in ranked(map(as_outcome, lines.values()))]
        )

    def _engine(
        self, directory: Path, stage: str, received: list[int], display: _Table, seeds: int, first: int
    ) -> Engine:
        """What trains the trials of a stage, with `seeds` seeds from number `first` on."""
        settings = self.settings
        devices = len(jax.devices())
        searching = stage == "search"
        return Engine(
            self._planned,
            Shared(self.folds, np.uint32(self._seed(first))),
            replicas=len(self.folds.train) * seeds,
            how=settings.how,
            fastest_ways=self._ways,
            mesh=fnn.mesh(data=1, population=devices) if devices > 1 else None,
            max_epochs=settings.max_epochs if searching else None,
            seconds=settings.seconds if searching else None,
            report=display.report(stage),
            journal=Records(directory, stage, received),
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
        begun = (run / "metrics.jsonl").is_file()  # by a search that was interrupted here
        if not begun:
            shutil.rmtree(run, ignore_errors=True)
        config = replace(read(directory / "best.toml"), directory=str(run))
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
        best: Path | None = None,
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
        if best is not None:
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


class Records(Journal):
    """`trials.jsonl`, a line for each outcome, and the checkpoints of what is being trained."""

    def __init__(self, directory: Path, stage: str, received: list[int]) -> None:
        """Read what an earlier process has written."""
        self._lines, self._stage, self._received = directory / "trials.jsonl", stage, received
        self._index = directory / "checkpoints" / f"{stage}.json"
        written = self._lines.read_bytes()
        if written and not written.endswith(b"\n"):  # a process was killed while it wrote the last line
            self._lines.write_bytes(written + b"\n")
        lines = [line for line in read_trials(directory) if line["stage"] == stage]
        self._known: dict[int, list[dict[str, Any]]] = {}
        for line in lines:
            self._known.setdefault(line["trial"], []).append(line)
        self.seconds = max(about.get("seconds", 0.0) for about in (*lines, self._read()))
        self._saved = time.monotonic()

    def recorded(self, trial: Trial, epochs: int) -> Outcome | None:
        """See `Journal`."""
        known = [line for line in self._known.get(trial.number, []) if line["epochs"] <= epochs]
        if not known:
            return None
        return as_outcome(max(known, key=lambda line: line["epochs"]))

    def record(self, outcome: Outcome, *, seconds: float) -> None:
        """See `Journal`."""
        line = json.dumps(finite({"stage": self._stage, **as_line(outcome), "seconds": round(seconds, 3)}))
        with self._lines.open("a") as lines:
            lines.write(f"{line}\n")

    def border(self, populations: Sequence[Population], *, must: bool, seconds: float) -> None:
        """See `Journal`."""
        if must or self._received or time.monotonic() - self._saved > _SAVE_EVERY:
            self._save(populations, seconds)
        if self._received:
            raise Stopped(self._received[0])

    def _save(self, populations: Sequence[Population], seconds: float) -> None:
        before = self._read()
        name = f"{self._stage}-{before.get('count', 0) + 1}"
        leaves = {
            str(k): {
                str(i): np.asarray(leaf)[list(population.rows)]
                for i, leaf in enumerate(jax.tree.leaves(population.mine))
            }
            for k, population in enumerate(populations)
        }
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((self._index.parent / name).resolve(), leaves, force=True)
        about = [
            {
                "trials": [trial._asdict() for trial in population.trials],
                "epoch": population.epoch,
                "curves": population.curves,
            }
            for population in populations
        ]
        index = {"count": before.get("count", 0) + 1, "name": name, "seconds": round(seconds, 3)}
        write_json(self._index, finite({**index, "populations": about}))
        if before:
            shutil.rmtree(self._index.parent / before["name"], ignore_errors=True)
        self._saved = time.monotonic()

    def _read(self) -> dict[str, Any]:
        try:
            about = json.loads(self._index.read_text())
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) and {"name", "populations"} <= about.keys() else {}

    def restored(self, like: Callable[[Trial], Population]) -> Sequence[Population]:
        """See `Journal`."""
        about = self._read()
        if not about:
            return ()
        targets, shapes = {}, []
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        for k, kept in enumerate(about["populations"]):
            trials = tuple(Trial(**{**t, "point": tuple(t["point"])}) for t in kept["trials"])
            rows = tuple(range(len(trials)))
            population = like(trials[0])._replace(trials=trials, rows=rows, epoch=kept["epoch"])
            leaves, structure = jax.tree.flatten(population.mine)
            targets[str(k)] = {
                str(i): jax.ShapeDtypeStruct((len(trials), *leaf.shape[1:]), leaf.dtype, sharding=here)
                for i, leaf in enumerate(leaves)
            }
            shapes.append((population, structure, kept["curves"]))
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                loaded = checkpointer.restore((self._index.parent / about["name"]).resolve(), targets)
        except Exception:  # orbax raises a bare Exception where data are damaged; then trials start anew
            return ()
        return tuple(
            population._replace(
                mine=jax.tree.unflatten(
                    structure, [loaded[str(k)][str(i)] for i in range(len(loaded[str(k)]))]
                ),
                curves=tuple(tuple(map(with_nan, curve)) for curve in curves),
            )
            for k, (population, structure, curves) in enumerate(shapes)
        )


def as_line(outcome: Outcome) -> dict[str, Any]:
    """An outcome as `trials.jsonl` has it."""
    trial = outcome.trial
    names = list(dict.fromkeys(name for metrics in outcome.curve for name in metrics))
    return {
        "trial": trial.number,
        "hyperparameters": trial.hyperparameters,
        "point": list(trial.point),
        "parent": trial.parent,
        "inherited": trial.inherited,
        "epochs": outcome.epochs,
        "score": outcome.score,
        "error": outcome.error,
        "diverged": outcome.diverged,
        "curve": {name: [metrics.get(name, math.nan) for metrics in outcome.curve] for name in names},
    }


def as_outcome(line: dict[str, Any]) -> Outcome:
    """The outcome that a line of `trials.jsonl` has."""
    trial = Trial(
        line["trial"], line["hyperparameters"], tuple(line["point"]), line["parent"], line["inherited"]
    )
    curve = with_nan(line["curve"])
    return outcome_of(
        trial, [{name: column[k] for name, column in curve.items()} for k in range(line["epochs"])]
    )


_NEEDED = {"stage", "trial", "hyperparameters", "point", "parent", "inherited", "epochs", "curve"}


def read_trials(directory: Path) -> list[dict[str, Any]]:
    """The lines of `trials.jsonl`, without one that was cut off while it was written.

    Raises:
        ConfigError: a line that is none of a search.
    """
    lines, path = [], directory / "trials.jsonl"
    for number_of_line, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not isinstance(line, dict) or not line.keys() >= _NEEDED:
            problem = f"line {number_of_line} does not record a trial; take it out to train that one again"
            raise ConfigError(str(path), problem)
        lines.append(line)
    return lines


def _last_lines(directory: Path) -> dict[int, dict[str, Any]]:
    """What `trials.jsonl` says last of each trial of the search."""
    return {line["trial"]: line for line in read_trials(directory) if line["stage"] == "search"}


# --- what people see ----------------------------------------------------------------------------------------


class _Table:
    """Shows the best trials so far: a live table on a terminal, at most a line a second elsewhere."""

    def __init__(self, console: Console) -> None:
        """Start the clock."""
        self._console, self._started, self._line_at = console, time.monotonic(), -math.inf
        live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, transient=True) if live else None

    def __enter__(self) -> _Table:
        """Start the live display."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop it."""
        if self._live is not None:
            self._live.stop()

    def report(self, stage: str) -> Callable[[SearchProgress], None]:
        """What an engine tells about a stage."""
        said: set[str] = set()

        def show(progress: SearchProgress) -> None:
            for note in progress.notes:
                if note not in said:
                    said.add(note)
                    self._console.print(note, highlight=False)
            words = self._words(progress, stage)
            if self._live is not None:
                table = trials_table(progress.outcomes)
                table.caption = words
                self._live.update(table)
            elif time.monotonic() - self._line_at >= 1 or progress.epoch == progress.epochs:
                self._line_at = time.monotonic()
                self._console.print(words, highlight=False, soft_wrap=True)

        return show

    def _words(self, progress: SearchProgress, stage: str) -> str:
        best = ranked(progress.outcomes)[0]
        doing = "" if stage == "search" else "again with fresh seeds, "
        return (
            f"{doing}{len(progress.training)} trials, epoch {progress.epoch}/{progress.epochs}  best "
            f"{number(best.score)} (trial {best.trial.number})  {duration(time.monotonic() - self._started)}"
        )


def trials_table(outcomes: Sequence[Outcome], shown: int = _SHOWN) -> Table:
    """The best trials with their hyperparameters."""
    paths = list(dict.fromkeys(path for o in outcomes for path in o.trial.hyperparameters))
    table = Table("trial", "score", "epochs", *map(_breakable, paths))
    for column in table.columns:
        column.justify = "right"
    table.columns[1].no_wrap = True
    for outcome in ranked(outcomes)[:shown]:
        score = "diverged" if outcome.diverged else with_error(outcome.score, outcome.error)
        values = (in_words(outcome.trial.hyperparameters.get(path, "–")) for path in paths)
        table.add_row(str(outcome.trial.number), score, str(outcome.epochs), *values)
    return table


def _breakable(path: str) -> str:
    """A path on two lines, so that a table is not too wide."""
    section, _, name = path.rpartition(".")
    return f"{section}\n{name}" if section else name


def _show(directory: Path, console: Console) -> int:
    """Print what a finished search found; its exit code."""
    path = directory / "results.json"
    results = with_nan(read_json(path, {}))
    if not {"trials", "diverged", "epochs", "seconds", "notes", "finalists"} <= results.keys():
        raise ConfigError(str(path), "this is not what a search found; delete it, and the search ends again")
    console.print(trials_table([*map(as_outcome, _last_lines(directory).values())]))
    console.print(
        f"{results['trials']} trials, {results['diverged']} diverged, {results['epochs']:,} epochs in "
        f"{duration(results['seconds'])}",
        highlight=False,
    )
    for words in _findings(results, directory):
        console.print(words, highlight=False, soft_wrap=True)
    console.print(f"report: {directory / 'report.html'}", highlight=False, soft_wrap=True)
    return int(not results["finalists"] or "stopped" in results)


def _findings(results: dict[str, Any], directory: Path) -> Iterator[str]:
    yield from results["notes"]
    if not results["finalists"]:
        yield "every trial diverged; try lower learning rates"
    for place, finalist in enumerate(results["finalists"]):
        yield (
            f"{'best' if place == 0 else 'then'}: trial {finalist['trial']}, trained again with fresh seeds: "
            f"{with_error(finalist['score'], finalist['error'])}"
        )
    if "stopped" in results:
        yield f"{directory / 'best'}: {results['stopped']}"
    if "test" in results:
        figures = ", ".join(f"{name} {number(value)}" for name, value in results["test"].items())
        yield f"{directory / 'best.toml'} on the test set: {figures}"
