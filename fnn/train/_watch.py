"""What is measured of a run while it trains, inside the compiled chunk."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnn._tree import paths
from fnn._types import Array, Params
from fnn.data._dataset import has_classes
from fnn.optim import global_norm

_PAIRED = 256  # examples of a batch whose classes are compared, at most


class Watched(NamedTuple):
    """What a watched step measures of itself.

    Attributes:
        grad_norm: (), the norm of the whole gradient.
        update_ratio: for each learning array its path and ‖Δw‖ / ‖w‖, w from before the step, which is
            what the notes' "initial weights" are. About 1e-3 is usual. NaN where w is 0, as biases are at
            the start.
        batch_purity: (), how often two examples of the batch share a class: 0.1 where ten classes are evenly
            drawn, 1 where it holds one class. NaN without classes.
    """

    grad_norm: Array
    update_ratio: dict[str, Array]
    batch_purity: Array


def watch(params: Params, grads: Params, updates: Params, y: Array, mask: Array) -> Watched:
    """Measure a step."""
    ratios = {}
    for (path, update), (_, w) in zip(paths(updates), paths(params), strict=True):
        size = global_norm(w)
        ratios[path] = global_norm(update) / jnp.where(size > 0, size, jnp.nan)
    return Watched(global_norm(grads), ratios, _purity(y, mask))


def _purity(y: Array, mask: Array) -> Array:
    """Pairs of different examples of one class, over all such pairs."""
    if not has_classes(y):
        return jnp.asarray(jnp.nan)
    y, mask = y[:_PAIRED], mask[:_PAIRED]
    same = (y[:, None] == y[None]) & mask[:, None] & mask[None]
    count = mask.sum()
    return (same.sum() - count) / jnp.maximum(count * (count - 1), 1).astype(jnp.float32)
