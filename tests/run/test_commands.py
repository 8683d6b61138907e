"""The commands as their users meet them: files, exit codes, one sentence for bad input."""

import gzip
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fnn.run import cli

FNN = Path(sys.executable).with_name("fnn")
SMALL = """
seed = 1
[data]
use = "digits"
[split]
validation = 0.2
[model]
layers = ["flatten", {dropout = {rate = 0.1}}, {linear = {features = 10}}]
[loss]
use = "softmax_cross_entropy"
penalties = [{l2 = {strength = 1e-4}}]
[optimizer]
use = "adam"
learning_rate = 0.01
[train]
epochs = 3
batch_size = 50
"""


def run(directory, *arguments):
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [FNN, *arguments], cwd=directory, capture_output=True, text=True, env=environment, timeout=300
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained")
    (directory / "small.toml").write_text(SMALL)
    return directory, run(directory, "train", "small.toml")


def metrics(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_train_leaves_everything(trained):
    directory, done = trained
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    found = directory / "runs" / "small" / "1"
    expected = ["checkpoints/best", "checkpoints/last", "config.toml", "environment.json", "metrics.jsonl"]
    expected += ["report.html", "results.json", "summary.txt"]
    expected += [f"figures/{name}.png" for name in ("curves", "confusion", "mistakes")]
    assert [name for name in expected if not (found / name).exists()] == []
    assert [line["epoch"] for line in metrics(found)] == [1, 2, 3]
    results = json.loads((found / "results.json").read_text())
    assert results["test"]["accuracy"] > 0.7
    assert f"{results['test']['accuracy']:.3f}" in done.stdout
    assert json.loads((found / "environment.json").read_text())["packages"]["jax"]


def test_the_same_config_gives_the_same_metrics_bit_for_bit(trained):
    directory, _ = trained
    first = directory / "runs" / "small" / "1"
    again = run(directory, "train", str(first / "config.toml"), 'run.directory="again"')
    assert again.returncode == 0, again.stderr
    for name in ("metrics.jsonl", "results.json"):
        assert (directory / "again" / name).read_bytes() == (first / name).read_bytes()


def test_evaluate_finds_the_accuracies_of_the_run(trained):
    directory, _ = trained
    done = run(directory, "evaluate", "runs/small/1")
    assert done.returncode == 0, done.stderr
    results = json.loads((directory / "runs/small/1/results.json").read_text())
    for part in ("validation", "test"):
        assert re.search(rf"{part}.*{results[part]['accuracy']:.3f}", done.stdout)


def test_a_run_that_diverges_keeps_what_came_before(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    rate = "optimizer.learning_rate={piecewise={boundaries=[30],values=[0.01,1e38]}}"
    done = run(tmp_path, "train", "small.toml", rate)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(r"the loss became (nan|inf) at step \d+; try a lower learning rate", done.stderr)
    found = tmp_path / "runs" / "small" / "1"
    assert [line["epoch"] for line in metrics(found)] == [1]
    results = json.loads((found / "results.json").read_text())
    assert "the loss became" in results["stopped"]
    assert "test" not in results
    assert (found / "checkpoints" / "best").exists()


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(tmp_path, number, exit_code):
    (tmp_path / "small.toml").write_text(SMALL)
    process = subprocess.Popen(
        [FNN, "train", "small.toml", "train.epochs=100000"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    found = tmp_path / "runs" / "small" / "1"
    until = time.monotonic() + 120
    while time.monotonic() < until and not ((found / "metrics.jsonl").exists() and metrics(found)):
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == exit_code, errors
    assert "stopped by SIG" in errors
    assert "stopped by SIG" in json.loads((found / "results.json").read_text())["stopped"]
    assert (found / "checkpoints" / "last").exists()


# --- bad input, in this process: one sentence, exit code 2, nothing left behind ---------------------------


@pytest.fixture
def fnn_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "small.toml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "data"))

    def call(*arguments):
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["fnn", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        errors = capsys.readouterr().err
        assert stopped.value.code == 2, errors
        assert errors.startswith("fnn: ")
        assert errors.count("\n") == 1, errors
        assert sorted(tmp_path.rglob("*")) == before
        return errors

    return call


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.epoch=3"], "small.toml: train.epoch: fit has no such setting; did you mean 'epochs'"),
        (["optimizer=adamm"], "optimizer.use: there is no optimizer 'adamm'; did you mean 'adam'"),
        (["optimizer.learning_rate=-1"], "optimizer: learning_rate must be at least 0, not -1.0"),
        (["model.dropout_1.rate=1.5"], "model.dropout_1: dropout rate must be at least 0 and below 1"),
        (["loss.penalties.0.strength=-1"], "loss.penalties.0: strength must be at least 0, not -1"),
        (["loss.label_smoothing=2"], "loss: label_smoothing must be at least 0"),
        (['loss.penalties=[{l2={strength=1,pattern="*weight"}}]'], "'*weight' matches no parameter"),
        (["loss=mean_squared_error"], "loss: "),
        (["model.layers=[{linear={features=10}}]"], "model.linear_1: a linear layer takes (batch, inputs)"),
        (
            ['model.layers=[{conv={features=2,kernel_size=9,padding="VALID"}}]'],
            "model.conv_1: a kernel that covers 9×9 pixels does not fit its padded input of 8×8",
        ),
        (["model.linear_1.features=3"], "the data has 10 classes, so the network must end in (batch, 10)"),
        (["train.epochs=0"], "train: epochs must be at least 1, not 0"),
        (["train.batch_size=5000"], "train: batch_size 5000 exceeds the 1150 training examples"),
        (["split.validation=2000"], "split: validation=2000"),
        (["data.use=cifar10", "model.linear_1.features=10"], "data: "),
        (['run.directory="small.toml"'], "run.directory: small.toml exists; name another one"),
        (['run.directory="small.toml/x"'], "run.directory: cannot make the directory small.toml/x"),
        (['run.directory="/proc/x/y"'], "run.directory: cannot make the directory /proc/x/y"),
        (["nonsense"], "an override is key=value"),
    ],
)
def test_bad_settings(fnn_command, overrides, message, monkeypatch):
    if "data.use=cifar10" in overrides:
        import pooch

        def refuse(*_, **__):
            raise OSError("no network")

        monkeypatch.setattr(pooch, "retrieve", refuse)
    assert message in fnn_command("train", "small.toml", *overrides)


def test_bad_files(fnn_command, tmp_path):
    assert "there is no config file none.toml" in fnn_command("train", "none.toml")
    (tmp_path / "folder.toml").mkdir()
    assert "cannot read the config file folder.toml" in fnn_command("train", "folder.toml")
    (tmp_path / "bad.toml").write_text("seed = = 3")
    assert "bad.toml: this is not TOML" in fnn_command("train", "bad.toml")
    assert "folder.toml is not the directory of a run" in fnn_command("evaluate", "folder.toml")


def test_bad_data(fnn_command, tmp_path):
    x = np.zeros((20, 8, 8, 1), np.uint8)
    y = np.arange(20) % 2

    def train(*overrides):
        return fnn_command("train", "small.toml", "model.linear_1.features=2", *overrides)

    mine = 'data={use="npz",path="mine.npz"}'
    np.savez(tmp_path / "mine.npz", x=x, y=y + 5, classes=np.array(["a", "b"]))
    assert "data: label 5 at example" in train(mine)
    whole = (tmp_path / "mine.npz").read_bytes()
    (tmp_path / "mine.npz").write_bytes(whole[: len(whole) // 2])
    assert "data: " in train(mine)
    (tmp_path / "mine.npz").write_bytes(b"nonsense")
    assert "data: " in train(mine)

    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    images = struct.pack(">IIII", 2051, 3, 28, 28) + bytes(3 * 784)
    for part in ("train", "t10k"):
        labels = struct.pack(">II", 2049, 3) + bytes(3)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images[:-1]))
    assert "data: " in train("data.use=mnist")
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images)[:-9])
    assert "data: " in train("data.use=mnist")

    for name, size in (("a", 8), ("b", 9)):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (size, size)).save(tmp_path / "images" / name / "0.png")
    assert "9" in train('data={use="image_folder",path="images"}')


def test_damaged_checkpoint(fnn_command, trained, tmp_path):
    directory, _ = trained
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.toml").write_text((directory / "runs/small/1/config.toml").read_text())
    assert "broken has no checkpoint 'best'" in fnn_command("evaluate", "broken")
    (broken / "checkpoints" / "best").mkdir(parents=True)
    assert "cannot be read" in fnn_command("evaluate", "broken")


def test_summary(fnn_command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fnn", "summary", "small.toml"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code in (0, None)
    assert re.search(r"linear_1\s+linear\s+1×10\s+650\s+2,600", capsys.readouterr().out)
