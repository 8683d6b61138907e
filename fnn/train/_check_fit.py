"""What can be said of a training before it begins: how long it is, and that all of it fits together."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fnn._types import check_optional, check_range
from fnn.data import DataError, Splits, Visit, to_float
from fnn.data._dataset import has_classes
from fnn.train._evaluate import metric_name, unbound
from fnn.train._state import (
    Batch,
    Make,
    Task,
    TaskError,
    TrainState,
    first_difference,
    init_state,
    task_at,
)
from fnn.train._step import returned, train_step

_CHECKED = 1000  # targets that are looked at together


def steps_of_run(examples: int, *, epochs: int, batch_size: int | Literal["all"]) -> int:
    """How many steps `fit` takes in all, which is what a schedule over the whole run needs.

    Raises:
        ValueError: no epochs, or a batch that is empty or larger than the training examples.
    """
    check_range("epochs", epochs, at_least=1, integer=True)
    if batch_size == "all":
        return epochs
    check_range("batch_size", batch_size, at_least=1, integer=True)
    if batch_size > examples:
        raise ValueError(
            f'batch_size {batch_size} exceeds the {examples} training examples; "all" takes all of them'
        )
    return epochs * -(-examples // batch_size)


def batch_of(examples: int, batch_size: int | Literal["all"]) -> int:
    """How many examples a step takes."""
    return examples if batch_size == "all" else batch_size


def check_length(
    examples: int, *, epochs: int, batch_size: int | Literal["all"], patience: int | None
) -> int:
    """`steps_of_run`, which a run that loses patience does not all take.

    Raises:
        ValueError: a length that is out of range.
    """
    check_optional("patience", patience, at_least=1, integer=True)
    return steps_of_run(examples, epochs=epochs, batch_size=batch_size)


def check_fit(
    make: Make,
    hyperparameters: Any,
    data: Splits,
    /,
    *,
    epochs: int,
    batch_size: int | Literal["all"],
    patience: int | None = None,
) -> None:
    """See that network, loss, hyperparameters and data fit together, without training anything.

    Asked for every end of a search's space; that the data are sound, `check_splits` says once.
    Hyperparameters are concrete here, so this is also where those out of range are found.

    Raises:
        ValueError: what does not fit.
    """
    x, y = data.train
    check_length(len(x), epochs=epochs, batch_size=batch_size, patience=patience)
    size = batch_of(len(x), batch_size)
    classes = len(data.classes)

    def run(key: Any, batch: Batch) -> Any:
        state = init_state(make, hyperparameters, key, batch.x)
        task = task_at(make, hyperparameters, state.step)
        outputs, _ = task.net.apply(state.params, state.state, batch.x)
        if has_classes(batch.y) and outputs.shape != (size, classes):
            shape = f"({', '.join(['batch', *map(str, outputs.shape[1:])])})"
            alone = "sigmoid_cross_entropy of one score" if classes == 2 else "a regression"
            way_out = f"; {alone} takes float targets {shape}"
            raise ValueError(
                f"the data has {classes} classes, so the network must end in (batch, {classes}) outputs, not "
                f"{shape}{way_out if outputs.size == size else ''}"
            )
        _check_metrics(task, outputs, batch.y)
        after, _ = train_step(make, hyperparameters, state, batch)
        return outputs, state, after

    shape: Any = jax.ShapeDtypeStruct
    batch = Batch(
        jax.eval_shape(to_float, shape((size, *x.shape[1:]), jnp.result_type(x))),
        shape((size, *y.shape[1:]), jnp.result_type(y)),
        shape((size,), bool),
        Visit(shape((size,), jnp.int32), shape((), jnp.int32)),
    )
    outputs, before, after = jax.eval_shape(run, jax.eval_shape(jax.random.key, 0), batch)
    _check_alike(before, after)
    if not has_classes(y):
        loss = task_at(make, hyperparameters, jnp.zeros((), jnp.int32)).loss
        for where, part in (("training", data.train), ("validation", data.validation)):
            _check_targets(loss, outputs, part.y, f"the {where} part")


def _check_alike(before: TrainState, after: TrainState) -> None:
    """Say where a step returns a state unlike the one that it was given, which no loop can go on with."""
    difference = first_difference(before, after)
    for part in ("state", "opt_state"):  # of equal arrays, which may stand in a list in place of a tuple
        was: Any = jax.tree.structure(getattr(before, part))
        now: Any = jax.tree.structure(getattr(after, part))
        if was != now:
            difference = difference or (part, str(was), str(now))
    if difference:
        path, was, now = difference
        function = "the optimizer's update" if path.startswith("opt_state") else "the network's apply"
        raise ValueError(
            f"{function} must return a state like that of init: {path} was {was}, and is {now} after a step"
        )


def _check_metrics(task: Task, outputs: Any, targets: Any) -> None:
    """Say of metrics which one hides another, or measures something else than examples."""
    names = [metric_name(metric) for metric in task.metrics]
    for name, metric in zip(names, task.metrics, strict=True):
        if names.count(name) > 1:
            raise TaskError("metrics", f"two metrics have the name {name}, so one would hide the other")
        if name == "loss" or (name == "accuracy" and not _is_own(metric)):
            raise TaskError("metrics", f"a metric named {name} would hide the {name} of the run; rename it")
        measured = metric(outputs, targets)
        if getattr(measured, "shape", None) not in (targets.shape[:1], ()):
            raise TaskError(
                "metrics",
                f"a metric returns one value per example, shape {targets.shape[:1]}, or one for all; "
                f"{name} returns {returned(measured)}",
            )


def _check_targets(loss: Any, outputs: Any, targets: Any, where: str) -> None:
    """Say of float targets which one a loss of fnn does not take, as its NaN at outputs of 0 tells."""
    if not _is_own(loss):
        return
    losses = jax.jit(lambda y: loss(jnp.zeros((len(y), *outputs.shape[1:]), outputs.dtype), y))
    for first in range(0, len(targets), _CHECKED):
        rows = np.resize(np.asarray(targets[first : first + _CHECKED]), (_CHECKED, *targets.shape[1:]))
        bad = np.flatnonzero(np.isnan(losses(rows)))
        if len(bad):
            raise DataError(
                f"the target of example {first + bad[0]} of {where}, {rows[bad[0]]}, is none that "
                f"{getattr(loss, '__name__', 'the loss')} takes; see what its documentation asks of targets"
            )


def _is_own(function: Any) -> bool:
    """Whether it is a function of fnn's, with settings bound to it or not."""
    return (getattr(unbound(function), "__module__", None) or "").startswith("fnn.")
