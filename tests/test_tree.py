"""Trees cut by path patterns and put together again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import fnn

PARAMS: dict[str, Any] = {
    "conv_1": {"kernel": 1.0, "bias": 2.0},
    "residual_1": {"conv_1": {"kernel": 3.0}},
    "head": (4.0, [5.0, None]),
}


@pytest.mark.parametrize(
    ("patterns", "matching"),
    [
        (("*kernel",), [1.0, 3.0]),
        (("*bias", "head/0"), [2.0, 4.0]),
        (("conv_1/*",), [1.0, 2.0]),
        (("*conv_1/*",), [1.0, 2.0, 3.0]),
        (("*", "*bias"), [1.0, 2.0, 3.0, 4.0, 5.0]),
        ((), []),
    ],
)
def test_a_tree_is_cut_in_two_by_path(patterns: tuple[str, ...], matching: list[float]) -> None:
    cut, rest = fnn.partition(PARAMS, *patterns)
    assert sorted(jax.tree.leaves(cut)) == matching
    assert sorted([*jax.tree.leaves(cut), *jax.tree.leaves(rest)]) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert fnn.combine(cut, rest) == fnn.combine(rest, cut) == PARAMS


def test_the_parts_keep_the_shape_of_the_tree_and_holes_are_no_leaves() -> None:
    cut, rest = fnn.partition(PARAMS, "*bias")
    assert cut == {
        "conv_1": {"kernel": None, "bias": 2.0},
        "residual_1": {"conv_1": {"kernel": None}},
        "head": (None, [None, None]),
    }
    assert rest["conv_1"] == {"kernel": 1.0, "bias": None}


def test_one_part_can_be_differentiated_while_the_other_is_frozen() -> None:
    params = {"a": {"kernel": jnp.array(3.0), "bias": jnp.array(4.0)}}
    trained, frozen = fnn.partition(params, "*kernel")

    def loss(trained: Any) -> jax.Array:
        layer = fnn.combine(trained, frozen)["a"]
        return layer["kernel"] ** 2 * layer["bias"]

    gradient = jax.jit(jax.grad(loss))(trained)
    assert gradient == {"a": {"kernel": 24.0, "bias": None}}


def test_an_array_without_a_path_matches_only_the_star() -> None:
    assert fnn.partition(1.0, "*") == (1.0, None)
    assert fnn.combine(None, 1.0) == fnn.combine(1.0, None) == 1.0
    with pytest.raises(ValueError, match="matches no parameter; the parameters are one array without a name"):
        fnn.partition(1.0, "*kernel")


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"the pattern 'linear\*' matches no parameter; the parameters are conv_1/bias, conv_1/kernel, "
        r'.*; the pattern "\*" matches them all',
    ):
        fnn.partition(PARAMS, "*bias", "linear*")
    with pytest.raises(ValueError, match="the parameters are none"):
        fnn.partition({}, "*")
