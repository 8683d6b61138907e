"""Array mathematics: what the layers compute, for those who want no layers at all.

Every function takes plain arrays, works under `jit`, `grad`, `vmap` and `scan`, and is chosen per platform at
lowering time where one form is not fast everywhere. Gradients may be taken again; forward mode (`jvp`) is not
for convolutions and `batch_norm_train`, whose gradients are written out. Within a `shard_map` of one's own
these two gradients want `check_vma=False`.
"""

from fnn.ops._conv import conv, conv_transpose, locally_connected
from fnn.ops._dropout import alpha_dropout, dropout, spatial_dropout
from fnn.ops._norm import batch_moments, batch_norm, batch_norm_train, group_norm, layer_norm
from fnn.ops._pool import adaptive_avg_pool, adaptive_max_pool, avg_pool, max_pool
from fnn.ops._window import Padding

__all__ = [
    "Padding",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "alpha_dropout",
    "avg_pool",
    "batch_moments",
    "batch_norm",
    "batch_norm_train",
    "conv",
    "conv_transpose",
    "dropout",
    "group_norm",
    "layer_norm",
    "locally_connected",
    "max_pool",
    "spatial_dropout",
]
