import re

import jax.numpy as jnp
import numpy as np
import pytest

from fnn._types import check_seed
from fnn.data import DataError, Dataset, Examples, split, stratified_folds
from fnn.data._split import check_splits

COUNTS = (50, 30, 15, 5)
CLASSES = ("cat", "dog", "eel", "fox")


def dataset(counts=COUNTS, classes=CLASSES):
    """Examples whose x is their own number, with the labels in a fixed random order."""
    y = np.random.default_rng(9).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    x = np.arange(len(y), dtype=np.float32)[:, None]
    return Dataset(Examples(x, y), Examples(x[:4], y[:4]), classes, "mine")


def regression(count=40):
    x = np.arange(count, dtype=np.float32)[:, None]
    return Dataset(Examples(x, x[:, 0] / 7), Examples(x, x[:, 0]), (), "mine")


@pytest.mark.parametrize(
    ("validation", "quotas"),
    [
        (20, [10, 6, 3, 1]),
        (20.0, [10, 6, 3, 1]),
        (0.2, [10, 6, 3, 1]),
        (0.199, [10, 6, 3, 1]),  # 19.9 examples are 20
        (33, [16, 10, 5, 2]),  # shares of 16.5, 9.9, 4.95 and 1.65: the three largest remainders round up
        (11, [5, 3, 2, 1]),  # 5.5, 3.3, 1.65 and 0.55
        (85, [43, 25, 13, 4]),  # 42.5, 25.5, 12.75 and 4.25: equal remainders favour the first class
    ],
)
def test_classes_keep_their_shares_and_the_size_is_exact(validation, quotas):
    splits = split(dataset(), validation=validation)
    assert np.bincount(splits.validation.y).tolist() == quotas
    assert np.bincount(splits.train.y).tolist() == np.subtract(COUNTS, quotas).tolist()


@pytest.mark.parametrize("data", [dataset(), regression()], ids=["labels", "targets"])
def test_parts_are_disjoint_complete_in_order_and_aligned(data):
    splits = split(data, validation=0.25, seed=3)
    train, held = splits.train.x[:, 0].astype(int), splits.validation.x[:, 0].astype(int)
    assert sorted([*train, *held]) == list(range(len(data.train.x)))
    assert len(held) == len(data.train.x) // 4
    for part, indices in ((splits.train, train), (splits.validation, held)):
        assert (np.diff(indices) > 0).all()
        np.testing.assert_array_equal(part.y, data.train.y[indices])
        assert part.y.dtype == data.train.y.dtype
    assert splits.test is data.test
    assert (splits.classes, splits.name) == (data.classes, "mine")


@pytest.mark.parametrize("data", [dataset(), regression()], ids=["labels", "targets"])
def test_the_seed_alone_decides(data):
    def held(seed):
        return tuple(split(data, validation=0.25, seed=seed).validation.x[:, 0])

    assert held(0) == held(0) == held(np.uint32(0)) == held(jnp.int32(0))
    assert len({held(seed) for seed in range(5)}) == 5


def test_every_example_is_as_likely():
    times = np.zeros(100)
    for seed in range(300):
        times[split(dataset(), validation=20, seed=seed).validation.x[:, 0].astype(int)] += 1
    # A binomial count of mean 60 and deviation 6.9 stays within 5 deviations.
    assert times.min() > 25
    assert times.max() < 95


def test_a_class_without_training_examples_is_left_aside():
    data = dataset((10, 0, 10))
    assert np.bincount(split(data, validation=4).validation.y).tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (0, "validation must be a count or a fraction above 0, not 0"),
        (-5, "validation must be a count or a fraction above 0, not -5"),
        (float("nan"), "validation must be a count or a fraction above 0, not nan"),
        (20.5, "validation must be a fraction below 1 or a whole number of examples, not 20.5"),
        (float("inf"), "validation must be a fraction below 1 or a whole number of examples, not inf"),
        (100, "validation=100 leaves none of the 100 examples to train on; make it smaller"),
        (0.999, "validation=0.999 leaves none of the 100 examples"),
        (4, "validation=4 leaves no example of class 'fox', which has 5, in the validation part; change"),
        (0.001, "validation=0.001 leaves no example of class 'dog', which has 30, in the validation part"),
        (97, "validation=97 leaves no example of class 'eel', which has 15, in the training part"),
    ],
)
def test_bad_sizes(validation, message):
    with pytest.raises(ValueError, match=message):
        split(dataset(), validation=validation)


@pytest.mark.parametrize("validation", ["0.2", None, [1], True, 1j, np.array([5, 5])])
def test_sizes_that_are_no_numbers(validation):
    with pytest.raises(TypeError, match=rf"validation must be a number, not {re.escape(repr(validation))}"):
        split(dataset(), validation=validation)


@pytest.mark.parametrize("hold_out", [split, stratified_folds])
def test_a_seed_below_0(hold_out):
    with pytest.raises(ValueError, match="seed must be at least 0, not -1"):
        hold_out(dataset(), seed=-1)


def of_jax(data, *, seed):
    check_seed(seed)


@pytest.mark.parametrize("hold_out", [split, stratified_folds, of_jax])
@pytest.mark.parametrize("seed", [None, "0", 1.5, True, [1, 2], np.array([1])])
def test_a_seed_that_is_no_integer(hold_out, seed):
    with pytest.raises(TypeError, match=rf"seed must be an integer, not {re.escape(repr(seed))}"):
        hold_out(dataset(), seed=seed)


@pytest.mark.parametrize("hold_out", [split, stratified_folds])
@pytest.mark.parametrize("data", [None, dataset, dataset().train])
def test_what_is_no_data_set(hold_out, data):
    message = (
        f"expected a data set, such as fnn.digits.. returns, not {type(data).__name__}; of arrays make fnn.D"
    )
    with pytest.raises(DataError, match=message):
        hold_out(data)


@pytest.mark.parametrize("hold_out", [split, stratified_folds])
def test_a_training_part_of_another_type(hold_out):
    with pytest.raises(DataError, match=r"^the training part must be fnn.Examples\(x, y\), not tuple$"):
        hold_out(dataset()._replace(train=tuple(dataset().train)))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("train", tuple(dataset().train), r"the training part must be fnn.Examples\(x, y\), not tuple$"),
        ("validation", None, r"the validation part must be fnn.Examples\(x, y\), not NoneType$"),
        (
            "test",
            None,
            r"the test part must be .*, not NoneType; where there is none, it is one without examples",
        ),
    ],
)
def test_every_part_of_a_split_is_examples(part, value, message):
    with pytest.raises(DataError, match=message):
        check_splits(split(dataset(), validation=20)._replace(**{part: value}))


def test_a_test_part_may_be_without_examples():
    check_splits(
        split(dataset(), validation=20)._replace(test=Examples(*(part[:0] for part in dataset().test)))
    )


def test_the_training_part_is_checked():
    message = r"label 2 at example \d+ in the training part lies outside the 2 classes"
    with pytest.raises(ValueError, match=message):
        split(dataset(classes=("cat", "dog")))
