from pathlib import Path

import numpy as np
import pytest

from fnn.data import DataError, image_folder, npz

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(20, 3))
Y = np.arange(20) % 4
IMAGES = RANDOM.integers(0, 256, (20, 5, 4), np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez_compressed(tmp_path / "mine.npz", **arrays)
        return str(tmp_path / "mine.npz")

    return save


def test_four_arrays(save):
    dataset = npz(
        save(x_train=X, y_train=Y, x_test=X[:4], y_test=Y[:4], classes=np.array(["a", "b", "c", "d"]))
    )
    (x, y), test, classes, name = dataset
    np.testing.assert_array_equal(x, X.astype(np.float32))
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(test.x, X[:4].astype(np.float32))
    assert (x.dtype, y.dtype, test.y.tolist()) == (np.float32, np.int32, [0, 1, 2, 3])
    assert (classes, name) == (("a", "b", "c", "d"), "mine")


@pytest.mark.parametrize(("test", "count"), [(0.2, 4), (8, 8), (8.0, 8)])
def test_two_arrays_give_a_test_part_of_every_class(save, test, count):
    path = save(x=X, y=Y)
    train, held_out, classes, _ = npz(path, test=test)
    assert classes == ("0", "1", "2", "3")
    assert np.bincount(held_out.y).tolist() == [count // 4] * 4
    rows = np.concatenate([train.x, held_out.x])
    np.testing.assert_array_equal(
        rows[np.lexsort(rows.T)], X.astype(np.float32)[np.lexsort(X.astype(np.float32).T)]
    )
    np.testing.assert_array_equal(npz(path, test=test).test.x, held_out.x)


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (IMAGES, (5, 4, 1), np.uint8),
        (IMAGES[..., None], (5, 4, 1), np.uint8),
        (IMAGES[:, 0], (4,), np.uint8),
        (IMAGES / 255, (5, 4), np.float32),
        (X.astype(">f8"), (3,), np.float32),
        (X.astype(np.float16), (3,), np.float32),
    ],
)
def test_kinds_of_inputs(save, x, shape, dtype):
    train = npz(save(x=x, y=Y)).train
    assert (train.x.shape[1:], train.x.dtype) == (shape, dtype)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, ">i2"])
def test_kinds_of_labels(save, dtype):
    y = (Y % 2).astype(dtype)
    dataset = npz(save(x=X, y=y))
    assert (dataset.train.y.dtype, dataset.classes) == (np.int32, ("0", "1"))
    assert dataset.train.y.sum() == 8


def test_a_regression(save):
    dataset = npz(save(x=X, y=X.sum(1)), test=5)
    assert (dataset.classes, dataset.test.y.shape, dataset.test.y.dtype) == ((), (5, 1), np.float32)
    np.testing.assert_allclose(dataset.test.y, dataset.test.x.sum(1, keepdims=True), rtol=1e-5)


def test_several_targets_are_not_named_by_classes(save):
    dataset = npz(save(x=X, y=X, classes=np.array(["a", "b", "c"])))
    assert (dataset.classes, dataset.train.y.shape) == ((), (16, 3))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": X},
            r"mine.npz has no array 'y', only x; expected x_train, y_train, x_test and y_test, or x and y",
        ),
        ({}, r"mine.npz has no array 'x', only nothing"),
        (
            {"x_train": X, "y_train": Y, "x_test": X},
            r"has no array 'y_test', only x_train, y_train, x_test; expected",
        ),
        (
            {"x": X, "y": Y, "x_test": X, "y_test": Y},
            "has no array 'x_train', only x, y, x_test, y_test; expected x_train, y_train, x_test and y_test, or",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, "x_val": X, "y_val": Y},
            "mine.npz holds x_val, y_val beside x_train, y_train, x_test, y_test; the only other array it may hold",
        ),
        (
            {"x": X, "y": Y, "labels": Y},
            "mine.npz holds labels beside x, y; the only other array it may hold is cl",
        ),
        (
            {"x": X, "y": Y.astype(float), "classes": np.array(["a", "b", "c", "d"])},
            r"y in .*mine.npz is float64; labels, which classes names, are integers: save y.astype\(int\), or no",
        ),
        (
            {"x": X, "y": Y, "classes": np.array(["a", "b", "c", "caf\udce9"])},
            r"the class 'caf\\udce9' of the training part is not text of UTF-8; rename it",
        ),
        (
            {"x": X.astype(object), "y": Y},
            r"mine.npz holds an array of Python objects, which could run code when read",
        ),
        ({"x": X, "y": Y, "classes": np.array(["a", None])}, "holds an array of Python objects"),
        (
            {"x": X.astype(np.int64), "y": Y},
            r"x in .*mine.npz is int64; expected uint8 \(images, 0 to 255\) or floats",
        ),
        ({"x": X + 1j, "y": Y}, "is complex128; expected uint8"),
        ({"x": X * 1e300, "y": Y}, r"x in .*mine.npz holds numbers too large for float32; rescale"),
        (
            {"x": X, "y": Y.astype(str)},
            r"y in .* is <U21; expected integers .*; the names of labels belong in an",
        ),
        ({"x": X, "y": Y - 1}, r"y in .*mine.npz holds labels from -1 to 2; labels count the classes from 0"),
        ({"x": X, "y": Y + 2**40}, "holds labels from 1099511627776 to 1099511627779"),
        (
            {"x": X, "y": Y * 1000},
            r"mine.npz has labels up to 3000 in 20 examples; labels count the classes from 0",
        ),
        (
            {"x": X, "y": Y + 1},
            r"mine.npz has no example of label 0, its labels run from 1 to 4; labels count the classes from 0: "
            r"save y - 1, or name every class in an array classes$",
        ),
        (
            {"x": X, "y": Y[:, None]},
            r"labels in the training part have shape \(20, 1\); expected one integer",
        ),
        ({"x": X, "y": Y[:7]}, r"20 examples in x but y has shape \(7,\)"),
        ({"x": X, "y": np.int64(3)}, "labels up to 3 in 1 examples"),
        (
            {"x": np.float64(3), "y": Y},
            r"x in the training part has shape \(\); expected \(examples, features\)",
        ),
        ({"x": X[:0], "y": Y[:0]}, "the training part is empty"),
        (
            {"x": X, "y": Y, "classes": np.array(["a", "b"])},
            "label 2 at example 2 in the training part lies outside the",
        ),
        (
            {"x": X, "y": Y, "classes": np.array([1, 2])},
            r"classes in .* is int64 of shape \(2,\); expected one string",
        ),
        ({"x": np.where(X > 2, np.nan, X) * np.nan, "y": Y}, "x of the training part holds nan at example 0"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y},
            r"one example's x is float32 of shape \(3,\) in the training part of mine and float32 of",
        ),
    ],
)
def test_bad_arrays(save, arrays, message):
    with pytest.raises(DataError, match=message):
        npz(save(**arrays))


def test_bad_sizes_of_the_test_part(save):
    with pytest.raises(
        ValueError, match="test=2 leaves no example of class '2', which has 5, in the test part"
    ):
        npz(save(x=X, y=Y), test=2)
    with pytest.raises(ValueError, match="test must be a count or a fraction above 0, not 0"):
        npz(save(x=X, y=Y), test=0)


@pytest.mark.parametrize("load", [npz, image_folder])
def test_a_path_that_the_system_refuses(load, tmp_path, monkeypatch):
    long = tmp_path / ("a" * 300)
    with pytest.raises(DataError, match=f"{long} cannot be read: File name too long"):
        load(str(long))
    for path in ("~nosuch/x", f"{tmp_path}/\0", f"{tmp_path}/\ud800"):
        with pytest.raises(DataError, match="there is no f"):
            load(path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(DataError, match=f"{tmp_path} cannot be read: Permission denied"):
        load(str(tmp_path))


def test_a_missing_file(tmp_path):
    with pytest.raises(
        DataError, match=r"there is no file .*/none.npz; give the path of a file written by numpy.savez"
    ):
        npz(str(tmp_path / "none.npz"))
    with pytest.raises(DataError, match="there is no file"):
        npz(str(tmp_path))


def test_files_of_other_formats(tmp_path):
    np.save(tmp_path / "array.npy", X)
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    for path in tmp_path.iterdir():
        with pytest.raises(DataError, match=r"is not a whole .npz file \(\w+\); write it with numpy.savez"):
            npz(str(path))


def test_every_damage_is_a_sentence(save, tmp_path):
    whole = Path(save(x=X, y=Y)).read_bytes()
    path = tmp_path / "damaged.npz"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"is not a whole .npz file"):
            npz(str(path))
    refused = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            npz(str(path))
        except DataError:
            refused += 1
    assert refused > 0.8 * len(whole)  # times and other notes of the archive may be anything
