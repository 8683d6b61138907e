"""Augmentation that mixes the examples of a batch, and so their targets."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnn._shuffle import permutation
from fnn._types import Array, Hyperparameter, Key
from fnn.data._augment import strength, widened


class Mixed(NamedTuple):
    """A batch of mixed examples, and what their targets are mixed of.

    Attributes:
        x: (N, ...), the mixed inputs.
        partner: (N,) int32, the row of the batch that was mixed into each.
        weight: (N,) float32, the share of its own input and target; that of the partner's is 1 - weight.
    """

    x: Array
    partner: Array
    weight: Array


def mixup(key: Key, x: Array, /, *, alpha: Hyperparameter = 0.2) -> Mixed:
    """Mix each example with another of the batch.

        x̃ᵢ = λᵢ xᵢ + (1 - λᵢ) xⱼ,    λᵢ ~ Beta(alpha, alpha),    j = partnerᵢ, a random permutation

    The loss of a mixed example is λᵢ l(yᵢ, f(x̃ᵢ)) + (1 - λᵢ) l(yⱼ, f(x̃ᵢ)). For losses that are linear in the
    target, as cross-entropy is, that equals l of the mixed one-hot targets, λᵢ yᵢ + (1 - λᵢ) yⱼ. As in the
    paper each pair has its own λ; the authors' program draws one for the batch.

    Args:
        key: Random key, one for the batch.
        x: Inputs, (N, ...), of a floating dtype, which the result keeps. They need not be images.
        alpha: At least 0. Most λ are near 0 or 1 where it is small; at 1 they are uniform. 0 changes nothing.

    Raises:
        ValueError: alpha is a number below 0 or infinite.
        TypeError: x is not of a floating dtype, or alpha is a schedule.

    Source: H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, mixup: Beyond empirical risk minimization
    (2018).
    """
    wide = widened("mixup", x)
    alpha = strength("mixup's alpha", alpha, at_least=0)
    partner_key, weight_key = jax.random.split(key)
    partner = permutation(partner_key, len(x))
    weight = jnp.where(alpha > 0, _symmetric_beta(weight_key, alpha, len(x)), 1)
    own = jnp.expand_dims(weight, range(1, x.ndim)).astype(wide.dtype)
    return Mixed((own * wide + (1 - own) * wide[partner]).astype(x.dtype), partner, weight)


def _symmetric_beta(key: Key, alpha: float | Array, count: int) -> Array:
    """Numbers of Beta(alpha, alpha), (count,) float32, without the loops of `jax.random.beta`.

        (1 + s) / 2,   s = √(1 - w) c / √(w + (1 - w) c²),   w = u^(1 / alpha),   c = cos 2πv

    with u and v uniform, since a Student variable T of 2·alpha degrees of freedom is √(2 alpha (1 / w - 1)) c
    and s = T / √(2 alpha + T²) (R. W. Bailey, Polar generation of random variates with the t-distribution,
    1994). It compiles in a fraction of the time.
    """
    u, v = jax.random.uniform(key, (2, count), jnp.float32)
    w, c = u ** (1 / jnp.asarray(alpha, jnp.float32)), jnp.cos(2 * jnp.pi * v)
    return (1 + jnp.sqrt(1 - w) * c / jnp.sqrt(w + (1 - w) * c**2)) / 2
