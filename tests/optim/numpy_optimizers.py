"""The optimizers in NumPy, written from their equations: the oracle of test_optimizers.py.

The problem is f(x) = ½ xᵀ A x + Σ log cosh x in six numbers, the first four a kernel of shape (2, 2) and the
last two a bias. Hyperparameters are functions of the step; the results are (points, slots).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_TORCH = np.load(Path(__file__).with_name("torch_values.npz"))
MATRIX, START = _TORCH["matrix"], _TORCH["start"]
KERNEL = np.array([1, 1, 1, 1, 0, 0])

Results = tuple[list[Any], dict[str, Any]]


def gradient(x: np.ndarray) -> np.ndarray:
    return MATRIX @ x + np.tanh(x)


def sgd(steps: int, learning_rate: Any) -> Results:
    x, points = START.copy(), []
    for t in range(steps):
        x = x - learning_rate(t) * gradient(x)
        points.append(x)
    return points, {}


def momentum(steps: int, learning_rate: Any, momentum: Any) -> Results:
    x, v, points = START.copy(), np.zeros(6), []
    for t in range(steps):
        v = momentum(t) * v - learning_rate(t) * gradient(x)
        x = x + v
        points.append(x)
    return points, {"velocity": v}


def nesterov(steps: int, learning_rate: Any, momentum: Any) -> Results:
    """The form that is not rearranged; the points are the look-ahead x + ρ v of the following step."""
    x, v, points = START.copy(), np.zeros(6), []
    for t in range(steps):
        v = momentum(t) * v - learning_rate(t) * gradient(x + momentum(t) * v)
        x = x + v
        points.append(x + momentum(t + 1) * v)
    return points, {"velocity": v}


def adagrad(steps: int, learning_rate: Any, eps: Any) -> Results:
    x, cache, points = START.copy(), np.zeros(6), []
    for t in range(steps):
        dx = gradient(x)
        cache = cache + dx**2
        x = x - learning_rate(t) * dx / (np.sqrt(cache) + eps(t))
        points.append(x)
    return points, {"sum_of_squares": cache}


def rmsprop(steps: int, learning_rate: Any, decay: Any, eps: Any) -> Results:
    x, cache, points = START.copy(), np.zeros(6), []
    for t in range(steps):
        dx = gradient(x)
        cache = decay(t) * cache + (1 - decay(t)) * dx**2
        x = x - learning_rate(t) * dx / (np.sqrt(cache) + eps(t))
        points.append(x)
    return points, {"mean_square": cache}


def adam(steps: int, learning_rate: Any, b1: Any, b2: Any, eps: Any, bias_correction: bool = True) -> Results:
    x, m, v, b1_product, b2_product, points = START.copy(), np.zeros(6), np.zeros(6), 1.0, 1.0, []
    for t in range(steps):
        dx = gradient(x)
        m = b1(t) * m + (1 - b1(t)) * dx
        v = b2(t) * v + (1 - b2(t)) * dx**2
        b1_product, b2_product = b1_product * b1(t), b2_product * b2(t)
        mt = m / (1 - b1_product) if bias_correction else m
        vt = v / (1 - b2_product) if bias_correction else v
        x = x - learning_rate(t) * mt / (np.sqrt(vt) + eps(t))
        points.append(x)
    return points, {"first_moment": m, "second_moment": v}


def clip_and_adam(steps: int, learning_rate: Any, max_norm: Any) -> Results:
    x, m, v, points = START.copy(), np.zeros(6), np.zeros(6), []
    for t in range(steps):
        dx = gradient(x)
        dx = dx * min(1, max_norm(t) / np.linalg.norm(dx))
        m = 0.9 * m + 0.1 * dx
        v = 0.999 * v + 0.001 * dx**2
        x = x - learning_rate(t) * m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        points.append(x)
    return points, {}


def clip_by_value_and_sgd(steps: int, learning_rate: Any, limit: Any) -> Results:
    x, points = START.copy(), []
    for t in range(steps):
        x = x - learning_rate(t) * np.clip(gradient(x), -limit(t), limit(t))
        points.append(x)
    return points, {}


def adadelta(steps: int, learning_rate: Any, decay: Any, eps: Any) -> Results:
    x, square, square_step, points = START.copy(), np.zeros(6), np.zeros(6), []
    for t in range(steps):
        g = gradient(x)
        square = decay(t) * square + (1 - decay(t)) * g**2
        delta = -np.sqrt(square_step + eps(t)) / np.sqrt(square + eps(t)) * g
        square_step = decay(t) * square_step + (1 - decay(t)) * delta**2
        x = x + learning_rate(t) * delta
        points.append(x)
    return points, {"mean_square": square, "mean_square_step": square_step}


def adamax(steps: int, learning_rate: Any, b1: Any, b2: Any, eps: Any) -> Results:
    x, m, u, b1_product, points = START.copy(), np.zeros(6), np.zeros(6), 1.0, []
    for t in range(steps):
        g = gradient(x)
        m = b1(t) * m + (1 - b1(t)) * g
        u = np.maximum(b2(t) * u, np.abs(g) + eps(t))
        b1_product = b1_product * b1(t)
        x = x - learning_rate(t) / (1 - b1_product) * m / u
        points.append(x)
    return points, {"first_moment": m, "largest": u}


def nadam(steps: int, learning_rate: Any, b1: Any, b2: Any, eps: Any) -> Results:
    x, m, v, b2_product, points = START.copy(), np.zeros(6), np.zeros(6), 1.0, []
    for t in range(steps):
        g = gradient(x)
        m = b1(t) * m + (1 - b1(t)) * g
        v = b2(t) * v + (1 - b2(t)) * g**2
        b2_product = b2_product * b2(t)
        product = np.prod([b1(i) for i in range(t + 1)])
        m_hat = b1(t + 1) * m / (1 - product * b1(t + 1)) + (1 - b1(t)) * g / (1 - product)
        x = x - learning_rate(t) * m_hat / (np.sqrt(v / (1 - b2_product)) + eps(t))
        points.append(x)
    return points, {"first_moment": m, "second_moment": v}


def adamw(steps: int, learning_rate: Any, b1: Any, b2: Any, eps: Any, weight_decay: Any) -> Results:
    x, m, v, b1_product, b2_product, points = START.copy(), np.zeros(6), np.zeros(6), 1.0, 1.0, []
    for t in range(steps):
        g = gradient(x)
        m = b1(t) * m + (1 - b1(t)) * g
        v = b2(t) * v + (1 - b2(t)) * g**2
        b1_product, b2_product = b1_product * b1(t), b2_product * b2(t)
        scaled = m / (1 - b1_product) / (np.sqrt(v / (1 - b2_product)) + eps(t))
        x = x - learning_rate(t) * (scaled + weight_decay(t) * KERNEL * x)
        points.append(x)
    return points, {"first_moment": m, "second_moment": v}


def lion(steps: int, learning_rate: Any, b1: Any, b2: Any, weight_decay: Any) -> Results:
    x, m, points = START.copy(), np.zeros(6), []
    for t in range(steps):
        g = gradient(x)
        c = b1(t) * m + (1 - b1(t)) * g
        x = x - learning_rate(t) * (np.sign(c) + weight_decay(t) * KERNEL * x)
        m = b2(t) * m + (1 - b2(t)) * g
        points.append(x)
    return points, {"first_moment": m}


def lamb(steps: int, learning_rate: Any, b1: Any, b2: Any, eps: Any, weight_decay: Any) -> Results:
    x, m, v, b1_product, b2_product, points = START.copy(), np.zeros(6), np.zeros(6), 1.0, 1.0, []
    for t in range(steps):
        g = gradient(x)
        m = b1(t) * m + (1 - b1(t)) * g
        v = b2(t) * v + (1 - b2(t)) * g**2
        b1_product, b2_product = b1_product * b1(t), b2_product * b2(t)
        r = m / (1 - b1_product) / (np.sqrt(v / (1 - b2_product)) + eps(t)) + weight_decay(t) * KERNEL * x
        trust = [np.linalg.norm(x[part]) / np.linalg.norm(r[part]) for part in (slice(4), slice(4, 6))]
        x = x - learning_rate(t) * np.repeat(trust, [4, 2]) * r
        points.append(x)
    return points, {"first_moment": m, "second_moment": v}


def orthogonalized(matrix: np.ndarray) -> np.ndarray:
    """What Newton and Schulz's iteration does to the singular values, without their vectors."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ v


def muon_and_adam(steps: int, learning_rate: Any, momentum: Any, weight_decay: Any) -> Results:
    x, m, v, points = START.copy(), np.zeros(6), np.zeros(2), []
    for t in range(steps):
        g, mu = gradient(x), np.where(KERNEL, momentum(t), 0.9)
        m = mu * m + (1 - mu) * g
        v = 0.999 * v + 0.001 * g[4:] ** 2
        ahead = (mu * m + (1 - mu) * g)[:4].reshape(2, 2)
        adam = m[4:] / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        direction = np.concatenate([orthogonalized(ahead).ravel(), adam])
        x = x - learning_rate(t) * (direction + weight_decay(t) * KERNEL * x)
        points.append(x)
    return points, {}


def sgd_and_max_norm(steps: int, learning_rate: Any, limit: Any) -> Results:
    x, points = START.copy(), []
    for t in range(steps):
        x = x - learning_rate(t) * gradient(x)
        units = x[:4].reshape(2, 2)  # one in each column
        norms = np.linalg.norm(units, axis=0)
        x = np.concatenate([(units * np.minimum(1, limit(t) / norms)).ravel(), x[4:]])
        points.append(x)
    return points, {}


def sgd_and_proximal_l1(steps: int, learning_rate: Any, threshold: Any) -> Results:
    x, points = START.copy(), []
    for t in range(steps):
        x = x - learning_rate(t) * gradient(x)
        x = np.where(np.abs(x) < threshold(t) * KERNEL, 0, x - threshold(t) * KERNEL * np.sign(x))
        points.append(x)
    return points, {}


def ema_of_sgd(steps: int, learning_rate: Any, decay: Any) -> Results:
    points, _ = sgd(steps, learning_rate)
    average = START
    for t, x in enumerate(points):
        average = decay(t) * average + (1 - decay(t)) * x
    return points, {"average": average}


def lookahead_of_sgd(steps: int, learning_rate: Any, slow_step: Any) -> Results:
    """In rounds of three steps."""
    x, slow, points = START.copy(), START.copy(), []
    for t in range(steps):
        x = x - learning_rate(t) * gradient(x)
        if t % 3 == 2:
            slow = slow + slow_step(t) * (x - slow)
            x = slow
        points.append(x)
    return points, {"slow": slow}


def accumulated_rmsprop(steps: int, learning_rate: Any, decay: Any, eps: Any) -> Results:
    """A step for every two gradients, which are both taken at the same point."""
    points, _ = rmsprop(steps // 2, learning_rate, decay, eps)
    return [START, *np.repeat(points, 2, axis=0)][:steps], {}
