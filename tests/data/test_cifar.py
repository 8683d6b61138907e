import gzip
import io
import sys
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest

import fnn.data._cifar as cifar
from fnn.data import DataError, cifar10

BATCHES = [f"data_batch_{number}.bin" for number in range(1, 6)]
NAMES = [*BATCHES, "test_batch.bin"]
RECORDS = 3  # of a file here, instead of 10,000


def batch(seed):
    """Random images (N, 32, 32, 3) with labels, and the file that the data set's page describes."""
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 256, (RECORDS, 32, 32, 3), np.uint8), random.integers(0, 10, RECORDS)
    records = [
        bytes([label]) + b"".join(image[:, :, colour].tobytes() for colour in range(3))
        for image, label in zip(x, y, strict=True)
    ]
    return x, y, b"".join(records)


FILES = {name: batch(seed) for seed, name in enumerate(NAMES)}


def write_bins(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, _, content) in FILES.items():
        (folder / name).write_bytes(content)


def write_archive(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in reversed(names):  # the order within the archive is nobody's promise
            content = FILES[name][2]
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A folder for `FNN_DATA`, for files of few records, with nothing in the current folder and no download."""
    monkeypatch.setattr(cifar, "RECORDS", RECORDS)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FNN_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pooch", None)
    return tmp_path


def check_values():
    dataset = cifar10()
    assert (dataset.name, dataset.classes[9]) == ("cifar10", "truck")
    np.testing.assert_array_equal(dataset.train.x, np.concatenate([FILES[name][0] for name in BATCHES]))
    np.testing.assert_array_equal(dataset.train.y, np.concatenate([FILES[name][1] for name in BATCHES]))
    np.testing.assert_array_equal(dataset.test.x, FILES["test_batch.bin"][0])
    np.testing.assert_array_equal(dataset.test.y, FILES["test_batch.bin"][1])
    assert (dataset.test.x.dtype, dataset.test.y.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("own", ["~nosuch/data", "a" * 300])
def test_a_folder_that_is_none_is_passed_over(alone, monkeypatch, own):
    write_archive(alone / "here/data")
    monkeypatch.setenv("FNN_DATA", own)
    check_values()


@pytest.mark.parametrize("write", [write_bins, write_archive])
@pytest.mark.parametrize("folder", ["", "cifar10", "here/data"])
def test_files_and_archives(alone, write, folder):
    write(alone / folder)
    check_values()


def test_the_extracted_folder(alone):
    write_bins(alone / "cifar-10-batches-bin")
    check_values()


def test_download(alone, monkeypatch):
    def retrieve(url, known_hash, fname, path):
        assert url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
        assert known_hash == "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
        write_archive(path)

    pooch = SimpleNamespace(os_cache=lambda name: alone / "cache" / name, retrieve=retrieve)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    check_values()


def test_missing_files(alone):
    with pytest.raises(
        DataError, match=r"files of cifar10 are not in .*/cifar10, .*, data; to download them, pip"
    ):
        cifar10()


@pytest.mark.parametrize("left", [0, 2 * 3073, 3 * 3073 - 1])
def test_a_cut_file(alone, left):
    write_bins(alone)
    path = alone / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:left])
    message = f"data_batch_2.bin in .* holds {left} bytes; expected 3 records of 3073 bytes: fetch it again"
    with pytest.raises(DataError, match=message):
        cifar10()


def test_an_archive_of_something_else(alone):
    write_archive(alone, BATCHES)
    with pytest.raises(
        DataError, match=r"does not hold test_batch.bin; expected the binary version of CIFAR-10"
    ):
        cifar10()


def test_every_damage_to_an_archive_is_a_sentence(alone):
    write_archive(alone)
    path = alone / cifar.ARCHIVE
    whole = path.read_bytes()
    cuts = [whole[:length] for length in range(1, len(whole), 997)]
    header = 100  # the gzip header holds a name and a time, which may be anything
    flips = [
        whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]
        for i in (*range(header, len(whole), 1499), -2 + len(whole))
    ]
    for content in (*cuts, *flips):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"is not a whole gzip file .*; fetch it again"):
            cifar10()
    tar = gzip.decompress(whole)
    for content in (b"", b"not a tar archive" * 100, tar[:100], tar[:5000]):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match=r"is not a whole tar archive .*; fetch it again"):
            cifar10()
