"""Methods are asked and told by hand: no network is trained here."""

import itertools
import math
import sys

import numpy as np
import pytest

import fnn
from fnn.tune import Outcome, Space, Trial, _optuna
from fnn.tune._halving import low_losses, survivors

SPACE = Space({"rate": fnn.log_uniform(1e-4, 1.0), "width": fnn.uniform(0.0, 1.0)})


def outcome(trial, score, *, epochs=1, loss=1.0, diverged=False):
    curve = tuple(
        {"loss": loss, "validation_loss": 1 - score, "validation_accuracy": score} for _ in range(epochs)
    )
    return Outcome(trial, epochs, -math.inf if diverged else score, math.nan, curve, diverged)


def play(method, score, *, space=SPACE, epochs=9, seed=0):
    """All rounds that a method asks for, when `score(trial, epochs)` decides."""
    rounds = method.rounds(space, epochs, seed)
    asked = [next(rounds)]
    while True:
        trials, until = asked[-1].trials, asked[-1].epochs
        scores = [score(trial, until) for trial in trials]
        told = [outcome(t, s, epochs=until, loss=1 - s) for t, s in zip(trials, scores, strict=True)]
        try:
            asked.append(rounds.send(told))
        except StopIteration:
            return asked


def by_number(trial, epochs):
    return trial.number / 1000


def test_random_trials_do_not_depend_on_how_many_there_are():
    (few,), (many,) = (play(fnn.random_search(n), by_number) for n in (4, 64))
    assert many.trials[:4] == few.trials
    assert len({trial.point for trial in many.trials}) == 64
    (other,) = play(fnn.random_search(4), by_number, seed=1)
    assert other.trials != few.trials
    (again,) = play(fnn.random_search(4), by_number)
    assert again == few


def test_random_search_is_uniform_in_the_cube():
    (asked,) = play(fnn.random_search(1000), by_number)
    points = np.array([trial.point for trial in asked.trials])
    for axis in range(2):
        counts, _ = np.histogram(points[:, axis], 10, (0, 1))
        assert ((counts - 100) ** 2 / 100).sum() < 27.9  # chi squared with 9 degrees of freedom, 0.1 %
    assert abs(np.corrcoef(points.T)[0, 1]) < 0.11


def test_sobol_points_lie_one_in_each_cell():
    (asked,) = play(fnn.sobol_search(16), by_number)
    points = np.array([trial.point for trial in asked.trials])
    for axis in range(2):
        assert sorted((points[:, axis] * 16).astype(int)) == list(range(16))
    assert len(play(fnn.sobol_search(5), by_number)[0].trials) == 5


def test_a_grid_is_every_combination():
    space = Space({"a": fnn.uniform(0.0, 1.0), "b": fnn.choice(["x", "y"]), "c": fnn.int_uniform(1, 2)})
    (asked,) = play(fnn.grid_search(3), by_number, space=space)
    found = [tuple(trial.hyperparameters.values()) for trial in asked.trials]
    wanted = itertools.product([1 / 6, 0.5, 5 / 6], ["x", "y"], [1, 2])
    assert [(round(a, 9), b, c) for a, b, c in found] == [(round(a, 9), b, c) for a, b, c in wanted]


def test_a_grid_has_no_trial_twice():
    space = Space({"o": fnn.choice(["x", "y"]), "a": fnn.only_if("o", "x", fnn.uniform(0.0, 1.0))})
    (asked,) = play(fnn.grid_search(3), by_number, space=space)
    assert [trial.hyperparameters.get("a", "none") for trial in asked.trials] == [
        pytest.approx(1 / 6), 0.5, pytest.approx(5 / 6), "none",
    ]  # fmt: skip


def test_coarse_to_fine_looks_around_the_best():
    def score(trial, epochs):
        return -abs(trial.point[0] - 0.5) - abs(trial.point[1] - 0.6)

    coarse, fine = play(fnn.coarse_to_fine(32, 16, zoom=0.3), score, epochs=20)
    assert (coarse.epochs, fine.epochs) == (4, 20)
    assert [trial.number for trial in fine.trials] == list(range(32, 48))
    best = max(coarse.trials, key=lambda trial: score(trial, 4))
    points = np.array([trial.point for trial in fine.trials])
    assert (np.abs(points - best.point) <= 0.15 + 1e-12).all()
    assert fine.note == f"the fine stage looks around trial {best.number}"


@pytest.mark.parametrize(
    ("allowed", "beyond"), [((lambda hyperparameters: True,), True), ((), False)], ids=["allowed", "default"]
)
def test_coarse_to_fine_widens_where_the_best_lies_on_the_border(allowed, beyond):
    space = Space(SPACE.distributions, *allowed)
    _, fine = play(fnn.coarse_to_fine(200, 200), lambda trial, epochs: trial.point[0], space=space, epochs=5)
    assert (max(trial.point[0] for trial in fine.trials) > 1) == beyond
    assert ("whose rate lies on the border" in fine.note) == beyond


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (fnn.coarse_to_fine(2, 2), "needs at least 5, not 4"),
        (
            fnn.successive_halving(8, 2, min_epochs=9),
            "its first rung min_epochs=9, .* have 4; give it at most 4",
        ),
    ],
)
def test_a_first_stage_needs_epochs(method, message):
    with pytest.raises(ValueError, match=message):
        play(method, by_number, epochs=4)


def test_halving_gives_every_rung_the_same_budget():
    asked = play(fnn.successive_halving(81, eta=3), by_number, epochs=27)
    assert [(len(r.trials), r.epochs) for r in asked] == [(81, 1), (27, 3), (9, 9), (3, 27)]
    assert [trial.number for trial in asked[-1].trials] == [80, 79, 78]
    short = play(fnn.successive_halving(64, eta=4, min_epochs=3), by_number, epochs=20)
    assert [(len(r.trials), r.epochs) for r in short] == [(64, 5), (16, 20)]
    assert [r.epochs for r in play(fnn.successive_halving(8, 2, min_epochs=3), by_number, epochs=3)] == [3]


def test_fewer_at_a_time_are_the_same_trials_in_populations_of_their_own():
    (together,) = play(fnn.random_search(10), by_number)
    apart = play(fnn.random_search(10, population=4), by_number)
    assert [len(asked.trials) for asked in apart] == [4, 4, 2]
    assert sum((asked.trials for asked in apart), ()) == together.trials

    brackets = play(fnn.successive_halving(10, 2, population=4), by_number, epochs=4)
    shape = [(len(asked.trials), asked.epochs) for asked in brackets]
    assert shape[:6] == [(4, 1), (2, 2), (1, 4)] * 2
    assert [b.trials[0].number for b in brackets if b.epochs == 4] == [3, 7, 9]
    with pytest.raises(ValueError, match="population must be at least 1, not 0"):
        fnn.random_search(10, population=0)


def test_hyperband_has_the_brackets_of_its_paper():
    """Table 1 of Li et al.: R = 81, η = 3."""
    asked = play(fnn.hyperband(3), by_number, epochs=81)
    assert [(len(r.trials), r.epochs) for r in asked] == [
        *[(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        *[(34, 3), (11, 9), (3, 27), (1, 81)],
        *[(15, 9), (5, 27), (1, 81)],
        *[(8, 27), (2, 81)],
        *[(5, 81)],
    ]
    numbers = dict.fromkeys(trial.number for r in asked for trial in r.trials)
    assert list(numbers) == list(range(81 + 34 + 15 + 8 + 5))


def trials(count):
    return [Trial(k, {}, ()) for k in range(count)]


def test_low_training_losses_protect_half_of_the_places_at_most():
    """Trials 0 to 19, the higher the number the better the score; the last but few have low losses."""
    told = [outcome(t, t.number / 100, loss=t.number) for t in trials(20)]
    assert low_losses(told) == {0, 1}
    kept = survivors(told, 4, {0, 1})
    assert {t.number for t in kept} == {19, 18, 0, 1}
    assert {t.number for t in survivors(told, 2, {0, 1})} == {19, 1}
    assert {t.number for t in survivors(told, 1, {0, 1})} == {19}  # half of one place is none
    assert {t.number for t in survivors(told, 4, {18, 19, 0, 1})} == {19, 18, 17, 16}  # they have their half
    assert {t.number for t in survivors(told, 4, set())} == {19, 18, 17, 16}


def test_low_losses_count_at_any_epoch():
    first = {"loss": 0.1, "validation_loss": 1.0, "validation_accuracy": 0.1}
    later = {"loss": 9.0, "validation_loss": 1.0, "validation_accuracy": 0.1}
    told = [outcome(t, 0.5, epochs=2, loss=1.0) for t in trials(9)]
    told.append(Outcome(Trial(9, {}, ()), 2, 0.1, math.nan, (first, later), False))
    assert 9 in low_losses(told)


def test_without_a_training_loss_nobody_is_protected():
    told = [Outcome(t, 1, 0.1 * t.number, math.nan, ({"score": 0.1 * t.number},), False) for t in trials(20)]
    assert low_losses(told) == set()


def test_diverged_trials_are_not_continued():
    told = [outcome(t, 1.0, loss=0.0, diverged=t.number < 3) for t in trials(4)]
    assert [t.number for t in survivors(told, 4, low_losses(told))] == [3]


@pytest.mark.parametrize(
    "method",
    [fnn.successive_halving(4, 2), fnn.coarse_to_fine(4, 2), fnn.population_based(4)],
    ids=lambda method: method.name,
)
def test_a_method_that_stops_early_ends_where_all_have_diverged(method):
    rounds = method.rounds(SPACE, 5, 0)
    asked = next(rounds)
    with pytest.raises(StopIteration):
        rounds.send([outcome(t, 0.0, diverged=True) for t in asked.trials])


def test_a_population_replaces_its_worst_by_its_best():
    asked = play(fnn.population_based(8, interval=2), by_number, epochs=6)
    assert [r.epochs for r in asked] == [2, 4, 6]
    assert all(len(r.trials) == 8 for r in asked)
    second = {trial.number: trial for trial in asked[1].trials}
    assert set(second) == {2, 3, 4, 5, 6, 7, 8, 9}  # 0 and 1 were the worst
    children = [second[8], second[9]]
    assert all(child.parent in (6, 7) and child.inherited == 2 for child in children)
    parents = {trial.number: trial for trial in asked[0].trials}
    for child in children:
        moved = np.abs(np.array(child.point) - parents[child.parent].point)
        assert (moved > 0).all()
    third = {trial.number: trial for trial in asked[2].trials}
    assert {trial.parent for trial in third.values() if trial.number >= 10} <= {8, 9}


def test_a_population_is_judged_by_its_last_epoch():
    def told(r):
        rows = []
        for t in r.trials:
            late = t.number / 10
            curve = tuple(
                {"loss": 1.0, "validation_loss": 1.0, "validation_accuracy": value}
                for value in (1 - late, late)
            )
            rows.append(Outcome(t, 2, max(late, 1 - late), math.nan, curve, False))
        return rows

    rounds = fnn.population_based(4, interval=2).rounds(SPACE, 4, 0)
    asked = next(rounds)
    after = rounds.send(told(asked))
    assert [trial.parent for trial in after.trials] == [None, None, None, 3]
    assert 0 not in [trial.number for trial in after.trials]


def test_a_choice_and_a_whole_number_are_inherited():
    space = Space({"o": fnn.choice(["x", "y", "z"]), "n": fnn.int_uniform(1, 40), "a": fnn.uniform(0.0, 1.0)})
    asked = play(fnn.population_based(8, quantile=0.5), by_number, space=space, epochs=9)
    by_trial = {t.number: t for r in asked for t in r.trials}
    children = [t for t in by_trial.values() if t.parent is not None]
    assert len(children) > 20
    for name in ("o", "n"):
        assert all(t.hyperparameters[name] == by_trial[t.parent].hyperparameters[name] for t in children)
    assert all(0 <= t.hyperparameters["a"] <= 1 for t in children)


def test_optuna_is_asked_for_a_population_at_a_time_and_learns():
    """Against random search, on a score that one sees in the cube."""

    def score(trial, epochs):
        u, v = trial.point
        return 1 - (u - 0.3) ** 2 - (v - 0.6) ** 2

    asked = play(fnn.optuna_search(60, population=20), score)
    assert [len(r.trials) for r in asked] == [20, 20, 20]
    assert [trial.number for r in asked for trial in r.trials] == list(range(60))
    means = [np.mean([score(trial, 9) for trial in r.trials]) for r in asked]
    assert means[0] < 0.85 < means[2]
    assert play(fnn.optuna_search(60, population=20), score) == asked
    ends = [trial.hyperparameters["rate"] for r in asked for trial in r.trials]
    assert 1e-4 <= min(ends) < max(ends) <= 1.0


def test_optuna_chooses_options_and_is_told_of_failures():
    space = Space({"o": fnn.choice(["x", "y"]), "n": fnn.int_uniform(1, 3)})
    rounds = fnn.optuna_search(12, population=6).rounds(space, 1, 0)
    asked = next(rounds)
    assert {trial.hyperparameters["o"] for trial in asked.trials} == {"x", "y"}
    assert {trial.hyperparameters["n"] for trial in asked.trials} <= {1, 2, 3}
    told = [outcome(t, 0.0, diverged=t.number % 2 == 0) for t in asked.trials]
    assert len(rounds.send(told).trials) == 6


def test_without_optuna_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fnn\[optuna\]'"):
        next(fnn.optuna_search(2).rounds(SPACE, 1, 0))


def test_a_sampler_that_needs_more_says_so(monkeypatch):
    monkeypatch.setattr(_optuna, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match="the sampler cmaes needs the package cmaes: pip install cmaes"
    ):
        next(fnn.optuna_search(2, sampler="cmaes").rounds(SPACE, 1, 0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnn.random_search(0), "trials must be at least 1"),
        (lambda: fnn.sobol_search(0), "trials must be at least 1"),
        (lambda: fnn.optuna_search(0), "trials must be at least 1"),
        (lambda: fnn.optuna_search(2, population=0), "population must be at least 1"),
        (lambda: fnn.grid_search(0), "points must be at least 1"),
        (lambda: fnn.coarse_to_fine(0, 1), "coarse must be at least 1"),
        (lambda: fnn.coarse_to_fine(1, 1, zoom=0), "zoom must be above 0 and at most 1"),
        (lambda: fnn.successive_halving(0), "trials must be at least 1"),
        (lambda: fnn.successive_halving(8, 1), "eta must be at least 2"),
        (lambda: fnn.hyperband(1), "eta must be at least 2"),
        (lambda: fnn.population_based(1), "members must be at least 2"),
        (lambda: fnn.population_based(4, quantile=0.6), "quantile must be above 0 and at most 0.5"),
        (lambda: fnn.optuna_search(4, sampler="xx"), 'sampler must be "tpe", "gp" or "cmaes", not \'xx\''),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (fnn.random_search, ("trials", "population")),
        (fnn.sobol_search, ("trials",)),
        (fnn.grid_search, ("points",)),
        (fnn.coarse_to_fine, ("coarse", "fine")),
        (fnn.successive_halving, ("trials", "eta", "min_epochs", "population")),
        (fnn.hyperband, ("eta",)),
        (fnn.population_based, ("members", "interval")),
        (fnn.optuna_search, ("trials", "population")),
    ],
)
def test_counts_are_integers(method, names):
    for name in names:
        with pytest.raises(TypeError, match=f"{name} must be an integer, not 2.5"):
            method(**{name: 2.5})
