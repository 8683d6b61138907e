"""Projections: constraints on the weights that hold after every step.

Each comes last in a chain. It looks at where the update would lead, x + u, and corrects the update:

    u ← project(x + u) - x
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, Params, check_range
from fnn.optim.transforms import (
    Optimizer,
    Updates,
    first_count,
    matching_init,
    root,
    transition,
    update_matching,
)


class ProjectionState(NamedTuple):
    """The state of `max_norm` and `proximal_l1`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken


def projection_init(params: Params) -> ProjectionState:
    """The state before the first step of `max_norm` or `proximal_l1`."""
    return ProjectionState(count=first_count())


# --- max-norm -------------------------------------------------------------------------------------------


def max_norm(limit: Hyperparameter = 3.0, pattern: str = "*kernel") -> Optimizer:
    """Bound the norm of the weights of each output unit, after each step.

        w ← w · min(1, c / ‖w‖)    for the weights w of one unit over all its inputs

    Args:
        limit: c, above 0; 3 or 4 is typical.
        pattern: shell pattern on the path of what is bounded; `*` also crosses `/`. The last axis of a kernel
            is its units, and the norm is over all others; biases do not count. A unit of
            `locally_connected` counts once for all its places, though each has weights of its own.

    Returns:
        An optimizer that comes last in a chain: `chain(sgd(0.1), max_norm(3.0))`.

    Raises:
        ValueError: if `limit` is a number that is not above 0; at init, if the pattern matches no parameter.

    Keras's MaxNorm is on one layer and by default over its first axis alone, which for a convolution is not
    all inputs; it divides by ‖w‖ + 1e-7. Optax and PyTorch have none (torch.renorm is a function of one
    tensor).

    Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    section 5.1.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import apply_updates, chain, max_norm, sgd
        >>> params = {"kernel": jnp.array([[6.0, 0.3], [8.0, 0.4]])}
        >>> optimizer = chain(sgd(0.0), max_norm(5.0))
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> print(apply_updates(params, updates)["kernel"])
        [[3.  0.3]
         [4.  0.4]]
    """
    check_range("limit", limit, above=0)

    return transition(
        matching_init(projection_init, pattern),
        partial(max_norm_update, pattern=pattern),
        needs_params="max_norm",
        limit=limit,
    )


def max_norm_update(
    updates: Updates,
    state: ProjectionState,
    params: Params,
    /,
    *,
    limit: float | Array,
    pattern: str = "*kernel",
) -> tuple[Updates, ProjectionState]:
    """One step of `max_norm`, with its hyperparameter given as a number."""

    def rule(update: Array, x: Array) -> Array:
        w = x + update
        norm = root(jnp.sum(w**2, axis=range(w.ndim - 1), keepdims=True))
        return w * (1 / jnp.maximum(norm / limit, 1)) - x

    return update_matching(rule, updates, params, pattern), ProjectionState(state.count + 1)


# --- L1 -------------------------------------------------------------------------------------------------


def proximal_l1(threshold: Hyperparameter, pattern: str = "*kernel") -> Optimizer:
    """The L1 penalty by its proximal step, which sets small weights to exactly 0.

        w ← sign(w) · max(|w| - τ, 0),    τ = α λ

    Args:
        threshold: τ, at least 0: the learning rate times the strength of the penalty λ Σ |w|. Where the
            learning rate follows a schedule, this should too.
        pattern: shell pattern on the path of what is penalised; `*` also crosses `/`.

    Returns:
        An optimizer that comes last in a chain: `chain(sgd(0.1), proximal_l1(0.1 * 1e-3))`.

    Raises:
        ValueError: if `threshold` is a number below 0; at init, if the pattern matches no parameter.

    After SGD this is the proximal gradient method (ISTA), which minimises the loss plus λ Σ |w|. The gradient
    of `l1` pulls by the same α λ but overshoots 0, so its weights hover near 0 and few are 0. After an
    optimizer that scales each parameter, such as Adam, τ still is one threshold for all.

    Source: Daubechies, Defrise and De Mol 2004, "An iterative thresholding algorithm for linear inverse
    problems with a sparsity constraint"; Parikh and Boyd 2014, "Proximal Algorithms".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import apply_updates, chain, proximal_l1, sgd
        >>> params = {"kernel": jnp.array([0.75, -0.25, -2.0])}
        >>> optimizer = chain(sgd(0.0), proximal_l1(0.5))
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> apply_updates(params, updates)["kernel"].tolist()
        [0.25, 0.0, -1.5]
    """
    check_range("threshold", threshold, at_least=0)

    return transition(
        matching_init(projection_init, pattern),
        partial(proximal_l1_update, pattern=pattern),
        needs_params="proximal_l1",
        threshold=threshold,
    )


def proximal_l1_update(
    updates: Updates,
    state: ProjectionState,
    params: Params,
    /,
    *,
    threshold: float | Array,
    pattern: str = "*kernel",
) -> tuple[Updates, ProjectionState]:
    """One step of `proximal_l1`, with its hyperparameter given as a number."""

    def rule(update: Array, x: Array) -> Array:
        w = x + update
        return jnp.sign(w) * jnp.maximum(jnp.abs(w) - threshold, 0) - x

    return update_matching(rule, updates, params, pattern), ProjectionState(state.count + 1)
