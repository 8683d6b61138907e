"""Losses: how wrong each prediction is, one value per example.

The mean over a batch is left to the caller, who may want weights or a mask.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, at_least_float32, check_array, known_number

# --- of classes -----------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Array, targets: Array, /, *, label_smoothing: Hyperparameter = 0.0
) -> Array:
    """Cross-entropy between the targets and the softmax of the logits, in nats.

        H(t, p) = -Σ_c t_c log p_c,    p = softmax(logits),    t ← (1 - s) t + s / C

    Args:
        logits: shape (..., C), the scores of C classes before the softmax.
        targets: classes, integers of shape (...), or probabilities, floats of shape (..., C).
        label_smoothing: s, the probability that is spread evenly over all C classes; from 0 to 1.

    Returns:
        Shape (...), float32 or wider: ln C where the logits are equal. The gradient with respect to the
        logits is softmax(logits) - t. A class outside 0 … C - 1 gives NaN, since compiled code cannot raise,
        and so do floats that are no probabilities: one below 0, or a sum that is not 1 to two digits.

    Raises:
        ValueError: if the shape or the type of the targets does not fit, or the smoothing is out of range.

    The smoothing is that of PyTorch and Keras: the true class has 1 - s + s / C. PyTorch returns the mean
    over the batch unless told otherwise.

    Source: Goodfellow, Bengio and Courville 2016, "Deep Learning", section 6.2.2.3; the smoothing: Szegedy
    et al. 2016, "Rethinking the Inception Architecture for Computer Vision".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import softmax_cross_entropy
        >>> logits = jnp.array([[0.0, 0.0], [9.0, 0.0]])
        >>> [round(float(loss), 4) for loss in softmax_cross_entropy(logits, jnp.array([1, 0]))]
        [0.6931, 0.0001]
    """
    smoothing = _scalar("label_smoothing", label_smoothing, at_least=0, at_most=1)
    by_class = are_classes(logits, targets)
    probabilities, exists = _one_hot(logits, targets) if by_class else (targets, _are_probabilities(targets))
    probabilities = (1 - smoothing) * probabilities + smoothing / logits.shape[-1]
    losses = -_weighted_sum(probabilities, jax.nn.log_softmax(at_least_float32(logits)))
    return jnp.where(exists, losses, jnp.nan)


def sigmoid_cross_entropy(logits: Array, targets: Array, /) -> Array:
    """Cross-entropy of independent yes-or-no questions, in nats; the mean over an example's questions.

        H_n = mean_c [ -t_{n,c} log p_{n,c} - (1 - t_{n,c}) log(1 - p_{n,c}) ],    p = sigmoid(logits)

    Args:
        logits: shape (N, ...), a score for each question: (N,) for two classes, (N, C) for C labels of which
            any number may apply.
        targets: the same shape, integers 0 and 1, booleans or probabilities. `fnn.fit` takes integers of
            shape (N,) for classes with an output each: give it floats.

    Returns:
        Shape (N,), float32 or wider: ln 2 where the logits are 0. The gradient of an element is
        (sigmoid(logit) - t) / C. An infinite logit costs 0 where the target is the same class for sure, and ∞
        elsewhere. A target outside 0 … 1 gives NaN, since compiled code cannot raise.

    Raises:
        ValueError: if the shapes differ, or have no axis for the examples.

    The mean over C makes the batch's mean that of PyTorch's BCEWithLogitsLoss and of Keras's
    BinaryCrossentropy(from_logits=True). The negative log-likelihood of an example is C times as large;
    Optax's sigmoid_binary_cross_entropy returns the elements and leaves the choice open.

    Source: Bishop 2006, "Pattern Recognition and Machine Learning", section 4.3.2.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import sigmoid_cross_entropy
        >>> logits = jnp.array([[0.0, 0.0], [9.0, -9.0]])
        >>> losses = sigmoid_cross_entropy(logits, jnp.array([[1, 0], [1, 0]]))
        >>> [round(float(loss), 4) for loss in losses]
        [0.6931, 0.0001]
    """
    z, t = _alike("logits", logits, targets)
    # softplus(-z) is -log p without the logarithm of a number that has become 0 or 1.
    losses = _weighted(t, jax.nn.softplus(-z)) + _weighted(1 - t, jax.nn.softplus(z))
    return _example_mean(jnp.where((t >= 0) & (t <= 1), losses, jnp.nan))


def kl_divergence(logits: Array, targets: Array, /) -> Array:
    """The Kullback-Leibler divergence of the targets from the softmax of the logits, in nats.

        KL(t ‖ p) = Σ_c t_c (log t_c - log p_c),    p = softmax(logits),    0 log 0 = 0

    Args:
        logits: shape (..., C), the scores of C classes before the softmax.
        targets: probabilities, floats of shape (..., C), such as another network's.

    Returns:
        Shape (...), float32 or wider; 0 where p = t. It is the cross-entropy less the entropy of t, so both
        have the gradient softmax(logits) - t with respect to the logits. Targets that are no probabilities
        give NaN, as in `softmax_cross_entropy`.

    Raises:
        ValueError: if the targets are not probabilities of that shape.

    PyTorch's KLDivLoss takes log-probabilities, and its default reduction divides by C as well. Keras's
    KLDivergence takes probabilities and moves those below 1e-7 up to it.

    Source: Kullback and Leibler 1951, "On Information and Sufficiency".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import kl_divergence
        >>> losses = kl_divergence(jnp.zeros((2, 2)), jnp.array([[0.5, 0.5], [1.0, 0.0]]))
        >>> [round(float(loss), 4) for loss in losses]
        [0.0, 0.6931]
    """
    if are_classes(logits, targets):
        raise ValueError("kl_divergence needs float targets (probabilities), not integer classes")
    t = at_least_float32(targets)
    log_t = jnp.log(jnp.where(t == 0, 1, t))
    losses = _weighted_sum(t, log_t - jax.nn.log_softmax(at_least_float32(logits)))
    return jnp.where(_are_probabilities(t), losses, jnp.nan)


def multiclass_hinge(logits: Array, targets: Array, /, *, margin: Hyperparameter = 1.0) -> Array:
    """The multiclass support vector machine's loss: what each other class lacks to the margin.

        L = Σ_{j ≠ y} max(0, s_j - s_y + Δ)

    Args:
        logits: shape (..., C), the scores s of C classes.
        targets: the classes y, integers of shape (...).
        margin: Δ, by how much the true class's score should be the larger; at least 0.

    Returns:
        Shape (...), float32 or wider, in the unit of the scores: Δ (C - 1) where the logits are equal. The
        gradient of a term at its kink is 0. A class outside 0 … C - 1 gives NaN.

    Raises:
        ValueError: if the targets are not classes of that shape, or the margin is out of range.

    This is the sum of Weston and Watkins. PyTorch's MultiMarginLoss divides it by C. Keras's
    CategoricalHinge and Optax's multiclass_hinge_loss take the largest term alone (Crammer and Singer).

    Source: Weston and Watkins 1999, "Support Vector Machines for Multi-Class Pattern Recognition"; the form
    is that of Stanford's course CS231n, "Linear classification".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import multiclass_hinge
        >>> multiclass_hinge(jnp.array([[13.0, -7.0, 11.0], [0.0, 0.0, 0.0]]), jnp.array([0, 1])).tolist()
        [0.0, 2.0]
    """
    margin = _scalar("margin", margin, at_least=0)
    true, exists = _one_hot(logits, _checked_classes(logits, targets))
    s = at_least_float32(logits)
    lacking = s - _weighted_sum(true, s)[..., None] + margin
    return jnp.where(exists, _weighted_sum(1 - true, jax.nn.relu(lacking)), jnp.nan)


def perceptron_loss(logits: Array, targets: Array, /) -> Array:
    """The perceptron's loss: by how much the best of the other classes beats the true one.

        L = max_j s_j - s_y

    Args:
        logits: shape (..., C), the scores s of C classes.
        targets: the classes y, integers of shape (...).

    Returns:
        Shape (...), float32 or wider; 0 where the true class wins. The gradient of a mistake is +1 at the
        best other class r (of equals the first) and -1 at y. A class outside 0 … C - 1 gives NaN.

    Raises:
        ValueError: if the targets are not classes of that shape.

    Gradient descent with rate 1 on one example at a time is therefore the perceptron rule: with scores
    s = xᵀW + b, a mistake moves w_y by +x and w_r by -x. A tie s_r = s_y is a mistake, whose loss is 0 and
    whose gradient is not: weights that start at 0 begin to move, and the mistake bound asks for it. The
    derivative of max that frameworks take there would split the step between the tied classes. `accuracy`
    knows no ties: of equal scores the first wins.

    Source: Rosenblatt 1958, "The Perceptron"; for several classes Crammer and Singer 2003,
    "Ultraconservative Online Algorithms for Multiclass Problems".

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fnn.optim import perceptron_loss
        >>> jax.grad(perceptron_loss)(jnp.array([1.0, 3.0, 2.0]), jnp.array(0)).tolist()
        [-1.0, 1.0, 0.0]
        >>> jax.grad(perceptron_loss)(jnp.zeros(3), jnp.array(2)).tolist()
        [1.0, 0.0, -1.0]
    """
    true, exists = _one_hot(logits, _checked_classes(logits, targets))
    s = at_least_float32(logits)
    best = jnp.argmax(jnp.where(true == 1, -jnp.inf, s), axis=-1)
    behind = _weighted_sum(jax.nn.one_hot(best, s.shape[-1], dtype=s.dtype) - true, s)
    return jnp.where(exists, jnp.where(behind < 0, 0, behind), jnp.nan)


# --- of numbers -----------------------------------------------------------------------------------------


def mean_squared_error(predictions: Array, targets: Array, /) -> Array:
    """The mean squared difference of each example.

        MSE_n = mean_i (y_{n,i} - t_{n,i})²

    Args:
        predictions: shape (N, ...).
        targets: the same shape; (N,) and (N, 1) do not fit, where other frameworks broadcast to (N, N).

    Returns:
        Shape (N,), float32 or wider, in the squared unit of the targets. There is no factor one half.

    Raises:
        ValueError: if the shapes differ, or have no axis for the examples.

    Source: Bishop 2006, "Pattern Recognition and Machine Learning", section 1.1.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import mean_squared_error
        >>> predictions = jnp.array([[1.0, 2.0], [0.0, 0.0]])
        >>> mean_squared_error(predictions, jnp.array([[1.0, 0.0], [3.0, 1.0]])).tolist()
        [2.0, 5.0]
    """
    y, t = _alike("predictions", predictions, targets)
    return _example_mean(jnp.square(y - t))


def mean_absolute_error(predictions: Array, targets: Array, /) -> Array:
    """The mean absolute difference of each example, which outliers move less than the squared one.

        MAE_n = mean_i |y_{n,i} - t_{n,i}|

    Args:
        predictions: shape (N, ...).
        targets: the same shape.

    Returns:
        Shape (N,), float32 or wider, in the unit of the targets. The gradient where y = t is 0.

    Raises:
        ValueError: if the shapes differ, or have no axis for the examples.

    Source: Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning", section 10.6.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import mean_absolute_error
        >>> predictions = jnp.array([[1.0, 2.0], [0.0, 0.0]])
        >>> mean_absolute_error(predictions, jnp.array([[1.0, 0.0], [3.0, 1.0]])).tolist()
        [1.0, 2.0]
    """
    y, t = _alike("predictions", predictions, targets)
    return _example_mean((y - t) * jnp.sign(y - t))  # the gradient of jnp.abs at 0 is 1


def huber(predictions: Array, targets: Array, /, *, delta: Hyperparameter = 1.0) -> Array:
    """Huber's error: squared near 0, absolute beyond, so that one outlier pulls no more than another.

        h(d) = d² / 2              for |d| ≤ δ
        h(d) = δ (|d| - δ / 2)     beyond
        H_n  = mean_i h(y_{n,i} - t_{n,i})

    Args:
        predictions: shape (N, ...).
        targets: the same shape.
        delta: δ, where the line begins, in the unit of the targets; above 0 and
            finite.

    Returns:
        Shape (N,), float32 or wider, in the squared unit of the targets. The gradient of an element is its
        difference cut to -δ … δ. Within δ it is half of `mean_squared_error`, which has no factor one half.

    Raises:
        ValueError: if the shapes differ, or have no axis for the examples, or delta is out of range.

    PyTorch's HuberLoss, Keras's Huber and Optax's huber_loss are the same; PyTorch's SmoothL1Loss is this
    divided by its beta = δ, and equal at δ = 1.

    Source: Huber 1964, "Robust Estimation of a Location Parameter".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import huber
        >>> huber(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
        [0.125, 2.5]
    """
    delta = _scalar("delta", delta, above=0, below=math.inf)
    y, t = _alike("predictions", predictions, targets)
    size = jnp.abs(y - t)
    near = jnp.where(size < delta, size, delta)  # nothing large is squared
    return _example_mean(near**2 / 2 + delta * (size - near))


# --- what losses and metrics are built from -------------------------------------------------------------


def _scalar(name: str, value: Hyperparameter, **limits: Any) -> float | Array:
    """The number that a hyperparameter is, one for all examples, within its limits where it is known."""
    if jnp.ndim(number := known_number(name, value, **limits)) != 0:
        raise ValueError(
            f"{name} must be a scalar, not an array of shape {jnp.shape(number)}; "
            "use jax.vmap for another number at each example"
        )
    return number


def are_classes(logits: Array, targets: Array) -> bool:
    """True for targets that are classes, False for probabilities; an error for anything else."""
    check_array("logits", logits)
    check_array("targets", targets)
    if logits.ndim == 0:
        raise ValueError("logits must have an axis of classes, shape (..., C), not shape ()")
    if jnp.issubdtype(targets.dtype, jnp.integer):
        kind, wanted, is_class = "integer targets (classes)", logits.shape[:-1], True
    elif jnp.issubdtype(targets.dtype, jnp.floating):
        kind, wanted, is_class = "float targets (probabilities)", logits.shape, False
    else:
        raise ValueError(f"targets must be integer classes or float probabilities, not {targets.dtype}")
    if targets.shape != wanted:
        way_out = ""
        if not is_class and targets.shape in (logits.shape[:-1], (*logits.shape[:-1], 1)):
            numbers = "targets" if targets.ndim < logits.ndim else "targets[..., 0]"
            way_out = f"; classes are integers of shape {logits.shape[:-1]}: {numbers}.astype(np.int32)"
        raise ValueError(
            f"{kind} for logits of shape {logits.shape} must have shape {wanted}, "
            f"not {targets.shape}{way_out}"
        )
    return is_class


def class_numbers(targets: Array) -> Array:
    """Classes in a type that can hold the number of classes too, which int8 and uint8 may not."""
    return targets.astype(jnp.promote_types(targets.dtype, jnp.int32))


def _checked_classes(logits: Array, targets: Array) -> Array:
    """The targets; ValueError where they are not classes."""
    if not are_classes(logits, targets):
        raise ValueError("this loss needs integer targets (classes), not probabilities")
    return targets


def _one_hot(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Classes as rows of the identity, and which of them exist; the row of one that does not is 0.

    To be multiplied and summed, since the gradient of picking by index is a scatter, slow on every platform.
    """
    numbers, classes = class_numbers(targets), logits.shape[-1]
    rows = jax.nn.one_hot(numbers, classes, dtype=at_least_float32(logits).dtype)
    return rows, (numbers >= 0) & (numbers < classes)


def _are_probabilities(targets: Array) -> Array:
    """Whether the numbers along the last axis are at least 0 and add up to 1, if only to two digits."""
    total = at_least_float32(targets).sum(-1)
    return jnp.all(targets >= 0, -1) & (jnp.abs(total - 1) < 0.01)


def _weighted_sum(weights: Array, values: Array) -> Array:
    """Σ w v over the last axis."""
    return jnp.sum(_weighted(weights, values), axis=-1)


def _weighted(weights: Array, values: Array) -> Array:
    """w v, in which a weight of 0 makes 0 of an infinite value too: a masked class.

    It is linear in the weights, so a finite value is the slope of its weight, of one that is 0 as well.
    """
    counts = (weights != 0) | jnp.isfinite(values)
    return weights * jnp.where(counts, values, 0)


def _alike(name: str, outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Outputs and targets in float32 or wider; an error where they differ in shape or have none."""
    check_array(name, outputs)
    check_array("targets", targets)
    if outputs.shape != targets.shape:
        way_out = ""
        if outputs.size == targets.size:
            way_out = f"; give the targets the shape {outputs.shape}"
        elif outputs.shape[:-1] == targets.shape and jnp.issubdtype(targets.dtype, jnp.integer):
            way_out = (
                "; class numbers are targets of softmax_cross_entropy, and jax.nn.one_hot(targets, "
                f"{outputs.shape[-1]}) makes some of this loss"
            )
        raise ValueError(
            f"{name} and targets must have the same shape, not {outputs.shape} and {targets.shape}{way_out}"
        )
    if outputs.ndim == 0:
        raise ValueError(f"{name} must have an axis of examples, shape (N, ...), not shape ()")
    return at_least_float32(outputs), at_least_float32(targets)


def _example_mean(elements: Array) -> Array:
    """The mean over all axes but the first."""
    return jnp.mean(elements, axis=tuple(range(1, elements.ndim)))
