"""Augmentation that reads images between their pixels: rotation, shift and resized crop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import Array, Hyperparameter, Key
from fnn.data._augment import check_images, strength, uniform, widened


def random_rotation(key: Key, x: Array, /, *, degrees: Hyperparameter = 15.0) -> Array:
    """Turn each image about its centre by a ~ U(-degrees, degrees), with zeros where it has no pixels.

    Bilinear interpolation. PyTorch's RandomRotation takes the nearest pixel unless told otherwise; Keras's
    takes fractions of a full turn and reflects the image at its borders.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of a floating dtype, which the result keeps.
        degrees: The largest angle, at least 0; 180 gives every angle. 0 changes nothing.

    Raises:
        ValueError: x has another number of axes, or degrees is a number below 0 or infinite.
        TypeError: x is not of a floating dtype, or degrees is a schedule.
    """
    check_images("random_rotation", x)
    wide = widened("random_rotation", x)
    degrees = strength("random_rotation's degrees", degrees, at_least=0)
    angle = jnp.deg2rad(degrees * uniform(key, wide, ()))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrix = jnp.stack([jnp.stack([cos, -sin], 1), jnp.stack([sin, cos], 1)], 1)
    return bilinear(wide, affine_places(wide, matrix, jnp.zeros_like(matrix[:1, 0]))).astype(x.dtype)


def random_shift(key: Key, x: Array, /, *, pixels: Hyperparameter = 2.0) -> Array:
    """Shift each image along both axes by two numbers of U(-pixels, pixels), with zeros from outside.

    Not by whole pixels, as `random_crop` does, but with bilinear interpolation, which blurs a little; so
    `pixels` can be searched like any other strength.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of a floating dtype, which the result keeps.
        pixels: The largest shift, at least 0. 0 changes nothing.

    Raises:
        ValueError: x has another number of axes, or pixels is a number below 0 or infinite.
        TypeError: x is not of a floating dtype, or pixels is a schedule.
    """
    check_images("random_shift", x)
    wide = widened("random_shift", x)
    pixels = strength("random_shift's pixels", pixels, at_least=0)
    unturned = jnp.eye(2, dtype=wide.dtype)[None]
    return bilinear(wide, affine_places(wide, unturned, pixels * uniform(key, wide, (2,)))).astype(x.dtype)


def random_resized_crop(
    key: Key, x: Array, /, *, scale: Hyperparameter = 0.6, ratio: Hyperparameter = 4 / 3
) -> Array:
    """Cut a window of random area and aspect from a random place and stretch it to the size of the image.

        height = H √(A / r),   width = W √(A r),   A ~ U(scale, 1),   log r ~ U(-log ratio, log ratio)

    A side that comes out longer than the image's is cut to it. Windows begin between pixels too, and are
    read with bilinear interpolation. PyTorch's RandomResizedCrop goes down to a share of 0.08, draws again
    where a window does not fit, takes whole pixels, and measures the aspect of the window itself, which is
    r for square images only.

    Args:
        key: Random key, one for the batch.
        x: Images, (N, H, W, C), of a floating dtype, which the result keeps.
        scale: The smallest share of the area, 0 < scale ≤ 1; the largest is 1.
        ratio: The largest stretch of width against height or of height against width, at least 1. With
            scale = 1 and ratio = 1 nothing changes.

    Raises:
        ValueError: x has another number of axes, or scale or ratio is a number outside its range.
        TypeError: x is not of a floating dtype, or scale or ratio is a schedule.

    Source: C. Szegedy et al., Going deeper with convolutions (2015), §6, with areas from 0.08 and aspects
    from 3/4 to 4/3.
    """
    check_images("random_resized_crop", x)
    wide = widened("random_resized_crop", x)
    scale = strength("random_resized_crop's scale", scale, above=0, at_most=1)
    ratio = strength("random_resized_crop's ratio", ratio, at_least=1)
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    area = (1 + scale) / 2 + (1 - scale) / 2 * uniform(area_key, wide, (1,))
    aspect = ratio ** uniform(aspect_key, wide, (1,))
    shares = jnp.minimum(jnp.sqrt(area * jnp.concatenate([1 / aspect, aspect], 1)), 1)
    size = jnp.array(x.shape[1:3], wide.dtype)[None]
    offset = (1 - shares) * size / 2 * uniform(place_key, wide, (2,))
    places = affine_places(wide, shares[:, :, None] * jnp.eye(2, dtype=wide.dtype)[None], offset)
    # Between its border and the centre of its outermost pixels an image is as those are, not fading to zero.
    return bilinear(wide, jnp.clip(places, 0, size[:, :, None, None] - 1)).astype(x.dtype)


def affine_places(x: Array, matrix: Array, offset: Array) -> Array:
    """Where in its image each pixel of the result is read: matrix · (p - c) + offset + c, c the centre.

    Args:
        x: Images, (N, H, W, C).
        matrix: (N or 1, 2, 2), on (row, column).
        offset: (N or 1, 2) pixels.

    Returns:
        (N or 1, 2, H, W), the row and the column.
    """
    centre = (jnp.array(x.shape[1:3], x.dtype) - 1) / 2
    pixels = jnp.stack(jnp.meshgrid(*map(jnp.arange, x.shape[1:3]), indexing="ij")).astype(x.dtype)
    turned = jnp.einsum("nab,bhw->nahw", matrix, pixels - centre[:, None, None], precision="highest")
    return turned + (offset + centre[None])[:, :, None, None]


def bilinear(x: Array, places: Array) -> Array:
    """The images between their pixels, linear along each axis; outside are zeros.

    Args:
        x: Images, (N, H, W, C).
        places: (N, 2, H, W), the row and the column of each reading.
    """
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def neighbours(place: Array, pixels: int) -> tuple[Array, Array]:
        """The last padded pixel before a place, and how far on to the next the place is."""
        before = jnp.clip(jnp.floor(place), -1, pixels - 1)
        return before.astype(int) + 1, (jnp.clip(place, -1, pixels) - before)[..., None]

    top, down = neighbours(places[:, 0], x.shape[1])
    left, right = neighbours(places[:, 1], x.shape[2])

    def square(image: Array, top: Array, left: Array) -> Array:
        return lax.dynamic_slice(image, (top, left, 0), (2, 2, x.shape[3]))

    # Measured on CPU inside a scan: four gathers of single pixels take up to twice as long.
    squares = jax.vmap(jax.vmap(jax.vmap(square, (None, 0, 0)), (None, 0, 0)))(padded, top, left)
    rows = squares[..., 0, :] * (1 - right[..., None]) + squares[..., 1, :] * right[..., None]
    return rows[..., 0, :] * (1 - down) + rows[..., 1, :] * down
