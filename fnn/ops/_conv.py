"""Convolution, lowered for each platform."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from fnn._types import Array
from fnn.ops._window import Padding, Pair, Window, shifted, sliding_window


def conv(
    x: Array,
    kernel: Array,
    /,
    *,
    stride: int | Pair = 1,
    padding: Padding = "SAME",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Array:
    """Convolve images with a bank of kernels (cross-correlation: kernels are not flipped).

        y[n, i, j, o] = Σ_{a, b, c} x[n, i·s + a·d − top, j·s + b·d − left, c] · kernel[a, b, c, o]

    Args:
        x: images (N, H, W, Cin).
        kernel: (kh, kw, Cin / groups, Cout); output channel o sees the group o // (Cout / groups).
        stride, dilation: one integer, or one each for height and width.
        padding: see `Padding`; zeros are added.
        groups: into how many independent parts the channels fall; Cin makes it depthwise.

    Returns:
        (N, Ho, Wo, Cout), Ho = ⌊(H + top + bottom − d(kh − 1) − 1) / s⌋ + 1.

    On CPU this is a matrix product over the shifted images ("im2col"), and so are its gradients: XLA's own
    gradient convolutions fall onto a naive loop there inside `scan`. GPU and TPU use their libraries'
    convolutions. Differentiable in reverse mode, any number of times, but not in forward mode.

    Raises:
        ValueError: shapes that do not fit.
    """
    window = sliding_window(x, kernel.shape[:2], stride, padding, dilation, name="kernel")
    channels, per_group, features = x.shape[-1], *kernel.shape[2:]
    if channels != per_group * groups or features % groups:
        raise ValueError(
            f"{groups} group(s) of {per_group} channels and {features} features do not fit an input of "
            f"{channels} channels: groups must divide both"
        )
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    return lax.platform_dependent(
        x.astype(dtype),
        kernel.astype(dtype),
        cpu=_on_each_device(lambda x, kernel: _as_matmul(x, kernel, window, groups), x.shape[0]),
        default=partial(_as_library_call, window=window, groups=groups),
    )


Convolution = Callable[[Array, Array], Array]


def _on_each_device(function: Convolution, images: int) -> Convolution:
    """Let each device of the current mesh convolve its own part of the batch.

    Left to XLA, the loop over blocks of images would run over the whole batch on every device.
    """
    parts = jax.sharding.get_abstract_mesh().shape.get("data", 1)
    if parts == 1 or images % parts:
        return function
    cut, whole = PartitionSpec("data"), PartitionSpec()
    return jax.shard_map(function, in_specs=(cut, whole), out_specs=cut, axis_names={"data"}, check_vma=False)


def _product(x: Array, kernel: Array, window: Window, groups: int) -> Array:
    """The shifted images side by side, times the kernel as one matrix."""
    kh, kw, per_group, features = kernel.shape
    views = shifted(x, window)
    if groups == 1:
        return jnp.concatenate(views, axis=-1) @ kernel.reshape(-1, features)
    n, height, width, _ = views[0].shape
    patches = jnp.stack(views, axis=3).reshape(n, height, width, kh * kw, groups, per_group)
    kernels = kernel.reshape(kh * kw, per_group, groups, features // groups)
    y = jnp.einsum("nhwkgc,kcgf->nhwgf", patches, kernels)
    return y.reshape(n, height, width, features)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _as_matmul(x: Array, kernel: Array, window: Window, groups: int) -> Array:
    (y,) = _in_blocks(lambda x: (_product(x, kernel, window, groups),), kernel, x)
    return y


def _forward(x: Array, kernel: Array, window: Window, groups: int) -> tuple[Array, tuple[Array, Array]]:
    return _as_matmul(x, kernel, window, groups), (x, kernel)


def _backward(window: Window, groups: int, inputs: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """Gradients for the input and the kernel.

    With stride 1 that of the input is again a convolution, of dy with the flipped kernel whose channels
    and features are exchanged.
    """
    x, kernel = inputs
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)

    def block(x: Array, dy: Array) -> tuple[Array, Array]:
        _, for_kernel = jax.vjp(lambda kernel: _product(x, kernel, window, groups), kernel)
        if groups == 1 and window.stride == (1, 1):
            dx = _product(dy, flipped, _reversed(window), groups)
        else:
            (dx,) = jax.vjp(lambda x: _product(x, kernel, window, groups), x)[1](dy)
        return dx, for_kernel(dy)[0][None]

    dx, d_kernels = _in_blocks(block, kernel, x, dy)
    return dx, d_kernels.sum(0)


_BLOCK_BYTES = 4 << 20  # shifted images that stay in the cache of a core until they are multiplied


def _in_blocks(
    function: Callable[..., tuple[Array, ...]], kernel: Array, *batches: Array
) -> tuple[Array, ...]:
    """Apply a function to a few images at a time and join what it returns along the first axis."""
    n = batches[0].shape[0]
    pixels = max(math.prod(batch.shape[1:3]) for batch in batches)
    image = (
        pixels
        * math.prod(kernel.shape[:2])
        * max(batch.shape[-1] for batch in batches)
        * kernel.dtype.itemsize
    )
    size = max(1, _BLOCK_BYTES // image)
    if size >= n:
        return function(*batches)
    blocks = -(-n // size)
    size = -(-n // blocks)
    padding = blocks * size - n  # images of zeros, which add nothing

    def cut(batch: Array) -> Array:
        batch = jnp.pad(batch, ((0, padding), (0, 0), (0, 0), (0, 0))) if padding else batch
        return batch.reshape(blocks, size, *batch.shape[1:])

    results = lax.map(lambda block: function(*block), tuple(map(cut, batches)))
    joined = (result.reshape(-1, *result.shape[2:]) for result in results)
    return tuple(result[:n] if result.shape[0] == blocks * size else result for result in joined)


def _reversed(window: Window) -> Window:
    """The window through which the outputs of a window of stride 1 see its inputs."""
    reach = [(k - 1) * d for k, d in zip(window.size, window.dilation, strict=True)]
    padding = tuple((r - lo, r - hi) for r, (lo, hi) in zip(reach, window.padding, strict=True))
    return window._replace(padding=padding)


_as_matmul.defvjp(_forward, _backward)


def _as_library_call(x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
