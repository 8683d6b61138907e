"""Which functions a config can call, and as what."""

import inspect

import pytest
from run_cases import REQUIRED

import fnn
from fnn.nn._layer import as_layer
from fnn.run._registry import describe, describe_type, fits, functions, nearest

KINDS = {
    "layer": "adaptive_avg_pool adaptive_max_pool alpha_dropout avg_pool batch_norm conv conv_maxout"
    " conv_transpose depthwise_conv dropout flatten global_avg_pool global_max_pool group_norm"
    " instance_norm layer_norm linear locally_connected max_pool maxout mixed_precision mlp perceptron"
    " prelu residual serial spatial_dropout",
    "initializer": "constant delta_orthogonal kaiming lecun orthogonal truncated_normal xavier",
    "none": "adadelta_init adadelta_update adagrad_init adagrad_update adam_init adam_update adamax_init"
    " adamax_update adamw_update apply_updates averaged_params check_gradients"
    " clip_by_global_norm_init clip_by_global_norm_update clip_by_value_update combine"
    " confusion_matrix conv_output_size global_norm intermediates lamb_update layer lion_init"
    " lion_update lsuv max_norm_update moments momentum_init momentum_update muon_init muon_update"
    " nadam_update nesterov_update parameter_groups partition perceptron_init perceptron_predict"
    " perceptron_update projection_init proximal_l1_update receptive_field rmsprop_init rmsprop_update"
    " sgd_init sgd_update split standardize summary to_float value_at"
    " by_urgency check find_all judge probe search stratified_folds training",
    "activation": "elu gelu heaviside leaky_relu log_softmax relu selu sigmoid silu softmax softplus tanh",
    "optimizer": "accumulate_gradients adadelta adagrad adam adamax adamw by_path chain clip_by_global_norm"
    " clip_by_value ema lamb lion lookahead max_norm momentum muon nadam nesterov proximal_l1 rmsprop"
    " sgd",
    "metric": "accuracy calibration_error top_k_accuracy",
    "schedule": "cosine exponential inverse_time join linear_warmup one_cycle piecewise polynomial step_decay"
    " warm_restarts",
    "penalty": "elastic_net l1 l2",
    "parameter group": "group",
    "loss": "huber kl_divergence mean_absolute_error mean_squared_error multiclass_hinge perceptron_loss"
    " sigmoid_cross_entropy softmax_cross_entropy",
    "augmentation": "alternating_flip cutout mixup random_brightness random_contrast random_crop random_flip"
    " random_resized_crop random_roll random_rotation random_shift random_vertical_flip",
    "distribution": "choice int_uniform log_uniform only_if uniform",
    "search method": "coarse_to_fine grid_search hyperband optuna_search population_based"
    " random_search sobol_search successive_halving",
    "data set": "cifar10 digits fashion_mnist image_folder mnist npz",
}
KIND = {name: kind for kind, names in KINDS.items() for name in names.split()}
PUBLIC = sorted(
    name
    for room in (fnn.nn, fnn.optim, fnn.data, fnn.tune)
    for name in room.__all__
    if inspect.isfunction(getattr(room, name))
)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_kind_of_every_public_function(name):
    function = functions().get(name)
    assert (function.kind if function else "none") == KIND[name], "the table above says otherwise"


def test_the_table_names_nothing_that_is_gone():
    assert set(KIND) <= set(PUBLIC)


def test_only_fnn_and_no_function_without_a_kind_can_be_called():
    assert "" not in {function.kind for function in functions().values()}
    assert all(function.call is getattr(fnn, name) for name, function in functions().items())


@pytest.mark.parametrize("name", [name for name, kind in KIND.items() if kind in ("layer", "activation")])
def test_automatic_names_are_the_function_s(name):
    """Paths of a config count by the function's name and those of parameters by the layer's kind."""
    function = functions()[name]
    settings = {key: REQUIRED[key] for key, setting in function.parameters.items() if setting.required}
    if function.takes_data:
        layer = as_layer(function.call)
    elif "layers" in function.parameters:
        layer = function.call(fnn.relu)
    else:
        layer = function.call(**settings)
    assert layer.kind == name
    assert [child for child, _ in fnn.serial(layer).children] == [f"{name}_1"]


@pytest.mark.parametrize(
    ("kind", "wanted", "answer"),
    [
        ("layer", "layer", True),
        ("activation", "layer", True),
        ("layer", "activation", False),
        ("optimizer", "layer", False),
        ("augmentation", "layer", False),
        ("penalty", "loss", False),
    ],
)
def test_an_activation_is_a_layer_and_nothing_else_is_another(kind, wanted, answer):
    assert fits(kind, wanted) is answer


@pytest.mark.parametrize(
    ("name", "valid", "text"),
    [
        ("lineer", ["linear", "relu"], "; did you mean 'linear'?"),
        ("Adam", ["adam", "sgd"], "; did you mean 'adam'?"),
        ("learning_rte", ["learning_rate", "b1"], "; did you mean 'learning_rate'?"),
        ("zzz", ["sgd", "adam"], "; there is adam, sgd"),
        ("zzz", [], "; there is none"),
        ("zzz", ["sgd", "adam", "sgd"], "; there is adam, sgd"),
    ],
)
def test_the_nearest_name(name, valid, text):
    assert nearest(name, valid) == text


def test_settings_are_what_is_not_data():
    assert list(functions()["l2"].parameters) == ["strength", "pattern"]
    assert list(functions()["random_crop"].parameters) == ["padding"]
    assert functions()["relu"].parameters == {}
    assert functions()["chain"].parameters["transforms"].variadic


HYPERPARAMETERS = [
    ("adam", "learning_rate", True),
    ("adam", "b1", True),
    ("adam", "bias_correction", False),
    ("dropout", "rate", True),
    ("batch_norm", "momentum", True),
    ("batch_norm", "eps", False),
    ("l2", "strength", True),
    ("softmax_cross_entropy", "label_smoothing", True),
    ("cosine", "peak", True),
    ("cosine", "steps", False),
    ("conv", "features", False),
    ("image_folder", "test", False),
]


@pytest.mark.parametrize(("function", "name", "answer"), HYPERPARAMETERS)
def test_hyperparameters_are_those_so_annotated(function, name, answer):
    assert functions()[function].parameters[name].is_hyperparameter is answer


@pytest.mark.parametrize(
    ("function", "name", "text"),
    [
        ("conv", "features", "an integer"),
        ("conv", "kernel_size", "an integer or a list, each an integer"),
        ("conv", "bias", "true or false"),
        (
            "conv",
            "padding",
            '"SAME" or "VALID" or an integer or a list, each [an integer, an integer]',
        ),
        ("mlp", "hidden", "a list, each an integer"),
        ("adam", "learning_rate", "a number or a schedule"),
        ("piecewise", "values", "a list, each a number or a schedule"),
        ("npz", "path", "a string"),
        ("linear", "name", "a string"),
        ("linear", "kernel_init", "an initializer"),
        ("residual", "layers", "a layer"),
        ("residual", "shortcut", "a layer"),
        ("ema", "optimizer", "an optimizer"),
        ("by_path", "groups", "a parameter group"),
        ("join", "schedules", "a schedule"),
        ("choice", "options", "a list"),
        ("only_if", "equals", "any value"),
        ("only_if", "then", "a distribution"),
    ],
)
def test_types_in_words(function, name, text):
    assert describe_type(functions()[function].parameters[name].hint) == text


def test_no_type_is_shown_as_python_writes_it():
    shown = {describe_type(p.hint) for function in functions().values() for p in function.parameters.values()}
    assert len(shown) > 10
    assert not [text for text in shown if "." in text or "<" in text]


def test_a_function_of_the_user_is_described_like_those_of_fnn():
    def scaled(x: fnn.nn._layer.Array, /, factor: float = 2.0) -> fnn.nn._layer.Array:
        return factor * x

    function = describe(scaled)
    assert (function.kind, list(function.parameters), function.takes_data) == ("layer", ["factor"], True)


def test_summaries_are_one_line():
    for function in functions().values():
        assert function.summary, function.name
        assert "\n" not in function.summary
