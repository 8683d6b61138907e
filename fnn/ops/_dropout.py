"""Dropout of array elements, of whole feature maps, and for self-normalizing networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, Key, Shape, as_float, check_key, check_range


def dropout(key: Key, x: Array, /, rate: Hyperparameter, *, inverted: bool = True) -> Array:
    """Set each element to zero with probability `rate` and scale the others by 1 / (1 − rate).

    This is inverted dropout: the expected value stays, so nothing is scaled at test time. `rate` is the
    fraction dropped, as in every current framework; the notes' p is the fraction kept.

    Args:
        key: decides which elements are dropped.
        x: any shape.
        rate: 0 ≤ rate < 1, a number or a traced scalar.
        inverted: whether the others are scaled; if not, scale by 1 − rate at test time.

    Returns:
        The shape and dtype of `x`; float32 where that is an integer.

    Source: Srivastava et al. (2014), "Dropout".
    """
    return _dropped(key, x, rate, x.shape, inverted)


def spatial_dropout(key: Key, x: Array, /, rate: Hyperparameter) -> Array:
    """Set each feature map to zero with probability `rate` and scale the others by 1 / (1 − rate).

    Neighbouring pixels of a feature map say nearly the same, so dropping some of them takes little away.

    Args:
        key: decides which feature maps of which examples are dropped.
        x: (N, …, C) with at least one spatial axis.
        rate: 0 ≤ rate < 1, a number or a traced scalar.

    Returns:
        The shape and dtype of `x`; float32 where that is an integer.

    Raises:
        ValueError: an input without a spatial axis.

    Source: Tompson et al. (2015), "Efficient Object Localization Using Convolutional Networks".
    """
    if x.ndim < 3:
        raise ValueError(
            f"spatial dropout takes feature maps (batch, …, channels), got an input of shape {x.shape}; "
            "use dropout for vectors"
        )
    maps = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return _dropped(key, x, rate, maps, inverted=True)


_SATURATED = -1.7580993408473766  # −λα, what selu tends to


def alpha_dropout(key: Key, x: Array, /, rate: Hyperparameter) -> Array:
    """Set each element to α' = −λα with probability `rate`, then restore mean 0 and variance 1.

        y = a · (x where kept, α' where dropped) + b
        a = (q + α'² q (1 − q))^−½,   b = −a (1 − q) α',   q = 1 − rate

    λ and α are the constants of `selu`, which tends to α' for a very negative input. Of elements with mean
    0 and variance 1 the result has mean 0 and variance 1; plain dropout would raise the variance to 1 / q.

    Args:
        key: decides which elements are dropped.
        x: any shape.
        rate: 0 ≤ rate < 1, a number or a traced scalar.

    Returns:
        The shape and dtype of `x`; float32 where that is an integer.

    Source: Klambauer et al. (2017), "Self-Normalizing Neural Networks", section 3.
    """
    check_key(key)
    x, keep = as_float(x), _keep(x, rate)
    kept = jax.random.bernoulli(key, keep, x.shape)
    a = (keep + _SATURATED**2 * keep * (1 - keep)) ** -0.5
    b = -a * (1 - keep) * _SATURATED
    return (a * jnp.where(kept, x.astype(keep.dtype), _SATURATED) + b).astype(x.dtype)


def _dropped(key: Key, x: Array, rate: Hyperparameter, shape: Shape, inverted: bool) -> Array:
    """One decision for each element of `shape`, which broadcasts to that of x."""
    check_key(key)
    x, keep = as_float(x), _keep(x, rate)
    kept = jax.random.bernoulli(key, keep, shape)
    # Times 1 / keep: a division is put behind a branch, mispredicted at random: ten times slower on CPU.
    return jnp.where(kept, (x * (1 / keep)).astype(x.dtype) if inverted else x, jnp.zeros_like(x))


def _keep(x: Array, rate: Hyperparameter) -> Array:
    """The fraction kept, in float32 at least: bfloat16 knows no 0.999."""
    check_range("dropout rate", rate, at_least=0, below=1)
    return 1.0 - jnp.asarray(rate, jnp.promote_types(x.dtype, jnp.float32))
