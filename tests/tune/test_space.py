"""Distributions and spaces, by closed forms."""

import re

import numpy as np
import pytest

import fnn
from fnn.tune import Space

U = np.linspace(0, 1, 201)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (fnn.uniform(-1.0, 3.0), -1 + 4 * U),
        (fnn.log_uniform(1e-4, 1e-1), 10 ** (-4 + 3 * U)),
        (fnn.int_uniform(2, 5), np.minimum(5, 2 + np.floor(4 * U))),
        (fnn.choice([3, 1, 2]), np.array([3, 1, 2])[np.minimum(2, np.floor(3 * U)).astype(int)]),
    ],
)
def test_the_way_from_the_unit_interval(distribution, expected):
    np.testing.assert_allclose([distribution.at(u) for u in U], expected, rtol=1e-12)


def test_ends_are_exact_and_numbers_have_their_types():
    rate = fnn.log_uniform(1e-4, 1e-1)
    assert (rate.at(0), rate.at(1)) == rate.ends == (1e-4, 1e-1)
    assert isinstance(fnn.int_uniform(1, 9).at(0.4), int)
    assert isinstance(fnn.uniform(0, 1).at(0.4), float)


def test_beyond_its_ends_a_range_goes_on():
    assert fnn.uniform(0.0, 2.0).at(1.25) == 2.5
    assert fnn.log_uniform(1e-2, 1e2).at(-0.25) == pytest.approx(1e-3)


def test_a_condition():
    space = Space(
        {
            "optimizer": fnn.choice(["adam", "sgd"]),
            "optimizer.b1": fnn.only_if("optimizer", "adam", fnn.uniform(0.5, 0.9)),
        }
    )
    assert space.at([0.2, 0.5]) == {"optimizer": "adam", "optimizer.b1": pytest.approx(0.7)}
    assert space.at([0.7, 0.5]) == {"optimizer": "sgd"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnn.uniform(1.0, 0.0), "low must be below high, not 1.0 and 0.0"),
        (lambda: fnn.uniform(1.0, 1.0), "low must be below high"),
        (lambda: fnn.uniform(0.0, float("inf")), "must be finite"),
        (lambda: fnn.int_uniform(3, 2), "low must be below high, not 3 and 2"),
        (lambda: fnn.int_uniform(1.5, 4), "low must be an integer, not 1.5"),
        (lambda: fnn.int_uniform(1, 4.0), "high must be an integer, not 4.0"),
        (
            lambda: fnn.log_uniform(0.0, 1.0),
            "log_uniform needs low above 0, whose logarithm is wanted, not 0.0",
        ),
        (lambda: fnn.uniform("0", "1"), "low must be a number, not '0'"),
        (lambda: fnn.uniform(0, None), "high must be a number, not None"),
        (lambda: fnn.log_uniform("0", "1"), "low must be a number, not '0'"),
        (lambda: fnn.choice([]), "choice needs at least one option"),
        (lambda: fnn.choice(5), "choice needs a list of options, such as [1, 2], not 5"),
        (lambda: fnn.choice({"a"}), "choice needs a list of options, such as [1, 2], not {'a'}"),
        (lambda: fnn.choice("ab"), "choice needs a list of options, such as [1, 2], not 'ab'"),
        (
            lambda: fnn.choice([1, np.ones(1)]),
            "hashable, or a list or a dict of such, not array([1.]); of an",
        ),
        (lambda: fnn.only_if("a", "b", 0.5), "then must be a distribution, such as uniform(0.0, 1.0) or"),
        (lambda: Space([1]), 'a space must be a dict of distributions by name, such as {"x": uniform(0.0, '),
        (lambda: Space({}), "the space of a search has no hyperparameter"),
        (
            lambda: Space({"a": fnn.only_if("b", 1, fnn.uniform(0, 1))}),
            "a depends on b, which is not in the space",
        ),
        (
            lambda: Space({"b": fnn.choice([1, 2]), "a": fnn.only_if("b", 3, fnn.uniform(0, 1))}),
            "a depends on b being 3, which it never is",
        ),
        (
            lambda: Space({"b": fnn.uniform(0, 1), "a": fnn.only_if("b", 0.5, fnn.uniform(0, 1))}),
            "which it never is",
        ),
        (lambda: fnn.only_if("a", 1, fnn.only_if("b", 1, fnn.uniform(0, 1))), "only_if inside only_if"),
    ],
)
def test_bad_spaces(call, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()
