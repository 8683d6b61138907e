"""`fnn check`: configs, runs and curves of other frameworks; what `fnn train` records for it."""

import json
import math
import re
import shutil
import sys

import numpy as np
import pytest
from run_cases import SMALL
from run_cases import in_process as run

import fnn
from fnn.run import _diagnose
from fnn.run._check import check_config
from fnn.run._prepare import prepare
from fnn.run._read import read
from fnn.run.cli import main

EPOCHS = "epoch,train_loss,val_loss,acc,val_acc\n" + "".join(
    f"{e},{2.3 * 0.7**e:.4f},{2.3 * 0.75**e + 0.1:.4f},{1 - 0.7**e:.3f},{1 - 0.75**e:.3f}\n"
    for e in range(1, 16)
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("check") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def trained(config):
    directory = config.parent / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fnn", "train", str(config), f'run.directory="{directory}"'])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return directory


def test_a_sound_config_passes(config, monkeypatch, capsys):
    code, output, _ = run(monkeypatch, capsys, "check", config, "--json")
    found = json.loads(output)
    assert code == 0
    assert not [f for f in found["findings"] if f["verdict"] == "FAIL"]
    assert set(found) == {"findings", "rates", "losses", "suggested", "stable", "layers"}
    assert set(found["findings"][0]) == {"id", "verdict", "value", "threshold", "why", "advice", "source"}


def test_a_check_that_fails_ends_in_1_and_is_shown_first(config, monkeypatch, capsys):
    cosine = "optimizer.learning_rate={cosine = {peak = 30.0}}"
    code, output, _ = run(monkeypatch, capsys, "check", config, cosine)
    assert code == 1
    assert output.startswith("FAIL rate_high")
    assert "→ lower the learning rate" in output
    rows = {line.split("│")[1].strip(): line for line in output.splitlines() if line.startswith("│")}
    assert list(rows) == ["flatten_1", "linear_1", "relu_1", "head"]
    assert float(rows["linear_1"].split("│")[3]) == pytest.approx(1.3, abs=0.3)  # Kaiming: about √2
    assert 0 <= float(rows["relu_1"].split("│")[4]) < 0.5


def test_training_records_its_layers_and_is_judged(trained, monkeypatch, capsys):
    records = [json.loads(line) for line in (trained / "diagnostics.jsonl").read_text().splitlines()]
    about, watched = records[0], [r for r in records if "update_ratio" in r]
    assert about["watch_every"] == 50
    assert [r["step"] for r in watched] == [0, 18, 36]  # 1,150 examples in batches of 64
    assert [r["step"] for r in records if "loss_max" in r] == list(range(54))
    assert [r["step"] for r in records if "probe" in r] == [18, 36, 54]
    assert watched[0]["update_ratio"]["linear_1/bias"] is None
    assert (trained / "figures" / "layers.png").stat().st_size > 10_000
    assert json.loads((trained / "findings.json").read_text())
    assert "<h2>Diagnosis</h2>" in (trained / "report.html").read_text()
    code, output, _ = run(monkeypatch, capsys, "check", trained, "--json")
    ids = {f["id"] for f in json.loads(output)["findings"]}
    assert code == 0
    assert {
        "diverged",
        "barely_moves",
        "jumps",
        "update_ratio_low",
        "batch_purity",
        "dead_units",
        "overfitting",
    } <= ids


def test_a_probe_takes_examples_from_everywhere(config, monkeypatch, tmp_path):
    """Data may be sorted by class."""
    prepared, seen = prepare(read(config)), []
    monkeypatch.setattr(_diagnose, "_probe", lambda make, values, state, x: seen.append(x) or {})
    monkeypatch.setattr(_diagnose, "_PROBED", 10)
    fit = fnn.Fit(None, None, 1, ({},))
    progress = fnn.Progress(1, 1, 3, 3, {}, fit, np.ones(3))
    _diagnose.Recorder(prepared, tmp_path)(progress)
    x = prepared.data.train.x
    np.testing.assert_array_equal(seen[0], x[np.arange(10) * len(x) // 10])


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_curves_of_another_framework_are_judged(tmp_path, suffix, monkeypatch, capsys):
    path = tmp_path / f"curves.{suffix}"
    names, *rows = [line.split(",") for line in EPOCHS.splitlines()]
    lines = [json.dumps(dict(zip(names, map(float, row), strict=True))) for row in rows]
    path.write_text(EPOCHS if suffix == "csv" else "\n".join(lines))
    code, output, _ = run(monkeypatch, capsys, "check", path, "--json")
    assert code == 0
    found = {f["id"]: f for f in json.loads(output)["findings"]}
    assert {"diverged", "jumps", "overfitting", "validation_rise", "still_falling"} <= set(found)
    assert "barely_moves" not in found  # means over epochs do not show the start


@pytest.mark.parametrize(
    "names",
    [
        ("_step", "train/loss", "train/acc", "eval/loss", "eval/accuracy"),  # Weights & Biases
        ("Epoch", "Train Loss", "Train Acc", "Val Loss", "Val Acc"),
        ("epoch", " train_loss", " train_acc", " valid_loss", " valid_acc"),
        ("epoch", "train_loss_epoch", "train_acc_epoch", "val_loss", "val_acc"),  # Lightning
        ("epoch", "train_loss_step", "train_acc_epoch", "val_loss", "val_acc"),
    ],
)
def test_columns_are_known_however_their_names_are_written(tmp_path, names, monkeypatch, capsys):
    _, _, rows = EPOCHS.partition("\n")
    found = judged_file(tmp_path / "curves.csv", f"{','.join(names)}\n{rows}", monkeypatch, capsys)
    assert {"diverged", "overfitting", "validation_rise"} <= set(found)


def test_accuracies_in_percent_and_ragged_rows_are_read(tmp_path, monkeypatch, capsys):
    path = tmp_path / "curves.csv"
    rows = "".join(f"{e},{10 * e},{2 * 0.8**e},{90 + e / 10},{89 + e / 10}\n" for e in range(12))
    path.write_text("epoch,step,loss,accuracy,val_accuracy\n" + rows.replace("\n", ",7\n", 1))
    code, output, _ = run(monkeypatch, capsys, "check", path, "--json")
    found = {f["id"]: f for f in json.loads(output)["findings"]}
    assert code == 0
    assert found["overfitting"]["value"] <= 0.01
    assert "barely_moves" not in found  # one loss for each epoch is a mean over it, so the start was not seen


def test_a_diverged_curve_fails(tmp_path, monkeypatch, capsys):
    path = tmp_path / "curves.csv"
    path.write_text("step,loss\n1,2.3\n2,2.0\n3,nan\n")
    code, output, _ = run(monkeypatch, capsys, "check", path)
    assert code == 1
    assert "FAIL diverged" in output
    assert "no number at step 3" in output


BLANKS = {
    # As pandas writes NaN, from the fifth of nine epochs on; and as JSON does.
    "lost.csv": ("epoch,loss,val_loss\n" + "".join(f"{e},{3 - e / 4 if e < 5 else ''},2\n" for e in range(9)), "step 5"),
    "lost.jsonl": ("".join(f'{{"epoch": {e}, "loss": {3 - e / 4 if e < 5 else "null"}}}\n' for e in range(9)), "step 5"),
    "held.csv": ("epoch,loss,val_loss\n" + "".join(f"{e},{3 - e / 4},{2 if e < 5 else ''}\n" for e in range(9)),
                 "in validation after epoch 6"),
    # A row for training, a row for validation, and one for the test: nothing is missing.
    "turns.csv": ("step,loss,val_loss\n" + "".join(f"{e},{3 - e / 4},\n{e},,{3 - e / 4}\n" for e in range(9)) + "9,,\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BLANKS)
def test_numbers_that_are_missing_to_the_end_are_none(tmp_path, name, monkeypatch, capsys):
    text, says = BLANKS[name]
    (tmp_path / name).write_text(text)
    code, output, _ = run(monkeypatch, capsys, "check", tmp_path / name)
    assert code == (1 if says else 0)
    assert ("FAIL diverged" in output) == bool(says)
    assert says in " ".join(output.split())


def test_a_gap_of_no_number_is_no_gap_of_0(tmp_path, monkeypatch, capsys):
    path = tmp_path / "curves.csv"
    rows = "".join(f"{e},{3 - e / 4},{'nan' if e == 8 else 0.9},0.5\n" for e in range(9))
    path.write_text("epoch,loss,accuracy,val_accuracy\n" + rows)
    _, output, _ = run(monkeypatch, capsys, "check", path, "--json")
    (found,) = [f for f in json.loads(output)["findings"] if f["id"] == "overfitting"]
    assert found["verdict"] == "SKIP"


@pytest.mark.parametrize(("name", "separator"), [("curves.CSV", ","), ("curves.tsv", "\t")])
def test_tables_of_other_names_are_read(tmp_path, name, separator, monkeypatch, capsys):
    path = tmp_path / name
    path.write_text(EPOCHS.replace(",", separator))
    code, output, _ = run(monkeypatch, capsys, "check", path, "--json")
    assert code == 0
    assert "overfitting" in output


def judged_file(path, text, monkeypatch, capsys) -> dict:
    path.write_text(text)
    _, output, _ = run(monkeypatch, capsys, "check", path, "--json")
    return {f["id"]: f for f in json.loads(output)["findings"]}


def test_json_records_about_something_else_are_no_lost_losses(tmp_path, monkeypatch, capsys):
    """As Hugging Face's Trainer logs: losses, an evaluation, and a summary; steps are those of the losses."""
    losses = [{"loss": 3 - k / 10, "epoch": k / 20, "step": 50 * k} for k in range(20)]
    losses[14]["loss"] = None
    more = [{"eval_loss": 0.9, "step": 950}, {"train_runtime": 9.0, "step": 950}]
    sound = [record for record in losses if record["loss"]] + more
    lost = [*losses[:10], *more, *losses[10:14], {"loss": math.nan, "step": 700}, *losses[15:]]
    texts = ["\n".join(map(json.dumps, records)) for records in (sound, lost)]
    assert judged_file(tmp_path / "a.jsonl", texts[0], monkeypatch, capsys)["diverged"]["verdict"] == "PASS"
    found = judged_file(tmp_path / "b.jsonl", texts[1], monkeypatch, capsys)["diverged"]
    assert found["why"].endswith("no number at step 700")


def test_one_loss_for_each_epoch_is_a_mean_over_it_whatever_the_steps(tmp_path, monkeypatch, capsys):
    rows = "".join(f"{e},{430 * e},{0.46 - 0.002 * e}\n" for e in range(12))
    each = judged_file(tmp_path / "a.csv", "epoch,step,loss\n" + rows, monkeypatch, capsys)
    assert "barely_moves" not in each
    again = "".join(f"{e // 2},{430 * e},{0.46 - 0.002 * e}\n" for e in range(12))
    several = judged_file(tmp_path / "b.csv", "epoch,step,loss\n" + again, monkeypatch, capsys)
    assert several["barely_moves"]["verdict"] == "FAIL"


def test_an_accuracy_that_was_rounded_above_1_is_not_in_percent(tmp_path, monkeypatch, capsys):
    rows = "".join(f"{e},{2 * 0.8**e},{1.0000001 if e == 11 else 0.99},0.55\n" for e in range(12))
    text = "epoch,loss,accuracy,val_accuracy\n" + rows
    assert judged_file(tmp_path / "a.csv", text, monkeypatch, capsys)["overfitting"]["value"] > 0.4


def test_text_that_is_not_utf_8_is_said_to_be(tmp_path, monkeypatch, capsys):
    for name in ("curves.csv", "curves.jsonl"):
        (tmp_path / name).write_text(EPOCHS, encoding="utf-16")
        code, _, errors = run(monkeypatch, capsys, "check", tmp_path / name)
        assert code == 2
        assert "this is not text in UTF-8" in errors


def test_records_that_lost_their_first_line_are_damaged(trained, tmp_path, monkeypatch, capsys):
    run_directory = shutil.copytree(trained, tmp_path / "run")
    records = (trained / "diagnostics.jsonl").read_text().splitlines(keepends=True)
    (run_directory / "diagnostics.jsonl").write_text("".join(records[1:]))
    code, _, errors = run(monkeypatch, capsys, "check", run_directory)
    assert code == 2
    assert "the file is damaged" in errors


DAMAGE = {
    "a number for a table": ('"update_ratio": {', '"update_ratio": 3, "x": {'),
    "a word for a number": ('"loss_max": ', '"loss_max": "x", "x": '),
    "a name that is missing": ('"loss": ', '"los": '),
    "a table for numbers": ('"probe": {', '"probe": {"x": 3, '),
    "a word for what the run is": ('"same_class": ', '"same_class": "x", "x": '),
    "half a line": ('"loss_max": ', ""),
}


@pytest.mark.parametrize(("old", "new"), DAMAGE.values(), ids=DAMAGE)
def test_records_of_another_form_are_damaged(trained, tmp_path, monkeypatch, capsys, old, new):
    path = shutil.copytree(trained, tmp_path / "run") / "diagnostics.jsonl"
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    code, output, errors = run(monkeypatch, capsys, "check", path.parent)
    assert (code, output) == (2, "")
    assert re.search(
        rf"{path}, line \d+: this .*; (the file is damaged: remove it|mend the line, or remove it)", errors
    )
    assert errors.count("\n") == 1
    path.unlink()
    assert run(monkeypatch, capsys, "check", path.parent)[0] == 0


@pytest.mark.parametrize("name", ["diagnostics.jsonl", "curves.csv/", "curves.jsonl/"])
def test_a_directory_in_place_of_a_file_is_said_to_be_none(trained, tmp_path, monkeypatch, capsys, name):
    directory = shutil.copytree(trained, tmp_path / "run")
    path = directory / name.rstrip("/")
    path.unlink(missing_ok=True)
    path.mkdir()
    code, _, errors = run(monkeypatch, capsys, "check", path if name.endswith("/") else directory)
    assert code == 2
    assert errors.count("\n") == 1


@pytest.mark.parametrize("name", ["metrics.jsonl", "diagnostics.jsonl"])
@pytest.mark.parametrize("kept", [1, 10, -2])
def test_a_run_whose_last_line_is_torn_is_judged_without_it(
    trained, tmp_path, monkeypatch, capsys, name, kept
):
    path = shutil.copytree(trained, tmp_path / "run") / name
    whole, last = path.read_text().rsplit("\n", 2)[:2]
    path.write_text(f"{whole}\n{last[:kept]}")
    torn = run(monkeypatch, capsys, "check", path.parent, "--json")
    path.write_text(f"{whole}\n")
    assert torn == run(monkeypatch, capsys, "check", path.parent, "--json")
    assert torn[0] == 0
    path.write_text(f"{whole}\n{last[:kept]}\n{last}\n")
    code, _, errors = run(monkeypatch, capsys, "check", path.parent)
    assert code == 2
    assert "; mend the line, or remove it" in errors


CUT = {
    "curves.csv": ["16,0.0", "16,0.01,0.1,0.9,n", "16", "16,0.01,0.1,0.9,", "16,0.01,0.1,0.9,1e-"],
    "curves.jsonl": ["{", '{"epoch": 16, "train_loss": 0.0', '{"epoch": 16, "train_lo'],
}


@pytest.mark.parametrize(("name", "cut"), [(name, cut) for name, cuts in CUT.items() for cut in cuts])
def test_curves_whose_last_line_is_cut_are_judged_without_it(tmp_path, name, cut, monkeypatch, capsys):
    names, *rows = [line.split(",") for line in EPOCHS.splitlines()]
    lines = [json.dumps(dict(zip(names, map(float, row), strict=True))) + "\n" for row in rows]
    text = EPOCHS if name.endswith("csv") else "".join(lines)
    whole = judged_file(tmp_path / name, text, monkeypatch, capsys)
    assert judged_file(tmp_path / name, text + cut, monkeypatch, capsys) == whole


def test_a_last_line_without_an_end_counts_where_it_is_whole(tmp_path, monkeypatch, capsys):
    found = judged_file(tmp_path / "a.csv", EPOCHS + "16,9.0,0.1,0.9,0.9", monkeypatch, capsys)
    assert found["jumps"]["why"].endswith("at step 15")
    text = EPOCHS.replace("\n", ",fine\n") + "16,9.0,0.1,0.9,0.9,fine"
    assert judged_file(tmp_path / "a.csv", text, monkeypatch, capsys) == found


def test_what_passed_is_written_to_a_file_uncut(trained, monkeypatch, capsys):
    _, output, _ = run(monkeypatch, capsys, "check", trained)
    _, found, _ = run(monkeypatch, capsys, "check", trained, "--json")
    lines = output.splitlines()
    for finding in json.loads(found)["findings"]:
        if not finding["advice"]:
            (line,) = [line for line in lines if line.startswith(f"{finding['verdict']}  {finding['id']}  ")]
            assert line.endswith(finding["why"])


def test_steps_of_a_run_are_counted_from_1(trained, tmp_path, monkeypatch, capsys):
    """As `fnn train` says where a loss becomes NaN."""
    path = shutil.copytree(trained, tmp_path / "run") / "diagnostics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        if record.get("step") == 30 and "loss" in record:
            record["loss_max"] = 1e6
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    _, output, _ = run(monkeypatch, capsys, "check", path.parent, "--json")
    found = {f["id"]: f["why"] for f in json.loads(output)["findings"]}
    assert found["spikes"].endswith("at step 31")


def test_a_larger_run_tells_whether_this_one_is_too_small(tmp_path, trained, monkeypatch, capsys):
    code, output, _ = run(monkeypatch, capsys, "check", trained, "--against", trained, "--json")
    assert code == 0
    (found,) = [f for f in json.loads(output)["findings"] if f["id"] == "underfitting"]
    assert (found["verdict"], found["value"]) == ("PASS", 0.0)


@pytest.mark.parametrize(
    ("name", "text", "arguments", "says"),
    [
        ("absent.toml", None, (), "there is no config file"),
        ("absent", None, (), "there is no run, config or file of curves"),
        (
            *("a.csv", "epoch,lost,val_loss\n1,2,3\n", ()),
            "no column holds the training loss (loss or train_loss); name it so, of epoch, lost, val_loss",
        ),
        ("a.csv", "epoch,loss\n", (), "a.csv: there are no losses in it"),
        ("a.json", '{\n "log_history": []\n}\n', (), "curves are in a .csv or .tsv file, or objects such as"),
        ("a.csv", "epoch,loss\n1,2\n2,x\n3,2\n", (), "expected a number, not 'x'"),
        ("a.csv", "epoch,loss\n1,2\n2,1\n", (), "a curve of at least 3 losses is wanted, not of 2"),
        ("a.jsonl", '{"loss": 1}\n{"loss"\n', (), "line 2: this is not JSON"),
        ("a.jsonl", "3\n", (), "expected an object"),
        (
            "a.csv",
            f"epoch,loss\n1,{'x' * 140_000}\n",
            (),
            "a.csv: this is no table of numbers: field larger than",
        ),
        ("a.jsonl", "[" * 100_000 + "\n", (), "line 1: this is not JSON"),
        ("a.jsonl", f'{{"loss": {"9" * 400}}}\n', (), "a.jsonl, loss: expected a number, not 99999999999"),
        ("a.csv", EPOCHS, ("train.epochs=3",), "is a finished run, where no key can be changed"),
        ("a.toml", SMALL, ("--against", "b"), "only a finished run has curves to compare"),
        ("a.toml", SMALL.replace("features = 10", "features = 9"), (), "must end in (batch, 10)"),
        ("", None, (), "it has no metrics.jsonl"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, name, text, arguments, says, monkeypatch, capsys):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    code, output, errors = run(monkeypatch, capsys, "check", path, *arguments)
    assert (code, output) == (2, "")
    assert says in errors.replace("\n", " ")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("rate", "falls"),
    [("1e-2", False), ("{cosine = {peak = 1e-2}}", True), ("{linear_warmup = {after = 1e-2}}", False)],
)
def test_whether_the_rate_falls_is_read_off_the_config(rate, falls, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(fnn, "check", lambda *arguments, **settings: told.append(settings["anneals"]))
    (tmp_path / "small.toml").write_text(SMALL.replace("learning_rate = 1e-2", f"learning_rate = {rate}"))
    check_config(read(tmp_path / "small.toml"))
    assert told == [falls]
