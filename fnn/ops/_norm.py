"""Normalisation: by the moments of a batch, or of each example by its own."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from fnn._types import Array, at_least_float32, check_mask


def per_channel(values: Array, ndim: int) -> Array:
    """Reshape (C,) to (1, …, 1, C), so that it broadcasts over everything but channels."""
    return values.reshape((1,) * (ndim - 1) + (-1,))


def _where(mask: Array | None, values: Array) -> Array:
    """Zero for the examples that do not count, whatever they hold."""
    return values if mask is None else jnp.where(mask.reshape((-1,) + (1,) * (values.ndim - 1)), values, 0)


def _channel_sums(x: Array) -> Array:
    """The sum of each channel, (N, …, C) → (C,).

    On CPU the positions of each image are summed by a matrix product with ones, which XLA does up to three
    times as fast as a sum over all axes but the last.
    """

    def by_products(x: Array) -> Array:
        rows = x.reshape(x.shape[0], -1, x.shape[-1])
        ones = jnp.ones((x.shape[0], 1, rows.shape[1]), x.dtype)
        products = lax.dot_general(ones, rows, (((2,), (1,)), ((0,), (0,))), precision=lax.Precision.HIGHEST)
        return products.sum((0, 1))

    return lax.platform_dependent(x, cpu=by_products, default=lambda x: x.sum(tuple(range(x.ndim - 1))))


def batch_moments(x: Array, mask: Array | None = None, /) -> tuple[Array, Array, Array]:
    """Mean and variance of each channel over the examples and, for images, over all positions.

        mean = Σ x / m,   var = Σ (x − mean)² / m

    m counts the values of one channel: the examples of the batch times the positions. The variance is the
    biased one that normalises a batch.

    Sums are taken relative to the first value of each channel and the variance in a second pass, so a
    large mean costs no precision: E[x²] − E[x]² in float32 is wrong from a mean of about 10³ deviations.

    Args:
        x: (N, …, C), at least two axes.
        mask: (N,) of booleans, which examples count; all by default.

    Returns:
        mean (C,), var (C,) and the scalar m, in float32 at least.

    Raises:
        ValueError: a batch without values, or of fewer axes; a mask of another shape or type.
    """
    pivot, shift, variance, count = _moments(x, mask)
    return pivot + shift, variance, count


def _moments(x: Array, mask: Array | None) -> tuple[Array, Array, Array, Array]:
    """The mean as a value of each channel and how far it is from that, then variance and count."""
    if x.ndim < 2:
        raise ValueError(f"the moments of a batch are of (batch, …, channels), got shape {x.shape}")
    if x.size == 0:
        raise ValueError(f"a batch without values has no mean, got shape {x.shape}; leave empty batches out")
    if mask is not None:
        check_mask(mask, x.shape[0])
    x = at_least_float32(x)
    # The first value of each channel, summed out: indexing would gather a batch that is cut over devices.
    first = jnp.arange(x.shape[0]) == (0 if mask is None else jnp.argmax(mask))
    corners = x[(slice(None), *(slice(0, 1),) * (x.ndim - 2))]
    pivot = lax.stop_gradient(_where(first, corners).sum(0, keepdims=True))
    examples = x.shape[0] if mask is None else mask.sum()
    count = jnp.asarray(examples * math.prod(x.shape[1:-1]), x.dtype)

    def mean(values: Array) -> Array:
        return per_channel(_channel_sums(_where(mask, values)) / count, x.ndim)

    offset = x - pivot
    shift = mean(offset)
    variance = mean(jnp.square(offset - shift))
    return pivot.reshape(-1), shift.reshape(-1), variance.reshape(-1), count


def batch_norm(
    x: Array, scale: Array, bias: Array, mean: Array, var: Array, /, *, eps: float = 1e-5
) -> Array:
    """Normalise each channel, then scale and shift it.

        y = scale · (x − mean) / √(var + eps) + bias

    Args:
        x: (N, …, C).
        scale, bias, mean, var: (C,).
        eps: keeps a constant channel finite; inside the root.

    Returns:
        The shape and dtype of `x`; float32 where that is an integer.

    Source: Ioffe and Szegedy (2015), "Batch Normalization", algorithm 1.
    """
    factor = scale * lax.rsqrt(var + eps)
    y = (x - per_channel(mean, x.ndim)) * per_channel(factor, x.ndim) + per_channel(bias, x.ndim)
    return _in_dtype_of(y, x)


def batch_norm_train(
    x: Array, scale: Array, bias: Array, mask: Array | None = None, /, *, eps: float = 1e-5
) -> tuple[Array, Array, Array, Array]:
    """Normalise a batch by its own moments: `batch_moments`, then `batch_norm`, with one gradient for both.

        x̂ = (x − E[x]) / √(Var[x] + eps),   y = γ x̂ + β
        ∂L/∂β = Σ ∂L/∂y,   ∂L/∂γ = Σ ∂L/∂y · x̂
        ∂L/∂x = γ / √(Var[x] + eps) · (∂L/∂y − (∂L/∂β + x̂ · ∂L/∂γ) / m)
        ∂L/∂eps = −½ Σ_C γ / (Var[x] + eps) · ∂L/∂γ

    Written out so, the gradient takes two passes over the batch; differentiating the moments step by step
    takes many more (five times the time on CPU).

    Args:
        x: (N, …, C).
        scale, bias: γ and β, (C,).
        mask: (N,) of booleans, which examples count in the moments; all by default.
        eps: keeps a constant channel finite; inside the root. It may be traced.

    Returns:
        y, and mean (C,), var (C,) and m of `batch_moments` for running averages: no gradient flows through
        these three. Differentiable in reverse mode, any number of times.

    Source: Ioffe and Szegedy (2015), "Batch Normalization", section 3.
    """
    return _normalised(x, scale, bias, mask, eps)


@jax.custom_vjp
def _normalised(
    x: Array, scale: Array, bias: Array, mask: Array | None, eps: float
) -> tuple[Array, Array, Array, Array]:
    return _forward(x, scale, bias, mask, eps)[0]


def _forward(
    x: Array, scale: Array, bias: Array, mask: Array | None, eps: float
) -> tuple[tuple[Array, Array, Array, Array], tuple]:
    # Not by `_normalised`, which lets no gradient through the moments: a second derivative needs it.
    pivot, shift, var, count = _moments(x, mask)
    # Relative to the pivot: the mean itself, rounded, may be a good part of a deviation off.
    y = _in_dtype_of(batch_norm(x - per_channel(pivot, x.ndim), scale, bias, shift, var, eps=eps), x)
    return (y, pivot + shift, var, count), (x, scale, bias, mask, eps, pivot, shift, var, count)


def _backward(inputs: tuple, cotangents: tuple[Array, Array, Array, Array]) -> tuple:
    x, scale, bias, mask, eps, pivot, shift, var, count = inputs
    dy = cotangents[0].astype(var.dtype)
    root = lax.rsqrt(var + eps)
    normal = (x - per_channel(pivot, x.ndim) - per_channel(shift, x.ndim)) * per_channel(root, x.ndim)
    d_bias, d_scale = _channel_sums(dy), _channel_sums(dy * normal)
    through_moments = per_channel(d_bias / count, x.ndim) + normal * per_channel(d_scale / count, x.ndim)
    dx = per_channel(scale * root, x.ndim) * (dy - _where(mask, through_moments))
    d_eps = -(scale * root**2 * d_scale).sum() / 2
    of_params = d_scale.astype(scale.dtype), d_bias.astype(bias.dtype)
    return dx.astype(x.dtype), *of_params, None, d_eps.astype(jnp.result_type(eps))


_normalised.defvjp(_forward, _backward)


def layer_norm(x: Array, scale: Array, bias: Array, /, *, eps: float = 1e-5) -> Array:
    """Normalise the channels at each position of each example, then scale and shift them.

        y = scale · (x − mean) / √(var + eps) + bias, with moments over the last axis

    Args:
        x: (N, …, C).
        scale, bias: (C,).
        eps: keeps constant values finite; inside the root.

    Returns:
        The shape and dtype of `x`; float32 where that is an integer.

    Raises:
        ValueError: one channel; scale or bias of another shape.

    Source: Ba, Kiros and Hinton (2016), "Layer Normalization".
    """
    _check_several(x.shape[-1], x, "batch_norm")
    return _in_dtype_of(_scaled(_standardized(x, (x.ndim - 1,), eps), scale, bias), x)


def group_norm(x: Array, scale: Array, bias: Array, /, groups: int, *, eps: float = 1e-5) -> Array:
    """Normalise each group of channels of each example over all positions, then scale and shift each channel.

    Args:
        x: (N, …, C), any number of spatial axes.
        scale, bias: (C,).
        groups: into how many groups of neighbouring channels they fall; 1 takes all values of an example
            together, C each feature map by itself (instance normalisation).
        eps: keeps constant values finite; inside the root.

    Returns:
        The shape and dtype of `x`; float32 where that is an integer.

    Raises:
        ValueError: groups that do not divide the channels, or of one value each; scale or bias of another
            shape.

    Source: Wu and He (2018), "Group Normalization".
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide the {channels} channels, {groups} does not")
    _check_several(math.prod(x.shape[1:]) // groups, x, "layer_norm, or group_norm with fewer groups")
    parts = x.reshape(*x.shape[:-1], groups, channels // groups)
    y = _standardized(parts, (*range(1, x.ndim - 1), x.ndim), eps).reshape(x.shape)
    return _in_dtype_of(_scaled(y, scale, bias), x)


def _standardized(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """(x − mean) / √(var + eps) over some axes, in float32 at least.

    The mean is taken off twice: the first time it is exact only to the precision of x, however far that is
    from 0.
    """
    x = at_least_float32(x)
    offset = x - lax.stop_gradient(x.mean(axes, keepdims=True))
    offset -= offset.mean(axes, keepdims=True)
    return offset * lax.rsqrt(jnp.square(offset).mean(axes, keepdims=True) + eps)


def _check_several(values: int, x: Array, instead: str) -> None:
    """Raise ValueError where each mean is that of one value."""
    if values == 1:
        raise ValueError(
            f"there is one value for each mean, so all would become 0; got an input of shape {x.shape}: "
            f"take {instead}"
        )


def _scaled(x: Array, scale: Array, bias: Array) -> Array:
    if not scale.shape == bias.shape == x.shape[-1:]:
        raise ValueError(
            f"scale and bias must have shape {x.shape[-1:]}, one number for each channel, not {scale.shape} "
            f"and {bias.shape}"
        )
    return x * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)


def _in_dtype_of(y: Array, x: Array) -> Array:
    """y in the dtype of x, if it is one that can hold what is between 0 and 1."""
    return y.astype(jnp.result_type(x.dtype, float))
