"""Structure, which is compiled, and values, which are passed in."""

import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_cases import EVERYTHING, SMALL, changed, made

import fnn
from fnn.run._build import call_plainly, make_and_values
from fnn.run._config import ConfigError, check
from fnn.run._prepare import prepare
from fnn.run._read import override
from fnn.train._fit import _chunk

BASE = changed(
    "model.layers",
    [
        {"conv": {"features": 2, "kernel_size": 3}},
        "batch_norm",
        "relu",
        {"dropout": {"rate": 0.5}},
        "flatten",
        {"linear": {"features": 10, "name": "head"}},
    ],
) | {
    "optimizer": {"use": "momentum", "learning_rate": {"cosine": {"peak": 0.1}}},
}


def make_of(*texts, raw=BASE, steps=10):
    for text in texts:
        raw = override(raw, text)
    return make_and_values(check(raw), steps)


SAME = [
    "optimizer.learning_rate.peak=0.5",
    "optimizer.learning_rate.warmup=0.1",
    "optimizer.learning_rate.end=1e-3",
    "optimizer.momentum=0.5",
    "model.dropout_1.rate=0.1",
    "model.batch_norm_1.momentum=0.5",
    "model.head.kernel_init={kaiming = {scale = 1}}",
    "loss.label_smoothing=0.1",
    "loss.penalties.0.strength=1",
    "seed=5",
    "train.epochs=7",  # the length of the run is given separately
    "data=mnist",
    "run.directory=elsewhere",
]
OTHER = [
    "model.head.features=11",
    "model.head.bias=false",
    "model.head.name=top",
    "model.batch_norm_1.eps=1e-3",
    "model.relu_1=tanh",
    "model.head.kernel_init=xavier",
    "optimizer=nesterov",
    "optimizer.learning_rate=0.1",
    "optimizer.learning_rate.steps=10",
    "optimizer.learning_rate={step_decay = {initial = 0.1, every = 3}}",
    "loss.penalties=[]",
    "loss.penalties.0.pattern='*bias'",
    'train.augment=["random_flip"]',
]


@pytest.mark.parametrize("text", SAME)
def test_configs_that_differ_in_values_have_equal_structures(text):
    make, other = make_of()[0], make_of(text)[0]
    assert other == make
    assert hash(other) == hash(make)


@pytest.mark.parametrize("text", OTHER)
def test_configs_that_differ_in_structure_do_not(text):
    assert make_of(text)[0] != make_of()[0]


def test_another_length_of_the_run_is_another_structure():
    assert make_of(steps=11)[0] != make_of()[0]


def test_another_value_shows():
    (_, values), (_, others) = make_of(), make_of("model.dropout_1.rate=0.25")
    assert {path for path in values if values[path] != others[path]} == {"model.dropout_1.rate"}
    assert others["model.dropout_1.rate"] == 0.25


def test_paths_are_those_of_the_hyperparameters():
    make, values = make_of()
    assert make.paths() == [
        "model.conv_1.kernel_init.scale",
        "model.batch_norm_1.momentum",
        "model.dropout_1.rate",
        "model.head.kernel_init.scale",
        "loss.label_smoothing",
        "optimizer.learning_rate.peak",
        "optimizer.learning_rate.warmup",
        "optimizer.learning_rate.end",
        "optimizer.momentum",
        "loss.penalties.0.strength",
    ]
    assert set(values) == set(make.paths())


def test_values_are_taken_from_where_their_path_says():
    make, values = make_of()
    task = make(values | {"loss.penalties.0.strength": 2.0, "optimizer.learning_rate.peak": 3.0})
    assert float(task.penalties[0]({"kernel": np.ones(4, np.float32)})) == 8.0
    one = jax.numpy.ones(())
    assert float(task.optimizer.update(one, task.optimizer.init(one))[0]) == -3.0


@pytest.mark.parametrize("path", ["model.dropout_2.rate", "optimizer.learning_rate", "nothing"])
def test_a_value_whose_path_is_unused_is_an_error(path):
    make, values = make_of()
    with pytest.raises(ConfigError, match=f"^{path}: no hyperparameter has this path$"):
        make(values | {path: 1.0})


def test_everything_can_be_prepared():
    prepared = prepare(check(tomllib.loads(EVERYTHING)))
    assert prepared.make.steps == 2, "full batches: a step an epoch"
    assert "residual_1/serial_1/batch_norm_1" in str(prepared.summary)
    assert prepared.sample.shape == (1, 8, 8, 1)


def test_steps_is_the_length_of_the_run():
    """1,150 examples in batches of 64 are 18 steps an epoch."""
    assert prepare(check(changed("train.epochs", 4))).make.steps == 72
    assert prepare(check(changed("train.batch_size", "all"))).make.steps == 3


def test_a_schedule_of_an_optimizer_that_steps_rarely_is_as_long_as_its_steps():
    """40 gradients, four to a step: ten steps, after which the rate has fallen to its end."""
    inner = {"sgd": {"learning_rate": {"cosine": {"peak": 1.0, "warmup": 0.0}}}}
    raw = changed("optimizer", {"use": "accumulate_gradients", "every": 4, "optimizer": inner})
    make, values = make_of(raw=raw, steps=40)
    optimizer = make(values).optimizer
    params = {"kernel": np.zeros(1, np.float32)}

    def step(state, _):
        updates, state = optimizer.update({"kernel": jnp.ones(1)}, state, params)
        return state, -updates["kernel"][0]

    _, rates = jax.lax.scan(step, optimizer.init(params), length=44)
    np.testing.assert_allclose(rates[3::4], [(1 + np.cos(np.pi * t / 10)) / 2 for t in range(11)], atol=1e-6)


def test_ten_learning_rates_are_one_compilation():
    config = tomllib.loads(
        SMALL.replace("epochs = 3", "epochs = 1").replace("features = 16", "features = 17")
    )
    before = _chunk._cache_size()
    losses = set()
    for number in range(10):
        raw = config | {
            "optimizer": {"use": "adam", "learning_rate": 10.0 ** (-1 - number / 3), "b1": 0.1 * number}
        }
        prepared = prepare(check(raw))
        fit = fnn.fit(prepared.make, prepared.values, prepared.data, **prepared.settings)
        losses.add(fit.history[-1]["validation_loss"])
    assert _chunk._cache_size() == before + 1
    assert len(losses) == 10, "each run had its own learning rate"


def test_data_and_split_are_called_with_plain_numbers():
    config = check(changed("split.validation", 200))
    data = call_plainly(config.split, call_plainly(config.data))
    assert [len(part.x) for part in (data.train, data.validation, data.test)] == [1237, 200, 360]


# --- what only shows when it is made --------------------------------------------------------------------

HEAD = {"linear": {"features": 10}}
RANGES = [
    ("model.layers", [{"dropout": {"rate": 1.5}}, "flatten", HEAD],
     "model.dropout_1: dropout rate must be at least 0 and below 1, not 1.5"),
    ("model.layers", [{"dropout": {"rate": {"piecewise": {"boundaries": [3], "values": [0.5, 1.5]}}}}, "flatten", HEAD],
     "model.dropout_1: dropout rate must be at least 0 and below 1, not 1.5"),
    ("model.layers", [{"residual": {"layers": [{"dropout": {"rate": -0.1}}]}}, "flatten", HEAD],
     "model.residual_1.dropout_1: dropout rate must be at least 0 and below 1, not -0.1"),
    ("model.layers", [{"batch_norm": {"momentum": 2, "name": "norm"}}, "flatten", HEAD],
     "model.norm: momentum must be at least 0 and at most 1, not 2.0"),
    ("model.layers", ["flatten", {"linear": {"features": 0}}],
     "model.linear_1: features must be at least 1, not 0"),
    ("model.layers", ["flatten", {"linear": {"features": 10, "kernel_init": {"kaiming": {"scale": -1}}}}],
     "model.linear_1.kernel_init: scale must be at least 0, not -1.0"),
    ("model.layers", ["flatten", {"residual": {"layers": [
        {"linear": {"features": 64, "kernel_init": {"xavier": {"scale": -1}}}}]}}, HEAD],
     "model.residual_1.linear_1.kernel_init: scale must be at least 0, not -1.0"),
    ("model.layers", ["flatten", {"linear": {"features": 10**20}}],
     "model.linear_1: features must be an integer of at most 64 bits, not 100000000000000000000"),
    ("optimizer.learning_rate", -0.1, "optimizer: learning_rate must be at least 0, not -0.1"),
    ("optimizer.b1", 1.0, "optimizer: b1 must be at least 0 and below 1, not 1.0"),
    ("optimizer.learning_rate", {"cosine": {"peak": -1.0}},
     "optimizer.learning_rate: peak must be at least 0, not -1.0"),
    ("optimizer.learning_rate", {"cosine": {"peak": 1.0, "warmup": 1.0}},
     "optimizer.learning_rate: warmup must be at least 0 and below 1, not 1.0"),
    ("optimizer.learning_rate", {"cosine": {"peak": 1.0, "steps": 0}},
     "optimizer.learning_rate: steps must be at least 1, not 0"),
    ("optimizer.learning_rate", {"piecewise": {"boundaries": [5], "values": [1.0]}},
     "optimizer.learning_rate: piecewise needs one more value than boundaries, not 1 values for 1 boundaries"),
    ("optimizer.learning_rate", {"piecewise": {"boundaries": [5], "values": [1.0, -1.0]}},
     "optimizer.learning_rate: each of values must be at least 0, not -1.0"),
    ("optimizer", {"use": "chain", "transforms": [{"clip_by_global_norm": {"max_norm": 0}}]},
     "optimizer.transforms.0: max_norm must be above 0, not 0.0"),
    ("optimizer", {"use": "accumulate_gradients", "every": 0,
                   "optimizer": {"sgd": {"learning_rate": {"cosine": {"peak": 1.0}}}}},
     "optimizer: every must be at least 1, not 0"),
    ("optimizer", {"use": "chain", "transforms": []}, "optimizer: chain needs at least one optimizer"),
    ("optimizer", {"use": "clip_by_global_norm", "max_norm": 1.0},
     "optimizer: clip_by_global_norm changes gradients but takes no step; put it in front of an optimizer"),
    ("optimizer", {"use": "ema", "optimizer": {"chain": {"transforms": [{"clip_by_value": {"limit": 1.0}}]}}},
     "optimizer: ema changes gradients but takes no step; put it in front of an optimizer"),
    ("optimizer", {"use": "chain", "transforms": [{"adam": {"learning_rate": 0.1}},
                                                  {"sgd": {"learning_rate": 0.1}}]},
     "optimizer: chain sends each gradient through 2 optimizers; a chain has one"),
    ("optimizer", {"use": "by_path", "groups": [
        {"group": {"pattern": "*bias", "optimizer": {"max_norm": {"limit": 1.0}}}}],
        "default": {"sgd": {"learning_rate": 0.1}}},
     "optimizer: by_path changes gradients but takes no step"),
    ("loss.label_smoothing", 1.5, "loss: label_smoothing must be at least 0 and at most 1, not 1.5"),
    ("loss.penalties", [{"l1": {"strength": 0.1}}, {"l2": {"strength": -1}}],
     "loss.penalties.1: strength must be at least 0, not -1.0"),
    ("loss.penalties", [{"l2": {"strength": {"cosine": {"peak": -1}}}}],
     "loss.penalties.0.strength: peak must be at least 0, not -1.0"),
    ("loss.penalties", [{"l2": {"strength": 1, "pattern": "conv*"}}],
     "loss.penalties.0: the pattern 'conv*' matches no parameter; the parameters are head/bias, head/kernel, "),
    ("loss", {"use": "mean_squared_error"},
     "loss: predictions and targets must have the same shape, not (64, 10) and (64,); class numbers are targets of "
     "softmax_cross_entropy, and jax.nn.one_hot(targets, 10) makes some of this loss"),
    ("loss.label_smoothing", {"cosine": {"peak": 3.0, "warmup": 0.1}},
     "loss: label_smoothing must be at least 0 and at most 1, not "),
    ("model.layers", [{"dropout": {"rate": {"one_cycle": {"peak": 1.5}}}}, "flatten", HEAD],
     "model.dropout_1: dropout rate must be at least 0 and below 1, not 1.5"),
    ("optimizer", {"use": "momentum", "learning_rate": 0.01, "momentum": {"cosine": {"peak": 2.0}}},
     "optimizer: momentum must be at least 0 and below 1, not 2.0"),
    ("optimizer", {"use": "momentum", "learning_rate": 0.01,
                   "momentum": {"polynomial": {"initial": 0.5, "end": 2.0}}},
     "optimizer: momentum must be at least 0 and below 1, not 2.0"),
    ("train.augment", ["random_flip", {"random_crop": {"padding": -1}}],
     "train.augment.1: random_crop's padding must be at least 0, not -1"),
    ("train.augment", [{"mixup": {"alpha": 0.2}}, {"mixup": {"alpha": 0.4}}],
     "train.augment: two augmentations mix the examples of a batch; one of them has to go"),
    ("train.metrics", [{"top_k_accuracy": {"k": 2}}, {"top_k_accuracy": {"k": 3}}],
     "train.metrics: two metrics have the name top_k_accuracy, so one would hide the other"),
    ("train.freeze", ["conv*"], "train.freeze: the pattern 'conv*' matches no parameter; the parameters are"),
    ("optimizer", {"use": "chain", "transforms": [{"muon": {"learning_rate": 0.1}}]},
     "optimizer.transforms.0: muon takes kernels, of two axes or more; head/bias has shape (10,)."),
    ("optimizer", {"use": "by_path", "groups": [{"group": {"pattern": "*bias", "optimizer": {"sgd": {"learning_rate": 0.1}}}}],
                   "default": {"adamw": {"learning_rate": 0.1, "pattern": "*kernle"}}},
     "optimizer.default: the pattern '*kernle' matches no parameter; the parameters are head/kernel"),
    ("train.epochs", 0, "train: epochs must be at least 1, not 0"),
    ("train.batch_size", 0, "train: batch_size must be at least 1, not 0"),
    ("train.batch_size", 5000, "train: batch_size 5000 exceeds the 1150 training examples"),
    ("split.validation", 0, "split: validation must be a count or a fraction above 0, not 0"),
    ("split.validation", 1437, "split: validation=1437"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "message"), RANGES)
def test_what_is_out_of_range_is_named_by_its_key(key, value, message):
    with pytest.raises(ConfigError) as caught:
        prepare(check(changed(key, value)))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


FIT = [
    ([HEAD], "model.linear_1: a linear layer takes (batch, inputs), got an input of shape (64, 8, 8, 1); put "),
    ([{"conv": {"features": 2, "kernel_size": 9, "padding": "VALID", "name": "stem"}}, "flatten", HEAD],
     "model.stem: a kernel that covers 9×9 pixels does not fit its padded input of 8×8"),
    ([{"max_pool": {"window": 9}}, "flatten", HEAD],
     "model.max_pool_1: a window that covers 9×9 pixels does not fit its padded input of 8×8"),
    ([{"residual": {"layers": [{"conv": {"features": 2, "kernel_size": 3}}]}}, "flatten", HEAD],
     "model.residual_1: a residual adds its input (64, 8, 8, 1) to its output (64, 8, 8, 2), which differ"),
    (["flatten", {"linear": {"features": 7}}],
     "model: the data has 10 classes, so the network must end in (batch, 10) outputs, not (batch, 7)"),
    (["flatten"], "model: the data has 10 classes, so the network must end in (batch, 10) outputs, not (batch, 64)"),
    ([], "model: the data has 10 classes, so the network must end in (batch, 10) outputs, not (batch, 8, 8, 1)"),
    (["flatten", {"linear": {"features": 5, "name": "a"}}, {"linear": {"features": 10, "name": "a"}}],
     "model: 2 layers have the name 'a'; names beside each other must differ"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "message"), FIT)
def test_a_network_that_does_not_fit_is_named_by_its_layer(layers, message):
    with pytest.raises(ConfigError) as caught:
        prepare(check(changed("model.layers", layers)))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_made_is_what_prepare_makes():
    make, values, _ = made(tomllib.loads(SMALL), steps=54)
    prepared = prepare(check(tomllib.loads(SMALL)))
    assert prepared.make == make
    assert prepared.values == values
