"""Optimizers against NumPy written from the formulas, against PyTorch, and one table of properties."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy_optimizers as oracle
import pytest
from numpy_optimizers import MATRIX, START

from fnn import optim

TORCH = np.load(Path(__file__).with_name("torch_values.npz"))

# Each optimizer with hyperparameters that it converges with, as keyword arguments: learning_rate first.
TABLE: dict[str, tuple[Callable[..., optim.Optimizer], dict[str, float]]] = {
    "sgd": (optim.sgd, {"learning_rate": 0.1}),
    "momentum": (optim.momentum, {"learning_rate": 0.05, "momentum": 0.8}),
    "nesterov": (optim.nesterov, {"learning_rate": 0.05, "momentum": 0.8}),
    "adagrad": (optim.adagrad, {"learning_rate": 0.5, "eps": 1e-3}),
    "rmsprop": (optim.rmsprop, {"learning_rate": 0.01, "decay": 0.8, "eps": 1e-2}),
    "adadelta": (optim.adadelta, {"learning_rate": 0.3, "decay": 0.8, "eps": 1e-2}),
    "adam": (optim.adam, {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "eps": 1e-3}),
    "adam, uncorrected": (
        partial(optim.adam, bias_correction=False),
        {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "eps": 1e-3},
    ),
    "adamax": (optim.adamax, {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "eps": 1e-3}),
    "nadam": (optim.nadam, {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "eps": 1e-3}),
    "adamw": (
        optim.adamw,
        {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
    ),
    "lion": (optim.lion, {"learning_rate": 0.005, "b1": 0.8, "b2": 0.95, "weight_decay": 0.1}),
    "lamb": (
        optim.lamb,
        {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1},
    ),
    "muon and adam": (
        lambda learning_rate, **numbers: optim.by_path(
            optim.group("*kernel", optim.muon(learning_rate, **numbers)), default=optim.adam(learning_rate)
        ),
        {"learning_rate": 0.01, "momentum": 0.8, "weight_decay": 0.1},
    ),
    "clip and adam": (
        lambda learning_rate, max_norm: optim.chain(
            optim.clip_by_global_norm(max_norm), optim.adam(learning_rate)
        ),
        {"learning_rate": 0.05, "max_norm": 0.5},
    ),
    "clip by value and sgd": (
        lambda learning_rate, limit: optim.chain(optim.clip_by_value(limit), optim.sgd(learning_rate)),
        {"learning_rate": 0.1, "limit": 0.5},
    ),
    "sgd and max-norm": (
        lambda learning_rate, limit: optim.chain(optim.sgd(learning_rate), optim.max_norm(limit)),
        {"learning_rate": 0.1, "limit": 0.7},
    ),
    "sgd and proximal L1": (
        lambda learning_rate, threshold: optim.chain(optim.sgd(learning_rate), optim.proximal_l1(threshold)),
        {"learning_rate": 0.1, "threshold": 0.02},
    ),
    "ema of sgd": (
        lambda learning_rate, decay: optim.ema(optim.sgd(learning_rate), decay),
        {"learning_rate": 0.1, "decay": 0.9},
    ),
    "lookahead of sgd": (
        lambda learning_rate, slow_step: optim.lookahead(optim.sgd(learning_rate), 3, slow_step),
        {"learning_rate": 0.1, "slow_step": 0.6},
    ),
    "accumulated rmsprop": (
        lambda **numbers: optim.accumulate_gradients(optim.rmsprop(**numbers), every=2),
        {"learning_rate": 0.01, "decay": 0.8, "eps": 1e-2},
    ),
}
# States keep float32 where the parameters have fewer digits, but for copies of the parameters.
COPIES = {name: jnp.bfloat16 for name in TABLE if "lookahead" in name}
every_optimizer = pytest.mark.parametrize("name", TABLE)


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# --- the problem: f(x) = ½ xᵀ A x + Σ log cosh x, as a tree of a matrix and a vector ---------------------


def as_tree(x: Any) -> dict[str, Any]:
    return {"layer": {"kernel": x[:4].reshape(2, 2), "bias": x[4:]}}


def as_vector(tree: dict[str, Any]) -> jax.Array:
    return jnp.concatenate([tree["layer"]["kernel"].ravel(), tree["layer"]["bias"]])


def objective(params: dict[str, Any]) -> jax.Array:
    x = as_vector(params)
    return 0.5 * x @ (jnp.asarray(MATRIX, x.dtype) @ x) + jnp.sum(jnp.log(jnp.cosh(x)))


def run(optimizer: optim.Optimizer, steps: int, dtype: Any = float) -> tuple[jax.Array, Any]:
    """The points and the states after each step, stacked: one scan."""
    params = as_tree(jnp.asarray(START, dtype))

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        params = optim.apply_updates(params, updates)
        return (params, state), (as_vector(params), state)

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[1]


@cache
def converged(name: str) -> tuple[jax.Array, Any]:
    """500 steps in float64, compiled once for the tests that look at them."""
    make, numbers = TABLE[name]
    with jax.enable_x64(True):
        return run(make(**numbers), 500)


def counts(state: Any) -> list[int]:
    """The counts in a state, those of chains, groups and wrappers from the outside to the inside."""
    inner = [count for part in state if isinstance(part, tuple) for count in counts(part)]
    return [int(state.count), *inner] if "count" in getattr(state, "_fields", ()) else inner


def after(steps: int, stacked: Any) -> Any:
    """What `run` stacked, after so many steps."""
    return jax.tree.map(lambda leaf: leaf[steps - 1], stacked)


# --- the formulas in NumPy -------------------------------------------------------------------------------

ORACLES = {
    "sgd": oracle.sgd,
    "momentum": oracle.momentum,
    "nesterov": oracle.nesterov,
    "adagrad": oracle.adagrad,
    "rmsprop": oracle.rmsprop,
    "adadelta": oracle.adadelta,
    "adam": oracle.adam,
    "adam, uncorrected": partial(oracle.adam, bias_correction=False),
    "adamax": oracle.adamax,
    "nadam": oracle.nadam,
    "adamw": oracle.adamw,
    "lion": oracle.lion,
    "lamb": oracle.lamb,
    "muon and adam": oracle.muon_and_adam,
    "clip and adam": oracle.clip_and_adam,
    "clip by value and sgd": oracle.clip_by_value_and_sgd,
    "sgd and max-norm": oracle.sgd_and_max_norm,
    "sgd and proximal L1": oracle.sgd_and_proximal_l1,
    "ema of sgd": oracle.ema_of_sgd,
    "lookahead of sgd": oracle.lookahead_of_sgd,
    "accumulated rmsprop": oracle.accumulated_rmsprop,
}


def constant(value: float) -> Callable[[Any], Any]:
    return lambda t: value


def varying(value: float) -> Callable[[Any], Any]:
    """A schedule for NumPy and JAX alike, which starts at the value and falls by a third in 50 steps."""
    return lambda t: value * (1 - (float(t) if isinstance(t, int) else t.astype(float)) / 150)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("schedule", [constant, varying])
@every_optimizer
def test_points_and_slots_are_those_of_the_formula(name: str, schedule: Any) -> None:
    make, numbers = TABLE[name]
    hyperparameters = {key: schedule(value) for key, value in numbers.items()}
    points, states = converged(name) if schedule is constant else run(make(**hyperparameters), 50)
    for steps in (1, 2, 10, 50):
        expected, slots = ORACLES[name](steps, **hyperparameters)
        np.testing.assert_allclose(points[:steps], np.stack(expected), rtol=1e-12, atol=1e-12)
        state = after(steps, states)
        for slot, value in slots.items():
            np.testing.assert_allclose(as_vector(getattr(state, slot)), value, rtol=1e-12, atol=1e-12)
        expected_counts = (
            [steps, steps // 2] if name == "accumulated rmsprop" else [steps] * len(counts(state))
        )
        assert counts(state) == expected_counts != []


@pytest.mark.usefixtures("float64")
def test_adam_carries_one_minus_the_product_of_its_scheduled_betas() -> None:
    _, states = run(optim.adam(0.1, b1=varying(0.9), b2=varying(0.99)), 10)
    state, t = after(10, states), np.arange(10)
    np.testing.assert_allclose(state.first_weight, 1 - np.prod(varying(0.9)(t)), rtol=1e-13)
    np.testing.assert_allclose(state.second_weight, 1 - np.prod(varying(0.99)(t)), rtol=1e-13)


def test_adams_correction_loses_no_digits_in_float32() -> None:
    state = optim.adam_init(jnp.zeros(1))
    for steps in (1, 2, 3):
        _, state = optim.adam_update(jnp.ones(1), state, learning_rate=0.1, b1=0.9, b2=0.999, eps=1e-8)
        np.testing.assert_allclose(state.second_weight, 1 - 0.999**steps, rtol=1e-6)


# --- PyTorch ----------------------------------------------------------------------------------------------

AS_IN_TORCH = {
    "sgd": optim.sgd(0.1),
    "momentum": optim.momentum(0.05, 0.9),
    "nesterov": optim.nesterov(0.05, 0.9),
    "adagrad": optim.adagrad(0.3, eps=0.1),
    "rmsprop": optim.rmsprop(0.05, decay=0.9, eps=0.1),
    "adadelta": optim.adadelta(0.3, decay=0.9, eps=1e-2),
    "adam": optim.adam(0.1, b1=0.8, b2=0.99, eps=0.1),
    "adamax": optim.adamax(0.1, b1=0.8, b2=0.9, eps=0.1),
    "nadam": optim.nadam(0.1, b1=0.8, b2=0.99, eps=0.1),
    "adamw": optim.adamw(0.1, b1=0.8, b2=0.99, eps=0.1, weight_decay=0.3, pattern="*"),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", AS_IN_TORCH)
def test_the_trajectory_is_that_of_pytorch(name: str) -> None:
    points, _ = run(AS_IN_TORCH[name], len(TORCH[name]))
    np.testing.assert_allclose(points, TORCH[name], rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
def test_muons_trajectory_is_that_of_pytorch(shape: tuple[int, int]) -> None:
    optimizer = optim.muon(0.01, momentum=0.8, weight_decay=0.1)
    x = jnp.asarray(START).reshape(shape)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        x, state = carry
        gradient = (jnp.asarray(MATRIX) @ x.ravel() + jnp.tanh(x.ravel())).reshape(shape)
        updates, state = optimizer.update(gradient, state, x)
        return (x + updates, state), (x + updates).ravel()

    _, points = jax.lax.scan(step, (x, optimizer.init(x)), length=100)
    np.testing.assert_allclose(points, TORCH[f"muon_{shape[0]}_{shape[1]}"], rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_momentum_has_the_learning_rate_inside_the_velocity_and_pytorch_outside() -> None:
    drop = optim.piecewise((5,), (0.05, 0.005))
    points, _ = run(optim.momentum(drop, 0.9), 20)
    theirs = TORCH["momentum_drop"]
    np.testing.assert_allclose(points[:5], theirs[:5], rtol=1e-6)  # the schedule is float32
    ours = oracle.momentum(6, lambda t: 0.05 if t < 5 else 0.005, constant(0.9))[0][5]
    np.testing.assert_allclose(points[5], ours, rtol=1e-5)
    assert np.max(np.abs(points[5] - theirs[5])) > 0.01


@pytest.mark.usefixtures("float64")
def test_clipping_is_that_of_pytorch_but_for_its_1e_6() -> None:
    gradient = TORCH["clip_gradient"]
    clip = optim.clip_by_global_norm(0.5)
    clipped, _ = clip.update(as_tree(jnp.asarray(gradient)), clip.init(None))
    norm = np.linalg.norm(gradient)
    np.testing.assert_allclose(as_vector(clipped), TORCH["clipped"] * (norm + 1e-6) / norm, rtol=1e-13)


@pytest.mark.usefixtures("float64")
def test_clipping_by_value_is_that_of_pytorch() -> None:
    clip = optim.clip_by_value(0.5)
    clipped, _ = clip.update(jnp.asarray(TORCH["clip_gradient"]), clip.init(None))
    np.testing.assert_array_equal(clipped, TORCH["clipped_by_value"])


# --- numbers in which frameworks differ -------------------------------------------------------------------


def test_adagrads_accumulator_starts_at_zero() -> None:
    optimizer = optim.adagrad(0.5)
    state = optimizer.init(jnp.zeros(3))
    assert state.sum_of_squares.tolist() == [0, 0, 0]
    updates, _ = optimizer.update(jnp.array([1e-3, -2.0, 1e4]), state)
    np.testing.assert_allclose(updates, [-0.5, 0.5, -0.5], rtol=1e-4)


@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize(
    "make",
    [
        optim.adagrad,
        optim.rmsprop,
        optim.adam,
        optim.adamax,
        optim.nadam,
        partial(optim.adamw, pattern="*"),
        partial(optim.lamb, pattern="*"),
    ],
)
def test_a_gradient_of_zero_moves_nothing_and_keeps_derivatives_finite(make: Any, eps: float) -> None:
    def moved(learning_rate: Any, start: Any) -> jax.Array:
        optimizer = make(learning_rate, eps=eps)
        x, state = start, optimizer.init(start)
        for _ in range(2):
            updates, state = optimizer.update(jax.grad(lambda x: jnp.sum(x**2))(x), state, x)
            x = optim.apply_updates(x, updates)
        return x

    assert moved(0.1, jnp.zeros(2)).tolist() == [0, 0]
    through_training = jax.jacobian(moved, argnums=(0, 1))(0.1, jnp.zeros(2))
    assert all(np.all(np.isfinite(derivative)) for derivative in through_training)


def test_a_nan_is_not_hidden() -> None:
    for optimizer in (optim.adagrad(0.1), optim.adam(0.1), optim.clip_by_global_norm(1.0)):
        state = optimizer.init(jnp.zeros(2))
        _, state = optimizer.update(jnp.array([jnp.nan, 1.0]), state)
        if not isinstance(state, optim.ClipState):
            updates, _ = optimizer.update(jnp.ones(2), state)
            assert np.isnan(updates).tolist() == [True, False]
    clip = optim.clip_by_global_norm(1.0)
    updates, _ = clip.update(jnp.array([jnp.nan, 1.0]), clip.init(None))
    assert np.isnan(updates).all()


# --- clipping, chain, apply_updates -----------------------------------------------------------------------


def test_clipping_keeps_short_gradients_shortens_long_ones_and_leaves_zero() -> None:
    clip = optim.clip_by_global_norm(10.0)
    tree = {"a": jnp.array(3.0), "b": jnp.array(4.0)}
    state = clip.init(tree)
    assert jax.tree.map(float, clip.update(tree, state)[0]) == {"a": 3.0, "b": 4.0}
    long = jax.tree.map(lambda x: 4 * x, tree)
    np.testing.assert_allclose(optim.global_norm(long), 20.0)
    assert jax.tree.map(float, clip.update(long, state)[0]) == {"a": 6.0, "b": 8.0}
    zero = jax.tree.map(jnp.zeros_like, tree)
    assert jax.tree.map(float, clip.update(zero, state)[0]) == {"a": 0.0, "b": 0.0}
    never = optim.clip_by_global_norm(math.inf)
    assert jax.tree.map(float, never.update(long, state)[0]) == {"a": 12.0, "b": 16.0}


def test_the_clip_follows_a_schedule() -> None:
    clip = optim.clip_by_global_norm(optim.piecewise((2,), (1.0, 0.25)))
    state = clip.init(None)
    norms = []
    for _ in range(4):
        updates, state = clip.update(jnp.array([0.0, 8.0]), state)
        norms.append(float(updates[1]))
    assert norms == [1.0, 1.0, 0.25, 0.25]


def test_the_global_norm_of_many_bfloat16_numbers_is_summed_in_float32() -> None:
    norm = optim.global_norm({"a": jnp.ones(70_000, jnp.bfloat16), "b": jnp.ones(30_000, jnp.bfloat16)})
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, np.sqrt(100_000), rtol=1e-6)
    assert float(optim.global_norm({})) == 0
    assert jax.grad(optim.global_norm)(jnp.zeros(2)).tolist() == [0, 0]


def test_apply_updates_adds_and_keeps_the_dtypes_of_the_parameters() -> None:
    params = {"a": jnp.array([1.0, 2.0], jnp.bfloat16), "b": jnp.array(3.0), "none": None}
    new = optim.apply_updates(params, {"a": jnp.array([0.5, -1.0]), "b": jnp.array(-1.0), "none": None})
    assert new["a"].tolist() == [1.5, 1.0]
    assert new["a"].dtype == jnp.bfloat16
    assert float(new["b"]) == 2.0


def test_chain_takes_what_another_library_calls_an_optimizer_and_is_taken_by_it() -> None:
    class GradientTransformation(NamedTuple):  # the whole protocol
        init: Any
        update: Any

    def decay(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda g, p: g + 0.5 * p, updates, params), state

    theirs = GradientTransformation(lambda params: (), decay)
    init, update = optim.chain(theirs, optim.sgd(0.1))
    params = {"w": jnp.array([2.0])}
    updates, state = update({"w": jnp.array([1.0])}, init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.2], rtol=1e-6)
    assert isinstance(state, tuple)
    assert state[0] == ()
    assert int(state[1].count) == 1
    assert optim.Optimizer._fields == ("init", "update")


# --- one table of properties ------------------------------------------------------------------------------


@every_optimizer
def test_converges(name: str) -> None:
    points, _ = converged(name)
    np.testing.assert_allclose(points[-1], np.zeros(6), atol=0.02)


@every_optimizer
def test_jit_agrees_with_eager(name: str) -> None:
    make, numbers = TABLE[name]
    optimizer = make(**numbers)
    params = as_tree(jnp.asarray(START, jnp.float32))
    grads = jax.grad(objective)(params)
    eager = optimizer.update(grads, optimizer.init(params), params)
    compiled = jax.jit(optimizer.update)(grads, jax.jit(optimizer.init)(params), params)
    assert jax.tree.structure(eager) == jax.tree.structure(compiled)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), eager, compiled)


@every_optimizer
def test_the_state_keeps_its_types_and_mirrors_the_parameters(name: str) -> None:
    make, numbers = TABLE[name]
    optimizer = make(**numbers)
    params = as_tree(jnp.asarray(START, jnp.float32))
    before = optimizer.init(params)
    updates, after = optimizer.update(params, before, params)
    assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after)
    assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(before) if leaf.ndim == 0} <= {
        jnp.dtype(jnp.int32),
        jnp.dtype(jnp.float32),
    }
    for slot in (slot for slot in before if isinstance(slot, dict)):
        assert jax.tree.structure(slot) == jax.tree.structure(params)


@every_optimizer
def test_learning_rates_are_one_compilation_and_a_population_its_solo_runs(name: str) -> None:
    make, numbers = TABLE[name]
    traces = []

    @jax.jit
    def points(hyperparameters: dict[str, Any]) -> jax.Array:
        traces.append(name)
        return run(make(**hyperparameters), 10)[0]

    rates = np.linspace(0.01, 0.1, 10)
    solo = np.stack([points({**numbers, "learning_rate": rate}) for rate in rates.tolist()])
    assert len(traces) == 1
    assert len(set(solo[:, -1, 0].tolist())) == 10
    together = jax.vmap(lambda rate: points({**numbers, "learning_rate": rate}))(jnp.asarray(rates))
    np.testing.assert_allclose(together, solo, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["number", "float32 array", "schedule"])
@every_optimizer
def test_updates_and_slots_keep_their_dtypes_whatever_the_hyperparameters(name: str, kind: str) -> None:
    make, numbers = TABLE[name]
    wrap: Callable[[float], Any] = {
        "number": lambda value: value,
        "float32 array": lambda value: jnp.asarray(value, jnp.float32),
        "schedule": lambda value: optim.exponential(value, 0.99),
    }[kind]
    optimizer = make(**{key: wrap(value) for key, value in numbers.items()})
    # A scan, which refuses a carry that changes its type; tracing it is enough.
    points, states = jax.eval_shape(partial(run, optimizer, 3, jnp.bfloat16))
    params = as_tree(jnp.asarray(START, jnp.bfloat16))
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert points.dtype == jnp.bfloat16
    assert np.all(np.isfinite(np.asarray(as_vector(updates), np.float32)))
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    slots = [slot for slot in jax.tree.leaves(states) if slot.ndim > 1]
    assert {slot.dtype for slot in slots} <= {jnp.dtype(COPIES.get(name, jnp.float32))}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("make", [optim.adam, optim.nadam, optim.adamw, optim.adamax, optim.adagrad])
def test_squares_and_running_means_have_more_digits_than_the_gradients(make: Any, dtype: Any) -> None:
    """1e-4² is 0 in float16 and 300² infinite; a mean of bfloat16 does not fall, as 0.999 v is v."""
    far_apart = jnp.array([[1e-4, 300.0]], dtype)
    optimizer = make(1e-3)

    def last_update(gradients: jax.Array) -> jax.Array:
        def step(state: Any, g: jax.Array) -> tuple[Any, jax.Array]:
            update, state = optimizer.update({"kernel": g}, state, {"kernel": jnp.zeros_like(g)})
            return state, update["kernel"]

        return jax.lax.scan(step, optimizer.init({"kernel": gradients[0]}), gradients)[1][-1]

    falling = jnp.concatenate([jnp.full((5, 2), 10.0), jnp.full((800, 2), 0.01)])
    for gradients in (far_apart, falling.astype(dtype)):
        exact = last_update(jnp.asarray(gradients, jnp.float32))
        least = float(jnp.finfo(dtype).smallest_subnormal)
        np.testing.assert_allclose(np.asarray(last_update(gradients), np.float32), exact, 0.01, least)


@every_optimizer
def test_a_number_an_array_and_a_constant_schedule_are_the_same_optimizer(name: str) -> None:
    make, numbers = TABLE[name]
    params = as_tree(jnp.asarray(START, jnp.float32))
    updates = []
    for kind in (float, jnp.float32, lambda value: lambda count: jnp.float32(value)):
        optimizer = make(**{key: kind(value) for key, value in numbers.items()})
        _, state = optimizer.update(params, optimizer.init(params), params)
        updates.append(as_vector(optimizer.update(params, state, params)[0]))
    np.testing.assert_allclose(updates[1], updates[0], rtol=1e-6)
    np.testing.assert_allclose(updates[2], updates[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("transition", "optimizer", "numbers"),
    [
        (optim.sgd_update, optim.sgd, {"learning_rate": 0.1}),
        (optim.momentum_update, optim.momentum, {"learning_rate": 0.1, "momentum": 0.5}),
        (optim.nesterov_update, optim.nesterov, {"learning_rate": 0.1, "momentum": 0.5}),
        (optim.adagrad_update, optim.adagrad, {"learning_rate": 0.1, "eps": 1e-2}),
        (optim.rmsprop_update, optim.rmsprop, {"learning_rate": 0.1, "decay": 0.5, "eps": 1e-2}),
        (optim.adadelta_update, optim.adadelta, {"learning_rate": 0.1, "decay": 0.5, "eps": 1e-2}),
        (optim.adam_update, optim.adam, {"learning_rate": 0.1, "b1": 0.5, "b2": 0.8, "eps": 1e-2}),
        (optim.adamax_update, optim.adamax, {"learning_rate": 0.1, "b1": 0.5, "b2": 0.8, "eps": 1e-2}),
        (optim.nadam_update, optim.nadam, {"learning_rate": 0.1, "b1": 0.5, "b2": 0.8, "eps": 1e-2}),
        (
            optim.adamw_update,
            optim.adamw,
            {"learning_rate": 0.1, "b1": 0.5, "b2": 0.8, "eps": 1e-2, "weight_decay": 0.5},
        ),
        (optim.lion_update, optim.lion, {"learning_rate": 0.1, "b1": 0.5, "b2": 0.8, "weight_decay": 0.5}),
        (
            optim.lamb_update,
            optim.lamb,
            {"learning_rate": 0.1, "b1": 0.5, "b2": 0.8, "eps": 1e-2, "weight_decay": 0.5},
        ),
        (optim.muon_update, optim.muon, {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.5}),
        (optim.clip_by_value_update, optim.clip_by_value, {"limit": 0.1}),
        (optim.max_norm_update, optim.max_norm, {"limit": 0.1}),
        (optim.proximal_l1_update, optim.proximal_l1, {"threshold": 0.1}),
        (optim.clip_by_global_norm_update, optim.clip_by_global_norm, {"max_norm": 0.1}),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_bare_transition_takes_plain_numbers(
    transition: Any, optimizer: Any, numbers: dict[str, float], dtype: Any
) -> None:
    extra = {optim.nesterov_update: {"next_momentum": 0.5}, optim.nadam_update: {"next_b1": 0.5}}
    init, update = optimizer(**numbers)
    params = grads = {"kernel": jnp.asarray(START.reshape(2, 3), dtype)}
    weights = (params,) if "params" in inspect.signature(transition).parameters else ()
    bare, wrapped = init(params), init(params)
    for _ in range(2):
        bare_updates, bare = transition(grads, bare, *weights, **numbers, **extra.get(transition, {}))
        wrapped_updates, wrapped = update(grads, wrapped, *weights)
    assert jax.tree.map(jax.typeof, bare) == jax.tree.map(jax.typeof, wrapped)
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), tolerance
        ),
        bare_updates,
        wrapped_updates,
    )


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (optim.sgd, {"learning_rate": -1.0}, "learning_rate must be at least 0, not -1.0"),
        (optim.sgd, {"learning_rate": float("nan")}, "learning_rate must be at least 0, not nan"),
        (optim.momentum, {"learning_rate": -1.0}, "learning_rate must be at least 0, not -1.0"),
        (optim.momentum, {"momentum": 1.0}, "momentum must be at least 0 and below 1, not 1.0"),
        (optim.nesterov, {"learning_rate": -1.0}, "learning_rate must be at least 0, not -1.0"),
        (optim.nesterov, {"momentum": -0.1}, "momentum must be at least 0 and below 1, not -0.1"),
        (optim.adagrad, {"learning_rate": -1.0}, "learning_rate must be at least 0, not -1.0"),
        (optim.adagrad, {"eps": -1e-8}, "eps must be at least 0, not -1e-08"),
        (optim.rmsprop, {"learning_rate": -1.0}, "learning_rate must be at least 0, not -1.0"),
        (optim.rmsprop, {"decay": 1.5}, "decay must be at least 0 and below 1, not 1.5"),
        (optim.rmsprop, {"eps": -1.0}, "eps must be at least 0, not -1.0"),
        (optim.adam, {"learning_rate": -1.0}, "learning_rate must be at least 0, not -1.0"),
        (optim.adam, {"b1": 1.0}, "b1 must be at least 0 and below 1, not 1.0"),
        (optim.adam, {"b2": 1.0}, "b2 must be at least 0 and below 1, not 1.0"),
        (optim.adam, {"eps": -1.0}, "eps must be at least 0, not -1.0"),
        (optim.adadelta, {"decay": 1.0}, "decay must be at least 0 and below 1, not 1.0"),
        (optim.adadelta, {"eps": 0.0}, "eps must be above 0, not 0.0"),
        (optim.adamax, {"b2": 1.0}, "b2 must be at least 0 and below 1, not 1.0"),
        (optim.nadam, {"b1": 1.0}, "b1 must be at least 0 and below 1, not 1.0"),
        (optim.adamw, {"weight_decay": -1.0}, "weight_decay must be at least 0, not -1.0"),
        (optim.lion, {"b1": 1.0}, "b1 must be at least 0 and below 1, not 1.0"),
        (optim.lion, {"weight_decay": -1.0}, "weight_decay must be at least 0, not -1.0"),
        (optim.lamb, {"weight_decay": -1.0}, "weight_decay must be at least 0, not -1.0"),
        (optim.muon, {"momentum": 1.0}, "momentum must be at least 0 and below 1, not 1.0"),
        (optim.muon, {"steps": 0}, "steps must be at least 1, not 0"),
        (optim.clip_by_global_norm, {"max_norm": 0.0}, "max_norm must be above 0, not 0.0"),
    ],
)
def test_a_number_out_of_range_is_refused(make: Any, arguments: dict[str, float], message: str) -> None:
    if make is not optim.clip_by_global_norm:
        arguments = {"learning_rate": 0.1, **arguments}
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize("make", [optim.sgd, optim.adam, optim.adamw, optim.muon, optim.clip_by_value])
def test_a_number_that_is_missing_is_refused(make: Any) -> None:
    name = "limit" if make is optim.clip_by_value else "learning_rate"
    with pytest.raises(TypeError, match=f"^{name} must be a number, not None$"):
        make(None)


SCORES, CLASSES = jnp.ones((2, 3)), jnp.array([0, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.adam((0.1, 0.2)), "learning_rate must be a number, not (0.1, 0.2)"),
        (lambda: optim.muon(0.1, steps=None), "steps must be an integer, not None"),
        (lambda: optim.ema(optim.sgd(0.1), None), "decay must be a number, not None"),
        (lambda: optim.lookahead(optim.sgd(0.1), None), "every must be a number, not None"),
        (lambda: optim.lookahead(optim.sgd(0.1), slow_step=None), "slow_step must be a number, not None"),
        (lambda: optim.accumulate_gradients(optim.sgd(0.1), None), "every must be a number, not None"),
        (lambda: optim.l1(CLASSES, None), "strength must be a number, not None"),
        (lambda: optim.elastic_net(CLASSES, 0.1, None), "beta must be a number, not None"),
        (lambda: optim.cosine(1.0, None), "steps must be a number, not None"),
        (lambda: optim.polynomial(1.0, 5, end=None), "end must be a number, not None"),
        (lambda: optim.linear_warmup(None, 5), "after must be a number, not None"),
        (
            lambda: optim.softmax_cross_entropy(SCORES, CLASSES, label_smoothing=None),
            "label_smoothing must be a number, not None",
        ),
        (
            lambda: optim.multiclass_hinge(SCORES, CLASSES, margin=None),
            "margin must be a number, not None",
        ),
        (lambda: optim.huber(SCORES, SCORES, delta="1"), "delta must be a number, not '1'"),
        (lambda: optim.top_k_accuracy(SCORES, CLASSES, k=None), "k must be an integer, not None"),
        (lambda: optim.calibration_error(SCORES, CLASSES, bins=None), "bins must be an integer, not None"),
        (lambda: optim.piecewise(5, (1.0, 0.1)), "boundaries must be a sequence such as (5,), not 5"),
        (lambda: optim.piecewise((5,), 1.0), "values must be a sequence such as (1.0,), not 1.0"),
        (
            lambda: optim.join(optim.cosine(1.0, 5), optim.cosine(1.0, 5), boundaries=5),
            "boundaries must be a sequence such as (5,), not 5",
        ),
        (
            lambda: optim.parameter_groups({"bias": SCORES}, "*bias"),
            "patterns must be a sequence such as ('*bias',), not '*bias'",
        ),
    ],
)
def test_what_is_no_number_or_sequence_is_refused(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        make()


def test_the_iterations_of_muon_are_an_integer() -> None:
    with pytest.raises(TypeError, match=r"steps must be an integer, not 2\.5"):
        optim.muon(0.02, steps=2.5)


def test_a_vector_of_learning_rates_is_refused_with_what_to_do() -> None:
    optimizer = optim.sgd(jnp.array([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"must be a scalar, not an array of shape \(2,\); use jax.vmap"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))


def test_chain_refuses_what_is_not_an_optimizer() -> None:
    with pytest.raises(TypeError, match="chain takes optimizers, not adam; an optimizer's function has to"):
        optim.chain(optim.adam)
    with pytest.raises(TypeError, match=r"^chain takes optimizers, not list; make one of it, chain\(\*optim"):
        optim.chain([optim.adam(0.1)])  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"^chain takes optimizers, not tuple; make one of it, Optimizer\(init, "
    ):
        optim.chain(tuple(optim.adam(0.1)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^chain takes optimizers, not float$"):
        optim.chain(0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="chain needs at least one optimizer"):
        optim.chain()


def test_parameters_in_the_place_of_a_rate_or_a_state_are_named() -> None:
    params = {"kernel": jnp.ones(2)}
    with pytest.raises(TypeError, match=r"^learning_rate must be a number, not a dict$"):
        optim.adam(params, 0.1)  # type: ignore[arg-type]
    for optimizer in (optim.adam(0.1), optim.clip_by_value(1.0)):
        with pytest.raises(
            TypeError, match=r"^update\(grads, state, params\) takes the state that init returned, not dict$"
        ):
            optimizer.update(params, params, optimizer.init(params))
