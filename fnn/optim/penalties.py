"""Penalties: what is added to the loss to keep the weights small.

Only leaves whose path matches the pattern count: by default the kernels, not biases or scales.
"""

from __future__ import annotations

import jax.numpy as jnp

from fnn._tree import matching
from fnn._types import Array, Hyperparameter, Params, at_least_float32, known_number
from fnn.optim._sums import total


def l1(params: Params, /, strength: Hyperparameter, pattern: str = "*kernel") -> Array:
    """The sum of absolute weights, which draws many weights to 0.

        R(w) = strength · Σ |w|

    At the minimum of loss and penalty they are exactly 0; steps along the gradient leave them hovering near
    it, and few are 0. True zeros are those of `proximal_l1`.

    Args:
        params: a pytree of parameters.
        strength: λ, at least 0.
        pattern: shell pattern on the path of a leaf; `*` also crosses `/`.

    Returns:
        A scalar, float32 or wider. Its gradient is λ sign(w), which is 0 at w = 0.

    Raises:
        ValueError: if the pattern matches no parameter, or `strength` is a number below 0.

    Source: Tibshirani 1996, "Regression Shrinkage and Selection via the Lasso".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import l1
        >>> params = {"linear_1": {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.array([9.0, 9.0])}}
        >>> float(l1(params, 0.5))
        3.5
    """
    strength = known_number("strength", strength, at_least=0)
    kernels = [at_least_float32(w) for w in matching(params, pattern)]
    # |w| as w · sign(w), since the gradient of jnp.abs at 0 is 1 and would move a weight that has died.
    return strength * sum((total(w * jnp.sign(w)) for w in kernels), jnp.zeros(()))


def l2(params: Params, /, strength: Hyperparameter, pattern: str = "*kernel") -> Array:
    """The sum of squared weights, which spreads the weights out.

        R(w) = strength · Σ w²

    Args:
        params: a pytree of parameters.
        strength: λ, at least 0.
        pattern: shell pattern on the path of a leaf; `*` also crosses `/`.

    Returns:
        A scalar, float32 or wider. Its gradient is 2 λ w: there is no factor one half.

    Raises:
        ValueError: if the pattern matches no parameter, or `strength` is a number below 0.

    PyTorch's `weight_decay` λ adds λ w to the gradient, so under plain SGD it equals this with strength
    λ / 2, on every parameter and not only on kernels. Keras's regularizer L2(λ) is this without a half.

    Source: Goodfellow, Bengio and Courville 2016, "Deep Learning", section 7.1.1 (there with a half).

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import l2
        >>> params = {"linear_1": {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.array([9.0, 9.0])}}
        >>> float(l2(params, 0.5)), float(l2(params, 0.5, pattern="*bias"))
        (12.5, 81.0)
    """
    strength = known_number("strength", strength, at_least=0)
    kernels = [at_least_float32(w) for w in matching(params, pattern)]
    return strength * sum((total(jnp.square(w)) for w in kernels), jnp.zeros(()))


def elastic_net(
    params: Params, /, strength: Hyperparameter, beta: Hyperparameter = 1.0, pattern: str = "*kernel"
) -> Array:
    """Absolute and squared weights together: as sparse as `l1`, but weights that go together stay together.

        R(w) = strength · Σ (β w² + |w|)

    Args:
        params: a pytree of parameters.
        strength: λ, at least 0.
        beta: β, the weight of the squares beside the absolute values, at least 0; 0 leaves `l1`.
        pattern: shell pattern on the path of a leaf; `*` also crosses `/`.

    Returns:
        A scalar, float32 or wider: l1(λ) + l2(λ β). Its gradient is λ (2 β w + sign(w)), which is 0 at w = 0.

    Raises:
        ValueError: if the pattern matches no parameter, or `strength` or `beta` is a number below 0.

    scikit-learn's ElasticNet writes the same as α (ρ |w| + (1 - ρ) w² / 2): λ = α ρ and β = (1 - ρ) / 2ρ.

    Source: Zou and Hastie 2005, "Regularization and Variable Selection via the Elastic Net".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import elastic_net
        >>> params = {"linear_1": {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.array([9.0, 9.0])}}
        >>> float(elastic_net(params, 0.5, beta=0.1))
        4.75
    """
    beta = known_number("beta", beta, at_least=0)
    return beta * l2(params, strength, pattern) + l1(params, strength, pattern)
