"""Config files: what they may say, what they become, and what is said of mistakes."""

import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.run._build import make_and_values
from fnn.run._config import ConfigError, check, override, read
from fnn.run._registry import functions

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))

BASE = """
[data]
use = "digits"
[model]
layers = [
  {conv = {features = 4, kernel_size = [3, 3]}}, "relu", {max_pool = {window = 2}},
  {residual = {layers = [{conv = {features = 8, kernel_size = 3}}], shortcut = {conv = {features = 8, kernel_size = 1}}}},
  "flatten", {dropout = {rate = 0.25}}, {linear = {features = 10, name = "head"}},
]
[loss]
use = "softmax_cross_entropy"
label_smoothing = 0.1
penalties = [{l2 = {strength = 1e-3}}, "l1"]
[optimizer]
use = "chain"
transforms = [{clip_by_global_norm = {max_norm = 1}}, {adam = {learning_rate = {cosine = {peak = 0.5}}}}]
[train]
augment = ["random_flip", {random_crop = {padding = 1}}]
"""


def raw(*overrides):
    config = tomllib.loads(BASE.replace('"l1"', "{l1 = {strength = 1e-4}}"))
    for text in overrides:
        config = override(config, text)
    return config


def built(*overrides, steps=100):
    return make_and_values(check(raw(*overrides)), steps)


# --- what a config becomes ------------------------------------------------------------------------------


def test_a_config_makes_the_calls_that_a_script_would():
    make, values = built()
    task = make(values)
    script = fnn.serial(
        fnn.conv(4, (3, 3)),
        fnn.relu,
        fnn.max_pool(2),
        fnn.residual(fnn.conv(8, 3), shortcut=fnn.conv(8, 1)),
        fnn.flatten,
        fnn.dropout(0.25),
        fnn.linear(10, name="head"),
    )
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    for (params, state), net in ((net.init(jax.random.key(0), x), net) for net in (task.net, script)):
        logits, _ = net.apply(params, state, x)
        if net is task.net:
            expected, structure = logits, jax.tree.structure(params)
    np.testing.assert_array_equal(logits, expected)
    assert jax.tree.structure(params) == structure
    y = jnp.array([1, 2, 3])
    np.testing.assert_allclose(
        task.loss(logits, y), fnn.softmax_cross_entropy(logits, y, label_smoothing=0.1), rtol=1e-6
    )
    np.testing.assert_allclose(
        sum(penalty(params) for penalty in task.penalties),
        fnn.l2(params, 1e-3) + fnn.l1(params, 1e-4),
        rtol=1e-6,
    )
    assert [augment.__name__ for augment in task.augment] == ["random_flip", "random_crop"]


def test_values_are_the_hyperparameters_by_path():
    _, values = built()
    assert values["model.dropout_1.rate"] == 0.25
    assert values["loss.penalties.1.strength"] == 1e-4
    assert values["optimizer.transforms.0.max_norm"] == 1.0
    assert values["optimizer.transforms.1.learning_rate.peak"] == 0.5
    assert values["model.residual_1.conv_1.kernel_init.scale"] == 2.0
    assert values["model.residual_1.shortcut.kernel_init.scale"] == 2.0
    assert not any("features" in path or "kernel_size" in path for path in values)


def test_make_is_the_same_structure_for_other_values():
    make, _ = built()
    same, values = built("model.dropout_1.rate=0.5", "optimizer.transforms.1.learning_rate.peak=0.1")
    other, _ = built("model.head.bias=false")
    assert make == same
    assert hash(make) == hash(same)
    assert values["model.dropout_1.rate"] == 0.5
    assert make != other
    assert set(make.paths()) == set(values)


def test_a_value_without_a_place_is_an_error():
    make, values = built()
    with pytest.raises(ConfigError, match=r"model\.dropout_2\.rate: no hyperparameter has this path"):
        make({**values, "model.dropout_2.rate": 0.1})


@pytest.mark.parametrize(("given", "last"), [("", 100), ("steps=50, ", 50)])
def test_schedules_last_as_long_as_the_run_unless_told(given, last):
    schedule = f"{{cosine = {{{given.replace('=', ' = ')}peak = 1.0, end = 0.25}}}}"
    make, values = built("optimizer=sgd", f"optimizer.learning_rate={schedule}")
    optimizer = make(values).optimizer
    params = jnp.ones(1)

    def rate(step):
        updates, _ = optimizer.update(params, fnn.optim.SGDState(jnp.asarray(step)), params)
        return -float(updates[0])

    assert rate(last // 2) == pytest.approx(0.625)
    assert rate(last) == pytest.approx(0.25)


def test_a_schedule_outside_an_optimizer_is_evaluated_at_the_step():
    _, values = built("model.dropout_1.rate={step_decay={initial=0.5,every=10,factor=0.5}}")
    schedule = values["model.dropout_1.rate"]
    assert [float(schedule(step)) for step in (0, 9, 10, 20)] == [0.5, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_round_trip(path):
    config = read(path)
    assert check(tomllib.loads(config.to_toml())) == config
    make, values = make_and_values(config, 10)
    make(values)


def test_a_config_with_everything_round_trips_with_its_defaults():
    config = check(raw('run={directory="runs/mine"}'))
    resolved = tomllib.loads(config.to_toml())
    assert check(resolved) == config
    assert resolved["train"]["batch_size"] == 128
    assert resolved["model"]["layers"][0]["conv"]["padding"] == "SAME"
    assert resolved["run"] == {"directory": "runs/mine"}


def test_every_layer_has_the_kind_of_its_name():
    arguments = {"conv": (2, 3), "linear": (2,), "max_pool": (2,), "avg_pool": (2,)}
    for name, function in functions().items():
        if function.kind == "layer":
            assert function.call(*arguments.get(name, ())).kind == name


# --- overrides ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("seed=3", "seed", 3),
        ("train.epochs=3", "train.epochs", 3),
        ("model.head.features=20", "model.layers.6.linear.features", 20),
        ("model.layers.6.features=20", "model.layers.6.linear.features", 20),
        ("model.relu_1=tanh", "model.layers.1", "tanh"),
        ("model.residual_1.conv_1.features=3", "model.layers.3.residual.layers.0.conv.features", 3),
        (
            "optimizer.transforms.1.learning_rate.peak=2",
            "optimizer.transforms.1.adam.learning_rate.cosine.peak",
            2,
        ),
        ('model.layers=["flatten"]', "model.layers", ["flatten"]),
        ("data.use=mnist", "data.use", "mnist"),
    ],
)
def test_override(text, where, expected):
    before = raw()
    node = override(before, text)
    for name in where.split("."):
        node = node[int(name)] if isinstance(node, list) else node[name]
    assert node == expected
    assert before == raw()


def test_another_function_keeps_the_settings_that_both_have():
    config = {"optimizer": {"use": "momentum", "learning_rate": 0.1, "momentum": 0.5}}
    assert override(config, "optimizer=adam")["optimizer"] == {"use": "adam", "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs", "an override is key=value"),
        (
            "model.haed.features=3",
            "model.haed: there is nothing of this name to override; did you mean 'head'",
        ),
        ("seed.x=3", "seed.x: there is no such|seed.x: .*no parts|seed: "),
        ("model.layers=[", "model.layers: the value .* is not TOML"),
        ("model.layers.9=relu", "model.layers.9: there is nothing of this name"),
    ],
)
def test_overrides_that_lead_nowhere(text, message):
    with pytest.raises(ConfigError, match=message):
        check(raw(text))


# --- mistakes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.use=adam", "optimiser: there is no such key here; did you mean 'optimizer'"),
        ("train.epoch=3", "train.epoch: fit has no such setting; did you mean 'epochs'"),
        ("train.report=3", "train.report: fit has no such setting"),
        ("model.conv_1.feature=3", "model.conv_1.feature: conv has no such setting; did you mean 'features'"),
        ("model.relu_1=rleu", "there is no layer 'rleu'; did you mean 'relu'"),
        ("model.relu_1=adam", "adam is an optimizer, a layer is wanted"),
        ("optimizer=relu", "optimizer.use: relu is an activation, an optimizer is wanted"),
        ("data.use=digit", "data.use: there is no data set 'digit'; did you mean 'digits'"),
        ("model.conv_1.features=2.5", "model.conv_1.features: expected an integer, not 2.5"),
        ("model.conv_1.features=true", "model.conv_1.features: expected an integer, not true"),
        ('model.conv_1.features="4"', "model.conv_1.features: expected an integer, not '4'"),
        ("model.conv_1.bias=1", "model.conv_1.bias: expected true or false, not 1"),
        ("model.conv_1.kernel_size=[3]", r"expected an integer or \[an integer, an integer\], not \[3\]"),
        ("model.conv_1.padding=SAMEE", 'expected "SAME" or "VALID" or'),
        ("model.dropout_1.rate=true", "model.dropout_1.rate: expected a number or a schedule, not true"),
        ("model.dropout_1.rate=nan", "model.dropout_1.rate: expected a number, not nan"),
        ("model.dropout_1.rate=inf", "model.dropout_1.rate: expected a number, not inf"),
        ('model.dropout_1.rate="0.3"', "there is no schedule '0.3'"),
        ("train.batch_size=some", "train.batch_size: expected an integer or \"all\", not 'some'"),
        ("loss.penalties=l2", "loss.penalties: expected a list, each a penalty"),
        ("loss.penalties=[{l2={}}]", "loss.penalties.0: l2 needs strength, a number or a schedule"),
        ("model.layers=[{relu={},tanh={}}]", "a layer is a name or a table with one name as its key"),
        ("optimizer={learning_rate=1}", 'optimizer: which optimizer\\? Write use = "…"'),
        ("seed=-1", "seed: expected an integer from 0"),
        ("run.folder=x", "run.folder: there is no such key here"),
        ("model=3", "model: expected a table, not 3"),
    ],
)
def test_mistakes_are_named_with_their_key(change, message):
    with pytest.raises(ConfigError, match=message):
        check(raw(change))


@pytest.mark.parametrize("section", ["data", "model", "loss", "optimizer"])
def test_missing_sections(section):
    config = raw()
    del config[section]
    with pytest.raises(ConfigError, match=rf"{section}: a \[{section}\] table is missing"):
        check(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.dropout_1.rate=1.5", "model.dropout_1: dropout rate must be at least 0 and below 1, not 1.5"),
        (
            "optimizer.transforms.1.learning_rate=-1",
            "optimizer.transforms.1: learning_rate must be at least 0, not -1.0",
        ),
        ("model.conv_1.features=0", "model.conv_1: features must be at least 1, not 0"),
    ],
)
def test_numbers_out_of_range_are_named_with_their_key(change, message):
    make, values = built(change)
    with pytest.raises(ConfigError, match=message):
        make(values)
