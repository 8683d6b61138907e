"""Sliding windows over images: the geometry that convolution and pooling share."""

from __future__ import annotations

from itertools import product
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn._types import Array, Shape, check_range, is_integer

Pair = tuple[int, int]
Sizes = int | tuple[int, ...]
"""One integer for all spatial axes of an input, or one for each."""
Padding = Literal["SAME", "VALID"] | int | tuple[Pair, ...]
"""`"SAME"`: ⌈N/stride⌉ outputs, as in lax and TensorFlow, the smaller half of the zeros first.
`"VALID"`: no padding. An integer: so many on every side. Or a pair (before, after) for each spatial axis."""


class Window(NamedTuple):
    """A window that slides over the spatial axes of an image batch: an entry for each axis."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[Pair, ...]  # before and after the axis

    @property
    def extent(self) -> tuple[int, ...]:
        """How many neighbouring pixels the window covers, those it skips included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))

    @property
    def offsets(self) -> list[tuple[int, ...]]:
        """The place of each pixel of the window, row by row."""
        axes = zip(self.size, self.dilation, strict=True)
        return list(product(*(range(0, k * d, d) for k, d in axes)))

    def outputs(self, sizes: Shape) -> Shape:
        """How many places the window takes on axes of these sizes, ⌊(N + lo + hi − extent) / stride⌋ + 1."""
        axes = zip(sizes, self.padding, self.extent, self.stride, strict=True)
        return tuple((n + lo + hi - k) // s + 1 for n, (lo, hi), k, s in axes)

    def along(self, axis: int) -> Window:
        """The window as it is along one axis, one pixel wide along the others."""

        def there(numbers: tuple[Any, ...], elsewhere: Any) -> tuple[Any, ...]:
            return tuple(n if a == axis else elsewhere for a, n in enumerate(numbers))

        return Window(
            there(self.size, 1), there(self.stride, 1), there(self.dilation, 1), there(self.padding, (0, 0))
        )

    @property
    def reversed(self) -> Window:
        """The window through which the outputs of a window of stride 1 see its inputs."""
        axes = zip(self.extent, self.padding, strict=True)
        return self._replace(padding=tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in axes))


def spatial_axes(x: Array | jax.ShapeDtypeStruct) -> int:
    """How many spatial axes a batch (N, …, C) has, or ValueError where it has none."""
    axes = len(x.shape) - 2
    if axes < 1:
        raise ValueError(
            f"expected images (batch, height, width, channels), got shape {x.shape}; sequences (batch, "
            "length, channels) and volumes (batch, depth, height, width, channels) will do as well"
        )
    return axes


def per_axis(value: Sizes, axes: int, name: str) -> tuple[int, ...]:
    """One number for all spatial axes, or one for each."""
    numbers: Any = value if np.iterable(value) else (value,) * axes
    if len(numbers) != axes or not all(map(is_integer, numbers)):
        raise ValueError(
            f"{name} must be one integer or a tuple of {axes}, the number of spatial axes, not {value}"
        )
    check_sizes(name, numbers)
    return tuple(map(int, numbers))


def check_sizes(name: str, sizes: Sizes) -> None:
    """Raise ValueError or TypeError for what can be told before the number of spatial axes is known."""
    for size in sizes if np.iterable(sizes) else (sizes,):
        check_range(name, size, at_least=1)


def sliding_window(
    x: Array | jax.ShapeDtypeStruct,
    size: Sizes,
    stride: Sizes,
    padding: Padding,
    dilation: Sizes = 1,
    *,
    name: str,
) -> Window:
    """The window that fits `x` (N, …, C), or ValueError with a sentence that says why none does."""
    axes, sizes = spatial_axes(x), x.shape[1:-1]
    window = Window(
        per_axis(size, axes, name), per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation"), ()
    )
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        pads = tuple(lax.padtype_to_pads(sizes, window.extent, window.stride, padding))
    else:
        pads = explicit_pads(padding, axes)
    window = window._replace(padding=pads)
    if any(count < 1 for count in window.outputs(sizes)):
        padded = tuple(n + lo + hi for n, (lo, hi) in zip(sizes, window.padding, strict=True))
        raise ValueError(
            f"a {name} that covers {_product(window.extent)} pixels does not fit its padded input of "
            f"{_product(padded)}"
        )
    return window


def explicit_pads(padding: Padding, axes: int) -> tuple[Pair, ...]:
    """Padding in numbers, as one pair for each spatial axis."""
    pads: Any = padding if np.iterable(padding) else ((padding, padding),) * axes
    if len(pads) != axes or not all(np.shape(pair) == (2,) and all(map(is_integer, pair)) for pair in pads):
        raise ValueError(
            f'padding must be "SAME", "VALID", an integer, or a pair (before, after) for each of {axes} '
            f"spatial axes, not {padding!r}"
        )
    check_range("padding", min(n for pair in pads for n in pair), at_least=0)
    return tuple((int(lo), int(hi)) for lo, hi in pads)


def shifted(x: Array, window: Window, fill: float = 0.0) -> list[Array]:
    """For each pixel of the window, the image batch (N, …, C) that this pixel sees as it slides."""
    x = lax.pad(x, jnp.asarray(fill, x.dtype), ((0, 0, 0), *((*p, 0) for p in window.padding), (0, 0, 0)))
    reach = [n - k + 1 for n, k in zip(x.shape[1:-1], window.extent, strict=True)]
    return [
        lax.slice(
            x,
            (0, *start, 0),
            (x.shape[0], *(i + n for i, n in zip(start, reach, strict=True)), x.shape[-1]),
            (1, *window.stride, 1),
        )
        for start in window.offsets
    ]


def windows(x: Array, window: Window) -> Array:
    """(N, …, pixels·C) all that the window sees in each of its places: the shifted images side by side."""
    return jnp.concatenate(shifted(x, window), axis=-1)


def _product(numbers: tuple[int, ...]) -> str:
    return "×".join(map(str, numbers))
