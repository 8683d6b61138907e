"""Layer-sequential unit variance: initial values that look at the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import lax

from fnn._tree import fold_name
from fnn._types import Array, Key, Params, State, at_least_float32, check_range
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

    Raises:
        ValueError: a tolerance of 0 or below, or no iterations.

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
    check_range("max_iterations", max_iterations, at_least=1, integer=True)
    if key is not None:
        params = _orthonormal(params, key)

    def scaled(layer: Layer, params: Params, state: State, x: Array) -> tuple[Array, Array]:
        """The output of one layer, whose input is settled, and the factor of its kernel."""

        def output(factor: Array) -> Array:
            return layer.apply(_times(params, factor), state, x)[0]

        def goes_on(carry: tuple[Array, Array, Array]) -> Array:
            _, y, count = carry
            return (jnp.abs(_variance(y) - 1) >= tolerance) & (_variance(y) > 0) & (count < max_iterations)

        def divide(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            factor, y, count = carry
            factor = (factor / jnp.sqrt(_variance(y))).astype(factor.dtype)
            return factor, output(factor), count + 1

        one = jnp.ones((), jnp.promote_types(params["kernel"].dtype, jnp.float32))
        factor, y, _ = lax.while_loop(goes_on, divide, (one, output(one), jnp.zeros((), jnp.int32)))
        return y, factor

    def settling(net: Layer) -> Layer:
        """The same network, whose layers find the factors of their kernels first, and hand them out as state.

        Factors, and not kernels, since `mixed_precision` shows a layer its parameters rounded.
        """
        if net.is_container:
            return net.with_each(settling)

        def apply(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
            if isinstance(params, dict) and "kernel" in params:
                y, factor = scaled(net, params, state, x)
                return y, {"kernel": factor}
            return net.apply(params, state, x, **context)[0], {}

        return replace(net, apply=apply)

    _, factors = settling(as_layer(net)).apply(params, state, x)
    return _scaled(params, factors)


def _variance(y: Array) -> Array:
    return jnp.var(at_least_float32(y))


def _times(params: Params, factor: Array) -> Params:
    """A layer's parameters with its kernel times a factor."""
    kernel = params["kernel"]
    return {**params, "kernel": (factor * kernel).astype(kernel.dtype)}


def _scaled(params: Params, factors: Any) -> Params:
    """All parameters, the kernels times their layers' factors."""
    if not factors:
        return params
    if "kernel" in factors:
        return _times(params, factors["kernel"])
    return {name: _scaled(leaf, factors.get(name)) for name, leaf in params.items()}


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
