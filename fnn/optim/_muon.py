"""Muon: an optimizer for matrices."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from fnn._tree import paths
from fnn._types import Array, Hyperparameter, Params, check_range
from fnn.optim.transforms import (
    Optimizer,
    Updates,
    first_count,
    global_norm,
    leafwise,
    ratio,
    transition,
    update_matching,
    zeros_like,
)


class MuonState(NamedTuple):
    """The state of `muon`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    first_moment: Params  # m, running mean of g, shapes of the parameters, float32 or wider


def muon(
    learning_rate: Hyperparameter,
    momentum: Hyperparameter = 0.95,
    weight_decay: Hyperparameter = 0.0,
    steps: int = 5,
) -> Optimizer:
    """Muon: Nesterov's momentum, made orthogonal, so that a kernel moves by as much in every direction.

        m_{t+1} = μ m_t + (1 - μ) g_t
        O       = orthogonalize(μ m_{t+1} + (1 - μ) g_t)
        x_{t+1} = x_t - α_t (√max(1, outputs / inputs) · O + λ x_t)

    where orthogonalize(U S Vᵀ) ≈ U Vᵀ brings all singular values near 1, by Newton and Schulz's iteration:

        X_0     = G / ‖G‖
        X_{k+1} = a X_k + b (X_k X_kᵀ) X_k + c (X_k X_kᵀ)² X_k,    (a, b, c) = (3.4445, -4.7750, 2.0315)

    Each iteration applies the polynomial a s + b s³ + c s⁵ to the singular values. Its coefficients do not
    converge to 1 but lift small values fast: after five, a value that was above 1/600 of the norm lies
    between 0.68 and 1.21.

    Args:
        learning_rate: α, at least 0; the size of a step in every direction, 0.02 is typical.
        momentum: μ, weight of the old mean, at least 0 and below 1.
        weight_decay: λ, at least 0, on every kernel.
        steps: Newton-Schulz iterations; at least 1.

    Returns:
        An optimizer for kernels, leaves of two axes or more. The last axis is the outputs, and all others
        together are the inputs, as in (height, width, channels, features). Others belong to another
        optimizer: `by_path(group("*kernel", muon(0.02)), default=adamw(1e-3))`.

    Raises:
        ValueError: if a number is out of its range; at init, if a leaf has fewer than two axes.
        TypeError: if `steps` is no integer.

    The factor √max(1, outputs / inputs) is that of the source and of PyTorch's default; others take
    0.2 √max(inputs, outputs), which gives steps of Adam's size. PyTorch's Muon is the same, on matrices only,
    with λ = 0.1 by default and the iteration in bfloat16; here it is in float32 or wider.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import muon
        >>> optimizer = muon(1.0)
        >>> params = {"kernel": jnp.array([[5.0, 0.0], [0.0, -0.5]])}
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> print(jnp.diag(updates["kernel"]).round(1))
        [-0.7  0.7]
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("momentum", momentum, at_least=0, below=1)
    check_range("weight_decay", weight_decay, at_least=0)
    check_range("steps", steps, at_least=1, integer=True)

    return transition(
        muon_init,
        partial(muon_update, steps=steps),
        needs_params="muon",
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
    )


def muon_init(params: Params) -> MuonState:
    """The state before the first step.

    Raises:
        ValueError: if a leaf has fewer than two axes.
    """
    for path, leaf in paths(params):
        if jnp.ndim(leaf) < 2:
            raise ValueError(
                f"muon takes kernels, of two axes or more; {path or 'the parameter'} has shape "
                f"{jnp.shape(leaf)}. Give it another optimizer: "
                'by_path(group("*kernel", muon(...)), default=adam(...))'
            )
    return MuonState(count=first_count(), first_moment=zeros_like(params))


def muon_update(
    grads: Updates,
    state: MuonState,
    params: Params,
    /,
    *,
    learning_rate: float | Array,
    momentum: float | Array,
    weight_decay: float | Array,
    steps: int = 5,
) -> tuple[Updates, MuonState]:
    """One step of `muon`, with its hyperparameters given as numbers."""

    def rule(g: Array, m: Array) -> tuple[Array, Array]:
        m = momentum * m + (1 - momentum) * g
        ahead = momentum * m + (1 - momentum) * g
        matrix = ahead.reshape(-1, ahead.shape[-1])
        inputs, outputs = matrix.shape
        direction = max(1, outputs / inputs) ** 0.5 * _orthogonalize(matrix, steps)
        return -learning_rate * direction.reshape(g.shape), m

    updates, first_moment = leafwise(rule, grads, state.first_moment)
    decay = learning_rate * weight_decay
    updates = update_matching(lambda update, x: update - decay * x, updates, params, "*")
    return updates, MuonState(state.count + 1, first_moment)


def _orthogonalize(matrix: Array, steps: int) -> Array:
    """Newton and Schulz's iteration; a matrix of zeros stays one."""
    x = ratio(matrix, global_norm(matrix))
    x = x.T if (tall := x.shape[0] > x.shape[1]) else x  # the smaller Gram matrix of the two
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x
