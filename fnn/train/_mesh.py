"""One program on many devices."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fnn._types import check_number

Tree = TypeVar("Tree")


def mesh(
    *, data: int | None = None, population: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh with the axes `data` (a batch is cut along it) and `population` (runs are).

    Args:
        data: how many devices share a batch; all that `population` leaves by default.
        population: how many groups of devices share the members of a population.
        devices: all of this process's backend by default; on CPU there is one unless
            `jax.config.update("jax_num_cpu_devices", n)` came first.

    Raises:
        ValueError: no devices asked for, or more than there are.
        TypeError: a number of devices that is no integer.
    """
    check_number("population", population, at_least=1, integer=True)
    devices = jax.devices() if devices is None else devices
    data = max(len(devices) // population, 1) if data is None else data
    check_number("data", data, at_least=1, integer=True)
    if data * population > len(devices):
        raise ValueError(f"a mesh of {data}×{population} does not fit {len(devices)} devices")
    return jax.make_mesh(
        (data, population),
        ("data", "population"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices[: data * population],
    )


def check_mesh(mesh: Any, axis: Literal["data", "population"]) -> None:
    """See that work can be cut along an axis of a mesh, if there is one.

    Raises:
        ValueError: no such axis, or axes of another type than those of `mesh`.
        TypeError: no mesh.
    """
    if mesh is None:
        return
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a mesh of devices, such as fnn.mesh({axis}=2), not {mesh!r}")
    if axis not in mesh.axis_names or set(mesh.axis_types) != {AxisType.Auto}:
        raise ValueError(
            f"mesh: axes of type Auto are wanted, one of them named {axis}, not {mesh.axis_names} of types "
            f"{', '.join(kind.name for kind in mesh.axis_types)}; make it by fnn.mesh({axis}=…)"
        )


def on_mesh(mesh: Mesh | None) -> AbstractContextManager[Any]:
    """What is traced within is for the devices of a mesh; for one device where there is none."""
    return nullcontext() if mesh is None else jax.set_mesh(mesh)


def placed(tree: Tree, mesh: Mesh | None, axis: str | None = None) -> Tree:
    """Arrays on the devices of a mesh, their first axis cut along one of its axes, or whole on each device.

    Without a mesh they are on one device.
    """
    spec = PartitionSpec() if axis is None else PartitionSpec(axis)
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, spec))


def over_data(tree: Tree) -> Tree:
    """Cut the leading axis of every array over the mesh that `jax.set_mesh` made current, if any.

    What is computed stays that of the whole batch, so no result depends on the number of devices. Where
    the devices do not divide the axis, the placement is left to XLA.
    """
    current = jax.sharding.get_abstract_mesh()
    parts = current.shape.get("data", 1)
    if parts == 1:
        return tree

    def cut(leaf: jax.Array) -> jax.Array:
        if leaf.ndim == 0 or leaf.shape[0] % parts:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec("data"))

    return jax.tree.map(cut, tree)
