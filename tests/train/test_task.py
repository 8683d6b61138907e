"""What a task may ask of training besides a network, a loss and an optimizer."""

from __future__ import annotations

from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import softmax_regression
from test_fit import blobs

import fnn
from fnn.data import Examples, Mixed, Visit
from fnn.train import Batch, Task, evaluate, fit, init_state, train_epoch, train_step

KEY = jax.random.key(3)
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.array([0, 1, 2, 3, 1, 0])
ALL = np.ones(6, bool)


def linear(**more: Any) -> Any:
    """A `make` of softmax regression without bias, under SGD of rate 1."""

    def make(hyperparameters: Any) -> Task:
        net = fnn.linear(4, bias=False, kernel_init=softmax_regression.start_init)
        return Task(net, fnn.softmax_cross_entropy, fnn.sgd(1.0))._replace(**more)

    return make


def kernel_after(make: Any, batch: Batch) -> np.ndarray:
    state, _ = train_step(make, {}, init_state(make, {}, KEY, X), batch)
    return np.asarray(state.params["kernel"])


# --- mixing ---------------------------------------------------------------------------------------------

PARTNER, WEIGHT = np.array([1, 2, 3, 4, 5, 0]), np.linspace(0.1, 0.9, 6).astype(np.float32)


def mix(key: Any, x: Any) -> Mixed:
    weight = WEIGHT[:, None]
    return Mixed(weight * x + (1 - weight) * x[PARTNER], jnp.asarray(PARTNER), jnp.asarray(WEIGHT))


def test_a_mixed_example_is_one_with_mixed_targets():
    start = softmax_regression.start((3, 4)).astype(np.float64)
    x = WEIGHT[:, None] * X + (1 - WEIGHT[:, None]) * X[PARTNER]
    targets = WEIGHT[:, None] * np.eye(4)[Y] + (1 - WEIGHT[:, None]) * np.eye(4)[Y[PARTNER]]
    probabilities = np.exp(softmax_regression.log_probabilities(start, np.zeros(4), x))
    expected = start - x.T @ (probabilities - targets) / 6
    np.testing.assert_allclose(kernel_after(linear(augment=(mix,)), Batch(X, Y, ALL)), expected, atol=1e-5)


def test_two_mixing_augmentations_are_refused():
    with pytest.raises(ValueError, match="two augmentations mix the examples"):
        kernel_after(linear(augment=(mix, mix)), Batch(X, Y, ALL))


# --- what an augmentation returns -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x: None, "NoneType"),
        (lambda x: (x, x), "tuple"),
        (lambda x: x[:4], r"shape \(4, 3\)"),
        (lambda x: x.sum(), r"shape \(\)"),
        (lambda x: Mixed(x[:4], jnp.arange(10), jnp.ones(10)), r"shape \(4, 3\)"),
    ],
)
def test_an_augmentation_returns_the_batch(change, found):
    def jitter(key: Any, x: Any) -> Any:
        return change(x)

    message = rf"^augment: jitter must return the batch, \(10, …\), not {found}"
    with pytest.raises(ValueError, match=message):
        fit(linear(augment=(jitter,)), {}, blobs(20), batch_size=10)


# --- visits ---------------------------------------------------------------------------------------------


def remember(key: Any, x: Any, visit: Visit, /) -> Any:
    """Inputs that say which example and which epoch they are."""
    return jnp.stack([visit.example, jnp.full_like(visit.example, visit.epoch)], axis=1).astype(x.dtype)


def test_an_augmentation_is_told_which_examples_it_sees():
    make = linear(
        loss=lambda outputs, targets: -(outputs[:, 0] * targets + outputs[:, 1]), augment=(remember,)
    )
    examples = Examples(np.zeros((5, 2), np.float32), np.arange(5, dtype=np.float32))
    state = init_state(make, {}, KEY, examples.x)
    after, _ = jax.jit(partial(train_epoch, make, {}, batch_size=2))(state, examples, 7)
    moved = np.asarray(after.params["kernel"] - state.params["kernel"])
    # Each step adds the mean over its examples of (number, epoch) · number to column 0, and that of
    # (number, epoch) to column 1; three steps see each of the five examples once.
    order = np.asarray(fnn.epoch_rows(KEY, 7, examples=5, batch_size=5, chunk_steps=1)[0]).ravel()
    batches = [order[:2], order[2:4], order[4:]]
    np.testing.assert_allclose(moved[0, 0], sum((b**2).mean() for b in batches), rtol=1e-5)
    np.testing.assert_allclose(moved[0, 1], sum(b.mean() for b in batches), rtol=1e-5)
    np.testing.assert_allclose(moved[1, 1], 7 * 3, rtol=1e-5)


def test_a_batch_without_a_visit_says_so():
    with pytest.raises(ValueError, match="remember asks which examples it sees: give the batch a `visit`"):
        kernel_after(linear(augment=(remember,)), Batch(X, Y, ALL))


def test_alternating_flips_show_both_sides_in_two_epochs():
    """Through `fit`'s own chunk: what two successive epochs see of an image are its two orientations."""
    seen = []

    def record(key: Any, x: Any, visit: Visit, /) -> Any:
        x = fnn.alternating_flip(key, x, visit)
        jax.debug.callback(
            lambda *values: seen.append([*map(np.array, values)]), x[:, 0, :, 0], visit.example
        )
        return x

    net = fnn.serial(fnn.flatten, fnn.linear(2))
    images = np.random.default_rng(1).random((8, 2, 2, 1)).astype(np.float32)
    examples = Examples(images, np.arange(8) % 2)
    make = lambda _: Task(net, fnn.softmax_cross_entropy, fnn.sgd(0.0), augment=(record,))  # noqa: E731
    fit(make, {}, fnn.Splits(examples, examples, examples, ("a", "b"), "two"), epochs=2, batch_size=8)
    jax.effects_barrier()
    (first, rows), (second, other) = seen
    for example in range(8):
        one, two = first[rows == example][0], second[other == example][0]
        np.testing.assert_array_equal(one, two[::-1])
        assert any(
            np.array_equal(one, side) for side in (images[example, 0, :, 0], images[example, 0, ::-1, 0])
        )


# --- freezing -------------------------------------------------------------------------------------------


def two_layers(**more: Any) -> Any:
    def make(hyperparameters: Any) -> Task:
        net = fnn.serial(fnn.linear(5), fnn.relu, fnn.linear(4, name="head"))
        penalties = (lambda params: fnn.l2(params, 0.1),)
        return Task(net, fnn.softmax_cross_entropy, fnn.adam(0.1), penalties)._replace(**more)

    return make


def test_frozen_parameters_stay_and_the_optimizer_never_sees_them():
    make = two_layers(freeze=("linear_1/*",))
    state = init_state(make, {}, KEY, X)
    assert [leaf.shape for leaf in jax.tree.leaves(state.opt_state.first_moment)] == [(4,), (5, 4)]
    after, measured = jax.jit(partial(train_step, make, {}))(state, Batch(X, Y, ALL))
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(after.params["linear_1"][name], state.params["linear_1"][name])
        assert np.all(after.params["head"][name] != state.params["head"][name])
    # the penalty still counts every kernel
    every = sum(float((np.asarray(state.params[k]["kernel"]) ** 2).sum()) for k in ("linear_1", "head"))
    np.testing.assert_allclose(float(measured.penalty), 0.1 * every, rtol=1e-5)


def test_the_others_learn_as_if_nothing_were_frozen():
    plain, frozen = two_layers(), two_layers(freeze=("linear_1/*",))
    one, _ = train_step(plain, {}, init_state(plain, {}, KEY, X), Batch(X, Y, ALL))
    other, _ = train_step(frozen, {}, init_state(frozen, {}, KEY, X), Batch(X, Y, ALL))
    np.testing.assert_allclose(one.params["head"]["kernel"], other.params["head"]["kernel"], rtol=1e-6)


def test_where_every_kernel_is_frozen_there_is_nothing_to_decay():
    make = two_layers(freeze=("*kernel",), optimizer=fnn.adamw(1e-2))
    state = init_state(make, {}, KEY, X)
    after, _ = train_step(make, {}, state, Batch(X, Y, ALL))
    assert np.all(after.params["head"]["bias"] != state.params["head"]["bias"])
    np.testing.assert_array_equal(after.params["head"]["kernel"], state.params["head"]["kernel"])


def test_a_frozen_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(ValueError, match="the pattern 'convolution' matches no parameter"):
        init_state(two_layers(freeze=("convolution",)), {}, KEY, X)


def test_parameters_that_are_integers_can_only_be_frozen():
    shift = fnn.layer("shift", lambda params, x: x + params["n"], lambda key, x: {"n": jnp.array([[1]])})
    make = two_layers(net=fnn.serial(shift, fnn.linear(4)))
    with pytest.raises(
        ValueError, match=r"^the parameter shift_1/n has dtype int32, of which .*, or freeze it$"
    ):
        init_state(make, {}, KEY, X)
    make = two_layers(net=fnn.serial(shift, fnn.linear(4)), freeze=("shift_1/n",))
    state = init_state(make, {}, KEY, X)
    after, _ = train_step(make, {}, state, Batch(X, Y, ALL))
    assert np.any(after.params["linear_1"]["kernel"] != state.params["linear_1"]["kernel"])


# --- averaged weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [(), ("linear_1/*",)])
def test_evaluation_takes_the_averaged_weights(freeze):
    make = two_layers(optimizer=fnn.ema(fnn.sgd(0.5), decay=0.75), freeze=freeze)
    state = init_state(make, {}, KEY, X)
    kernels = [np.asarray(state.params["head"]["kernel"])]
    for _ in range(3):
        state, _ = train_step(make, {}, state, Batch(X, Y, ALL))
        kernels.append(np.asarray(state.params["head"]["kernel"]))
    average = kernels[0]
    for kernel in kernels[1:]:
        average = 0.75 * average + 0.25 * kernel
    judged = evaluate(make, {}, state, Examples(X, Y))
    params = {
        **state.params,
        **{k: v for k, v in state.opt_state.average.items() if not freeze or k == "head"},
    }
    params["head"] = {**params["head"], "kernel": average}
    plain = two_layers(optimizer=fnn.sgd(0.5))
    expected = evaluate(plain, {}, state._replace(params=params, opt_state=()), Examples(X, Y))
    np.testing.assert_allclose(judged["loss"], expected["loss"], rtol=1e-5)
    last = evaluate(plain, {}, state._replace(opt_state=()), Examples(X, Y))
    assert abs(float(judged["loss"]) - float(last["loss"])) > 1e-4


# --- metrics --------------------------------------------------------------------------------------------


def test_metrics_stand_beside_loss_and_accuracy():
    @wraps(fnn.top_k_accuracy)
    def top_two(logits: Any, targets: Any) -> Any:
        return fnn.top_k_accuracy(logits, targets, k=2)

    def largest(logits: Any, targets: Any) -> Any:
        return logits.max()

    make = linear(metrics=(top_two, largest))
    state = init_state(make, {}, KEY, X)
    measured = evaluate(make, {}, state, Examples(X, Y))
    logits = X @ softmax_regression.start((3, 4))
    right = [y in np.argsort(-row)[:2] for row, y in zip(logits, Y, strict=True)]
    np.testing.assert_allclose(measured["top_k_accuracy"], np.mean(right), rtol=1e-6)
    np.testing.assert_allclose(measured["largest"], logits.max(), rtol=1e-6)
    assert set(measured) == {"loss", "accuracy", "top_k_accuracy", "largest"}


def test_two_metrics_of_one_name_are_refused():
    make = linear(metrics=(fnn.top_k_accuracy, fnn.top_k_accuracy))
    with pytest.raises(ValueError, match="two metrics have the name top_k_accuracy"):
        fit(make, {}, blobs(20), batch_size=10)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((10, 2)), r"shape \(10, 2\)"),
        (0.5, "float"),
        ({"macro": 0.5}, "dict"),
        (None, "NoneType"),
    ],
)
def test_a_metric_gives_one_value_per_example_or_one_for_all(value, found):
    def metric(logits: Any, targets: Any) -> Any:
        return value

    message = (
        rf"a metric returns one value per example, shape \(10,\), or one for all; metric returns {found}"
    )
    with pytest.raises(ValueError, match=message):
        fit(linear(metrics=(metric,)), {}, blobs(20), batch_size=10)


@pytest.mark.parametrize("field", ["penalties", "augment", "metrics"])
def test_what_is_no_function_is_refused_by_its_field(field):
    message = f"^{field}: a tuple of functions is wanted, and 'accuracy' is none of them"
    with pytest.raises(ValueError, match=message):
        fit(linear(**{field: ("accuracy",)}), {}, blobs(20), batch_size=10)


def test_a_layer_in_freeze_is_no_pattern():
    with pytest.raises(ValueError, match=r"^freeze: a tuple of patterns is wanted, and 3 is none of them"):
        init_state(linear(freeze=(3,)), {}, KEY, X)


# --- penalties ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"), [(np.zeros(3), r"shape \(3,\)"), (np.zeros(1), r"shape \(1,\)"), (None, "NoneType")]
)
def test_a_penalty_is_one_number(value, found):
    make = linear(penalties=(lambda params: value,))
    with pytest.raises(ValueError, match=f"^penalties: a penalty returns one number, not {found}"):
        fit(make, {}, blobs(20), batch_size=10)
    _, measured = train_step(
        linear(penalties=(lambda params: 2, lambda params: np.float32(0.5))),
        {},
        init_state(make, {}, KEY, X),
        Batch(X, Y, ALL),
    )
    assert measured.penalty == 2.5


# --- early stopping -------------------------------------------------------------------------------------


def never_better(hyperparameters: Any) -> Task:
    net = fnn.linear(4, kernel_init=softmax_regression.start_init)
    return Task(net, fnn.softmax_cross_entropy, fnn.sgd(0.0))


def test_a_run_stops_when_its_best_epoch_is_old():
    seen = []
    run = fit(never_better, {}, blobs(20), epochs=9, batch_size=10, patience=3, report=seen.append)
    assert (run.best_epoch, len(run.history)) == (1, 4)
    assert [p.steps for p in seen] == [18, 18, 18, 8]
    assert (seen[-1].step, seen[-1].epochs) == (8, 4)


def test_without_patience_it_goes_on():
    assert len(fit(never_better, {}, blobs(20), epochs=6, batch_size=10).history) == 6


def test_patience_is_at_least_one():
    with pytest.raises(ValueError, match="patience must be at least 1, not 0"):
        fit(never_better, {}, blobs(20), batch_size=10, patience=0)


# --- data-dependent initial values ----------------------------------------------------------------------


def test_lsuv_starts_from_unit_variance():
    def make(hyperparameters: Any) -> Task:
        net = fnn.serial(fnn.linear(40), fnn.tanh, fnn.linear(4, name="head"))
        return Task(net, fnn.softmax_cross_entropy, fnn.sgd(0.0))

    data = blobs(300)
    run = fit(make, {}, data, epochs=1, batch_size=50, lsuv=True)
    inputs = fnn.standardize(data.train.x[:256], run.last.moments)
    outputs = fnn.intermediates(make({}).net, run.last.params, {}, inputs)
    for name in ("linear_1", "head"):
        np.testing.assert_allclose(np.var(outputs[name]), 1, rtol=0.05)
