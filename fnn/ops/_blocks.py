"""Work on a few images at a time, so that what is made of them stays in the cache of a core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import Array
from fnn.ops._window import Window


def _as_it_is(kernel: Array) -> Array:
    return kernel


class Form(NamedTuple):
    """A way to write the convolution of a few images, and what it says about any number of them.

    Attributes:
        of_images: (x, kernel, window) → y, the kernel as `prepared` makes it.
        gradient_of_images: (x, dy, kernel, window) → the gradient of the prepared kernel.
        image_numbers: (x, kernel, window) → how many numbers the product writes out for one image.
        block_bytes: how much of that at a time; measured.
        prepared: linear, what is done to a kernel once for all images.
    """

    of_images: Callable[[Array, Array, Window], Array]
    gradient_of_images: Callable[[Array, Array, Array, Window], Array]
    image_numbers: Callable[[Array, Array, Window], int]
    block_bytes: int
    prepared: Callable[[Array], Array] = _as_it_is

    def product(self, x: Array, kernel: Array, window: Window) -> Array:
        """The convolution of all images."""
        prepared = self.prepared(kernel)
        return in_blocks(lambda x: self.of_images(x, prepared, window), self._images(x, kernel, window), x)

    def input_gradient(self, x: Array, dy: Array, kernel: Array, window: Window) -> Array:
        """What each output sends back, added where its pixels lie."""
        prepared = self.prepared(kernel)

        def of_images(x: Array, dy: Array) -> Array:
            return jax.vjp(lambda x: self.of_images(x, prepared, window), x)[1](dy)[0]

        return in_blocks(of_images, self._images(x, kernel, window), x, dy)

    def kernel_gradient(self, x: Array, dy: Array, kernel: Array, window: Window) -> Array:
        """The gradient of the kernel, added up over all images."""
        prepared, pullback = jax.vjp(self.prepared, kernel)

        def of_images(x: Array, dy: Array) -> Array:
            return self.gradient_of_images(x, dy, prepared, window)[None]

        return pullback(in_blocks(of_images, self._images(x, kernel, window), x, dy).sum(0))[0]

    def _images(self, x: Array, kernel: Array, window: Window) -> int:
        """How many to take at a time."""
        numbers = self.image_numbers(x, kernel, window)
        return block_size(x.shape[0], numbers * kernel.dtype.itemsize, self.block_bytes)


def as_rows(x: Array) -> Array:
    """The channels of each place as a row of a matrix."""
    return x.reshape(-1, x.shape[-1])


def summed_products(a: Array, b: Array) -> Array:
    """aᵀ b of two tall matrices. The narrower one goes first: the same product is faster so in XLA."""
    if b.shape[1] < a.shape[1]:
        return summed_products(b, a).T
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def block_size(images: int, image_bytes: int, block_bytes: int) -> int:
    """How many images to take at a time: a divisor of all, unless that is less than half of what fits."""
    most = min(max(1, block_bytes // max(1, image_bytes)), images)
    if most == images:
        return images
    divisor = next(size for size in range(most, 0, -1) if images % size == 0)
    return divisor if 2 * divisor > most else -(-images // -(-images // most))


def in_blocks(function: Callable[..., Any], size: int, *batches: Array) -> Any:
    """Apply a function to a few images at a time and join what it returns along the first axis."""
    n = batches[0].shape[0]
    if size == n:
        return function(*batches)
    blocks = -(-n // size)
    padding = blocks * size - n  # images of zeros, which add nothing

    def cut(batch: Array) -> Array:
        batch = jnp.pad(batch, ((0, padding), *((0, 0),) * (batch.ndim - 1))) if padding else batch
        return batch.reshape(blocks, size, *batch.shape[1:])

    def joined(result: Array) -> Array:
        result = result.reshape(-1, *result.shape[2:])
        return result[:n] if result.shape[0] == blocks * size else result

    return jax.tree.map(joined, lax.map(lambda block: function(*block), tuple(map(cut, batches))))
