"""What comes out of a finished run: predictions, parameters for other programs, the run itself in Python."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from run_cases import SMALL, in_process
from safetensors.numpy import load_file

import fnn
from fnn.run._train import train_path

REGRESSION = """
[data]
use = "npz"
path = "line.npz"

[model]
layers = [{linear = {features = 1}}]

[loss]
use = "mean_squared_error"

[optimizer]
use = "sgd"
learning_rate = 0.1

[train]
epochs = 2
batch_size = 10
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with the runs of a small network on digits and of a line through points."""
    here = tmp_path_factory.mktemp("trained")
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    np.savez(here / "line.npz", x=x, y=x.sum(1))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(here)
        for name, config in (("digits", SMALL), ("line", REGRESSION)):
            (here / f"{name}.toml").write_text(config)
            assert train_path(f"{name}.toml", (f"run.directory={name}",), Console(quiet=True)) == 0
    return here


@pytest.fixture
def command(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    return lambda *arguments: in_process(monkeypatch, capsys, *arguments)


def rows(text):
    return [*csv.reader(io.StringIO(text))]


def by_numpy(file, x):
    """The probabilities that the exported numbers give."""
    arrays = load_file(file)
    x = (x.reshape(len(x), -1) / 255 - arrays["moments/mean"]) / arrays["moments/std"]
    hidden = np.maximum(x @ arrays["linear_1/kernel"] + arrays["linear_1/bias"], 0)
    scores = np.exp(hidden @ arrays["head/kernel"] + arrays["head/bias"])
    return scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_predictions_are_those_of_the_exported_numbers(command, trained, checkpoint):
    x = fnn.digits().test.x[:20]
    np.savez(trained / "new.npz", x=x)
    code, said, _ = command("export", "digits", "w.safetensors", "--checkpoint", checkpoint)
    assert (code, said) == (0, "w.safetensors: 6 arrays, 1,212 numbers\n")
    code, printed, _ = command("predict", "digits", "new.npz", "--checkpoint", checkpoint)
    assert code == 0
    heading, *lines = rows(printed)
    assert heading == ["input", "class", *(f"probability {digit}" for digit in range(10))]
    expected = by_numpy(trained / "w.safetensors", x)
    np.testing.assert_allclose([[float(p) for p in line[2:]] for line in lines], expected, atol=1e-5)
    assert [line[:2] for line in lines] == [[str(k), str(row.argmax())] for k, row in enumerate(expected)]


def test_images_are_predicted_like_arrays_and_the_table_can_go_to_a_file(command, trained):
    x = fnn.digits().test.x[:3]
    for k, image in enumerate(x):
        Image.fromarray(image[..., 0]).save(trained / f"{k}.png")
    np.savez(trained / "new.npz", x=x)
    _, of_arrays, _ = command("predict", "digits", "new.npz")
    code, printed, _ = command("predict", "digits", "0.png", "1.png", "2.png", "--output", "table.csv")
    assert (code, printed) == (0, "")
    heading, *lines = rows((trained / "table.csv").read_text())
    assert [heading, *(line[1:] for line in lines)] == [
        rows(of_arrays)[0],
        *(r[1:] for r in rows(of_arrays)[1:]),
    ]
    assert [line[0] for line in lines] == ["0.png", "1.png", "2.png"]


def test_a_regression_has_outputs_and_no_classes(command, trained):
    np.savez(trained / "new.npz", x=np.ones((2, 2)))
    _, printed, _ = command("predict", "line", "new.npz")
    heading, first, second = rows(printed)
    assert (heading, first[0], second[0]) == (["input", "output 0"], "0", "1")
    assert first[1] == second[1]
    assert command("export", "line", "line.safetensors")[0] == 0
    arrays = load_file(trained / "line.safetensors")
    standard = (1 - arrays["moments/mean"]) / arrays["moments/std"]
    by_hand = standard @ arrays["linear_1/kernel"][:, 0] + arrays["linear_1/bias"][0]
    np.testing.assert_allclose(float(first[1]), by_hand, rtol=1e-5)


def test_scores_of_another_loss_are_no_probabilities(command, trained):
    (trained / "hinge.toml").write_text(
        SMALL.replace("softmax_cross_entropy", "multiclass_hinge").replace("epochs = 3", "epochs = 1")
    )
    assert command("train", "hinge.toml", "run.directory=hinge")[0] == 0
    np.savez(trained / "new.npz", x=fnn.digits().test.x[:5])
    heading, *lines = rows(command("predict", "hinge", "new.npz")[1])
    assert heading[2] == "output 0"
    assert [line[1] for line in lines] == [str(np.argmax([float(s) for s in line[2:]])) for line in lines]


def test_a_run_is_read_back_from_python(trained, monkeypatch):
    monkeypatch.chdir(trained)
    run = fnn.run.load("digits")
    scores = fnn.evaluate(run.make, run.hyperparameters, run.state, run.data.test)
    reported = json.loads((trained / "digits" / "results.json").read_text())["test"]
    assert {name: float(value) for name, value in scores.items()} == pytest.approx(reported, rel=1e-6)
    last = fnn.run.load("digits", "last").state
    assert int(last.step) == 3 * -(-len(run.data.train.x) // 64)
    with pytest.raises(ValueError, match='checkpoint must be "best" or "last", not 3'):
        fnn.run.load("digits", 3)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = fnn.run.other


ARRAYS = {
    "small.npz": {"x": np.zeros((2, 4, 4, 1), np.uint8)},
    "float.npz": {"x": np.zeros((2, 8, 8, 1), np.float32)},
    "other.npz": {"images": np.zeros((2, 8, 8, 1), np.uint8)},
    "empty.npz": {"x": np.zeros((0, 8, 8, 1), np.uint8)},
    "good.npz": {"x": np.zeros((2, 8, 8, 1), np.uint8)},
}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["digits", "small.npz"],
            "the inputs are uint8 of shape (4, 4, 1) each, those that the run learned uint8 of (8, 8, 1); "
            "bring them to that form",
        ),
        (
            ["digits", "float.npz"],
            "the inputs are float32 of shape (8, 8, 1) each, those that the run learned uint8 of (8, 8, 1); "
            "bring them to that form",
        ),
        (["digits", "other.npz"], "other.npz has no array 'x', only images"),
        (
            ["digits", "empty.npz"],
            "x in empty.npz has shape (0, 8, 8, 1); expected at least one input, along the first axis",
        ),
        (
            ["digits", "missing.npz"],
            "there is no file missing.npz; give the path of a file written by numpy.savez",
        ),
        (
            ["digits", "good.npz", "small.npz"],
            "good.npz is predicted alone; give one .npz file, or images only",
        ),
        (
            ["digits", "digits.toml", "good.npz"],
            "good.npz is predicted alone; give one .npz file, or images only",
        ),
        (["digits", "x.npy"], "x.npy is not a whole .npz file (TypeError); write it with numpy.savez"),
        (["digits", "missing.png"], "there is no file missing.png; give the path of an image"),
        (
            ["digits", "digits.toml"],
            "digits.toml is not an image that Pillow can read (UnidentifiedImageError); remove or replace it",
        ),
        (["nothing", "good.npz"], "nothing is not the directory of a run: it has no config.toml"),
        (
            ["digits", "good.npz", "--output", "no/table.csv"],
            "cannot write no/table.csv: No such file or directory; name another file",
        ),
    ],
)
def test_what_cannot_be_predicted_is_said_in_one_sentence(command, trained, arguments, problem):
    for name, arrays in ARRAYS.items():
        np.savez(trained / name, **arrays)
    np.save(trained / "x.npy", ARRAYS["good.npz"]["x"])
    code, printed, errors = command("predict", *arguments)
    assert (code, printed, errors) == (2, "", f"fnn: {problem}\n")


def test_an_export_that_cannot_be_written_is_one_sentence(command):
    code, _, errors = command("export", "digits", "no/w.safetensors")
    assert (code, errors) == (
        2,
        "fnn: cannot write no/w.safetensors: No such file or directory; name another file\n",
    )


def test_an_export_is_named_as_what_it_is(command):
    code, _, errors = command("export", "digits", "w.npz")
    assert (code, errors) == (
        2,
        "fnn: w.npz: what is written are safetensors; name the file so, such as w.npz.safetensors\n",
    )
