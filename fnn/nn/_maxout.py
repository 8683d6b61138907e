"""Maxout: the largest of several linear pieces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fnn._types import Array, Initializer, Params, State, check_range
from fnn.nn._conv import conv
from fnn.nn._layer import Layer
from fnn.nn._linear import linear
from fnn.nn.initializers import xavier
from fnn.ops._pool import largest
from fnn.ops._window import Padding, Sizes


def maxout(
    features: int,
    pieces: int = 2,
    *,
    bias: bool = True,
    kernel_init: Initializer = xavier,
    name: str | None = None,
) -> Layer:
    """A fully connected layer whose units are the largest of k linear pieces, max over i of x wᵢ + bᵢ.

    It learns its activation: with pieces x w and 0 it is `relu`, with x w and α x w `leaky_relu`. Linear
    regime, does not saturate, does not die; costs k times the parameters of `linear` (the notes' k is 2). No
    activation follows it.

    Args:
        features: the number of outputs.
        pieces: k.
        bias: whether bᵢ is added; it starts at zero.
        kernel_init: draws the pieces. The largest of two independent pieces has the mean square of one, so
            `xavier` keeps the size of the signal from layer to layer, and `kaiming` doubles its square.
        name: in place of maxout_1, maxout_2, …

    Parameters: `kernel` (inputs, features · k) and `bias` (features · k,); the pieces of output j are columns
    j · k to j · k + k − 1. Input (N, inputs), output (N, features).

    Source: Goodfellow et al. (2013), "Maxout Networks".
    """
    _check(features, pieces)
    scores = linear(features * pieces, bias=bias, kernel_init=kernel_init)
    return _largest("maxout", scores, pieces, name)


def conv_maxout(
    features: int,
    kernel_size: Sizes,
    pieces: int = 2,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = xavier,
    name: str | None = None,
) -> Layer:
    """A convolution whose feature maps are the largest of k feature maps, pixel by pixel; see `maxout`.

    Args:
        features: the number of feature maps in the output.
        kernel_size: of the kernels, as in `conv`.
        pieces: k.
        stride: how far the kernel moves.
        padding: as in `conv`.
        dilation: distance between neighbouring pixels that the kernel sees.
        groups: into how many independent parts the channels fall; divides features.
        bias: whether a number per piece is added; it starts at zero.
        kernel_init: draws the pieces; see `maxout`.
        name: in place of conv_maxout_1, conv_maxout_2, …

    Raises:
        ValueError: groups that do not divide the features; see `conv`.

    Parameters: those of a `conv` of features · k; the pieces of feature map j are j · k to j · k + k − 1.

    Source: Goodfellow et al. (2013), "Maxout Networks".
    """
    _check(features, pieces)
    check_range("groups", groups, at_least=1, integer=True)
    if features % groups:
        raise ValueError(
            f"groups must divide features, so that a map's pieces see the same channels; "
            f"{groups} does not divide {features}"
        )
    scores = conv(
        features * pieces,
        kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
        kernel_init=kernel_init,
    )
    return _largest("conv_maxout", scores, pieces, name)


def _check(features: int, pieces: int) -> None:
    check_range("features", features, at_least=1, integer=True)
    check_range("pieces", pieces, at_least=1, integer=True)


def _largest(kind: str, scores: Layer, pieces: int, name: str | None) -> Layer:
    """The layer that makes the scores of all pieces, with the largest of each k neighbours as its output."""

    def apply(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
        y, state = scores.apply(params, state, x, **context)
        return largest([y[..., i::pieces] for i in range(pieces)]), state

    return replace(scores, kind=kind, apply=apply, name=name)
