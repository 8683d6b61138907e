"""Metrics: how good predictions are, measured and not differentiated.

A metric gives one value per example, whose mean is the figure of a data set, or one number for all examples
together.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp

from fnn._types import Array, Metric, at_least_float32, check_range
from fnn.optim.losses import are_classes, class_numbers

Counts = Annotated[jax.Array, "counts"]
"""Integers that say how often something happened."""


def accuracy(logits: Array, targets: Array, /) -> Metric:
    """Whether the largest logit is the target's class: 1 where it is, 0 where not.

    Args:
        logits: shape (..., C).
        targets: classes, integers of shape (...), or probabilities, floats of shape (..., C), whose class is
            the most probable one. Of equal values the first counts.

    Returns:
        Shape (...), float32. Where a logit is NaN, no class is predicted: 0.

    Raises:
        ValueError: if the shape or the type of the targets does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import accuracy
        >>> accuracy(jnp.array([[0.1, 2.0], [0.3, -1.0]]), jnp.array([1, 1])).tolist()
        [1.0, 0.0]
    """
    classes = _classes(logits, targets)
    right = jnp.argmax(logits, axis=-1) == classes
    return (right & _predicts(logits)).astype(jnp.float32)


def top_k_accuracy(logits: Array, targets: Array, /, *, k: int = 5) -> Metric:
    """Whether the target's class is among the k largest logits: 1 where it is, 0 where not.

    Args:
        logits: shape (..., C).
        targets: as for `accuracy`, which this is for k = 1.
        k: how many guesses there are; from 1 to C. Of equal logits the first count, so that never more than
            k classes do; Keras counts every class whose logit equals the k-th.

    Returns:
        Shape (...), float32; 0 where a logit is NaN.

    Raises:
        ValueError: if the shape or the type of the targets does not fit, or k is out of range.
        TypeError: if k is no integer.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import top_k_accuracy
        >>> logits = jnp.array([[0.1, 2.0, 1.0], [0.1, 2.0, 1.0]])
        >>> top_k_accuracy(logits, jnp.array([2, 0]), k=2).tolist()
        [1.0, 0.0]
    """
    check_range("k", k, integer=True)
    classes = _classes(logits, targets)
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k must be from 1 to {logits.shape[-1]}, the number of classes, not {k}")
    _, guesses = jax.lax.top_k(logits, k)
    right = jnp.any(guesses == classes[..., None], axis=-1)
    return (right & _predicts(logits)).astype(jnp.float32)


def confusion_matrix(logits: Array, targets: Array, /) -> Counts:
    """How often each class was taken for each.

        M_{i,j} = |{n : y_n = i, ŷ_n = j}|,    ŷ = argmax of the logits

    Args:
        logits: shape (..., C).
        targets: as for `accuracy`.

    Returns:
        Counts, int32 of shape (C, C): a row for each true class, a column for each predicted one. The
        diagonal holds the right answers. A class outside 0 … C - 1 is not counted, nor
        is an example with a logit that is NaN, of which no class is predicted.

    Raises:
        ValueError: if the shape or the type of the targets does not fit.

    scikit-learn has the same orientation. It takes predicted classes in place of logits: for those pass
    `jax.nn.one_hot(predicted, classes)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import confusion_matrix
        >>> confusion_matrix(jnp.array([[2.0, 0.1], [0.3, 1.0], [0.0, 1.0]]), jnp.array([0, 0, 1])).tolist()
        [[1, 1], [0, 1]]
    """
    true, size = _classes(logits, targets), logits.shape[-1]
    # A negative index would count from the end.
    true = jnp.where((true >= 0) & _predicts(logits), true, size)
    counts = jnp.zeros((size, size), jnp.int32)
    return counts.at[true, jnp.argmax(logits, axis=-1)].add(1, mode="drop")


def calibration_error(logits: Array, targets: Array, /, *, bins: int = 15) -> Metric:
    """The expected calibration error: how far confidence and accuracy lie apart.

        ECE = Σ_b |B_b| / N · |accuracy(B_b) - confidence(B_b)|

    The confidence of an example is the softmax of its largest logit; B_b are the examples whose confidence
    lies in ((b - 1) / bins, b / bins], and both figures are means over them.

    Args:
        logits: shape (..., C).
        targets: as for `accuracy`.
        bins: into how many intervals of equal width 0 … 1 is cut; at least 1.

    Returns:
        A scalar from 0 to 1, float32 or wider. 0 is calibrated: of the answers given with a confidence of
        0.8, four in five are right. It depends on `bins`, and is biased upwards where bins hold few examples.

    Raises:
        ValueError: if the shape or the type of the targets does not fit, or `bins` is below 1.
        TypeError: if `bins` is no integer.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import calibration_error
        >>> logits = jnp.log(jnp.array([[0.8, 0.2]] * 5))
        >>> round(float(calibration_error(logits, jnp.array([0, 0, 0, 0, 1]))), 4)
        0.0
        >>> round(float(calibration_error(logits, jnp.array([0, 0, 0, 0, 0]))), 4)
        0.2
    """
    check_range("bins", bins, at_least=1, integer=True)
    right = accuracy(logits, targets).ravel()
    confidence = jnp.max(jax.nn.softmax(at_least_float32(logits)), axis=-1).ravel()
    place = jnp.clip(jnp.ceil(confidence * bins) - 1, 0, bins - 1).astype(jnp.int32)
    gaps = jax.ops.segment_sum(right - confidence, place, bins)  # |B_b| (accuracy - confidence)
    return jnp.sum(jnp.abs(gaps)) / right.size


def _predicts(logits: Array) -> Array:
    """Whether all logits of an example are numbers; argmax and top_k would take NaN for the largest."""
    return jnp.logical_not(jnp.isnan(logits).any(axis=-1))


def _classes(logits: Array, targets: Array) -> Array:
    """The targets as classes, (...) integers; ValueError where they do not fit the logits."""
    return class_numbers(targets) if are_classes(logits, targets) else jnp.argmax(targets, axis=-1)
