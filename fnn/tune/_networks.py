"""The same network without what would blur a measurement of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fnn._types import Array, Params, State
from fnn.nn import Layer
from fnn.nn._layer import as_layer, in_series, walk


def without_noise(net: Any) -> Layer:
    """The same network, its dropout layers as at test time; the very same where it has none."""
    net = as_layer(net)
    if "dropout" in net.kind:

        def at_test_time(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
            return net.apply(params, state, x)

        return replace(net, apply=at_test_time)
    if not any("dropout" in layer.kind for _, layer in walk(net)):
        return net
    return net.with_each(without_noise)


def in_full_precision(net: Layer) -> Layer:
    """The same network without `mixed_precision`, which would round what is computed in float64."""
    if not net.is_container:
        return net
    whole = net.with_each(in_full_precision)
    return in_series(whole.children, name=net.name) if net.kind == "mixed_precision" else whole
