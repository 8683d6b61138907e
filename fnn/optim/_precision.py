"""Sums of many small terms need more digits than bfloat16 and float16 have."""

from __future__ import annotations

import jax.numpy as jnp

from fnn._types import Array


def at_least_float32(x: Array) -> Array:
    """The same values in float32, or in their own dtype where that is wider."""
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
