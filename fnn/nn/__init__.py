"""What a network is: layers, activations, initial values."""

from fnn.nn._conv import conv
from fnn.nn._dropout import dropout
from fnn.nn._layer import Layer, LayerError, LayerLike, intermediates, layer, residual, serial
from fnn.nn._linear import linear
from fnn.nn._mlp import mlp
from fnn.nn._norm import batch_norm
from fnn.nn._pool import avg_pool, flatten, global_avg_pool, max_pool
from fnn.nn._summary import Summary, summary
from fnn.nn.activations import log_softmax, relu, sigmoid, softmax, tanh
from fnn.nn.initializers import kaiming, xavier

__all__ = [
    "Layer",
    "LayerError",
    "LayerLike",
    "Summary",
    "avg_pool",
    "batch_norm",
    "conv",
    "dropout",
    "flatten",
    "global_avg_pool",
    "intermediates",
    "kaiming",
    "layer",
    "linear",
    "log_softmax",
    "max_pool",
    "mlp",
    "relu",
    "residual",
    "serial",
    "sigmoid",
    "softmax",
    "summary",
    "tanh",
    "xavier",
]
