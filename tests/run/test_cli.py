"""The command `fnn` from end to end: what it writes, what it says and how it ends."""

import gzip
import json
import logging
import os
import runpy
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from run_cases import SMALL, in_process

import fnn
from fnn.run.cli import main

FNN = Path(sys.executable).with_name("fnn")
PARTS = ("validation", "test")


CACHE = tempfile.TemporaryDirectory()


def environ():
    """One device, as a user has it, and no colours; the tests' own settings and the user's cache stay out."""
    own = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "TF_CPP_MIN_LOG_LEVEL")  # JAX sets the last one
    return {**{k: v for k, v in os.environ.items() if k not in own}, "XDG_CACHE_HOME": CACHE.name}


def fnn_command(*arguments, cwd):
    return subprocess.run(
        [FNN, *map(str, arguments)],
        cwd=cwd,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def results(run):
    return json.loads((run / "results.json").read_text())


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# --- a run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a config was trained, and what was printed meanwhile."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.toml").write_text(
        SMALL.replace("learning_rate = 1e-2", "learning_rate = {cosine = {peak = 2e-2}}")
    )
    done = fnn_command("train", "small.toml", "train.epochs=4", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_writes_everything(trained):
    folder, _ = trained
    assert sorted(path.name for path in folder.iterdir()) == ["runs", "small.toml"]
    run = folder / "runs" / "small" / "1"
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "config.toml",
        "diagnostics.jsonl",
        "environment.json",
        "figures",
        "findings.json",
        "metrics.jsonl",
        "report.html",
        "results.json",
        "summary.txt",
    ]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best", "last"]
    figures = sorted((run / "figures").iterdir())
    assert [path.name for path in figures] == ["confusion.png", "curves.png", "layers.png", "mistakes.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


def test_its_files_say_what_happened(trained):
    run = trained[0] / "runs" / "small" / "1"
    lines = metrics(run)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] < lines[0]["loss"]
    found = results(run)
    assert found["epochs"] == 4
    assert found["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    best = lines[found["best_epoch"] - 1]
    assert best["validation_accuracy"] == max(line["validation_accuracy"] for line in lines)
    assert found["validation"] == {"loss": best["validation_loss"], "accuracy": best["validation_accuracy"]}
    assert found["last_validation"]["loss"] == lines[-1]["validation_loss"]
    assert "stopped" not in found
    for part in PARTS:
        assert 0.7 < found[part]["accuracy"] <= 1, "far above chance, one in ten"
        assert 0 < found[part]["loss"] < 1.2
    config = tomllib.loads((run / "config.toml").read_text())
    settings = {"epochs": 4, "batch_size": 64, "standardize": True, "lsuv": False}
    assert config["train"] == {**settings, "augment": [], "metrics": [], "freeze": []}
    environment = json.loads((run / "environment.json").read_text())
    assert environment["command"] == "fnn train small.toml train.epochs=4"
    assert environment["seconds"] > 0
    assert "1,040" in (run / "summary.txt").read_text()
    report = (run / "report.html").read_text()
    assert f"{found['test']['accuracy']:.1%}"[:2] in report


def test_its_output_is_plain_lines(trained):
    _, done = trained
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "runs/small/1: 1,210 parameters, digits (1,150 train, 287 validation, 360 test)"
    assert [line.split("  ")[0] for line in lines[1:5]] == [f"epoch {n}/4" for n in (1, 2, 3, 4)]
    assert lines[-1] == "report: runs/small/1/report.html"


@pytest.mark.cpu  # a GPU adds up in no fixed order
def test_a_run_can_be_repeated_from_its_config_and_from_what_it_wrote(trained, tmp_path):
    """The same command again, and the resolved config of the run: the same metrics, byte by byte."""
    folder, _ = trained
    done = fnn_command("train", "small.toml", "train.epochs=4", cwd=folder)
    assert done.returncode == 0, done.stderr
    first, second = folder / "runs" / "small" / "1", folder / "runs" / "small" / "2"
    assert (second / "metrics.jsonl").read_bytes() == (first / "metrics.jsonl").read_bytes()
    assert results(second) == results(first)
    assert (second / "config.toml").read_bytes() == (first / "config.toml").read_bytes()
    done = fnn_command("train", first / "config.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    third = tmp_path / "runs" / "config" / "1"
    assert (third / "metrics.jsonl").read_bytes() == (first / "metrics.jsonl").read_bytes()
    assert (third / "config.toml").read_bytes() == (first / "config.toml").read_bytes()


def row(text, part):
    """Loss and accuracy of a part in a table."""
    (line,) = [line for line in text.splitlines() if part in line and "│" in line]
    return line.strip("│").split("│")[1:]


def test_evaluate_prints_the_same(trained):
    folder, done = trained
    run = folder / "runs" / "small" / "1"
    before = tree(folder)
    again = fnn_command("evaluate", "runs/small/1", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    for part in PARTS:
        loss, accuracy = (float(cell) for cell in row(again.stdout, part))
        assert (loss, accuracy) == pytest.approx(
            tuple(results(run)[part][name] for name in ("loss", "accuracy")), abs=6e-4
        )
        assert row(again.stdout, part) == row(done.stdout, part)
    assert tree(folder) == before


def test_evaluate_takes_the_last_state_too(trained, monkeypatch, capsys):
    run = trained[0] / "runs" / "small" / "1"
    code, output, errors = in_process(monkeypatch, capsys, "evaluate", run, "--checkpoint", "last")
    assert (code, errors) == (0, "")
    loss, accuracy = (float(cell) for cell in row(output, "validation"))
    expected = results(run)["last_validation"]
    assert (loss, accuracy) == pytest.approx((expected["loss"], expected["accuracy"]), abs=6e-4)


def test_summary_prints_the_network(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained[0])
    before = tree(trained[0])
    monkeypatch.setattr(sys, "argv", ["fnn", "summary", "small.toml", "model.head.features=10"])
    with pytest.raises(SystemExit) as ended:
        main()
    output, errors = capsys.readouterr()
    assert (ended.value.code, errors) == (0, "")
    assert "head" in output
    assert "1,210" in output
    assert output.strip() == (trained[0] / "runs" / "small" / "1" / "summary.txt").read_text().strip()
    assert tree(trained[0]) == before
    assert in_process(monkeypatch, capsys, "summary", "runs/small/1") == (0, output, "")


@pytest.mark.parametrize(("arguments", "output"), [(["--version"], f"fnn {fnn.__version__}\n")])
def test_version(arguments, output, monkeypatch, capsys):
    assert in_process(monkeypatch, capsys, *arguments) == (0, output, "")


# --- runs that end early --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_saves_and_ends(number, code, tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    run = tmp_path / "runs" / "small" / "1"
    process = subprocess.Popen(
        [FNN, "train", "small.toml", "train.epochs=1000000"],
        cwd=tmp_path,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(1200):
            if process.poll() is not None or ((run / "metrics.jsonl").exists() and metrics_so_far(run) >= 3):
                break
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code
    assert errors == f"fnn: stopped by {number.name}; fnn train runs/small/1 goes on from here\n"
    lines = metrics(run)
    assert [line["epoch"] for line in lines] == [*range(1, len(lines) + 1)]
    assert len(lines) >= 3
    found = results(run)
    assert found["stopped"] == errors[len("fnn: ") : -1]
    assert found["epochs"] == len(lines)
    assert found["validation"]["accuracy"] == max(line["validation_accuracy"] for line in lines)
    assert "test" not in found, "the test set is for runs that are complete"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best", "last"]
    assert (run / "report.html").is_file()


def metrics_so_far(run):
    return (run / "metrics.jsonl").read_bytes().count(b"\n")


ADVICE = "try a lower learning rate, clip_by_global_norm in front of the optimizer"


def test_a_diverging_run_ends_with_advice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    code, output, errors = in_process(
        monkeypatch, capsys, "train", "small.toml", "optimizer.learning_rate=1e30"
    )
    assert code == 1
    assert errors.startswith("fnn: the loss became ")
    assert " at step 2; " in errors
    assert ADVICE in errors
    assert errors.count("\n") == 1
    assert "┃" not in output, "there is nothing to tabulate"
    run = tmp_path / "runs" / "small" / "1"
    assert metrics(run) == []
    assert results(run)["stopped"] == errors.removeprefix("fnn: ").rstrip("\n")
    assert tree(run / "checkpoints") == []
    code, _, errors = in_process(monkeypatch, capsys, "evaluate", "runs/small/1")
    assert (code, errors) == (
        2,
        "fnn: runs/small/1 has no checkpoint 'best': its run ended before it saved one; train it again\n",
    )


def test_a_run_that_diverges_later_keeps_the_epochs_before(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    schedule = "optimizer.learning_rate={piecewise = {boundaries = [40], values = [1e-2, 1e30]}}"
    code, output, errors = in_process(monkeypatch, capsys, "train", "small.toml", schedule)
    assert code == 1
    assert " at step 42; " in errors, "18 steps an epoch: the third"
    assert "no number at step 42" in " ".join(output.split())
    run = tmp_path / "runs" / "small" / "1"
    assert [line["epoch"] for line in metrics(run)] == [1, 2]
    found = results(run)
    assert found["epochs"] == 2
    assert "test" not in found
    assert "validation" in output
    assert "FAIL diverged" in output
    code, output, _ = in_process(monkeypatch, capsys, "evaluate", "runs/small/1")
    assert code == 0
    assert float(row(output, "validation")[1]) == pytest.approx(found["validation"]["accuracy"], abs=6e-4)


# --- bad input ------------------------------------------------------------------------------------------


def idx(array):
    """An IDX file of bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def save_mnist(folder, name="", content=b""):
    """The four files of a tiny MNIST, one of them replaced."""
    images, labels = np.zeros((20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10
    files = {
        f"{part}-{kind}": idx(array)
        for part in ("train", "t10k")
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels))
    }
    for file, whole in files.items():
        if file != name.removesuffix(".gz"):
            (folder / file).write_bytes(whole)
    if name:
        (folder / name).write_bytes(content)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a config, and with data of all kinds that are not as they should be."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    (tmp_path / "directory").mkdir()
    (tmp_path / "broken.toml").write_text("[data\nuse = 3")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.toml").write_text("")
    return tmp_path


CONFIGS = [
    (["missing.toml"], "there is no config file missing.toml"),
    (["directory"], "directory is not the directory of a run: it has no metrics.jsonl"),
    (
        ["broken.toml"],
        "broken.toml: this is not TOML: Expected ']' at the end of a table declaration (at line 1, c",
    ),
    (["bytes.toml"], "bytes.toml: this is not TOML: 'utf-8' codec can't decode byte 0xff in position 0"),
    (["empty.toml"], "empty.toml: data: the table [data] is missing"),
    (["small.toml", "train.epochs"], "small.toml: train.epochs: an override is key=value, such as "),
    (["small.toml", "trian.epochs=3"], "small.toml: trian: there is no such key here; did you mean 'train'?"),
    (
        ["small.toml", "train.epoch=3"],
        "small.toml: train.epoch: [train] has no such setting; did you mean 'epochs'?",
    ),
    (
        ["small.toml", "model.head=lineer"],
        "small.toml: model.lineer_1: there is no layer 'lineer'; did you mean 'lin",
    ),
    (
        ["small.toml", "data=digit"],
        "small.toml: data.use: there is no data set 'digit'; did you mean 'digits'?",
    ),
    (
        ["small.toml", "optimizer=adm"],
        "small.toml: optimizer.use: there is no optimizer 'adm'; did you mean 'adam'?",
    ),
    (["small.toml", "train.epochs=three"], "small.toml: train.epochs: expected an integer, not 'three'"),
    (["small.toml", "train.epochs=0"], "small.toml: train: epochs must be at least 1, not 0"),
    (
        ["small.toml", "optimizer.learning_rate=-1"],
        "small.toml: optimizer: learning_rate must be at least 0, not -1.0",
    ),
    (
        ["small.toml", "model.relu_1={dropout = {rate = 1.5}}"],
        "small.toml: model.dropout_1: dropout rate must be at least 0 and below 1, not 1.5",
    ),
    (
        ["small.toml", "model.flatten_1=relu"],
        "small.toml: model.linear_1: a linear layer takes (batch, inputs), got an input of shape (64, 8, 8, 1); put",
    ),
    (
        ["small.toml", "model.flatten_1={conv = {features = 2, kernel_size = 9, padding = 'VALID'}}"],
        "small.toml: model.conv_1: a kernel that covers 9×9 pixels does not fit its padded input of 8×8",
    ),
    (
        ["small.toml", "model.head.features=7"],
        "small.toml: model: the data has 10 classes, so the network must end in (batch, 10) outputs, not (batch, 7)",
    ),
    (
        ["small.toml", "model.linear_1.kernel_init={kaiming = {scale = -1}}"],
        "small.toml: model.linear_1.kernel_init: scale must be at least 0, not -1.0",
    ),
    (
        ["small.toml", "model.linear_1.features=1000000000000"],
        "small.toml: in the layer head, a number or the size of an input is beyond 32 bits; take a smaller one",
    ),
    (
        ["small.toml", "model.flatten_1={conv = {features = 2, kernel_size = 3000000000}}"],
        "small.toml: in the layer conv_1, a number or the size of an input is beyond 32 bits; take a smaller one",
    ),
    (
        [
            "small.toml",
            "optimizer.learning_rate={step_decay = {initial = 0.1, factor = 0.1, every = 1000000000000}}",
        ],
        "small.toml: a number or the size of an input is beyond 32 bits; take a smaller one",
    ),
    (["small.toml", "optimizer=chain"], "small.toml: optimizer: chain needs at least one optimizer"),
    (
        ["small.toml", "train.patience=0"],
        "small.toml: train: patience must be at least 1, not 0",
    ),
    (
        ["small.toml", "train.batch_size=2000"],
        "small.toml: train: batch_size 2000 exceeds the 1150 training examples",
    ),
    (
        ["small.toml", "split.validation=1437"],
        "small.toml: split: validation=1437.0 leaves none of the 1437 examples",
    ),
    (
        ["small.toml", "split.validation=-1"],
        "small.toml: split: validation must be a count or a fraction above 0",
    ),
    (
        ["small.toml", "loss=mean_squared_error"],
        "small.toml: loss: predictions and targets must have the same shape",
    ),
    (
        ["small.toml", "loss.penalties.0.pattern=conv*"],
        "small.toml: loss.penalties.0: the pattern 'conv*' matches no parameter; the parameters are head/bias, ",
    ),
    (
        ["small.toml", "run.directory=directory"],
        "run.directory: directory exists; name another one, or remove it",
    ),
    (
        ["small.toml", "run.directory=small.toml"],
        "run.directory: small.toml exists; name another one, or remove it",
    ),
    (
        ["small.toml", "run.directory=small.toml/x"],
        "run.directory: cannot make the directory small.toml/x: Not a dir",
    ),
    (
        ["small.toml", "run.directory=/proc/x/y"],
        "run.directory: cannot make the directory /proc/x/y: No such file or",
    ),
    (["small.toml", "run.directory=" + "x" * 300], "run.directory: cannot make the directory xxxxx"),
    (
        ["small.toml", "data={use = 'npz', path = 'no.npz'}"],
        "small.toml: data: there is no file no.npz; give the path",
    ),
    (
        ["small.toml", "data={use = 'npz', path = 'small.toml'}"],
        "small.toml: data: small.toml is not a whole .npz file (",
    ),
    (
        ["small.toml", "data={use = 'image_folder', path = 'no'}"],
        "small.toml: data: there is no folder no; give the",
    ),
]


def refuses(monkeypatch, capsys, folder, arguments, message):
    """Bad input ends in one sentence and exit code 2, and leaves nothing behind."""
    before = tree(folder)
    code, output, errors = in_process(monkeypatch, capsys, *arguments)
    errors, message = (text.replace(f"{folder}/", "") for text in (errors, message))
    assert errors.startswith(f"fnn: {message}")
    assert errors.count("\n") == 1
    assert errors.endswith("\n")
    assert code == 2
    assert output == ""
    assert tree(folder) == before


@pytest.mark.parametrize(("arguments", "message"), CONFIGS, ids=[" ".join(a)[:60] for a, _ in CONFIGS])
def test_a_config_that_cannot_be_used(folder, monkeypatch, capsys, arguments, message):
    refuses(monkeypatch, capsys, folder, ["train", *arguments], message)


def test_summary_refuses_the_same(folder, monkeypatch, capsys):
    arguments = ["summary", "small.toml", "model.head.features=7"]
    refuses(monkeypatch, capsys, folder, arguments, "small.toml: model: the data has 10 classes")


def arrays(folder, **changes):
    x, y = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 10
    np.savez(folder / "data.npz", **{"x": x, "y": y, "classes": np.array(list("0123456789"))} | changes)


def images(folder, sizes, damage=b""):
    from PIL import Image

    for name, size in zip("ab", sizes, strict=True):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", size).save(folder / "images" / name / f"{number}.png")
    if damage:
        (folder / "images" / "b" / "4.png").write_bytes(damage)


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


def corrupt_member(folder):
    """The right directory of a zip file around an array whose bytes are not those it was saved with."""
    arrays(folder)
    path = folder / "data.npz"
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("x.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 200] ^= 0xFF
    path.write_bytes(content)


NPZ = ["data={use = 'npz', path = 'data.npz'}"]
FOLDER = ["data={use = 'image_folder', path = 'images'}"]
MNIST = ["data=mnist", "split.validation=10"]
DATA = {
    "labels outside the classes": (
        lambda f: arrays(f, y=np.arange(40) % 10 + 1),
        NPZ,
        "label 10 at example 9 in ",
    ),
    "negative labels": (lambda f: arrays(f, y=-np.ones(40, int)), NPZ, "y in data.npz holds labels from -1 to -1"),
    "other lengths": (lambda f: arrays(f, y=np.arange(39) % 10), NPZ, "the training part has 40 examples in x but y"),
    "not finite": (lambda f: arrays(f, x=np.full((40, 8), np.nan)), NPZ, "x of the training part holds nan at example 0"),
    "no y": (lambda f: np.savez(f / "data.npz", x=np.zeros((4, 2))), NPZ, "data.npz has no array 'y', only x; expected"),
    "truncated npz": (lambda f: (arrays(f), cut(f / "data.npz", 300)), NPZ, "data.npz is not a whole .npz file ("),
    "corrupt npz": (corrupt_member, NPZ, "data.npz is not a whole .npz file ("),
    "empty npz": (lambda f: (f / "data.npz").write_bytes(b""), NPZ, "data.npz is not a whole .npz file ("),
    "pickled npz": (
        lambda f: np.savez(f / "data.npz", x=np.array([{}]), y=np.zeros(1)),
        NPZ,
        "data.npz holds an array of Python objects, which could run code when read; ",
    ),
    "truncated idx": (
        lambda f: save_mnist(f, "train-images-idx3-ubyte", idx(np.zeros((20, 28, 28), np.uint8))[:5000]),
        MNIST,
        "{folder}/train-images-idx3-ubyte holds 5000 bytes but its header of shape (20, 28, 28) promises 15696",
    ),
    "no idx": (
        lambda f: save_mnist(f, "t10k-labels-idx1-ubyte", b"<html>"),
        MNIST,
        "{folder}/t10k-labels-idx1-ubyte begins with the bytes 3c68746d; expected 00000801",
    ),
    "header of an idx": (
        lambda f: save_mnist(f, "t10k-images-idx3-ubyte", bytes([0, 0, 8, 3, 0])),
        MNIST,
        "{folder}/t10k-images-idx3-ubyte ends within its header, after 5 bytes",
    ),
    "truncated gzip": (
        lambda f: save_mnist(f, "train-labels-idx1-ubyte.gz", gzip.compress(idx(np.zeros(20, np.uint8)))[:-10]),
        MNIST,
        "{folder}/train-labels-idx1-ubyte.gz is not a whole gzip file (",
    ),
    "no gzip": (
        lambda f: save_mnist(f, "train-labels-idx1-ubyte.gz", b"hello"),
        MNIST,
        "{folder}/train-labels-idx1-ubyte.gz is not a whole gzip file (Not a gzipped file",
    ),
    "labels of mnist": (
        lambda f: save_mnist(f, "train-labels-idx1-ubyte", idx(np.full(20, 12, np.uint8))),
        MNIST,
        "label 12 at example 0 in the training part of mnist lies outside the 10 classes",
    ),
    "images of two sizes": (
        lambda f: images(f, [(8, 8), (9, 8)]),
        FOLDER,
        "images/a/0.png has 8×8 pixels but images/b/0.png has 9×8; resize all images to one size",
    ),
    "no image": (
        lambda f: images(f, [(8, 8), (8, 8)], b"hello"),
        FOLDER,
        "images/b/4.png is not an image that Pillow can read (",
    ),
    "no classes": (lambda f: (f / "images").mkdir(), FOLDER, "images holds no folders; expected a folder of images"),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_used(folder, monkeypatch, capsys, case):
    save, overrides, message = DATA[case]
    save(folder)
    monkeypatch.setenv("FNN_DATA", str(folder))
    message = f"small.toml: data: {message.format(folder=folder)}"
    refuses(monkeypatch, capsys, folder, ["train", "small.toml", *overrides], message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere is not the directory of a run: it has no config.toml"),
        ("directory", "directory is not the directory of a run: it has no config.toml"),
        ("small.toml", "small.toml is not the directory of a run: it has no config.toml"),
        ("search", "search is not the directory of a run: it has no metrics.jsonl"),
    ],
)
def test_evaluate_needs_a_run(folder, monkeypatch, capsys, name, message):
    (folder / "search").mkdir()
    (folder / "search" / "config.toml").write_text(SMALL)
    refuses(monkeypatch, capsys, folder, ["evaluate", name], message)


@pytest.mark.parametrize("arguments", [["train"], ["train", "train.epochs=3"], ["evaluate"], ["check"]])
def test_the_directory_of_a_search_says_where_its_best_run_is(folder, monkeypatch, capsys, arguments):
    (folder / "directory" / "config.toml").write_text(SMALL)
    (folder / "directory" / "trials.jsonl").touch()
    command, *overrides = arguments
    message = (
        "directory is the directory of a search, not of a run: its best run is directory/best, once the "
        "search has ended; fnn search directory goes on with it, or prints what it found"
    )
    refuses(monkeypatch, capsys, folder, [command, "directory", *overrides], message)


def test_evaluate_says_which_config_of_a_run_is_wrong(folder, monkeypatch, capsys):
    (folder / "directory" / "config.toml").write_text(SMALL.replace("digits", "digit"))
    (folder / "directory" / "metrics.jsonl").touch()
    message = "directory/config.toml: data.use: there is no data set 'digit'; did you mean 'digits'?"
    refuses(monkeypatch, capsys, folder, ["evaluate", "directory"], message)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "Missing argument 'CONFIG|RUN'"),
        (["tarin", "small.toml"], "No such command 'tarin'"),
        (["train", "small.toml", "--epochs", "3"], "No such option: --epochs"),
        (["evaluate", "directory", "--checkpoint", "first"], "'first' is not one of"),
    ],
)
def test_commands_that_do_not_exist(folder, monkeypatch, capsys, arguments, words):
    code, _, errors = in_process(monkeypatch, capsys, *arguments)
    assert code == 2
    assert words in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.toml"], "there is no config file missing.toml"),
        (
            ["train", "small.toml", "model.flatten_1=relu"],
            "small.toml: model.linear_1: a linear layer takes (batch",
        ),
    ],
)
def test_bad_input_as_a_user_sees_it(folder, arguments, message):
    before = tree(folder)
    done = fnn_command(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"fnn: {message}")
    assert done.stderr.count("\n") == 1
    assert tree(folder) == before


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fnn", "train", "missing.toml"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("fnn", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "fnn: there is no config file missing.toml\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_output_lacks_what_its_encoding_does(folder, encoding):
    """As →, α and the lines of tables."""
    for arguments in (
        ["train", "small.toml", "optimizer.learning_rate=30", "train.epochs=1"],
        ["train", "small.toml", "optimizer=日本"],
        ["list"],
    ):
        done = subprocess.run(
            [FNN, *arguments],
            env={**environ(), "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert done.stdout + done.stderr


@pytest.mark.parametrize(("given", "used"), [(None, "3"), ("1", "3"), ("0", "0"), ("2", "2")])
def test_xla_logs_nothing_that_the_user_does_not_ask_for(given, used, monkeypatch):
    """JAX sets 1 in the environment, which a command that is called from a notebook inherits."""
    name = "TF_CPP_MIN_LOG_LEVEL"
    monkeypatch.delenv(name, raising=False) if given is None else monkeypatch.setenv(name, given)
    monkeypatch.setattr(sys, "argv", ["fnn", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ[name] == used


def test_a_defect_shows_its_traceback(folder, monkeypatch):
    """Only what says of itself that it is bad input becomes a sentence."""
    monkeypatch.setattr("fnn.run._read.check", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["fnn", "train", "small.toml"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_nothing_is_said_beside_a_sentence(folder, monkeypatch, capsys):
    """As where orbax goes on with a checkpoint that is damaged, or for which the disk has no room."""

    class Lost:
        def __del__(self):
            raise RuntimeError("Event loop is closed")  # which nobody can catch

    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    assert in_process(monkeypatch, capsys, "train", "missing.toml")[0] == 2
    Lost()
    assert not said
    assert not logging.getLogger("asyncio").isEnabledFor(logging.ERROR)


def test_ctrl_c_ends_a_command_though_python_is_where_exceptions_are_lost():
    """JAX's callback of the garbage collector swallows what is raised in it."""
    code = """
import signal
from fnn.run import _commands, cli
def app():
    print("begun")
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        pass
    print("went on")
_commands.app = app
cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, "begun\n")
