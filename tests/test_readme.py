"""What the README says works."""

import re
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

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
    assert scope["fitted"].history[-1]["validation_loss"] < 1


def test_the_configs_are_valid():
    """The first is a whole one; the tables of the second take the place of some of its own."""
    pytest.importorskip("pydantic")
    from fnn.run._config import check

    whole, tables = map(tomllib.loads, blocks("toml"))
    assert check(whole).model.function == "serial"
    assert check({**whole, **tables}).freeze == ("conv_1/*",)


@pytest.mark.parametrize("library", ["Equinox", "Flax's nnx"])
def test_the_patterns_for_other_libraries_match_their_kernels(library):
    """Weight decay alone, under gradients of 0, shrinks the kernels by its part and leaves the biases."""
    pattern = re.search(rf'"(\S+)"\S* in\s+{library}', README)[1]
    optimizer = fnn.adamw(0.5, weight_decay=0.5, pattern=pattern)
    if library == "Equinox":
        eqx = pytest.importorskip("equinox")
        model = eqx.nn.Linear(3, 2, key=jax.random.key(0))
        before = model.weight, model.bias
        updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, model), optimizer.init(model), model)
        model = eqx.apply_updates(model, updates)
        after = model.weight, model.bias
    else:
        nnx = pytest.importorskip("flax.nnx")
        model = nnx.Linear(3, 2, bias_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        before = model.kernel[...], model.bias[...]
        training = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
        training.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
        after = model.kernel[...], model.bias[...]
    np.testing.assert_allclose(after[0], 0.75 * before[0], rtol=1e-6)
    np.testing.assert_array_equal(after[1], before[1])


def test_ci_runs_the_test_command_of_the_readme():
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if "pytest" in line]
    assert command in (ROOT / ".ci" / "run").read_text()
