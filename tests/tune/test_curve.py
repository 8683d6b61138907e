"""The shapes of learning curves, drawn by formula."""

import itertools
import math

import numpy as np
import pytest

import fnn
from fnn.tune._curve import in_pieces

STEPS = np.arange(200.0)
FALL = 0.1 + 2.2 * np.exp(-STEPS / 30)
NONE = np.zeros(0)


def judged(
    loss, *, steps=STEPS, accuracy=NONE, validation_loss=NONE, validation_accuracy=NONE, **more
) -> dict:
    curves = fnn.Curves(steps, np.asarray(loss), accuracy, validation_loss, validation_accuracy, **more)
    return {f.id: f for f in fnn.judge(curves)}


def wrong(findings: dict) -> set[str]:
    return {id for id, f in findings.items() if f.verdict in ("WARN", "FAIL")}


def test_a_curve_that_falls_and_flattens_is_sound():
    noise = 0.02 * np.random.default_rng(0).normal(size=200)
    assert wrong(judged(FALL + noise)) == set()


def test_a_curve_that_barely_moves_is_said_to():
    found = judged(2.3 - 0.0001 * STEPS)
    assert wrong(found) == {"barely_moves"}
    assert found["barely_moves"].value == pytest.approx(0.0001 * 197 / 2.3, rel=0.05)


def test_a_loss_that_is_no_number_diverged_and_the_step_is_named():
    found = judged(np.where(STEPS > 120, np.nan, FALL))
    assert found["diverged"].verdict == "FAIL"
    assert found["diverged"].value == math.inf
    assert "step 121" in found["diverged"].why


def test_a_loss_that_ends_above_its_start_diverged_and_is_not_told_to_raise_the_rate():
    found = judged(2.3 + 0.05 * STEPS)
    assert found["diverged"].verdict == "FAIL"
    assert (found["barely_moves"].verdict, found["barely_moves"].advice) == ("SKIP", "")


def test_a_loss_that_starts_at_0_cannot_fall():
    found = judged(np.concatenate([[0.0], np.ones(len(STEPS) - 1)]))
    assert wrong(found) == set()
    assert found["barely_moves"].verdict == "SKIP"


def test_ups_and_downs_are_summed_over_the_range():
    zigzag = np.where(np.arange(50) % 2, 3.0, 1.0)
    found = judged(zigzag, steps=np.arange(50.0))
    assert found["jumps"].value == pytest.approx(25)
    assert found["jumps"].verdict == "FAIL"
    assert found["jumps"].why.endswith("the largest from 1 to 3 at step 0")


def test_a_curve_that_only_falls_has_no_largest_rise():
    assert judged(np.linspace(2.3, 0.1, 50), steps=np.arange(50.0))["jumps"].why.endswith("it only falls")


def test_a_cliff_comes_late_and_an_exponential_does_not():
    cliff = np.where(STEPS < 150, 2.3, 0.1)
    assert judged(cliff)["late_fall"].verdict in ("WARN", "FAIL")
    assert judged(0.1 + 2.2 * np.exp(-STEPS / 100))["late_fall"].value == pytest.approx(0.15, abs=0.07)


def test_a_curve_that_begins_late_is_judged_as_one_that_begins_at_0():
    loss = 0.1 + 2.2 * np.exp(-STEPS / 100)
    assert judged(loss, steps=STEPS + 10_000)["late_fall"].value == judged(loss)["late_fall"].value


def test_the_gap_is_counted_beyond_its_standard_error():
    epochs = np.ones(20)
    found = judged(FALL, accuracy=epochs, validation_accuracy=0.8 * epochs, validation_examples=400)
    assert found["overfitting"].value == pytest.approx(0.2 - 2 * math.sqrt(0.8 * 0.2 / 400))
    assert "it overfits" in found["overfitting"].why
    close = judged(FALL, accuracy=0.81 * epochs, validation_accuracy=0.8 * epochs, validation_examples=400)
    assert close["overfitting"].value == 0
    assert "capacity" in close["overfitting"].why
    near = judged(FALL, accuracy=0.83 * epochs, validation_accuracy=0.8 * epochs, validation_examples=400)
    assert "a gap of 0.030, standard error 0.020, within two: " in near["overfitting"].why


def test_a_validation_loss_that_rises_again_is_measured_from_its_lowest():
    rising = np.concatenate([np.linspace(2, 0.5, 10), np.linspace(0.5, 2.5, 40)])
    found = judged(FALL, validation_loss=rising)
    assert found["validation_rise"].value == pytest.approx(np.mean(rising[-5:]) / 0.5 - 1)
    assert found["validation_rise"].verdict == "WARN"


def test_a_validation_loss_that_still_falls_wants_more_epochs():
    assert judged(FALL, validation_loss=np.geomspace(2, 0.02, 20))["still_falling"].verdict == "WARN"
    assert judged(FALL, validation_loss=np.full(20, 0.5))["still_falling"].value == 0


def test_a_run_below_a_larger_reference_underfits():
    def run(accuracy: float) -> fnn.Curves:
        return fnn.Curves(STEPS, FALL, np.full(20, accuracy), NONE, np.full(20, accuracy), 1000)

    (low,) = [f for f in fnn.judge(run(0.8), reference=run(0.9)) if f.id == "underfitting"]
    (same,) = [f for f in fnn.judge(run(0.9), reference=run(0.9)) if f.id == "underfitting"]
    assert low.value == pytest.approx(0.1 / math.sqrt((0.16 + 0.09) / 1000), rel=1e-3)
    assert (low.verdict, same.verdict) == ("WARN", "PASS")


def test_watched_records_give_the_update_ratio_and_the_purity_of_batches():
    records = [
        {"step": s, "update_ratio": {"a/kernel": 0.5, "a/bias": 9.0, "b/kernel": 1e-3},
         "batch_purity": 0.55, "grad_norm": 1.0}
        for s in range(20)
    ]  # fmt: skip
    curves = fnn.Curves(STEPS, FALL, NONE, NONE, NONE)
    found = {f.id: f for f in fnn.judge(curves, records, same_class=0.1)}
    assert found["update_ratio_high"].value == pytest.approx(math.log10(0.5))
    assert "a/kernel" in found["update_ratio_high"].why
    assert found["batch_purity"].value == pytest.approx(0.5)
    assert found["batch_purity"].verdict == "FAIL"


def test_a_spike_is_measured_against_its_surroundings():
    highest = np.where(STEPS == 77, 5000.0, 1.0)
    curves = fnn.Curves(STEPS, np.ones(200), NONE, NONE, NONE, highest=highest)
    (spike,) = [f for f in fnn.judge(curves) if f.id == "spikes"]
    assert (spike.value, spike.verdict) == (5000.0, "FAIL")
    assert "step 77" in spike.why


@pytest.mark.parametrize(("every", "says"), [(1, "at step 41"), (4, "at step 41 or soon after")])
def test_the_step_of_a_mean_is_about_right(every, says):
    loss, steps = np.ones(50), 1 + np.arange(50) * every
    highest = np.where(steps == 41, 5000.0, 1.0)
    spike = {f.id: f for f in fnn.judge(fnn.Curves(steps, loss, NONE, NONE, NONE, highest=highest))}["spikes"]
    assert spike.why.endswith(says)
    loss[steps == 41] = np.nan
    (end,) = [
        f for f in fnn.judge(fnn.Curves(steps, loss, NONE, NONE, NONE, highest=highest)) if f.value == np.inf
    ]
    assert end.why.endswith(says)


def test_what_is_judged_are_curves():
    with pytest.raises(
        TypeError, match=r"^curves must be fnn.Curves, not tuple; of the epochs of a fit's history"
    ):
        fnn.judge(({"loss": 1.0}, {"loss": 0.5}))
    with pytest.raises(TypeError, match=r"^reference must be fnn.Curves, not str; of the epochs"):
        fnn.judge(fnn.Curves(STEPS, FALL, NONE, NONE, NONE), reference="wider")


@pytest.mark.parametrize("count", [1, 199, 201])
def test_there_are_as_many_steps_as_losses(count):
    whole = fnn.Curves(STEPS, FALL, NONE, NONE, NONE)
    other = whole._replace(steps=np.arange(count))
    message = rf"there must be as many: not {count} for 200 losses$"
    with pytest.raises(ValueError, match=rf"^the steps of curves .* {message}"):
        fnn.judge(other)
    with pytest.raises(ValueError, match=rf"^the steps of reference .* {message}"):
        fnn.judge(whole, reference=other)


def test_curves_may_be_lists():
    held = np.linspace(0.5, 0.8, 20)
    arrays = fnn.Curves(STEPS, FALL, held, 1 - held, held, 100, highest=FALL)
    lists = fnn.Curves(*(part.tolist() if isinstance(part, np.ndarray) else part for part in arrays))
    assert fnn.judge(lists, reference=lists) == fnn.judge(arrays, reference=arrays)


def test_a_fast_fall_is_no_spike():
    loss = np.concatenate([[410.0, 46.8, 0.23, 0.012], np.full(40, 0.01)])
    curves = fnn.Curves(STEPS[:44], loss, NONE, NONE, NONE, highest=2.5 * loss)
    assert [f.verdict for f in fnn.judge(curves) if f.id == "spikes"] == ["PASS"]


@pytest.mark.parametrize(("end", "verdict"), [(19.0, "FAIL"), (-3.0, "PASS")])
def test_a_loss_that_starts_below_0_diverges_by_its_way_up(end, verdict):
    curves = fnn.Curves(STEPS, np.linspace(-1, end, 200), NONE, NONE, NONE)
    assert [f.verdict for f in fnn.judge(curves) if f.id == "diverged"] == [verdict]


@pytest.mark.parametrize(("first", "begins"), [(0, [0, 1, 4, 7]), (6, [6, 9, 12])])
def test_losses_of_steps_become_means_and_the_first_step_stands_alone(first, begins):
    losses = np.arange(8.0) ** 2
    steps, means, highest = in_pieces(losses, 3, first)
    assert steps.tolist() == begins
    cuts = [*(np.array(begins) - first), 8]
    for i, (start, end) in enumerate(itertools.pairwise(cuts)):
        assert means[i] == np.mean(losses[start:end])
        assert highest[i] == losses[end - 1]


def test_the_worst_layer_of_a_probe_is_named():
    curves = fnn.Curves(STEPS, FALL, NONE, NONE, NONE)
    found = {
        f.id: f for f in fnn.judge(curves, (), {"dead_units": {"relu_1": 0.1, "relu_2": 1.0, "x": math.nan}})
    }
    assert found["dead_units"].verdict == "WARN"
    assert "relu_2" in found["dead_units"].why
