"""Initial values of kernels, chosen so that the signal keeps its size from layer to layer.

An initializer is `initializer(key, shape, dtype)`; settings are bound with `functools.partial`, as in
`partial(kaiming, distribution="uniform")`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fnn._types import Array, DType, Hyperparameter, Key, Shape, check_key, known_number

Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["normal", "uniform"]


def fans(shape: Shape, /) -> tuple[int, int]:
    """How many inputs one output of a kernel (…, inputs, outputs) sums over, and the reverse.

    For a convolution kernel (kh, kw, Cin/groups, Cout): fan-in kh·kw·Cin/groups, fan-out kh·kw·Cout. That is
    `groups` times what an input reaches, as a kernel does not tell its groups; PyTorch and JAX count so too.

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

    This xavier, by fan-in as in the notes, equals `lecun`; `mode="fan_avg"` is Glorot's, and what other
    frameworks call Xavier: it divides by the mean of fan-in and fan-out, for the gradients' sake.

    Args:
        key: the random key.
        shape: of the kernel, (…, inputs, outputs).
        dtype: of the result.
        scale: variance × fan.
        mode: which fan divides.
        distribution: "normal", not truncated, or "uniform" on ±√(3 · variance).

    Raises:
        ValueError: a shape of one axis, a scale below 0, another mode or distribution.

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
    twice the variance: normal numbers times √(2 / fan-in). The notes' code divides by that root; it has to
    multiply.

    Args:
        key: the random key.
        shape: of the kernel, (…, inputs, outputs).
        dtype: of the result.
        scale: variance × fan.
        mode: which fan divides.
        distribution: "normal", not truncated, or "uniform" on ±√(3 · variance).

    Raises:
        ValueError: a shape of one axis, a scale below 0, another mode or distribution.

    Source: He et al. (2015), "Delving Deep into Rectifiers".
    """
    return _scaled(key, shape, dtype, scale, mode, distribution)


def lecun(key: Key, shape: Shape, dtype: DType = float, /, *, distribution: Distribution = "normal") -> Array:
    """Weights of zero mean and variance 1 / fan-in, as self-normalizing networks (`selu`) need them.

    The same as `xavier` by fan-in, its default. LeCun normal in JAX and Keras is truncated; this is not.

    Args:
        key: the random key.
        shape: of the kernel, (…, inputs, outputs).
        dtype: of the result.
        distribution: "normal", not truncated, or "uniform" on ±√(3 / fan-in).

    Raises:
        ValueError: a shape of one axis, or another distribution.

    Source: LeCun et al. (1998), "Efficient BackProp", section 4.6.
    """
    return _scaled(key, shape, dtype, 1.0, "fan_in", distribution)


def truncated_normal(
    key: Key, shape: Shape, dtype: DType = float, /, *, stddev: Hyperparameter = 0.02
) -> Array:
    """Normal numbers of mean 0, drawn again where they are more than two deviations from it.

    `stddev` is the deviation σ before the cut at ±2σ, which is not corrected for: that of the result is
    0.8796 σ. So do JAX, Keras and PyTorch, but PyTorch cuts at ±2, not at ±2σ.

    Args:
        key: the random key.
        shape: of the result.
        dtype: of the result.
        stddev: σ, at least 0.

    Raises:
        ValueError: a stddev below 0.

    Source: the initial values of Devlin et al. (2019), "BERT", with σ = 0.02.
    """
    known_number("stddev", stddev, at_least=0)
    check_key(key)
    unit = _drawn(partial(jax.random.truncated_normal, key, -2, 2, shape), dtype)
    return (jnp.asarray(stddev, float) * unit).astype(dtype)


def orthogonal(key: Key, shape: Shape, dtype: DType = float, /, *, scale: Hyperparameter = 1.0) -> Array:
    """A random orthonormal matrix: of the kernel as a matrix (…·inputs, outputs), columns or rows.

    The columns are orthonormal where there are at least as many rows, WᵀW = scale² I, else the rows,
    WWᵀ = scale² I. A deep linear network of such square layers keeps every length and every gradient's. All
    orthonormal matrices are equally likely.

    Args:
        key: the random key.
        shape: of the kernel, (…, inputs, outputs).
        dtype: of the result; the matrix is made in float32 at least.
        scale: of the matrix; √2 in front of a ReLU.

    PyTorch flattens a kernel the same way, with its outputs first.

    Raises:
        ValueError: a shape of one axis, or a scale below 0.

    Source: Saxe, McClelland and Ganguli (2014), "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks".
    """
    fans(shape)
    known_number("scale", scale, at_least=0)
    check_key(key)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    made = jax.nn.initializers.orthogonal()(key, shape, jnp.promote_types(dtype, jnp.float32))
    return (jnp.asarray(scale, made.dtype) * made).astype(dtype)


def delta_orthogonal(
    key: Key, shape: Shape, dtype: DType = float, /, *, scale: Hyperparameter = 1.0
) -> Array:
    """A convolution kernel that is zero but at its centre, where it is orthonormal: H Hᵀ = scale² I.

    With stride 1 and "SAME" padding such a convolution keeps the length of every pixel's vector of channels.
    An `orthogonal` kernel does not: it keeps the lengths of patches.

    Args:
        key: the random key.
        shape: of the kernel of an ungrouped convolution, (…, inputs, outputs); as many outputs or more.
        dtype: of the result; the matrix is made in float32 at least.
        scale: of the matrix; √2 in front of a ReLU.

    Raises:
        ValueError: fewer outputs than inputs.

    Source: Xiao et al. (2018), "Dynamical Isometry and a Mean Field Theory of CNNs".
    """
    fans(shape)
    inputs, outputs = shape[-2:]
    if outputs < inputs:
        raise ValueError(
            f"delta_orthogonal needs at least as many outputs as inputs, and a kernel of shape {shape} has "
            f"{outputs} for {inputs}; use orthogonal"
        )
    centre = tuple((size - 1) // 2 for size in shape[:-2])  # where "SAME" puts the pixel itself
    matrix = orthogonal(key, (inputs, outputs), dtype, scale=scale)
    return jnp.zeros(shape, matrix.dtype).at[centre].set(matrix)


def constant(key: Key, shape: Shape, dtype: DType = float, /, *, value: Hyperparameter = 0.0) -> Array:
    """The same number everywhere.

    As a kernel in front of a hidden layer it makes all units alike, and gradient descent keeps them so.

    Args:
        key: not used.
        shape: of the result.
        dtype: of the result.
        value: the number.
    """
    return jnp.full(shape, known_number("value", value), dtype)


def check_initializer(kernel_init: Any) -> None:
    """Raise TypeError where a layer is given something else, such as an initializer's name."""
    if not callable(kernel_init):
        raise TypeError(f"kernel_init must be a function such as fnn.kaiming, not {kernel_init!r}")


def _scaled(
    key: Key, shape: Shape, dtype: DType, scale: Hyperparameter, mode: Mode, distribution: Distribution
) -> Array:
    known_number("scale", scale, at_least=0)
    fan_in, fan_out = fans(shape)
    choices = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in choices:
        raise ValueError(f"mode must be one of {', '.join(choices)}, not {mode!r}")
    check_key(key)
    deviation = jnp.sqrt(jnp.asarray(scale, float) / choices[mode])
    if distribution == "normal":
        unit = _drawn(partial(jax.random.normal, key, shape), dtype)
    elif distribution == "uniform":
        bound = math.sqrt(3)
        unit = _drawn(partial(jax.random.uniform, key, shape, minval=-bound, maxval=bound), dtype)
    else:
        raise ValueError(f'distribution must be "normal" or "uniform", not {distribution!r}')
    return (deviation * unit).astype(dtype)


def _drawn(draw: Callable[..., Array], dtype: DType) -> Array:
    """Random numbers in float32 at least: in bfloat16 they take 128 values, whose mean is below 0."""
    narrow = jnp.finfo(dtype).bits < 32
    return draw(dtype=jnp.float32 if narrow else dtype)
