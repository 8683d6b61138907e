"""Numbers about the data, against counts that are known by construction."""

import math

import numpy as np
import pytest

import fnn
from fnn.tune._data import label_agreement, of_data


def splits(x, y, held_x, held_y, classes=("a", "b")) -> fnn.Splits:
    test = fnn.Examples(held_x[:0], held_y[:0])
    return fnn.Splits(fnn.Examples(x, y), fnn.Examples(held_x, held_y), test, classes, "made")


def clusters(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = (np.arange(count) % 2).astype(np.int32)
    return (random.normal(size=(count, 3)) * 0.1 + y[:, None]).astype(np.float32), y


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_rows_that_stand_on_both_sides_are_counted(dtype):
    x, y = clusters(60)
    x = (x * 100 % 256).astype(dtype) if dtype is np.uint8 else x
    x[:, 0] = np.arange(60)  # all rows differ
    numbers, evidence = of_data(
        splits(x[:40], y[:40], np.concatenate([x[40:], x[:5]]), np.concatenate([y[40:], y[:5]])), None
    )
    assert numbers["data_leak"] == 5 / 25
    assert evidence["data_leak"] == "5 of 25"
    assert numbers["data_duplicates"] == 0


def test_rows_that_stand_twice_among_the_training_rows_are_counted():
    x, y = clusters(40)
    numbers, _ = of_data(
        splits(np.concatenate([x, x[:10]]), np.concatenate([y, y[:10]]), *clusters(8, 1)), None
    )
    assert numbers["data_duplicates"] == 10 / 50
    assert numbers["data_leak"] == 0


def test_balance_constant_features_and_range():
    x, y = clusters(30)
    x = np.concatenate([x * 100, np.ones((30, 1), np.float32)], axis=1)
    y = np.where(np.arange(30) < 6, 0, 1).astype(np.int32)
    numbers, evidence = of_data(splits(x, y, x[:4] + 1, y[:4]), None)
    assert numbers["data_balance"] == 6 / 24
    assert evidence["data_balance"] == "6 of a, 24 of b"
    assert numbers["data_constant"] == 1 / 4
    assert numbers["data_range"] == pytest.approx(
        abs(math.log10(np.sqrt(np.mean(np.square(x, dtype=float))))), 1e-5
    )


def test_standardized_inputs_have_the_range_of_the_unit():
    x, y = clusters(50)
    numbers, _ = of_data(splits(x * 1000, y, x[:4], y[:4]), fnn.moments(x * 1000))
    assert numbers["data_range"] < 1e-3


def test_a_nearest_neighbour_tells_labels_that_fit_from_shuffled_ones():
    x, y = clusters(200)
    fits, _ = label_agreement(x.astype(float), y)
    shuffled, _ = label_agreement(x.astype(float), np.random.default_rng(0).permutation(y))
    assert fits == pytest.approx(0.5 / math.sqrt(0.25 / 200))
    assert abs(shuffled) < 3


def test_labels_of_nearly_one_class_are_not_judged():
    """Who is always right is then hardly ahead of guessing."""
    x, _ = clusters(1000)
    rare = (np.arange(1000) < 12).astype(np.int32)
    x[rare == 1] += 100
    numbers, evidence = of_data(splits(x, rare, x[:4] + 1, rare[:4]), None)
    assert evidence["data_labels"] == "right for 100.0%, guessing for 97.6%"
    assert math.isnan(numbers["data_labels"])
    even, _ = of_data(splits(*clusters(1000), x[:4] + 1, rare[:4]), None)
    assert even["data_labels"] == pytest.approx(0.5 / math.sqrt(0.25 / 1000))


def test_the_agreement_is_that_of_loops_over_all_pairs():
    random = np.random.default_rng(3)
    x, y = random.normal(size=(30, 4)), random.integers(0, 3, 30)
    x[7], y[7] = x[3], 1 - y[3] % 2  # a duplicate is not its own neighbour
    right = []
    for i in range(30):
        others = [j for j in range(30) if not np.array_equal(x[i], x[j])]
        right.append(y[min(others, key=lambda j, i=i: np.sum((x[i] - x[j]) ** 2))] == y[i])
    guess = sum(np.mean(y == c) ** 2 for c in range(3))
    error = math.sqrt(guess * (1 - guess) / 30)
    assert label_agreement(x, y)[0] == pytest.approx((np.mean(right) - guess) / error)


def test_a_data_set_without_held_out_examples_has_no_leak():
    x, y = clusters(20)
    assert math.isnan(of_data(splits(x, y, x[:0], y[:0]), None)[0]["data_leak"])


def test_targets_that_are_no_classes_have_no_balance():
    x, _ = clusters(20)
    numbers, _ = of_data(splits(x, x[:, :1], x[:4] + 1, x[:4, :1], ()), None)
    assert "data_balance" not in numbers
    assert "data_labels" not in numbers
