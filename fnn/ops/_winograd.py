"""Convolution on CPU by Winograd's algorithm: 16 multiplications where a sum over 3×3 pixels needs 36.

In one dimension, two outputs of a kernel g of three over four neighbouring inputs d take four products:

    y = Aᵀ [(G g) ⊙ (Bᵀ d)]

        | 1  0 −1  0 |        | 1   0   0 |
    Bᵀ =| 0  1  1  0 |     G =| ½   ½   ½ |     Aᵀ =| 1  1  1  0 |
        | 0 −1  1  0 |        | ½  −½   ½ |         | 0  1 −1 −1 |
        | 0  1  0 −1 |        | 0   0   1 |

In two, tiles of 4×4 inputs make 2×2 outputs, with the same matrices along both axes: y = Aᵀ [Ĝ ⊙ D̂] A.
Each of the 16 products is, over channels, a matrix product of all tiles with Ĝ at that place, and the
gradient of the kernel is the same steps backwards. In float32 the error is that of the plain sum (measured:
1e-6 of the largest value). F(4×4, 3×3) multiplies less still, but is ten times less exact, and XLA is slow at
its transforms.

Source: Lavin and Gray (2016), "Fast Algorithms for Convolutional Neural Networks", F(2×2, 3×3).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn._types import Array
from fnn.ops._blocks import Form
from fnn.ops._window import Window

_A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])
_B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]])
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

Grid = list[list[Array]]
"""Arrays of one shape in rows and columns."""


def pays(x: Array, kernel: Array, window: Window, *, fewest_channels: int) -> bool:
    """Whether this is the way to convolve: 3×3, stride 1, no groups, channels enough on both sides."""
    plain = window.size == (3, 3) and max(*window.stride, *window.dilation) == 1
    channels, features = kernel.shape[-2:]
    return plain and channels == x.shape[-1] and min(channels, features) >= fewest_channels


def _product(x: Array, planes: Array, window: Window) -> Array:
    """A convolution of images (N, H, W, C) with a transformed kernel (16, C, O)."""
    height, width = window.outputs(x.shape[1:3])
    products = _product_of_planes(_transformed_inputs(x, window), planes, 2, 1)
    products = products.reshape(16, x.shape[0], _half(height), _half(width), products.shape[-1])
    tiles = _along_both_axes(_A.T, [[products[4 * i + j] for j in range(4)] for i in range(4)])
    y = jnp.stack([jnp.stack(row, axis=3) for row in tiles], axis=2)
    y = y.reshape(x.shape[0], 2 * _half(height), 2 * _half(width), y.shape[-1])
    return y[:, :height, :width]


def _kernel_gradient(x: Array, dy: Array, planes: Array, window: Window) -> Array:
    """∂L/∂Ĝ = Σ D̂ᵀ (A dy Aᵀ) over all tiles."""
    return _product_of_planes(_transformed_inputs(x, window), _transformed_gradients(dy), 1, 1)


def _product_of_planes(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
    """16 matrix products, summed over an axis of each."""
    return lax.dot_general(a, b, (((a_axis,), (b_axis,)), ((0,), (0,))))


def _transformed_inputs(x: Array, window: Window) -> Array:
    """Bᵀ d B of every tile d of 4×4 pixels, (16, tiles, C). Neighbours lie two pixels apart and overlap."""
    tiles = [_half(n) for n in window.outputs(x.shape[1:3])]
    return _flat(_along_both_axes(_B.T, _every_second(x, [lo for lo, _ in window.padding], tiles, 4)))


def _transformed_gradients(dy: Array) -> Array:
    """A dy Aᵀ of every tile of 2×2 outputs, (16, tiles, O)."""
    return _flat(_along_both_axes(_A, _every_second(dy, [0, 0], [_half(n) for n in dy.shape[1:3]], 2)))


def _transformed_kernel(kernel: Array) -> Array:
    """G g Gᵀ, (3, 3, C, O) → (16, C, O)."""
    both_axes = jnp.asarray(np.kron(_G, _G), kernel.dtype)
    return jnp.tensordot(both_axes, kernel.reshape(9, *kernel.shape[2:]), axes=1)


def _along_both_axes(matrix: np.ndarray, grid: Sequence[Sequence[Array]]) -> Grid:
    """M X Mᵀ for a grid X of arrays."""
    rows = [_combined(matrix, row) for row in grid]
    columns = [_combined(matrix, column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _combined(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """M x for a list x of arrays and a matrix of 0, 1 and −1; zeros cost nothing."""
    signed = [[part if m > 0 else -part for m, part in zip(row, parts, strict=True) if m] for row in matrix]
    return [sum(terms[1:], start=terms[0]) for terms in signed]


def _every_second(x: Array, before: list[int], tiles: list[int], size: int) -> Grid:
    """The pixel in each place of all tiles of size×size, which start at every second pixel."""
    reach = [2 * n + size - 2 for n in tiles]
    pads = [(lo, r - n - lo, 0) for lo, r, n in zip(before, reach, x.shape[1:3], strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    rows, columns = (2 * n - 1 for n in tiles)
    return [[x[:, i : i + rows : 2, j : j + columns : 2] for j in range(size)] for i in range(size)]


def _flat(grid: Grid) -> Array:
    """16 arrays (N, rows, columns, C) as one (16, N·rows·columns, C).

    Row by row, because XLA fuses four parts into what reads them, but writes sixteen to memory first.
    """
    rows = jnp.stack([jnp.stack(row) for row in grid])
    return rows.reshape(16, -1, rows.shape[-1])


def _half(n: int) -> int:
    return -(-n // 2)


def _image_numbers(x: Array, kernel: Array, window: Window) -> int:
    """Those of the transformed tiles, of inputs and of outputs."""
    height, width = window.outputs(x.shape[1:3])
    return 16 * _half(height) * _half(width) * sum(kernel.shape[2:])


WINOGRAD = Form(_product, _kernel_gradient, _image_numbers, block_bytes=8 << 20, prepared=_transformed_kernel)
