"""`fnn export`: the numbers of a trained network for other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from safetensors.numpy import save

from fnn._tree import paths
from fnn.run._build import numbers_at
from fnn.run._config import ConfigError
from fnn.run._directory import writing
from fnn.run._load import loaded
from fnn.train._state import evaluation_params


def export(directory: Path, file: Path, checkpoint: str, console: Console) -> int:
    """Write a run's parameters and layer states to a file of safetensors, under their paths.

    Parameters are those that evaluation takes, so averaged where they are averaged: `conv_1/kernel`. The
    states of layers, such as the statistics of batch norm, and the moments by which inputs are standardised
    are `state/…` and `moments/…`. Kernels are as fnn has them: (inputs, outputs) of a linear layer,
    (height, width, inputs, outputs) of a convolution, where PyTorch has the outputs first.

    Args:
        directory: of a run.
        file: where to write.
        checkpoint: "best" or "last".
        console: where to print.

    Raises:
        ConfigError: not a run, or a file of another name or that cannot be written.
    """
    if file.suffix != ".safetensors":
        named = f"{file.name}.safetensors"
        raise ConfigError("", f"{file}: what is written are safetensors; name the file so, such as {named}")
    prepared, state = loaded(directory, checkpoint)
    task = prepared.make(numbers_at(prepared.values, int(state.step)))
    parts = {"": evaluation_params(task, state), "state/": state.state, "moments/": state.moments}
    arrays = {
        prefix + path: np.ascontiguousarray(leaf)
        for prefix, tree in parts.items()
        for path, leaf in paths(tree)
    }
    with writing(file):
        file.write_bytes(save(arrays))
    console.print(f"{file}: {len(arrays)} arrays, {sum(array.size for array in arrays.values()):,} numbers")
    return 0
