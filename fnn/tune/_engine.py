"""The loop of a search: what a method asks for, trained as few programs, and what it is told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
from jax.sharding import Mesh

from fnn.train._mesh import placed
from fnn.tune._method import Method, Outcome, Round, Trial, worth
from fnn.tune._populations import MOST_OF_FREE, Members, Place, Population, Populations, bytes_of
from fnn.tune._program import Program
from fnn.tune._space import Space, all_in_words, blamed_on_values

Plan = Callable[[Trial], tuple[Program, Any]]
"""What trains a trial, and the values of its hyperparameters. Trials of equal programs train together."""


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
        ways = {} if fastest_ways is None else fastest_ways
        self._populations = Populations(shared, replicas=replicas, how=how, mesh=mesh, fastest_ways=ways)
        self._keep = False
        self._standing: dict[int, Place] = {}  # of trials that can go on

    def run(self, method: Method, space: Space, *, epochs: int, seed: int) -> tuple[Outcome, ...]:
        """Ask, train and tell until the method is done or the budget is spent.

        Returns:
            The last outcome of every trial, in the order of their numbers.
        """
        self._keep = method.stops_early
        restored = self.journal.restored(self._like)
        for leaf in jax.tree.leaves([population.mine for population in restored]):
            see_that_as_many(leaf.shape[1], self.replicas)
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

    def _like(self, trial: Trial) -> Population:
        program, values = self.plan(trial)
        return self._populations.like(program, trial, values)

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

    def _source(self, trial: Trial) -> Place | None:
        """Where a trial, or else its parent, stands."""
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

    def _train_group(self, program: Program, members: Members, asked: Round, done: list[Population]) -> None:
        """Train the trials of one program, together as far as memory allows."""
        if self.exhausted:
            return
        makes = self._populations
        if self._too_large(makes.state_bytes(program, members), len(members)):  # before anything is made
            return self._in_halves(program, members, asked, done)
        sources = [source for trial, _ in members if (source := self._source(trial)) is not None]
        population = makes.gathered(program, members, sources)
        step = makes.compiled(population)
        if self._too_large(bytes_of(step), len(members)):
            makes.forget_rows(program)
            del population
            return self._in_halves(program, members, asked, done)
        epochs, trials = asked.epochs, population.trials
        while population.epoch < epochs and not self._late():
            population = makes.advanced(step, population)
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
        free = self._populations.free_bytes()
        if need <= MOST_OF_FREE * free or trials <= self._populations.groups:
            return False
        self._say(
            f"{trials} trials at once would take {need / 1e9:.2g} of the {free / 1e9:.2g} GB "
            f"that are free, so {-(-trials // 2)} train at a time"
        )
        return True

    def _in_halves(self, program: Program, members: Members, asked: Round, done: list[Population]) -> None:
        half = -(-len(members) // 2)
        for part in (members[:half], members[half:]):
            self._train_group(program, part, asked, done)

    def _late(self) -> bool:
        """Whether the time is over."""
        self.exhausted = self.exhausted or (self.seconds is not None and self.elapsed > self.seconds)
        return self.exhausted


def _see_that_alike(kept: Trial, asked: Trial) -> None:
    """See that a number stands for the same hyperparameters as in an earlier process, but for rounding."""
    one, other = kept.hyperparameters, asked.hyperparameters
    if one.keys() != other.keys() or not all(_close(one[path], other[path]) for path in one):
        raise JournalError(
            f"trial {asked.number} was trained where {all_in_words(one)}, and is now asked for where "
            f"{all_in_words(other)}, so the config or a package has changed since; put it back, or start the "
            "search anew"
        )


def see_that_as_many(times: int, replicas: int) -> None:
    """See that a trial was trained as often as all are to be.

    Raises:
        JournalError: it was not, so its score could not be compared.
    """
    if times != replicas:
        raise JournalError(
            f"every trial was trained {times} times, once for each fold and seed, and is now to be trained "
            f"{replicas} times; take as many folds and seeds again, or start the search anew"
        )


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)  # another machine rounds otherwise
    return bool(one == other)


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
