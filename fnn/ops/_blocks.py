"""Work on a few images at a time, so that what is made of them stays in the cache of a core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import Array


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
