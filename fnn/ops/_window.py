"""Sliding windows over images: the geometry that convolution and pooling share."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import lax

from fnn._types import Array, check_range

Pair = tuple[int, int]
Padding = Literal["SAME", "VALID"] | tuple[Pair, Pair]
"""`"SAME"`: ⌈N/stride⌉ outputs, as in lax and TensorFlow, the smaller half of the zeros first.
`"VALID"`: no padding. Or explicit ((top, bottom), (left, right))."""


class Window(NamedTuple):
    """A window that slides over the two spatial axes of an image batch."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[Pair, ...]  # (top, bottom), (left, right)

    @property
    def offsets(self) -> list[Pair]:
        """The place of each pixel of the window, row by row."""
        (height, width), (down, right) = self.size, self.dilation
        return [(i * down, j * right) for i in range(height) for j in range(width)]


def pair(value: int | tuple[int, ...], name: str) -> tuple[int, ...]:
    """One number for both spatial axes, or one for each."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2:
        raise ValueError(f"{name} must be one integer or two, not {value}")
    for number in both:
        check_range(name, number, at_least=1)
    return both


def sliding_window(
    x: Array,
    size: int | tuple[int, ...],
    stride: int | Pair,
    padding: Padding,
    dilation: int | Pair = 1,
    *,
    name: str,
) -> Window:
    """The window that fits `x` (N, H, W, C), or ValueError with a sentence that says why none does."""
    if x.ndim != 4:
        raise ValueError(f"expected images (batch, height, width, channels), got shape {x.shape}")
    sizes, strides, dilations = pair(size, name), pair(stride, "stride"), pair(dilation, "dilation")
    extent = tuple((k - 1) * d + 1 for k, d in zip(sizes, dilations, strict=True))
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f'padding must be "SAME", "VALID" or explicit pairs, not {padding!r}')
        pads = tuple((lo, hi) for lo, hi in lax.padtype_to_pads(x.shape[1:3], extent, strides, padding))
    else:
        if len(padding) != 2 or any(len(p) != 2 for p in padding):
            raise ValueError(f"explicit padding is ((top, bottom), (left, right)), not {padding}")
        check_range("padding", padding, at_least=0)
        pads = tuple((lo, hi) for lo, hi in padding)
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(x.shape[1:3], pads, strict=True))
    if any(k > n for k, n in zip(extent, padded, strict=True)):
        raise ValueError(
            f"a {name} that covers {extent[0]}×{extent[1]} pixels does not fit its padded input of "
            f"{padded[0]}×{padded[1]}"
        )
    return Window(sizes, strides, dilations, pads)


def shifted(x: Array, window: Window, fill: float = 0.0) -> list[Array]:
    """For each pixel of the window, the image batch (N, Ho, Wo, C) that this pixel sees as it slides."""
    n, _, _, c = x.shape
    x = lax.pad(x, jnp.asarray(fill, x.dtype), ((0, 0, 0), *((*p, 0) for p in window.padding), (0, 0, 0)))
    (sh, sw), (kh, kw) = window.stride, window.size
    height = x.shape[1] - (kh - 1) * window.dilation[0]
    width = x.shape[2] - (kw - 1) * window.dilation[1]
    return [
        lax.slice(x, (0, i, j, 0), (n, i + height, j + width, c), (1, sh, sw, 1)) for i, j in window.offsets
    ]
