"""Softmax regression in NumPy, written from its formulas: the oracle of this room, and the same as a task."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import fnn


class Numbers(NamedTuple):
    loss: float
    penalty: float
    accuracy: float


def start(shape: tuple[int, ...]) -> np.ndarray:
    """Initial weights that no random generator decides."""
    return np.sin(1.0 + np.arange(math.prod(shape))).reshape(shape)


def start_init(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return jnp.asarray(start(shape), dtype)


def make(hyperparameters: dict[str, Any]) -> fnn.train.Task:
    """Softmax regression with four classes and an l2 penalty, under plain SGD."""
    return fnn.train.Task(
        fnn.linear(4, kernel_init=start_init),
        fnn.softmax_cross_entropy,
        fnn.sgd(hyperparameters["learning_rate"]),
        penalties=(lambda params: fnn.l2(params, hyperparameters["strength"]),),
    )


def log_probabilities(kernel: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
    logits = x @ kernel + bias[None]
    logits = logits - logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def measure(kernel: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray, strength: float) -> Numbers:
    log_p = log_probabilities(kernel, bias, x)
    return Numbers(
        loss=-log_p[np.arange(len(y)), y].mean(),
        penalty=strength * (kernel**2).sum(),
        accuracy=(log_p.argmax(1) == y).mean(),
    )


def descend(
    kernel: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray, learning_rate: float, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """One step of gradient descent on mean cross-entropy + strength · Σ kernel²."""
    error = (np.exp(log_probabilities(kernel, bias, x)) - np.eye(bias.size)[y]) / len(y)
    return (
        kernel - learning_rate * (x.T @ error + 2 * strength * kernel),
        bias - learning_rate * error.sum(0),
    )
