"""The engine of a search, with a training that is done by hand: x ← x (1 − rate), judged by −x."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.tune import Journal, Method, Trial, _engine, _populations
from fnn.tune._engine import JournalError, outcome_of
from fnn.tune._method import Round
from fnn.tune._search import Training

SPACE = {"rate": fnn.uniform(0.0, 0.9), "shape": fnn.choice([1, 2])}


@dataclass(frozen=True)
class Decay:
    """Each replica starts at its number plus one; `shape` numbers decay alike."""

    shape: int

    def start(self, values, replica, shared):
        return {"x": jnp.full(self.shape, replica + 1.0), "steps": jnp.zeros((), jnp.int32)}

    def advance(self, values, mine, replica, epoch, shared):
        x = mine["x"] * (1 - values["rate"]) * shared
        loss = x.mean() + 0 * epoch
        mine = {"x": x, "steps": mine["steps"] + 1}
        return mine, {"loss": loss, "score": -loss, "epochs": mine["steps"].astype(jnp.float32)}

    def probe(self, values, mine, shared):
        return mine["x"] * values["rate"]


def plan(trial):
    return Decay(trial.hyperparameters.get("shape", 1)), {"rate": trial.hyperparameters["rate"]}


def searched(method, *, epochs=3, space=SPACE, replicas=2, **settings):
    training = Training(plan, jnp.float32(1.0), epochs, replicas)
    return fnn.search(training, space, method=method, **{"how": "vmap", **settings})


def curve(rate, epochs):
    """Means and standard errors of two replicas, which start at 1 and 2."""
    left = (1 - np.float32(rate)) ** np.arange(1, epochs + 1)
    return -1.5 * left, 0.5 * left


def same(one, other):
    assert [outcome.trial for outcome in one.outcomes] == [outcome.trial for outcome in other.outcomes]
    for left, right in zip(one.outcomes, other.outcomes, strict=True):
        assert left.epochs == right.epochs
        for name in ("loss", "score", "epochs"):
            np.testing.assert_allclose(
                [m[name] for m in left.curve], [m[name] for m in right.curve], rtol=1e-6
            )


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_an_epoch_is_traced_once_for_populations_of_all_sizes(how, monkeypatch):
    traced, advance = [], Decay.advance

    def counted(self, *arguments):
        traced.append(self)
        return advance(self, *arguments)

    monkeypatch.setattr(Decay, "advance", counted)
    searched(fnn.random_search(5, population=3), space={"rate": SPACE["rate"]}, how=how)  # of 3 and 2
    assert traced == [Decay(1)]


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_means_and_errors_over_the_replicas(how):
    for outcome in searched(fnn.random_search(5), how=how).outcomes:
        scores, errors = curve(outcome.trial.hyperparameters["rate"], 3)
        np.testing.assert_allclose([m["score"] for m in outcome.curve], scores, rtol=1e-5)
        np.testing.assert_allclose([m["score_error"] for m in outcome.curve], errors, rtol=1e-5)
        assert outcome.score == pytest.approx(scores.max())
        assert outcome.error == pytest.approx(errors[-1])


@pytest.mark.devices
@pytest.mark.parametrize("how", ["vmap", "map"])
@pytest.mark.parametrize("devices", [2, 4])
def test_any_number_of_devices_finds_the_same(devices, how):
    """Also where they do not divide the trials."""
    mesh = fnn.mesh(data=1, population=devices)
    for method in (fnn.successive_halving(7, 3), fnn.population_based(5)):
        same(searched(method), searched(method, mesh=mesh, how=how))


@pytest.mark.parametrize("groups", [1, pytest.param(2, marks=pytest.mark.devices)])
def test_trials_one_after_the_other_are_one_program_however_many(groups, monkeypatch):
    """The rounds of 9, 3 and 1 trials compile once, and a row without a trial trains nothing."""
    compiled, trained = [], []
    monkeypatch.setattr(
        _populations,
        "_unless_empty",
        lambda advance, made=_populations._unless_empty: compiled.append(1) or made(advance),
    )

    def counted(self, values, mine, replica, *rest, advance=Decay.advance):
        jax.debug.callback(trained.append, replica)
        return advance(self, values, mine, replica, *rest)

    monkeypatch.setattr(Decay, "advance", counted)
    mesh = fnn.mesh(data=1, population=groups) if groups > 1 else None
    method = fnn.successive_halving(9, 3)
    found = searched(method, space={"rate": SPACE["rate"]}, epochs=9, how="map", mesh=mesh)
    jax.effects_barrier()
    epochs = [outcome.epochs for outcome in found.outcomes]
    assert sorted(epochs) == [1] * 6 + [3, 3, 9]
    assert len(compiled) == 1
    assert len(trained) == 2 * sum(epochs)  # of two replicas


@pytest.mark.devices
def test_devices_share_what_is_left_of_a_population(monkeypatch):
    """Of 8 rows, 4 on each of two devices, two trials take the first and the fifth."""
    rows = []
    gathered = _populations.Populations.gathered
    monkeypatch.setattr(
        _populations.Populations,
        "gathered",
        lambda self, *rest: rows.append((population := gathered(self, *rest)).rows) or population,
    )
    mesh = fnn.mesh(data=1, population=2)
    searched(fnn.successive_halving(8, 3), space={"rate": SPACE["rate"]}, how="map", mesh=mesh)
    assert rows == [(0, 4, 1, 5, 2, 6, 3, 7), (0, 4)]


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_survivors_go_on_from_where_they_were(how):
    found = searched(fnn.successive_halving(6, 3), how=how)
    assert sorted(outcome.epochs for outcome in found.outcomes) == [1, 1, 1, 1, 3, 3]
    for outcome in found.outcomes:
        scores, _ = curve(outcome.trial.hyperparameters["rate"], outcome.epochs)
        np.testing.assert_allclose([m["score"] for m in outcome.curve], scores, rtol=1e-5)


def test_structures_make_groups_that_share_the_budget():
    found = searched(fnn.successive_halving(8, 4), epochs=4)
    assert {outcome.trial.hyperparameters["shape"] for outcome in found.outcomes} == {1, 2}
    assert sorted(outcome.epochs for outcome in found.outcomes) == [1] * 6 + [4] * 2


def fixed(*rates):
    """A method that asks for some given rates."""

    def rounds(space, epochs, seed):
        yield Round(tuple(Trial(k, {"rate": rate}, ()) for k, rate in enumerate(rates)), epochs)

    return Method("fixed", rounds)


def test_a_member_that_diverges_leaves_the_others_as_they_are():
    good, bad = (searched(fixed(rate, 0.1, 0.2, 0.3)).outcomes for rate in (0.5, math.inf))
    assert bad[0].diverged
    assert bad[0].score == -math.inf
    assert len(bad[0].curve) == 3
    assert not any(outcome.diverged for outcome in bad[1:])
    assert good[1:] == bad[1:]  # bit by bit
    assert fnn.tune.Search(bad, ()).ranked[-1].trial.number == 0


def test_that_all_have_diverged_is_said():
    found = searched(fixed(math.inf, math.inf))
    assert found.notes == ("every trial diverged",)
    assert found.best.score == -math.inf
    assert not searched(fixed(math.inf, 0.1)).notes


def test_members_of_a_population_take_over_their_parents():
    """A child's curve goes on from its parent's, whose first epochs it shares."""
    found = searched(fnn.population_based(4, interval=1))
    by_number = {outcome.trial.number: outcome for outcome in found.outcomes}
    children = [outcome for outcome in found.outcomes if outcome.trial.parent is not None]
    assert len(children) == 2
    for child in children:
        parent = by_number[child.trial.parent]
        assert child.curve[: child.trial.inherited] == parent.curve[: child.trial.inherited]
        assert child.epochs == 3 or child.trial.inherited == 1


@pytest.mark.cpu  # elsewhere the device tells its own memory
@pytest.mark.parametrize("how", ["vmap", "map"])
def test_what_does_not_fit_into_memory_is_trained_in_parts(monkeypatch, how):
    method = fixed(0.1, 0.2, 0.3, 0.4)
    whole = searched(method)
    monkeypatch.setattr(_populations, "free_memory", lambda: 1.0)
    parts = searched(method, how=how)
    assert parts.notes[0].startswith("4 trials at once would take")
    assert parts.notes[1].endswith("so 1 train at a time")
    same(whole, parts)


@pytest.mark.cpu
def test_states_that_do_not_fit_are_never_made(monkeypatch):
    """Of what four trials own, 2 × (4 + 4) bytes each, a memory of 50 bytes has room for two (32 of 40)."""
    made = []
    monkeypatch.setattr(_populations, "free_memory", lambda: 50.0)
    monkeypatch.setattr(_engine, "bytes_of", lambda compiled: 0.0)
    gathered = _populations.Populations.gathered
    monkeypatch.setattr(
        _populations.Populations,
        "gathered",
        lambda self, program, members, known: (
            made.append(len(members)) or gathered(self, program, members, known)
        ),
    )
    found = searched(fixed(0.1, 0.2, 0.3, 0.4))
    assert made == [2, 2]
    assert len(found.outcomes) == 4


@pytest.mark.parametrize("devices", [None, pytest.param(2, marks=pytest.mark.devices)])
def test_a_start_is_traced_once(monkeypatch, devices):
    """Its size is told from the same trace, and that of later rungs from the first."""
    traced = []
    start = Decay.start
    monkeypatch.setattr(Decay, "start", lambda self, *rest: traced.append(self) or start(self, *rest))
    mesh = None if devices is None else fnn.mesh(data=1, population=devices)
    searched(fnn.successive_halving(8, 2), space={"rate": SPACE["rate"]}, epochs=4, mesh=mesh)
    assert len(traced) == 1


def test_a_budget_of_epochs_is_kept():
    found = searched(fixed(0.1, 0.2, 0.3, 0.4), epochs=5, max_epochs=11)
    assert [outcome.epochs for outcome in found.outcomes] == [2, 2, 2, 2]
    assert found.notes == ("the budget of 11 epochs ends each of 4 trials after 2 of 5",)
    one_shape = {"rate": SPACE["rate"]}
    halved = searched(fnn.successive_halving(6, 3), space=one_shape, max_epochs=8)
    assert sum(outcome.epochs for outcome in halved.outcomes) == 8
    none = searched(fnn.successive_halving(6, 3), space=one_shape, max_epochs=7)
    assert none.notes == ("the budget of 7 epochs is too small for another epoch of each of 2 trials",)
    assert [outcome.epochs for outcome in none.outcomes] == [1] * 6


def test_groups_share_a_budget_of_epochs_by_their_trials():
    found = searched(fnn.grid_search(2), epochs=5, max_epochs=11)  # two rates of each of two shapes
    assert [outcome.epochs for outcome in found.outcomes] == [2] * 4


def test_who_came_too_late_is_said(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_engine.time, "monotonic", lambda: now[0])

    def report(progress):
        now[0] += 10

    found = searched(fnn.grid_search(2), seconds=25, report=report)
    assert found.notes == ("the budget of 25 seconds is spent; 2 of 4 trials were not tried: 1, 3",)
    assert [outcome.trial.number for outcome in found.outcomes] == [0, 2]


def test_a_budget_of_seconds_is_kept(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_engine.time, "monotonic", lambda: now[0])

    def report(progress):
        now[0] += 10

    found = searched(fixed(0.1, 0.2, 0.3, 0.4), epochs=9, seconds=25, report=report)
    assert [outcome.epochs for outcome in found.outcomes] == [3] * 4


def test_seconds_of_earlier_processes_count(monkeypatch):
    monkeypatch.setattr(_engine.time, "monotonic", lambda: 100.0)
    journal = Journal()
    journal.seconds = 26.0
    assert not searched(fixed(0.1), seconds=25, journal=journal).outcomes
    journal.seconds = 24.0
    assert len(searched(fixed(0.1), seconds=25, journal=journal).outcomes) == 1


class Memory(Journal):
    """Keeps outcomes, and populations as NumPy has them."""

    def __init__(self):
        self.outcomes, self.populations, self.stop_after, self.borders = {}, (), None, 0

    def recorded(self, trial, epochs):
        known = [o for (number, had), o in self.outcomes.items() if number == trial.number and had <= epochs]
        return max(known, key=lambda outcome: outcome.epochs, default=None)

    def record(self, outcome, *, seconds):
        self.outcomes[outcome.trial.number, outcome.epochs] = outcome

    def border(self, populations, *, must, seconds):
        self.populations = [p._replace(values=(), mine=jax.device_get(p.mine)) for p in populations]
        self.borders += 1
        if self.borders == self.stop_after:
            raise KeyboardInterrupt

    def restored(self, like):
        for population in self.populations:
            shapes = like(population.trials[0]).mine
            assert jax.tree.structure(shapes) == jax.tree.structure(population.mine)
        return [p._replace(mine=jax.tree.map(jnp.asarray, p.mine)) for p in self.populations]


@pytest.mark.parametrize(
    "method",
    [
        fnn.random_search(3),
        fnn.successive_halving(6, 3),
        fnn.hyperband(2),
        fnn.coarse_to_fine(3, 3),
        fnn.population_based(4),
    ],
    ids=lambda method: method.name,
)
@pytest.mark.parametrize("how", ["vmap", "map"])
def test_an_interrupted_search_goes_on(method, how):
    """Wherever it is interrupted, it trains no epoch twice and ends as it would have."""
    epochs = 5 if method.name == "coarse_to_fine" else 4
    whole = Memory()
    wanted = searched(method, epochs=epochs, journal=whole, how=how)
    for stop_after in {2, whole.borders // 2, whole.borders - 1}:
        journal = Memory()
        journal.stop_after = stop_after
        with pytest.raises(KeyboardInterrupt):
            searched(method, epochs=epochs, journal=journal, how=how)
        found = searched(method, epochs=epochs, journal=journal, how=how)
        assert journal.borders == whole.borders
        same(found, wanted)


def test_epochs_before_an_interruption_count_in_the_budget():
    method = Method("keeps", fixed(0.1, 0.2, 0.3, 0.4, 0.5).rounds, stops_early=True)
    whole = searched(method, epochs=6, max_epochs=20, journal=Memory())
    journal = Memory()
    journal.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        searched(method, epochs=6, max_epochs=20, journal=journal)
    found = searched(method, epochs=6, max_epochs=20, journal=journal)
    assert [o.epochs for o in found.outcomes] == [o.epochs for o in whole.outcomes] == [4] * 5


@pytest.mark.parametrize(
    ("method", "seconds"),
    [(fnn.grid_search(2), 25), (fnn.successive_halving(4, 2), 35)],
    ids=["grid", "halving"],
)
def test_what_was_recorded_when_the_time_was_over_is_the_outcome(method, seconds, monkeypatch):
    """Also in a later process, which has no time left: it trains nothing, and says the same."""
    now = [0.0]
    monkeypatch.setattr(_engine.time, "monotonic", lambda: now[0])

    def report(progress):
        now[0] += 10

    journal = Memory()
    found = searched(method, epochs=4, seconds=seconds, report=report, journal=journal)
    assert 3 in {outcome.epochs for outcome in found.outcomes}
    borders, journal.seconds, journal.populations = journal.borders, 40.0, ()
    again = searched(method, epochs=4, seconds=seconds, report=report, journal=journal)
    assert journal.borders == borders
    assert again == found


def test_a_lost_parent_is_said():
    journal = Memory()
    journal.stop_after = 3
    one_shape = {"rate": SPACE["rate"]}
    with pytest.raises(KeyboardInterrupt):
        searched(fnn.population_based(4, interval=2), epochs=4, space=one_shape, journal=journal)
    journal.populations, journal.stop_after = (), None
    assert {epochs for _, epochs in journal.outcomes} == {2}
    with pytest.raises(ValueError, match="whose state is lost; start the search anew"):
        searched(fnn.population_based(4, interval=2), epochs=4, space=one_shape, journal=journal)


def test_other_replicas_do_not_go_on():
    """Neither fewer folds or seeds nor more."""
    journal = Memory()
    journal.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        searched(fnn.random_search(3), replicas=3, journal=journal)
    for replicas in (2, 4):
        with pytest.raises(
            JournalError, match=f"every trial was trained 3 times, .* now to be trained {replicas} times"
        ):
            searched(fnn.random_search(3), replicas=replicas, journal=journal)


def test_the_fastest_way_is_measured_once(monkeypatch):
    calls = []

    def fastest(function, members, *shared):
        calls.append(len(jax.tree.leaves(members)[0]))
        return "map"

    monkeypatch.setattr(_populations, "fastest", fastest)
    searched(fnn.successive_halving(12, 3), how=None, space={"rate": SPACE["rate"]})
    assert calls == [12]


@pytest.mark.devices
def test_the_fastest_way_is_measured_with_a_trial_of_each_device_at_least(monkeypatch):
    asked = []
    monkeypatch.setattr(_populations, "_PROBED", 1)
    monkeypatch.setattr(
        _populations, "fastest", lambda probe, members, *shared: asked.append(members[0][1].tolist()) or "map"
    )
    searched(
        fnn.random_search(5), how=None, space={"rate": SPACE["rate"]}, mesh=fnn.mesh(data=1, population=2)
    )
    assert asked == [[0, 1]]  # the numbers of the trials


def test_reports_tell_how_far_the_search_is():
    seen = []
    searched(fixed(0.1, 0.2), epochs=2, report=seen.append)
    assert [(progress.epoch, progress.epochs, progress.training) for progress in seen] == [
        (1, 2, (0, 1)), (2, 2, (0, 1)),
    ]  # fmt: skip
    assert [outcome.epochs for outcome in seen[0].outcomes] == [1, 1]


def test_a_child_is_scored_by_its_own_epochs():
    curve = [{"loss": 1.0, "validation_loss": 1.0, "validation_accuracy": a} for a in (0.9, 0.2, 0.5)]
    child = Trial(7, {"rate": 1.0}, (0.5,), parent=3, inherited=1)
    assert outcome_of(child, curve).score == 0.5
    assert outcome_of(child._replace(parent=None, inherited=0), curve).score == 0.9
    assert len(outcome_of(child, curve).curve) == 3
