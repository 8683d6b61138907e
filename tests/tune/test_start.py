"""Numbers about a network before its first step: closed forms, and one thing broken after the other."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.train import Batch
from fnn.tune._networks import without_noise
from fnn.tune._short_runs import RANGE, overfit, range_test, trained_for
from fnn.tune._start import _independence, _of_optimizer, _thinned, at_start

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 12)).astype(np.float32)
Y = (np.arange(64) % 4).astype(np.int32)
EXAMPLES = fnn.Examples(X, Y)
SOUND = {"rate": 0.1, "init": 1.0, "l2": 1e-4, "drop": 0.2, "momentum": 0.9, "clip": 1e9, "running": 0.9,
         "relu": 0.0, "softmax": 0.0, "sign": 1.0}  # fmt: skip


def make(values, *, freeze=()):
    """A network in which every value can break something."""
    net = fnn.serial(
        fnn.linear(16), fnn.batch_norm(momentum=values["running"]), fnn.relu, fnn.dropout(values["drop"]), fnn.linear(4),
        lambda z: jnp.where(values["relu"] > 0, jax.nn.relu(z), z),
        lambda z: jnp.where(values["softmax"] > 0, jax.nn.softmax(z), z),
    )  # fmt: skip

    def init(key, x):
        params, state = net.init(key, x)
        for layer in ("linear_1", "linear_2"):
            params[layer]["kernel"] *= values["init"]
        return params, state

    from dataclasses import replace

    return fnn.Task(
        replace(net, init=init),
        lambda outputs, y: fnn.softmax_cross_entropy(values["sign"] * outputs, y),
        fnn.chain(fnn.clip_by_global_norm(values["clip"]), fnn.momentum(values["rate"], values["momentum"])),
        (lambda params: fnn.l2(params, values["l2"]),),
        freeze=freeze,
    )


def draws(make, values, key, examples):
    """Eight states before the first step."""
    return jax.vmap(lambda key: fnn.init_state(make, values, key, examples.x))(jax.random.split(key, 8))


def start(make, values, key, examples):
    return at_start(make, values, draws(make, values, key, examples), examples)


starts = jax.jit(start, static_argnums=0)


def measured(*given):
    return starts(*given)[0]


def measure(values):
    return measured(make, jax.tree.map(jnp.float32, values), KEY, EXAMPLES)


def findings(values) -> list[tuple[str, str]]:
    numbers = jax.tree.map(float, measure(values))
    return [(f.verdict, f.id) for f in fnn.by_urgency(fnn.find_all(numbers)) if f.verdict in ("WARN", "FAIL")]


def test_nothing_is_wrong_with_a_sound_network():
    assert findings(SOUND) == []


@pytest.mark.parametrize(
    ("broken", "id"),
    [
        ({"init": 0.0}, "signal"),
        ({"init": 30.0}, "logit_variance"),
        ({"l2": -1e-3}, "penalty_sign"),
        ({"l2": 30.0}, "penalty_size"),
        ({"drop": 0.95}, "noise"),
        ({"momentum": 0.999}, "memory"),
        ({"clip": 1e-8}, "clipping"),
        ({"running": 1.0}, "state_updates"),
        ({"relu": 1.0}, "output_negative"),
        ({"softmax": 1.0}, "output_probabilities"),
        ({"sign": -1.0}, "loss_target"),
    ],
)
def test_what_is_broken_fails_and_is_named_first(broken, id):
    assert findings(SOUND | broken)[0] == ("FAIL", id)


def test_a_layer_that_is_frozen_at_its_initial_values_is_said():
    values = jax.tree.map(jnp.float32, SOUND)
    numbers = measured(partial(make, freeze=("linear_1/*",)), values, KEY, EXAMPLES)
    assert float(numbers["frozen"]) == pytest.approx((12 * 16 + 16) / (12 * 16 + 16 + 32 + 16 * 4 + 4))
    assert float(measure(SOUND)["frozen"]) == 0


def linear_make(optimizer, *, net=None, penalties=(), loss=fnn.softmax_cross_entropy):
    net = net or fnn.serial(fnn.linear(4, bias=False))
    return lambda values: fnn.Task(net, loss, optimizer, penalties)


PLAIN = linear_make(fnn.sgd(0.1))  # compiled once for several tests
GRADIENT = {"kernel": jnp.asarray(RANDOM.normal(size=(12, 4)), jnp.float32)}
of_optimizer = jax.jit(_of_optimizer, static_argnums=0)


@pytest.mark.parametrize("m", [0.6, 0.9, 0.97, 0.999])
def test_updates_with_momentum_go_on_until_the_turned_gradient_has_outweighed_the_old(m):
    # v = (1 - m¹⁰⁰) / (1 - m) g when the gradient turns, and mᵗ v - (1 - mᵗ) / (1 - m) g after t more steps.
    zero = math.log(2 - m**100) / -math.log(m)
    numbers = of_optimizer(fnn.momentum(0.1, m), GRADIENT)
    assert float(numbers["memory"]) == pytest.approx(math.floor(zero) / 100)


@pytest.mark.parametrize(("size", "step"), [(0, 1), (1, 1), (32, 1), (33, 2), (784, 25)])
def test_the_memory_of_an_optimizer_is_measured_on_at_most_32_numbers_of_each_axis(size, step):
    leaf = np.arange(3 * size).reshape(3, size)
    kept = _thinned(leaf)
    assert kept.shape[1] <= 32
    np.testing.assert_array_equal(kept, leaf[:, ::step])


def test_clipping_is_the_gradients_norm_over_the_limit():
    numbers = measured(linear_make(fnn.chain(fnn.clip_by_global_norm(1e-3), fnn.sgd(1.0))), (), KEY, EXAMPLES)
    first = jax.random.split(KEY, 8)[0]
    state = fnn.init_state(linear_make(fnn.sgd(1.0)), (), first, X)
    z = X @ np.asarray(state.params["linear_1"]["kernel"])
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    norm = np.linalg.norm(X.T @ (p - np.eye(4)[Y]) / len(X))
    assert float(numbers["clipping"]) == pytest.approx(norm / 1e-3, rel=1e-3)


@pytest.mark.parametrize(
    "optimizer", [fnn.sgd(0.1), fnn.adam(1e-3), fnn.adagrad(0.1), fnn.lion(1e-3), fnn.lamb(1e-2)]
)
def test_an_optimizer_that_clips_nothing_is_not_said_to(optimizer):
    numbers = of_optimizer(optimizer, GRADIENT)
    assert float(numbers["clipping"]) == pytest.approx(1, rel=1e-3)
    assert float(numbers["memory"]) < 0.5


def test_an_optimizer_that_accumulates_gradients_cannot_be_told():
    numbers = of_optimizer(fnn.accumulate_gradients(fnn.sgd(0.1), 4), GRADIENT)
    assert np.isnan(numbers["clipping"])
    assert np.isnan(numbers["memory"])


def test_a_last_layer_that_starts_at_zero_is_no_trouble():
    head = fnn.linear(4, kernel_init=fnn.constant)
    numbers = measured(
        linear_make(fnn.sgd(0.1), net=fnn.serial(fnn.linear(8), fnn.relu, head)), (), KEY, EXAMPLES
    )
    assert [f.id for f in fnn.find_all(jax.tree.map(float, numbers)) if f.verdict in ("WARN", "FAIL")] == []


def test_a_margin_that_is_met_has_no_say_about_the_loss():
    numbers = measured(linear_make(fnn.sgd(0.1), loss=fnn.perceptron_loss), (), KEY, EXAMPLES)
    assert float(numbers["loss_target"]) == 1


def test_the_loss_at_the_start_is_expected_above_ln_c():
    numbers = measured(PLAIN, (), KEY, EXAMPLES)
    losses, variances = [], []
    for key in jax.random.split(KEY, 8):
        state = fnn.init_state(PLAIN, (), key, X)
        z = (X @ np.asarray(state.params["linear_1"]["kernel"])).astype(float)
        losses.append(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(64), Y]))
        variances.append(np.mean(z.var(1)))
    assert float(numbers["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(numbers["logit_variance"]) == pytest.approx(np.mean(variances), rel=1e-5)
    assert float(numbers["expected_loss"]) == pytest.approx(math.log(4) + np.mean(variances) / 2, rel=1e-5)


def test_the_penalty_is_added_to_the_loss_at_the_start():
    numbers = measured(
        linear_make(fnn.sgd(0.1), penalties=(partial(fnn.l2, strength=0.1),)), (), KEY, EXAMPLES
    )
    squares = [
        np.sum(np.square(fnn.init_state(PLAIN, (), key, X).params["linear_1"]["kernel"]))
        for key in jax.random.split(KEY, 8)
    ]
    added = float(numbers["loss_with_penalty"] - numbers["loss"])
    assert added == pytest.approx(0.1 * np.mean(squares), rel=1e-4)


def test_a_network_that_mixes_examples_is_said_to():
    mixing = fnn.serial(fnn.linear(4), lambda x: x - x.mean(0, keepdims=True))
    mixed = measured(linear_make(fnn.sgd(0.1), net=mixing), (), KEY, EXAMPLES)["independence"]
    apart = measured(PLAIN, (), KEY, EXAMPLES)["independence"]
    assert fnn.find_all({"independence": float(mixed)})[0].verdict == "FAIL"
    assert float(apart) == 0


@pytest.mark.parametrize(
    ("loss", "y", "outputs", "verdict"),
    [
        (lambda o, y: jnp.square(o - y).mean(-1), X[:, 0], 1, "FAIL"),  # (N, 1) - (N,) is (N, N)
        (lambda o, y: jnp.square(o - y).mean(-1), X[:, :1], 1, "PASS"),
        (fnn.mean_squared_error, X[:, :1], 1, "PASS"),
        (fnn.softmax_cross_entropy, np.eye(4, dtype=np.float32)[Y], 4, "PASS"),
    ],
)
def test_a_loss_that_broadcasts_mixes_examples(loss, y, outputs, verdict):
    task = fnn.Task(fnn.linear(outputs), loss, fnn.sgd(0.1))
    state = fnn.init_state(lambda _: task, (), KEY, X)
    with jax.numpy_rank_promotion("allow"):
        mixed = _independence(task, state, X, y)
    assert fnn.find_all({"independence": float(mixed)})[0].verdict == verdict


@pytest.mark.parametrize("inverted", [True, False])
def test_dropouts_noise_is_its_rate_over_the_rest(inverted):
    # Of inputs of mean 0 behind dropout, a linear layer's outputs vary by r / (1 - r) times their variance.
    net = fnn.serial(fnn.dropout(0.75, inverted=inverted), fnn.linear(40, bias=False))
    examples = fnn.Examples(RANDOM.normal(size=(400, 12)).astype(np.float32), np.zeros(400, np.int32))
    numbers = measured(linear_make(fnn.sgd(0.1), net=net), (), KEY, examples)
    assert float(numbers["noise"]) == pytest.approx(3, rel=0.25)


def test_layers_without_dropout_are_the_same_network():
    dropouts = fnn.dropout(0.5), fnn.dropout(0.5, inverted=False)
    net = fnn.serial(fnn.linear(3), fnn.residual(*dropouts, fnn.linear(3)), fnn.relu)
    quiet = without_noise(net)
    params, state = net.init(KEY, X)
    assert jax.tree.structure(quiet.init(KEY, X)) == jax.tree.structure((params, state))
    np.testing.assert_array_equal(
        quiet.apply(params, state, X, train=True)[0], net.apply(params, state, X, train=False)[0]
    )
    plain = fnn.serial(fnn.linear(3), fnn.relu)
    assert without_noise(plain) is plain


def test_layers_are_measured_by_path():
    net = fnn.serial(fnn.linear(6), fnn.relu, fnn.linear(5), fnn.tanh)
    _, found = starts(linear_make(fnn.sgd(0.1), net=net), (), KEY, EXAMPLES)
    hidden, end = [], []
    for key in jax.random.split(KEY, 8):
        params = fnn.init_state(linear_make(fnn.sgd(0.1), net=net), (), key, X).params
        hidden.append(X @ np.asarray(params["linear_1"]["kernel"]))
        end.append(np.tanh(np.maximum(hidden[-1], 0) @ np.asarray(params["linear_2"]["kernel"])))
    deviation = np.mean([np.sqrt(h.var(0).mean()) for h in hidden])
    assert float(found["linear_1"]["deviation"]) == pytest.approx(deviation, rel=1e-4)
    assert float(found["relu_1"]["dead"]) == pytest.approx(np.mean([(h <= 0).all(0) for h in hidden]))
    assert float(found["tanh_1"]["saturated"]) == pytest.approx(np.mean(np.abs(end) > 0.96))
    assert float(found["tanh_1"]["mean"]) == pytest.approx(np.mean(end), abs=1e-5)


def test_a_few_examples_are_learnt_by_heart_and_not_where_nothing_learns():
    few = fnn.Examples(X[:8], Y[:8])
    right, excess = overfit(make, SOUND, 1.0, fnn.init_state(make, SOUND, KEY, few.x), few)
    assert float(right) == 1
    assert float(excess) <= 0.01
    still = SOUND | {"rate": 0.0}
    right, excess = overfit(make, still, 1.0, fnn.init_state(make, still, KEY, few.x), few, steps=20)
    assert float(right) < 1
    assert float(excess) > 0.1


def test_label_smoothing_does_not_keep_a_sample_from_being_learnt():
    smooth = linear_make(fnn.adam(0.1), loss=partial(fnn.softmax_cross_entropy, label_smoothing=0.2))
    few = fnn.Examples(X[:8], Y[:8])
    _, excess = overfit(smooth, (), 1.0, fnn.init_state(smooth, (), KEY, few.x), few)
    assert abs(float(excess)) <= 0.02


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_regression_is_judged_relative_to_where_it_starts(scale):
    def regression(values):
        return fnn.serial(fnn.linear(1)), fnn.mean_squared_error, fnn.sgd(0.1)

    few = fnn.Examples(X[:6], (scale * X[:6, :1]).astype(np.float32))
    state = fnn.init_state(regression, (), KEY, few.x)
    right, excess = overfit(regression, (), 1.0, state, few)
    assert np.isnan(right)
    assert float(excess) <= 0.01
    assert float(overfit(regression, (), 0.0, state, few, steps=3)[1]) == pytest.approx(1)


def test_probabilities_as_targets_have_their_entropy_as_the_lowest_loss():
    def soft(values):
        return fnn.serial(fnn.linear(4)), fnn.softmax_cross_entropy, fnn.adam(0.1)

    targets = np.full((6, 4), 0.1, np.float32)
    targets[np.arange(6), np.arange(6) % 4] = 0.7
    few = fnn.Examples(X[:6], targets)
    _, excess = overfit(soft, (), 1.0, fnn.init_state(soft, (), KEY, few.x), few)
    assert abs(float(excess)) <= 0.01


@pytest.mark.parametrize("loss", [fnn.softmax_cross_entropy, fnn.sigmoid_cross_entropy])
def test_one_hot_targets_have_a_lowest_loss_of_0(loss):
    def one_hot(values):
        return fnn.serial(fnn.linear(4)), loss, fnn.adam(0.1)

    few = fnn.Examples(X[:6], np.eye(4, dtype=np.float32)[Y[:6]])
    _, excess = overfit(one_hot, (), 1.0, fnn.init_state(one_hot, (), KEY, few.x), few)
    assert abs(float(excess)) <= 0.01


def regression(sign):
    def its_make(values):
        return fnn.serial(fnn.linear(2)), lambda o, y: sign * fnn.mean_squared_error(o, y), fnn.sgd(0.1)

    return its_make, fnn.Examples(X, np.asarray(X[:, :2] * 1e-3, np.float32))


@pytest.mark.parametrize(("sign", "share"), [(1.0, 1.0), (-1.0, 0.0)])
def test_a_loss_of_numbers_falls_as_the_outputs_of_larger_targets_rise(sign, share):
    its_make, examples = regression(sign)
    assert float(measured(its_make, (), KEY, examples)["loss_target"]) == share


def test_a_loss_below_its_supposed_lowest_is_not_judged():
    its_make, few = regression(-1.0)
    assert np.isnan(float(overfit(its_make, (), 1.0, fnn.init_state(its_make, (), KEY, few.x), few)[1]))


def test_a_penalty_that_is_least_away_from_0_does_not_reward_large_parameters():
    def orthogonal(params):
        kernel = params["linear_1"]["kernel"]
        return 1e-2 * jnp.square(kernel.T @ kernel - jnp.eye(kernel.shape[1])).sum()

    def its_make(values):
        net = fnn.serial(fnn.linear(4, kernel_init=fnn.orthogonal), fnn.linear(4))
        return fnn.Task(net, fnn.softmax_cross_entropy, fnn.sgd(0.1), (orthogonal,))

    numbers = measured(its_make, (), KEY, EXAMPLES)
    assert float(numbers["penalty_sign"]) > 0


def test_shares_as_targets_of_the_squared_error_are_not_learnt_without_their_inputs():
    def blind(values):
        return fnn.serial(lambda x: 0 * x, fnn.linear(4)), fnn.mean_squared_error, fnn.adam(0.1)

    few = fnn.Examples(X[:8], np.eye(4, dtype=np.float32)[Y[:8]])
    _, excess = overfit(blind, (), 1.0, fnn.init_state(blind, (), KEY, few.x), few, steps=50)
    assert float(excess) > 0.1


def test_a_network_that_ends_in_log_probabilities_learns_its_sample():
    def likelihood(outputs, y):
        return -jnp.sum(jax.nn.one_hot(y, 4) * outputs, -1)

    def make(values):
        return fnn.serial(fnn.mlp((16,), 4), jax.nn.log_softmax), likelihood, fnn.adam(0.1)

    few = fnn.Examples(X[:8], Y[:8])
    right, excess = overfit(make, (), 1.0, fnn.init_state(make, (), KEY, few.x), few)
    assert float(right) == 1
    assert 0 <= float(excess) <= 0.01


def test_a_short_run_with_a_factor_is_that_of_the_rate_times_the_factor():
    def sgd_make(values):
        return fnn.serial(fnn.linear(4)), fnn.softmax_cross_entropy, fnn.momentum(values)

    rows = np.arange(60).reshape(5, 12)
    mask, visit = jnp.ones(rows.shape, bool), None
    batches = Batch(jnp.asarray(X[rows]), jnp.asarray(Y[rows]), mask, visit)
    state = fnn.init_state(sgd_make, 0.1, KEY, X)
    scaled = trained_for(sgd_make, 0.1, 3.0, state, batches)
    np.testing.assert_allclose(scaled, trained_for(sgd_make, 0.3, 1.0, state, batches), rtol=1e-5)
    assert not np.allclose(scaled, trained_for(sgd_make, 0.1, 1.0, state, batches), rtol=1e-3)


def linear_run(x, y, kernel, factor, strength):
    """Softmax regression by gradient descent on one batch after the other, in NumPy: the losses."""
    losses = []
    for inputs, labels in zip(x.astype(float), y, strict=True):
        z = inputs @ kernel
        log_shares = z - np.logaddexp.reduce(z, 1, keepdims=True)
        losses.append(-log_shares[np.arange(len(labels)), labels].mean())
        slope = inputs.T @ (np.exp(log_shares) - np.eye(4)[labels]) / len(labels) + 2 * strength * kernel
        kernel = kernel - 0.1 * factor * slope
    return np.mean(losses[-(len(losses) // 4) :])


@pytest.mark.parametrize("pull", [1.0, 0.0])
def test_the_range_test_tries_powers_of_ten_and_what_lies_beside_the_best(pull):
    make = linear_make(fnn.sgd(0.1), penalties=(partial(fnn.l2, strength=0.05),))
    rows = np.arange(96).reshape(8, 12) % 64
    batches = Batch(jnp.asarray(X[rows]), jnp.asarray(Y[rows]), jnp.ones(rows.shape, bool), None)
    state = fnn.init_state(make, (), KEY, X)
    losses, blank = jax.jit(range_test, static_argnums=0)(make, (), state, batches, pull)
    kernel = np.asarray(state.params["linear_1"]["kernel"], float)
    expected = [linear_run(X[rows], Y[rows], kernel, factor, 0.05 * pull) for factor in RANGE]
    tried = np.flatnonzero(~np.isnan(losses))
    best = 2 * int(np.argmin(expected[::2]))
    assert 0 < best < 12
    assert set(tried) == {*range(0, 13, 2), best - 1, best + 1}
    np.testing.assert_allclose(losses[tried][:9], np.array(expected)[tried][:9], rtol=1e-3)
    assert float(blank) == pytest.approx(math.log(4), rel=1e-5)


def test_a_rate_at_the_end_of_the_range_has_one_neighbour():
    make = linear_make(fnn.sgd(1e-6))
    rows = np.arange(96).reshape(8, 12) % 64
    batches = Batch(jnp.asarray(X[rows]), jnp.asarray(Y[rows]), jnp.ones(rows.shape, bool), None)
    losses, _ = range_test(make, (), fnn.init_state(make, (), KEY, X), batches)
    assert set(np.flatnonzero(~np.isnan(losses))) == {*range(0, 13, 2), 11}
