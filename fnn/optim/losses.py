"""Losses: how wrong each prediction is, one value per example.

The mean over a batch is left to the caller, who may want weights or a mask.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, Metric, check_range, known_number
from fnn.optim._precision import at_least_float32


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
        logits is softmax(logits) - t where t adds up to 1. A class outside 0 … C - 1 gives NaN, since
        compiled code cannot raise.

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
    check_range("label_smoothing", label_smoothing, at_least=0, at_most=1)
    smoothing = known_number("label_smoothing", label_smoothing)
    targets_are_classes = _are_classes(logits, targets)
    logits, classes = at_least_float32(logits), logits.shape[-1]
    # One-hot and a sum, since the gradient of picking by index is a scatter, slow on every platform.
    probabilities = jax.nn.one_hot(targets, classes, dtype=logits.dtype) if targets_are_classes else targets
    probabilities = (1 - smoothing) * probabilities + smoothing / classes
    losses = -jnp.sum(probabilities * jax.nn.log_softmax(logits), axis=-1)
    if targets_are_classes:
        losses = jnp.where((targets >= 0) & (targets < classes), losses, jnp.nan)
    return losses


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
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions and targets must have the same shape, not {predictions.shape} and {targets.shape}"
        )
    if predictions.ndim == 0:
        raise ValueError("predictions must have an axis of examples, shape (N, ...), not shape ()")
    difference = at_least_float32(predictions) - at_least_float32(targets)
    return jnp.mean(jnp.square(difference), axis=tuple(range(1, difference.ndim)))


def accuracy(logits: Array, targets: Array, /) -> Metric:
    """Whether the largest logit is the target's class: 1 where it is, 0 where not.

    Args:
        logits: shape (..., C).
        targets: classes, integers of shape (...), or probabilities, floats of shape (..., C), whose class is
            the most probable one. Of equal values the first counts.

    Returns:
        Shape (...), float32.

    Raises:
        ValueError: if the shape or the type of the targets does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import accuracy
        >>> accuracy(jnp.array([[0.1, 2.0], [0.3, -1.0]]), jnp.array([1, 1])).tolist()
        [1.0, 0.0]
    """
    classes = targets if _are_classes(logits, targets) else jnp.argmax(targets, axis=-1)
    return (jnp.argmax(logits, axis=-1) == classes).astype(jnp.float32)


def _are_classes(logits: Array, targets: Array) -> bool:
    """True for targets that are classes, False for probabilities; ValueError for anything else."""
    if logits.ndim == 0:
        raise ValueError("logits must have an axis of classes, shape (..., C), not shape ()")
    if jnp.issubdtype(targets.dtype, jnp.integer):
        kind, wanted, is_class = "integer targets (classes)", logits.shape[:-1], True
    elif jnp.issubdtype(targets.dtype, jnp.floating):
        kind, wanted, is_class = "float targets (probabilities)", logits.shape, False
    else:
        raise ValueError(f"targets must be integer classes or float probabilities, not {targets.dtype}")
    if targets.shape != wanted:
        raise ValueError(
            f"{kind} for logits of shape {logits.shape} must have shape {wanted}, not {targets.shape}"
        )
    return is_class
