"""`fnn search`: from a [search] table to the best config, and what it says of bad spaces."""

import json
import math
import shutil
import signal
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import tomli_w
from run_cases import SMALL
from run_cases import in_process as run

import fnn
from fnn.run import _search, _search_figures, _trials
from fnn.run._read import override as override_of
from fnn.run._read import read
from fnn.run._search_figures import _draw_parallel
from fnn.run._trials import as_line
from fnn.tune import Outcome, Trial
from fnn.tune._engine import outcome_of
from fnn.tune._populations import Population
from fnn.tune._space import Space

SEARCH = """
[search]
method = {successive_halving = {trials = 4, eta = 2}}
finalists = 2
fresh_seeds = 2
how = "vmap"

[search.space]
"optimizer.learning_rate" = {log_uniform = {low = 1e-3, high = 1e-1}}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL + SEARCH)
    return path


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The directory of a finished search and what it printed."""
    home = tmp_path_factory.mktemp("search")
    (home / "small.toml").write_text(SMALL + SEARCH)
    with pytest.MonkeyPatch.context() as patch:
        code = _search.search_path(
            str(home / "small.toml"), (f'run.directory="{home / "found"}"',), _search.Console(width=100)
        )
        patch.undo()
    assert code == 0
    return home / "found"


def lines_of(directory):
    return [json.loads(line) for line in (directory / "trials.jsonl").read_text().splitlines()]


def test_every_round_of_every_trial_is_written_down(searched):
    lines = lines_of(searched)
    assert [(line["trial"], line["epochs"]) for line in lines if line["stage"] == "search"][:4] == [
        (0, 1), (1, 1), (2, 1), (3, 1),
    ]  # fmt: skip
    assert sorted(line["epochs"] for line in lines if line["stage"] == "search") == [1, 1, 1, 1, 3, 3]
    final = [line for line in lines if line["stage"] == "final"]
    assert [line["epochs"] for line in final] == [3, 3]
    assert all(line["error"] > 0 for line in final)  # of two fresh seeds


def test_the_best_config_trains_as_its_trial_did(searched, monkeypatch, capsys, tmp_path):
    """With the first of the seeds that the finalists had, and the test set touched by it alone."""
    results = json.loads((searched / "results.json").read_text())
    best = tomllib.loads((searched / "best.toml").read_text())
    line = next(
        line
        for line in lines_of(searched)
        if line["stage"] == "final" and line["trial"] == results["finalists"][0]["trial"]
    )
    assert best["optimizer"]["learning_rate"] == line["hyperparameters"]["optimizer.learning_rate"]
    assert best["seed"] == 1
    assert "search" not in best
    code, _, _ = run(
        monkeypatch, capsys, "train", searched / "best.toml", f'run.directory="{tmp_path / "again"}"'
    )
    assert code == 0
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["test"] == results["test"]
    history = [json.loads(row) for row in (searched / "best" / "metrics.jsonl").read_text().splitlines()]
    other = fnn.fit  # the second fresh seed, alone
    prepared = _search.prepare(read(searched / "best.toml", ("seed=2",)))
    second = other(prepared.make, prepared.values, prepared.data, seed=2, **prepared.settings).history
    for epoch, (one, two) in enumerate(zip(history, second, strict=True)):
        mean = (one["validation_loss"] + two["validation_loss"]) / 2
        assert line["curve"]["validation_loss"][epoch] == pytest.approx(mean, rel=1e-3)


def test_a_finished_search_prints_its_table_again(searched, monkeypatch, capsys):
    before = lines_of(searched)
    code, output, _ = run(monkeypatch, capsys, "search", searched)
    assert code == 0
    assert "4 trials, 0 diverged, 8 epochs" in output
    assert "trained again with fresh seeds" in output
    assert "on the test set: loss" in output
    assert f"report: {searched / 'report.html'}" in output
    assert lines_of(searched) == before
    code, again, _ = run(
        monkeypatch, capsys, "search", searched.parent / "small.toml", f'run.directory="{searched}"'
    )
    assert (code, again) == (0, output)


def test_after_the_last_seed_comes_the_first(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_search, "draw_search", lambda *given: None)
    directory = tmp_path / "found"
    settings = ("search.method={random_search = {trials = 1}}", "train.epochs=1", "seed=4294967295")
    code, _, _ = run(monkeypatch, capsys, "search", config, f'run.directory="{directory}"', *settings)
    assert code == 0
    assert tomllib.loads((directory / "best.toml").read_text())["seed"] == 0
    curves = [line["curve"]["validation_loss"] for line in lines_of(directory) if line["stage"] == "final"]
    seeds = [read(directory / "best.toml", (f"seed={seed}",)) for seed in (0, 1)]
    histories = [
        fnn.fit(p.make, p.values, p.data, seed=p.config.seed, **p.settings).history
        for p in map(_search.prepare, seeds)
    ]
    mean = sum(history[0]["validation_loss"] for history in histories) / 2
    assert curves == [[pytest.approx(mean, rel=1e-3)]]


def test_figures_are_drawn(searched):
    names = {path.name for path in (searched / "figures").iterdir()}
    assert names == {"hyperparameters.png", "parallel.png", "curves.png", "budget.png", "rungs.png"}
    assert not (searched / "checkpoints").exists()
    assert (searched / "report.html").read_text().count("<img ") == 5


def test_the_report_does_not_repeat_the_settings_in_its_environment(searched):
    assert "scores" in json.loads((searched / "environment.json").read_text())
    page = (searched / "report.html").read_text()
    _, _, environment = page.partition("Environment")
    assert "xla_flags" in environment
    assert "model.layers" not in environment


def test_a_search_that_was_killed_before_its_report_writes_it(searched, tmp_path, monkeypatch, capsys):
    found = tmp_path / "found"
    shutil.copytree(searched, found)
    (found / "report.html").unlink()
    code, output, _ = run(monkeypatch, capsys, "search", found)
    assert code == 0
    assert "on the test set: loss" in output
    assert (found / "report.html").read_text().count("<img ") == 5
    assert lines_of(found) == lines_of(searched)
    for name in ("results.json", "best/results.json"):
        now, before = (json.loads((place / name).read_text()) for place in (found, searched))
        assert (now["test"], now["validation"]) == (before["test"], before["validation"])


def test_nothing_is_made_before_all_is_known_that_a_search_begins_with(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_search, "environment", lambda: {}["git"])
    with pytest.raises(KeyError):
        run(monkeypatch, capsys, "search", config, f'run.directory="{tmp_path / "found"}"')
    assert not (tmp_path / "found").exists()


def test_two_processes_do_not_search_in_one_directory(config, tmp_path, monkeypatch, capsys):
    directory, said = tmp_path / "found", []

    def meanwhile(self, directory):
        said.append(run(monkeypatch, capsys, "search", directory)[::2])
        return 130

    monkeypatch.setattr(_search._Search, "_train_best", meanwhile)
    assert run(monkeypatch, capsys, "search", config, f'run.directory="{directory}"')[0] == 130
    assert said == [(2, f"fnn: another process searches in {directory}; wait for it, or stop it\n")]


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(config, tmp_path, monkeypatch, capsys):
    def full(*arguments, **settings):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nMore.")

    directory = tmp_path / "found"
    with monkeypatch.context() as patched:
        patched.setattr(_trials, "_SAVE_EVERY", 0.0)
        patched.setattr("orbax.checkpoint.StandardCheckpointer.save", full)
        code, _, errors = run(monkeypatch, capsys, "search", config, f'run.directory="{directory}"')
    assert code == 1
    assert errors == (
        f"fnn: the checkpoint {directory / 'checkpoints' / 'search-1'} cannot be written: "
        f"RESOURCE_EXHAUSTED: No space left on device; fnn search {directory} goes on when it can\n"
    )


def test_another_config_does_not_go_on_with_a_search(searched, monkeypatch, capsys):
    small = searched.parent / "small.toml"
    code, _, error = run(
        monkeypatch, capsys, "search", small, "train.epochs=4", f'run.directory="{searched}"'
    )
    assert code == 2
    assert "has a search of another config" in error
    code, _, error = run(monkeypatch, capsys, "search", searched, "seed=1")
    assert code == 2
    assert "is a search that has begun, where no key can be changed" in error


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_an_interrupted_search_goes_on(config, tmp_path, monkeypatch, capsys, how):
    """The signal comes in the middle of the last rung; nothing is trained twice, and the end is the same."""
    directory, borders = tmp_path / "found", []
    border = _search.Records.border

    def interrupted(self, populations, *, must, seconds):
        borders.append([population.epoch for population in populations])
        if len(borders) == 2:
            signal.raise_signal(signal.SIGTERM)
        border(self, populations, must=must, seconds=seconds)

    monkeypatch.setattr(_search.Records, "border", interrupted)
    code, _, error = run(
        monkeypatch, capsys, "search", config, f'run.directory="{directory}"', f'search.how="{how}"'
    )
    assert code == 143
    assert f"fnn search {directory} goes on from here" in error.replace("\n", "")
    assert len(lines_of(directory)) == 4
    earlier = _search.Records(directory, "search", [], 1).seconds
    assert earlier > max(line["seconds"] for line in lines_of(directory))  # of the interrupted epoch too
    index = directory / "checkpoints" / "search.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"seconds": earlier + 1000}))
    code, _, _ = run(monkeypatch, capsys, "search", directory)
    assert code == 0
    assert (
        min(line["seconds"] for line in lines_of(directory)[4:] if line["stage"] == "search") > earlier + 1000
    )
    assert 1000 < json.loads((directory / "results.json").read_text())["seconds"] < 2000
    # Rungs of 1 and 3 epochs, then the finalists: each epoch once, the interrupted one among them.
    assert borders == [[1], [2], [3], [1], [2], [3]]
    whole = tmp_path / "whole"
    assert (
        run(monkeypatch, capsys, "search", config, f'run.directory="{whole}"', f'search.how="{how}"')[0] == 0
    )
    one, other = lines_of(directory), lines_of(whole)
    assert [(line["trial"], line["epochs"]) for line in one] == [
        (line["trial"], line["epochs"]) for line in other
    ]
    assert [line["score"] for line in one] == pytest.approx([line["score"] for line in other])


def test_a_search_that_is_interrupted_while_its_best_is_trained_goes_on(
    config, tmp_path, monkeypatch, capsys
):
    directory, train_best = tmp_path / "found", _search._Search._train_best

    def interrupted(self, directory):
        with monkeypatch.context() as patch:
            patch.setattr(_search, "train", lambda *arguments: 130)
            return train_best(self, directory)

    with monkeypatch.context() as patched:
        patched.setattr(_search._Search, "_train_best", interrupted)
        code, _, error = run(monkeypatch, capsys, "search", config, f'run.directory="{directory}"')
    assert code == 130
    assert f"fnn search {directory} goes on with the search" in error
    best = directory / "best.toml"
    assert run(monkeypatch, capsys, "train", best, f'run.directory="{directory / "best"}"')[0] == 0
    scored = (directory / "best" / "results.json").stat().st_mtime_ns
    assert run(monkeypatch, capsys, "search", directory)[0] == 0
    assert (directory / "best" / "results.json").stat().st_mtime_ns == scored, "the test set is touched once"
    assert "test" in json.loads((directory / "results.json").read_text())


@pytest.mark.parametrize("budget", ["max_epochs=8", "seconds=15"])
def test_a_search_whose_budget_is_spent_goes_on_with_its_finalists(
    config, tmp_path, monkeypatch, capsys, budget
):
    """Every epoch takes ten seconds; the signal comes among the finalists."""
    directory, border = tmp_path / "found", _search.Records.border

    def elapsed(engine):
        return engine.journal.seconds + 10 * max((o.epochs for o in engine.outcomes.values()), default=0)

    def interrupted(self, populations, *, must, seconds):
        if self._stage == "final" and not (directory / "checkpoints" / "final.json").exists():
            signal.raise_signal(signal.SIGTERM)
        border(self, populations, must=must, seconds=seconds)

    monkeypatch.setattr(_search.Engine, "elapsed", property(elapsed))
    monkeypatch.setattr(_search.Records, "border", interrupted)
    monkeypatch.setattr(_search, "draw_search", lambda *given: None)
    settings = (f"search.{budget}", "search.method={random_search = {trials = 4}}", "search.finalists=1")
    code, _, _ = run(monkeypatch, capsys, "search", config, f'run.directory="{directory}"', *settings)
    assert code == 143
    before = lines_of(directory)
    assert [line["epochs"] for line in before] == [2] * 4
    code, output, _ = run(monkeypatch, capsys, "search", directory)
    assert code == 0
    assert "4 trials, 0 diverged, 8 epochs" in output
    assert lines_of(directory)[:4] == before
    assert [line["stage"] for line in lines_of(directory)[4:]] == ["final"]


@pytest.mark.parametrize("recorded", [True, False])
def test_records_of_other_hyperparameters_are_refused(config, tmp_path, monkeypatch, capsys, recorded):
    """In a line, or in a checkpoint where the first round is not over."""
    directory, border = tmp_path / "found", _search.Records.border

    def interrupted(self, populations, *, must, seconds):
        if recorded == bool(lines_of(directory)):
            signal.raise_signal(signal.SIGTERM)
        border(self, populations, must=must, seconds=seconds)

    monkeypatch.setattr(_search.Records, "border", interrupted)
    assert run(monkeypatch, capsys, "search", config, f'run.directory="{directory}"')[0] == 143
    began = directory / "config.toml"
    began.write_text(began.read_text().replace("high = 0.1", "high = 0.2"))
    before = lines_of(directory)
    code, _, error = run(monkeypatch, capsys, "search", directory)
    assert code == 2
    assert error.startswith(f"fnn: {directory}: trial 0 was trained where optimizer.learning_rate = 0.0")
    assert error.endswith("has changed since; put it back, or start the search anew\n")
    assert error.count("\n") == 1
    assert lines_of(directory) == before


def test_scores_that_could_not_be_compared_are_refused(config, tmp_path, monkeypatch, capsys):
    """But a search goes on with other finalists, or where an older version has not written down what decides."""
    directory = tmp_path / "found"

    def interrupted(self, populations, *, must, seconds):
        raise _search.Stopped(signal.SIGTERM)

    monkeypatch.setattr(_search.Records, "border", interrupted)
    assert run(monkeypatch, capsys, "search", config, f'run.directory="{directory}"')[0] == 143
    began, about = directory / "config.toml", directory / "environment.json"
    written = began.read_text()

    def go_on(override):
        began.write_text(tomli_w.dumps(override_of(tomllib.loads(written), override)))
        return run(monkeypatch, capsys, "search", directory)

    for key, override in (
        ("train.batch_size", "train.batch_size=32"),
        ("train.epochs", "train.epochs=4"),
        ("model.layers", "model.linear_1.features=7"),
        ("optimizer.b1", "optimizer.b1=0.8"),
        ("seed", "seed=1"),
        ("search.seeds", "search.seeds=2"),
        ("search.folds", "search.folds=2"),
    ):
        code, _, error = go_on(override)
        assert code == 2
        assert error == (
            f"fnn: {began}: {key}: not as when {directory} began, so old and new scores could not be compared; "
            "put that back, or start the search anew\n"
        )
    for override in ("search.finalists=1", "search.fresh_seeds=1", "search.seconds=100", 'search.how="map"'):
        assert go_on(override)[0] == 143
    about.write_text(json.dumps({k: v for k, v in json.loads(about.read_text()).items() if k != "scores"}))
    assert go_on("optimizer.b1=0.8")[0] == 143


def test_finalists_of_other_fresh_seeds_are_refused(searched, tmp_path, monkeypatch, capsys):
    """A mean over two seeds cannot be compared with one over three."""
    found = shutil.copytree(searched, tmp_path / "found")
    (found / "results.json").unlink()  # as if it were not finished
    config, before = found / "config.toml", (found / "trials.jsonl").read_bytes()
    config.write_text(config.read_text().replace("fresh_seeds = 2", "fresh_seeds = 3"))
    code, _, error = run(monkeypatch, capsys, "search", found)
    assert code == 2
    assert error == (
        f"fnn: {found}: every trial was trained 2 times, once for each fold and seed, and is now to be trained "
        "3 times; take as many folds and seeds again, or start the search anew\n"
    )
    assert (found / "trials.jsonl").read_bytes() == before


def test_a_run_of_another_config_is_not_taken_for_the_best(searched, tmp_path, monkeypatch, capsys):
    """As of the finalist that was the best before `finalists` was changed."""
    found = shutil.copytree(searched, tmp_path / "found")
    wanted = json.loads((found / "results.json").read_text())["test"]
    (found / "results.json").unlink()
    config, results = (found / "best" / name for name in ("config.toml", "results.json"))
    was = json.loads(results.read_text())
    config.write_text(config.read_text().replace("learning_rate = ", "learning_rate = 1"))
    results.write_text(json.dumps(was | {"test": {"loss": 7.0}}))
    assert run(monkeypatch, capsys, "search", found)[0] == 0
    assert json.loads((found / "results.json").read_text())["test"] == pytest.approx(wanted)
    assert read(config).optimizer == read(searched / "best" / "config.toml").optimizer


@pytest.mark.parametrize("fragment", [b'{"trial": 1', b"\xff\x00{"])
def test_a_line_that_was_cut_off_is_trained_again(searched, tmp_path, monkeypatch, fragment):
    whole = (searched / "trials.jsonl").read_bytes().partition(b"\n")[0]
    (tmp_path / "trials.jsonl").write_bytes(whole + b"\n" + fragment)
    assert [line["trial"] for line in _search.read_trials(tmp_path)] == [0]
    outcome = outcome_of(Trial(1, {"rate": 0.1}, (0.5,)), [{"loss": 1.0, "score": 0.5}])
    open_ = Path.open

    def appending(self, mode="r", *settings, **named):
        assert "w" not in mode, "the lines of others are lost where the process is killed again"
        return open_(self, mode, *settings, **named)

    monkeypatch.setattr(Path, "open", appending)
    for _ in range(2):  # the next line does not go on with the fragment
        _search.Records(tmp_path, "search", [], 1).record(outcome, seconds=1.0)
    assert [line["trial"] for line in _search.read_trials(tmp_path)] == [0, 1, 1]


def test_a_checkpoint_keeps_the_rows_of_trials_alone(tmp_path):
    (tmp_path / "trials.jsonl").touch()
    (tmp_path / "checkpoints").mkdir()
    trials = tuple(Trial(k, {"rate": 0.1}, (0.5,)) for k in (3, 7))
    mine = {"x": jnp.arange(8.0).reshape(4, 2)}
    standing = Population(None, trials, (0, 2), (), mine, 1, (({"loss": 1.0},), ({"loss": 2.0},)))
    _search.Records(tmp_path, "search", [], 1).border([standing], must=True, seconds=1.0)
    one = Population(None, trials[:1], (0,), (), jax.tree.map(lambda leaf: leaf[:1], mine), 0, ((),))
    (restored,) = _search.Records(tmp_path, "search", [], 1).restored(lambda trial: one)
    assert (restored.trials, restored.rows, restored.curves) == (trials, (0, 1), standing.curves)
    assert restored.mine["x"].tolist() == [[0, 1], [4, 5]]


def test_a_damaged_checkpoint_is_none(tmp_path):
    (tmp_path / "trials.jsonl").touch()
    (tmp_path / "checkpoints").mkdir()
    records = _search.Records(tmp_path, "search", [], 1)
    assert records.seconds == 0
    assert records.restored(lambda trial: None) == ()
    trial = Trial(0, {"rate": 0.1}, (0.5,))._asdict()
    for damaged in (
        '{"count": 1, "na',
        "3",
        '{"count": 1}',
        '{"count": 1, "name": "search-1", "populations": 3}',
        *(
            json.dumps({"count": 1, "name": "search-1", "seconds": 1.0, "populations": [population]})
            for population in (
                {"trials": [], "epoch": 0, "curves": []},
                {"trials": [trial | {"point": 3}], "epoch": 0, "curves": [[]]},
                {"trials": [trial], "epoch": 2, "curves": [[{"loss": 1.0}]]},
                {"trials": [trial], "epoch": 1, "curves": [[{"loss": "x"}]]},
            )
        ),
    ):
        (tmp_path / "checkpoints" / "search.json").write_text(damaged)
        assert _search.Records(tmp_path, "search", [], 1).restored(lambda trial: None) == ()


OUTCOME = outcome_of(Trial(0, {"optimizer.learning_rate": 0.1}, (0.5,)), [{"loss": 1.0, "score": 0.5}] * 2)
TRIAL = {"stage": "search", **as_line(OUTCOME), "error": None, "seconds": 1.0}
FOUND = {"trials": 4, "diverged": 0, "epochs": 12, "seconds": 2.5, "notes": [], "finalists": []}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("trials.jsonl", "3\n", "line 1 does not record a trial"),
        ("trials.jsonl", '\n{"trial": 0}\n', "line 2 does not record a trial"),
        ("trials.jsonl", json.dumps(TRIAL | {"stage": "other"}), "line 1 does not record a trial"),
        ("trials.jsonl", json.dumps(TRIAL | {"score": "x"}), "line 1 does not record a trial"),
        ("trials.jsonl", json.dumps(TRIAL | {"hyperparameters": 3}), "line 1 does not record a trial"),
        ("trials.jsonl", json.dumps(TRIAL | {"point": 3}), "line 1 does not record a trial"),
        ("trials.jsonl", json.dumps(TRIAL | {"epochs": 300}), "line 1 does not record a trial"),
        ("trials.jsonl", json.dumps(TRIAL | {"inherited": 2}), "line 1 does not record a trial"),
        ("results.json", "", "this is not JSON"),
        ("results.json", "[]", "this is not a JSON object"),
        ("results.json", "{}", "this is not what a search found"),
        ("results.json", json.dumps(FOUND | {"finalists": [1]}), "this is not what a search found"),
        ("results.json", json.dumps(FOUND | {"test": 3}), "this is not what a search found"),
        ("config.toml", "", "the table [data] is missing"),
    ],
)
def test_a_damaged_search_says_which_file(searched, tmp_path, monkeypatch, capsys, name, content, says):
    found = tmp_path / "found"
    shutil.copytree(searched, found)
    (found / name).write_text(content)
    code, _, errors = run(monkeypatch, capsys, "search", found)
    assert code == 2
    assert says in errors
    assert name in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("schedule", [False, True])
def test_ends_of_schedules_are_values_wherever_they_stand(tmp_path, schedule):
    text = SMALL.replace("strength = 1e-4", "strength = {cosine = {peak = 1e-4}}") + SEARCH
    key = "loss.penalties.0.strength.peak" if schedule else "optimizer.learning_rate"
    (tmp_path / "a.toml").write_text(text.replace('"optimizer.learning_rate"', f'"{key}"'))
    search = _search._Search(read(tmp_path / "a.toml"), None)
    (asked,) = fnn.random_search(3).rounds(search.space, 1, 0)
    programs, values = zip(*(search.plan(trial) for trial in asked.trials), strict=True)
    assert len(set(programs)) == 1
    found = [
        float(v["loss.penalties.0.strength"](0)) if schedule else v["optimizer.learning_rate"] for v in values
    ]
    assert found == pytest.approx([trial.hyperparameters[key] for trial in asked.trials])


def test_structure_makes_groups_and_options_are_functions(tmp_path):
    space = """
optimizer = {choice = {options = ["adam", "nesterov"]}}
"optimizer.b1" = {only_if = {path = "optimizer", equals = "adam", then = {uniform = {low = 0.8, high = 0.9}}}}
"model.linear_1.features" = {int_uniform = {low = 4, high = 5}}
"train.batch_size" = {choice = {options = [32, 64]}}
"""
    (tmp_path / "a.toml").write_text(SMALL + SEARCH + space)
    search = _search._Search(read(tmp_path / "a.toml"), None)
    (asked,) = fnn.random_search(40).rounds(search.space, 1, 0)
    groups = {search.plan(trial)[0] for trial in asked.trials}
    assert len(groups) == 8
    for trial in asked.trials:
        config = search.trial_config(trial.hyperparameters)
        assert config.optimizer.function == trial.hyperparameters["optimizer"]
        assert ("optimizer.b1" in trial.hyperparameters) == (config.optimizer.function == "adam")
        rate = dict(config.optimizer.arguments)["learning_rate"].value
        assert rate == trial.hyperparameters["optimizer.learning_rate"]


def test_a_key_of_a_space_may_be_the_name_of_a_function(tmp_path):
    text = SMALL.replace('use = "adam"', 'use = "momentum"') + SEARCH
    (tmp_path / "a.toml").write_text(text + "optimizer.momentum = {uniform = {low = 0.5, high = 0.9}}")
    paths = [path for path, _ in read(tmp_path / "a.toml").space]
    assert paths == ["optimizer.learning_rate", "optimizer.momentum"]


def test_names_of_layers_are_those_of_the_config(tmp_path):
    """However many are replaced, by overrides or by a trial."""
    (tmp_path / "a.toml").write_text(SMALL.replace('"relu"', '"relu", "relu", "relu"') + SEARCH)
    both = {"model.relu_1": "tanh", "model.relu_2": "elu"}
    overridden = read(tmp_path / "a.toml", tuple(f"{path}={name}" for path, name in both.items()))
    trial = _search._Search(read(tmp_path / "a.toml"), None).trial_config(both)
    for config in (overridden, trial):
        assert config.raw["model"]["layers"][2:5] == ["tanh", "elu", "relu"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ('"optimizer.learning_rat" = {uniform = {low = 0, high = 1}}', "did you mean 'learning_rate'?"),
        ('"model.linear_9.features" = {int_uniform = {low = 1, high = 2}}', "model.linear_9: there is nothing"),
        ('"optimizer.b1" = {uniform = {low = 0.9, high = 0.8}}',
         "search.space.optimizer.b1: low must be below high, not 0.9 and 0.8"),
        ('"optimizer.b1" = {log_uniform = {low = 0, high = 0.8}}',
         "search.space.optimizer.b1: log_uniform needs low above 0"),
        ('"optimizer.b1" = {choice = {options = []}}', "search.space.optimizer.b1: choice needs at least one option"),
        ('"optimizer.b1" = {uniform = {low = 0.5, high = 1.5}}',
         "search.space: where optimizer.learning_rate = 0.1, optimizer.b1 = 1.5: optimizer: b1 must be"),
        ('"optimizer.b1" = {uniform = {low = 0.5}}', "search.space.optimizer.b1: uniform needs high, a number"),
        ('"optimizer.b1" = {unifrom = {low = 0.5}}',
         "search.space.optimizer.b1: there is no distribution 'unifrom'; did you mean 'uniform'?"),
        ("optimizer.b1 = {chioce = {options = [0.5, 0.6]}}",
         "search.space.optimizer.b1: there is no distribution 'chioce'; did you mean 'choice'?"),
        ('"optimizer.b1" = {only_fi = {path = "optimizer", equals = "adam", then = {uniform = {low = 0, high = 0.5}}}}',
         "search.space.optimizer.b1: there is no distribution 'only_fi'; did you mean 'only_if'?"),
        ("optimizer.b1 = 0.5", "search.space.optimizer.b1: a distribution is a name or a table with one name as its key"),
        ('"optimizer.b1" = "adam"', "adam is an optimizer, a distribution is wanted"),
        ('"optimizer.b1" = {only_if = {path = "no", equals = 1, then = {uniform = {low = 0, high = 0.5}}}}',
         "search.space: optimizer.b1 depends on no, which is not in the space"),
        ('optimizer = {choice = {options = ["adam", "nesterov", "sgd"]}}\n"optimizer.momentum" = {only_if = '
         '{path = "optimizer", equals = "nesterov", then = {uniform = {low = 0.5, high = 1.5}}}}',
         "optimizer = nesterov, optimizer.momentum = 1.5: optimizer: momentum must be at least 0 and below 1"),
        ('"optimizer.b1" = {choice = {options = [0.9, 1e-39]}}',
         "optimizer.b1 = 1e-39: optimizer.b1: expected a number that float32 can hold"),
        ("optimizer.learning_rate = {uniform = {low = 0, high = 1}}",
         "search.space.optimizer.learning_rate: the space has this setting twice, first as optimizer.learning_rate; leave"),
        ('"model.linear_1.features" = {choice = {options = [8]}}\n"model.layers.1.linear.features" = {choice = {options = [9]}}',
         "search.space.model.layers.1.linear.features: the space has this setting twice, first as model.linear_1.features"),
        ('"loss.penalties.0.strength.peak" = {choice = {options = [1]}}\nloss."penalties.0".strength.peak = {choice = {options = [2]}}',
         "search.space.loss.penalties.0.strength.peak: the space has this setting twice, first as loss.penalties.0.st"),
        ("seed = {int_uniform = {low = 1, high = 2}}", "search.space.seed: all trials have the same seed"),
        ('"train.epochs" = {int_uniform = {low = 1, high = 2}}', "all trials have the same train.epochs"),
        ('"train.standardize" = {choice = {options = [true, false]}}', "all trials have the same train.standardize"),
        ('train = {choice = {options = [{epochs = 1}, {epochs = 6}]}}',
         "search.space.train: all trials have the same train.epochs; search what else is in train by its own path"),
        ('"split.validation" = {uniform = {low = 0.1, high = 0.2}}', "all trials have the same split"),
        ('"model.head.features" = {int_uniform = {low = 9, high = 10}}', "must end in (batch, 10) outputs"),
    ],
)  # fmt: skip
def test_bad_spaces_end_in_one_sentence(tmp_path, monkeypatch, capsys, space, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(SMALL + SEARCH + space)
    code, output, error = run(monkeypatch, capsys, "search", tmp_path / "bad.toml")
    assert code == 2
    assert message in error
    assert error.startswith(f"fnn: {tmp_path / 'bad.toml'}: ")
    assert error.count("\n") == 1
    assert not output
    assert not (tmp_path / "runs").exists()


GROUPED = SMALL.replace('"relu"', "{group_norm = {groups = 4}}")


def test_a_structure_that_does_not_fit_ends_in_one_sentence_before_anything_is_trained(
    tmp_path, monkeypatch, capsys
):
    """Between the ends of a range, of which 4 groups divide both."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text(GROUPED + SEARCH)
    space = "search.space={'model.linear_1.features' = {int_uniform = {low = 8, high = 16}}}"
    code, _, error = run(monkeypatch, capsys, "search", tmp_path / "a.toml", space)
    assert code == 2
    assert "a.toml: search.space: where model.linear_1.features = " in error
    assert "model.group_norm_1: " in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_later_structure_that_does_not_fit_loses_no_trial(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.toml").write_text(GROUPED + SEARCH)
    settings = (
        "search.method={random_search = {trials = 8, population = 1}}",
        "search.space={'model.linear_1.features' = {int_uniform = {low = 8, high = 16}}}",
        "seed=4",
        "train.epochs=1",
        f'run.directory="{tmp_path / "found"}"',
    )
    code, _, error = run(monkeypatch, capsys, "search", tmp_path / "a.toml", *settings)
    assert code == 2
    assert "a.toml: search.space: where model.linear_1.features = " in error
    assert error.count("\n") == 1
    assert [line["trial"] for line in lines_of(tmp_path / "found")] == [0, 1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.method={random_search = {trials = 0}}", "search: trials must be at least 1, not 0"),
        ("search.method=adam", "adam is an optimizer, a search method is wanted"),
        ("search.folds=1", "search: folds must be at least 2, not 1"),
        (
            "search={folds = 2, space = {'train.batch_size' = {choice = {options = [64, 1000]}}}}",
            "train.batch_size: batch_size 1000 exceeds the 719 training examples",
        ),
        ("search.folds=500", "search.folds: 500 folds are more than the"),
        ("search.finalists=0", "search: finalists must be at least 1"),
        ("search.seconds=0", "search: seconds must be above 0"),
        ("search.trials=3", "search.trials: [search] has no such setting; there is "),
        ("train.patience=2", "train.patience: a search says itself when trials end"),
        ("search.method={coarse_to_fine = {coarse = 2, fine = 2}}", "needs at least 5, not 3"),
    ],
)
def test_bad_settings_end_in_one_sentence(config, tmp_path, monkeypatch, capsys, override, message):
    monkeypatch.chdir(tmp_path)
    code, _, error = run(monkeypatch, capsys, "search", config, override)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            "max_epochs=3",
            "search.max_epochs: a budget of 3 epochs is too small for one epoch of each of the 4 ",
        ),
        (
            "seconds=1e-9",
            "search.seconds: no trial was trained: the budget of 1e-09 seconds is spent; start again with more",
        ),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_budget_for_no_epoch_is_said_to_be_too_small(
    config, tmp_path, monkeypatch, capsys, budget, message, named
):
    """And leaves nothing in the way of the next search."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "found" if named else tmp_path / "runs" / "small" / "1"
    settings = [f"search.{budget}", *([f'run.directory="{directory}"'] if named else [])]
    code, output, error = run(monkeypatch, capsys, "search", config, *settings)
    assert code == 2
    assert not directory.exists()
    assert error.startswith(f"fnn: {config}: {message}")
    assert error.count("\n") == 1
    assert "diverged" not in output


def test_other_paths(tmp_path, monkeypatch, capsys):
    (tmp_path / "plain.toml").write_text(SMALL)
    for path, message in (
        (tmp_path / "plain.toml", "the table [search] is missing"),
        (tmp_path, "is not the directory of a search: it has no trials.jsonl"),
        (tmp_path / "none.toml", "there is no config file"),
    ):
        code, _, error = run(monkeypatch, capsys, "search", path)
        assert code == 2
        assert message in error


@pytest.mark.parametrize(("rates", "diverged"), [([1e-2, 1e38], 1), ([1e37, 1e38], 2)])
def test_trials_that_diverge_are_counted(config, tmp_path, monkeypatch, capsys, rates, diverged):
    """Also where all do; what is written of them is read again."""
    monkeypatch.setattr(_search, "draw_search", lambda *given: None)
    space = f"search.space={{'optimizer.learning_rate' = {{choice = {{options = {rates}}}}}}}"
    settings = ("optimizer=sgd", "search.method=grid_search", "search.fresh_seeds=1", "train.epochs=1", space)
    directory = tmp_path / "d"
    code, output, _ = run(monkeypatch, capsys, "search", config, f'run.directory="{directory}"', *settings)
    everything = diverged == 2
    assert code == everything
    assert ("every trial diverged; try lower learning rates" in output) == everything
    assert json.loads((directory / "results.json").read_text())["diverged"] == diverged
    code, output, _ = run(monkeypatch, capsys, "search", directory)
    assert code == everything
    assert ("every trial diverged; try lower learning rates" in output) == everything
    assert f"2 trials, {diverged} diverged, 2 epochs" in output


def test_a_best_trial_that_diverges_with_fresh_seeds_is_told_again(config, tmp_path, monkeypatch, capsys):
    def diverging(config, directory, console):
        run = Path(config.directory)
        run.mkdir()
        (run / "results.json").write_text('{"stopped": "the loss became nan"}')
        return 1

    def results(*given):
        return found(*given) | {"finalists": [{"trial": 0, "score": None, "error": None}]}

    found = _search._Search._results
    monkeypatch.setattr(_search._Search, "_results", results)
    monkeypatch.setattr(_search, "draw_search", lambda *given: None)
    monkeypatch.setattr(_search, "train", diverging)
    directory = tmp_path / "d"
    outputs = []
    for arguments in ((config, f'run.directory="{directory}"'), (directory,)):
        code, output, _ = run(monkeypatch, capsys, "search", *arguments)
        assert code == 1
        outputs.append(output)
    assert outputs[0].endswith(outputs[1])
    assert "trial 0, trained again with fresh seeds: nan" in outputs[1]
    assert f"{directory / 'best'}: the loss became nan" in outputs[1]
    assert "the loss became nan" in (directory / "report.html").read_text()


@pytest.mark.devices
def test_a_device_for_each_core(monkeypatch):
    from fnn.run import _devices

    told = {}
    monkeypatch.setattr(
        _devices.jax, "config", type("C", (), {"jax_num_cpu_devices": -1, "update": told.__setitem__})
    )
    _devices.one_device_per_core()
    assert list(told) == ["jax_num_cpu_devices"]
    assert told["jax_num_cpu_devices"] >= 1
    monkeypatch.undo()
    _devices.one_device_per_core()  # four devices here, as the tests have said
    assert len(jax.devices()) == 4


def test_parallel_coordinates_of_one_trial_are_drawn_without_a_warning(tmp_path):
    space = Space({"rate": fnn.choice([0.1, 0.2])})
    alone = Outcome(Trial(0, {"rate": 0.1}, (0.25,)), 2, 0.5, 0.0, (), False)
    _draw_parallel([alone], space, tmp_path / "parallel.png")
    assert (tmp_path / "parallel.png").exists()


def test_the_best_so_far_counts_every_epoch_once_in_the_order_of_training(tmp_path, monkeypatch):
    """Two rungs, of which the second improves trial 0 alone, and a child that inherits two epochs."""
    rows = [(0, 1, 0.5), (1, 1, 0.6), (2, 1, 0.4), (0, 3, 0.9), (1, 3, 0.6), (3, 3, 0.7)]
    written = [
        Outcome(
            Trial(number, {"rate": 0.1}, (0.5,), *((0, 2) if number == 3 else ())),
            epochs,
            score,
            0.0,
            ({"score": score},) * epochs,
            False,
        )
        for number, epochs, score in rows
    ]
    outcomes = list({outcome.trial.number: outcome for outcome in written}.values())
    kept = {}
    monkeypatch.setattr(_search_figures, "save", lambda figure, path: kept.setdefault(path.name, figure))
    _search_figures.draw_search(outcomes, written, Space({"rate": fnn.uniform(0.0, 0.2)}), tmp_path)
    (line,) = kept["budget.png"].axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3, 5, 7, 8]
    assert line.get_ydata().tolist() == [0.5, 0.6, 0.6, 0.9, 0.9, 0.9]


def test_a_search_draws_the_rounds_that_it_wrote_down(config, tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(_search, "draw_search", lambda *given: drawn.append(given))
    assert run(monkeypatch, capsys, "search", config, f'run.directory="{tmp_path / "found"}"')[0] == 0
    ((outcomes, written, *_),) = drawn
    assert [outcome.epochs for outcome in written] == [1, 1, 1, 1, 3, 3]
    last = {outcome.trial.number: outcome for outcome in written}
    assert [last[number] for number in sorted(last)] == [*outcomes]


def test_parallel_coordinates_are_those_of_the_values(tmp_path, monkeypatch):
    """An option in the middle of its part, a gap where a hyperparameter is not, and all inside of the frame."""
    space = Space(
        {
            "optimizer": fnn.choice(["adam", "sgd"]),
            "b1": fnn.only_if("optimizer", "adam", fnn.uniform(0.0, 1.0)),
            "width": fnn.int_uniform(1, 4),
            "rate": fnn.log_uniform(0.01, 1.0),
        }
    )
    points = [(0.1, 0.3, 0.0, 0.5), (0.9, 0.3, 0.99, 1.25)]
    outcomes = [
        Outcome(Trial(number, space.at(point), point), 1, float(number), 0.0, ({"score": 0.0},), False)
        for number, point in enumerate(points)
    ]
    kept = []
    monkeypatch.setattr(_search_figures, "save", lambda figure, path: kept.append(figure))
    _draw_parallel(outcomes, space, tmp_path / "parallel.png")
    (axes,) = kept[0].axes
    first, second = (list(line.get_ydata()) for line in axes.lines[:2])
    assert first == [0.25, 0.3, 0.125, 0.5, 0.0]
    assert second == pytest.approx([0.75, math.nan, 0.875, 1.25, 1.0], nan_ok=True)
    assert axes.get_ylim()[1] > 1.25
    labels = {(text.get_text(), text.get_position()[0]): text.get_position()[1] for text in axes.texts}
    assert labels.keys() == {
        *(("adam", 0), ("sgd", 0), ("0", 1), ("1", 1)),
        *(("1", 2), ("4", 2), ("0.01", 3), ("1", 3)),
    }
    assert labels["sgd", 0] == pytest.approx(0.75, abs=0.05)
