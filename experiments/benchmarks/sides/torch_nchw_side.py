"""The same in PyTorch's default layout of images, channels before pixels."""

from sides import torch_side
from sides.torch_side import PREPARE as PREPARE
from sides.torch_side import VERSIONS as VERSIONS

torch_side.CHANNELS_LAST = False
