"""Runs that were interrupted: they go on, and end where the run in one piece ends."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console
from run_cases import SMALL, in_process

import fnn
from fnn.run import _report_again, _train
from fnn.run._config import ConfigError
from fnn.run._directory import load_checkpoint, read_json
from fnn.run._load import like
from fnn.run._lock import alone
from fnn.run._prepare import prepare
from fnn.run._read import read
from fnn.run.cli import main

CONFIG = SMALL.replace('"relu",', '"relu", "batch_norm", {dropout = {rate = 0.2}},').replace(
    "learning_rate = 1e-2", "learning_rate = {cosine = {peak = 1e-2}}"
)
EPOCHS = 3


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run in one piece, and one that was stopped in the middle of its second epoch, of chunks of 8 steps."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.toml").write_text(CONFIG)
    call = _train.Recorder.__call__

    def stop(self, progress):
        call(self, progress)
        if progress.epoch == 2 and progress.fit is None:
            signal.raise_signal(signal.SIGTERM)

    def train(*overrides):
        patched.setattr(sys, "argv", ["fnn", "train", "small.toml", *overrides])
        with pytest.raises(SystemExit) as ended, redirect_stderr(StringIO()) as errors:
            main()
        return ended.value.code, errors.getvalue()

    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(fnn.train._fit, "_CHUNK_STEPS", 8)
        assert train('run.directory="whole"') == (0, "")
        patched.setattr(_train.Recorder, "__call__", stop)
        assert train() == (143, "fnn: stopped by SIGTERM; fnn train runs/small/1 goes on from here\n")
    assert [line["epoch"] for line in lines(folder / "runs" / "small" / "1" / "metrics.jsonl")] == [1]
    return folder


@pytest.fixture
def interrupted(here, runs, monkeypatch):
    monkeypatch.setattr(fnn.train._fit, "_CHUNK_STEPS", 8)
    shutil.copytree(runs / "runs", here / "runs")
    return here / "runs" / "small" / "1"


@pytest.fixture
def whole(here, runs, monkeypatch):
    monkeypatch.setattr(fnn.train._fit, "_CHUNK_STEPS", 8)
    return shutil.copytree(runs / "whole", here / "whole")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def checkpoint(run, name):
    prepared = prepare(read(run / "config.toml"))
    state = load_checkpoint(run, name, like(prepared))
    return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def assert_same_run(run, whole):
    for name in ("metrics.jsonl", "diagnostics.jsonl"):
        assert lines(run / name) == lines(whole / name)
    for name in ("results.json", "findings.json"):
        assert json.loads((run / name).read_text()) == json.loads((whole / name).read_text())
    for name in ("best", "last"):
        one, other = checkpoint(run, name), checkpoint(whole, name)
        assert jax.tree.structure(one) == jax.tree.structure(other)
        assert all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best", "last"]
    assert sorted(path.name for path in (run / "figures").iterdir()) == sorted(
        path.name for path in (whole / "figures").iterdir()
    )


def test_a_run_that_a_signal_stopped_goes_on(interrupted, whole, monkeypatch, capsys):
    before = json.loads((interrupted / "environment.json").read_text())
    code, output, errors = in_process(monkeypatch, capsys, "train", interrupted)
    assert (code, errors) == (0, "")
    assert "going on after epoch 1" in output
    assert_same_run(interrupted, whole)
    assert json.loads((interrupted / "environment.json").read_text())["seconds"] > before["seconds"]


def test_a_config_that_names_the_directory_goes_on_too(interrupted, whole, monkeypatch, capsys):
    shutil.move(interrupted, "mine")
    directory = 'run.directory="mine"'
    (interrupted.parents[2] / "mine" / "config.toml").write_text(read("small.toml", (directory,)).to_toml())
    assert in_process(monkeypatch, capsys, "train", "small.toml", directory)[0] == 0
    assert_same_run(interrupted.parents[2] / "mine", whole)
    code, _, errors = in_process(monkeypatch, capsys, "train", "small.toml", directory, "seed=5")
    assert code == 2
    assert errors == (
        "fnn: run.directory: mine has a run of another config; name another one, or remove it\n"
    )


def test_a_run_that_was_killed_goes_on(interrupted, whole, monkeypatch, capsys):
    """What it wrote after its last checkpoint is written again; a line may be torn."""
    (interrupted / "results.json").unlink()
    shutil.rmtree(interrupted / "figures")
    with (interrupted / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "loss": 7.0}\n{"epoch": 3, "lo')
    with (interrupted / "diagnostics.jsonl").open("a") as file:
        file.write('{"step": 30, "loss": 7.0, "loss_max": 8.0}\n{"ste')
    assert in_process(monkeypatch, capsys, "train", interrupted)[0] == 0
    assert_same_run(interrupted, whole)


def test_a_run_that_was_killed_between_its_two_checkpoints_goes_on(interrupted, whole, monkeypatch, capsys):
    best = json.loads((whole / "results.json").read_text())["best_epoch"]
    assert best > 1
    shutil.rmtree(interrupted / "checkpoints" / "best")
    shutil.copytree(whole / "checkpoints" / "best", interrupted / "checkpoints" / "best")
    shutil.copy(whole / "metrics.jsonl", interrupted)
    _, output, _ = in_process(monkeypatch, capsys, "train", interrupted)
    assert f"going on after epoch {best}" in output
    assert lines(interrupted / "metrics.jsonl") == lines(whole / "metrics.jsonl")


@pytest.mark.parametrize("name", ["best", "last"])
@pytest.mark.parametrize("both", [False, True])
def test_a_run_that_was_killed_while_a_checkpoint_was_replaced_goes_on(
    name, both, interrupted, whole, monkeypatch, capsys
):
    """Its former version stands aside; it does so too where the new one is in its place already."""
    path = interrupted / "checkpoints" / name
    shutil.copytree(path, path.with_name(f"{name}_former"))
    if not both:
        shutil.rmtree(path)
    assert in_process(monkeypatch, capsys, "evaluate", interrupted, "--checkpoint", name)[0] == 0
    assert in_process(monkeypatch, capsys, "train", interrupted)[0] == 0
    assert_same_run(interrupted, whole)


def test_what_is_said_of_damaged_files_helps(interrupted, whole, monkeypatch, capsys):
    def complaint():
        code, _, errors = in_process(monkeypatch, capsys, "train", interrupted)
        assert (code, errors.count("\n")) == (2, 1)
        return errors

    last, best = (interrupted / "checkpoints" / name for name in ("last", "best"))
    (last / "_METADATA").write_text("junk")
    assert complaint().endswith("; remove it, and a run that was interrupted goes on after its best epoch\n")
    shutil.rmtree(last)
    assert in_process(monkeypatch, capsys, "train", interrupted)[0] == 0
    assert_same_run(interrupted, whole)

    (best / "_METADATA").write_text("junk")
    (interrupted / "results.json").unlink()
    assert complaint().endswith(
        "; remove the checkpoints and the results.json of the run to train it from the start\n"
    )
    (interrupted / "metrics.jsonl").write_bytes(b"\xff\n")
    shutil.rmtree(interrupted / "checkpoints")
    assert in_process(monkeypatch, capsys, "train", interrupted)[0] == 0
    assert_same_run(interrupted, whole)


def test_a_run_that_has_no_checkpoint_yet_begins_anew(interrupted, whole, monkeypatch, capsys):
    (interrupted / "results.json").unlink()
    for name in ("best", "last"):
        shutil.rmtree(interrupted / "checkpoints" / name)
    assert in_process(monkeypatch, capsys, "train", interrupted)[0] == 0
    assert_same_run(interrupted, whole)


def test_of_a_finished_run_the_results_are_printed(whole, monkeypatch, capsys):
    def times():
        return {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}

    before = times()
    code, output, errors = in_process(monkeypatch, capsys, "train", whole)
    assert (code, errors) == (0, "")
    assert "test" in output
    assert f"report: {whole / 'report.html'}" in output
    assert times() == before


@pytest.mark.parametrize("damaged", ["{}", '{"validation": 3, "test": {"loss": 1.0}}'])
def test_results_of_a_finished_run_that_are_none_are_made_again(damaged, whole, monkeypatch, capsys):
    results = (whole / "results.json").read_text()
    (whole / "results.json").write_text(damaged)
    code, _, errors = in_process(monkeypatch, capsys, "train", whole)
    assert code == 2
    assert errors == (
        f"fnn: {whole / 'results.json'}: this is not what a run came to; delete it, and the run ends again\n"
    )
    (whole / "results.json").unlink()
    assert in_process(monkeypatch, capsys, "train", whole)[0] == 0
    assert (whole / "results.json").read_text() == results


def test_what_cannot_go_on_is_said(interrupted, monkeypatch, capsys):
    def complaint(*arguments):
        code, _, errors = in_process(monkeypatch, capsys, "train", *arguments)
        assert code == 2
        return errors

    assert complaint(interrupted, "train.epochs=9") == (
        f"fnn: train.epochs=9: {interrupted} is a run that has begun, where no key can be changed\n"
    )
    os.mkdir("empty")
    assert complaint("empty") == "fnn: empty is not the directory of a run: it has no metrics.jsonl\n"
    shutil.move(interrupted / "checkpoints" / "best", "best")
    assert "has no checkpoint 'best'" in complaint(interrupted)  # and no other state is taken for it
    shutil.move("best", interrupted / "checkpoints" / "best")
    metrics = interrupted / "metrics.jsonl"
    for lacking in (b'{"epoch": 2, "validation_loss": 1.0}\n', b""):
        metrics.write_bytes(lacking)
        assert complaint(interrupted) == (
            f"fnn: {metrics}: the lines of epochs 1 to 1, as far as its checkpoint comes, "
            "are not all here; put them back, or remove the checkpoints of the run to train it from the start\n"
        )
    for damaged in (
        b'{"epoch": 1}\n',
        b'{"epoch": 1, "validation_loss": "x"}\n',
        b'{"validation_loss": 1.0}\n',
    ):
        metrics.write_bytes(damaged)
        assert complaint(interrupted) == (
            f"fnn: {metrics}, line 1: expected the metrics of an epoch, such as "
            '{"epoch": 1, "loss": 0.5, "validation_loss": 0.6}; put it back as it was\n'
        )
    metrics.write_bytes(b"3\n")
    assert complaint(interrupted).startswith(f"fnn: {metrics}, line 1: expected an object such as")
    metrics.write_bytes(b'{"epoch": 1, "\xff": 3}\n')
    assert complaint(interrupted) == f"fnn: {metrics}: this is not text in UTF-8; save it so\n"


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_data_that_have_changed_are_not_taken_for_those_of_the_run(command, here, monkeypatch, capsys):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    np.savez("mine.npz", x=x, y=y)
    (here / "mine.toml").write_text(
        '[data]\nuse = "npz"\npath = "mine.npz"\n[model]\nlayers = [{linear = {features = 2}}]\n'
        '[loss]\nuse = "softmax_cross_entropy"\n[optimizer]\nuse = "adam"\nlearning_rate = 0.01\n'
        '[train]\nepochs = 1\nbatch_size = 16\n[run]\ndirectory = "run"\n'
    )
    assert in_process(monkeypatch, capsys, "train", "mine.toml")[0] == 0
    assert in_process(monkeypatch, capsys, "evaluate", "run")[0] == 0
    (here / "run" / "results.json").unlink()  # as if it were not finished
    np.savez("mine.npz", x=np.append(x, x[:1], 0), y=np.append(y, 0))
    code, _, errors = in_process(monkeypatch, capsys, command, "run")
    assert code == 2
    assert errors == (
        "fnn: run/config.toml: data: these are not the examples that run began with; bring those back, or "
        "begin anew\n"
    )
    assert read_json(here / "run" / "environment.json", {})["data"]


def test_a_log_that_cannot_be_written_saves_and_ends(here, whole, monkeypatch, capsys):
    call = _train.Recorder.__call__

    def full(self, progress):
        if progress.epoch == 2 and progress.fit is None:
            raise OSError(errno.ENOSPC, "No space left on device", "diagnostics.jsonl")
        call(self, progress)

    with monkeypatch.context() as patched:
        patched.setattr(_train.Recorder, "__call__", full)
        code, _, errors = in_process(monkeypatch, capsys, "train", "small.toml")
    assert code == 1
    assert errors == (
        "fnn: diagnostics.jsonl cannot be written: No space left on device; fnn train runs/small/1 goes on when "
        "it can\n"
    )
    assert in_process(monkeypatch, capsys, "train", "runs/small/1")[0] == 0
    assert_same_run(here / "runs" / "small" / "1", whole)


@pytest.mark.parametrize("name", ["redraw", "save_checkpoints"])
def test_a_signal_after_the_last_epoch_loses_nothing(name, here, whole, monkeypatch, capsys):
    function = getattr(_train, name)

    def late(*arguments):
        signal.raise_signal(signal.SIGINT)
        return function(*arguments)

    monkeypatch.setattr(_train, name, late)
    assert in_process(monkeypatch, capsys, "train", "small.toml")[0] == 0
    assert_same_run(here / "runs" / "small" / "1", whole)


def test_a_run_that_was_killed_before_its_report_writes_it(interrupted, whole, monkeypatch, capsys):
    """That of the run before it went on is not taken for it."""

    def fails(directory):
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(_train, "write_report", fails)
        with pytest.raises(RuntimeError):
            in_process(monkeypatch, capsys, "train", interrupted)
    assert "test" in json.loads((interrupted / "results.json").read_text())
    assert in_process(monkeypatch, capsys, "train", interrupted)[0] == 0
    assert "stopped by SIGTERM" not in (interrupted / "report.html").read_text()
    assert_same_run(interrupted, whole)


def test_a_run_that_was_killed_before_its_first_step_begins(here, whole, monkeypatch, capsys):
    def killed(*arguments):
        raise RuntimeError

    command = ("train", "small.toml", 'run.directory="mine"')
    with monkeypatch.context() as patched:
        patched.setattr(_train, "write_whole", killed)
        with pytest.raises(RuntimeError):
            in_process(monkeypatch, capsys, *command)
    assert (here / "mine" / "metrics.jsonl").read_text() == ""
    assert in_process(monkeypatch, capsys, *command)[0] == 0
    assert_same_run(here / "mine", whole)


def test_two_processes_do_not_train_in_one_directory(interrupted, monkeypatch, capsys):
    before = (interrupted / "metrics.jsonl").read_bytes()
    call, said = _train.Recorder.__call__, []
    complaint = f"another process trains in {interrupted}; wait for it, or stop it"

    def meanwhile(self, progress):
        with pytest.raises(ConfigError) as caught:
            _train.train_path(str(interrupted), (), Console(quiet=True))
        said.append(str(caught.value))
        call(self, progress)

    with alone(interrupted, "trains"):
        assert in_process(monkeypatch, capsys, "train", interrupted) == (2, "", f"fnn: {complaint}\n")
    assert (interrupted / "metrics.jsonl").read_bytes() == before
    monkeypatch.setattr(_train.Recorder, "__call__", meanwhile)
    assert in_process(monkeypatch, capsys, "train", interrupted)[0] == 0
    assert {*said} == {complaint}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (  # two epochs of so many steps as three had
            "batch_size = 64",
            "batch_size = 43",
            "train.batch_size: an epoch has 27 steps, and had 18 when {run} began; change it back",
        ),
        ("epochs = 3", "epochs = 2", "train.epochs: {run} has gone through 3 epochs already; change it back"),
    ],
    ids=["batch_size", "epochs"],
)
def test_a_config_that_was_changed_so_that_steps_do_not_fit(old, new, says, whole, monkeypatch, capsys):
    (whole / "results.json").unlink()  # as if it were not finished
    config, metrics = whole / "config.toml", (whole / "metrics.jsonl").read_bytes()
    written = config.read_text()
    assert old in written
    config.write_text(written.replace(old, new))
    code, _, errors = in_process(monkeypatch, capsys, "train", whole)
    assert (code, errors) == (2, f"fnn: {config}: {says.format(run=whole)}\n")
    assert (whole / "metrics.jsonl").read_bytes() == metrics
    config.write_text(written)
    assert in_process(monkeypatch, capsys, "train", whole)[0] == 0


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(here, whole, monkeypatch, capsys):
    def full(*arguments, **settings):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nMore.")

    with monkeypatch.context() as patched:
        patched.setattr("orbax.checkpoint.StandardCheckpointer.save", full)
        code, _, errors = in_process(monkeypatch, capsys, "train", "small.toml")
    checkpoint = here / "runs" / "small" / "1" / "checkpoints" / "new"
    assert code == 1
    assert errors == (
        f"fnn: the checkpoint {checkpoint} cannot be written: RESOURCE_EXHAUSTED: No space left on device; "
        "fnn train runs/small/1 goes on when it can\n"
    )
    assert in_process(monkeypatch, capsys, "train", "runs/small/1")[0] == 0
    assert_same_run(here / "runs" / "small" / "1", whole)


def test_results_are_there_before_a_figure_fails(here, monkeypatch, capsys):
    def fails(*arguments):
        raise RuntimeError

    monkeypatch.setattr(_report_again, "draw_layers", fails)
    with pytest.raises(RuntimeError):
        in_process(monkeypatch, capsys, "train", "small.toml")
    assert "test" in json.loads((here / "runs" / "small" / "1" / "results.json").read_text())


def test_a_damaged_checkpoint_is_one_line(here, whole):
    (whole / "checkpoints" / "best" / "_METADATA").write_text("junk")
    shutil.rmtree(whole / "checkpoints" / "best" / "d")
    command = Path(sys.executable).with_name("fnn")
    found = subprocess.run(
        [command, "evaluate", "whole"], capture_output=True, text=True, cwd=here, check=False
    )
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "checkpoints/best cannot be read: " in found.stderr


def test_output_that_nobody_reads_stops_no_run(here):
    command = Path(sys.executable).with_name("fnn")
    process = subprocess.Popen([command, "train", "small.toml"], stdout=subprocess.PIPE, cwd=here)
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert (here / "runs" / "small" / "1" / "report.html").is_file()


def test_results_are_json_whatever_the_numbers(here, monkeypatch, capsys):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 3)).astype(np.float32), random.normal(size=(40, 1)).astype(np.float32)
    np.savez("mine.npz", x_train=x, y_train=y, x_test=np.full((5, 3), 1e25, np.float32), y_test=y[:5])
    (here / "mine.toml").write_text(
        '[data]\nuse = "npz"\npath = "mine.npz"\n[model]\nlayers = [{linear = {features = 1}}]\n'
        '[loss]\nuse = "mean_squared_error"\n[optimizer]\nuse = "sgd"\nlearning_rate = 0.01\n'
        '[train]\nepochs = 1\nbatch_size = 8\nstandardize = false\n[run]\ndirectory = "run"\n'
    )
    assert in_process(monkeypatch, capsys, "train", "mine.toml")[0] == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((here / "run" / "results.json").read_text(), parse_constant=refuse)
    assert found["test"]["loss"] is None
    assert "nan test loss" in (here / "run" / "report.html").read_text()
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")  # where the run still finds its data
    assert in_process(monkeypatch, capsys, "evaluate", here / "run")[0] == 0


def test_brackets_in_names_are_no_markup(here, monkeypatch, capsys):
    code, output, _ = in_process(
        monkeypatch, capsys, "train", "small.toml", "train.epochs=1", 'run.directory="s[/x][red]"'
    )
    assert code == 0
    assert "report: s[/x][red]/report.html" in output


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "results.json"),
            "results.json: No space left on device; fnn train runs/small/1 goes on when it can",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),  # where the system names no file
            "runs/small/1: No space left on device; fnn train runs/small/1 goes on when it can",
        ),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 512 bytes.\nMore."),
            "the memory does not suffice (Out of memory allocating 512 bytes); make the batch or the network smaller",
        ),
        (
            MemoryError("Unable to allocate 2 TiB for an array"),
            "the memory does not suffice (Unable to allocate 2 TiB for an array); make the batch or the network "
            "smaller",
        ),
    ],
)
def test_a_machine_that_fails_is_one_sentence(here, monkeypatch, capsys, error, says):
    def full(*arguments):
        raise error

    monkeypatch.setattr(_train, "write_json", full)
    code, _, errors = in_process(monkeypatch, capsys, "train", "small.toml")
    assert (code, errors) == (1, f"fnn: {says}\n")


def test_a_report_for_which_the_disk_has_no_room_is_one_sentence(whole, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "findings.json")

    monkeypatch.setattr(_report_again, "write_json", full)
    code, _, errors = in_process(monkeypatch, capsys, "report", whole)
    assert (code, errors) == (1, "fnn: No space left on device: findings.json\n")


def test_the_report_of_a_finished_run_is_written_again(whole, runs, monkeypatch, capsys):
    page, findings = (whole / "report.html").read_text(), (whole / "findings.json").read_bytes()
    for name in ("report.html", "findings.json", "figures/curves.png", "figures/layers.png"):
        (whole / name).write_text("")
    code, output, errors = in_process(monkeypatch, capsys, "report", whole)
    assert (code, output, errors) == (0, f"report: {whole / 'report.html'}\n", "")
    here = page.replace(f"{runs.name}/whole", f"{whole.parent.name}/whole")  # its title
    assert (whole / "report.html").read_text() == here
    assert (whole / "findings.json").read_bytes() == findings


def test_a_run_that_still_trains_is_reported_as_far_as_it_has_come(interrupted, whole, monkeypatch, capsys):
    (interrupted / "results.json").unlink()
    (first,) = lines(interrupted / "metrics.jsonl")
    with (interrupted / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"epoch": 2, "lo')  # a line that is being written
    assert in_process(monkeypatch, capsys, "report", interrupted)[0] == 0
    text = (interrupted / "report.html").read_text()
    assert "the run has not ended" in text
    assert f"{first['validation_accuracy']:.2%} validation accuracy" in text
    assert in_process(monkeypatch, capsys, "train", interrupted)[0] == 0
    assert_same_run(interrupted, whole)


def test_a_report_takes_the_epochs_since_an_earlier_stop(interrupted, monkeypatch, capsys):
    (first,) = lines(interrupted / "metrics.jsonl")
    better = {**first, "epoch": 2, "validation_accuracy": 1.0}
    with (interrupted / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(better) + "\n")
    assert in_process(monkeypatch, capsys, "report", interrupted)[0] == 0
    text = (interrupted / "report.html").read_text()
    assert "stopped by SIGTERM" in text
    assert "100.00% validation accuracy" in text


def test_what_cannot_be_reported_is_said(interrupted, whole, monkeypatch, capsys):
    (whole / "report.html").unlink()
    code, _, errors = in_process(monkeypatch, capsys, "report", whole)
    assert code == 2
    assert errors == f"fnn: {whole}: the run was cut off at its end; fnn train {whole} writes its report\n"
    (interrupted / "metrics.jsonl").write_text("")
    code, _, errors = in_process(monkeypatch, capsys, "report", interrupted)
    assert code == 2
    assert errors == f"fnn: {interrupted}: no epoch has ended yet, so there is nothing to report on\n"
