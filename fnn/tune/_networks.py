"""The same network without what would blur a measurement of it."""

from __future__ import annotations

from typing import Any

from fnn._types import Array
from fnn.nn import Layer
from fnn.nn._layer import _serial as series
from fnn.nn._layer import as_layer, walk


def without_noise(net: Any) -> Layer:
    """The same network without its dropout layers; the very same where it has none."""
    net = as_layer(net)
    if "dropout" in net.kind:
        return as_layer(_identity)
    if not any("dropout" in layer.kind for _, layer in walk(net)):
        return net
    return net.with_each(without_noise)


def in_full_precision(net: Layer) -> Layer:
    """The same network without `mixed_precision`, which would round what is computed in float64."""
    if not net.is_container:
        return net
    whole = net.with_each(in_full_precision)
    return series(whole.children, name=net.name) if net.kind == "mixed_precision" else whole


def _identity(x: Array) -> Array:
    return x
