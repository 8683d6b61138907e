"""Trials of one program on the devices: placed, compiled, and trained together for an epoch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from fnn.train import fastest, over_population
from fnn.train._mesh import on_mesh, placed
from fnn.train._state import as_values
from fnn.train._step import advance_if
from fnn.tune._method import Trial
from fnn.tune._program import Program

MOST_OF_FREE = 0.8  # the part of the free memory that a population may take
_PROBED = 64  # members that the fastest way is measured with, at most: few of them fit into a cache

Members = Sequence[tuple[Trial, Any]]
"""Trials, and the values of their hyperparameters."""


class Population(NamedTuple):
    """Trials of one program that train together.

    rows: of each trial, where it stands on the first axis of the leaves of `values` and `mine`. Other rows
        belong to no trial: they have the number -1.
    values, mine: the trials' hyperparameters with their numbers, and what they own; the leaves of `mine` have
        the replicas as their second axis.
    epoch: how many the trials have had.
    curves: of each trial, its metrics by epoch.
    """

    program: Program
    trials: tuple[Trial, ...]
    rows: tuple[int, ...]
    values: Any
    mine: Any
    epoch: int
    curves: tuple[tuple[dict[str, float], ...], ...]


Place = tuple[Population, int]
"""Where a trial stands: in which population, and which of its trials it is."""


class Populations:
    """Makes populations and trains them, by what it has compiled and measured of their programs.

    Args:
        shared: what all members of all programs share.
        replicas: how often each trial is trained: folds × seeds.
        how: see `over_population`; measured for each program where it is None.
        mesh: devices that share the trials; one device where it is None.
        fastest_ways: the ways that have been measured, to which others are added.
    """

    def __init__(
        self,
        shared: Any,
        *,
        replicas: int,
        how: Literal["vmap", "map"] | None,
        mesh: Mesh | None,
        fastest_ways: dict[Program, Literal["vmap", "map"]],
    ) -> None:
        """See the class."""
        self._shared, self._replicas, self._mesh = placed(shared, mesh), replicas, mesh
        self._given_how, self._fastest_ways = how, fastest_ways
        self._compiled: dict[Any, Any] = {}
        self._starts: dict[Program, Callable[[Any], Any]] = {}
        self._epochs: dict[Program, Callable[..., Any]] = {}
        self._state_bytes: dict[Program, float] = {}  # of one trial
        self._sizes: dict[Program, int] = {}  # the rows of what is compiled, where it skips empty ones

    @property
    def groups(self) -> int:
        """How many groups of devices share the trials."""
        return 1 if self._mesh is None else self._mesh.shape["population"]

    def like(self, program: Program, trial: Trial, values: Any) -> Population:
        """The population of one trial, what it owns as shapes alone."""
        stacked = _stack([_numbered(trial, values)])
        mine = jax.eval_shape(self._starting(program), stacked)
        return Population(program, (trial,), (0,), stacked, mine, 0, ((),))

    def gathered(self, program: Program, members: Members, known: Sequence[Place]) -> Population:
        """The trials from the places where they, or their parents, stand; from their start where none do."""
        trials, size = tuple(trial for trial, _ in members), self._size(program, len(members))
        rows = self._rows(len(trials), size)
        with on_mesh(self._mesh):
            values = self._values_of(members, rows, size)
            if not known:
                mine = self._starting(program)(values)
                return Population(program, trials, rows, values, mine, 0, ((),) * len(trials))
            populations = list({id(population): population for population, _ in known}.values())
            sizes = [len(jax.tree.leaves(population.mine)[0]) for population in populations]
            first = {id(p): sum(sizes[:k]) for k, p in enumerate(populations)}
            sources = np.zeros(size, int)
            sources[list(rows)] = [first[id(population)] + population.rows[k] for population, k in known]
            mine = _rows_of([population.mine for population in populations], sources)
            mine = placed(mine, self._mesh, "population")
        curves = tuple(population.curves[k] for population, k in known)
        return Population(program, trials, rows, values, mine, known[0][0].epoch, curves)

    def compiled(self, population: Population) -> Any:
        """The compiled epoch of a population."""
        with on_mesh(self._mesh):
            program = population.program
            how = self._fastest(population)
            members, size = (population.values, population.mine), len(population.values[1])
            known = (program, size, how)
            if known not in self._compiled:
                if program not in self._epochs:  # traced once, however many trials there are
                    self._epochs[program] = jax.jit(_one_epoch(program, self._replicas))
                advance = self._epochs[program]
                if how == "map":  # one after the other, so fewer trials need no program of their own
                    advance, self._sizes[program] = _unless_empty(advance), size
                advance = over_population(advance, how=how)

                def step(values: Any, mine: Any, epoch: jax.Array, shared: Any) -> Any:
                    return advance((values, mine), epoch, shared)

                epoch = placed(np.int32(0), self._mesh)
                lowered = jax.jit(step, donate_argnums=1).lower(*members, epoch, self._shared)
                self._compiled[known] = lowered.compile()
            return self._compiled[known]

    def advanced(self, step: Any, population: Population) -> Population:
        """The population after one more epoch."""
        with on_mesh(self._mesh):
            epoch = placed(np.int32(population.epoch), self._mesh)
            mine, metrics = step(population.values, population.mine, epoch, self._shared)
            metrics = jax.device_get(metrics)
        curves = tuple(
            (*curve, _summarised({name: leaf[row] for name, leaf in metrics.items()}))
            for row, curve in zip(population.rows, population.curves, strict=True)
        )
        return population._replace(mine=mine, epoch=population.epoch + 1, curves=curves)

    def state_bytes(self, program: Program, members: Members) -> float:
        """What the states of trials take on a device."""
        size = self._size(program, len(members))
        if program not in self._state_bytes:
            rows = self._rows(len(members), size)
            with on_mesh(self._mesh):
                shapes = jax.eval_shape(self._starting(program), self._values_of(members, rows, size))
            sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)]
            self._state_bytes[program] = sum(sizes) / size
        return self._state_bytes[program] * size / self.groups

    def free_bytes(self) -> float:
        """Bytes of memory that the devices have left; those of CPU devices are the same."""
        device = jax.devices()[0]
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        return free_memory() / self.groups

    def forget_rows(self, program: Program) -> None:
        """Let the next population of a program have no more rows than it needs."""
        self._sizes.pop(program, None)

    def _starting(self, program: Program) -> Callable[[Any], Any]:
        """What trials own before their first epoch, as a function of their values."""
        if program not in self._starts:
            self._starts[program] = jax.jit(partial(self._started, program))
        return self._starts[program]

    def _started(self, program: Program, members: Any) -> Any:
        def start(numbered: Any, shared: Any) -> Any:
            values, _ = numbered
            return lax.map(lambda replica: program.start(values, replica, shared), jnp.arange(self._replicas))

        return over_population(start, how="vmap")(members, self._shared)

    def _size(self, program: Program, trials: int) -> int:
        """How many rows a population of so many trials has: those of the compiled program, where they fit."""
        least = -(-trials // self.groups) * self.groups
        compiled = max(least, self._sizes.get(program, 0))
        bytes_of_it = self._state_bytes.get(program, 0.0) * compiled / self.groups
        return compiled if bytes_of_it <= MOST_OF_FREE * self.free_bytes() else least

    def _rows(self, trials: int, size: int) -> tuple[int, ...]:
        """Where so many trials stand among so many rows, so that the devices share them equally."""
        return tuple(np.arange(size).reshape(self.groups, -1).T.ravel()[:trials].tolist())

    def _values_of(self, members: Members, rows: Sequence[int], size: int) -> Any:
        values, _ = _numbered(*members[0])
        stacked = [(values, np.int32(-1))] * size
        for row, (trial, values) in zip(rows, members, strict=True):
            stacked[row] = _numbered(trial, values)
        return placed(_stack(stacked), self._mesh, "population")

    def _fastest(self, population: Population) -> Literal["vmap", "map"]:
        """Measured with a few of the members, once for each program."""
        program = population.program
        if self._given_how is not None:
            return self._given_how
        if program not in self._fastest_ways:
            members, size = (population.values, population.mine), len(population.values[1])
            probed = max(_PROBED // self.groups, 1) * self.groups
            if size > probed:
                rows = np.array(self._rows(probed, size))
                members = placed(_rows_of([members], rows), self._mesh, "population")

            def probe(member: Any, shared: Any) -> Any:
                (values, _), mine = member
                return program.probe(values, jax.tree.map(lambda leaf: leaf[0], mine), shared)

            self._fastest_ways[program] = fastest(probe, members, self._shared)
        return self._fastest_ways[program]


def _numbered(trial: Trial, values: Any) -> tuple[Any, np.int32]:
    """The values of a trial, of which there may be none, since all may be structure; and its number."""
    return as_values(values), np.int32(trial.number)


def _one_epoch(program: Program, replicas: int) -> Callable[..., Any]:
    """An epoch of one trial: its replicas, which see other examples, one after the other."""

    def advance(member: Any, epoch: jax.Array, shared: Any) -> Any:
        (values, _), mine = member

        def one(replica_and_mine: Any) -> Any:
            replica, mine = replica_and_mine
            return program.advance(values, mine, replica, epoch, shared)

        return lax.map(one, (jnp.arange(replicas), mine))

    return advance


def _unless_empty(advance: Callable[..., Any]) -> Callable[..., Any]:
    """The same epoch, which a row without a trial skips."""

    def skipping(member: Any, *shared: Any) -> Any:
        (values, number), mine = member
        return advance_if(number >= 0, lambda mine: advance(((values, number), mine), *shared), mine)

    return skipping


def _summarised(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over the replicas, and for what is validated its standard error."""
    summary = {}
    for name, values in metrics.items():
        values = np.asarray(values, np.float64)
        if name == "accuracy" and np.isnan(values).all():
            continue
        summary[name] = float(values.mean())
        if (
            len(values) > 1
            and np.isfinite(values).all()
            and name in ("score", "validation_accuracy", "validation_loss")
        ):
            summary[f"{name}_error"] = float(values.std(ddof=1) / math.sqrt(len(values)))
    return summary


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@jax.jit
def _rows_of(trees: Sequence[Any], rows: jax.Array) -> Any:
    """Some rows of several trees of equal structure, which are counted through."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[rows], *trees)


def bytes_of(compiled: Any) -> float:
    """What a program needs on one device, where its compiler says so."""
    sizes = compiled.memory_analysis()
    if sizes is None:
        return 0.0
    return float(
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        + sizes.temp_size_in_bytes
        - sizes.alias_size_in_bytes
    )


def free_memory() -> float:
    """Bytes of the host's memory that are free or could be freed."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
