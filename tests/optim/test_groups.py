"""Parameter groups: who trains what."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim

PARAMS = {
    "conv_1": {"kernel": jnp.full((3, 3, 1, 2), 2.0), "bias": jnp.full(2, 3.0)},
    "head": {"kernel": jnp.full((4, 5), 4.0), "bias": jnp.full(5, 5.0)},
}
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def steps(updates: Any) -> dict[str, float]:
    """The first number of each leaf."""
    return {
        f"{layer}/{name}": float(leaf.ravel()[0])
        for layer, leaves in updates.items()
        for name, leaf in leaves.items()
    }


def test_the_first_group_that_matches_wins_and_the_default_has_the_rest() -> None:
    optimizer = optim.by_path(
        optim.group("head/kernel", optim.sgd(0.5)),
        optim.group("*kernel", optim.sgd(0.25)),
        optim.group("conv_1/*", optim.sgd(0.125)),
        default=optim.sgd(1.0),
    )
    updates, state = optimizer.update(ONES, optimizer.init(PARAMS))
    assert steps(updates) == {
        "head/kernel": -0.5,
        "conv_1/kernel": -0.25,
        "conv_1/bias": -0.125,
        "head/bias": -1.0,
    }
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, PARAMS)
    assert [int(group.count) for group in (*state.groups, state.default)] == [1, 1, 1, 1]


def test_each_group_is_what_its_optimizer_alone_makes_of_its_parameters() -> None:
    adam, momentum = optim.adam(0.1), optim.momentum(0.1)
    optimizer = optim.by_path(optim.group("*bias", momentum), default=adam)
    params, state = PARAMS, optimizer.init(PARAMS)
    alone = {
        "bias": (momentum, PARAMS["head"]["bias"], momentum.init(PARAMS["head"]["bias"])),
        "kernel": (adam, PARAMS["head"]["kernel"], adam.init(PARAMS["head"]["kernel"])),
    }
    for _ in range(3):
        updates, state = optimizer.update(params, state, params)
        params = optim.apply_updates(params, updates)
        for name, (one, x, one_state) in alone.items():
            update, one_state = one.update(x, one_state, x)
            alone[name] = (one, x + update, one_state)
    for name, (_, x, _) in alone.items():
        np.testing.assert_array_equal(params["head"][name], x)
    assert state.groups[0].velocity["head"]["kernel"] is None
    assert state.default.first_moment["head"]["bias"] is None


def test_patterns_of_the_optimizers_inside_still_see_whole_paths() -> None:
    decay = optim.adamw(0.0, weight_decay=1.0)
    inside = optim.chain(optim.sgd(1.0), optim.max_norm(1.0, pattern="head/kernel"))
    optimizer = optim.by_path(optim.group("head/*", inside), default=decay)
    state = optimizer.init(PARAMS)
    updates, _ = optimizer.update(ONES, state, PARAMS)
    moved = optim.apply_updates(PARAMS, updates)
    np.testing.assert_allclose(jnp.linalg.norm(moved["head"]["kernel"], axis=0), np.ones(5), rtol=1e-6)
    np.testing.assert_array_equal(moved["head"]["bias"], 4.0)


def test_a_pattern_inside_may_match_only_what_belongs_to_others() -> None:
    optimizer = optim.by_path(optim.group("*kernel", optim.muon(0.02)), default=optim.adamw(1e-3))
    alone = optim.adam(1e-3)  # no bias decays
    updates, _ = jax.jit(optimizer.update)(ONES, optimizer.init(PARAMS), PARAMS)
    expected, _ = alone.update(ONES, alone.init(PARAMS))
    np.testing.assert_array_equal(updates["head"]["bias"], expected["head"]["bias"])
    typo = optim.by_path(optim.group("*kernel", optim.sgd(1.0)), default=optim.adamw(1e-3, pattern="*kernle"))
    with pytest.raises(ValueError, match=r"the pattern '\*kernle' matches no parameter"):
        typo.init(PARAMS)


def test_a_default_may_get_nothing_and_groups_nest() -> None:
    inner = optim.by_path(optim.group("head/*", optim.sgd(0.5)), default=optim.sgd(0.25))
    optimizer = optim.by_path(optim.group("*", inner), default=optim.adamw(1.0))
    updates, state = jax.jit(optimizer.update)(ONES, optimizer.init(PARAMS), PARAMS)
    assert steps(updates)["head/bias"] == -0.5
    assert steps(updates)["conv_1/kernel"] == -0.25
    assert state.default == ()


def test_any_pytree_can_be_grouped() -> None:
    optimizer = optim.by_path(optim.group("1/*", optim.sgd(0.5)), default=optim.sgd(0.25))
    params = (jnp.ones(2), [jnp.ones(3), jnp.ones(())], None)
    updates, _ = optimizer.update(params, optimizer.init(params))
    assert updates[0].tolist() == [-0.25, -0.25]
    assert [update.tolist() for update in updates[1]] == [[-0.5] * 3, -0.5]
    whole = optim.by_path(optim.group("*", optim.sgd(0.5)), default=optim.sgd(0.25))
    updates, _ = whole.update(jnp.ones(2), whole.init(jnp.ones(2)), jnp.ones(2))
    assert updates.tolist() == [-0.5, -0.5]


def test_the_groups_and_their_counts() -> None:
    assert optim.parameter_groups(PARAMS, ("head/kernel", "*bias")) == {
        "head/kernel": (1, 20),
        "*bias": (2, 7),
        "default": (1, 18),
    }
    assert optim.parameter_groups(PARAMS, ("*",)) == {"*": (4, 45), "default": (0, 0)}
    assert optim.parameter_groups({"a": jnp.ones(())}, ()) == {"default": (1, 1)}
    shapes = jax.eval_shape(lambda: PARAMS)
    assert optim.parameter_groups(shapes, ("*",))["*"] == (4, 45)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            ("linear*",),
            r"'linear\*' of a parameter group .* leave are conv_1/bias, conv_1/kernel, head/bias, h",
        ),
        (
            ("*kernel", "head/kernel"),
            "'head/kernel' of a parameter group .* leave are conv_1/bias, head/bias$",
        ),
        (("*", "*bias"), r"the pattern '\*bias' of a parameter group takes no parameter; .* leave are none"),
    ],
)
def test_a_group_without_parameters_is_refused_at_init(patterns: tuple[str, ...], message: str) -> None:
    groups = [optim.group(pattern, optim.sgd(0.1)) for pattern in patterns]
    with pytest.raises(ValueError, match=message):
        optim.by_path(*groups, default=optim.sgd(0.1)).init(PARAMS)
    with pytest.raises(ValueError, match=message):
        optim.parameter_groups(PARAMS, patterns)


def test_what_is_no_group_or_optimizer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"by_path needs at least one group, group\(pattern, optimizer\)"):
        optim.by_path(default=optim.sgd(0.1))
    with pytest.raises(TypeError, match=r"by_path takes groups, group\(pattern, optimizer\), not Optimizer"):
        optim.by_path(optim.sgd(0.1), default=optim.sgd(0.1))
    with pytest.raises(TypeError, match="by_path takes optimizers, not sgd; an optimizer's function has to"):
        optim.by_path(optim.group("*", optim.sgd(0.1)), default=optim.sgd)
    with pytest.raises(TypeError, match="group takes optimizers, not adam; an optimizer's function has to"):
        optim.group("*", optim.adam)


PART, _ = optim.partition(PARAMS, "*kernel")


@pytest.mark.parametrize(
    "mixed",
    [
        lambda: optim.apply_updates(PARAMS, PART),
        lambda: optim.apply_updates(PART, PARAMS),
        lambda: optim.adam(0.1).update(ONES, optim.adam(0.1).init(PART)),
        lambda: optim.adam(0.1).update(PART, optim.adam(0.1).init(PARAMS)),
        lambda: optim.lookahead(optim.sgd(0.1)).update(
            PARAMS, optim.lookahead(optim.sgd(0.1)).init(PART), PARAMS
        ),
    ],
)
def test_a_part_goes_with_parts_alone(mixed: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"^one of gradients, parameters and optimizer state holds None where another does not: it is one p",
    ):
        mixed()
