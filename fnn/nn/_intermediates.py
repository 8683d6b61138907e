"""What every layer of a network hands to the next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax

from fnn._types import Array, Key, Params, State
from fnn.nn._layer import Layer, LayerLike, as_layer, walk


def intermediates(
    net: LayerLike,
    params: Params,
    state: State,
    x: Array,
    /,
    *,
    train: bool = False,
    key: Key | None = None,
    mask: Array | None = None,
) -> dict[str, Array]:
    """The output of every layer, by path: `{"conv_1": …, "relu_1": …, …}`.

    Args:
        net, params, state: a network and what its `init` returned.
        x: an input with its batch axis.
        train, key, mask: as `apply` takes them.

    Works under `jit`, `vmap` and `eval_shape`; under `jit` the result comes back sorted by path, as every
    dict does.
    """
    return apply_watched(net, params, state, x, train=train, key=key, mask=mask)[2]


def apply_watched(
    net: LayerLike, params: Params, state: State, x: Array, /, **context: Any
) -> tuple[Array, State, dict[str, Array]]:
    """What `apply` returns, and `intermediates` of the same pass."""
    y, tapped = _tapped(as_layer(net)).apply(params, state, x, **context)

    def output(path: str) -> Array:
        at = tapped
        for name in path.split("/") if path else ():
            at = at.state[name]
        return at.output

    return y, _without_taps(tapped), {path: output(path) for path, _ in walk(net)}


class _Tapped(NamedTuple):
    """What a watched layer hands out as its state."""

    state: State  # its own; of a container, what its layers hand out
    output: Array


def _tapped(net: Layer) -> Layer:
    """The same network, whose layers hand out their outputs with their states: nothing ambient is needed."""
    inner = net.with_each(_tapped) if net.is_container else net

    def apply(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
        y, new_state = inner.apply(params, state, x, **context)
        return y, _Tapped(new_state, y)

    return replace(inner, apply=apply)


def _without_taps(tree: Any) -> Any:
    """The state alone."""

    def is_tapped(node: Any) -> bool:
        return isinstance(node, _Tapped)

    return jax.tree.map(
        lambda node: _without_taps(node.state) if is_tapped(node) else node, tree, is_leaf=is_tapped
    )
