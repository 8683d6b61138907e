"""Activation functions: plain functions of one array, each a layer wherever one is wanted."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnn._types import Array


def relu(x: Array, /) -> Array:
    """The rectified linear unit, max(0, x).

    Does not saturate for x > 0 and is cheap; its output is not zero-centred, and a unit whose input is
    negative for every example gets no gradient ("dead"). The gradient at 0 is 0.
    """
    return jax.nn.relu(x)


def tanh(x: Array, /) -> Array:
    """The hyperbolic tangent, (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ): zero-centred, and saturates at ±1."""
    return jnp.tanh(x)


def sigmoid(x: Array, /) -> Array:
    """The logistic function, 1 / (1 + e⁻ˣ): saturates at 0 and 1, its gradient is at most ¼."""
    return jax.nn.sigmoid(x)


def softmax(x: Array, /) -> Array:
    """Scores to probabilities, e^{xⱼ} / Σₖ e^{xₖ} over the last axis; stable for large scores.

    `softmax_cross_entropy` takes scores: a network that ends in softmax applies it twice.
    """
    return jax.nn.softmax(x)


def log_softmax(x: Array, /) -> Array:
    """The logarithm of `softmax`, xⱼ − ln Σₖ e^{xₖ}, without leaving the logarithm."""
    return jax.nn.log_softmax(x)
