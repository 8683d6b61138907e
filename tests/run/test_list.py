"""`fnn list` shows what a config can call, and all of it can be called from one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from run_cases import ROOT
from typer.testing import CliRunner

from fnn.run._commands import app
from fnn.run._config import Call, Calls, Config
from fnn.run._prepare import prepare
from fnn.run._read import read

EVERY_NAME = Path(__file__).with_name("every_name.toml")


def shown() -> dict[str, list[str]]:
    """The names that the command prints, by kind."""
    output = CliRunner().invoke(app, ["list"]).output
    names: dict[str, list[str]] = {}
    for line in output.splitlines()[1:]:
        if re.match(r"\w", line):
            names[line] = found = []
        elif match := re.match(r"  (\w+)\(", line):
            found.append(match[1])
    return names


def called(part: Any) -> set[str]:
    """The names of all functions in a part of a config."""
    if isinstance(part, Call):
        return {part.function}.union(*(called(value) for _, value in part.arguments))
    if isinstance(part, Calls):
        return set().union(*(called(call) for _, call in part.items))
    return set().union(*map(called, part)) if isinstance(part, tuple) else set()


def all_called(config: Config) -> set[str]:
    parts = [config.data, config.model, config.loss, config.penalties, config.optimizer, config.augment]
    return called((*parts, config.metrics, config.search, *(call for _, call in config.space)))


LOSSES, DATA_SETS, METHODS = (shown()[kind] for kind in ("losses", "data sets", "search methods"))


def test_one_config_calls_every_name_but_the_other_losses_data_sets_and_methods():
    listed = {name for names in shown().values() for name in names}
    others = {*LOSSES, *DATA_SETS, *METHODS} - {"softmax_cross_entropy", "digits", "hyperband"}
    assert listed - all_called(read(EVERY_NAME)) == others


def test_that_config_can_be_trained():
    """Everything is built and a whole step is traced: shapes, settings and ranges fit."""
    prepared = prepare(read(EVERY_NAME))
    assert prepared.summary.parameters > 8000


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_can_be_named(loss):
    config = read(EVERY_NAME, ("loss.penalties=[]", f"loss={loss}"))
    assert called(config.loss) - {"inverse_time"} == {loss}


@pytest.mark.parametrize("data", DATA_SETS)
def test_every_data_set_can_be_named(data):
    more = (f"data.path={ROOT.name}",) if data in ("npz", "image_folder") else ()
    assert read(EVERY_NAME, (f"data={data}", *more)).data.function == data


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_named(method):
    assert called(read(EVERY_NAME, (f"search.method={method}",)).search) == {"search_settings", method}


def test_settings_are_shown_with_their_defaults_and_hyperparameters_are_marked():
    output = CliRunner().invoke(app, ["list"]).output
    assert "\n  adam(learning_rate~, b1~=0.9, b2~=0.999, eps~=1e-08, bias_correction=True)\n" in output
    assert "\n  chain(transforms=[…])\n" in output
    assert "\n  [train] epochs=10, batch_size=128, standardize=True, patience=None, lsuv=False\n" in output
    assert "\n  [search] method=random_search, folds=None, seeds=1, " in output
    assert "\n  piecewise(boundaries, values~)\n" in output
    assert "\n  cosine(peak~, steps=…, warmup~=0.0, end~=0.0)\n" in output
    assert "\n  linear(features, bias=True, kernel_init=kaiming, name=None)\n" in output
    assert "\n      A fully connected layer, y = x W + b.\n" in output
