"""Folds, by counting."""

import numpy as np
import pytest

import fnn
from fnn.data._folds import one_fold

DIGITS = fnn.digits()


@pytest.mark.parametrize("count", [2, 5, 10])
def test_every_example_validates_once_but_for_a_few(count):
    folds = fnn.stratified_folds(DIGITS, count=count)
    n = len(DIGITS.train.y)
    assert folds.validation.shape == (count, n // count)
    held = folds.validation.ravel()
    assert len(set(held.tolist())) == len(held) == n - n % count
    for train, validation in zip(folds.train, folds.validation, strict=True):
        assert sorted([*train.tolist(), *validation.tolist()]) == list(range(n))


def test_every_class_keeps_its_share():
    folds = fnn.stratified_folds(DIGITS, count=5)
    whole = np.bincount(DIGITS.train.y) / 5
    for rows in folds.validation:
        assert (np.abs(np.bincount(DIGITS.train.y[rows], minlength=10) - whole) <= 1.5).all()


def test_what_is_left_over_is_taken_from_no_class_that_goes_round():
    y = np.repeat([0, 1], [19, 5])
    part = fnn.Examples(np.zeros((24, 2), np.float32), y)
    dataset = DIGITS._replace(train=part, classes=("often", "rare"))
    for seed in range(30):
        held = fnn.stratified_folds(dataset, count=5, seed=seed).validation
        assert [int((y[rows] == 1).sum()) for rows in held] == [1] * 5


def test_moments_are_those_of_what_a_fold_trains_on():
    folds = fnn.stratified_folds(DIGITS, count=3)
    for number in range(3):
        train, validation = folds.fold(number)
        x = train.x.astype(np.float64) / 255
        np.testing.assert_allclose(folds.moments.mean[number], x.mean((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(folds.moments.std[number], x.std((0, 1, 2)), rtol=1e-6)
        assert len(train.y) + len(validation.y) == len(DIGITS.train.y)
    assert fnn.stratified_folds(DIGITS, standardize=False).moments is None


def test_the_seed_decides():
    first, again, other = (fnn.stratified_folds(DIGITS, seed=seed).validation for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_split_is_one_fold():
    splits = fnn.split(DIGITS, validation=0.2)
    train, validation = one_fold(splits).fold(0)
    np.testing.assert_array_equal(train.x, splits.train.x)
    np.testing.assert_array_equal(validation.y, splits.validation.y)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "needs at least 2 folds, not 1"),
        (200, "200 folds are more than the 1.. examples of class '.'; take fewer"),
    ],
)
def test_bad_counts(count, message):
    with pytest.raises(ValueError, match=message):
        fnn.stratified_folds(DIGITS, count=count)


@pytest.mark.parametrize("count", [5.0, "5", None, True])
def test_counts_that_are_no_integers(count):
    with pytest.raises(TypeError, match=f"count must be an integer, not {count!r}"):
        fnn.stratified_folds(DIGITS, count=count)
