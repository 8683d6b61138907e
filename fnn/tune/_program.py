"""What a search trains: pure functions of one member, which it makes a population of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fnn._types import Array
from fnn.data import Examples, Folds, Moments
from fnn.train import Make, TrainState, epoch_rows, evaluate, init_state, train_chunk
from fnn.train._fit import lsuv_rows
from fnn.train._step import StepMetrics


class Program(Protocol):
    """How trials of one structure are trained; hashable, and equal where it compiles to the same.

    A trial is trained several times, once for each fold and seed; these replicas of it are numbered.
    """

    def start(self, values: Any, replica: Array, shared: Any) -> Any:
        """What a member owns before its first epoch."""

    def advance(
        self, values: Any, mine: Any, replica: Array, epoch: Array, shared: Any
    ) -> tuple[Any, dict[str, Array]]:
        """The member after one more epoch, whose number counts from 0, and its metrics, scalars."""

    def probe(self, values: Any, mine: Any, shared: Any) -> Any:
        """A short piece of the work, by which the fastest way through a population is told."""


@dataclass(frozen=True)
class Fixed:
    """Hyperparameters that are no floats: structure, known while a function is traced."""

    identity: Any
    """By which two are equal: the names of the floats beside them, and `fnn.tune._space.identity`."""
    hyperparameters: dict[str, Any] = field(compare=False)


@contextmanager
def _values_unknown(function: str) -> Iterator[None]:
    """Say of a function that asks for a traced value what it may do instead.

    Raises:
        TypeError: it does.
    """
    try:
        yield
    except _ASKED as error:
        raise TypeError(
            f"{function} is compiled, one program for all values of the floats among its hyperparameters: "
            "use jax.numpy in place of NumPy, float() and if, and draw what is structure, such as a width, "
            "by int_uniform"
        ) from error


_ASKED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


class Shared(NamedTuple):
    """What all members of `FitProgram` share."""

    folds: Folds
    seed: Any  # () uint32, of the first replica


@dataclass(frozen=True)
class FitProgram:
    """The training of `fnn.fit`, an epoch at a time.

    All trials of a search see the same initial draws, orders and masks, as far as their structure allows:
    the seed of a replica is that of the search plus its number. So trials differ by their hyperparameters
    alone (common random numbers), and what they draw is drawn once.
    """

    make: Make
    batch_size: int
    folds: int
    examples: int
    lsuv: bool = False

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.examples // self.batch_size)

    def start(self, values: Any, replica: Array, shared: Shared) -> Any:
        """See `Program`; the same state as that of `fnn.fit`."""
        x = shared.folds.x
        fold, key, moments = self._replica(replica, shared)
        first = lsuv_rows(self.examples, self.batch_size) if self.lsuv else np.arange(1)
        with _values_unknown("make"):
            state = init_state(
                self.make, values, key, x[shared.folds.train[fold][first]], moments, rescale=self.lsuv
            )
        return state.params, state.state, state.opt_state

    def advance(
        self, values: Any, mine: Any, replica: Array, epoch: Array, shared: Shared
    ) -> tuple[Any, dict[str, Array]]:
        """See `Program`; the same epoch as that of `fnn.fit`."""
        fold, key, moments = self._replica(replica, shared)
        rows, mask = epoch_rows(
            key, epoch, examples=self.examples, batch_size=self.batch_size, chunk_steps=self.steps
        )
        state = TrainState(epoch * self.steps, mine[0], mine[1], mine[2], key, moments)
        state, measured = self._steps(values, state, shared.folds, fold, rows[0], mask[0], epoch)
        held = shared.folds.validation[fold]
        scores = evaluate(self.make, values, state, Examples(shared.folds.x[held], shared.folds.y[held]))
        total = measured.examples.sum()
        means_of = {
            name: (getattr(measured, name) * measured.examples).sum() / total
            for name in ("loss", "penalty", "accuracy")
        }
        metrics = means_of | {f"validation_{name}": score for name, score in scores.items()}
        return (state.params, state.state, state.opt_state), metrics

    def probe(self, values: Any, mine: Any, shared: Shared) -> Any:
        """See `Program`: two steps."""
        fold, key, moments = self._replica(jnp.zeros((), jnp.int32), shared)
        rows = jnp.arange(2 * self.batch_size, dtype=jnp.int32).reshape(2, -1) % self.examples
        state = TrainState(jnp.zeros((), jnp.int32), mine[0], mine[1], mine[2], key, moments)
        epoch = jnp.zeros((), jnp.int32)
        return self._steps(values, state, shared.folds, fold, rows, jnp.ones(rows.shape, bool), epoch)

    def _replica(self, replica: Array, shared: Shared) -> tuple[Any, Array, Moments | None]:
        """The fold of a replica, its key, and the moments of what it trains on."""
        fold = replica % self.folds if self.folds > 1 else 0
        key = jax.random.key(shared.seed + (replica // self.folds).astype(jnp.uint32))
        return fold, key, jax.tree.map(lambda leaf: leaf[fold], shared.folds.moments)

    def _steps(
        self,
        values: Any,
        state: TrainState,
        folds: Folds,
        fold: Any,
        rows: Array,
        mask: Array,
        epoch: Array,
    ) -> tuple[TrainState, StepMetrics]:
        examples = Examples(folds.x, folds.y)
        return train_chunk(self.make, values, state, examples, folds.train[fold][rows], mask, epoch)


@dataclass(frozen=True)
class FunctionProgram:
    """Any function `train(hyperparameters, key) -> score` as a training of one epoch."""

    train: Callable[[dict[str, Any], Array], Any]
    fixed: Fixed

    def start(self, values: Any, replica: Array, shared: Array) -> Any:
        """See `Program`; nothing is kept."""
        return ()

    def advance(
        self, values: Any, mine: Any, replica: Array, epoch: Array, shared: Array
    ) -> tuple[Any, dict[str, Array]]:
        """See `Program`; every trial has the same key, so that hyperparameters make the difference."""
        with _values_unknown("train"):
            score = self.train({**self.fixed.hyperparameters, **values}, jax.random.key(shared + replica))
        is_number = isinstance(score, Real | Array | np.ndarray | np.bool_) and not jnp.iscomplexobj(score)
        if not is_number or getattr(score, "shape", ()) != ():
            is_array = hasattr(score, "dtype")
            kind = f"{score.dtype} of shape {score.shape}" if is_array else type(score).__name__
            raise ValueError(f"train must return one number, the score of a trial, not {kind}")
        return mine, {"score": jnp.asarray(score, jnp.float32)}

    def probe(self, values: Any, mine: Any, shared: Array) -> Any:
        """See `Program`: there is no shorter piece."""
        return self.advance(values, mine, jnp.zeros((), jnp.uint32), jnp.zeros((), jnp.int32), shared)
