"""One process at a time in a directory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fnn.run._config import ConfigError


@contextmanager
def alone(directory: Path, doing: str) -> Iterator[None]:
    """Keep other processes out of the directory of a run or a search, where its file system has locks.

    The lock is on its `config.toml`, which no process writes again, and ends with the process that holds it.

    Args:
        directory: of the run or search.
        doing: what a process does in it, "trains" or "searches".

    Raises:
        ConfigError: another process is at work there.
    """
    with ExitStack() as held:
        try:
            _lock(held.enter_context((directory / "config.toml").open("r+b")).fileno())
        except BlockingIOError as error:
            problem = f"another process {doing} in {directory}; wait for it, or stop it"
            raise ConfigError("", problem) from error
        except OSError:  # a file that may not be written, a file system without locks
            pass
        yield


def _lock(file: int) -> None:
    """Lock an open file, or raise `BlockingIOError`."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
