"""`fnn check`: a config before it is trained, a run after it was."""

from __future__ import annotations

import json
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import fnn
from fnn.run._build import make_and_values, with_numbers
from fnn.run._config import Config, ConfigError
from fnn.run._diagnose import as_json, exit_code, judge_run, show
from fnn.run._directory import finite
from fnn.run._prepare import prepare
from fnn.run._read import read


def check_path(
    path: str, overrides: tuple[str, ...], against: Path | None, as_machine: bool, console: Console
) -> int:
    """Check a config, the directory of a run, or a file of curves; 1 where a check failed, else 0.

    Raises:
        ConfigError: bad input.
    """
    if Path(path).suffix == ".toml":
        if against is not None:
            raise ConfigError(
                "--against", "only a finished run has curves to compare; leave it out for a config"
            )
        config = read(path, overrides)
        with Console(stderr=True, markup=False).status(
            f"checking {path}, which takes a minute for a deep network"
        ):
            checked = check_config(config)
        findings = checked.findings
        about = {
            name: getattr(checked, name) for name in ("rates", "losses", "suggested", "stable", "layers")
        }
    else:
        if overrides:
            raise ConfigError(overrides[0], f"{path} is a finished run, where no key can be changed")
        findings = judge_run(Path(path), against)
        about = {}
    if as_machine:
        print(json.dumps({"findings": as_json(fnn.by_urgency(findings)), **finite(about)}, indent=1))
    else:
        show(findings, console)
        if about:
            console.print(_layers_table(about["layers"]))
            console.print(_range_line(about), highlight=False)
    return exit_code(findings)


def check_config(config: Config) -> fnn.Checked:
    """`fnn.check` for a config, every schedule of which counts with its largest value.

    Raises:
        ConfigError: a config that does not fit together.
    """
    prepared = prepare(config)
    largest, last = (with_numbers(config, prepared.make, choose) for choose in (max, itemgetter(-1)))
    make, values = make_and_values(largest, prepared.make.steps)
    anneals = largest.optimizer != last.optimizer
    settings = {name: prepared.settings[name] for name in ("batch_size", "standardize", "lsuv")}
    return fnn.check(make, values, prepared.data, seed=config.seed, anneals=anneals, **settings)


def _layers_table(layers: dict[str, dict[str, float]]) -> Table:
    """What the initial values make of the signal, from layer to layer."""
    numbers = ("mean", "deviation", "dead", "saturated")
    table = Table("layer at the start", *numbers)
    for column in table.columns[1:]:
        column.justify = "right"
    for path, found in layers.items():
        table.add_row(path, *(f"{found[name]:.3g}" if name in found else "–" for name in numbers))
    return table


def _range_line(about: dict[str, Any]) -> str:
    pairs = zip(about["rates"], about["losses"], strict=True)
    tried = "  ".join(f"×{factor:.3g}: {loss:.3g}" for factor, loss in pairs)
    return (
        f"loss after a few steps, by factor of the rate: {tried}\nsuggested: {about['suggested']:.3g} times"
    )
