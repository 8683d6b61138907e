"""The commands of `fnn`. What a command needs is imported in it, so that `fnn --help` loads no JAX."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import fnn

app = typer.Typer(
    help="Train neural networks from config files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Dotted keys, such as train.epochs=3.", show_default=False),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run.", show_default=False)]


class Checkpoint(StrEnum):
    """Which state of a run."""

    best = "best"
    last = "last"


WhichCheckpoint = Annotated[Checkpoint, typer.Option(help="Which saved state.")]


@app.command()
def train(
    path: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|RUN",
            help="A TOML file, or the directory of a run, to go on with it or to print its results again.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
) -> None:
    """Train a network, evaluate it once on the test set and write a report."""
    from fnn.run._cache import use_compile_cache
    from fnn.run._output import Output
    from fnn.run._train import train_path

    use_compile_cache()
    raise typer.Exit(train_path(path, tuple(overrides or ()), Output()))


@app.command()
def evaluate(
    run: Run,
    checkpoint: WhichCheckpoint = Checkpoint.best,
) -> None:
    """Print a run's loss and accuracy on its validation and test data."""
    from fnn.run._cache import use_compile_cache
    from fnn.run._output import Output
    from fnn.run._train import evaluate

    use_compile_cache()
    raise typer.Exit(evaluate(run, checkpoint.value, Output()))


@app.command()
def report(run: Run) -> None:
    """Write a run's report anew, of one that still trains as far as it has come."""
    from fnn.run._output import Output
    from fnn.run._report_again import report

    raise typer.Exit(report(run, Output()))


@app.command()
def predict(
    run: Run,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Images, or one file of NumPy's with an array x.", show_default=False
        ),
    ],
    checkpoint: WhichCheckpoint = Checkpoint.best,
    output: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
) -> None:
    """Print what a trained network says of new inputs, as CSV."""
    from fnn.run._cache import use_compile_cache
    from fnn.run._output import Output
    from fnn.run._predict import predict

    use_compile_cache()
    raise typer.Exit(predict(run, files, checkpoint.value, output, Output()))


@app.command()
def export(
    run: Run,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Such as weights.safetensors.", show_default=False)
    ],
    checkpoint: WhichCheckpoint = Checkpoint.best,
) -> None:
    """Write a run's parameters for other programs, as safetensors."""
    from fnn.run._export import export
    from fnn.run._output import Output

    raise typer.Exit(export(run, file, checkpoint.value, Output()))


@app.command()
def check(
    path: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|RUN|CURVES",
            help="A TOML file, the directory of a run, or a CSV or JSONL file of any framework's curves.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    against: Annotated[
        Path | None,
        typer.Option(help="A run twice as wide or as long, to tell whether this one is too small."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print for machines.")] = False,
) -> None:
    """Judge a config before training, or a run after it: PASS, WARN or FAIL, and what to try."""
    from fnn.run._cache import use_compile_cache
    from fnn.run._check import check_path
    from fnn.run._output import Output

    use_compile_cache()
    raise typer.Exit(check_path(path, tuple(overrides or ()), against, json, Output()))


@app.command()
def search(
    path: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|SEARCH",
            help="A TOML file with the table search, or the directory of a search, to go on with it or to "
            "print what it found.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
) -> None:
    """Search hyperparameters, all trials as one program, and write the best config."""
    from fnn.run._cache import use_compile_cache
    from fnn.run._devices import one_device_per_core
    from fnn.run._output import Output
    from fnn.run._search import search_path

    use_compile_cache()
    one_device_per_core()
    raise typer.Exit(search_path(path, tuple(overrides or ()), Output()))


@app.command()
def summary(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG|RUN", help="A TOML file, or the directory of a run.", show_default=False
        ),
    ],
    overrides: Overrides = None,
) -> None:
    """Print the network of a config or of a run: output shapes, parameters, bytes."""
    from fnn.run._prepare import prepare
    from fnn.run._read import read

    config = path / "config.toml" if path.is_dir() else path
    typer.echo(prepare(read(config, tuple(overrides or ()))).summary)


@app.command("list")
def list_() -> None:
    """Print what a config can call: layers, losses, optimizers and the rest, with their settings."""
    from fnn.run._list import listing

    typer.echo(listing())


@app.command()
def bench(
    workloads: Annotated[
        list[str] | None, typer.Argument(metavar="[WORKLOAD]...", help="Which; all by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 15,
    json: Annotated[Path | None, typer.Option(help="Also write the measurements to this file.")] = None,
) -> None:
    """Time training and inference on this device; on several devices, on a mesh of them."""
    from fnn.run._bench import bench
    from fnn.run._output import Output

    raise typer.Exit(bench(tuple(workloads or ()), rounds, json, Output()))


@app.command()
def doctor() -> None:
    """See whether this installation of JAX computes right, and whether it computes fast."""
    from fnn.run._doctor import doctor
    from fnn.run._output import Output

    raise typer.Exit(doctor(Output()))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fnn {fnn.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
