"""What a config file can call, and the names it knows it by."""

import inspect

import jax.numpy as jnp
import pytest

import fnn
from fnn._types import Array, Hyperparameter, Initializer, Schedule
from fnn.nn import Layer, LayerLike
from fnn.nn._layer import as_layer
from fnn.run._registry import describe, describe_type, fits, functions, nearest

KINDS = {
    "layer": "conv linear mlp batch_norm dropout max_pool avg_pool serial residual",
    "activation": "relu tanh sigmoid softmax log_softmax flatten global_avg_pool",
    "initializer": "kaiming xavier",
    "optimizer": "sgd momentum nesterov adam rmsprop adagrad chain clip_by_global_norm",
    "schedule": "cosine exponential piecewise step_decay",
    "loss": "softmax_cross_entropy mean_squared_error",
    "penalty": "l1 l2",
    "augmentation": "random_flip random_crop",
    "data set": "digits mnist fashion_mnist cifar10 npz image_folder",
}
NOT_CALLABLE = "layer summary intermediates accuracy adam_update adam_init apply_updates value_at split fit".split()


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_public_functions(kind):
    assert {name: functions()[name].kind for name in KINDS[kind].split()} == dict.fromkeys(
        KINDS[kind].split(), kind
    )


@pytest.mark.parametrize("name", NOT_CALLABLE)
def test_what_makes_nothing_of_a_known_kind_is_left_out(name):
    assert callable(getattr(fnn, name))
    assert name not in functions()


@pytest.mark.parametrize("name", [name for name, f in functions().items() if f.kind == "layer"])
def test_a_layers_kind_is_its_functions_name(name):
    function = functions()[name]
    required = {p.name: 2 for p in function.parameters.values() if p.required}
    assert function.call(**required).kind == name


@pytest.mark.parametrize("name", [name for name, f in functions().items() if f.kind == "activation"])
def test_an_activation_stands_as_a_layer_under_its_own_name(name):
    assert as_layer(functions()[name].call).kind == name


@pytest.mark.parametrize(
    ("kind", "wanted", "answer"),
    [
        ("activation", "layer", True),
        ("layer", "layer", True),
        ("layer", "activation", False),
        ("optimizer", "layer", False),
        ("schedule", "optimizer", False),
    ],
)
def test_which_kind_may_stand_where(kind, wanted, answer):
    assert fits(kind, wanted) is answer


def test_settings_are_the_arguments_that_are_not_data():
    assert list(functions()["softmax_cross_entropy"].parameters) == ["label_smoothing"]
    assert list(functions()["kaiming"].parameters) == ["scale", "mode", "distribution"]
    assert functions()["l2"].takes_data
    assert not functions()["adam"].takes_data


@pytest.mark.parametrize(
    ("function", "parameter", "wants", "hyperparameter", "variadic", "required"),
    [
        ("adam", "learning_rate", "schedule", True, False, True),
        ("adam", "b1", "schedule", True, False, False),
        ("adam", "bias_correction", None, False, False, False),
        ("conv", "kernel_init", "initializer", False, False, False),
        ("conv", "features", None, False, False, True),
        ("mlp", "activation", "layer", False, False, False),
        ("serial", "layers", "layer", False, True, False),
        ("residual", "shortcut", "layer", False, False, False),
        ("chain", "transforms", "optimizer", False, True, False),
    ],
)
def test_parameters(function, parameter, wants, hyperparameter, variadic, required):
    found = functions()[function].parameters[parameter]
    assert (found.wants, found.is_hyperparameter, found.variadic, found.required) == (
        wants,
        hyperparameter,
        variadic,
        required,
    )


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("lineer", "; did you mean 'linear'?"),
        ("Adam", "; did you mean 'adam'?"),
        ("xyz", "; there is adam, linear"),
    ],
)
def test_nearest_name(name, end):
    assert nearest(name, ["linear", "adam"]) == end


def test_nearest_of_none():
    assert nearest("x", []) == "; there is none"


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "an integer"),
        (bool, "true or false"),
        (str | None, "a string"),
        (int | tuple[int, int], "an integer or [an integer, an integer]"),
        (tuple[int, ...], "a list, each an integer"),
        (Hyperparameter, "a number or a schedule"),
    ],
)
def test_annotations_in_words(hint, words):
    assert describe_type(hint) == words


def a_layer(width: int, scale: Hyperparameter = 1.0) -> Layer:
    """A layer of a script."""
    return fnn.layer("a_layer", lambda params, x: x * scale)


def an_activation(x: Array, /, slope: float = 0.1) -> Array:
    """An activation of a script."""
    return jnp.maximum(x, slope * x)


def takes_code(function: Schedule | None = None, act: LayerLike = fnn.relu) -> Layer:
    """It takes a schedule, which a config can write."""
    return fnn.layer("x", lambda params, x: x)


def takes_unknown_code(function: Initializer | None, other: type[int]) -> int:
    """It makes nothing of a known kind."""
    return 0


@pytest.mark.parametrize(
    ("function", "kind"),
    [(a_layer, "layer"), (an_activation, "activation"), (takes_code, "layer"), (takes_unknown_code, "")],
)
def test_any_annotated_function_has_a_kind(function, kind):
    described = describe(function)
    assert described.kind == kind
    assert described.summary == inspect.getdoc(function).splitlines()[0]
