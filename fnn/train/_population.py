"""Many runs as one program."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from fnn._types import check_number

How = Literal["vmap", "map"]
"""`"vmap"`: all members in every operation. `"map"`: one member after the other."""


def over_population(function: Callable[..., Any], /, *, how: How) -> Callable[..., Any]:
    """A function of one member as a function of all members of a population.

    Small networks want `"vmap"`, which makes few large operations of many small ones. Convolutional
    networks on a CPU want `"map"`: one of them keeps the cores busy, and all of them together do not fit
    the cache. `fastest` measures which.

    Under a mesh whose axis `population` has several devices (`fnn.mesh(population=2)` within
    `jax.set_mesh`), each of them takes an equal share of the members.

    Args:
        function: `function(member, *shared)`, any pytrees.
        how: see `How`.

    Returns:
        `f(members, *shared)`: every leaf of `members`, and of what comes back, has the members as its first
        axis; `shared` is the same for all. A member's numbers are those that it has alone, up to rounding.

    Raises:
        ValueError: another `how`; when called, no members, leaves of unequally many, or devices that do not
            divide them.

    >>> import jax.numpy as jnp
    >>> scaled = over_population(lambda factor, x: factor * x.sum(), how="map")
    >>> print(scaled(jnp.array([1.0, 2.0, 3.0]), jnp.ones(4)))
    [ 4.  8. 12.]
    """
    if how not in ("vmap", "map"):
        raise ValueError(f'how must be "vmap" or "map", not {how!r}')

    def run(members: Any, *shared: Any) -> Any:
        if how == "vmap":
            return jax.vmap(lambda member: function(member, *shared))(members)
        return lax.map(lambda member: function(member, *shared), members)

    def on_each_device(members: Any, *shared: Any) -> Any:
        axes = jax.sharding.get_abstract_mesh().shape
        groups = axes.get("population", 1)
        sizes = [np.shape(leaf)[:1] for leaf in jax.tree.leaves(members)]
        if not sizes or not all(sizes) or len(set(sizes)) > 1 or sizes[0] == (0,):
            raise ValueError(
                "members must be arrays, at least one, with equally many members, at least one, as their "
                f"first axis; these have the shapes {jax.tree.map(np.shape, members)}"
            )
        count = sizes[0][0]
        if groups == 1:
            return run(members, *shared)
        if count % groups:
            raise ValueError(f"{groups} groups of devices cannot share {count} members equally")
        cut, whole = PartitionSpec("population"), PartitionSpec()
        specs = (cut, *(whole for _ in shared))
        # An axis of one device left to XLA would have it write a sharding down for every operation.
        mine = {"population", *(name for name, size in axes.items() if size == 1)}
        share = jax.shard_map(run, in_specs=specs, out_specs=cut, axis_names=mine, check_vma=False)
        return share(members, *shared)

    return on_each_device


def fastest(function: Callable[..., Any], members: Any, /, *shared: Any, repeats: int = 5) -> How:
    """Which way through a population takes the least time on this device, measured.

    Of two that are alike it is `"map"`, which takes less memory and compiles sooner: `"vmap"` has to save a
    fifth of the time, so that chance seldom decides. Where it does, results differ in their last bits from
    one process to the next. Where JAX keeps compiled programs in a directory (`jax_compilation_cache_dir`),
    the answer is kept beside them, and the same question is not measured again.

    Args:
        function: see `over_population`; a short piece of the work, such as a few steps, is enough.
        members, shared: its arguments; they are not changed.
        repeats: how often each way is timed, after a first call that compiles; the shortest time counts.

    Raises:
        ValueError: no repeats.
        TypeError: repeats that are no integer.
    """
    check_number("repeats", repeats, at_least=1, integer=True)
    function = jax.jit(function)  # traced once, for both ways
    ways: tuple[How, ...] = ("vmap", "map")
    kept = _kept_answer(function, members, shared)
    with suppress(OSError):
        known = "" if kept is None else kept.read_text()
        for how in ways:
            if how == known:
                return how
    compiled = {how: jax.jit(over_population(function, how=how)) for how in ways}
    seconds: dict[str, list[float]] = {how: [] for how in ways}
    for _ in range(repeats + 1):  # in turns, so that what else the machine does hits both
        for how in ways:
            start = time.perf_counter()
            jax.block_until_ready(compiled[how](members, *shared))
            seconds[how].append(time.perf_counter() - start)
    vmap, map_ = (min(seconds[how][1:]) for how in ways)  # the first call compiles
    answer: How = "vmap" if vmap < 0.8 * map_ else "map"
    with suppress(OSError):  # a directory that cannot be written to is no reason to stop
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(answer)
    return answer


def _kept_answer(function: Any, members: Any, shared: Any) -> Path | None:
    """The file for the answer about this program, so many members and these devices."""
    directory = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if not directory or "://" in directory:  # a bucket is shared by many machines
        return None
    one = jax.eval_shape(lambda members: jax.tree.map(lambda leaf: leaf[0], members), members)
    program = re.sub("0x[0-9a-f]+", "", str(function.trace(one, *shared).jaxpr))  # without addresses
    count = len(jax.tree.leaves(members)[0])
    devices = [device.device_kind for device in jax.devices()]
    about = (program, count, devices, os.cpu_count(), jax.sharding.get_abstract_mesh(), jax.__version__)
    return Path(directory) / "fastest" / hashlib.sha256(repr(about).encode()).hexdigest()
