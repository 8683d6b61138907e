import subprocess
import sys

import jax.numpy as jnp
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
    ("x", "y", "classes"),
    [
        (jnp.asarray(X), jnp.asarray(Y), CLASSES),
        (jnp.asarray(X, jnp.bfloat16), Y.astype(np.uint8), list(CLASSES)),
        (X.astype(np.float16), Y > 1, ()),
        (X.astype(float), X.astype(float), ()),
    ],
)
def test_sound_kinds(x, y, classes):
    checked(Examples(x, y), Examples(x, y), classes, "mine")


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
            r"labels in the training part of mine have shape \(4, 1\); expected one integer for each example, "
            "or floats, .* where an example has several labels",
        ),
        (X, Y, (), "has integer labels but no classes; name the classes"),
        (
            X.tolist(),
            Y,
            CLASSES,
            "x of the training part of mine is of type list; expected an array of NumPy",
        ),
        (
            X,
            Y.tolist(),
            CLASSES,
            "y of the training part of mine is of type list; expected an array of NumPy",
        ),
        (
            X.astype(int),
            Y,
            CLASSES,
            r"x of .* is int64; expected uint8 \(images, 0 to 255\) or floats: convert",
        ),
        (X.astype(object), Y, CLASSES, "x of the training part of mine is object; expected uint8"),
        (X.astype(str), Y, CLASSES, "x of the training part of mine is <U32; expected uint8"),
        (
            X,
            Y.astype(str),
            CLASSES,
            r"y of .* is <U11; expected integers \(labels from 0\) or floats \(targets\)",
        ),
        (X, Y.astype(object), CLASSES, "y of the training part of mine is object; expected integers"),
        (X, X + 1j, (), "y of the training part of mine is complex64; expected integers"),
        (
            put(X.astype(float), (2, 0), 1e300),
            Y,
            CLASSES,
            r"x of .* holds 1e\+300 at example 2; every number must be finite in float32",
        ),
        (jnp.asarray(put(X, (1, 1), np.nan), jnp.bfloat16), Y, CLASSES, "x of .* holds nan at example 1"),
        (
            X.astype(">f4"),
            Y,
            CLASSES,
            r"x of .* is >f4, which JAX does not know; expected .*: convert it with astype\(np.float32\)$",
        ),
        (X, Y.astype(">i8"), CLASSES, r"y of .* is >i8, which JAX .*: convert it with astype\(np.int32\)$"),
        pytest.param(
            X,
            Y.astype(np.longdouble),
            (),
            r"y of .* is float128, which JAX .* of at most 64 bits .*: convert it with astype\(np.float32\)$",
            marks=pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="it is float64 here"),
        ),
        (
            X,
            Y,
            np.array(CLASSES),
            r"the classes of .* are of type ndarray; expected a tuple of names, tuple\(map",
        ),
        (
            X,
            Y,
            None,
            "the classes of .* are of type NoneType; expected a tuple of names, .* and .. for a regr",
        ),
        (
            X,
            Y,
            ("a", "b", "caf\udce9"),
            r"the class 'caf\\udce9' of the training part of mine is not text of UTF-8",
        ),
    ],
)
def test_bad_examples(x, y, classes, message):
    with pytest.raises(DataError, match=message):
        checked(Examples(x, y), Examples(X, Y), classes, "mine")


def test_a_part_is_examples():
    message = r"^the training part of mine must be fnn.Examples\(x, y\), not tuple$"
    with pytest.raises(DataError, match=message):
        checked((X, Y), Examples(X, Y), CLASSES, "mine")


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
