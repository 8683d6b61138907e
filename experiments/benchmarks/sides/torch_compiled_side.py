"""The same through `torch.compile`."""

from sides import torch_side
from sides.torch_side import PREPARE as PREPARE
from sides.torch_side import VERSIONS as VERSIONS

torch_side.COMPILED = True
