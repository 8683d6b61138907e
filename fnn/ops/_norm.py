"""Batch normalisation: moments of a batch, and the normalisation itself."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax

from fnn._types import Array


def per_channel(values: Array, ndim: int) -> Array:
    """Reshape (C,) to (1, …, 1, C), so that it broadcasts over everything but channels."""
    return values.reshape((1,) * (ndim - 1) + (-1,))


def batch_moments(x: Array, mask: Array | None = None, /) -> tuple[Array, Array, Array]:
    """Mean and variance of each channel over the examples and, for images, over all positions.

        mean = Σ x / m,   var = Σ (x − mean)² / m

    m counts the values of one channel: |Ω| examples of the batch (not the n of the whole training set, as
    the notes write it) times the positions. The variance is the biased one that normalises a batch.

    Sums are taken relative to the first value of each channel and the variance in a second pass, so a
    large mean costs no precision: E[x²] − E[x]² in float32 is wrong from a mean of about 10³ deviations.

    Args:
        x: (N, …, C), at least two axes.
        mask: (N,) of booleans, which examples count; all by default.

    Returns:
        mean (C,), var (C,) and the scalar m, in float32 at least.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    pivot = lax.stop_gradient(x[(slice(0, 1),) * (x.ndim - 1)])
    offset = x - pivot
    positions = math.prod(x.shape[1:-1])
    if mask is None:
        weight, count = None, jnp.asarray(x.shape[0] * positions, x.dtype)
    else:
        weight = mask.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
        count = jnp.sum(weight) * positions

    def mean(values: Array) -> Array:
        total = jnp.sum(values if weight is None else values * weight, axis=axes, keepdims=True)
        return total / count

    shift = mean(offset)
    variance = mean(jnp.square(offset - shift))
    return (pivot + shift).reshape(-1), variance.reshape(-1), count


def batch_norm(
    x: Array, scale: Array, bias: Array, mean: Array, var: Array, /, *, eps: float = 1e-5
) -> Array:
    """Normalise each channel, then scale and shift it.

        y = scale · (x − mean) / √(var + eps) + bias

    Args:
        x: (N, …, C).
        scale, bias, mean, var: (C,).
        eps: keeps a constant channel finite; inside the root.

    Returns:
        The shape and dtype of `x`.

    Source: Ioffe and Szegedy (2015), "Batch Normalization", algorithm 1.
    """
    factor = scale * lax.rsqrt(var + eps)
    y = (x - per_channel(mean, x.ndim)) * per_channel(factor, x.ndim) + per_channel(bias, x.ndim)
    return y.astype(x.dtype)
