"""Augmentation: random changes of a batch of images that leave their classes as they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import Array, Key


def random_flip(key: Key, x: Array, /) -> Array:
    """Mirror each image left to right with probability 1/2.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of any dtype, which the result keeps.

    Raises:
        ValueError: x has another number of axes.
    """
    _check_images("random_flip", x)
    flipped = jax.random.bernoulli(key, 0.5, (len(x), 1, 1, 1))
    return jnp.where(flipped, x[:, :, ::-1], x)


def random_crop(key: Key, x: Array, /, *, padding: int = 4) -> Array:
    """Surround each image with `padding` zeros and cut a window of the original size at a random place.

    That is a shift by -padding..padding pixels along each axis, every one equally likely. Zero is black
    before images are standardized, so crop first.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of any dtype, which the result keeps.
        padding: Pixels on each side; 0 changes nothing.

    Raises:
        ValueError: x has another number of axes, or padding is negative.

    Source: K. He, X. Zhang, S. Ren and J. Sun, Deep residual learning for image recognition (2016), §4.2.
    """
    _check_images("random_crop", x)
    if padding < 0:
        raise ValueError(f"random_crop's padding must be at least 0, not {padding}")
    count, *size = x.shape
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    tops, lefts = jax.random.randint(key, (2, count), 0, 2 * padding + 1)
    # Measured on CPU inside a scan: one-hot products take three times as long or more.
    return jax.vmap(lambda image, top, left: lax.dynamic_slice(image, (top, left, 0), size))(
        padded, tops, lefts
    )


def _check_images(name: str, x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(
            f"{name} takes images, (N, height, width, channels), not an array of shape {x.shape}"
        )
