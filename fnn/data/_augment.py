"""Augmentation: random changes of a batch of images that leave their classes as they are.

Each is a function `(key, x) -> x` of images (N, H, W, C), floats in [0, 1] as `to_float` gives; each example
draws its own numbers from the one key. Strengths are values that may be traced, and at strength 0 the images
come back as they were, bit for bit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import (
    Array,
    Hyperparameter,
    Key,
    Shape,
    at_least_float32,
    check_number,
    check_range,
    known_number,
)


def random_flip(key: Key, x: Array, /) -> Array:
    """Mirror each image left to right with probability 1/2.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of any dtype, which the result keeps.

    Raises:
        ValueError: x has another number of axes.
    """
    check_images("random_flip", x)
    return jnp.where(jax.random.bernoulli(key, 0.5, (len(x), 1, 1, 1)), x[:, :, ::-1], x)


def random_vertical_flip(key: Key, x: Array, /) -> Array:
    """Turn each image upside down, top row to the bottom, with probability 1/2.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of any dtype, which the result keeps.

    Raises:
        ValueError: x has another number of axes.
    """
    check_images("random_vertical_flip", x)
    return jnp.where(jax.random.bernoulli(key, 0.5, (len(x), 1, 1, 1)), x[:, ::-1], x)


class Visit(NamedTuple):
    """Which training examples a batch holds, and how often each has been seen before.

    Attributes:
        example: (N,) integers, the numbers of the examples.
        epoch: (), how many times each was shown before.
    """

    example: Array
    epoch: Array


def alternating_flip(key: Key, x: Array, visit: Visit, /) -> Array:
    """Mirror each image left to right in every second epoch: half of the examples in even, half in odd ones.

        example i is mirrored in epoch e  ⇔  bitᵢ + e is odd

    bitᵢ is a fair pseudo-random bit that the number i alone decides, in every run alike. So any two
    successive epochs show both orientations of every image, where `random_flip` repeats one in half of the
    cases.

    Args:
        key: Not used, since it changes with every step; augmentations are given one.
        x: Images, (N, H, W, C), of any dtype, which the result keeps.
        visit: The number of each image among the training examples, and the epoch.

    Raises:
        ValueError: x has another number of axes, or visit names another number of examples.

    Source: K. Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU (2024).
    """
    check_images("alternating_flip", x)
    if visit.example.shape != x.shape[:1]:
        raise ValueError(
            f"alternating_flip takes the number of each of {len(x)} images, (N,), not visit.example of shape "
            f"{visit.example.shape}"
        )
    # Always Threefry, whatever generator the run uses: only there does vmap draw from each key by itself.
    fixed = jax.random.key(0, impl="threefry2x32")
    bits = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(fixed, i)) & 1)(visit.example)
    odd = (bits.astype(jnp.int32) + visit.epoch) % 2 == 1
    return jnp.where(odd[:, None, None, None], x[:, :, ::-1], x)


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
        TypeError: padding is not an integer.

    Source: K. He, X. Zhang, S. Ren and J. Sun, Deep residual learning for image recognition (2016), §4.2.
    """
    check_images("random_crop", x)
    check_number("random_crop's padding", padding, at_least=0, integer=True)
    return _random_window(key, x, padding, "constant")


def random_roll(key: Key, x: Array, /, *, shift: int = 4) -> Array:
    """Roll each image cyclically: what leaves on one side comes back on the other (the notes' "rollovering").

    By -shift..shift whole pixels along each axis, every one equally likely.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of any dtype, which the result keeps.
        shift: Pixels, the largest roll along each axis; 0 changes nothing.

    Raises:
        ValueError: x has another number of axes, or shift is negative.
        TypeError: shift is not an integer.
    """
    check_images("random_roll", x)
    check_number("random_roll's shift", shift, at_least=0, integer=True)
    return _random_window(key, x, shift, "wrap")


def _random_window(key: Key, x: Array, border: int, mode: str) -> Array:
    """A window of the original size at a random place of the image with a border around it."""
    padded = jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode=mode)
    tops, lefts = jax.random.randint(key, (2, len(x)), 0, 2 * border + 1)
    # Measured on CPU inside a scan: one-hot products take three times as long or more.
    return jax.vmap(lambda image, top, left: lax.dynamic_slice(image, (top, left, 0), x.shape[1:]))(
        padded, tops, lefts
    )


def random_brightness(key: Key, x: Array, /, *, delta: Hyperparameter = 0.2) -> Array:
    """Add a number of its own to all pixels of each image.

        y = x + d,    d ~ U(-delta, delta)

    Nothing is clipped, so the values may leave [0, 1]. PyTorch's ColorJitter multiplies instead of adding,
    and clips; Keras adds and clips; TensorFlow adds one number to the whole batch.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of a floating dtype, which the result keeps.
        delta: At least 0, in units of x: 1 is the way from black to white. 0 changes nothing.

    Raises:
        ValueError: x has another number of axes, or delta is a number below 0 or infinite.
        TypeError: x is not of a floating dtype, or delta is a schedule.
    """
    check_images("random_brightness", x)
    wide = widened("random_brightness", x)
    delta = strength("random_brightness's delta", delta, at_least=0)
    return (wide + delta * uniform(key, wide, (1, 1, 1))).astype(x.dtype)


def random_contrast(key: Key, x: Array, /, *, delta: Hyperparameter = 0.2) -> Array:
    """Scale the deviations of each image from its mean.

        y = m + f · (x - m),    f ~ U(1 - delta, 1 + delta)

    m is one number for each image, over its pixels and channels, and f another. Nothing is clipped, so the
    values may leave [0, 1]. PyTorch's ColorJitter takes the mean of the image in grey, TensorFlow and Keras
    that of each channel; PyTorch and Keras clip.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of a floating dtype, which the result keeps.
        delta: 0 ≤ delta ≤ 1; 0 changes nothing.

    Raises:
        ValueError: x has another number of axes, or delta is a number outside its range.
        TypeError: x is not of a floating dtype, or delta is a schedule.
    """
    check_images("random_contrast", x)
    wide = widened("random_contrast", x)
    delta = strength("random_contrast's delta", delta, at_least=0, at_most=1)
    deviation = wide - wide.mean((1, 2, 3), keepdims=True)
    # x + (f - 1) · deviation, and not m + f · deviation, which rounds even where f is 1.
    return (wide + delta * uniform(key, wide, (1, 1, 1)) * deviation).astype(x.dtype)


def cutout(key: Key, x: Array, /, *, size: Hyperparameter = 8.0) -> Array:
    """Set a square of each image to zero, centred anywhere in the image and clipped at its borders.

    Zero is black before images are standardized; the authors standardize first, so that their squares have
    the mean colour.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of any dtype, which the result keeps.
        size: Side of the square in pixels, at least 0. A fraction is met on average: a side of 2.5 covers 2
            or 3 pixels. 0 changes nothing.

    Raises:
        ValueError: x has another number of axes, or size is a number below 0 or infinite.
        TypeError: size is a schedule.

    Source: T. DeVries and G. W. Taylor, Improved regularization of convolutional neural networks with cutout
    (2017).
    """
    check_images("cutout", x)
    size = strength("cutout's size", size, at_least=0)

    def inside(key: Key, pixels: int) -> Array:
        """Which pixel centres along one axis lie within ±size/2 of a place on it, (N, pixels)."""
        centre = jax.random.uniform(key, (len(x), 1), jnp.float32, -0.5, pixels - 0.5)
        distance = jnp.arange(pixels, dtype=jnp.float32)[None] - (centre - size / 2)
        return (distance >= 0) & (distance < size)

    row_key, column_key = jax.random.split(key)
    rows, columns = inside(row_key, x.shape[1]), inside(column_key, x.shape[2])
    square = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(square, jnp.zeros((), x.dtype), x)


def check_images(name: str, x: Array) -> None:
    """Raise ValueError unless x has the four axes of a batch of images."""
    if x.ndim != 4:
        raise ValueError(
            f"{name} takes images, (N, height, width, channels), not an array of shape {x.shape}"
        )


def widened(name: str, x: Array) -> Array:
    """The same values in float32, or in their own floating dtype where that is wider.

    Raises:
        TypeError: x is not of a floating dtype.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} takes floats, such as fnn.to_float makes of bytes, not {x.dtype}")
    return at_least_float32(x)


def strength(name: str, value: Hyperparameter, **limits: Any) -> float | Array:
    """The number that a hyperparameter is, finite and within its limits where it is known."""
    check_range(name, value, **limits)
    return known_number(name, value, below=math.inf)


def uniform(key: Key, x: Array, shape: Shape) -> Array:
    """A number in [-1, 1) of the dtype of x for each example, of shape (N, *shape)."""
    return jax.random.uniform(key, (len(x), *shape), x.dtype, -1, 1)
