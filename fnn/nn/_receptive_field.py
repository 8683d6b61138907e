"""How much of its input an output of a network sees."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from fnn._types import Params, State
from fnn.nn._layer import Layer, LayerLike, as_layer, as_shape, located, split_shortcut
from fnn.ops._window import spatial_axes


class ReceptiveField(NamedTuple):
    """The window through which one output position sees the input, an entry for each spatial axis."""

    size: tuple[int, ...]
    stride: tuple[int, ...]


def receptive_field(net: LayerLike, x: Any, /) -> ReceptiveField:
    """How many input pixels one output position depends on, and how far its neighbour's lie from them.

        size = 1 + Σₗ (kₗ − 1) dₗ ∏_{i<l} sᵢ,   stride = ∏ₗ sₗ

    over the convolutions and pools l of window k, dilation d and stride s: the notes' 1 + L(K − 1) is that of
    L equal layers without strides. Where a network branches, as a residual does, the size is from the first
    pixel that any branch sees to the last; for branches whose windows have one centre, the largest. Padding
    counts as pixels, so near a border, or in a small image, fewer real ones are seen.

    A layer that removes the spatial axes, such as `flatten` or `global_avg_pool`, acts as a window as large
    as its input. Any other layer that has no window is taken to act at each position by itself: batch
    normalisation does so in evaluation; a normalisation over positions (group, instance) is not counted.

    Convolution, which is cross-correlation here as everywhere in the field, is called equivariant: it
    follows a shift of its input. That holds for shifts that the total `stride` divides, which move the output
    by shift / stride, and at positions whose field lies inside the image in both; other shifts sample
    different pixels.

    Args:
        net: a layer.
        x: an input with its batch axis, an array or a `jax.ShapeDtypeStruct`; nothing is computed.

    Returns:
        `size` and `stride` in pixels, one entry for each spatial axis of `x`.

    Raises:
        ValueError: an input without spatial axes, a transposed convolution, an adaptive pool whose cells
            differ, branches of different strides, or a function that changes the spatial axes in a way that
            is not known; with the layer's path.

    Source: Araujo et al. (2019), "Computing Receptive Fields of Convolutional Neural Networks".

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.conv(8, 3), fnn.relu, fnn.max_pool(2), fnn.conv(8, 3))
    >>> receptive_field(net, jax.ShapeDtypeStruct((1, 28, 28, 1), "float32"))
    ReceptiveField(size=(8, 8), stride=(2, 2))
    """
    net, x = as_layer(net), as_shape(x)
    axes = spatial_axes(x)
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    pixel = _Seen((0,) * axes, (0,) * axes, (1,) * axes)
    seen, _ = _through(net, pixel, x, params, state)
    size = tuple(last - first + 1 for first, last in zip(seen.first, seen.last, strict=True))
    return ReceptiveField(size, seen.stride)


class _Seen(NamedTuple):
    """The input pixels first … last that output position 0 sees; position p sees those p·stride further."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    stride: tuple[int, ...]


def _through(
    net: Layer, seen: _Seen, x: jax.ShapeDtypeStruct, params: Params, state: State
) -> tuple[_Seen, jax.ShapeDtypeStruct]:
    """What the output of a network sees, given what its input x sees, and the shape of that output."""
    if not net.is_container:
        y, _ = jax.eval_shape(net.apply, params, state, x)
        return _through_window(net, seen, x, y), y
    ends = []
    for branch in split_shortcut(net.children) if net.kind == "residual" else (net.children,):
        end, y = seen, x
        for name, child in branch:
            with located(name):
                end, y = _through(child, end, y, params.get(name, {}), state.get(name, {}))
        ends.append((end, y))
    (seen, y), *others = ends
    for other, _ in others:
        if other.stride != seen.stride:
            raise ValueError(f"its branches have the strides {seen.stride} and {other.stride}, which differ")
        seen = _Seen(
            tuple(map(min, seen.first, other.first)), tuple(map(max, seen.last, other.last)), seen.stride
        )
    return seen, y


def _through_window(net: Layer, seen: _Seen, x: jax.ShapeDtypeStruct, y: jax.ShapeDtypeStruct) -> _Seen:
    before, after = x.shape[1:-1], y.shape[1:-1]
    if net.window is not None:
        window = net.window(x)
        extent, strides, lows = window.extent, window.stride, [lo for lo, _ in window.padding]
    elif before == after:
        return seen
    elif not after:
        extent, strides, lows = before, before, [0] * len(before)
    else:
        raise ValueError(
            f"{net.kind} makes spatial axes {after} of {before}, and it is not known which pixels each "
            "output sees; make it a layer with a window"
        )
    steps = list(zip(seen.stride, lows, extent, strict=True))
    return _Seen(
        tuple(a - lo * s for a, (s, lo, _) in zip(seen.first, steps, strict=True)),
        tuple(b + (k - 1 - lo) * s for b, (s, lo, k) in zip(seen.last, steps, strict=True)),
        tuple(a * b for a, b in zip(seen.stride, strides, strict=True)),
    )
