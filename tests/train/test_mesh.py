"""Many devices as one: a mesh changes where things are computed and nothing of what is computed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

import fnn
from fnn.data import Examples, Splits
from fnn.ops import _on_cpu
from fnn.train import Batch, Task, TrainState, evaluate, fit, init_state, train_step
from fnn.train._mesh import over_data

pytestmark = pytest.mark.devices
KEY = jax.random.key(2)
RANDOM = np.random.default_rng(4)
X = RANDOM.normal(size=(48, 6, 6, 2)).astype(np.float32)
Y = RANDOM.integers(0, 4, 48).astype(np.int32)


def convolutional(hyperparameters: Any) -> Task:
    net = fnn.serial(
        fnn.conv(5, 3, bias=False),
        fnn.batch_norm(),
        fnn.relu,
        fnn.flatten,
        fnn.dropout(hyperparameters["rate"]),
        fnn.linear(4),
    )
    return Task(
        net,
        fnn.softmax_cross_entropy,
        fnn.momentum(hyperparameters["learning_rate"]),
        penalties=(partial(fnn.l2, strength=1e-3),),
        augment=(lambda key, x: x + 0.1 * jax.random.normal(key, x.shape),),
    )


SETTINGS = {"learning_rate": 0.1, "rate": 0.3}
one_step = jax.jit(train_step, static_argnums=0)


def step(make: Callable, settings: Any, state: TrainState, batch: Batch, devices: int | None) -> Any:
    with nullcontext() if devices is None else jax.set_mesh(fnn.mesh(data=devices)):
        return one_step(make, settings, state, batch)


def close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), actual, expected)


# --- a step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "batch", "real"), [(2, 8, 8), (2, 8, 3), (4, 8, 8), (4, 8, 3), (2, 7, 7)]
)
def test_a_step_is_that_of_one_device(devices: int, batch: int, real: int) -> None:
    """Also where the devices do not divide the batch, and where some hold nothing but padding."""
    state = init_state(convolutional, SETTINGS, KEY, X)
    some = Batch(X[:batch], Y[:batch], np.arange(batch) < real)
    alone, expected = step(convolutional, SETTINGS, state, some, None)
    shared, measured = step(convolutional, SETTINGS, state, some, devices)
    close(tuple(measured), tuple(expected))
    close([shared.params, shared.state, shared.opt_state], [alone.params, alone.state, alone.opt_state])


@pytest.mark.parametrize(("devices", "batch"), [(2, 8), (4, 8), (4, 7)])
def test_dropout_masks_are_those_of_one_device(devices: int, batch: int) -> None:
    """Example n holds 2ⁿ everywhere, so the gradient of a linear output spells the mask in binary."""

    def make(hyperparameters: Any) -> Task:
        zeros = partial(
            fnn.linear, 1, bias=False, kernel_init=lambda key, shape, dtype: jnp.zeros(shape, dtype)
        )
        net = fnn.serial(fnn.dropout(0.5), zeros(name="head"))
        return Task(net, lambda outputs, targets: -outputs[:, 0], fnn.sgd(1.0))

    x = np.repeat(2.0 ** np.arange(batch)[:, None], 40, axis=1).astype(np.float32)
    state = init_state(make, {}, KEY, x)

    def kept(devices: int | None) -> np.ndarray:
        some = Batch(x, np.zeros(batch, np.float32), np.ones(batch, bool))
        after, _ = step(make, {}, state, some, devices)
        digits = np.rint(np.asarray(after.params["head"]["kernel"])[:, 0] * batch / 2).astype(int)
        return (digits[:, None] >> np.arange(batch)) & 1

    masks = kept(devices)
    np.testing.assert_array_equal(masks, kept(None))
    assert len({tuple(example) for example in masks.T}) == batch  # no device repeats another's draws
    assert 0.3 < masks.mean() < 0.7


@pytest.mark.cpu
def test_half_precision_is_convolved_in_float32_by_every_device() -> None:
    """XLA aborts the process where devices add up gradients of 16 bits, so nothing is run before it is seen."""
    x, kernel = jnp.asarray(X[:4], jnp.bfloat16), jnp.asarray(RANDOM.normal(size=(3, 3, 2, 5)), jnp.bfloat16)

    def squares(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.square(fnn.ops.conv(x, kernel).astype(jnp.float32)).sum()

    expected = jax.jit(jax.grad(squares))(kernel, x)
    with jax.set_mesh(fnn.mesh(data=2)):
        lowered = jax.jit(jax.grad(squares)).lower(kernel, x)
        shared = [line for line in lowered.as_text().splitlines() if "manual_computation" in line]
        assert len(shared) == 2
        assert not any("bf16" in line for line in shared)
        gradient = lowered.compile()(kernel, x)
    assert gradient.dtype == jnp.bfloat16
    close(gradient.astype(jnp.float32), expected.astype(jnp.float32), 2**-7)


# --- that the work is shared ----------------------------------------------------------------------------


def program(make: Callable, devices: int | None) -> str:
    state = jax.eval_shape(partial(init_state, make, SETTINGS, x=X), KEY)
    with nullcontext() if devices is None else jax.set_mesh(fnn.mesh(data=devices)):
        some = Batch(X, Y, np.ones(48, bool))
        return jax.jit(partial(train_step, make)).lower(SETTINGS, state, some).compile().as_text()


def only_convolutional(hyperparameters: Any) -> Task:
    return convolutional(hyperparameters)._replace(net=fnn.serial(fnn.conv(5, 3), fnn.flatten, fnn.linear(4)))


def winograd(hyperparameters: Any) -> Task:
    """Its second convolution has channels enough for Winograd's algorithm."""
    net = fnn.serial(fnn.conv(64, 3), fnn.conv(64, 3), fnn.flatten, fnn.linear(4))
    return convolutional(hyperparameters)._replace(net=net)


def library(hyperparameters: Any) -> Task:
    """Its second convolution is XLA's own."""
    net = fnn.serial(fnn.conv(16, 3), fnn.conv(16, 3), fnn.flatten, fnn.linear(4))
    return convolutional(hyperparameters)._replace(net=net)


NETWORKS = pytest.mark.parametrize(
    ("make", "channels"), [(only_convolutional, 5), (winograd, 64), (library, 16)]
)


def batches_of_feature_maps(text: str, channels: int) -> set[int]:
    """How many images all arrays hold that look like feature maps, (n, 6, 6, 5) or (blocks, n, 6, 6, 5)."""
    leading = re.findall(rf"f32\[([\d,]+),6,6,{channels}\]", text)
    return {math.prod(int(axis) for axis in axes.split(",")) for axes in leading}


@NETWORKS
@pytest.mark.parametrize(("devices", "block_bytes"), [(2, 4 << 20), (4, 1 << 16)])
def test_each_device_convolves_its_part(
    make: Callable,
    channels: int,
    devices: int,
    block_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
    retraced: None,
) -> None:
    """Also where the images go through the convolution in blocks."""
    for form in ("IM2COL", "KN2ROW", "WINOGRAD"):
        monkeypatch.setattr(_on_cpu, form, getattr(_on_cpu, form)._replace(block_bytes=block_bytes))
    shared = program(make, devices)
    assert "all-reduce" in shared
    assert max(batches_of_feature_maps(shared, channels)) == 48 // devices


@NETWORKS
def test_one_device_convolves_everything(make: Callable, channels: int) -> None:
    """So that the tests beside this one look for the right thing."""
    alone = program(make, None)
    assert "all-reduce" not in alone
    assert max(batches_of_feature_maps(alone, channels)) == 48


def test_no_device_gathers_the_feature_maps_of_the_others() -> None:
    """Batch norm exchanges numbers per channel, not images."""
    assert max(batches_of_feature_maps(program(convolutional, 2), 5)) == 24


def test_a_batch_is_cut_where_the_devices_divide_it() -> None:
    with jax.set_mesh(fnn.mesh(data=4)):
        cut = jax.jit(over_data)({"divides": jnp.ones((8, 3)), "does not": jnp.ones((6, 3))})
    assert cut["divides"].sharding.spec == PartitionSpec("data")
    assert cut["divides"].addressable_shards[0].data.shape == (2, 3)
    assert cut["does not"].addressable_shards[0].data.shape == (6, 3)
    x = jnp.ones((8, 3))
    assert over_data(x) is x  # without a mesh


# --- a run ----------------------------------------------------------------------------------------------

DATA = Splits(
    Examples(X[:26], Y[:26]), Examples(X[26:37], Y[26:37]), Examples(X[37:], Y[37:]), tuple("nesw"), "noise"
)


def dense(hyperparameters: Any) -> Task:
    """Quicker to compile, with statistics and random draws of its own."""
    net = fnn.serial(fnn.flatten, fnn.batch_norm(), fnn.dropout(hyperparameters["rate"]), fnn.linear(4))
    return convolutional(hyperparameters)._replace(net=net, augment=())


@pytest.mark.parametrize(("devices", "batch_size"), [(2, 7), (4, 8)])
def test_a_run_is_that_of_one_device(devices: int, batch_size: int) -> None:
    """No number of devices divides the 26 training and the 11 validation examples evenly."""
    run = partial(fit, dense, SETTINGS, DATA, epochs=2, batch_size=batch_size)
    expected, result = run(), run(mesh=fnn.mesh(data=devices))
    assert result.best_epoch == expected.best_epoch
    for metrics, wanted in zip(result.history, expected.history, strict=True):
        assert metrics == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    close([result.last.params, result.last.state], [expected.last.params, expected.last.state], 1e-4)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(result.last.params)} == {devices}
    after = evaluate(dense, SETTINGS, jax.device_get(result.last), DATA.validation)
    np.testing.assert_allclose(after["loss"], result.history[-1]["validation_loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("axes", "kind", "found"),
    [
        (("data",), AxisType.Explicit, "('data',) of types Explicit"),
        (("batch",), AxisType.Auto, "('batch',) of types Auto"),
        (("data", "model"), AxisType.Explicit, "('data', 'model') of types Explicit, Explicit"),
    ],
)
def test_a_run_takes_a_mesh_along_which_it_can_cut(axes: Any, kind: AxisType, found: str) -> None:
    shape = (2,) * len(axes)
    mesh = jax.make_mesh(shape, axes, axis_types=(kind,) * len(axes), devices=jax.devices()[: 2 ** len(axes)])
    message = f"mesh: axes of type Auto are wanted, one of them named data, not {found}; make it by fnn.mesh(data=…)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit(dense, SETTINGS, DATA, epochs=1, batch_size=7, mesh=mesh)
    with pytest.raises(
        TypeError, match=r"^mesh must be a mesh of devices, such as fnn.mesh\(data=2\), not 2$"
    ):
        fit(dense, SETTINGS, DATA, epochs=1, batch_size=7, mesh=2)


def test_any_mesh_with_an_axis_for_the_data_will_do() -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    result = fit(dense, SETTINGS, DATA, epochs=1, batch_size=8, mesh=mesh)
    expected = fit(dense, SETTINGS, DATA, epochs=1, batch_size=8, mesh=fnn.mesh(data=2))
    assert result.history[0] == pytest.approx(expected.history[0], rel=1e-4)


# --- the mesh -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "data", "population"),
    [
        ({}, 4, 1),
        ({"data": 2}, 2, 1),
        ({"population": 2}, 2, 2),
        ({"population": 4}, 1, 4),
        ({"population": 3}, 1, 3),
        ({"data": 1, "population": 2}, 1, 2),
    ],
)
def test_the_shape_of_a_mesh(arguments: dict[str, int], data: int, population: int) -> None:
    mesh = fnn.mesh(**arguments)
    assert dict(mesh.shape) == {"data": data, "population": population}
    assert mesh.devices.ravel().tolist() == jax.devices()[: data * population]


def test_the_devices_of_a_mesh_are_those_given() -> None:
    chosen = jax.devices()[2:]
    assert fnn.mesh(devices=chosen).devices.ravel().tolist() == chosen
    with pytest.raises(ValueError, match="a mesh of 3×1 does not fit 2 devices"):
        fnn.mesh(data=3, devices=chosen)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"data": 5}, "5×1"),
        ({"data": 2, "population": 3}, "2×3"),
        ({"population": 5}, "1×5"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(arguments: dict[str, int], shape: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{shape} does not fit 4 devices")):
        fnn.mesh(**arguments)


@pytest.mark.parametrize("axis", ["data", "population"])
@pytest.mark.parametrize(
    ("number", "error", "problem"),
    [
        (0, ValueError, "at least 1, not 0"),
        (-2, ValueError, "at least 1, not -2"),
        ("a", TypeError, "an integer, not 'a'"),
        (1.0, TypeError, "an integer, not 1.0"),
    ],
)
def test_an_axis_of_a_mesh_is_a_whole_number(
    axis: str, number: Any, error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=f"^{axis} must be {problem}$"):
        fnn.mesh(**{axis: number})
