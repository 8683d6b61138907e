"""`fnn predict`: what a trained network says of new inputs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jax.nn import softmax
from rich.console import Console

import fnn
from fnn.data._image_folder import read_images
from fnn.data._npz import read_inputs
from fnn.run._config import ConfigError
from fnn.run._directory import writing
from fnn.run._load import loaded, outputs_of
from fnn.run._prepare import Prepared


def predict(
    directory: Path, files: Sequence[Path], checkpoint: str, output: Path | None, console: Console
) -> int:
    """Write a table of predictions as CSV: a line for each input.

    The columns are the input (the file of an image, the row of an array), the class where there are classes,
    and the network's outputs: probabilities where the loss is `softmax_cross_entropy`.

    Args:
        directory: of a run.
        files: images of 8 bits a channel, or one file that `numpy.savez` has written with an array x.
        checkpoint: "best" or "last".
        output: where to write the table; printed where it is None.
        console: where to print.

    Raises:
        ConfigError: not a run, files that cannot be read, or inputs unlike those that the run learned.
    """
    prepared, state = loaded(directory, checkpoint)
    names, x = _inputs(files, prepared)
    outputs = outputs_of(prepared, state, x)
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    classes = prepared.data.classes
    if classes:
        kind, values = "output", outputs
        if prepared.config.loss.function == "softmax_cross_entropy":
            kind, values = "probability", np.asarray(softmax(outputs))
        lines.writerow(["input", "class", *(f"{kind} {name}" for name in classes)])
        for name, chosen, row in zip(names, outputs.argmax(-1), values, strict=True):
            lines.writerow([name, classes[chosen], *map(_shown, row)])
    else:
        values = outputs.reshape(len(outputs), -1)
        lines.writerow(["input", *(f"output {number}" for number in range(values.shape[1]))])
        for name, row in zip(names, values, strict=True):
            lines.writerow([name, *map(_shown, row)])
    if output is None:
        console.print(table.getvalue(), end="", highlight=False, soft_wrap=True)
        return 0
    with writing(output):
        output.write_text(table.getvalue(), encoding="utf-8")
    return 0


def _inputs(files: Sequence[Path], prepared: Prepared) -> tuple[Sequence[str | int], np.ndarray]:
    """The names of all inputs, and their raw numbers."""
    names: Sequence[str | int] = [str(file) for file in files]
    try:
        if arrays := [file for file in files if file.suffix in (".npz", ".npy")]:
            if len(files) > 1:
                raise ConfigError("", f"{arrays[0]} is predicted alone; give one .npz file, or images only")
            x = read_inputs(arrays[0])
            names = range(len(x))
        else:
            x = read_images(files)
    except fnn.DataError as error:
        raise ConfigError("", str(error)) from error
    learned = prepared.data.train.x
    if x.shape[1:] != learned.shape[1:] or (x.dtype == np.uint8) != (learned.dtype == np.uint8):
        raise ConfigError(
            "",
            f"the inputs are {x.dtype} of shape {x.shape[1:]} each, those that the run learned "
            f"{learned.dtype} of {learned.shape[1:]}; bring them to that form",
        )
    return names, x


def _shown(value: np.floating) -> str:
    return f"{value:.6g}"
