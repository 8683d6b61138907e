"""What a network is: layers, activations, initial values."""

from fnn.nn._conv import conv, conv_output_size, conv_transpose, depthwise_conv
from fnn.nn._dropout import alpha_dropout, dropout, spatial_dropout
from fnn.nn._intermediates import intermediates
from fnn.nn._layer import Layer, LayerError, LayerLike, layer, residual, serial
from fnn.nn._linear import linear
from fnn.nn._locally_connected import locally_connected
from fnn.nn._lsuv import lsuv
from fnn.nn._maxout import conv_maxout, maxout
from fnn.nn._mlp import mlp
from fnn.nn._norm import batch_norm, group_norm, instance_norm, layer_norm
from fnn.nn._perceptron import (
    PerceptronState,
    perceptron,
    perceptron_init,
    perceptron_predict,
    perceptron_update,
)
from fnn.nn._pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    flatten,
    global_avg_pool,
    global_max_pool,
    max_pool,
)
from fnn.nn._precision import mixed_precision
from fnn.nn._prelu import prelu
from fnn.nn._receptive_field import ReceptiveField, receptive_field
from fnn.nn._summary import Summary, summary
from fnn.nn.activations import (
    elu,
    gelu,
    heaviside,
    leaky_relu,
    log_softmax,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from fnn.nn.initializers import (
    constant,
    delta_orthogonal,
    kaiming,
    lecun,
    orthogonal,
    truncated_normal,
    xavier,
)

__all__ = [
    "Layer",
    "LayerError",
    "LayerLike",
    "PerceptronState",
    "ReceptiveField",
    "Summary",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "alpha_dropout",
    "avg_pool",
    "batch_norm",
    "constant",
    "conv",
    "conv_maxout",
    "conv_output_size",
    "conv_transpose",
    "delta_orthogonal",
    "depthwise_conv",
    "dropout",
    "elu",
    "flatten",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "heaviside",
    "instance_norm",
    "intermediates",
    "kaiming",
    "layer",
    "layer_norm",
    "leaky_relu",
    "lecun",
    "linear",
    "locally_connected",
    "log_softmax",
    "lsuv",
    "max_pool",
    "maxout",
    "mixed_precision",
    "mlp",
    "orthogonal",
    "perceptron",
    "perceptron_init",
    "perceptron_predict",
    "perceptron_update",
    "prelu",
    "receptive_field",
    "relu",
    "residual",
    "selu",
    "serial",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "spatial_dropout",
    "summary",
    "tanh",
    "truncated_normal",
    "xavier",
]
