"""Layer-sequential unit variance: initial values that look at the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import lax

from fnn._tree import fold_name
from fnn._types import Array, Key, Params, State, check_range
from fnn.nn._layer import Layer, LayerLike, as_layer
from fnn.nn.initializers import orthogonal


def lsuv(
    net: LayerLike,
    params: Params,
    state: State,
    x: Array,
    /,
    *,
    key: Key | None = None,
    tolerance: float = 0.01,
    max_iterations: int = 10,
) -> Params:
    """Scale the kernel of one layer after the other, until the output of each has variance 1 on a batch.

        while |Var(y) − 1| ≥ tolerance:  W ← W / √Var(y)

    Var is that of all values of the layer's output together. A layer is scaled when all before it are, in
    evaluation: dropout is off, batch normalisation takes its running statistics. Only leaves named `kernel`
    change; with biases of 0 one division is enough. Works for every activation, where `kaiming` is derived
    for one.

    Args:
        net: the network.
        params: of the network.
        state: of the network.
        x: a batch of training data, some hundred examples.
        key: draws the orthonormal kernels (`orthogonal`) that the paper starts from. Without it the kernels
            of `params` are the start.
        tolerance: of the variance, above 0.
        max_iterations: how often one kernel is divided at most.

    Returns:
        The new parameters. A kernel whose output is constant, all zero say, is left as it is.

    Source: Mishkin and Matas (2016), "All you need is a good init".

    >>> import fnn, jax
    >>> net, x = fnn.mlp((50,), 10, fnn.tanh), jax.random.uniform(jax.random.key(0), (200, 30))
    >>> params, state = net.init(jax.random.key(1), x)
    >>> params = fnn.lsuv(net, params, state, x, key=jax.random.key(2))
    >>> y = fnn.intermediates(net, params, state, x)
    >>> [round(float(y[name].var()), 2) for name in ("linear_1", "linear_2")]
    [1.0, 1.0]
    """
    check_range("tolerance", tolerance, above=0)
    check_range("max_iterations", max_iterations, at_least=1)
    if key is not None:
        params = _orthonormal(params, key)

    def scaled(layer: Layer, params: Params, state: State, x: Array) -> tuple[Array, Params]:
        """The output and the parameters of one layer, whose input is settled."""

        def output(kernel: Array) -> Array:
            return layer.apply({**params, "kernel": kernel}, state, x)[0]

        def goes_on(carry: tuple[Array, Array, Array]) -> Array:
            _, y, count = carry
            return (jnp.abs(_variance(y) - 1) >= tolerance) & (_variance(y) > 0) & (count < max_iterations)

        def divide(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            kernel, y, count = carry
            kernel = (kernel / jnp.sqrt(_variance(y))).astype(kernel.dtype)
            return kernel, output(kernel), count + 1

        start = (params["kernel"], output(params["kernel"]), jnp.zeros((), jnp.int32))
        kernel, y, _ = lax.while_loop(goes_on, divide, start)
        return y, {**params, "kernel": kernel}

    def settling(net: Layer) -> Layer:
        """The same network, whose layers scale their kernels first and hand them out as state."""
        if net.children and net.rebuild is not None:
            return net.rebuild(tuple((name, settling(child)) for name, child in net.children))

        def apply(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
            if "kernel" in params:
                y, params = scaled(net, params, state, x)
            else:
                y, _ = net.apply(params, state, x, **context)
            return y, {_PARAMS: params}

        return replace(net, apply=apply)

    _, settled = settling(as_layer(net)).apply(params, state, x)
    return _collected(settled)


_PARAMS = ""  # no layer can have this name


def _variance(y: Array) -> Array:
    return jnp.var(y.astype(jnp.promote_types(y.dtype, jnp.float32)))


def _collected(settled: Any) -> Params:
    """The parameters that the layers handed out, layers without parameters left out."""
    if _PARAMS in settled:
        return settled[_PARAMS]
    params = {name: _collected(child) for name, child in settled.items()}
    return {name: child for name, child in params.items() if child}


def _orthonormal(params: Params, key: Key) -> Params:
    """The parameters with an orthonormal matrix, drawn by its path, in place of each kernel."""
    return {
        name: _orthonormal(leaf, fold_name(key, name))
        if isinstance(leaf, dict)
        else orthogonal(fold_name(key, name), leaf.shape, leaf.dtype)
        if name == "kernel"
        else leaf
        for name, leaf in params.items()
    }
