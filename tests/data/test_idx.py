import gzip
import hashlib
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pooch
import pytest

import fnn.data._idx as idx
from fnn.data import DataError, fashion_mnist, mnist, moments

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
COUNTS = {"train": 12, "t10k": 5}


def idx_bytes(array):
    """An IDX file of uint8, as http://yann.lecun.com/exdb/mnist describes it."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def idx_files(opening=()):
    """The four files by name, of a few random images."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in COUNTS.items():
        arrays[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = random.integers(0, 10, count).astype(np.uint8)
        if part == "train":
            labels[: len(opening)] = opening
        arrays[f"{part}-labels-idx1-ubyte"] = labels
    return arrays


def write(folder, arrays, compress):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        content = idx_bytes(array)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A folder for `FNN_DATA`, with no other folder to look in and no way to download."""
    monkeypatch.setenv("FNN_DATA", str(tmp_path))
    for name, source in idx.SOURCES.items():
        monkeypatch.setitem(idx.SOURCES, name, source._replace(usual=()))
    monkeypatch.setitem(sys.modules, "pooch", None)
    return tmp_path


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("own_folder", [True, False])
def test_files_in_fnn_data(alone, load, compress, own_folder):
    arrays = idx_files()
    write(alone / load.__name__ if own_folder else alone, arrays, compress)
    dataset = load()
    assert (dataset.name, len(dataset.classes)) == (load.__name__, 10)
    for part, (x, y) in (("train", dataset.train), ("t10k", dataset.test)):
        np.testing.assert_array_equal(x[..., 0], arrays[f"{part}-images-idx3-ubyte"])
        np.testing.assert_array_equal(y, arrays[f"{part}-labels-idx1-ubyte"])
        assert (x.shape[3], x.dtype, y.dtype) == (1, np.uint8, np.int32)


def test_the_usual_folders_come_after_fnn_data(alone, monkeypatch):
    source = idx.SOURCES["mnist"]
    monkeypatch.setitem(idx.SOURCES, "mnist", source._replace(usual=("somewhere/raw",)))
    monkeypatch.chdir(alone)
    arrays = idx_files()
    write(alone / "somewhere/raw", arrays, compress=False)
    assert mnist().train.x.any()
    write(alone / "mnist", {name: 0 * array for name, array in arrays.items()}, compress=True)
    assert not mnist().train.x.any()


@pytest.mark.parametrize("own", ["~nosuch/data", "a" * 300])
def test_a_folder_that_is_none_is_passed_over(alone, monkeypatch, own):
    source = idx.SOURCES["mnist"]
    monkeypatch.setitem(idx.SOURCES, "mnist", source._replace(usual=(str(alone / "usual"),)))
    write(alone / "usual", idx_files(), compress=False)
    monkeypatch.setenv("FNN_DATA", own)
    assert len(mnist().train.x) == COUNTS["train"]


@pytest.mark.parametrize(
    ("load", "title", "other"),
    [(mnist, "MNIST", idx.SOURCES["fashion_mnist"]), (fashion_mnist, "Fashion-MNIST", idx.SOURCES["mnist"])],
)
def test_the_namesake_is_not_taken_for_it(alone, load, title, other):
    write(alone, idx_files(tuple(other.opening)), compress=True)
    message = f"are {other.title}, whose files have the same names as those of {title}; keep each in a folder"
    with pytest.raises(DataError, match=message):
        load()


TRAIN_IMAGES = idx_bytes(idx_files()["train-images-idx3-ubyte"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"begins with the bytes \(none\); expected 00000803"),
        (
            b"GIF89a",
            "begins with the bytes 47494638; expected 00000803, the mark of an IDX file of uint8 with 3 axes",
        ),
        (idx_bytes(np.zeros(12, np.uint8)), "begins with the bytes 00000801; expected 00000803"),
        (TRAIN_IMAGES[:10], "ends within its header, after 10 bytes; fetch it again"),
        (TRAIN_IMAGES[:-1], r"holds 9423 bytes but its header of shape \(12, 28, 28\) promises 9424; fetch"),
        (TRAIN_IMAGES + b"\0", r"holds 9425 bytes but its header of shape \(12, 28, 28\) promises 9424"),
        (idx_bytes(np.zeros((12, 14, 28), np.uint8)), "holds images of 14×28 pixels; expected 28×28"),
        (TRAIN_IMAGES[:4] + b"\xff" * 12, r"promises 79228162458924105385300197391"),
        (idx_bytes(np.zeros((11, 28, 28), np.uint8)), r"11 examples in x but y has shape \(12,\)"),
    ],
)
@pytest.mark.parametrize("compress", [True, False])
def test_damaged_files(alone, content, message, compress):
    write(alone, idx_files(), compress=False)
    path = alone / "train-images-idx3-ubyte"
    if compress:
        path.unlink()
        Path(f"{path}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        mnist()


def test_a_label_outside_the_classes(alone):
    arrays = idx_files()
    arrays["t10k-labels-idx1-ubyte"][3] = 10
    write(alone, arrays, compress=True)
    with pytest.raises(
        DataError, match="label 10 at example 3 in the test part of mnist lies outside the 10 classes"
    ):
        mnist()


def test_every_damage_to_a_gzip_file_is_a_sentence(alone):
    write(alone, idx_files(), compress=True)
    path = alone / "train-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"is not a whole gzip file .*; fetch it again"):
            mnist()
    for position in range(10, len(whole)):  # the ten bytes before are a header with room for differences
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with pytest.raises(DataError, match="is not a whole gzip file"):
            mnist()


@pytest.mark.parametrize(
    ("load", "hint"), [(mnist, ""), (fashion_mnist, ", or apt-get install dataset-fashion-mnist")]
)
def test_missing_files_without_pooch(alone, load, hint):
    write(
        alone, {"train-images-idx3-ubyte": np.zeros((1, 28, 28), np.uint8)}, compress=True
    )  # one is not four
    message = (
        f"the files of {load.__name__} are not in {alone / load.__name__}, {alone}; to download them, "
        f"pip install 'fnn[run]', or set FNN_DATA to their folder{hint}"
    )
    with pytest.raises(DataError) as error:
        load()
    assert str(error.value) == message


def test_the_places_are_named_without_fnn_data(monkeypatch):
    monkeypatch.delenv("FNN_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setitem(idx.SOURCES, "mnist", idx.SOURCES["mnist"]._replace(usual=("~/no", "such/folder")))
    with pytest.raises(
        DataError, match=rf"files of mnist are not in {Path.home()}/no, such/folder; to download"
    ):
        mnist()


def fake_pooch(cache, retrieve):
    return SimpleNamespace(os_cache=lambda name: cache / name, retrieve=retrieve)


def test_download(alone, monkeypatch):
    asked = []
    files = {f"{name}.gz": gzip.compress(idx_bytes(array)) for name, array in idx_files().items()}

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(files[fname])

    monkeypatch.setitem(sys.modules, "pooch", fake_pooch(alone / "cache", retrieve))
    assert fashion_mnist().train.x.shape == (12, 28, 28, 1)
    assert sorted(p.name for p in (alone / "cache/fnn/fashion_mnist").iterdir()) == sorted(files)
    base = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    assert [url for url, _ in asked] == [f"{base}{name}.gz" for name in idx.FILES]
    assert asked[1][1] == "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"


@pytest.mark.parametrize(
    "error", [ConnectionError("no network\nat all"), ValueError("SHA256 hash does not match")]
)
def test_failed_download(alone, monkeypatch, error):
    def retrieve(url, known_hash, fname, path):
        raise error

    monkeypatch.setitem(sys.modules, "pooch", fake_pooch(alone, retrieve))
    first = str(error).splitlines()[0]
    message = (
        rf"/train-images-idx3-ubyte.gz could not be downloaded \({first}\); set FNN_DATA to their folder$"
    )
    with pytest.raises(DataError, match=message):
        mnist()


def test_the_real_pooch_refuses_other_bytes(alone, monkeypatch):
    served = alone / "served"
    write(served, idx_files(), compress=True)
    source = idx.SOURCES["mnist"]._replace(url=f"file://{served}/")

    def retrieve(url, known_hash, fname, path):
        def copy(url, output_file, _):
            Path(output_file).write_bytes(Path(url.removeprefix("file://")).read_bytes())

        return pooch.retrieve(url, known_hash, fname, path, downloader=copy)

    monkeypatch.setitem(sys.modules, "pooch", fake_pooch(alone / "cache", retrieve))
    monkeypatch.setitem(idx.SOURCES, "mnist", source)
    with pytest.raises(DataError, match=r"could not be downloaded \(SHA256 hash of downloaded file"):
        mnist()
    sums = [hashlib.sha256((served / f"{name}.gz").read_bytes()).hexdigest() for name in idx.FILES]
    monkeypatch.setitem(idx.SOURCES, "mnist", source._replace(sha256=tuple(sums)))
    assert mnist().test.x.shape == (5, 28, 28, 1)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(monkeypatch):
    monkeypatch.delenv("FNN_DATA", raising=False)
    (x, y), test, classes, _ = fashion_mnist()
    assert (x.shape, test.x.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    assert np.bincount(y).tolist() == [6000] * 10
    assert np.bincount(test.y).tolist() == [1000] * 10
    assert classes[y[0]] == "Ankle boot"
    assert (
        y[:10].tobytes()
        == np.frombuffer(idx.SOURCES["fashion_mnist"].opening, np.uint8).astype(np.int32).tobytes()
    )
    mean, std = moments(x)
    assert abs(mean[0] - 0.2860) < 5e-5
    assert abs(std[0] - 0.3530) < 5e-5
