"""A network as a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from fnn._tree import at_path
from fnn._types import Params
from fnn.nn._intermediates import intermediates
from fnn.nn._layer import LayerLike, as_layer, as_shape, walk


class Row(NamedTuple):
    """One layer of a network."""

    path: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    bytes: int


class Summary(NamedTuple):
    """The layers of a network in its order; prints as a table."""

    input: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the network learns."""
        return sum(row.parameters for row in self.rows)

    @property
    def bytes(self) -> int:
        """How much memory they take."""
        return sum(row.bytes for row in self.rows)

    def __str__(self) -> str:
        """Columns of path, kind, output shape, parameters and bytes, and a last line with the totals."""
        lines = [
            ("layer", "kind", "output", "parameters", "bytes"),
            ("input", "", _shape(self.input), "", ""),
        ]
        lines += [
            (row.path or row.kind, row.kind, _shape(row.output), f"{row.parameters:,}", f"{row.bytes:,}")
            for row in self.rows
        ]
        lines.append(("total", "", "", f"{self.parameters:,}", f"{self.bytes:,}"))
        widths = [max(len(line[column]) for line in lines) for column in range(5)]
        aligned = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, aligned))
        return "\n".join([aligned[0], rule, *aligned[1:-1], rule, aligned[-1]])


def summary(net: LayerLike, x: Any, /) -> Summary:
    """Each layer's output shape, number of parameters and bytes, in network order.

    Args:
        net: a layer.
        x: an input with its batch axis, an array or a `jax.ShapeDtypeStruct`; nothing is computed.

    >>> import fnn, jax
    >>> print(summary(fnn.mlp((32,), 10), jax.ShapeDtypeStruct((1, 64), "float32")))
    layer     kind    output  parameters  bytes
    -------------------------------------------
    input             1×64
    linear_1  linear  1×32         2,080  8,320
    relu_1    relu    1×32             0      0
    linear_2  linear  1×10           330  1,320
    -------------------------------------------
    total                          2,410  9,640
    """
    net, x = as_layer(net), as_shape(x)
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    outputs = jax.eval_shape(lambda *arguments: intermediates(net, *arguments), params, state, x)
    return Summary(
        x.shape,
        tuple(
            _row(path, layer.kind, outputs[path].shape, at_path(params, path)) for path, layer in walk(net)
        ),
    )


def _row(path: str, kind: str, output: tuple[int, ...], params: Params) -> Row:
    leaves = jax.tree.leaves(params)
    count = sum(leaf.size for leaf in leaves)
    return Row(path, kind, output, count, sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
