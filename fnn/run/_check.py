"""`fnn check`: a config before it is trained, a run after it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import fnn
from fnn.run._build import Make, make_and_values
from fnn.run._config import Call, Calls, Config, ConfigError, Number, read
from fnn.run._diagnose import as_json, exit_code, finite, judge_run, show
from fnn.run._prepare import prepare
from fnn.run._registry import functions
from fnn.tune._check import largest


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
        with Console(stderr=True).status(f"checking {path}, which takes a minute for a deep network"):
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
    make, values = make_and_values(at_peak(config, prepared.make), prepared.make.steps)
    settings = {name: prepared.settings[name] for name in ("batch_size", "standardize")}
    return fnn.check(make, values, prepared.data, seed=config.seed, **settings)


def at_peak(config: Config, make: Make) -> Config:
    """The config with the largest value of each schedule in its place."""

    def peak(value: Any) -> Any:
        if isinstance(value, Calls):
            return Calls(tuple((key, peak(call)) for key, call in value.items))
        if isinstance(value, tuple):
            return tuple(map(peak, value))
        if not isinstance(value, Call):
            return value
        if functions()[value.function].kind == "schedule":
            schedule = make._build(value, {}, "")  # its end-points are numbers still
            return Number(largest(schedule, jnp.arange(0, make.steps, max(1, make.steps // 200))))
        return Call(value.function, tuple((name, peak(argument)) for name, argument in value.arguments))

    parts = ("model", "loss", "penalties", "optimizer", "augment", "metrics")
    return replace(config, **{name: peak(getattr(config, name)) for name in parts})


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
