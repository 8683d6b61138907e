"""Activation functions: plain functions of one array, each a layer wherever one is wanted.

They keep the shape and the floating dtype of their input. The gradient at a kink is the slope on its left.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, as_float, known_number


def heaviside(x: Array, /) -> Array:
    """The step function, 1 where x > 0 and 0 otherwise: the activation of a perceptron.

    It is 0 at 0, as in the notes; elsewhere H(0) is often ½ or 1. Its gradient is 0 everywhere, so nothing
    in front of it learns by gradient descent.

    Source: Rosenblatt (1958), "The Perceptron".
    """
    return (x > 0).astype(x.dtype)


def sigmoid(x: Array, /) -> Array:
    """The logistic function, 1 / (1 + e⁻ˣ).

    Saturates at 0 and 1, where it kills the gradient, which is at most ¼; its outputs are all positive, so
    not zero-centred; needs an exponential.

    Source: Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating errors".
    """
    return jax.nn.sigmoid(as_float(x))


def tanh(x: Array, /) -> Array:
    """The hyperbolic tangent, (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ) = 2 sigmoid(2x) − 1.

    Zero-centred; still saturates, at ±1, and kills the gradient there.

    Source: LeCun et al. (1998), "Efficient BackProp", section 4.4.
    """
    return jnp.tanh(x)


def relu(x: Array, /) -> Array:
    """The rectified linear unit, max(0, x).

    Does not saturate for x > 0, is cheap, and converges much faster than sigmoid in practice. The notes say
    so of tanh too, but at a rate of its own tanh makes up for it (`experiments/activation_training.py`). Its
    output is not zero-centred, and a unit whose input is negative for every example, which a large step can
    bring about, gets no gradient and stays so ("dead"). The gradient at 0 is 0.

    Source: Nair and Hinton (2010), "Rectified Linear Units Improve Restricted Boltzmann Machines".
    """
    return jax.nn.relu(x)


def leaky_relu(x: Array, /, negative_slope: Hyperparameter = 0.01) -> Array:
    """The leaky rectified linear unit, x where x > 0 and αx otherwise.

    As cheap as `relu`, and it cannot die: its gradient is α, not 0, on the negative side (the notes list
    dying among its problems too). Not zero-centred, though nearer. The notes' max(αx, x) is the same only
    for α ≤ 1.

    Args:
        x: any shape.
        negative_slope: α. `prelu` learns it.

    The gradient at 0 is α, as in PyTorch; in jax.nn it is 1. Keras's default α is 0.3.

    Source: Maas, Hannun and Ng (2013), "Rectifier Nonlinearities Improve Neural Network Acoustic Models".

    >>> import jax.numpy as jnp
    >>> leaky_relu(jnp.array([-2.0, 3.0]), 0.1).tolist()
    [-0.20000000298023224, 3.0]
    """
    return jnp.where(x > 0, x, _like(x, "negative_slope", negative_slope) * x)


def elu(x: Array, /, alpha: Hyperparameter = 1.0) -> Array:
    """The exponential linear unit, x where x > 0 and α (eˣ − 1) otherwise.

    Like `relu` for x > 0. On the other side it saturates, at −α: its mean output is nearer to zero. Its
    gradient there, α eˣ, is small for a very negative x but not cut off at once. Needs an exponential. That
    it is more robust to noise than `leaky_relu`, as the notes say, does not show where both start from the
    same initial values (`experiments/activation_training.py`).

    Args:
        x: any shape.
        alpha: α; with 1 the slope is continuous at 0.

    Source: Clevert, Unterthiner and Hochreiter (2016), "Fast and Accurate Deep Network Learning by
    Exponential Linear Units".
    """
    return jax.nn.elu(x, _like(x, "alpha", alpha))


def selu(x: Array, /) -> Array:
    """The scaled exponential linear unit, λ · elu(x, α), λ = 1.0507009873554805, α = 1.6732632423543772.

    With these constants mean 0 and variance 1 are a stable fixed point from layer to layer, so deep
    networks of linear layers train without batch normalisation. That holds for standardised inputs, initial
    values of variance 1 / fan-in (`lecun`) and, where units are dropped, `alpha_dropout`.

    Source: Klambauer et al. (2017), "Self-Normalizing Neural Networks".
    """
    return jax.nn.selu(x)


def gelu(x: Array, /, *, approximate: bool = False) -> Array:
    """The Gaussian error linear unit, x Φ(x), with Φ the normal distribution function.

    Smooth, and like `relu` far from 0; not monotonic: its least value is −0.17, at x = −0.75.

    Args:
        x: any shape.
        approximate: ½x (1 + tanh(√(2/π) (x + 0.044715 x³))) instead, which is at most 5e-4 off.

    Exact by default, as in PyTorch and Keras; in jax.nn and Flax the approximation is the default.

    Source: Hendrycks and Gimpel (2016), "Gaussian Error Linear Units".
    """
    x = as_float(x)
    if not approximate:
        return jax.nn.gelu(x, approximate=False)
    inner = jnp.where(jnp.abs(x) < 30, x, 30 * jnp.sign(x))  # beyond, Φ is 0 or 1, and x³ would overflow
    # ½ (1 + tanh u) = sigmoid(2u), without the cancellation.
    return x * jax.nn.sigmoid(math.sqrt(8 / math.pi) * (inner + 0.044715 * inner**3))


def silu(x: Array, /) -> Array:
    """The sigmoid linear unit or swish, x · sigmoid(x).

    Smooth, and like `relu` far from 0; not monotonic: its least value is −0.28, at x = −1.28.

    Source: Elfwing, Uchibe and Doya (2018), "Sigmoid-Weighted Linear Units"; Ramachandran, Zoph and Le
    (2017), "Searching for Activation Functions".
    """
    return jax.nn.silu(as_float(x))


def softplus(x: Array, /) -> Array:
    """The smooth rectifier, ln(1 + eˣ): always positive, and its gradient is sigmoid(x).

    Source: Dugas et al. (2001), "Incorporating Second-Order Functional Knowledge for Better Option Pricing".
    """
    return jax.nn.softplus(x)


def softmax(x: Array, /) -> Array:
    """Scores to probabilities, e^{xⱼ} / Σₖ e^{xₖ} over the last axis; stable for large scores.

    `softmax_cross_entropy` takes scores: a network that ends in softmax applies it twice.

    Source: Bridle (1990), "Probabilistic Interpretation of Feedforward Classification Network Outputs, with
    Relationships to Statistical Pattern Recognition".
    """
    return jax.nn.softmax(as_float(x))


def log_softmax(x: Array, /) -> Array:
    """The logarithm of `softmax`, xⱼ − ln Σₖ e^{xₖ}, without leaving the logarithm."""
    return jax.nn.log_softmax(as_float(x))


def _like(x: Array, name: str, hyperparameter: Hyperparameter) -> Array:
    """The hyperparameter in the precision of x, which it must not change."""
    return jnp.asarray(known_number(name, hyperparameter), jnp.result_type(x, float))
