"""`fnn train` and `fnn evaluate`: a run from its config to its report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import TypeAdapter
from rich.console import Console

import fnn
from fnn.nn._layer import as_layer
from fnn.run._build import numbers_at
from fnn.run._config import Call, Config, ConfigError
from fnn.run._curve_file import read_history
from fnn.run._diagnose import Recorder, judge_run, show
from fnn.run._directory import (
    checkpoint,
    choose,
    create,
    environment,
    fingerprint,
    finite,
    kept,
    load_checkpoint,
    opened,
    read_json,
    save_checkpoints,
    see_that_it_says,
    with_nan,
    write_json,
    write_whole,
)
from fnn.run._figures import draw_confusion, draw_mistakes
from fnn.run._load import like, loaded, outputs_of
from fnn.run._lock import alone
from fnn.run._output import complain
from fnn.run._prepare import Prepared, prepare, prepare_again
from fnn.run._progress import Display, results_table
from fnn.run._report import results_so_far, write_report
from fnn.run._report_again import redraw
from fnn.run._signals import Stopped, signals
from fnn.train._evaluate import score
from fnn.train._state import as_values

_SAVE_EVERY = 60.0  # seconds between two checkpoints of a long run

_score = jax.jit(score, static_argnums=0)
_confusion_matrix = jax.jit(fnn.confusion_matrix)


def train_path(path: str, overrides: tuple[str, ...], console: Console) -> int:
    """Train a config, go on with an interrupted run, or print what a finished one came to.

    Args:
        path: of a config, or the directory of a run.
        overrides: `key=value`, for a config.
        console: where to print.

    Returns:
        The exit code: 0 when done, 1 when the loss diverged, 130 or 143 when a signal stopped the run.

    Raises:
        ConfigError: bad input; nothing has been written then.
    """
    config, directory = opened(path, overrides, "run", "metrics.jsonl")
    return train(config, directory, console)


def train(config: Config, directory: Path | None, console: Console) -> int:
    """Train, evaluate once on the test set, and write the run directory; see `train_path`.

    Args:
        config: of the run.
        directory: where it has begun: one that was interrupted goes on after its last checkpoint and ends as
            if nothing had happened, one that is finished is not touched again.
        console: where to print.
    """
    started = time.monotonic()
    if directory is None:
        choose(config)  # complains early
        prepared = prepare(config)
        summary = f"{prepared.summary}\n"
        directory = choose(config)  # another run may have taken the number in the meantime
        create(directory, {"config.toml": config.to_toml(), "summary.txt": summary, "metrics.jsonl": ""})
    else:
        results = with_nan(read_json(directory / "results.json", {"stopped": ""}))
        if "stopped" not in results and (directory / "report.html").is_file():
            problem = "this is not what a run came to; delete it, and the run ends again"
            see_that_it_says(_ENDED, results, str(directory / "results.json"), problem)
            _show(directory, results, judge_run(directory), console)
            return 0
        prepared = prepare_again(config, directory)
    with alone(directory, "trains"), kept(directory, "fnn train"):
        return _train(prepared, directory, console, started)


def _train(prepared: Prepared, directory: Path, console: Console, started: float) -> int:
    """Train from the last checkpoint on, and write down what the run comes to, the report last."""
    so_far = _so_far(prepared, directory)
    epochs = () if so_far is None else so_far.history
    write_whole(directory / "metrics.jsonl", "".join(map(_line, range(1, len(epochs) + 1), epochs)))
    before = read_json(directory / "environment.json", {}).get("seconds", 0.0)
    about = {
        **environment(),
        "data": fingerprint(prepared.data),
        "steps_per_epoch": _steps_per_epoch(prepared),
        "seconds": before,
    }
    write_json(directory / "environment.json", about)
    goes_on = f", going on after epoch {len(epochs)}" if epochs else ""
    console.print(
        f"{directory}: {prepared.summary.parameters:,} parameters, {_sizes(prepared)}{goes_on}",
        highlight=False,
        soft_wrap=True,
    )
    for line in _parameter_parts(prepared):
        console.print(line, highlight=False)

    with signals() as received:  # also while the results are written
        fit, stopped, exit_code = _fit(prepared, directory, console, so_far, received)
        if fit is not None:
            save_checkpoints(directory, fit)
        results, outputs = _results(prepared, fit, stopped)
        (directory / "report.html").unlink(missing_ok=True)  # of the run before it went on
        write_json(directory / "results.json", finite(results))
        findings = redraw(directory, () if fit is None else fit.history)
        _draw(prepared, outputs, directory)
        seconds = round(before + time.monotonic() - started, 2)
        write_json(directory / "environment.json", {**about, "seconds": seconds})
        write_report(directory)
    _show(directory, results, findings, console)
    return exit_code


@dataclass
class _Ended:
    """What `results.json` says of a run that has ended, as far as it is shown."""

    validation: dict[str, float]
    test: dict[str, float]


_ENDED = TypeAdapter(_Ended)


def _show(
    directory: Path, results: dict[str, Any], findings: Iterable[fnn.Finding], console: Console
) -> None:
    """Print what a run has come to."""
    if "validation" in results:
        console.print(results_table(results))
    show(findings, console, passed=False)
    if "stopped" in results:
        complain(results["stopped"])
    report = directory / "report.html"
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


def _line(epoch: int, metrics: dict[str, float]) -> str:
    """A line of `metrics.jsonl`."""
    return json.dumps(finite({"epoch": epoch, **metrics})) + "\n"


def _so_far(prepared: Prepared, directory: Path) -> fnn.Fit | None:
    """A run as far as its checkpoints hold it; None where it has none yet.

    Raises:
        ConfigError: files that do not fit together, as where the config was changed.
    """
    names = [name for name in ("best", "last") if checkpoint(directory, name).is_dir()]
    if not names:
        return None
    shapes = like(prepared)
    states = [load_checkpoint(directory, name, shapes) for name in dict.fromkeys(("best", *names))]
    best, last = states[0], max(states, key=lambda state: int(state.step))  # the end may come between two
    steps = _steps_per_epoch(prepared)
    began = read_json(directory / "environment.json", {}).get("steps_per_epoch", steps)
    if steps != began:
        problem = f"an epoch has {steps} steps, and had {began} when {directory} began; change it back"
        raise ConfigError(prepared.config.source, f"train.batch_size: {problem}")
    epochs = int(last.step) // steps
    if epochs > prepared.settings["epochs"]:
        problem = f"{directory} has gone through {epochs} epochs already; change it back"
        raise ConfigError(prepared.config.source, f"train.epochs: {problem}")
    history = read_history(directory, epochs)
    if [line.pop("epoch", None) for line in history] != [*range(1, epochs + 1)]:
        raise ConfigError(
            str(directory / "metrics.jsonl"),
            f"the lines of epochs 1 to {epochs}, as far as its checkpoint comes, are not all here; put them "
            "back, or remove the checkpoints of the run to train it from the start",
        )
    return fnn.Fit(best, last, int(best.step) // steps, tuple(history))


def _steps_per_epoch(prepared: Prepared) -> int:
    return fnn.steps_of_run(len(prepared.data.train.x), epochs=1, batch_size=prepared.settings["batch_size"])


def evaluate(directory: Path, name: str, console: Console) -> int:
    """Print loss and accuracy of a finished run's checkpoint on its validation and test data."""
    prepared, state = loaded(directory, name)
    results = {
        part: _scores(prepared, state, outputs_of(prepared, state, examples.x), examples.y)
        for part, examples in (("validation", prepared.data.validation), ("test", prepared.data.test))
    }
    console.print(results_table(results))
    return 0


def _fit(
    prepared: Prepared, directory: Path, console: Console, so_far: fnn.Fit | None, received: list[int]
) -> tuple[fnn.Fit | None, str, int]:
    """The run as far as it came, why it ended early if it did, and the exit code."""
    fit = so_far
    saved = time.monotonic()
    metrics = directory / "metrics.jsonl"
    record = Recorder(prepared, directory, 0 if so_far is None else int(so_far.last.step))

    with Display(console, title=prepared.config.name) as display:

        def report(progress: fnn.Progress) -> None:
            nonlocal fit, saved
            display(progress)
            record(progress)
            if progress.fit is not None:
                fit = progress.fit
                with metrics.open("a") as lines:
                    lines.write(_line(progress.epoch, progress.metrics))
                if time.monotonic() - saved > _SAVE_EVERY:
                    save_checkpoints(directory, fit)
                    saved = time.monotonic()
            if received and progress.step < progress.steps:
                raise Stopped(received[0])

        try:
            fit = fnn.fit(
                prepared.make,
                prepared.values,
                prepared.data,
                seed=prepared.config.seed,
                mesh=prepared.mesh,
                report=report,
                watch_every=record.every,
                so_far=so_far,
                **prepared.settings,
            )
        except fnn.Diverged as error:
            record(error.progress)
            return fit, str(error), 1
        except Stopped as error:
            return fit, f"{error}; fnn train {directory} goes on from here", error.exit_code
        except OSError as error:
            problem = f"{error.filename or directory} cannot be written: {error.strerror}"
            return fit, f"{problem}; fnn train {directory} goes on when it can", 1
    return fit, "", 0


def _results(
    prepared: Prepared, fit: fnn.Fit | None, stopped: str
) -> tuple[dict[str, Any], np.ndarray | None]:
    """The figures of a run, and its outputs for the test set: touched here, once, of a complete run."""
    results: dict[str, Any] = {"parameters": prepared.summary.parameters}
    if stopped:
        results["stopped"] = stopped
    if fit is None or not fit.history:
        return results, None
    results |= results_so_far(fit.history)
    if stopped:
        return results, None
    x, y = prepared.data.test
    outputs = outputs_of(prepared, fit.best, x)
    return results | {"test": _scores(prepared, fit.best, outputs, y)}, outputs


def _draw(prepared: Prepared, outputs: np.ndarray | None, directory: Path) -> None:
    """The figures of what the network says of the test set."""
    figures, (x, y), classes = directory / "figures", prepared.data.test, prepared.data.classes
    if outputs is not None and classes:
        draw_confusion(_confusion_matrix(outputs, y), classes, figures / "confusion.png")
        draw_mistakes(x, y, outputs, classes, figures / "mistakes.png")


def _scores(
    prepared: Prepared, state: fnn.TrainState, outputs: np.ndarray, targets: np.ndarray
) -> dict[str, float]:
    measured = _score(prepared.make, as_values(prepared.values), state, outputs, targets)
    first = ("loss", "accuracy")  # a compiled function returns them by the alphabet
    names = sorted(measured, key=lambda name: first.index(name) if name in first else len(first))
    return {name: float(measured[name]) for name in names}


def _parameter_parts(prepared: Prepared) -> list[str]:
    """Which parameters are frozen and which belong to which group of the optimizer, a line each."""
    task = prepared.make(numbers_at(prepared.values, 0))
    params, _ = jax.eval_shape(lambda key: as_layer(task.net).init(key, prepared.sample), jax.random.key(0))
    frozen, trained = task.cut(params)
    lines = [_counted("frozen", *fnn.parameter_groups(frozen, ())["default"])] if task.freeze else []
    for patterns in _group_patterns(prepared.config.optimizer):
        groups = fnn.parameter_groups(trained, patterns)
        lines += [_counted(f"group {name}", *count) for name, count in groups.items()]
    return lines


def _group_patterns(call: Call) -> Iterator[tuple[str, ...]]:
    """The patterns of every `by_path` in an optimizer."""
    for _, child in call.children(""):
        if isinstance(child, Call):
            yield from _group_patterns(child)
    if call.function == "by_path":
        groups = dict(call.arguments)["groups"]
        yield tuple(dict(group.arguments)["pattern"] for _, group in groups.items)


def _counted(name: str, leaves: int, numbers: int) -> str:
    return f"{name}: {leaves} parameter arrays, {numbers:,} numbers"


def _sizes(prepared: Prepared) -> str:
    data = prepared.data
    sizes = [f"{len(getattr(data, part).x):,} {part}" for part in ("train", "validation", "test")]
    return f"{data.name} ({', '.join(sizes)})"
