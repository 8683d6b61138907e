"""Paths: the one way in which parameters are named, `conv_1/kernel`."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import jax

from fnn._types import Array, Key, check_key


def paths(tree: Any) -> list[tuple[str, Array]]:
    """The leaves of a tree with their paths: `[("conv_1/bias", …), ("conv_1/kernel", …), …]`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(_name(path), leaf) for path, leaf in leaves]


def matching(tree: Any, pattern: str) -> list[Array]:
    """The leaves whose path matches a shell pattern, in which `*` also crosses `/`.

    Raises ValueError as `partition` does: a pattern that matches nothing is a mistake.
    """
    matched, _ = partition(tree, pattern)
    return jax.tree.leaves(matched)


def partition(tree: Any, *patterns: str) -> tuple[Any, Any]:
    """Cut a tree in two by the paths of its leaves.

    Args:
        tree: any pytree.
        patterns: shell patterns on the path of a leaf; `*` also crosses `/`, and is the one pattern that
            matches an array without a path.

    Returns:
        `(matching, rest)`: the leaves that match one of the patterns, and those that match none. Both have
        the shape of the tree, with None where the leaf is in the other one. JAX takes None for a tree without
        leaves, so either part can be differentiated, mapped or trained by itself.

    Raises:
        ValueError: if a pattern matches nothing, not even the None of a leaf that is in another part.

    Example:
        >>> from fnn.optim import combine, partition
        >>> params = {"linear_1": {"kernel": 1.0, "bias": 2.0}}
        >>> biases, rest = partition(params, "*bias")
        >>> biases
        {'linear_1': {'bias': 2.0, 'kernel': None}}
        >>> combine(biases, rest) == params
        True
    """
    places, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: leaf is None)
    for pattern in patterns:
        if not any(fnmatchcase(_name(path), pattern) for path, _ in places):
            known = [path or "one array without a name" for path, _ in paths(tree)]
            raise ValueError(
                f"the pattern {pattern!r} matches no parameter; the parameters are "
                f"{', '.join(known) or 'none'}; "
                'the pattern "*" matches them all'
            )

    def matches(path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in patterns)

    return select(tree, matches), select(tree, lambda path: not matches(path))


def at_path(tree: Any, path: str) -> Any:
    """The part of nested dicts at a path; `{}` where there is none, as of a layer without parameters."""
    for name in path.split("/") if path else ():
        tree = tree.get(name, {})
    return tree


def select(tree: Any, wanted: Callable[[str], bool]) -> Any:
    """The tree with None for each leaf whose path is not wanted."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if wanted(_name(path)) else None, tree)


def combine(tree: Any, rest: Any) -> Any:
    """Fill the holes of one tree from another: what `partition` has cut becomes whole again.

    Args:
        tree: a pytree with None where a leaf is missing.
        rest: a pytree of the same shape.

    Returns:
        The leaves of `tree` where it has them, and those of `rest` elsewhere.
    """
    return jax.tree.map(
        lambda leaf, other: other if leaf is None else leaf, tree, rest, is_leaf=lambda leaf: leaf is None
    )


def fold_name(key: Key, name: str) -> Key:
    """The key that belongs to one segment of a path.

    Keys are addressed by name, so what one layer draws does not depend on its neighbours.
    """
    check_key(key)
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
