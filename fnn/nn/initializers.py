"""Initial values of kernels, chosen so that the signal keeps its size from layer to layer.

An initializer is `initializer(key, shape, dtype)`; settings are bound with `functools.partial`, as in
`partial(kaiming, distribution="uniform")`.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from fnn._types import Array, DType, Hyperparameter, Key, Shape, check_range, known_number

Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["normal", "uniform"]


def fans(shape: Shape, /) -> tuple[int, int]:
    """How many inputs one output of a kernel (…, inputs, outputs) sums over, and the reverse.

    For a convolution kernel (kh, kw, Cin/groups, Cout): fan-in kh·kw·Cin/groups, fan-out kh·kw·Cout.

    >>> fans((784, 10)), fans((3, 3, 16, 32))
    ((784, 10), (144, 288))
    """
    if len(shape) < 2:
        raise ValueError(f"a kernel has at least two axes (…, inputs, outputs), not shape {shape}")
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def xavier(
    key: Key,
    shape: Shape,
    dtype: DType = float,
    /,
    *,
    scale: Hyperparameter = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
) -> Array:
    """Weights of zero mean and variance scale / fan-in: a linear layer keeps the variance of its input.

    The fan-in form is the notes'; others call it LeCun's. Glorot's own, which PyTorch, Keras and JAX call
    Xavier or Glorot, divides by the mean of fan-in and fan-out instead: `mode="fan_avg"`.

    Args:
        key: the random key.
        shape: of the kernel, (…, inputs, outputs).
        dtype: of the result.
        scale: variance × fan.
        mode: which fan divides.
        distribution: "normal", not truncated, or "uniform" on ±√(3 · variance).

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward networks".
    """
    return _scaled(key, shape, dtype, scale, mode, distribution)


def kaiming(
    key: Key,
    shape: Shape,
    dtype: DType = float,
    /,
    *,
    scale: Hyperparameter = 2.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
) -> Array:
    """Weights of zero mean and variance 2 / fan-in: a layer behind a ReLU keeps the variance of the scores.

    A ReLU passes half of a symmetric signal, E[relu(s)²] = ½ Var(s), so the weights make up for it with
    twice the variance: the standard deviation is √(2 / fan-in). The notes' code divides by that root; it
    has to multiply.

    Args:
        key: the random key.
        shape: of the kernel, (…, inputs, outputs).
        dtype: of the result.
        scale: variance × fan.
        mode: which fan divides.
        distribution: "normal", not truncated, or "uniform" on ±√(3 · variance).

    Source: He et al. (2015), "Delving Deep into Rectifiers".
    """
    return _scaled(key, shape, dtype, scale, mode, distribution)


def _scaled(
    key: Key, shape: Shape, dtype: DType, scale: Hyperparameter, mode: Mode, distribution: Distribution
) -> Array:
    check_range("scale", known_number("scale", scale), at_least=0)
    fan_in, fan_out = fans(shape)
    choices = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in choices:
        raise ValueError(f"mode must be one of {', '.join(choices)}, not {mode!r}")
    deviation = jnp.sqrt(jnp.asarray(scale, float) / choices[mode])
    if distribution == "normal":
        unit = jax.random.normal(key, shape, dtype)
    elif distribution == "uniform":
        unit = jax.random.uniform(key, shape, dtype, -math.sqrt(3), math.sqrt(3))
    else:
        raise ValueError(f'distribution must be "normal" or "uniform", not {distribution!r}')
    return (deviation * unit).astype(unit.dtype)
