"""The corpus of the babysitter: what it is made of, and how its runs are counted."""

import math
import sys
from pathlib import Path

import jax
import pytest

import fnn

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "calibration"))

import calibrate
import corpus


def test_every_kind_of_trouble_has_its_cause_among_the_checks():
    assert set(corpus.CAUSES) == {*corpus.BREAKAGES, "deep sigmoid stack"}
    assert {id for ids in corpus.CAUSES.values() for id in ids} <= set(fnn.CHECKS)


def test_both_halves_have_every_data_set_and_no_configuration_stands_twice():
    assert len(set(corpus.CONFIGURATIONS)) == len(corpus.CONFIGURATIONS)
    for half in (0, 1):
        assert {dataset for dataset, _, _ in corpus.CONFIGURATIONS[half::2]} == {
            "digits", "Fashion-MNIST", "synthetic",
        }  # fmt: skip


@pytest.mark.parametrize("net", list(corpus.NETS))
def test_what_a_breakage_needs_is_there(net):
    """A network that is said to have dropout, batch norm or a hidden layer has it."""
    built, has, _ = corpus.NETS[net]
    kinds = [layer.kind for _, layer in fnn.nn._layer.walk(built(corpus.SOUND))]
    assert ("dropout" in kinds) == ("dropout" in has)
    assert ("batch_norm" in kinds) == ("batch_norm" in has)
    assert ("conv" in kinds) == ("conv" in has)
    assert (len([kind for kind in kinds if kind in ("linear", "conv", "maxout")]) > 1) == ("hidden" in has)


def test_a_breakage_changes_what_it_says():
    values = corpus.SOUND | {"rate": 0.1}
    x = jax.numpy.ones((2, 8, 8, 1))
    start = [
        fnn.init_state(
            corpus.Make("MLP", "SGD", frozen=frozen), values | {"init": scale}, jax.random.key(0), x
        )
        for frozen, scale in ((False, 1.0), (True, 0.0))
    ]
    assert float(abs(start[0].params["serial_1"]["linear_1"]["kernel"]).max()) > 0
    assert float(abs(start[1].params["serial_1"]["linear_1"]["kernel"]).max()) == 0
    task = corpus.Make("MLP", "SGD", frozen=True)(values)
    assert set(fnn.parameter_groups(task.cut(start[1].params)[0], ())) == {"default"}
    softmax = corpus.Make("MLP", "SGD")(values | {"softmax": 1.0}).net
    y, _ = softmax.apply(start[0].params, {}, x)
    assert float(y.sum(1)[0]) == pytest.approx(1)


def run(kind, **numbers):
    return {"kind": kind, "place": 1, "numbers": numbers}


def test_findings_are_counted():
    judged = calibrate.Judged(
        [
            run("sound", rate_high=0.0, data_leak=0.0),
            run("sound", rate_high="inf", data_leak=0.0),
            run("sound", data_leak=0.05),
            run("rate × 100", rate_high=2.0),
            run("rate × 100", rate_high=0.0, data_leak=0.5),
            run("labels shuffled", data_labels=50.0),
        ]
    )
    assert [counts for _, *counts in judged.rates()] == [[1, 3], [1, 3], [2, 3], [1, 3]]
    assert judged.confusion() == {
        "rate × 100": {"rate_high": 1, "data_leak": 1}, "labels shuffled": {"nothing": 1},
    }  # fmt: skip
    assert judged.false_alarms("rate_high") == (1, 0, 2)
    assert judged.false_alarms("data_leak") == (0, 1, 3)


def test_the_interval_is_wilsons():
    count, total, z = 3, 40, 1.959964
    p = count / total
    middle, half = p + z**2 / (2 * total), z * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    low, high = ((middle + sign * half) / (1 + z**2 / total) for sign in (-1, 1))
    assert calibrate.interval(count, total) == f"3 of 40, 7.5 % ({100 * low:.1f} – {100 * high:.1f} %)"
