"""The loop of a search: what a method asks for, trained as few programs, and what it is told."""

from __future__ import annotations

import math
import os
import time
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
from fnn.tune._method import Method, Outcome, Round, Trial, worth
from fnn.tune._program import Program
from fnn.tune._space import Space, all_in_words, blamed_on_values

Plan = Callable[[Trial], tuple[Program, Any]]
"""What trains a trial, and the values of its hyperparameters. Trials of equal programs train together."""

_FREE = 0.8  # the part of the free memory that a population may take
_PROBED = 64  # members that the fastest way is measured with, at most: few of them fit into a cache


def structures_checked(plan: Plan, check: Callable[[dict[str, Any]], None]) -> Plan:
    """The plan, which sees that `check` raises nothing for the first trial of each structure.

    Raises:
        ValueError: what the plan or the check raised, and where.
    """
    known: set[Program] = set()

    def checked(trial: Trial) -> tuple[Program, Any]:
        with blamed_on_values(trial.hyperparameters):
            program, values = plan(trial)
            if program not in known:
                check(trial.hyperparameters)
        known.add(program)
        return program, values

    return checked


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


class SearchProgress(NamedTuple):
    """What `report` is told after every epoch of a population.

    outcomes: of every trial so far, in the order of their numbers.
    training: the numbers of the trials that are being trained.
    epoch, epochs: where they are, and until where they go.
    notes: sentences about the search so far.
    """

    outcomes: tuple[Outcome, ...]
    training: tuple[int, ...]
    epoch: int
    epochs: int
    notes: tuple[str, ...]


class Journal:
    """What outlives the process of a search; this one remembers nothing.

    seconds: how long earlier processes have searched.
    """

    seconds: float = 0.0

    def recorded(self, trial: Trial, epochs: int) -> Outcome | None:
        """The longest outcome of a trial that an earlier process has written, of so many epochs at most."""

    def record(self, outcome: Outcome, *, seconds: float) -> None:
        """Write an outcome down, and how long the search has taken so far, earlier processes included."""

    def border(self, populations: Sequence[Population], *, must: bool, seconds: float) -> None:
        """Take note of where trials stand between two epochs, in any case or now and then, and of the time.

        May raise to stop the search.
        """

    def restored(self, like: Callable[[Trial], Population]) -> Sequence[Population]:
        """The trials as an earlier process left them; `like` gives one of them as its shapes alone."""
        return ()


class JournalError(ValueError):
    """What an earlier process has left is of no use to this search, which has to start anew."""


class Engine:
    """Trains what a method asks for.

    Args:
        plan: see `Plan`.
        shared: what all members of all programs share.
        replicas: how often each trial is trained: folds × seeds.
        how: see `over_population`; measured for each program where it is None.
        mesh: devices that share the trials, see `fnn.mesh`; one device by default.
        max_epochs: how many epochs all trials may have in all.
        seconds: how long the search may take.
        report: called after every epoch of a population.
        journal: what outlives the process.
        fastest_ways: those that another engine has measured.
    """

    def __init__(
        self,
        plan: Plan,
        shared: Any,
        *,
        replicas: int = 1,
        how: Literal["vmap", "map"] | None = None,
        mesh: Mesh | None = None,
        max_epochs: int | None = None,
        seconds: float | None = None,
        report: Callable[[SearchProgress], None] | None = None,
        journal: Journal | None = None,
        fastest_ways: dict[Program, Literal["vmap", "map"]] | None = None,
    ) -> None:
        """See the class."""
        self.plan, self.replicas, self.mesh, self.report = plan, replicas, mesh, report
        self.journal = journal or Journal()
        self.max_epochs, self.seconds = max_epochs, seconds
        self._began, self.exhausted = time.monotonic() - self.journal.seconds, False
        self.outcomes: dict[int, Outcome] = {}
        self.notes: list[str] = []
        self._shared = placed(shared, mesh)
        self.fastest_ways = {} if fastest_ways is None else fastest_ways
        self._given_how = how
        self._compiled: dict[Any, Any] = {}
        self._starts: dict[Program, Callable[[Any], Any]] = {}
        self._epochs: dict[Program, Callable[..., Any]] = {}
        self._state_bytes: dict[Program, float] = {}  # of one trial
        self._sizes: dict[Program, int] = {}  # the rows of what is compiled, where it skips empty ones
        self._keep = False
        self._standing: dict[int, tuple[Population, int]] = {}  # of trials that can go on: where, which

    def run(self, method: Method, space: Space, *, epochs: int, seed: int) -> tuple[Outcome, ...]:
        """Ask, train and tell until the method is done or the budget is spent.

        Returns:
            The last outcome of every trial, in the order of their numbers.
        """
        self._keep = method.stops_early
        restored = self.journal.restored(self._like)
        _see_that_as_many([p.mine for p in restored], self.replicas)
        self._stand([p._replace(mine=placed(p.mine, self.mesh)) for p in restored])
        rounds = method.rounds(space, epochs, seed)
        asked = next(rounds, None)
        while asked is not None:
            self._say(asked.note)
            told = self._train(asked)
            if self.exhausted:
                break
            try:
                asked = rounds.send(told)
            except StopIteration:
                break
        return self._sorted()

    @property
    def elapsed(self) -> float:
        """How many seconds the search has taken, earlier processes included."""
        return time.monotonic() - self._began

    @property
    def used(self) -> int:
        """How many epochs all trials have had in all."""
        return sum(outcome.epochs - outcome.trial.inherited for outcome in self.outcomes.values())

    def _sorted(self) -> tuple[Outcome, ...]:
        return tuple(self.outcomes[number] for number in sorted(self.outcomes))

    def _say(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)

    def _stand(self, populations: Sequence[Population]) -> None:
        """These are the trials that can be continued from now on."""
        self._standing = {t.number: (p, k) for p in populations for k, t in enumerate(p.trials)}

    def _train(self, asked: Round) -> list[Outcome]:
        """The outcomes of a round as far as the budget goes; what is recorded is not trained again."""
        whole, asked = asked.epochs, asked._replace(epochs=self._affordable(asked))
        groups: dict[tuple[Program, int], list[tuple[Trial, Any]]] = {}
        for trial in asked.trials:
            begun = self._begun(trial)
            if begun >= asked.epochs:  # the budget has no further epoch for it
                continue
            known = self.journal.recorded(trial, asked.epochs)
            if known is not None:
                _see_that_alike(known.trial, trial)
            if known is not None and known.epochs > begun and (known.epochs == asked.epochs or self._late()):
                self.outcomes[trial.number] = known._replace(trial=trial)
                continue
            program, values = self.plan(trial)
            source = self._source(trial)
            if trial.number in self._standing:
                population, k = self._standing[trial.number]
                _see_that_alike(population.trials[k], trial)
            if source is None and trial.parent is not None:
                raise JournalError(
                    f"trial {trial.number} goes on from trial {trial.parent}, whose state is lost; start the "
                    "search anew"
                )
            start = 0 if source is None else source[0].epoch
            groups.setdefault((program, start), []).append((trial, values))
        done: list[Population] = []
        for (program, _), members in groups.items():
            self._train_group(program, members, asked, done)
        if groups:
            self._stand(self._worth_keeping(asked, done))
        if self.exhausted:
            self._say_who_was_late(asked.trials)
        self.exhausted = self.exhausted or asked.epochs < whole
        return [self.outcomes[trial.number] for trial in asked.trials if trial.number in self.outcomes]

    def _begun(self, trial: Trial) -> int:
        """How many epochs a trial had had before its round, which may be those of its parent."""
        known = self.outcomes.get(trial.number)
        return trial.inherited if known is None else known.epochs

    def _affordable(self, asked: Round) -> int:
        """How many epochs the budget lets every trial of a round have had, so that all groups share it."""
        begun, until = [self._begun(trial) for trial in asked.trials], asked.epochs
        if self.max_epochs is None:
            return until
        left = self.max_epochs - self.used
        while sum(max(0, until - epochs) for epochs in begun) > left:
            until -= 1
        each = f"each of {len(begun)} trials"
        if until <= min(begun):
            one = "another epoch" if any(begun) else "one epoch"
            self._say(f"the budget of {self.max_epochs} epochs is too small for {one} of {each}")
        elif until < asked.epochs:
            self._say(f"the budget of {self.max_epochs} epochs ends {each} after {until} of {asked.epochs}")
        return until

    def _say_who_was_late(self, trials: Sequence[Trial]) -> None:
        """Say that the time is over, and for which trials of the last round it was so before they began."""
        untried = [str(trial.number) for trial in trials if trial.number not in self.outcomes]
        note = f"the budget of {self.seconds:g} seconds is spent"
        if 0 < len(untried) < len(trials):
            note += f"; {len(untried)} of {len(trials)} trials were not tried: {', '.join(untried)}"
        self._say(note)

    def _source(self, trial: Trial) -> tuple[Population, int] | None:
        """Where a trial, or else its parent, stands: a population, and which of its trials."""
        return self._standing.get(trial.number) or self._standing.get(
            -1 if trial.parent is None else trial.parent
        )

    def _worth_keeping(self, asked: Round, trained: Sequence[Population]) -> list[Population]:
        """The trials of a round that may be continued: where they stand now, or where they are to start."""
        if not self._keep:
            return []
        numbers = {trial.number for population in trained for trial in population.trials}
        sources = [self._source(trial) for trial in asked.trials if trial.number not in numbers]
        waiting = {id(source[0]): source[0] for source in sources if source is not None}
        return [*waiting.values(), *trained]

    def _train_group(
        self, program: Program, members: Sequence[tuple[Trial, Any]], asked: Round, done: list[Population]
    ) -> None:
        """Train the trials of one program, together as far as memory allows."""
        if self.exhausted:
            return
        if self._too_large(self._own_bytes(program, members), len(members)):  # before anything is made
            return self._in_halves(program, members, asked, done)
        population = self._gathered(program, members)
        step = self._program(population)
        if self._too_large(_bytes(step), len(members)):
            self._sizes.pop(program, None)
            del population
            return self._in_halves(program, members, asked, done)
        epochs, trials = asked.epochs, population.trials
        while population.epoch < epochs and not self._late():
            population = self._advanced(step, population)
            for trial, curve in zip(trials, population.curves, strict=True):
                self.outcomes[trial.number] = outcome_of(trial, curve)
            standing = self._worth_keeping(asked, [*done, population]) or [population]
            ends = self._keep and population.epoch == epochs
            self.journal.border(standing, must=ends, seconds=self.elapsed)
            if self.report is not None:
                numbers = tuple(trial.number for trial in trials)
                self.report(
                    SearchProgress(self._sorted(), numbers, population.epoch, epochs, tuple(self.notes))
                )
        for trial, curve in zip(trials, population.curves, strict=True):
            if len(curve) > trial.inherited:
                self.outcomes[trial.number] = outcome_of(trial, curve)
                self.journal.record(self.outcomes[trial.number], seconds=self.elapsed)
        done.append(population)

    def _too_large(self, need: float, trials: int) -> bool:
        """Whether trials should be parted, for the memory that they need on a device."""
        if need <= (free := self._free()) * _FREE or trials <= self._groups:
            return False
        self._say(
            f"{trials} trials at once would take {need / 1e9:.2g} of the {free / 1e9:.2g} GB "
            f"that are free, so {-(-trials // 2)} train at a time"
        )
        return True

    def _in_halves(
        self, program: Program, members: Sequence[tuple[Trial, Any]], asked: Round, done: list[Population]
    ) -> None:
        half = -(-len(members) // 2)
        for part in (members[:half], members[half:]):
            self._train_group(program, part, asked, done)

    def _late(self) -> bool:
        """Whether the time is over."""
        self.exhausted = self.exhausted or (self.seconds is not None and self.elapsed > self.seconds)
        return self.exhausted

    # --- populations as programs --------------------------------------------------------------------------

    @property
    def _groups(self) -> int:
        """How many groups of devices share the trials."""
        return 1 if self.mesh is None else self.mesh.shape["population"]

    def _size(self, program: Program, trials: int) -> int:
        """How many rows a population of so many trials has: those of the compiled program, where they fit."""
        least = -(-trials // self._groups) * self._groups
        compiled = max(least, self._sizes.get(program, 0))
        bytes_of_it = self._state_bytes.get(program, 0.0) * compiled / self._groups
        return compiled if bytes_of_it <= self._free() * _FREE else least

    def _rows(self, trials: int, size: int) -> tuple[int, ...]:
        """Where so many trials stand among so many rows, so that the devices share them equally."""
        return tuple(np.arange(size).reshape(self._groups, -1).T.ravel()[:trials].tolist())

    def _starting(self, program: Program) -> Callable[[Any], Any]:
        """What trials own before their first epoch, as a function of their values."""
        if program not in self._starts:
            self._starts[program] = jax.jit(partial(self._started, program))
        return self._starts[program]

    def _started(self, program: Program, values: Any) -> Any:
        def start(numbered: Any, shared: Any) -> Any:
            one = lambda replica: program.start(numbered[0], replica, shared)  # noqa: E731
            return lax.map(one, jnp.arange(self.replicas))

        return over_population(start, how="vmap")(values, self._shared)

    def _like(self, trial: Trial) -> Population:
        program, values = self.plan(trial)
        stacked = _stack([_numbered(trial, values)])
        mine = jax.eval_shape(self._starting(program), stacked)
        return Population(program, (trial,), (0,), stacked, mine, 0, ((),))

    def _own_bytes(self, program: Program, members: Sequence[tuple[Trial, Any]]) -> float:
        """What the states of trials take on a device."""
        size = self._size(program, len(members))
        if program not in self._state_bytes:
            rows = self._rows(len(members), size)
            with on_mesh(self.mesh):
                shapes = jax.eval_shape(self._starting(program), self._values_of(members, rows, size))
            sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)]
            self._state_bytes[program] = sum(sizes) / size
        return self._state_bytes[program] * size / self._groups

    def _values_of(self, members: Sequence[tuple[Trial, Any]], rows: Sequence[int], size: int) -> Any:
        values, _ = _numbered(*members[0])
        stacked = [(values, np.int32(-1))] * size
        for row, (trial, values) in zip(rows, members, strict=True):
            stacked[row] = _numbered(trial, values)
        return placed(_stack(stacked), self.mesh, "population")

    def _gathered(self, program: Program, members: Sequence[tuple[Trial, Any]]) -> Population:
        """The trials from where they, or their parents, stand; else from their start."""
        trials, size = tuple(trial for trial, _ in members), self._size(program, len(members))
        rows = self._rows(len(trials), size)
        known = [source for trial in trials if (source := self._source(trial)) is not None]
        with on_mesh(self.mesh):
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
            mine = placed(mine, self.mesh, "population")
        curves = tuple(population.curves[k] for population, k in known)
        return Population(program, trials, rows, values, mine, known[0][0].epoch, curves)

    def _program(self, population: Population) -> Any:
        """The compiled epoch of a population."""
        with on_mesh(self.mesh):
            program = population.program
            how = self._fastest(population)
            members, size = (population.values, population.mine), len(population.values[1])
            known = (program, size, how)
            if known not in self._compiled:
                if program not in self._epochs:  # traced once, however many trials there are
                    self._epochs[program] = jax.jit(_one_epoch(program, self.replicas))
                advance = self._epochs[program]
                if how == "map":  # one after the other, so fewer trials need no program of their own
                    advance, self._sizes[program] = _unless_empty(advance), size
                advance = over_population(advance, how=how)

                def step(values: Any, mine: Any, epoch: jax.Array, shared: Any) -> Any:
                    return advance((values, mine), epoch, shared)

                epoch = placed(np.int32(0), self.mesh)
                lowered = jax.jit(step, donate_argnums=1).lower(*members, epoch, self._shared)
                self._compiled[known] = lowered.compile()
            return self._compiled[known]

    def _fastest(self, population: Population) -> Literal["vmap", "map"]:
        """Measured with a few of the members, once for each program."""
        program = population.program
        if self._given_how is not None:
            return self._given_how
        if program not in self.fastest_ways:
            members, size = (population.values, population.mine), len(population.values[1])
            probed = max(_PROBED // self._groups, 1) * self._groups
            if size > probed:
                rows = np.array(self._rows(probed, size))
                members = placed(_rows_of([members], rows), self.mesh, "population")

            def probe(member: Any, shared: Any) -> Any:
                (values, _), mine = member
                return program.probe(values, jax.tree.map(lambda leaf: leaf[0], mine), shared)

            self.fastest_ways[program] = fastest(probe, members, self._shared)
        return self.fastest_ways[program]

    def _advanced(self, step: Any, population: Population) -> Population:
        """The population after one more epoch."""
        with on_mesh(self.mesh):
            epoch = placed(np.int32(population.epoch), self.mesh)
            mine, metrics = step(population.values, population.mine, epoch, self._shared)
            metrics = jax.device_get(metrics)
        curves = tuple(
            (*curve, _summarised({name: leaf[row] for name, leaf in metrics.items()}))
            for row, curve in zip(population.rows, population.curves, strict=True)
        )
        return population._replace(mine=mine, epoch=population.epoch + 1, curves=curves)

    def _free(self) -> float:
        """Bytes of memory that the devices have left; those of CPU devices are the same."""
        device = jax.devices()[0]
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        return free_memory() / self._groups


def _see_that_alike(kept: Trial, asked: Trial) -> None:
    """See that a number stands for the same hyperparameters as in an earlier process, but for rounding."""
    one, other = kept.hyperparameters, asked.hyperparameters
    if one.keys() != other.keys() or not all(_close(one[path], other[path]) for path in one):
        raise JournalError(
            f"trial {asked.number} was trained where {all_in_words(one)}, and is now asked for where "
            f"{all_in_words(other)}, so the config or a package has changed since; put it back, or start the "
            "search anew"
        )


def _see_that_as_many(kept: Any, replicas: int) -> None:
    """See that trials were trained as often as they are to be."""
    for leaf in jax.tree.leaves(kept):
        if leaf.shape[1] != replicas:
            raise JournalError(
                f"every trial was trained {leaf.shape[1]} times, once for each fold and seed, and is now to "
                f"be trained {replicas} times; take as many folds and seeds again, or start the search anew"
            )


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)  # another machine rounds otherwise
    return bool(one == other)


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


def outcome_of(trial: Trial, curve: Sequence[Mapping[str, float]]) -> Outcome:
    """What a curve comes to."""
    names = ("score", "loss", "penalty", "validation_loss")
    diverged = any(not math.isfinite(m[name]) for m in curve for name in names if name in m)
    if diverged:
        return Outcome(trial, len(curve), -math.inf, math.nan, tuple(map(dict, curve)), True)
    # What a child inherited was reached with its parent's hyperparameters.
    best = max(
        curve[trial.inherited :], key=lambda metrics: (worth(metrics), -metrics.get("validation_loss", 0.0))
    )
    judged = next(name for name in ("score", "validation_accuracy", "validation_loss") if name in best)
    error = best.get(f"{judged}_error", math.nan)
    return Outcome(trial, len(curve), worth(best), error, tuple(map(dict, curve)), False)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@jax.jit
def _rows_of(trees: Sequence[Any], rows: jax.Array) -> Any:
    """Some rows of several trees of equal structure, which are counted through."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[rows], *trees)


def _bytes(compiled: Any) -> float:
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
