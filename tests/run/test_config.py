"""The grammar of a config: what is a call, what is data, and what is said of everything else."""

import re
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_cases import EVERYTHING, REQUIRED, ROOT, SMALL, changed, made, without

import fnn
from fnn.run._config import Call, Calls, ConfigError, Number, check
from fnn.run._read import read
from fnn.run._registry import functions

CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
HEAD = {"linear": {"features": 10}}


def layers(*members):
    return changed("model.layers", list(members))


def refused(raw):
    """What is said of a config that is wrong."""
    with pytest.raises(ConfigError) as caught:
        check(raw)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- calls ----------------------------------------------------------------------------------------------


def test_a_string_or_a_table_of_one_key_is_a_call():
    config = check(layers("flatten", {"linear": {"features": 3}}, {"relu": {}}))
    (calls,) = [value for name, value in config.model.arguments if name == "layers"]
    assert [(key, call.function) for key, call in calls.items] == [
        ("flatten_1", "flatten"),
        ("linear_1", "linear"),
        ("relu_1", "relu"),
    ]


def test_use_is_serial_unless_given():
    assert check(changed("model", {"layers": [HEAD]})).model.function == "serial"
    config = check(changed("model", {"use": "mlp", "hidden": [5]}))
    assert config.model.function == "mlp"
    assert dict(config.model.arguments)["hidden"] == (5,)


def test_defaults_are_filled_in():
    config = check(changed("model.layers", ["flatten", "dropout", HEAD]))
    assert config.seed == 0
    assert config.directory is None
    assert dict(config.split.arguments) == {"validation": 0.2, "seed": 0}
    assert config.loss == Call("softmax_cross_entropy", (("label_smoothing", Number(0.0)),))
    assert config.augment == Calls(())
    assert dict(config.optimizer.arguments)["b2"] == Number(0.999)
    settings = {"epochs": 3, "batch_size": 64, "standardize": True, "patience": None, "lsuv": False}
    assert dict(config.train.arguments) == settings
    dictionary = config.to_dict()
    assert dictionary["model"]["layers"][1] == {"dropout": {"rate": 0.5, "inverted": True}}
    kaiming = {"kaiming": {"scale": 2.0, "mode": "fan_in", "distribution": "normal"}}
    assert dictionary["model"]["layers"][2] == {
        "linear": {"features": 10, "bias": True, "kernel_init": kaiming}
    }


def test_layers_have_the_names_of_their_parameters():
    """Automatic names count per kind, whatever has its own name; the same in paths and in parameters."""
    raw = layers(
        "flatten",
        {"linear": {"features": 4}},
        "relu",
        {"linear": {"features": 4, "name": "stem"}},
        {"linear": {"features": 4, "name": ""}},
        {"residual": {"layers": [{"linear": {"features": 4}}, {"mlp": {"features": 4}}]}},
        {"residual": {"layers": ["relu"], "shortcut": {"linear": {"features": 10}}}},
    )
    config = check(raw)
    (calls,) = [value for name, value in config.model.arguments if name == "layers"]
    keys = [key for key, _ in calls.items]
    _, _, task = made(changed("model.layers", [*raw["model"]["layers"][:-1], HEAD]))
    assert keys[:-1] == [name for name, _ in task.net.children][:-1]
    assert keys == [
        "flatten_1",
        "linear_1",
        "relu_1",
        "stem",
        "linear_3",
        "residual_1",
        "residual_2",
    ]
    params, _ = task.net.init(jax.random.key(0), jnp.ones((2, 4)))
    assert sorted(params) == ["linear_1", "linear_3", "linear_4", "residual_1", "stem"]
    assert sorted(params["residual_1"]) == ["linear_1", "mlp_1"]


def test_a_residual_inside_a_residual_with_a_shortcut():
    raw = layers(
        {
            "residual": {
                "layers": [{"linear": {"features": 3}}, {"residual": {"layers": ["tanh"]}}],
                "shortcut": {"linear": {"features": 3, "bias": False, "name": "other"}},
            }
        }
    )
    _, _, task = made(raw)
    x = jax.random.normal(jax.random.key(1), (2, 5))
    params, state = task.net.init(jax.random.key(0), x)
    inside = params["residual_1"]
    assert sorted(inside) == ["linear_1", "shortcut"]
    h = np.asarray(x) @ inside["linear_1"]["kernel"] + np.asarray(inside["linear_1"]["bias"])[None]
    expected = np.asarray(x) @ inside["shortcut"]["kernel"] + h + np.tanh(h)
    np.testing.assert_allclose(task.net.apply(params, state, x)[0], expected, rtol=1e-5)


def test_a_chain_is_a_list_under_its_parameter_s_name():
    transforms = [{"clip_by_global_norm": {"max_norm": 1.0}}, {"sgd": {"learning_rate": 0.5}}]
    make, _, task = made(changed("optimizer", {"use": "chain", "transforms": transforms}))
    grads = jnp.array([3.0, 4.0])
    updates, _ = task.optimizer.update(grads, task.optimizer.init(grads), grads)
    np.testing.assert_allclose(updates, [-0.3, -0.4], rtol=1e-6)
    optimizer_paths = [path for path in make.paths() if path.startswith("optimizer")]
    assert optimizer_paths == ["optimizer.transforms.0.max_norm", "optimizer.transforms.1.learning_rate"]


# --- functions whose settings are bound -----------------------------------------------------------------


def test_a_loss_is_bound_to_its_settings():
    _, _, task = made(changed("loss.label_smoothing", 0.3))
    logits = np.array([[1.0, 2.0, 4.0]], np.float32)
    log_p = logits - np.log(np.exp(logits).sum())
    expected = -(0.8 * log_p[0, 1] + 0.1 * log_p[0, 0] + 0.1 * log_p[0, 2])
    np.testing.assert_allclose(task.loss(jnp.array(logits), jnp.array([1])), [expected], rtol=1e-6)


def test_penalties_are_bound_to_their_settings():
    penalties = [{"l2": {"strength": 0.5}}, {"l1": {"strength": 0.1, "pattern": "*bias"}}]
    _, _, task = made(changed("loss.penalties", penalties))
    params = {"head": {"kernel": jnp.array([3.0, -4.0]), "bias": jnp.array([10.0, -20.0])}}
    assert [float(penalty(params)) for penalty in task.penalties] == pytest.approx([12.5, 3.0])


def test_augmentations_are_bound_to_their_settings():
    """Over 40 images, a crop with padding 1 reaches nine shifts and one with padding 0 a single one."""
    image = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1).repeat(40, 0)
    for padding, shifts in ((0, 1), (1, 9)):
        _, _, task = made(changed("train.augment", [{"random_crop": {"padding": padding}}]))
        (crop,) = task.augment
        assert len(np.unique(np.asarray(crop(jax.random.key(0), image)).reshape(40, -1), axis=0)) == shifts


def test_an_initializer_is_bound_to_its_settings():
    init = {"xavier": {"scale": 0.0, "distribution": "uniform"}}
    _, _, task = made(layers({"linear": {"features": 3, "kernel_init": init}}))
    params, _ = task.net.init(jax.random.key(0), jnp.ones((1, 4)))
    assert not np.asarray(params["linear_1"]["kernel"]).any()


def test_an_activation_with_settings_is_a_layer():
    _, _, task = made(changed("model", {"use": "relu"}))
    np.testing.assert_array_equal(
        fnn.nn._layer.as_layer(task.net).apply({}, {}, jnp.array([-1.0, 2.0]))[0], [0, 2]
    )


# --- schedules ------------------------------------------------------------------------------------------


def rates(task, counts):
    """The learning rate of an `sgd` after so many steps: how far a gradient of 1 goes."""
    one = jnp.ones(())
    state = task.optimizer.init(one)
    return [-float(task.optimizer.update(one, state._replace(count=jnp.asarray(n)))[0]) for n in counts]


def sgd(learning_rate):
    return changed("optimizer", {"use": "sgd", "learning_rate": learning_rate})


def cosine(t, peak, steps, end=0.0):
    return end + (peak - end) * (1 + np.cos(np.pi * t / steps)) / 2


def test_an_optimizer_keeps_a_whole_schedule_with_its_end_points_as_values():
    make, values, task = made(sgd({"cosine": {"peak": 0.5, "end": 0.1}}), steps=10)
    mine = {path: value for path, value in values.items() if path.startswith("optimizer")}
    assert mine == {
        "optimizer.learning_rate.peak": 0.5,
        "optimizer.learning_rate.warmup": 0.0,
        "optimizer.learning_rate.end": 0.1,
    }
    expected = [cosine(t, 0.5, 10, 0.1) for t in range(11)]
    assert rates(task, range(11)) == pytest.approx(expected, rel=1e-5)
    other = make(values | {"optimizer.learning_rate.peak": 2.0})
    assert rates(other, [0]) == pytest.approx([2.0])


def test_the_length_of_the_run_is_filled_in_and_reaches_the_end():
    _, _, task = made(sgd({"cosine": {"peak": 0.5, "end": 0.1}}), steps=54)
    before, last = rates(task, [53, 54])
    assert before > 0.1003
    assert last == pytest.approx(0.1, rel=1e-6)


def test_steps_that_are_given_win():
    _, values, task = made(sgd({"cosine": {"peak": 0.5, "steps": 4}}), steps=10)
    assert rates(task, [0, 2, 4, 9]) == pytest.approx([0.5, 0.25, 0, 0], abs=1e-7)
    assert "optimizer.learning_rate.steps" not in values


def test_steps_are_filled_in_at_any_depth():
    schedule = {"piecewise": {"boundaries": [5], "values": [1.0, {"cosine": {"peak": 0.5}}]}}
    _, _, task = made(sgd(schedule), steps=10)
    assert rates(task, [4, 5, 10]) == pytest.approx([1.0, 0.25, 0.0], abs=1e-7)


def test_a_list_of_values_is_hyperparameters_one_by_one():
    make, values, task = made(sgd({"piecewise": {"boundaries": [2, 4], "values": [1, 0.5, 0.25]}}))
    assert rates(task, [1, 2, 3, 4]) == [1, 0.5, 0.5, 0.25]
    name = "optimizer.learning_rate.values"
    mine = {path: value for path, value in values.items() if path.startswith(name)}
    assert mine == {f"{name}.0": 1.0, f"{name}.1": 0.5, f"{name}.2": 0.25}
    assert rates(make(values | {f"{name}.1": 3.0}), [1, 2, 3, 4]) == [1, 3, 3, 0.25]


def test_a_schedule_of_a_penalty_is_a_value_that_is_evaluated_at_the_step():
    strength = {"piecewise": {"boundaries": [3], "values": [1.0, 2.0]}}
    make, values, _ = made(changed("loss.penalties", [{"l2": {"strength": strength}}]))
    assert callable(values["loss.penalties.0.strength"])
    params = {"kernel": jnp.array([3.0, 4.0])}
    for step, expected in ((0, 25.0), (2, 25.0), (3, 50.0)):
        task = fnn.train._state.task_at(make, values, jnp.asarray(step))
        assert float(task.penalties[0](params)) == expected


def test_a_schedule_of_a_dropout_rate_is_evaluated_at_the_step():
    rate = {"step_decay": {"initial": 0.5, "every": 5, "factor": 0.0}}
    make, values, _ = made(layers({"dropout": {"rate": rate}}))
    assert callable(values["model.dropout_1.rate"])
    x = jnp.ones((1, 1000))
    dropped = {}
    for step in (0, 4, 5):
        net = fnn.train._state.task_at(make, values, jnp.asarray(step)).net
        y, _ = net.apply({}, {}, x, train=True, key=jax.random.key(0))
        dropped[step] = float((y == 0).mean())
    assert dropped[0] == pytest.approx(0.5, abs=0.06)
    assert dropped[4] == dropped[0]
    assert dropped[5] == 0


# --- strict values --------------------------------------------------------------------------------------

GOOD = [
    ("optimizer.learning_rate", 3, Number(3.0)),
    ("optimizer.learning_rate", 0.1, Number(0.1)),
    ("optimizer.learning_rate", 3.4e38, Number(3.4e38)),
    ("optimizer.learning_rate", 1.2e-38, Number(1.2e-38)),
    ("optimizer.learning_rate", 0, Number(0.0)),
    ("split.validation", 300, 300.0),
    ("train.batch_size", "all", "all"),
    ("train.standardize", False, False),
]


@pytest.mark.parametrize(("key", "given", "expected"), GOOD)
def test_values_that_fit(key, given, expected):
    section, name = key.split(".")
    value = dict(getattr(check(changed(key, given)), section).arguments)[name]
    assert value == expected
    assert type(value) is type(expected)


def test_lists_become_tuples_that_can_be_hashed():
    raw = layers({"conv": {"features": 2, "kernel_size": [3, 5], "padding": [[1, 1], [2, 2]]}})
    (calls,) = [value for name, value in check(raw).model.arguments if name == "layers"]
    settings = dict(calls.items[0][1].arguments)
    assert settings["kernel_size"] == (3, 5)
    assert settings["padding"] == ((1, 1), (2, 2))
    hash(check(raw))


FLOAT32 = "expected a number that float32 can hold, 0 or of a size from 1.2e-38 to 3.4e38"
NO_STRING = "expected a number or a schedule, not the string"
NO_QUOTES = "write a number as 0.1, without quotes"
BAD_VALUES = [
    ("seed", True, "seed: expected an integer, not true"),
    ("seed", "0", "seed: expected an integer, not '0'"),
    ("seed", 1.0, "seed: expected an integer, not 1.0"),
    ("seed", -1, "seed: expected an integer from 0 to 2³² − 1, not -1"),
    ("seed", 2**32, "seed: expected an integer from 0 to 2³² − 1, not 4294967296"),
    ("train.epochs", True, "train.epochs: expected an integer, not true"),
    ("train.epochs", "3", "train.epochs: expected an integer, not '3'"),
    ("train.epochs", 3.0, "train.epochs: expected an integer, not 3.0"),
    ("train.batch_size", "some", "train.batch_size: expected an integer or \"all\", not 'some'"),
    ("train.standardize", 1, "train.standardize: expected true or false, not 1"),
    ("train.standardize", "yes", "train.standardize: expected true or false, not 'yes'"),
    ("split.validation", "0.2", "split.validation: expected a number, not '0.2'"),
    ("split.validation", float("nan"), "split.validation: expected a number, not nan"),
    ("split.validation", True, "split.validation: expected a number, not true"),
    ("optimizer.learning_rate", True, "optimizer.learning_rate: expected a number or a schedule, not true"),
    ("optimizer.learning_rate", [1.0], "optimizer.learning_rate: expected a number or a schedule, not [1.0]"),
    ("optimizer.learning_rate", float("nan"), "optimizer.learning_rate: expected a number, not nan"),
    ("optimizer.learning_rate", float("inf"), "optimizer.learning_rate: expected a number, not inf"),
    ("optimizer.learning_rate", "3e-3", f"optimizer.learning_rate: {NO_STRING} '3e-3'; {NO_QUOTES}"),
    ("optimizer.learning_rate", ".1", f"optimizer.learning_rate: {NO_STRING} '.1'; {NO_QUOTES}"),
    ("optimizer.learning_rate", "", f"optimizer.learning_rate: {NO_STRING} ''; {NO_QUOTES}"),
    ("optimizer.learning_rate", 1e39, f"optimizer.learning_rate: {FLOAT32}, not 1e+39"),
    ("optimizer.learning_rate", -(10**39), f"optimizer.learning_rate: {FLOAT32}, not -1e+39"),
    ("optimizer.learning_rate", 1e-38, f"optimizer.learning_rate: {FLOAT32}, not 1e-38"),
    ("optimizer.learning_rate", {"cosine": {"peak": 1e39}}, f"optimizer.learning_rate.peak: {FLOAT32}"),
    (
        "search.space",
        {"optimizer.learning_rate": {"uniform": {"low": 0.0, "high": 1e39}}},
        f"search.space.optimizer.learning_rate.high: {FLOAT32}, not 1e+39",
    ),
    ("run.directory", 3, "run.directory: expected a string, not 3"),
    ("train", 3, "train: expected a table, not 3"),
    ("model", "serial", "model: expected a table, not 'serial'"),
    ("model.layers", "relu", "model.layers: expected a list, each a layer, not 'relu'"),
    ("model.layers", [3], "model.layers.0: a layer is a name or a table with one name as its key, not 3"),
    ("model.layers", [{}], "model.layers.0: a layer is a name or a table with one name as its key, not {}"),
    ("model.layers", [{"relu": {}, "tanh": {}}], "model.layers.0: a layer is a name or a table with one"),
    ("model.layers", [{"linear": 3}], "model.layers.0.linear: expected a table, not 3"),
    ("loss.penalties", "l2", "loss.penalties: expected a list, each a penalty, not 'l2'"),
    (
        "train.augment",
        "random_flip",
        "train.augment: expected a list, each an augmentation, not 'random_flip'",
    ),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD_VALUES)
def test_values_that_do_not_fit(key, value, message):
    assert refused(changed(key, value)).startswith(message)


BAD_SETTINGS = [
    ({"linear": {"features": 3.0}}, "model.linear_1.features: expected an integer, not 3.0"),
    ({"linear": {"features": 3, "bias": 1}}, "model.linear_1.bias: expected true or false, not 1"),
    ({"linear": {"features": 3, "name": 3}}, "model.3.name: expected a string, not 3"),
    ({"mlp": {"hidden": [3, "a"]}}, "model.mlp_1.hidden: expected a list, each an integer, not [3, 'a']"),
    ({"mlp": {"hidden": 3}}, "model.mlp_1.hidden: expected a list, each an integer, not 3"),
    (
        {"conv": {"features": 3, "kernel_size": [3, "x"]}},
        "model.conv_1.kernel_size: expected an integer or a list, each an integer, not [3, 'x']",
    ),
    (
        {"conv": {"features": 3, "kernel_size": 3, "padding": "same"}},
        'model.conv_1.padding: expected "SAME" or "VALID" or an integer or a list, each [an integer, an '
        "integer], not 'same'",
    ),
    (
        {"linear": {"features": 3, "kernel_init": {"kaiming": {"mode": "fan"}}}},
        'model.linear_1.kernel_init.mode: expected "fan_in" or "fan_out" or "fan_avg", not \'fan\'',
    ),
]


@pytest.mark.parametrize(("layer", "message"), BAD_SETTINGS)
def test_settings_of_a_layer_that_do_not_fit(layer, message):
    assert refused(layers(layer)) == message


@pytest.mark.parametrize("name", ["layers", "name", "use"])
@pytest.mark.parametrize("container", ["serial", "residual", "mixed_precision"])
def test_a_layer_that_no_path_would_reach_is_refused(name, container):
    inside = [{"linear": {"features": 3, "name": name}}]
    message = f"{name} is a setting of {container}; give the layer another name"
    assert refused(layers({container: {"layers": inside}})) == f"model.{container}_1.{name}: {message}"
    if container == "serial":
        assert refused(layers(*inside)) == f"model.{name}: {message}"


# --- unknown, wrong and missing -------------------------------------------------------------------------

UNKNOWN = [
    ("trian", {}, "trian: there is no such key here; did you mean 'train'?"),
    ("train.epoch", 3, "train.epoch: [train] has no such setting; did you mean 'epochs'?"),
    (
        "train.seed",
        3,
        "train.seed: [train] has no such setting; there is augment, batch_size, epochs, freeze, lsuv, metrics, "
        "patience, standardize",
    ),
    ("train.augmnet", [], "train.augmnet: [train] has no such setting; did you mean 'augment'?"),
    ("train.metric", [], "train.metric: [train] has no such setting; did you mean 'metrics'?"),
    (
        "loss.penalty",
        [],
        "loss.penalty: softmax_cross_entropy has no such setting; did you mean 'penalties'?",
    ),
    ("split.valid", 3, "split.valid: [split] has no such setting; did you mean 'validation'?"),
    ("run.directroy", "a", "run.directroy: there is no such key here; did you mean 'directory'?"),
    ("data.path", "a", "data.path: digits has no such setting; there is none"),
    ("data.use", "digit", "data.use: there is no data set 'digit'; did you mean 'digits'?"),
    ("loss.use", "softmax_crossentropy", "loss.use: there is no loss 'softmax_crossentropy'; did you mean"),
    ("loss.smoothing", 0.1, "loss.smoothing: softmax_cross_entropy has no such setting; did you mean"),
    ("loss.penalties", ["l3"], "loss.penalties.0: there is no penalty 'l3'; there is elastic_net, l1, l2"),
    ("optimizer.use", "Adam", "optimizer.use: there is no optimizer 'Adam'; did you mean 'adam'?"),
    (
        "optimizer.lerning_rate",
        1,
        "optimizer.lerning_rate: adam has no such setting; did you mean 'learning_r",
    ),
    (
        "optimizer.learning_rate",
        {"cosin": {}},
        "optimizer.learning_rate: there is no schedule 'cosin'; did you",
    ),
    (
        "optimizer.learning_rate",
        {"cosine": {"peek": 3}},
        "optimizer.learning_rate.peek: cosine has no such setting; did you mean 'peak'?",
    ),
    ("model.use", "seriel", "model.use: there is no layer 'seriel'; did you mean 'serial'?"),
    ("model.layers", ["flaten"], "model.flaten_1: there is no layer 'flaten'; did you mean 'flatten'?"),
    (
        "model.layers",
        [{"residual": {"layers": ["relu", {"convolution": {}}]}}],
        "model.residual_1.convolution_1: there is no layer 'convolution'; ",
    ),
    (
        "model.layers",
        [{"linear": {"features": 3, "kernel_init": "xaver"}}],
        "model.linear_1.kernel_init: there is no initializer 'xaver'; did you mean 'xavier'?",
    ),
    (
        "model.layers",
        [{"linear": {"feature": 3, "name": "head"}}],
        "model.head.feature: linear has no such setting; did you mean 'features'?",
    ),
    (
        "train.augment",
        ["random_flop"],
        "train.augment.0: there is no augmentation 'random_flop'; did you mean",
    ),
]


@pytest.mark.parametrize(("key", "value", "message"), UNKNOWN)
def test_unknown_names_and_the_nearest_valid_one(key, value, message):
    assert refused(changed(key, value)).startswith(message)


WRONG_KIND = [
    (
        "model.layers",
        ["adam"],
        "model.adam_1: adam is an optimizer, a layer is wanted; there is adaptive_avg_pool, ",
    ),
    ("model.use", "l2", "model.use: l2 is a penalty, a layer is wanted"),
    ("optimizer.use", "relu", "optimizer.use: relu is an activation, an optimizer is wanted"),
    ("optimizer.use", "cosine", "optimizer.use: cosine is a schedule, an optimizer is wanted"),
    (
        "optimizer.learning_rate",
        "adam",
        "optimizer.learning_rate: adam is an optimizer, a schedule is wanted",
    ),
    ("loss.use", "softmax", "loss.use: softmax is an activation, a loss is wanted"),
    ("loss.penalties", ["relu"], "loss.penalties.0: relu is an activation, a penalty is wanted"),
    ("data.use", "conv", "data.use: conv is a layer, a data set is wanted"),
    ("train.augment", ["dropout"], "train.augment.0: dropout is a layer, an augmentation is wanted"),
    ("model.use", 3, "model.use: expected the name of a layer, not 3"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG_KIND)
def test_functions_of_another_kind(key, value, message):
    assert refused(changed(key, value)).startswith(message)


MISSING = [
    (without("data"), "data: the table [data] is missing"),
    (without("model"), "model: the table [model] is missing"),
    (without("loss"), "loss: the table [loss] is missing"),
    (without("optimizer"), "optimizer: the table [optimizer] is missing"),
    ({}, "data: the table [data] is missing"),
    (without("data.use"), 'data: which data set? Write use = "…", with cifar10, digits, '),
    (
        without("loss.use"),
        'loss: which loss? Write use = "…", with huber, kl_divergence, mean_absolute_error, ',
    ),
    (without("optimizer.learning_rate"), "optimizer: adam needs learning_rate, a number or a schedule"),
    (changed("data.use", "npz"), "data: npz needs path, a string"),
    (layers("linear"), "model.linear_1: linear needs features, an integer"),
    (
        layers({"conv": {"features": 3, "name": "stem"}}),
        "model.stem: conv needs kernel_size, an integer or a list",
    ),
    (changed("optimizer.learning_rate", "cosine"), "optimizer.learning_rate: cosine needs peak, a number or"),
    (changed("loss.penalties", ["l2"]), "loss.penalties.0: l2 needs strength, a number or a schedule"),
    (changed("optimizer", {"use": "ema"}), "optimizer: ema needs optimizer, an optimizer"),
    (changed("optimizer", {"use": "by_path"}), "optimizer: by_path needs default, an optimizer"),
    (changed("search.space", {"seed": "choice"}), "search.space.seed: choice needs options, a list"),
]


@pytest.mark.parametrize(("raw", "message"), MISSING, ids=[message for _, message in MISSING])
def test_what_is_missing(raw, message):
    assert refused(raw).startswith(message)


def test_sections_with_defaults_may_be_missing():
    config = check(without("split", text=SMALL.replace("[train]\nepochs = 3\nbatch_size = 64", "")))
    settings = {"epochs": 10, "batch_size": 128, "standardize": True, "patience": None, "lsuv": False}
    assert dict(config.train.arguments) == settings
    assert dict(config.split.arguments) == {"validation": 0.1, "seed": 0}


# --- the resolved config --------------------------------------------------------------------------------


def round_trips(config):
    again = check(tomllib.loads(config.to_toml()))
    assert again == config
    assert again.to_toml() == config.to_toml()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_repository_round_trips(path):
    config = read(path)
    assert config.name == path.stem
    round_trips(config)


def test_there_are_configs():
    assert len(CONFIGS) >= 5


def test_a_config_of_everything_round_trips():
    config = check(tomllib.loads(EVERYTHING))
    round_trips(config)
    assert config.directory == "runs/everything"
    assert config.seed == 3
    # Nothing that was written is lost: a default elsewhere would make another config equal.
    assert config != check(tomllib.loads(EVERYTHING.replace("rate = 0.99,", "rate = 0.98,")))
    assert config != check(tomllib.loads(EVERYTHING.replace("values = [0.1,", "values = [0.2,")))


@pytest.mark.parametrize("name", sorted(functions()))
def test_every_function_can_be_written_read_and_made(name):
    """A function is usable from a config the moment it is exported."""
    function = functions()[name]
    settings = {
        key: REQUIRED[key]
        for key, setting in function.parameters.items()
        if (setting.required or setting.variadic) and key != "steps"
    }
    if name == "by_path":
        settings["groups"] = [{"group": {"pattern": "*", "optimizer": REQUIRED["optimizer"]}}]
    grouped = [{name: settings}] if name == "group" else []
    key, value = {
        "parameter group": (
            "optimizer",
            {"use": "by_path", "default": REQUIRED["default"], "groups": grouped},
        ),
        "metric": ("train.metrics", [{name: settings}]),
        "layer": ("model.layers", [{name: settings}]),
        "activation": ("model.layers", [{name: settings}]),
        "initializer": ("model.layers", [{"linear": {"features": 3, "kernel_init": {name: settings}}}]),
        "loss": ("loss", {"use": name, **settings}),
        "penalty": ("loss.penalties", [{name: settings}]),
        "optimizer": ("optimizer", {"use": name, **settings}),
        "schedule": ("optimizer.learning_rate", {name: settings}),
        "data set": ("data", {"use": name, **settings}),
        "augmentation": ("train.augment", [{name: settings}]),
        "distribution": ("search", {"space": {"a.path": {name: settings}}}),
        "search method": ("search", {"method": {name: settings}}),
    }[function.kind]
    raw = changed(key, value)
    round_trips(check(raw))
    make, values, _ = made(raw)
    assert sorted(values) == sorted(make.paths())


# --- files ----------------------------------------------------------------------------------------------


def test_read_names_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace('use = "adam"', 'use = "adm"'))
    with pytest.raises(
        ConfigError, match=f"^{re.escape(str(path))}: optimizer.use: there is no optimizer 'adm'"
    ):
        read(path)
    assert read(path, ("optimizer=adam",)).name == "mine"


DEEP = "its brackets are nested too deep to be read"
TOO_MUCH = {
    "digits": ("9" * 5000, "an integer has thousands of digits"),
    "lists": ("[" * 3000 + "]" * 3000, DEEP),
    "tables": ("{a = " * 3000 + "1" + "}" * 3000, DEEP),
    "lists that are TOML": ("[" * 300 + "]" * 300, "nested too deep|expected an integer"),
}


@pytest.mark.parametrize(("value", "message"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_values_that_are_too_much_for_python(tmp_path, value, message):
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace("epochs = 3", f"epochs = {value}"))
    with pytest.raises(ConfigError, match=message):
        read(path)
    path.write_text(SMALL)
    with pytest.raises(ConfigError, match=r"^.{,300}$"):
        read(path, (f"train.epochs={value}",))
