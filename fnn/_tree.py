"""Paths: the one way in which parameters are named, `conv_1/kernel`."""

from __future__ import annotations

import zlib
from fnmatch import fnmatchcase
from typing import Any

import jax

from fnn._types import Array, Key


def paths(tree: Any) -> list[tuple[str, Array]]:
    """The leaves of a tree with their paths: `[("conv_1/bias", …), ("conv_1/kernel", …), …]`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def matching(tree: Any, pattern: str) -> list[Array]:
    """The leaves whose path matches a shell pattern, in which `*` also crosses `/`.

    Raises ValueError where none does: a pattern that matches nothing is a mistake.
    """
    named = paths(tree)
    found = [leaf for path, leaf in named if fnmatchcase(path, pattern)]
    if not found:
        known = ", ".join(path for path, _ in named) or "none"
        raise ValueError(f"the pattern {pattern!r} matches no parameter; the parameters are {known}")
    return found


def fold_name(key: Key, name: str) -> Key:
    """The key that belongs to one segment of a path.

    Keys are addressed by name, so what one layer draws does not depend on its neighbours.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
