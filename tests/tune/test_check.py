"""`fnn.check` on whole data sets, and `fnn.probe` on trained networks."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.tune._check import _gradient_error, _looks_ahead, _over_time, rate_numbers, suggested
from fnn.tune._short_runs import RANGE

DATA = fnn.split(fnn.digits(), validation=0.2)
START = 2.3  # the loss of a range test before its first step


def make(values):
    """A sound network for digits."""
    return fnn.serial(fnn.flatten, fnn.linear(10)), fnn.softmax_cross_entropy, fnn.adam(values["rate"])


def complaints(checked: fnn.Checked) -> list[str]:
    return [f.id for f in fnn.by_urgency(checked.findings) if f.verdict in ("WARN", "FAIL")]


@pytest.fixture(scope="module")
def sound() -> fnn.Checked:
    return fnn.check(make, {"rate": 1e-2}, DATA)


def test_a_sound_run_gets_no_complaint(sound):
    assert complaints(sound) == []


def test_every_check_of_data_and_start_is_made(sound):
    wanted = [id for id, check in fnn.CHECKS.items() if check.stage in ("data", "start")]
    assert [f.id for f in sound.findings] == wanted


def test_the_range_test_is_reported_whole(sound):
    assert len(sound.rates) == len(sound.losses) == 9
    assert sound.suggested in sound.rates
    assert sound.stable >= sound.suggested
    best = min(sound.losses)
    assert best <= sound.losses[sound.rates.index(sound.suggested)] <= 1.1 * best


def test_layers_come_in_network_order(sound):
    assert list(sound.layers) == ["flatten_1", "linear_1"]
    assert sound.layers["linear_1"]["deviation"] > 0


def test_a_rate_far_outside_is_said():
    assert complaints(fnn.check(make, {"rate": 10.0}, DATA))[0] == "rate_high"


def test_a_schedule_counts_with_its_largest_value(sound):
    values = {"rate": fnn.cosine(1e-2, steps=500, warmup=0.1)}
    assert fnn.check(make, values, DATA).losses == pytest.approx(sound.losses, rel=1e-3)


def gradient_error(its_make) -> float:
    few = fnn.Examples(jnp.asarray(DATA.train.x[:4]), jnp.asarray(DATA.train.y[:4]))
    means = fnn.moments(DATA.train.x)
    draws = [fnn.init_state(its_make, {"rate": 1e-2}, jax.random.key(k), few.x, means) for k in range(3)]
    return _gradient_error(its_make, {"rate": 1e-2}, draws, few)


def test_a_gradient_that_was_written_wrong_fails():
    @jax.custom_vjp
    def wrong(x):
        return jnp.tanh(x)

    wrong.defvjp(lambda x: (jnp.tanh(x), x), lambda x, dy: (dy * jnp.tanh(x),))

    def wrong_make(values):
        return fnn.serial(fnn.flatten, fnn.linear(8), wrong, fnn.linear(10)), *make(values)[1:]

    (found,) = fnn.find_all({"gradients": gradient_error(wrong_make)})
    assert found.verdict == "FAIL"


def test_mixed_precision_is_no_wrong_gradient():
    def mixed(values):
        net = fnn.mixed_precision(fnn.serial(fnn.flatten, fnn.linear(10)))
        return net, *make(values)[1:]

    (found,) = fnn.find_all({"gradients": gradient_error(mixed)})
    assert found.verdict == "PASS"


@pytest.mark.parametrize("where", ["loss", "layer"])
def test_what_is_computed_in_float32_has_no_gradient_to_compare_in_float64(where):
    def narrow(values):
        def cast(x):
            return x.astype(jnp.float32)

        net, loss, optimizer = make(values)
        if where == "layer":
            return fnn.serial(fnn.flatten, fnn.linear(8), cast, fnn.linear(10)), loss, optimizer
        return net, lambda outputs, y: loss(cast(outputs), y), optimizer

    assert math.isnan(gradient_error(narrow))


def test_the_network_is_measured_as_lsuv_scales_it():
    def small(values):
        draw = partial(fnn.truncated_normal, stddev=0.02)
        tanhs = [fnn.linear(16, kernel_init=draw), fnn.tanh] * 4
        return fnn.serial(fnn.flatten, *tanhs, fnn.linear(10)), *make(values)[1:]

    for lsuv, verdict in ((False, "FAIL"), (True, "PASS")):
        found = fnn.check(small, {"rate": 1e-2}, DATA, lsuv=lsuv).findings
        assert {f.id: f.verdict for f in found}["signal"] == verdict


def test_relus_that_begin_on_their_kink_are_no_wrong_gradient():
    """Where the first layer's units are all 0, the second convolution gives exactly its bias, zero."""

    def with_kinks(values):
        net = fnn.serial(
            fnn.conv(8, 3), fnn.relu, fnn.depthwise_conv(3), fnn.relu, fnn.flatten, fnn.linear(10)
        )
        return net, *make(values)[1:]

    (found,) = fnn.find_all({"gradients": gradient_error(with_kinks)})
    assert found.verdict == "PASS"


def test_lookahead_is_seen_whatever_is_around_it():
    def ahead(values):
        return *make(values)[:2], fnn.chain(
            fnn.clip_by_global_norm(1.0), fnn.lookahead(fnn.adam(values["rate"]))
        )

    for its_make, looks_ahead in ((ahead, True), (make, False)):
        state = fnn.init_state(its_make, {"rate": 1.0}, jax.random.key(0), DATA.train.x[:1])
        assert _looks_ahead(state) == looks_ahead


def test_a_rate_at_which_everything_diverges_is_too_high():
    assert rate_numbers(np.full(13, np.inf), START) == {"rate_high": 3.0, "rate_low": 0.0}
    negative = np.where(np.arange(13) == 4, -5.0, -1.0)
    assert rate_numbers(negative, START) == {"rate_high": 1.0, "rate_low": 0.0}


def test_regression_is_checked_without_what_only_classes_have():
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    parts = [fnn.Examples(x[cut], x[cut, :1] * 50) for cut in (slice(150), slice(150, 200), slice(0))]

    def regression(values):
        return fnn.serial(fnn.linear(1)), fnn.mean_squared_error, fnn.adam(values["rate"])

    checked = fnn.check(regression, {"rate": 0.3}, fnn.Splits(*parts, (), "line"))
    verdicts = {f.id: f.verdict for f in checked.findings}
    assert verdicts["data_labels"] == verdicts["initial_loss"] == verdicts["overfit"] == "SKIP"
    assert "FAIL" not in verdicts.values()


def test_what_does_not_fit_together_is_said_before_anything_is_measured():
    def nine(values):
        return fnn.serial(fnn.flatten, fnn.linear(9)), *make(values)[1:]

    with pytest.raises(ValueError, match="must end in \\(batch, 10\\)"):
        fnn.check(nine, {"rate": 1e-2}, DATA)


def test_running_statistics_that_fit_the_data_are_near_and_others_far():
    x = np.random.default_rng(0).normal(3.0, 2.0, (500, 4)).astype(np.float32)
    net = fnn.serial(fnn.batch_norm(), fnn.linear(2))

    def batch_norm_make(values):
        return net, fnn.softmax_cross_entropy, fnn.sgd(0.1)

    state = fnn.init_state(batch_norm_make, (), jax.random.key(0), x)
    far = fnn.probe(batch_norm_make, (), state, x)["statistics"]["batch_norm_1"]
    assert float(far) == pytest.approx(math.sqrt(3.0**2 + math.log(2.0) ** 2), rel=0.05)
    moments = {"batch_norm_1": {"mean": jnp.asarray(x.mean(0)), "var": jnp.asarray(x.var(0))}}
    near = fnn.probe(batch_norm_make, (), state._replace(state=moments), x)["statistics"]["batch_norm_1"]
    assert float(near) < 0.01
    x[:, 1] = 2.0  # a channel that never changes
    moments = {"batch_norm_1": {"mean": jnp.asarray(x.mean(0)), "var": jnp.asarray(x.var(0))}}
    assert (
        float(fnn.probe(batch_norm_make, (), state._replace(state=moments), x)["statistics"]["batch_norm_1"])
        < 0.01
    )


def test_what_is_probed_is_a_state_on_some_inputs():
    x, values = DATA.train.x[:4], {"rate": 1e-2}
    state = fnn.init_state(make, values, jax.random.key(0), x)
    with pytest.raises(TypeError, match=r"^state must be a TrainState, such as result.best .*, not Fit$"):
        fnn.probe(make, values, fnn.Fit(state, state, 0, ()), x)
    with pytest.raises(ValueError, match=r"^the number of inputs must be at least 1, not 0$"):
        fnn.probe(make, values, state, x[:0])


def test_dead_units_and_flat_tails_are_counted():
    def dead_make(values):
        return (
            fnn.serial(fnn.linear(4), fnn.relu, fnn.linear(3), fnn.tanh),
            fnn.mean_squared_error,
            fnn.sgd(0.1),
        )

    x = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    state = fnn.init_state(dead_make, (), jax.random.key(0), x)
    params = state.params
    params["linear_1"]["bias"] = jnp.array([-100.0, 0.0, 0.0, -100.0])
    params["linear_2"]["bias"] = jnp.array([0.0, 0.0, 50.0])
    params["linear_2"]["kernel"] = params["linear_2"]["kernel"] * 0
    found = fnn.probe(dead_make, (), state._replace(params=params), x)
    assert float(found["dead_units"]["relu_1"]) == 0.5
    assert float(found["saturated_units"]["tanh_1"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("rate", "falls"),
    [
        (0.1, False),
        (fnn.cosine(0.1, steps=50, warmup=0.1), True),
        (fnn.cosine(0.1, steps=100_000), True),
        (fnn.step_decay(0.1, every=30), True),
        (fnn.linear_warmup(0.1, steps=50), False),
        (lambda step: 0.1 / (1 + step), True),
    ],
)
def test_a_rate_that_falls_is_known(rate, falls):
    assert _over_time({"rate": rate, "decay": 0.9})[1] == falls


def test_the_configured_rate_is_judged_by_the_nearest_good_one():
    losses = np.full(13, np.nan)
    losses[[0, 2, 4, 6, 8, 10, 12]] = [3.0, 2.0, 1.5, 1.015, 1.0, 4.0, np.inf]
    losses[[7, 9]] = [1.1, 1.2]
    assert suggested(losses, START, anneals=True) == pytest.approx(10)  # the largest of the near
    losses[8] = 1.2
    assert suggested(losses, START, anneals=True) == pytest.approx(10**0.5)
    assert suggested(losses, START, anneals=False) == 1  # the smallest
    assert suggested(np.where(np.isnan(losses), losses, np.inf), START, anneals=False) == 1e-3
    losses[8] = 1.0
    assert rate_numbers(losses, START) == {"rate_high": 0.0, "rate_low": 0.0}
    losses[6] = 1.05
    assert rate_numbers(losses, START) == {"rate_high": 0.0, "rate_low": pytest.approx(1)}


@pytest.mark.parametrize("anneals", [True, False])
def test_a_loss_that_starts_at_0_says_nothing_of_the_rate(anneals):
    rises = np.array(RANGE)  # as that of a perceptron does from weights of 0, in proportion to the rate
    assert rate_numbers(rises, 0.0) == {}
    assert suggested(rises, 0.0, anneals=anneals) == 1


@pytest.mark.parametrize("anneals", [True, False])
def test_where_hardly_any_rate_moves_the_loss_one_that_does_is_suggested(anneals):
    losses = np.full(13, np.nan)
    losses[[0, 2, 4, 6, 8, 10, 11, 12]] = [3.0233, 3.0233, 3.0233, 3.0231, 3.0214, 3.0043, 2.9639, 2.8437]
    assert suggested(losses, START, anneals=anneals) == 1e3


def test_structure_among_the_hyperparameters_is_one_sentence():
    def make(hyperparameters):
        net = fnn.serial(fnn.flatten, fnn.mlp((hyperparameters["width"],), 10))
        return net, fnn.softmax_cross_entropy, fnn.sgd(0.1)

    data = fnn.split(fnn.digits(), validation=0.2)
    with pytest.raises(
        TypeError, match=r"^make decides about structure by a number among the hyperparameters"
    ):
        fnn.check(make, {"width": 8}, data)
