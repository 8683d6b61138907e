"""Work on a few images at a time, so that what is made of them stays in the cache of a core."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import Array
from fnn.ops._window import Window


class Form(NamedTuple):
    """A way to write the convolution of a few images, with its gradients.

    Attributes:
        product: (x, kernel, window) → y.
        input_gradient, kernel_gradient: (x, dy, kernel, window) → that of x, that of the kernel; apart,
            because a first layer asks for the second alone.
        image_numbers: (x, kernel, window) → how many numbers the product writes out for one image.
        block_bytes: how much of that at a time; measured.
    """

    product: Callable[[Array, Array, Window], Array]
    input_gradient: Callable[[Array, Array, Array, Window], Array]
    kernel_gradient: Callable[[Array, Array, Array, Window], Array]
    image_numbers: Callable[[Array, Array, Window], int]
    block_bytes: int

    def images(self, x: Array, kernel: Array, window: Window) -> int:
        """How many images to take at a time."""
        numbers = self.image_numbers(x, kernel, window)
        return block_size(x.shape[0], numbers * kernel.dtype.itemsize, self.block_bytes)


@partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def convolve(form: Form, x: Array, kernel: Array, window: Window) -> Array:
    """See `fnn.ops.conv`."""
    return in_blocks(lambda x: form.product(x, kernel, window), form.images(x, kernel, window), x)


def _forward(form: Form, x: Array, kernel: Array, window: Window) -> tuple[Array, tuple[Array, Array]]:
    return convolve(form, x, kernel, window), (x, kernel)


def _backward(form: Form, window: Window, inputs: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = inputs

    def for_input(x: Array, dy: Array) -> Array:
        return form.input_gradient(x, dy, kernel, window)

    def for_kernel(x: Array, dy: Array) -> Array:
        return form.kernel_gradient(x, dy, kernel, window)[None]

    size = form.images(x, kernel, window)
    return in_blocks(for_input, size, x, dy), in_blocks(for_kernel, size, x, dy).sum(0)


convolve.defvjp(_forward, _backward)


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
    most = min(max(1, block_bytes // image_bytes), images)
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
