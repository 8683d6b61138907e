import subprocess
import sys

import numpy as np
import pytest

from fnn.data import DataError, Examples
from fnn.data._dataset import checked

X = np.zeros((4, 3), np.float32)
Y = np.array([0, 1, 2, 1], np.int32)
CLASSES = ("a", "b", "c")


def put(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


def test_a_sound_data_set_passes_unchanged():
    dataset = checked(Examples(X, Y), Examples(X[:2], Y[:2]), CLASSES, "mine")
    assert dataset.train.x is X
    assert dataset.train.y is Y
    assert (dataset.classes, dataset.name) == (CLASSES, "mine")


def test_float_targets_need_no_classes_and_may_have_axes():
    y = np.ones((4, 2), np.float32)
    assert checked(Examples(X, y), Examples(X, y), (), "mine").classes == ()


@pytest.mark.parametrize(
    ("x", "y", "classes", "message"),
    [
        (
            X,
            Y[:3],
            CLASSES,
            r"the training part of mine has 4 examples in x but y has shape \(3,\); x and y must",
        ),
        (X[:0], Y[:0], CLASSES, r"the training part of mine is empty: its x has shape \(0, 3\)"),
        (
            X[:, 0],
            Y,
            CLASSES,
            r"x in the training part of mine has shape \(4,\); expected \(examples, features\)",
        ),
        (
            put(X, (2, 1), np.nan),
            Y,
            CLASSES,
            "x of the training part of mine holds nan at example 2; every number",
        ),
        (put(X, (3, 0), np.inf), Y, CLASSES, "x of the training part of mine holds inf at example 3"),
        (
            X,
            np.array([0, 1, np.nan, 2], np.float32),
            (),
            "y of the training part of mine holds nan at example 2",
        ),
        (
            X,
            put(Y, 3, 12),
            CLASSES,
            "label 12 at example 3 in the training part of mine lies outside the 3 classes",
        ),
        (
            X,
            put(Y, 1, -1),
            CLASSES,
            "label -1 at example 1 .* lies outside the 3 classes; labels run from 0 to 2",
        ),
        (X, put(Y, 1, 3), CLASSES, "label 3 at example 1"),
        (
            X,
            Y[:, None],
            CLASSES,
            r"labels in the training part of mine have shape \(4, 1\); expected one integer",
        ),
        (X, Y, (), "has integer labels but no classes; name the classes"),
    ],
)
def test_bad_examples(x, y, classes, message):
    with pytest.raises(DataError, match=message):
        checked(Examples(x, y), Examples(X, Y), classes, "mine")


def test_the_test_part_is_checked_too():
    with pytest.raises(DataError, match="label 3 at example 0 in the test part of mine"):
        checked(Examples(X, Y), Examples(X, put(Y, 0, 3)), CLASSES, "mine")


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            Examples(X[:, :2], Y),
            r"x is float32 of shape \(3,\) in the training part of mine and float32 of shape \(2,\)",
        ),
        (
            Examples(X.astype(np.uint8), Y),
            r"x is float32 of shape \(3,\) .* and uint8 of shape \(3,\) in the test",
        ),
        (
            Examples(X, Y.astype(np.float32)),
            r"y is int32 of shape \(\) in the training part of mine and float32",
        ),
    ],
)
def test_both_parts_agree(test, message):
    with pytest.raises(DataError, match=message):
        checked(Examples(X, Y), test, CLASSES, "mine")


def test_importing_the_room_loads_no_extra():
    code = "import sys, fnn.data; sys.exit(any(name in sys.modules for name in ('pooch', 'PIL', 'requests')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
