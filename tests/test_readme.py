"""What the README says works."""

import re
import tomllib
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_python_examples_run_in_order():
    # Scripts may broadcast as they like; only the library itself must not.
    with jax.numpy_rank_promotion("allow"):
        scope = {}
        for block in blocks("python"):
            exec(block, scope)
    assert scope["result"].history[-1]["validation_accuracy"] > 0.9
    assert scope["logits"].shape == (32, 10)


def test_the_configs_are_valid():
    """The first is a whole one; the tables of the second take the place of some of its own."""
    pytest.importorskip("pydantic")
    from fnn.run._config import check

    whole, tables = map(tomllib.loads, blocks("toml"))
    assert check(whole).model.function == "serial"
    assert check({**whole, **tables}).freeze == ("conv_1/*",)


def test_ci_runs_the_test_command_of_the_readme():
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if "pytest" in line]
    assert command in (ROOT / ".ci" / "run").read_text()
