"""What an optimizer is, how its updates reach the parameters, and how optimizers compose.

An optimizer turns gradients into updates. Anything that does so is an `Optimizer`, also a clip that only
shortens the gradient; `chain` feeds one into the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn._tree import combine, matching, partition
from fnn._types import Array, Hyperparameter, Params, at_least_float32, check_range
from fnn.optim._sums import total
from fnn.optim.schedules import value_at

Updates = Annotated[Any, "updates"]
"""A pytree shaped like the parameters: gradients on their way to becoming updates."""
OptimizerState = Annotated[Any, "optimizer state"]
"""What an optimizer remembers between steps: a NamedTuple, or a tuple of them for a chain."""


class Optimizer(NamedTuple):
    """An optimizer as two pure functions, the protocol that the JAX ecosystem shares.

    An `Optimizer` works wherever an optax.GradientTransformation is wanted, and the other way round. Those
    that go by path take leaves named `kernel` unless their `pattern` says otherwise.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fnn.optim import apply_updates, sgd
        >>> optimizer = sgd(0.1)
        >>> params = {"w": jnp.array([1.0, -2.0])}
        >>> state = optimizer.init(params)
        >>> grads = jax.grad(lambda params: jnp.sum(params["w"] ** 2))(params)
        >>> updates, state = optimizer.update(grads, state, params)
        >>> print(apply_updates(params, updates)["w"])
        [ 0.8 -1.6]
    """

    init: Callable[[Params], OptimizerState]
    """`init(params) -> state`"""
    update: Callable[..., tuple[Updates, OptimizerState]]
    """`update(grads, state, params=None) -> (updates, state)`; the updates are to be added."""


def apply_updates(params: Params, updates: Updates) -> Params:
    """Add updates to parameters.

        x_{t+1} = x_t + Δx_t

    Args:
        params: a pytree of parameters.
        updates: a pytree of the same shape. Updates already carry the minus sign of descent.

    Returns:
        The new parameters, in the dtypes of the old ones.

    Raises:
        ValueError: if one of the two is a part of `partition` and the other is not.
    """
    return _leaf_by_leaf(lambda x, update: (x + update).astype(jnp.result_type(x)), params, updates)


def chain(*transforms: Optimizer) -> Optimizer:
    """Feed the updates of each transform into the next.

    Args:
        transforms: what to apply, first to last: `chain(clip_by_global_norm(1.0), adam(1e-3))`. One of them
            must descend, or the gradients are added to the parameters.

    Returns:
        An optimizer whose state is the tuple of the states.

    Raises:
        TypeError: if a transform is not an optimizer, or none is given.
    """
    if not transforms:
        raise TypeError("chain needs at least one optimizer")
    for transform in transforms:
        check_optimizer("chain", transform)

    def init(params: Params) -> tuple[OptimizerState, ...]:
        return tuple(transform.init(params) for transform in transforms)

    def update(
        grads: Updates, state: tuple[OptimizerState, ...], params: Params | None = None
    ) -> tuple[Updates, tuple[OptimizerState, ...]]:
        states = []
        for transform, old in zip(transforms, state, strict=True):
            grads, new = transform.update(grads, old, params)
            states.append(new)
        return grads, tuple(states)

    return Optimizer(init, update)


# --- clipping -------------------------------------------------------------------------------------------


def global_norm(tree: Updates, /) -> Array:
    """The Euclidean norm of all leaves together, as if they were one vector.

        ‖g‖ = √(Σ_leaves Σ_i g_i²)

    Returns:
        A scalar, float32 or wider; its gradient at 0 is 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import global_norm
        >>> float(global_norm({"kernel": jnp.array([3.0]), "bias": jnp.array([[4.0]])}))
        5.0
    """
    squares = [total(jnp.square(at_least_float32(leaf))) for leaf in jax.tree.leaves(tree)]
    return root(sum(squares, start=jnp.zeros(())))


class ClipState(NamedTuple):
    """The state of `clip_by_global_norm` and `clip_by_value`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken


def clip_by_global_norm(max_norm: Hyperparameter) -> Optimizer:
    """Shorten the gradient to a largest norm; its direction stays.

        g ← g · min(1, max_norm / ‖g‖)

    Args:
        max_norm: the largest norm that passes unchanged, over all parameters together; above 0.

    Raises:
        ValueError: if `max_norm` is a number that is not above 0.

    A gradient of 0 stays 0, and one with a NaN becomes NaN everywhere. Optax computes the same; PyTorch's
    clip_grad_norm_ divides by ‖g‖ + 1e-6, so what it clips comes out shorter by that little.

    Source: Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import adam, chain, clip_by_global_norm
        >>> clip = clip_by_global_norm(1.0)
        >>> clip.update(jnp.array([0.0, 4.0]), clip.init(jnp.zeros(2)))[0].tolist()
        [0.0, 1.0]
        >>> optimizer = chain(clip, adam(1e-3))
    """
    check_range("max_norm", max_norm, above=0)

    return transition(clip_by_global_norm_init, clip_by_global_norm_update, max_norm=max_norm)


def clip_by_global_norm_init(params: Params) -> ClipState:
    """The state before the first step of `clip_by_global_norm` or `clip_by_value`."""
    return ClipState(count=first_count())


def clip_by_global_norm_update(
    grads: Updates, state: ClipState, /, *, max_norm: float | Array
) -> tuple[Updates, ClipState]:
    """One step of `clip_by_global_norm`, with its hyperparameter given as a number."""
    shrink = 1 / jnp.maximum(global_norm(grads) / max_norm, 1)
    (updates,) = leafwise(lambda g: (g * shrink,), grads)
    return updates, ClipState(state.count + 1)


def clip_by_value(limit: Hyperparameter) -> Optimizer:
    """Cut each number of the gradient off at a largest size; its direction may turn.

        g ← min(max(g, -limit), limit)

    Args:
        limit: the largest absolute value that passes unchanged; above 0.

    Raises:
        ValueError: if `limit` is a number that is not above 0.

    A NaN stays one and spares the other numbers. PyTorch's clip_grad_value_ and Optax's clip compute the
    same.

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import clip_by_value
        >>> clip = clip_by_value(1.0)
        >>> clip.update(jnp.array([0.5, -4.0]), clip.init(jnp.zeros(2)))[0].tolist()
        [0.5, -1.0]
    """
    check_range("limit", limit, above=0)

    return transition(clip_by_global_norm_init, clip_by_value_update, limit=limit)


def clip_by_value_update(
    grads: Updates, state: ClipState, /, *, limit: float | Array
) -> tuple[Updates, ClipState]:
    """One step of `clip_by_value`, with its hyperparameter given as a number."""
    (updates,) = leafwise(lambda g: (jnp.clip(g, -limit, limit),), grads)
    return updates, ClipState(state.count + 1)


# --- what the optimizers are built from -----------------------------------------------------------------


def transition(
    init: Callable[[Params], OptimizerState],
    update: Callable[..., tuple[Updates, OptimizerState]],
    *,
    needs_params: str = "",
    **hyperparameters: Hyperparameter,
) -> Optimizer:
    """An optimizer from its bare transition, with every hyperparameter evaluated at the count in the state.

    Args:
        init: `init(params) -> state`.
        update: `update(grads, state, **numbers) -> (updates, state)`, or with the parameters after the state.
        needs_params: the optimizer's name where `update` takes the parameters, for the error without them.
        hyperparameters: of `update`, by name.
    """

    def evaluated(
        grads: Updates, state: OptimizerState, params: Params | None = None
    ) -> tuple[Updates, OptimizerState]:
        if not hasattr(state, "count"):
            raise TypeError(
                f"update(grads, state, params) takes the state that init returned, not {type(state).__name__}"
            )
        weights = (needed(params, needs_params),) if needs_params else ()
        numbers = {name: value_at(value, state.count) for name, value in hyperparameters.items()}
        return update(grads, state, *weights, **numbers)

    return Optimizer(init, evaluated)


def matching_init(
    init: Callable[[Params], OptimizerState], pattern: str
) -> Callable[[Params], OptimizerState]:
    """The same, but ValueError where the pattern matches no parameter."""

    def checked(params: Params) -> OptimizerState:
        matching(params, pattern)
        return init(params)

    return checked


def leafwise(rule: Callable[..., tuple[Array, ...]], grads: Updates, *slots: Any) -> tuple[Any, ...]:
    """Apply an optimizer's formula to each gradient and its slots, and keep every dtype.

    Args:
        rule: `rule(g, *slots) -> (update, *new_slots)` for one leaf; it sees float32 or wider, since g² soon
            leaves the range of float16, and a running mean stands still in bfloat16.
        grads: a pytree.
        slots: pytrees of the same structure, what the optimizer remembers of each parameter.

    Returns:
        `(updates, *new_slots)`, each a pytree in the dtypes of `grads` and of the old slots.

    Raises:
        ValueError: if some of them are parts of `partition` and others are not.
    """

    def keep_dtypes(*old: Array) -> tuple[Array, ...]:
        new = rule(*map(at_least_float32, old))
        return tuple(n.astype(jnp.result_type(o)) for n, o in zip(new, old, strict=True))

    rows = _leaf_by_leaf(keep_dtypes, grads, *slots)  # at each leaf the tuple (update, *new_slots)

    def column(i: int) -> Any:
        return jax.tree.map(lambda _, row: row[i], grads, rows)

    return tuple(column(i) for i in range(1 + len(slots)))


def _leaf_by_leaf(function: Callable[..., Any], *trees: Any) -> Any:
    """`jax.tree.map`, with a sentence where one tree has None and another has not."""

    def at_leaf(*leaves: Any) -> Any:
        holes = [leaf is None for leaf in leaves]
        if any(holes) and not all(holes):
            raise ValueError(
                "one of gradients, parameters and optimizer state holds None where another does not: it is "
                "one part of `partition`; make it whole with `combine`, or cut the other alike"
            )
        return None if all(holes) else function(*leaves)

    return jax.tree.map(at_leaf, *trees, is_leaf=lambda leaf: leaf is None)


def update_matching(
    rule: Callable[[Array, Array], Array], updates: Updates, params: Params, pattern: str
) -> Updates:
    """Apply `rule(update, x) -> update` where the path matches the pattern; other updates stay.

    Raises:
        ValueError: if the pattern matches no parameter.
    """
    matched, rest = partition(updates, pattern)
    weights, _ = partition(params, pattern)
    matched, _ = leafwise(lambda update, x: (rule(update, x), x), matched, weights)
    return combine(matched, rest)


def needed(params: Params | None, optimizer: str) -> Params:
    """The parameters, where an update cannot do without them.

    Raises:
        TypeError: if they were left out.
    """
    if params is None:
        raise TypeError(f"{optimizer} needs the parameters: update(grads, state, params)")
    return params


def check_optimizer(taker: str, optimizer: Any) -> None:
    """Raise TypeError where something is not an optimizer."""
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        name, advice = getattr(optimizer, "__name__", type(optimizer).__name__), ""
        if callable(optimizer):
            advice = "; an optimizer's function has to be called"
        elif type(optimizer) in (list, tuple):
            pair = len(optimizer) == 2 and all(map(callable, optimizer))
            advice = f"; make one of it, {'Optimizer(init, update)' if pair else 'chain(*optimizers)'}"
        raise TypeError(f"{taker} takes optimizers, not {name}{advice}")


def zeros_like(params: Params) -> Any:
    """A slot of zeros for each parameter, in its shape, and in float32 where its dtype is narrower."""
    return jax.tree.map(lambda x: jnp.zeros_like(at_least_float32(x)), params)


def first_count() -> Array:
    """The number of steps taken before the first step: a scalar int32 0."""
    return jnp.zeros((), jnp.int32)


def root(square: Array) -> Array:
    """√square, whose gradient at 0 is 0 and not infinite, so that one may differentiate through training."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def ratio(x: Array, denominator: Array) -> Array:
    """x / denominator, and 0 where the denominator is 0."""
    zero = denominator == 0
    return jnp.where(zero, 0, x / jnp.where(zero, 1, denominator))
