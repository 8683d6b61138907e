"""What is measured of a run while it trains, inside the compiled chunk."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn._tree import paths
from fnn._types import Array, Params
from fnn.optim import global_norm


class Watched(NamedTuple):
    """What every k-th step measures of itself; NaN at the others.

    Attributes:
        grad_norm: (), the norm of the whole gradient.
        update_ratio: for each learning array its path and ‖Δw‖ / ‖w‖, w from before the step. About 1e-3 is
            usual. NaN where w is 0, as biases are at the start.
        batch_purity: (), how often two examples of the batch share a class: 0.1 where ten classes are evenly
            drawn, 1 where it holds one class. NaN without classes.
    """

    grad_norm: Array
    update_ratio: dict[str, Array]
    batch_purity: Array


def watch(
    step: Array, every: int, params: Params, grads: Params, updates: Params, y: Array, mask: Array
) -> Watched:
    """Measure a step if its number is a multiple of `every`, which costs little: the rest is skipped."""

    def measured(_: Any) -> Watched:
        ratios = {
            path: global_norm(update) / _or_nan(global_norm(w))
            for (path, update), (_, w) in zip(paths(updates), paths(params), strict=True)
        }
        return Watched(global_norm(grads), ratios, _purity(y, mask))

    def nothing(_: Any) -> Watched:
        return jax.tree.map(
            lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), jax.eval_shape(measured, None)
        )

    return lax.cond(step % every == 0, measured, nothing, None)


def _or_nan(norm: Array) -> Array:
    return jnp.where(norm > 0, norm, jnp.nan)


def _purity(y: Array, mask: Array) -> Array:
    """Pairs of different examples of one class, over all such pairs."""
    if y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.integer):
        return jnp.asarray(jnp.nan)
    same = (y[:, None] == y[None]) & mask[:, None] & mask[None]
    count = mask.sum()
    return (same.sum() - count) / jnp.maximum(count * (count - 1), 1).astype(jnp.float32)
