"""The entry point of the command `fnn`."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType

_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What no command can help: a disk that is full or broken, a file that is not the user's."""


_SENTENCES = {"ConfigError": 2, "NotWritten": 1}
"""The exit codes of errors that are one sentence; by name, as `fnn --help` loads none of them."""


def main() -> None:
    """Run a command; bad input ends in one sentence and exit code 2, a disk or memory that fails in 1."""
    # XLA logs two errors for every program that it reads from the compile cache on some CPUs, about features
    # that say what is fast and not what is possible. Its real errors arrive as exceptions.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # JAX sets 1 for its children, as in a notebook
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    gc.set_threshold(10_000)  # tracing makes many objects and few cycles: 0.1 s of a start
    # Of what orbax raises it logs a traceback too, and its other reads and writes go on and fail unheard.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None
    signal.signal(signal.SIGINT, _quit)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # characters that its encoding lacks
    try:
        from fnn.run._commands import app
    except ModuleNotFoundError as error:
        _fail(f"the commands of fnn need the package {error.name}: pip install 'fnn[run]'")
    try:
        app()
    except Exception as error:
        if (name := type(error).__name__) in _SENTENCES:
            _fail(str(error), _SENTENCES[name])
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            where = f": {error.filename}" if error.filename else ""
            _fail(f"{error.strerror}{where}", 1)
        if isinstance(error, MemoryError) or "Out of memory" in str(error):  # NumPy's, XLA's
            words = str(error).partition("\n")[0].rpartition(": ")[2].rstrip(".")
            _fail(f"the memory does not suffice ({words}); make the batch or the network smaller", 1)
        raise  # a defect, which shows its traceback


def _quit(number: int, frame: FrameType | None) -> None:
    """Leave at once, where no run is at work that has to be saved: Ctrl-C.

    An exception would be lost where Python happens to be in a callback of JAX's, which swallows it.
    """
    with suppress(Exception):
        sys.stdout.flush()
        if sys.stderr.isatty():
            print(end="\x1b[?25h", file=sys.stderr, flush=True)  # the cursor, which a progress display hides
    os._exit(128 + number)


def _fail(problem: str, code: int = 2) -> None:
    print(f"fnn: {problem}", file=sys.stderr)
    sys.exit(code)
