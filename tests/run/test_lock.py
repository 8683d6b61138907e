"""One process at a time in a directory: another open file stands for another process."""

import errno

import pytest

from fnn.run import _lock
from fnn.run._config import ConfigError
from fnn.run._lock import alone


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "config.toml").write_text("seed = 1")
    return tmp_path


def test_a_second_process_is_kept_out_until_the_first_is_done(directory):
    with (
        alone(directory, "trains"),
        pytest.raises(ConfigError, match=r"^another process searches in .*; wait for it, or stop it$"),
        alone(directory, "searches"),
    ):
        pass
    with pytest.raises(RuntimeError), alone(directory, "trains"):
        raise RuntimeError
    with alone(directory, "trains"):
        assert (directory / "config.toml").read_text() == "seed = 1"
    assert [path.name for path in directory.iterdir()] == ["config.toml"]


def test_a_file_system_without_locks_keeps_nobody_out(directory, monkeypatch):
    def fails(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_lock, "_lock", fails)
    with alone(directory, "trains"), alone(directory, "trains"):
        pass
