"""Finding the files of a public data set: in the usual folders first, then by download."""

from __future__ import annotations

import errno
import gzip
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fnn.data._dataset import DataError


def places(name: str, usual: Sequence[str]) -> list[Path]:
    """Where the files of a data set are looked for: `$FNN_DATA/<name>`, `$FNN_DATA`, the usual folders."""
    own = os.environ.get("FNN_DATA")
    chosen = [os.path.join(own, name), own] if own else []
    return [Path(os.path.expanduser(folder)) for folder in (*chosen, *usual)]


def look(path: str | Path) -> Path:
    """A path of the user's, where `~` is the home folder, whether anything is there or not.

    Raises:
        DataError: The system does not tell what is there, or does not let it be read.
    """
    place = Path(os.path.expanduser(path))
    try:
        place.stat()
        if not os.access(place, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # of a null character
        pass
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror}") from error
    return place


def locate(folder: Path, files: Sequence[str]) -> dict[str, Path] | None:
    """The path of each file in a folder, plain or with `.gz`; None unless all are there to be seen."""
    found = {}
    for file in files:
        for path in (folder / file, folder / f"{file}.gz"):
            if os.path.isfile(path):
                found[file] = path
                break
        else:
            return None
    return found


def find_or_download(
    name: str,
    find: Callable[[Path], dict[str, Path] | None],
    usual: Sequence[str],
    url: str,
    sums: Mapping[str, str],
    hint: str,
) -> dict[str, Path]:
    """The files that `find` sees in the first folder that has them all, or in the cache after a download.

    Args:
        name: The data set.
        find: The path of each file in a folder, None where one is missing.
        usual: Folders to look in after those of `$FNN_DATA`.
        url: Where to download from, up to the last slash.
        sums: The files to download with their SHA-256 sums.
        hint: What else the user can do, as the end of a sentence.

    Raises:
        DataError: No folder has the files and they cannot be downloaded.
    """
    folders = places(name, usual)
    for folder in folders:
        if found := find(folder):
            return found
    missing = f"the files of {name} are not in {', '.join(map(str, folders))}"
    try:
        import pooch
    except ImportError as error:
        raise DataError(
            f"{missing}; to download them, pip install 'fnn[run]', or set FNN_DATA to their folder{hint}"
        ) from error
    cache = Path(pooch.os_cache("fnn"), name)
    for file, sha256 in sums.items():
        try:
            pooch.retrieve(url + file, known_hash=f"sha256:{sha256}", fname=file, path=cache)
        except (OSError, ValueError) as error:  # no network, no such page, another sum
            raise DataError(
                f"{missing}, and {url + file} could not be downloaded ({_first_line(error)}); "
                f"set FNN_DATA to their folder{hint}"
            ) from error
    found = find(cache)
    assert found is not None, f"{cache} lacks a file that has just been downloaded"
    return found


def read_bytes(path: Path) -> bytes:
    """The content of a file, decompressed where the name ends in `.gz`.

    Raises:
        DataError: The file cannot be read, or its compressed data are damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
