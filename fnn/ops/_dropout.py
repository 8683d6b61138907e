"""Dropout of array elements."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, Key, check_range


def dropout(key: Key, x: Array, /, rate: Hyperparameter) -> Array:
    """Set each element to zero with probability `rate` and scale the others by 1 / (1 − rate).

    This is inverted dropout: the expected value stays, so nothing is scaled at test time. `rate` is the
    fraction dropped, as in every current framework; the notes' p is the fraction kept.

    Args:
        key: decides which elements are dropped.
        x: any shape.
        rate: 0 ≤ rate < 1, a number or a traced scalar.

    Source: Srivastava et al. (2014), "Dropout".
    """
    check_range("dropout rate", rate, at_least=0, below=1)
    keep = 1.0 - jnp.asarray(rate, jnp.promote_types(x.dtype, jnp.float32))
    kept = jax.random.bernoulli(key, keep, x.shape)
    return jnp.where(kept, (x / keep).astype(x.dtype), jnp.zeros_like(x))
