"""Each experiment holds its claim at a small size, and does not once its mechanism is switched off."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import fnn

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

from claims import Verdict, markdown, verdict  # noqa: E402

# The settings that make each study small enough for a test.
SMALL = {
    "adam_bias_correction": {},
    "adagrad": {"steps": 1000},
    "backpropagation_by_hand": {},
    "initialization": {"width": 128, "depth": 8},
    "momentum_schedule": {"seeds": range(5), "batch_steps": 60},
    "optimizers": {"load": fnn.digits, "steps": 100},
    "linear_templates": {"load": fnn.digits, "steps": 100},
    "perceptron_xor": {"epochs": 30, "steps": 150},
    "receptive_field": {"layers": 3},
    "batch_norm": {
        "rates": 10.0 ** np.arange(-1, 1.6, 0.5),
        "scales": 10.0 ** np.arange(-1.5, 2),
        "steps": 80,
    },
    "selu_deep": {"rates": (1e-3,), "depth": 20, "steps": (80, 120)},
    "activation_signal": {"examples": 100, "depth": 6},
    "activation_training": {"steps": 200, "depth": 2},
    "regularization": {"steps": 1500},
    "dropout": {"load": fnn.digits, "examples": 200, "steps": 600, "rates": (0.0, 0.5)},
    "dead_units": {"steps": 200},
    "loss_curves": {"steps": 500},
    "random_search": {"seeds": range(10, 22)},
    "halving": {},
    "coarse_to_fine": {},
    "augmentation": {"seeds": range(10), "sizes": (30, 1000), "steps": 200},
    "learning_rate_scale": {"seeds": range(10, 20)},
    "translation": {"epochs": 8},
    "update_ratio": {"rates": 10.0 ** np.arange(-3, 0.6, 0.5), "steps": 100, "times": 10},
}


# Half of the time of all: most of it is compiling.
SLOW = ("activation_training", "batch_norm", "coarse_to_fine", "selu_deep", "translation", "update_ratio")

# Where runs are about to diverge, rounding decides which do, and so which rates show a claim.
ON_CPU = {"dead_units": pytest.mark.cpu, "loss_curves": pytest.mark.cpu}


def marks(name):
    slow = [pytest.mark.slow] if name in SLOW else []
    return [*slow, ON_CPU[name]] if name in ON_CPU else slow


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in SMALL])
def test_a_claim_holds_only_with_its_mechanism(name):
    study = importlib.import_module(name).study
    found = study(**SMALL[name])
    assert found.verdicts
    assert [str(v) for v in found.verdicts if not v.held] == []
    without = study(mechanism=False, **SMALL[name])
    assert [str(v) for v in without.verdicts if v.held] == []


def test_a_verdict_is_the_lower_bound_of_the_mean_of_paired_differences():
    v = verdict("a claim", [3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 1.0, 1.0, 1.0, 1.0], 2.4)
    # differences 2…6: mean 4, deviation √2.5, t(0.95, 4) = 2.1318: 4 - 2.1318 · √2.5 / √5
    np.testing.assert_allclose(v.at_least, 4 - 2.131847 * np.sqrt(0.5), rtol=1e-6)
    assert v.held
    assert not Verdict("a claim", v.differences, 2.6).held
    assert str(v).startswith("held: a claim: 4, at least 2.49 with 95 % confidence, margin 2.4, 5 seeds")


@pytest.mark.parametrize(("ahead", "behind"), [([1.0] * 4, [0.0] * 4), ([1.0] * 5, [0.0] * 6)])
def test_a_verdict_needs_five_pairs(ahead, behind):
    with pytest.raises(ValueError, match="two rows of at least 5 seeds"):
        verdict("a claim", ahead, behind, 0.0)


def test_a_table_in_markdown():
    assert markdown([{"a": 1, "b": 0.12345}]) == "| a | b |\n| --- | --- |\n| 1 | 0.123 |"
