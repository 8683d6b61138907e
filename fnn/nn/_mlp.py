"""The multi-layer perceptron."""

from __future__ import annotations

from dataclasses import replace

from fnn._types import Initializer, check_sequence
from fnn.nn._layer import Layer, LayerLike, serial
from fnn.nn._linear import linear
from fnn.nn.activations import relu
from fnn.nn.initializers import kaiming


def mlp(
    hidden: tuple[int, ...] = (128,),
    features: int = 10,
    activation: LayerLike = relu,
    *,
    kernel_init: Initializer = kaiming,
    name: str | None = None,
) -> Layer:
    """A multi-layer perceptron: fully connected layers with an activation between, and a linear last one.

    The notes give every node behind the inputs an activation; that of the outputs, such as softmax, is in the
    loss here. Without hidden layers it is a linear classifier.

    Args:
        hidden: the width of each hidden layer.
        features: the number of outputs.
        activation: after each hidden layer.
        kernel_init: draws every layer's kernel.
        name: in place of mlp_1, mlp_2, …

    Input (N, inputs), output (N, features); put `flatten` before it for images.

    Source: Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating errors".

    >>> import fnn, jax
    >>> net = fnn.mlp((32, 16), 10)
    >>> [name for name, _ in net.children]
    ['linear_1', 'relu_1', 'linear_2', 'relu_2', 'linear_3']
    """
    check_sequence("hidden", hidden)
    layers: list[LayerLike] = []
    for width in hidden:
        layers += [linear(width, kernel_init=kernel_init), activation]
    layers.append(linear(features, kernel_init=kernel_init))
    return replace(serial(*layers, name=name), kind="mlp")
