"""What a run trains, and everything that changes while it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn._tree import combine, fold_name, partition, paths
from fnn._types import Array, Key, Params, State
from fnn.data import Examples, Mixed, Moments, Visit, standardize, to_float
from fnn.nn import Layer, lsuv
from fnn.nn._layer import as_layer, check_sample
from fnn.optim import Optimizer, averaged_params
from fnn.optim.transforms import check_optimizer


class TaskError(ValueError):
    """A field of a task that does not fit the rest; the message starts with its name."""

    def __init__(self, field: str, problem: str) -> None:
        """Keep the field apart from the problem: a config has another name for it."""
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Task(NamedTuple):
    """What `make(hyperparameters)` returns, as this or as a plain tuple of its first three fields or more.

    net: the network; a plain function of one array will do.
    loss: `loss(outputs, targets)`, one value per example.
    optimizer: from fnn or anything else of the same two functions.
    penalties: functions of the parameters that are added to the mean loss.
    augment: functions `(key, x) -> x` applied to each training batch, of values as `to_float` scales them.
        One may return `Mixed` instead, and one with a third argument `visit` is told which examples it sees.
    metrics: functions `metric(outputs, targets)` with one value per example, or one for all, for evaluation.
    freeze: patterns on the paths of parameters that stay as they are: no gradient is taken of them, and the
        optimizer never sees them. Running statistics are no parameters: a frozen batch norm takes the moments
        of the batch and updates its running ones, as in PyTorch's training mode; in Keras it would not.
    """

    net: Layer
    loss: Callable[[Array, Array], Array]
    optimizer: Optimizer
    penalties: tuple[Callable[[Params], Array], ...] = ()
    augment: tuple[Callable[..., Array | Mixed], ...] = ()
    metrics: tuple[Callable[[Array, Array], Array], ...] = ()
    freeze: tuple[str, ...] = ()

    def cut(self, params: Params) -> tuple[Params, Params]:
        """The parameters that stay as they are, and those that learn, each with None for the others."""
        try:
            return partition(params, *self.freeze)
        except ValueError as error:
            raise TaskError("freeze", str(error)) from error


Make = Callable[[Any], Task | tuple]
"""`make(hyperparameters) -> (net, loss, optimizer)` or a `Task`; called inside the trace."""


class TrainState(NamedTuple):
    """A run between two steps; a pytree, so that `vmap` over it is a population."""

    step: Array  # () int32: steps taken
    params: Params
    state: State  # of the layers: running statistics
    opt_state: Any
    key: Key  # of the run; what a step draws is addressed from it by the step's number
    moments: Moments | None  # of the training inputs, which standardise every input; None: inputs as they are


class Batch(NamedTuple):
    """Some examples; where `mask` is False, padding that counts nowhere."""

    x: Any  # (N, …)
    y: Any  # (N,) classes, or targets (N, …)
    mask: Any  # (N,) bool
    visit: Visit | None = None  # which examples these are, for augmentations that ask


def check_examples_are(examples: Any, such_as: str) -> None:
    """Raise TypeError where something, such as a whole data set, is no `Examples`."""
    if not isinstance(examples, Examples):
        raise TypeError(
            f"examples must be fnn.Examples(x, y), such as {such_as}, not {type(examples).__name__}"
        )


def as_values(hyperparameters: Any) -> Any:
    """Every number as a float32 array, so that jit sees values and not constants.

    Schedules stay schedules: those of fnn are pytrees whose end-points become arrays too, any other
    function of the step becomes one without leaves.

    Raises:
        TypeError: a string among them.
    """

    def value(number: Any) -> Array:
        if isinstance(number, str):
            raise TypeError(
                f"hyperparameters are numbers and schedules, and not {number!r}; set what is structure "
                f"beforehand, as in lambda hyperparameters: make({{**hyperparameters, 'name': {number!r}}}), "
                "and leave it out of the hyperparameters"
            )
        if isinstance(number, Array):
            return number.astype(jnp.float32)
        return jax.device_put(np.asarray(number, np.float32))  # jnp.asarray compiles a program for it

    return jax.tree.map(value, as_pytree(hyperparameters))


def as_pytree(hyperparameters: Any) -> Any:
    """Every schedule as a pytree, which may be an argument of a jitted function."""

    def node(leaf: Any) -> Any:
        is_function = callable(leaf) and not isinstance(leaf, jax.tree_util.Partial)
        return jax.tree_util.Partial(leaf) if is_function else leaf

    return jax.tree.map(node, hyperparameters, is_leaf=callable)


def over_steps(schedule: Any, steps: Array | np.ndarray) -> Array:
    """The values of a schedule after each of some steps, by one program."""
    return jax.jit(jax.vmap(lambda step: jnp.asarray(schedule(step))))(steps)


def task_at(make: Make, hyperparameters: Any, step: Array) -> Task:
    """The task with every schedule among the hyperparameters evaluated at `step`.

    An optimizer that should see a schedule whole, as Nesterov's momentum does, is given it inside `make`.
    """
    if not callable(make):
        raise TypeError(
            "make must be a function, make(hyperparameters) -> (net, loss, optimizer), not "
            f"{type(make).__name__}"
        )
    values = jax.tree.map(lambda h: h(step) if callable(h) else h, hyperparameters, is_leaf=callable)
    return _task(make(values))


def _task(made: Any) -> Task:
    """What `make` returned, as a task.

    Raises:
        TypeError: what does not make one.
        TaskError: a field that is no tuple.
    """
    if not isinstance(made, (tuple, list)) or len(made) < 3:
        raise TypeError(f"make must return (net, loss, optimizer) or a Task, not {type(made).__name__}")
    task = Task(*made)
    if not callable(task.loss):
        raise TypeError(
            "make must return (net, loss, optimizer), whose loss is a function of outputs and targets, not "
            f"{type(task.loss).__name__}"
        )
    check_optimizer("a task", task.optimizer)
    for field in Task._fields[3:]:
        value = getattr(task, field)
        if not isinstance(value, (tuple, list)):
            name = getattr(value, "__name__", repr(value))
            raise TaskError(field, f"a tuple is wanted, not {name}; a comma makes one of it, ({name},)")
        for entry in value:
            if not (isinstance(entry, str) if field == "freeze" else callable(entry)):
                wanted = "patterns" if field == "freeze" else "functions"
                raise TaskError(field, f"a tuple of {wanted} is wanted, and {entry!r} is none of them")
    return task._replace(net=as_layer(task.net))


def init_state(
    make: Make,
    hyperparameters: Any,
    key: Key,
    x: Any,
    moments: Moments | None = None,
    *,
    rescale: bool = False,
) -> TrainState:
    """The state before the first step.

    Args:
        make: see `Make`.
        hyperparameters: what `make` takes.
        key: of the run.
        x: a raw input with its batch axis, or its shape and dtype.
        moments: those of the training inputs, see `standardize`.
        rescale: whether the initial kernels are scaled by `lsuv`, for which `x` are examples.

    Raises:
        ValueError: integers among the parameters that learn.
    """
    step = jnp.zeros((), jnp.int32)
    task = task_at(make, hyperparameters, step)
    params, layer_state = task.net.init(fold_name(key, "init"), _sample(x, moments))
    if rescale:
        params = lsuv(task.net, params, layer_state, network_input(x, moments))
    _, trained = task.cut(params)
    for path, leaf in paths(trained):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ValueError(
                f"the parameter {path} has dtype {jnp.result_type(leaf)}, of which there is no gradient; "
                "make it floating, or freeze it"
            )
    return TrainState(step, params, layer_state, task.optimizer.init(trained), key, moments)


def first_difference(one: TrainState, other: TrainState) -> tuple[str, str, str] | None:
    """The path of the first array that is not alike in two states, and what it is in each."""
    for part in ("params", "state", "opt_state"):
        if difference := first_of_trees(getattr(one, part), getattr(other, part)):
            path, had, has = difference
            return f"{part}/{path}".rstrip("/"), had, has
    return None


def first_of_trees(one: Any, other: Any, *, dtypes: bool = True) -> tuple[str, str, str] | None:
    """The same of two trees; without dtypes two arrays are alike that have the same shape."""

    def kinds(tree: Any) -> dict[str, str]:
        arrays = ((path, jax.typeof(leaf)) for path, leaf in paths(tree))
        return {path: f"{f'{a.dtype} ' if dtypes else ''}of shape {a.shape}" for path, a in arrays}

    first, second = kinds(one), kinds(other)
    for path in first | second:
        had, has = first.get(path, "missing"), second.get(path, "missing")
        if had != has:
            return path, had, has
    return None


def _sample(x: Any, moments: Moments | None) -> jax.ShapeDtypeStruct:
    """What parameters are made for: what the network is fed, or the inputs where those are wider."""
    check_sample(x)
    fed = jax.eval_shape(network_input, x, moments)
    return jax.ShapeDtypeStruct(fed.shape, jnp.promote_types(fed.dtype, x.dtype))


def network_input(x: Any, moments: Moments | None) -> Array:
    """Raw inputs as the network takes them: floating, and standardised where there are moments."""
    return to_float(x) if moments is None else standardize(x, moments)


def evaluation_params(task: Task, state: TrainState) -> Params:
    """The parameters to judge a run by: their running average where the optimizer keeps one."""
    frozen, trained = task.cut(state.params)
    return combine(frozen, averaged_params(trained, state.opt_state))
