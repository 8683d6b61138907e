"""Lower precision where it pays, float32 where it matters."""

from __future__ import annotations

from typing import Any, Literal

import jax

from fnn._types import Array, Key, Params, State
from fnn.nn._layer import Children, Layer, LayerLike, serial

Precision = Literal["float32", "bfloat16"]


def mixed_precision(
    *layers: LayerLike,
    params: Precision = "float32",
    compute: Precision = "bfloat16",
    output: Precision = "float32",
    name: str | None = None,
) -> Layer:
    """Layers in series that compute in another precision than their parameters are kept in.

    Parameters, and so gradients and the optimizer's state, stay in float32: an update of a thousandth of a
    weight is lost in the 8 bits of bfloat16's mantissa. They are rounded to `compute` in each call, and the
    outputs come back in `output`, so that the loss is summed in float32. Batch norm's statistics are in
    float32 whatever comes in. bfloat16 has the range of float32, so gradients need no scaling.

    It is made for GPUs and TPUs, which multiply bfloat16 several times faster; most CPUs do not.

    Args:
        layers: as in `serial`.
        params: what `init` makes.
        compute: what the layers see, inputs and parameters.
        output: what comes out.
        name: in place of mixed_precision_1, mixed_precision_2, …

    Raises:
        ValueError: a precision that is not one of these.

    Source: Micikevicius et al. (2018), "Mixed Precision Training"; Kalamkar et al. (2019), "A Study of
    BFLOAT16 for Deep Learning Training".

    >>> import jax, jax.numpy as jnp, fnn
    >>> net = mixed_precision(fnn.linear(10))
    >>> params, state = net.init(jax.random.key(0), jnp.ones((2, 3)))
    >>> y, _ = net.apply(params, state, jnp.ones((2, 3)))
    >>> print(params["linear_1"]["kernel"].dtype, y.dtype)
    float32 float32
    """
    for setting, value in {"params": params, "compute": compute, "output": output}.items():
        if value not in ("float32", "bfloat16"):
            raise ValueError(f'{setting} must be "float32" or "bfloat16", not {value!r}')
    return _wrapped(serial(*layers), params, compute, output, name)


def _wrapped(
    inner: Layer, stored: Precision, compute: Precision, output: Precision, name: str | None
) -> Layer:
    def init(key: Key, x: Any) -> tuple[Params, State]:
        return inner.init(key, jax.ShapeDtypeStruct(x.shape, stored))

    def apply(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
        rounded = jax.tree.map(lambda leaf: leaf.astype(compute), params)
        y, state = inner.apply(rounded, state, x.astype(compute), **context)
        return y.astype(output), state

    def rebuild(children: Children) -> Layer:
        assert inner.rebuild is not None
        return _wrapped(inner.rebuild(children), stored, compute, output, name)

    return Layer("mixed_precision", init, apply, name, inner.children, rebuild)
