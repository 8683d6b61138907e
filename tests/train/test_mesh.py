"""Several devices compute what one does: dropout masks, statistics, losses and updates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import fnn
from fnn._tree import paths
from fnn.train._mesh import over_data

RANDOM = np.random.default_rng(2)
N = 20
X = RANDOM.integers(0, 256, (N, 4, 4, 2)).astype(np.uint8)
Y = (np.arange(N) % 3).astype(np.int32)


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def keeping() -> fnn.Layer:
    """The identity, which keeps in its state what it saw in training: the batch with its dropout mask."""

    def init(key: Any, x: Any) -> Any:
        return {}, {"seen": jnp.zeros((8, *x.shape[1:]), x.dtype)}

    def apply(params: Any, state: Any, x: Any, *, train: bool = False, **context: Any) -> Any:
        return x, {"seen": x} if train and len(x) == 8 else state

    return fnn.Layer("keeping", init, apply)


def make(hyperparameters: Any) -> fnn.Task:
    net = fnn.serial(
        fnn.conv(4, 3), fnn.batch_norm(), fnn.relu, fnn.max_pool(2), fnn.flatten,
        fnn.dropout(hyperparameters["rate"]), keeping(), fnn.linear(3),
    )  # fmt: skip
    penalties = (partial(fnn.l2, strength=1e-3),)
    optimizer = fnn.momentum(hyperparameters["learning_rate"])
    return fnn.Task(net, fnn.softmax_cross_entropy, optimizer, penalties, (fnn.random_flip,))


HYPERPARAMETERS = {"learning_rate": 0.05, "rate": 0.4}


@cache
def epoch_on(devices: int) -> Any:
    """State and metrics after an epoch of 8, 8 and 4 of 20 examples, in float64."""
    with jax.enable_x64(True), nullcontext() if devices == 1 else jax.set_mesh(fnn.mesh(data=devices)):
        x = X / 255
        state = jax.jit(partial(fnn.init_state, make))(HYPERPARAMETERS, jax.random.key(3), x)
        epoch = jax.jit(partial(fnn.train_epoch, make, batch_size=8))
        return jax.device_get(epoch(HYPERPARAMETERS, state, fnn.Examples(x, Y), 0))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("devices", [2, 4])
def test_an_epoch_is_that_of_one_device(devices: int) -> None:
    (expected, expected_metrics), (actual, metrics) = epoch_on(1), epoch_on(devices)
    for name in ("params", "state", "opt_state"):
        for (path, a), (_, e) in zip(
            paths(getattr(actual, name)), paths(getattr(expected, name)), strict=True
        ):
            np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-9, err_msg=path)
    for a, e in zip(metrics, expected_metrics, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9)
    assert metrics.examples.tolist() == [8, 8, 4]
    dropped = [np.asarray(state.state["keeping_1"]["seen"] == 0) for state in (expected, actual)]
    np.testing.assert_array_equal(*dropped)
    assert 0.3 < dropped[0].mean() < 0.9


@cache
def fit_on(devices: int, batch_size: int) -> fnn.Fit:
    def task(hyperparameters: Any) -> fnn.Task:  # without the kept batch, whose size this varies
        net = fnn.serial(
            fnn.conv(4, 3), fnn.batch_norm(), fnn.relu, fnn.flatten, fnn.dropout(hyperparameters["rate"]),
            fnn.linear(3),
        )  # fmt: skip
        return make(hyperparameters)._replace(net=net)

    examples = fnn.Examples(X, Y)
    splits = fnn.Splits(examples, fnn.Examples(X[:7], Y[:7]), examples, ("a", "b", "c"), "random")
    mesh = None if devices == 1 else fnn.mesh(data=devices)
    return fnn.fit(task, HYPERPARAMETERS, splits, epochs=2, batch_size=batch_size, mesh=mesh)


@pytest.mark.parametrize(("devices", "batch_size"), [(2, 8), (4, 7)])
def test_fit_is_that_of_one_device(devices: int, batch_size: int) -> None:
    """Seven examples, in the batches of the second case and in the validation part, fit no 2 or 4 devices."""
    expected, actual = fit_on(1, batch_size), fit_on(devices, batch_size)
    assert actual.best_epoch == expected.best_epoch
    for a, e in zip(actual.history, expected.history, strict=True):
        assert a == pytest.approx(e, rel=1e-5, abs=1e-6)
    for (path, a), (_, e) in zip(paths(actual.last.params), paths(expected.last.params), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5, err_msg=path)
        assert len(a.sharding.device_set) == devices


def test_a_batch_is_cut_where_the_devices_divide_it() -> None:
    with jax.set_mesh(fnn.mesh(data=4)):
        cut = jax.jit(over_data)({"divides": jnp.ones((8, 3)), "does not": jnp.ones((6, 3))})
    assert cut["divides"].sharding.spec == PartitionSpec("data")
    assert cut["divides"].addressable_shards[0].data.shape == (2, 3)
    assert "data" not in tuple(cut["does not"].sharding.spec)
    x = jnp.ones((8, 3))
    assert over_data(x) is x  # without a mesh


def test_each_device_computes_its_part_only() -> None:
    """Counted in the compiled step, so a batch that every device repeats shows."""

    def flops(devices: int) -> float:
        with jax.set_mesh(fnn.mesh(data=devices)):
            x = jax.ShapeDtypeStruct((32, 16, 16, 8), jnp.float32)

            def make(_: Any) -> Any:
                return fnn.serial(fnn.conv(16, 3), fnn.relu, fnn.flatten, fnn.linear(3)), fnn.softmax_cross_entropy, fnn.sgd(0.1)

            state = jax.eval_shape(lambda: fnn.init_state(make, None, jax.random.key(0), x))
            batch = fnn.Batch(x, jax.ShapeDtypeStruct((32,), jnp.int32), jax.ShapeDtypeStruct((32,), bool))
            step = jax.jit(partial(fnn.train_step, make, None)).lower(state, batch).compile()
            return step.cost_analysis()["flops"]

    assert flops(4) < 0.35 * flops(1)


# --- the mesh itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, {"data": 4, "population": 1}),
        ({"data": 2}, {"data": 2, "population": 1}),
        ({"population": 2}, {"data": 2, "population": 2}),
        ({"data": 1, "population": 4}, {"data": 1, "population": 4}),
        ({"population": 3}, {"data": 1, "population": 3}),
    ],
)
def test_axes_of_the_mesh(settings: dict[str, int], shape: dict[str, int]) -> None:
    assert dict(fnn.mesh(**settings).shape) == shape


def test_devices_may_be_chosen() -> None:
    chosen = jax.devices()[2:]
    assert list(fnn.mesh(devices=chosen).devices.ravel()) == chosen
    with pytest.raises(ValueError, match="a mesh of 3×1 does not fit 2 devices"):
        fnn.mesh(data=3, devices=chosen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": 5}, "a mesh of 5×1 does not fit 4 devices"),
        ({"data": 2, "population": 3}, "a mesh of 2×3 does not fit 4 devices"),
        ({"population": 5}, "a mesh of 0×5 does not fit 4 devices"),
        ({"data": 0}, "a mesh of 0×1 does not fit 4 devices"),
        ({"data": 2, "population": 0}, "a mesh of 2×0 does not fit 4 devices"),
        ({"population": 0}, "does not fit 4 devices"),
        ({"data": -1}, "a mesh of -1×1 does not fit 4 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_is_an_error(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fnn.mesh(**settings)
