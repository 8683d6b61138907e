"""Convolution, its transpose and its relative without shared kernels, lowered for each platform."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from fnn._types import Array, check_channels
from fnn.ops import _library
from fnn.ops._on_cpu import on_cpu
from fnn.ops._window import (
    Padding,
    Sizes,
    Window,
    explicit_pads,
    per_axis,
    sliding_window,
    spatial_axes,
    windows,
)


def conv(
    x: Array,
    kernel: Array,
    /,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """Convolve images with a bank of kernels (cross-correlation: kernels are not flipped).

        y[n, i, j, o] = Σ_{a, b, c} x[n, i·s + a·d − top, j·s + b·d − left, c] · kernel[a, b, c, o]

    and so for any number of spatial axes: sequences (N, L, Cin), images, volumes (N, D, H, W, Cin).

    Args:
        x: images (N, …, Cin).
        kernel: (…, Cin / groups, Cout) with as many axes as `x`; output channel o sees the group
            o // (Cout / groups).
        stride, dilation: one integer, or one for each spatial axis.
        padding: see `Padding`; zeros are added.
        groups: into how many independent parts the channels fall; Cin makes it depthwise.

    Returns:
        (N, …, Cout); an axis of N pixels and a kernel of F give ⌊(N + lo + hi − d(F − 1) − 1) / s⌋ + 1.

    GPU and TPU use their libraries' convolutions. On CPU this is XLA's where it is fast, which its gradients
    never are inside `scan`: those are written as convolutions that it is fast at, or as matrix products.
    Differentiable in reverse mode, any number of times, but not in forward mode.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: integers for both images and kernels.
    """
    _check_rank(x, kernel)
    window = sliding_window(x, kernel.shape[:-2], stride, padding, dilation, name="kernel")
    channels, per_group, features = x.shape[-1], *kernel.shape[-2:]
    if not channels or not features:
        raise ValueError(
            "a convolution needs channels and features, got an input of shape "
            f"{x.shape} and a kernel of shape {kernel.shape}"
        )
    if groups == 1:
        check_channels(x, per_group)
    if channels != per_group * groups or features % groups:
        raise ValueError(
            f"{groups} group(s) of {per_group} channels and {features} features do not fit an input of "
            f"{channels} channels: groups must divide both"
        )
    dtype = _floating_dtype(x, kernel)
    return _on_any_platform(x.astype(dtype), kernel.astype(dtype), window)


@partial(jax.jit, static_argnums=2)  # layers of the same shape are traced once, in every program
def _on_any_platform(x: Array, kernel: Array, window: Window) -> Array:
    """The convolution of the platform that the program is lowered for."""
    on_each = _on_each_device(partial(on_cpu, window=window), x.shape[0])
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def widened(x: Array, kernel: Array) -> Array:
        """Sums of products need more than 8 bits; so do sums over devices, at which XLA aborts in 16."""
        return on_each(x.astype(wide), kernel.astype(wide)).astype(x.dtype)

    return lax.platform_dependent(x, kernel, cpu=widened, default=partial(_library.product, window=window))


def conv_transpose(
    x: Array,
    kernel: Array,
    /,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
) -> Array:
    """The transpose of `conv`: its gradient with respect to its input, which maps small images to large ones.

        y[n, p, o] = Σ_{m, a, c: m·s + a·d − lo = p} x[n, m, c] · kernel[a, c, o]

    That is what `jax.vjp` of `conv(y, kernelᵀ)` with the same stride, padding and dilation sends back for a
    cotangent x, kernelᵀ having the last two axes exchanged. With a stride, inputs of several sizes have
    outputs of one size; the size of y, from M pixels and a kernel that covers E = d(F − 1) + 1, is

        "SAME": M·s,   "VALID": (M − 1)·s + E,   explicit (lo, hi): (M − 1)·s + E − lo − hi

    PyTorch's ConvTranspose with `padding=p, output_padding=q` is, where q ≤ p, `padding=(p, p − q)` on each
    axis, its weight (Cin, Cout, …) moved to (…, Cin, Cout). `lax.conv_transpose` and Flax do not flip the
    kernel: theirs is this one with the kernel reversed along its spatial axes, and with "VALID" it is larger
    where s > E, M·s.

    Args:
        x: images (N, …, Cin).
        kernel: (…, Cin, Cout), as many axes as `x`.
        stride: how many output pixels lie between neighbouring input pixels; an integer, or one per axis.
        padding: of the convolution that this is the transpose of: it cuts pixels off the output.
        dilation: distance between neighbouring output pixels that one input pixel adds to.

    Returns:
        (N, …, Cout).

    The output consists of s interleaved ones along each axis, and each is a convolution of x with every
    s-th element of the kernel: one `conv` makes them all. Differentiable as `conv` is.

    Raises:
        ValueError: shapes that do not fit; padding that cuts off everything.
        TypeError: integers for both images and kernels.
    """
    _check_rank(x, kernel)
    axes, sizes = spatial_axes(x), x.shape[1:-1]
    if kernel.shape[-2] != x.shape[-1]:
        raise ValueError(
            f"a kernel of shape {kernel.shape} does not fit an input of {x.shape[-1]} channels: its last but "
            "one axis is the channels of the input"
        )
    strides, dilations = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    window = Window(kernel.shape[:-2], strides, dilations, ())
    word = padding if isinstance(padding, str) else ""
    if word == "SAME":
        wanted = tuple(m * s for m, s in zip(sizes, strides, strict=True))
        excess = [max(k - s, 0) for k, s in zip(window.extent, strides, strict=True)]
        cut = tuple(total // 2 for total in excess)
    else:
        pads = explicit_pads(0 if word == "VALID" else padding, axes)
        full = [(m - 1) * s + k for m, s, k in zip(sizes, strides, window.extent, strict=True)]
        wanted = tuple(n - lo - hi for n, (lo, hi) in zip(full, pads, strict=True))
        cut = tuple(lo for lo, _ in pads)
        if min(wanted) < 1:
            raise ValueError(f"the padding {padding} cuts off all of an output of size {tuple(full)}")
    phases = jnp.flip(_phases(_spread(kernel, dilations), strides), tuple(range(axes)))
    y = interleaved(conv(x, phases, padding=tuple((k - 1, k - 1) for k in phases.shape[:axes])), strides)
    return y[(slice(None), *(slice(lo, lo + n) for lo, n in zip(cut, wanted, strict=True)))]


def locally_connected(x: Array, kernel: Array, /, *, stride: Sizes = 1, padding: Padding = "VALID") -> Array:
    """A convolution whose kernel differs from place to place: connections are local, weights not shared.

        y[n, i, j, o] = Σ_{a, b, c} x[n, i·s + a − top, j·s + b − left, c] · kernel[i, j, a, b, c, o]

    Args:
        x: images (N, …, Cin).
        kernel: a kernel (…, Cin, Cout) for each place, (…, …, Cin, Cout): output axes, then window axes.
        stride: one integer, or one for each spatial axis.
        padding: see `Padding`; zeros are added.

    Returns:
        (N, …, Cout), of the size that `conv` has.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: integers for both images and kernels.
    """
    axes = spatial_axes(x)
    window = sliding_window(x, kernel.shape[axes : 2 * axes], stride, padding, name="kernel")
    places, features = window.outputs(x.shape[1:-1]), kernel.shape[-1]
    if kernel.shape != (*places, *window.size, x.shape[-1], features):
        raise ValueError(
            f"expected a kernel of shape {(*places, *window.size, x.shape[-1])} and features, a kernel for "
            f"each place of the output, got shape {kernel.shape}"
        )
    views = windows(x.astype(_floating_dtype(x, kernel)), window)
    views = views.reshape(x.shape[0], math.prod(places), views.shape[-1])
    y = jnp.einsum("npc,pcf->npf", views, kernel.reshape(*views.shape[1:], features))
    return y.reshape(x.shape[0], *places, features)


def _floating_dtype(x: Array, kernel: Array) -> jnp.dtype:
    """That of the products; sums of integers would be rounded or overflow, by platform."""
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"a convolution takes floating-point images or kernels, not {x.dtype} and {kernel.dtype}; "
            "convert them, x.astype(jnp.float32)"
        )
    return dtype


def _check_rank(x: Array, kernel: Array) -> None:
    if kernel.ndim != x.ndim and spatial_axes(x):
        way_out = "; x[None] makes a batch of a single example" if kernel.ndim == x.ndim + 1 else ""
        raise ValueError(
            f"a kernel of shape {kernel.shape} does not fit an input of shape {x.shape}: it has one window "
            f"axis for each spatial axis of the input, then channels and features{way_out}"
        )


def _spread(kernel: Array, dilations: tuple[int, ...]) -> Array:
    """A kernel with its zeros between the elements of a dilated one written out."""
    gaps = [(0, 0, d - 1) for d in dilations]
    return lax.pad(kernel, jnp.zeros((), kernel.dtype), [*gaps, (0, 0, 0), (0, 0, 0)])


def _phases(kernel: Array, strides: tuple[int, ...]) -> Array:
    """Every s-th element of a kernel along each axis, from each of the first s on, as features.

    (…, Cin, Cout) → (…, Cin, s₁·s₂·…·Cout), the window s times smaller; filled up with zeros.
    """
    axes, (*size, channels, features) = len(strides), kernel.shape
    counts = [-(-k // s) for k, s in zip(size, strides, strict=True)]
    fill = [(0, n * s - k) for n, s, k in zip(counts, strides, size, strict=True)]
    kernel = jnp.pad(kernel, [*fill, (0, 0), (0, 0)])
    split = [n for both in zip(counts, strides, strict=True) for n in both]
    kernel = kernel.reshape(*split, channels, features)
    windows, steps = range(0, 2 * axes, 2), range(1, 2 * axes, 2)
    kernel = kernel.transpose(*windows, 2 * axes, *steps, 2 * axes + 1)
    return kernel.reshape(*counts, channels, math.prod(strides) * features)


def interleaved(y: Array, strides: tuple[int, ...]) -> Array:
    """Images (N, …, s₁·s₂·…·Cout) as ones s times larger along each axis, (N, …, Cout)."""
    axes, (n, *sizes, channels) = len(strides), y.shape
    features = channels // math.prod(strides)
    order = [axis for i in range(axes) for axis in (1 + i, 1 + axes + i)]
    y = y.reshape(n, *sizes, *strides, features).transpose(0, *order, 2 * axes + 1)
    return y.reshape(n, *(k * s for k, s in zip(sizes, strides, strict=True)), features)


Convolution = Callable[[Array, Array], Array]


def _on_each_device(function: Convolution, images: int) -> Convolution:
    """Let each device of the current mesh convolve its own part of the batch.

    Left to XLA, the loop over blocks of images would run over the whole batch on every device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    parts = mesh.shape.get("data", 1)
    if parts == 1 or images % parts or "data" in mesh.manual_axes:  # it has its own part already
        return function
    cut, whole = PartitionSpec("data"), PartitionSpec()
    return jax.shard_map(function, in_specs=(cut, whole), out_specs=cut, axis_names={"data"}, check_vma=False)
