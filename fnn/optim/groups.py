"""Parameter groups: another optimizer, or other hyperparameters, for parameters named by their paths."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import reduce
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn._tree import combine, paths, select
from fnn._types import Params, check_sequence
from fnn.optim.transforms import Optimizer, OptimizerState, Updates, check_optimizer


class Group(NamedTuple):
    """Parameters and the optimizer that trains them, see `group`."""

    pattern: str
    optimizer: Optimizer


class ByPathState(NamedTuple):
    """The state of `by_path`."""

    groups: tuple[OptimizerState, ...]  # one for each group, its slots with None where leaves are others'
    default: OptimizerState  # () where the groups have taken every parameter


def group(pattern: str, optimizer: Optimizer) -> Group:
    """The parameters whose path matches a pattern, and what trains them; for `by_path`.

    Args:
        pattern: shell pattern on the path of a leaf, such as `"*bias"` or `"head/*"`; `*` also crosses `/`.
        optimizer: sees these parameters and no others.

    Raises:
        TypeError: if `optimizer` is not one.
    """
    check_optimizer("group", optimizer)
    return Group(pattern, optimizer)


def by_path(*groups: Group, default: Optimizer) -> Optimizer:
    """Train groups of parameters each with an optimizer of its own.

    Args:
        groups: a parameter belongs to the first group whose pattern matches its path.
        default: trains what is in no group; that may be nothing.

    Returns:
        An optimizer. Each inner one sees the whole tree, with None in place of what belongs to others, so
        patterns of its own still work; one that matches only what belongs to others does nothing. A
        norm is over its group alone: `chain(clip_by_global_norm(1.0), by_path(…))` clips over all parameters.

    Raises:
        TypeError: if a group is not one, there is none, or `default` is not an optimizer.
        ValueError: at init, if a group gets no parameter.

    To keep parameters as they are, do not differentiate with respect to them: see `partition`.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import adam, by_path, group, sgd
        >>> params = {"linear_1": {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)}}
        >>> optimizer = by_path(group("*bias", sgd(0.25)), default=adam(0.5))
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> updates["linear_1"]["bias"].tolist(), updates["linear_1"]["kernel"].round(3).tolist()
        ([-0.25], [[-0.5], [-0.5]])
    """
    if not groups:
        raise TypeError("by_path needs at least one group, group(pattern, optimizer)")
    for each in groups:
        if not isinstance(each, Group):
            name = getattr(each, "__name__", repr(each))
            raise TypeError(f"by_path takes groups, group(pattern, optimizer), not {name}")
    check_optimizer("by_path", default)
    patterns = tuple(each.pattern for each in groups)

    def init(params: Params) -> ByPathState:
        *parts, rest = _split(params, patterns)
        states = tuple(each.optimizer.init(part) for each, part in zip(groups, parts, strict=True))
        return ByPathState(states, default.init(rest) if jax.tree.leaves(rest) else ())

    def update(
        grads: Updates, state: ByPathState, params: Params | None = None
    ) -> tuple[Updates, ByPathState]:
        parts = _split(grads, patterns)
        weights = [None] * len(parts) if params is None else _split(params, patterns)
        inner = [*(each.optimizer for each in groups), default]
        states = [*state.groups, state.default]
        for i, (optimizer, part) in enumerate(zip(inner, parts, strict=True)):
            if jax.tree.leaves(part):
                parts[i], states[i] = optimizer.update(part, states[i], weights[i])
        return reduce(combine, parts), ByPathState(tuple(states[:-1]), states[-1])

    return Optimizer(init, update)


def parameter_groups(params: Params, patterns: tuple[str, ...], /) -> dict[str, tuple[int, int]]:
    """How many parameters each pattern of `by_path` takes.

    Args:
        params: a pytree of parameters.
        patterns: those of the groups, in their order.

    Returns:
        For each pattern, and for `"default"`, how many leaves and how many numbers they hold.

    Raises:
        ValueError: if a pattern takes no parameter.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import parameter_groups
        >>> params = {"linear_1": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
        >>> parameter_groups(params, ("*bias",))
        {'*bias': (1, 3), 'default': (1, 6)}
    """
    check_sequence("patterns", patterns)
    leaves = map(jax.tree.leaves, _split(params, patterns))
    return {
        name: (len(part), sum(int(np.prod(np.shape(leaf))) for leaf in part))
        for name, part in zip((*patterns, "default"), leaves, strict=True)
    }


def _split(tree: Any, patterns: tuple[str, ...]) -> list[Any]:
    """The tree cut into one part for each pattern, the first that matches, and the rest."""
    owners = {
        path: next((i for i, pattern in enumerate(patterns) if fnmatchcase(path, pattern)), len(patterns))
        for path, _ in paths(tree)
    }
    for i, pattern in enumerate(patterns):
        if i not in owners.values():
            left = ", ".join(path for path, owner in owners.items() if owner > i) or "none"
            raise ValueError(
                f"the pattern {pattern!r} of a parameter group takes no parameter; those that earlier groups "
                f"leave are {left}"
            )

    def part(number: int) -> Any:
        return select(tree, lambda path: owners[path] == number)

    return [part(number) for number in range(len(patterns) + 1)]
