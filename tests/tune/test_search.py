"""A search is its trials, however they are trained: each equals the run that `fnn.fit` makes of it alone."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.tune._importance import importance

DATA = fnn.split(fnn.digits(), validation=0.2)
FEW = fnn.Splits(
    fnn.Examples(DATA.train.x[:150], DATA.train.y[:150]),
    fnn.Examples(DATA.validation.x[:60], DATA.validation.y[:60]),
    DATA.test,
    DATA.classes,
    "few",
)
FOLDS = fnn.stratified_folds(fnn.Dataset(FEW.train, FEW.test, FEW.classes, "few"), count=3)
SPACE = {"rate": fnn.log_uniform(1e-3, 1e-1), "drop": fnn.uniform(0.0, 0.5)}


def make(h):
    net = fnn.serial(
        fnn.flatten,
        fnn.linear(8, bias=False),
        fnn.batch_norm(),
        fnn.relu,
        fnn.dropout(h["drop"]),
        fnn.linear(10),
    )
    return net, fnn.softmax_cross_entropy, fnn.momentum(h["rate"])


def searched(method=None, *, data=FEW, epochs=2, how="vmap", seeds=1):
    training = fnn.training(make, data, epochs=epochs, batch_size=32, seeds=seeds)
    return fnn.search(training, SPACE, method=method or fnn.random_search(4), how=how)


def solo(trial, data, *, epochs=2, seed=0):
    return fnn.fit(make, trial.hyperparameters, data, epochs=epochs, batch_size=32, seed=seed).history


def same_curves(outcome, history, *, rtol):
    assert len(outcome.curve) == len(history)
    for found, wanted in zip(outcome.curve, history, strict=True):
        for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
            assert found[name] == pytest.approx(wanted[name], rel=rtol, abs=1e-7), name


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_every_member_equals_its_solo_run(how):
    for outcome in searched(how=how, epochs=4).outcomes:  # 20 steps
        same_curves(outcome, solo(outcome.trial, FEW, epochs=4), rtol=1e-4)


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_in_float64_it_equals_it_to_1e_9(how):
    with jax.enable_x64(True):
        data = FEW._replace(
            train=fnn.Examples(FEW.train.x / np.float64(255), FEW.train.y),
            validation=fnn.Examples(FEW.validation.x / np.float64(255), FEW.validation.y),
        )
        for outcome in searched(data=data, how=how, epochs=1).outcomes:
            same_curves(outcome, solo(outcome.trial, data, epochs=1), rtol=1e-9)


def test_every_fold_and_seed_equals_its_solo_run():
    found = searched(fnn.random_search(2), data=FOLDS, seeds=2)
    for outcome in found.outcomes:
        histories = [
            solo(outcome.trial, fnn.Splits(*FOLDS.fold(fold), FEW.test, FEW.classes, "fold"), seed=seed)
            for seed in (0, 1)
            for fold in range(3)
        ]
        for epoch, metrics in enumerate(outcome.curve):
            each = np.array([history[epoch]["validation_loss"] for history in histories])
            assert metrics["validation_loss"] == pytest.approx(each.mean(), rel=1e-4)
            assert metrics["validation_loss_error"] == pytest.approx(
                each.std(ddof=1) / math.sqrt(6), rel=1e-3
            )
        scores = [metrics["validation_accuracy"] for metrics in outcome.curve]
        assert outcome.score == max(scores)


def test_survivors_go_on_from_where_they_were():
    found = searched(fnn.successive_halving(4, 2), epochs=2)
    assert sorted(outcome.epochs for outcome in found.outcomes) == [1, 1, 2, 2]
    for outcome in found.outcomes:
        same_curves(outcome, solo(outcome.trial, FEW, epochs=outcome.epochs), rtol=1e-4)


def test_a_function_of_ones_own():
    seen = []

    def train(h, key):
        seen.append(h["shape"])
        return -((h["x"] - 0.25) ** 2) - (h["shape"] - 3) ** 2

    space = {"x": fnn.uniform(0.0, 1.0), "shape": fnn.int_uniform(1, 4)}
    found = fnn.search(train, space, method=fnn.sobol_search(64))
    assert set(seen) == {1, 2, 3, 4}  # structure: known while it is traced
    assert found.best.trial.hyperparameters["shape"] == 3
    assert abs(found.best.trial.hyperparameters["x"] - 0.25) < 0.05
    exact = found.best.trial.hyperparameters["x"]
    assert found.best.score == pytest.approx(-((exact - 0.25) ** 2), abs=1e-7)
    with pytest.raises(ValueError, match="successive_halving trains trials in parts"):
        fnn.search(train, space, method=fnn.successive_halving(4))


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        (lambda x: x * jnp.ones(2), r"float32 of shape \(2,\)"),
        (lambda x: x + 1j, r"complex64 of shape \(\)"),
        (lambda x: 1j, "complex"),
        (lambda x: None, "NoneType"),
        (lambda x: {"score": x}, "dict"),
        (lambda x: (x, 1), "tuple"),
        (lambda x: "good", "str"),
    ],
)
def test_a_score_is_one_number(returned, kind):
    with pytest.raises(ValueError, match=f"^train must return one number, the score of a trial, not {kind}"):
        fnn.search(lambda h, key: returned(h["x"]), {"x": fnn.uniform(0.0, 1.0)}, method=fnn.random_search(2))


@pytest.mark.parametrize(
    "asking",
    [float, int, np.sin, math.sin, lambda x: 1.0 if x > 0.5 else 0.0, lambda x: [1.0, 2.0][x.astype(int)]],
)
def test_a_function_that_asks_for_a_value_is_told_that_it_is_compiled(asking):
    says = (
        "train is compiled, one program for all values of the floats among its hyperparameters: use jax.numpy"
    )
    with pytest.raises(TypeError, match=f"^{says}"):
        fnn.search(lambda h, key: asking(h["x"]), {"x": fnn.uniform(0.0, 1.0)}, method=fnn.random_search(2))


def test_a_make_that_asks_for_a_value_is_told_that_it_is_compiled():
    def asking(h):
        net = fnn.serial(fnn.flatten, fnn.linear(10))
        return net, fnn.softmax_cross_entropy, fnn.sgd(math.sqrt(h["rate"]))

    training = fnn.training(asking, FEW, epochs=1)
    with pytest.raises(TypeError, match=r"^make is compiled, one program for all values of the floats"):
        fnn.search(training, {"rate": fnn.uniform(0.1, 1.0)}, method=fnn.random_search(2))


@pytest.mark.parametrize("returned", [True, np.True_, 1, np.float32(1), np.ones(()), jnp.ones((), bool)])
def test_a_score_may_be_a_number_of_any_kind(returned):
    found = fnn.search(lambda h, key: returned, {"x": fnn.uniform(0.0, 1.0)}, method=fnn.random_search(2))
    assert found.best.score == 1


@pytest.mark.parametrize("number", [float, np.float32, jnp.float32])
def test_ends_of_a_range_may_be_numbers_of_any_kind(number):
    """And are values of one program."""
    seen = []

    def train(h, key):
        seen.append(h)
        return h["x"] + h["y"] + h["n"]

    low, high = number(0.5), number(1)
    space = {"x": fnn.uniform(low, high), "y": fnn.log_uniform(low, high)}
    space |= {"n": fnn.int_uniform(jnp.int32(3), np.int64(4))}
    fnn.search(train, space, method=fnn.random_search(8))
    assert [h["n"] for h in seen] in ([3, 4], [4, 3])


def test_options_that_are_floats_of_numpy_are_values():
    seen = []
    space = {"x": fnn.choice([np.float32(0.5), np.float32(2)])}
    found = fnn.search(lambda h, key: seen.append(h) or h["x"], space, method=fnn.grid_search())
    assert len(seen) == 1
    assert [outcome.score for outcome in found.outcomes] == [0.5, 2]


def test_a_value_may_decide_which_others_there_are():
    space = {"m": fnn.choice([0.0, 0.9]), "x": fnn.only_if("m", 0.9, fnn.uniform(0.0, 1.0))}
    found = fnn.search(lambda h, key: h["m"] + h.get("x", 5.0), space, method=fnn.grid_search(2))
    assert [outcome.score for outcome in found.outcomes] == pytest.approx([5.0, 1.15, 1.65])


@pytest.mark.parametrize("distribution", [fnn.int_uniform(1, 4), fnn.choice([1, 2, 3, 4])])
def test_all_hyperparameters_may_be_structure(distribution):
    found = fnn.search(lambda h, key: -1.0 * h["n"], {"n": distribution}, method=fnn.random_search(12))
    assert found.best.trial.hyperparameters == {"n": 1}
    assert [o.score for o in found.outcomes] == [-o.trial.hyperparameters["n"] for o in found.outcomes]


def accuracy(outputs, targets):
    return jnp.zeros(len(targets))


@pytest.mark.parametrize("data", [FEW, FOLDS], ids=["split", "folds"])
@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"rate": fnn.uniform(-1.0, -0.5)}, "where rate = -1: learning_rate must be at least 0, not -1.0"),
        ({"drop": fnn.uniform(0.5, 3.0)}, r"where drop = 3: .*dropout rate must be at least 0 and below 1"),
        ({"width": fnn.choice([4, 0])}, r"where width = 0: .*features must be at least 1, not 0; change the"),
        ({"outputs": fnn.choice([10, 5])}, r"where outputs = 5: .* not \(batch, 5\); change the space$"),
        # What is so wherever one looks is not the fault of the space.
        ({"outputs": fnn.choice([5]), "rate": fnn.uniform(0.0, 1.0)}, r"^where .*, not \(batch, 5\)$"),
        ({"metric": fnn.choice([accuracy])}, "metrics: a metric named accuracy would hide .*; rename it$"),
    ],
)
def test_a_range_of_a_training_is_checked_at_its_ends(data, space, message):
    def make(h):
        h = {"rate": 0.1, "drop": 0.1, "width": 4, "outputs": 10, **h}
        layers = fnn.linear(h["width"]), fnn.dropout(h["drop"]), fnn.linear(h["outputs"])
        metrics = (h["metric"],) if "metric" in h else ()
        net = fnn.serial(fnn.flatten, *layers)
        return fnn.Task(net, fnn.softmax_cross_entropy, fnn.sgd(h["rate"]), metrics=metrics)

    train = fnn.training(make, data, epochs=1, batch_size=50)
    with pytest.raises(ValueError, match=message):
        fnn.search(train, space, method=fnn.random_search(2))


def test_folds_know_classes_of_which_they_have_no_example():
    few = FEW.train.y < 8
    dataset = fnn.Dataset(fnn.Examples(FEW.train.x[few], FEW.train.y[few]), FEW.test, FEW.classes, "few")
    found = searched(fnn.random_search(1), data=fnn.stratified_folds(dataset, count=2), epochs=1)
    assert len(found.outcomes) == 1


@pytest.mark.parametrize("data", [FEW, FOLDS], ids=["split", "folds"])
def test_options_of_a_training_may_be_functions_and_schedules(data):
    def make(h):
        net = fnn.serial(fnn.flatten, fnn.linear(4), h["activation"], fnn.linear(10))
        return net, fnn.softmax_cross_entropy, fnn.sgd(h["rate"])

    options = {"activation": [fnn.relu, jnp.tanh], "rate": [0.1, fnn.cosine(0.1, steps=5)]}
    space = {name: fnn.choice(of) for name, of in options.items()}
    train = fnn.training(make, data, epochs=1, batch_size=50)
    found = fnn.search(train, space, method=fnn.grid_search(), how="vmap")
    assert len({outcome.curve[0]["validation_loss"] for outcome in found.outcomes}) == 4


def test_every_structure_of_a_training_is_checked():
    """Between the ends of a range, both of which fit."""

    def make(h):
        net = fnn.serial(fnn.flatten, fnn.linear(h["width"]), fnn.group_norm(4), fnn.linear(10))
        return net, fnn.softmax_cross_entropy, fnn.sgd(0.1)

    train = fnn.training(make, FEW, epochs=1)
    with pytest.raises(
        ValueError, match=r"^where width = \d+: group_norm_1: groups must divide the .*; change the space$"
    ):
        fnn.search(train, {"width": fnn.int_uniform(8, 16)}, method=fnn.random_search(8))


@pytest.mark.parametrize("points", [2, 3])
def test_importance_on_a_grid_does_not_depend_on_the_order_of_trials(points):
    space = {name: fnn.uniform(0.0, 1.0) for name in "abc"}
    found = fnn.search(lambda h, key: h["a"], space, method=fnn.grid_search(points))
    assert importance(found.outcomes, fnn.Space(space)) == pytest.approx({"a": 1, "b": 0, "c": 0})


def test_options_may_be_lists():
    found = fnn.search(
        lambda h, key: h["b"] + sum(h["w"]),
        {"w": fnn.choice([[32], [64, 64]]), "b": fnn.uniform(0.0, 1.0)},
        method=fnn.random_search(8),
    )
    assert found.best.trial.hyperparameters["w"] == [64, 64]
    assert found.best.score > 128


@pytest.mark.parametrize(
    "options", [[{"a": 1, "b": [2]}, {"a": 3, "b": [4]}], [1, True], [1, 1.0], [0.5, 2, None]]
)
def test_options_may_be_anything_that_a_config_can_hold(options):
    """A trial is given the option itself, and equal ones of two types are two."""
    seen = []

    def train(h, key):
        seen.append(h["x"])
        return 0.0

    found = fnn.search(train, {"x": fnn.choice(options)}, method=fnn.grid_search())
    assert [repr(outcome.trial.hyperparameters["x"]) for outcome in found.outcomes] == [*map(repr, options)]
    structure = [option for option in options if not isinstance(option, float)]
    assert [repr(option) for option in seen if not isinstance(option, jax.Array)] == [*map(repr, structure)]


def test_a_batch_of_all_examples_is_the_batch_of_their_number():
    data = fnn.split(fnn.digits(), validation=0.2)

    def make(h):
        return fnn.serial(fnn.flatten, fnn.linear(10)), fnn.softmax_cross_entropy, fnn.sgd(h["rate"])

    scores = []
    for size in ("all", len(data.train.x)):
        train = fnn.training(make, data, epochs=2, batch_size=size)
        found = fnn.search(
            train, {"rate": fnn.log_uniform(1e-2, 1.0)}, method=fnn.random_search(2), how="vmap"
        )
        scores.append([o.score for o in found.outcomes])
    assert scores[0] == scores[1]


def test_a_budget_too_small_for_a_trial_is_said():
    found = fnn.search(
        lambda h, key: h["x"], {"x": fnn.uniform(0.0, 1.0)}, method=fnn.random_search(4), max_epochs=2
    )
    with pytest.raises(
        ValueError, match="the budget of 2 epochs is too small for one epoch of each of 4 tri"
    ):
        _ = found.best


def test_all_trials_of_a_function_have_the_same_key():
    found = fnn.search(
        lambda h, key: jax.random.normal(key) + 0 * h["x"], {"x": fnn.uniform(0.0, 1.0)}, seed=3
    )
    assert {outcome.score for outcome in found.outcomes} == {float(jax.random.normal(jax.random.key(3)))}


def test_importance_is_the_share_that_a_hyperparameter_explains():
    """Ranks that follow one of two hyperparameters, and noise that follows none."""
    space = fnn.Space({"a": fnn.uniform(0.0, 1.0), "b": fnn.uniform(0.0, 1.0)})
    (asked,) = fnn.random_search(400).rounds(space, 1, 0)
    noise = np.random.default_rng(0).normal(size=400)

    def shares(score):
        rows = [
            fnn.Outcome(t, 1, float(score(t, k)), math.nan, (), False) for k, t in enumerate(asked.trials)
        ]
        return importance(rows, space)

    clear = shares(lambda trial, k: trial.point[0])
    assert clear["a"] > 0.93  # 24/25 of a rank's variance lies between five equal bins
    assert clear["b"] < 0.03
    none = shares(lambda trial, k: noise[k])
    assert max(none.values()) < 0.03
    both = shares(lambda trial, k: trial.point[0] + trial.point[1])
    assert 0.35 < both["a"] < 0.55
    assert 0.35 < both["b"] < 0.55


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnn.training(make, FEW, epochs=0), "epochs must be at least 1"),
        (lambda: fnn.training(make, FEW, batch_size=151), "batch_size 151 exceeds the 150 training examples"),
        (lambda: fnn.training(make, FEW, seeds=0), "seeds must be at least 1"),
        (lambda: fnn.training(make, FEW, seeds=2.5), "seeds must be an integer, not 2.5"),
        (lambda: fnn.training(make, FEW, seed=-1), "seed must be at least 0 and at most 4.29497e"),
        (lambda: fnn.search(lambda h, key: 0.0, {}), "has no hyperparameter"),
        (
            lambda: fnn.search(lambda h, key: 0.0, SPACE, seed=-1),
            "seed must be at least 0 and at most 4.29497e",
        ),
        (
            lambda: fnn.search(lambda h, key: 0.0, SPACE, seed=2**32),
            "seed must be at least 0 and at most 4.29",
        ),
        (lambda: fnn.search(lambda h, key: 0.0, SPACE, max_epochs=0), "max_epochs must be at least 1, not 0"),
        (
            lambda: fnn.search(lambda h, key: 0.0, SPACE, max_epochs=2.5),
            "max_epochs must be an integer, not 2.5",
        ),
        (lambda: fnn.search(lambda h, key: 0.0, SPACE, seconds=-1), "seconds must be above 0, not -1"),
        (
            lambda: fnn.search(lambda h, key: 0.0, SPACE, mesh=jax.make_mesh((1,), ("data",))),
            r"^mesh: axes of type Auto are wanted, one of them named population, not \('data',\) of types "
            r"Explicit; make it by fnn.mesh\(population=…\)$",
        ),
        (
            lambda: fnn.search(lambda h, key: 0.0, SPACE, mesh=jax.make_mesh((1, 1), ("data", "population"))),
            "of types Explicit, Explicit; make it by fnn.mesh",
        ),
        (
            lambda: fnn.search(lambda h, key: 0.0, SPACE, mesh=2),
            r"^mesh must be a mesh of devices, such as fnn.mesh\(population=2\), not 2$",
        ),
        (lambda: fnn.search(5, SPACE), "train must be a function of hyperparameters and a key, .*, not 5"),
        (lambda: fnn.search(lambda h, key: 0.0, [SPACE]), "a space must be a dict of distributions by name"),
        (lambda: fnn.search(lambda h, key: 0.0, None), "a space must be a dict of .*, not None"),
        (lambda: fnn.search(lambda h, key: 0.0, {"x": 0.5}), "x must be a distribution, such as uniform"),
        (
            lambda: fnn.search(lambda h, key: 0.0, SPACE, method=fnn.random_search),
            r"such as fnn.random_search\(\), not the function random_search, which was not called",
        ),
        (
            lambda: fnn.search(lambda h, key: 0.0, SPACE, method="random"),
            r"method must be a search method, .* not 'random'",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
