"""Array mathematics: what the layers compute, for those who want no layers at all.

Every function takes plain arrays, works under `jit`, `grad`, `jvp`, `vmap` and `scan`, and is chosen per
platform at lowering time where one form is not fast everywhere.
"""

from fnn.ops._conv import conv
from fnn.ops._dropout import dropout
from fnn.ops._norm import batch_moments, batch_norm, batch_norm_train
from fnn.ops._pool import avg_pool, max_pool
from fnn.ops._window import Padding

__all__ = [
    "Padding",
    "avg_pool",
    "batch_moments",
    "batch_norm",
    "batch_norm_train",
    "conv",
    "dropout",
    "max_pool",
]
