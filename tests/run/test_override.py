"""`key=value` on the command line."""

import copy
import tomllib

import pytest
from run_cases import EVERYTHING, SMALL, made

from fnn.run._config import ConfigError, Number, check
from fnn.run._read import all_replaced, override

RAW = tomllib.loads(
    SMALL.replace('{linear = {features = 16}}, "relu"', '{linear = {features = 16}}, "relu", "dropout"')
)
CHAIN = RAW | {
    "optimizer": {
        "use": "chain",
        "transforms": [{"clip_by_global_norm": {"max_norm": 1.0}}, {"adam": {"learning_rate": 0.1}}],
    }
}
ROLLING = {
    "model": {"layers": [{"batch_norm": {"momentum": {"polynomial": {"initial": 0.5}}}}]},
    "optimizer": {
        "use": "chain",
        "transforms": [
            {"momentum": {"learning_rate": 0.1, "momentum": {"polynomial": {"initial": 0.5}}}},
            "max_norm",
        ],
    },
}
NESTED = RAW | {
    "model": {
        "layers": [
            {"residual": {"layers": [{"linear": {"features": 64, "name": "inner"}}]}},
            {"mlp": {"hidden": [8, 8]}},
        ]
    }
}
SCHEDULED = RAW | {
    "optimizer": {"use": "sgd", "learning_rate": {"cosine": {"peak": 0.1, "end": 0.01}}},
}
PIECES = RAW | {
    "optimizer": {"use": "sgd", "learning_rate": {"piecewise": {"boundaries": [5], "values": [0.1, 0.01]}}},
}
SEARCHED = RAW | {
    "search": {
        "space": {
            "optimizer": {"choice": {"options": ["adam", "rmsprop"]}},
            "optimizer.learning_rate": {"log_uniform": {"low": 1e-3, "high": 0.1}},
            "model": {"linear_1.features": {"int_uniform": {"low": 8, "high": 32}}},
        }
    }
}


def at(node, *places):
    for place in places:
        node = node[place]
    return node


WRITTEN = [
    # a value in a table, also in one that is not there yet
    (RAW, "train.epochs=5", ("train", "epochs"), 5),
    (RAW, "train.batch_size=all", ("train", "batch_size"), "all"),
    (RAW, "optimizer.b1=0.5", ("optimizer", "b1"), 0.5),
    (RAW, "seed=7", ("seed",), 7),
    (RAW, "run.directory=runs/mine", ("run", "directory"), "runs/mine"),
    # TOML, or a bare word
    (RAW, "optimizer.learning_rate=3e-3", ("optimizer", "learning_rate"), 0.003),
    (RAW, "train.epochs = 5 ", ("train", "epochs"), 5),
    (RAW, "train.standardize=false", ("train", "standardize"), False),
    (RAW, "run.directory='a = b'", ("run", "directory"), "a = b"),
    (RAW, "run.directory=lr=0.1", ("run", "directory"), "lr=0.1"),
    (RAW, "optimizer.learning_rate=cosine", ("optimizer", "learning_rate"), "cosine"),
    (
        RAW,
        "optimizer.learning_rate={cosine = {peak = 1e-2}}",
        ("optimizer", "learning_rate"),
        {"cosine": {"peak": 0.01}},
    ),
    # a layer by its own name, its automatic name and its place
    (RAW, "model.head.features=20", ("model", "layers", 4, "linear", "features"), 20),
    (RAW, "model.linear_1.features=20", ("model", "layers", 1, "linear", "features"), 20),
    (RAW, "model.layers.head.features=20", ("model", "layers", 4, "linear", "features"), 20),
    (RAW, "model.layers.4.features=20", ("model", "layers", 4, "linear", "features"), 20),
    (RAW, "model.layers.4.linear.features=20", ("model", "layers", 4, "linear", "features"), 20),
    (RAW, "model.dropout_1.rate=0.1", ("model", "layers", 3, "dropout", "rate"), 0.1),
    (RAW, "model.relu_1=tanh", ("model", "layers", 2), "tanh"),
    (RAW, "model.head={linear = {features = 3}}", ("model", "layers", 4), {"linear": {"features": 3}}),
    (
        NESTED,
        "model.residual_1.inner.bias=false",
        ("model", "layers", 0, "residual", "layers", 0, "linear", "bias"),
        False,
    ),
    (NESTED, "model.mlp_1.hidden.0=32", ("model", "layers", 1, "mlp", "hidden", 0), 32),
    (NESTED, "model.mlp_1.hidden=[32]", ("model", "layers", 1, "mlp", "hidden"), [32]),
    # into a call that is a default
    (
        RAW,
        "model.head.kernel_init.scale=1",
        ("model", "layers", 4, "linear", "kernel_init", "kaiming", "scale"),
        1,
    ),
    # whole lists, and members of others by their place
    (RAW, 'model.layers=["flatten"]', ("model", "layers"), ["flatten"]),
    (RAW, "loss.penalties=[]", ("loss", "penalties"), []),
    (RAW, "loss.penalties.0.strength=1", ("loss", "penalties", 0, "l2", "strength"), 1),
    (RAW, "loss.penalties.0.l2.strength=1", ("loss", "penalties", 0, "l2", "strength"), 1),
    (
        CHAIN,
        "optimizer.transforms.1.learning_rate=1",
        ("optimizer", "transforms", 1, "adam", "learning_rate"),
        1,
    ),
    # a setting that is called as its function
    *(
        (
            ROLLING,
            f"optimizer.transforms.0.{path}=0.9",
            ("optimizer", "transforms", 0, "momentum", *places),
            0.9,
        )
        for path, places in {
            "momentum": ("momentum",),
            "momentum.momentum": ("momentum",),
            "momentum.end": ("momentum", "polynomial", "end"),
            "momentum.polynomial.end": ("momentum", "polynomial", "end"),
            "momentum.momentum.end": ("momentum", "polynomial", "end"),
            "momentum.learning_rate": ("learning_rate",),
        }.items()
    ),
    (
        ROLLING,
        "model.batch_norm_1.momentum.end=0.9",
        ("model", "layers", 0, "batch_norm", "momentum", "polynomial", "end"),
        0.9,
    ),
    (CHAIN, "optimizer.transforms.0=adam", ("optimizer", "transforms", 0), "adam"),
    # through a schedule's name, and without it
    (SCHEDULED, "optimizer.learning_rate.cosine.peak=1", ("optimizer", "learning_rate", "cosine", "peak"), 1),
    (SCHEDULED, "optimizer.learning_rate.peak=1", ("optimizer", "learning_rate", "cosine", "peak"), 1),
    (
        SCHEDULED,
        "optimizer.learning_rate.warmup=0.5",
        ("optimizer", "learning_rate", "cosine", "warmup"),
        0.5,
    ),
    (SCHEDULED, "optimizer.learning_rate=0.5", ("optimizer", "learning_rate"), 0.5),
    (
        PIECES,
        "optimizer.learning_rate.values.1=0.5",
        ("optimizer", "learning_rate", "piecewise", "values", 1),
        0.5,
    ),
    # a key that has dots, also where another one is its beginning
    (
        SEARCHED,
        "search.space.optimizer.learning_rate.log_uniform.high=1",
        ("search", "space", "optimizer.learning_rate", "log_uniform", "high"),
        1,
    ),
    (
        SEARCHED,
        "search.space.optimizer.learning_rate={uniform = {low = 0, high = 1}}",
        ("search", "space", "optimizer.learning_rate"),
        {"uniform": {"low": 0, "high": 1}},
    ),
    (
        SEARCHED,
        "search.space.model.linear_1.features.high=16",
        ("search", "space", "model", "linear_1.features", "int_uniform", "high"),
        16,
    ),
    (
        SEARCHED,
        'search.space.optimizer.choice.options.0="sgd"',
        ("search", "space", "optimizer", "choice", "options", 0),
        "sgd",
    ),
]


@pytest.mark.parametrize(("raw", "text", "place", "value"), WRITTEN, ids=[text for _, text, *_ in WRITTEN])
def test_one_value_is_replaced(raw, text, place, value):
    before = copy.deepcopy(raw)
    after = override(raw, text)
    assert at(after, *place) == value
    assert type(at(after, *place)) is type(value)
    assert raw == before, "the config that was given is changed"


@pytest.mark.parametrize(
    "text", ["model.head.features=10", "train.epochs=3", "loss.penalties.0.strength=1e-4", "optimizer=adam"]
)
def test_everything_else_stays(text):
    """An override that writes what is there already changes nothing."""
    assert override(RAW, text) == RAW


def test_what_a_path_of_a_hyperparameter_leads_to():
    """Every path that messages and trials use can be overridden."""
    raw = tomllib.loads(EVERYTHING)
    make, values, _ = made(raw)
    assert len(values) > 12
    for path in make.paths():
        _, others, _ = made(override(raw, f"{path}=0.25"))
        assert others[path] == 0.25, path


# --- another function -----------------------------------------------------------------------------------


def test_another_optimizer_keeps_the_settings_that_both_have():
    raw = RAW | {"optimizer": {"use": "adam", "learning_rate": 0.1, "b1": 0.5, "eps": 1e-3}}
    assert override(raw, "optimizer=rmsprop")["optimizer"] == {
        "use": "rmsprop",
        "learning_rate": 0.1,
        "eps": 1e-3,
    }
    assert override(raw, "optimizer=momentum")["optimizer"] == {"use": "momentum", "learning_rate": 0.1}


def test_another_loss_keeps_the_penalties():
    raw = RAW | {"loss": RAW["loss"] | {"label_smoothing": 0.1}}
    assert override(raw, "loss=mean_squared_error")["loss"] == {
        "use": "mean_squared_error",
        "penalties": [{"l2": {"strength": 1e-4}}],
    }


def test_another_data_set_drops_the_path():
    raw = RAW | {"data": {"use": "npz", "path": "a.npz", "test": 0.1}}
    assert override(raw, "data=digits")["data"] == {"use": "digits"}
    assert override(raw, "data=image_folder")["data"] == {"use": "image_folder", "path": "a.npz", "test": 0.1}


def test_an_unknown_function_is_refused_by_name_and_not_by_its_settings():
    with pytest.raises(
        ConfigError, match=r"^optimizer\.use: there is no optimizer 'adm'; did you mean 'adam'"
    ):
        check(override(RAW, "optimizer=adm"))


def test_overrides_follow_one_another():
    raw = override(override(RAW, "optimizer=sgd"), "optimizer.learning_rate=0.5")
    config = check(raw)
    assert config.optimizer.function == "sgd"
    assert config.optimizer.arguments == (("learning_rate", Number(0.5)),)


LAYERS = ["relu", {"dropout": {"rate": 0.1}}, "relu", {"dropout": {"rate": 0.2}}, "relu"]


@pytest.mark.parametrize(
    ("values", "layers"),
    [
        ({"relu_1": "tanh", "relu_2": "elu"}, ["tanh", LAYERS[1], "elu", LAYERS[3], "relu"]),
        ({"relu_2": "elu", "relu_1": "tanh"}, ["tanh", LAYERS[1], "elu", LAYERS[3], "relu"]),
        ({"dropout_1": "elu", "dropout_2.rate": 0.5}, ["relu", "elu", "relu", {"dropout": {"rate": 0.5}}, "relu"]),
        ({"relu_1": "dropout", "dropout_1.rate": 0.5}, ["dropout", {"dropout": {"rate": 0.5}}, *LAYERS[2:]]),
        ({"relu_1": {"leaky_relu": {"negative_slope": 0.1}}, "relu_1.negative_slope": 0.5},
         [{"leaky_relu": {"negative_slope": 0.5}}, *LAYERS[1:]]),
        ({"relu_1": "leaky_relu", "leaky_relu_1.negative_slope": 0.5}, [{"leaky_relu": {"negative_slope": 0.5}}, *LAYERS[1:]]),
        ({"layers": ["tanh", "relu"], "relu_1": "elu"}, ["tanh", "elu"]),
        ({"layers.0": "relu", "relu_3": "elu"}, [*LAYERS[:4], "elu"]),
    ],
)  # fmt: skip
def test_names_of_layers_are_those_of_the_config_that_is_overridden(values, layers):
    raw = {"model": {"layers": LAYERS}}
    changed = all_replaced(raw, [(f"model.{key}", value) for key, value in values.items()])
    assert changed == {"model": {"layers": layers}}


def test_a_layer_is_reached_by_whatever_name_it_has():
    raw = {"model": {"layers": [{"linear": {"features": 3, "name": "1"}}, {"linear": {"features": 4}}]}}
    changed = override(raw, "model.1.features=5")
    assert at(changed, "model", "layers", 0, "linear", "features") == 5


# --- errors ---------------------------------------------------------------------------------------------

KEY_VALUE = "an override is key=value, such as optimizer.learning_rate=3e-3"
ERRORS = [
    (RAW, "train.epochs", f"train.epochs: {KEY_VALUE}"),
    (RAW, "=3", f"=3: {KEY_VALUE}"),
    (RAW, "train.epochs=", "train.epochs: the value '' is not TOML"),
    (
        RAW,
        "model.layers=[flatten",
        "model.layers: the value '[flatten' is not TOML; a string stands in quotes, 'model.layers=\"…\"'",
    ),
    (RAW, 'run.directory="a', "run.directory: the value '\"a' is not TOML"),
    (RAW, "train.epochs=3\nseed = 4", "train.epochs: the value '3\\nseed = 4' is not TOML"),
    (
        RAW,
        "model.haed.features=3",
        "model.haed: there is nothing of this name to override; did you mean 'head'?",
    ),
    (RAW, "model.layers.5=relu", "model.layers.5: there is nothing of this name to override; "),
    (RAW, "model.layers.-1=relu", "model.layers.-1: there is nothing of this name to override; "),
    (RAW, "train.epochs.x=3", "train.epochs.x: train.epochs is 3, which has no parts to override"),
    (
        RAW,
        "model.1.features=3",
        "model.1: there is nothing of this name to override; there is dropout_1, flatten_1, head, layers, linear_1, "
        "relu_1",
    ),
    (
        RAW,
        "loss.l2_1.strength=3",
        "loss.l2_1: there is nothing of this name to override; there is penalties, pen",
    ),
    (
        RAW,
        "loss.penalties.1.strength=3",
        "loss.penalties.1: there is nothing of this name to override; there is penalties.0",
    ),
    (
        CHAIN,
        "optimizer.transforms.2.eps=3",
        "optimizer.transforms.2: there is nothing of this name to override; there is transforms.0, transforms.1",
    ),
    (
        NESTED,
        "model.mlp_1.hidden.2=3",
        "model.mlp_1.hidden.2: there is nothing of this name to override; there is h",
    ),
]


@pytest.mark.parametrize(("raw", "text", "message"), ERRORS, ids=[text for _, text, _ in ERRORS])
def test_paths_that_lead_nowhere(raw, text, message):
    with pytest.raises(ConfigError) as caught:
        override(raw, text)
    assert str(caught.value).startswith(message)


CHECKED = [
    (RAW, "train.epoch=3", "train.epoch: [train] has no such setting; did you mean 'epochs'?"),
    (RAW, "model.head.feature=3", "model.head.feature: linear has no such setting; did you mean 'features'?"),
    (RAW, "trian.epochs=3", "trian: there is no such key here; did you mean 'train'?"),
    (RAW, "relu=3", "relu: there is no such key here; "),
    (
        SCHEDULED,
        "optimizer.learning_rate.peek=3",
        "optimizer.learning_rate.peek: cosine has no such setting; did",
    ),
    (RAW, "optimizer=3", "optimizer: expected a table, not 3"),
    (RAW, "data.use.x=3", "data.use: expected the name of a data set, not {'digits': {'x': 3}}"),
    (RAW, "train.epochs=three", "train.epochs: expected an integer, not 'three'"),
]


@pytest.mark.parametrize(("raw", "text", "message"), CHECKED, ids=[text for _, text, _ in CHECKED])
def test_what_the_check_says_of_an_override(raw, text, message):
    with pytest.raises(ConfigError) as caught:
        check(override(raw, text))
    assert str(caught.value).startswith(message)
