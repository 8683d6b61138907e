"""Numbers about a network before its first step: pure functions, so that `vmap` measures many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn._tree import combine, paths
from fnn._types import Array, Key, Params
from fnn.data._dataset import has_classes
from fnn.nn import Layer
from fnn.nn._intermediates import apply_watched
from fnn.nn._layer import walk
from fnn.optim import Optimizer, apply_updates, global_norm
from fnn.train._state import Make, Task, TrainState, network_input, task_at
from fnn.tune._networks import without_noise

RECTIFIERS = ("relu", "relu6")
TAILS: dict[str, tuple[float, float]] = {"sigmoid": (0.02, 0.98), "tanh": (-0.96, 0.96)}
"""Beyond these outputs the slope is below a tenth of its largest."""

_MEMORY_STEPS = 100


def at_start(
    make: Make, hyperparameters: Any, starts: TrainState, examples: Any
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    """What one batch says of network, loss and optimizer, over several draws of the initial values.

    Args:
        make, hyperparameters: see `fnn.fit`; numbers, no schedules.
        starts: states before the first step, stacked, each of a key of its own.
        examples: some hundred raw training examples with their targets, `(x, y)` by name.

    Returns:
        A scalar for each check of the start, by its id, NaN where it does not apply; beside them `loss`,
        `loss_with_penalty` and `expected_loss`. And by the path of each layer the mean of its outputs, their
        deviation over examples, and its dead or saturated share: `{path: {"mean": …, "deviation": …,
        "dead": …, "saturated": …}}`, in network order outside of `jit`.
    """
    measured, layers, grads = lax.map(
        lambda state: _one_start(make, hyperparameters, state, examples), starts
    )
    numbers = {name: _OVER_DRAWS.get(name, jnp.mean)(values) for name, values in measured.items()}
    # What does not depend on luck is asked of the first draw alone.
    first, gradient = jax.tree.map(lambda leaf: leaf[0], (starts, grads))
    task = task_at(make, hyperparameters, first.step)
    numbers["independence"] = _independence(task, first, network_input(examples.x, first.moments), examples.y)
    numbers |= _of_optimizer(task.optimizer, gradient)
    return numbers, jax.tree.map(jnp.mean, layers)


_OVER_DRAWS: dict[str, Callable[[Array], Array]] = {
    "output_probabilities": jnp.max,
    "initial_loss": lambda excess: jnp.abs(excess.mean()),
    # What one draw has by bad luck is no mistake of the network.
    "zero_gradient": jnp.min,
    "dead_at_start": jnp.min,
    "penalty_size": jnp.median,
    "noise": jnp.median,
    "signal": jnp.median,
    "signal_explodes": jnp.median,
}


def _one_start(
    make: Make, hyperparameters: Any, state: TrainState, examples: Any
) -> tuple[dict[str, Array], dict[str, dict[str, Array]], Params]:
    """The numbers of one draw, its layers and its gradient."""
    task = task_at(make, hyperparameters, state.step)
    x, y = network_input(examples.x, state.moments), examples.y
    quiet = without_noise(task.net)
    frozen, trained = task.cut(state.params)

    def data_loss(trained: Params) -> tuple[Array, tuple]:
        outputs, after, by_layer = apply_watched(
            quiet, combine(frozen, trained), state.state, x, train=True, key=state.key
        )
        loss = task.loss(outputs, y).mean()
        outputs, after, by_layer = lax.stop_gradient((outputs, after, by_layer))
        return loss, (outputs, after, *_layers(quiet, state.params, by_layer))

    def penalty(trained: Params) -> Array:
        params = combine(frozen, trained)
        return sum((penalty(params) for penalty in task.penalties), jnp.zeros(()))

    def descend(trained: Params, _: None) -> tuple[Params, tuple]:
        seen, grads = jax.value_and_grad(data_loss, has_aux=True)(trained)
        size = 0.1 / (global_norm(grads) + 1e-12)
        return jax.tree.map(lambda w, g: w - size * g, trained, grads), (seen, grads)

    # A last layer that starts at zero, which is usual, hides the rest from the first gradient alone.
    first, second = _two(lax.scan(descend, trained, length=2)[1])
    ((loss, (outputs, after, signal, layers)), grads), (_, later) = first, second
    pull = jax.grad(penalty)(trained)
    sizes = jnp.stack(
        [penalty(jax.tree.map(lambda w, size=size: size * w, trained)) for size in (1, 10, 100)]
    )
    has_penalty = bool(task.penalties)
    numbers = {
        "loss": loss,
        "loss_with_penalty": loss + sizes[0],
        "penalty_sign": jnp.where(has_penalty, jnp.diff(sizes).min() / jnp.abs(loss), jnp.nan),
        "penalty_size": jnp.where(has_penalty, global_norm(pull) / global_norm(grads), jnp.nan),
        "zero_gradient": _share(
            [jnp.logical_not(jnp.any(g != 0) & jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(later)]
        ),
        "frozen": jnp.asarray(_size(frozen) / max(1, _size(state.params))),
        "state_updates": _share(
            [
                jnp.any(old != new)
                for old, new in zip(jax.tree.leaves(state.state), jax.tree.leaves(after), strict=True)
            ]
        ),
        "noise": _noise(task.net, quiet, state, x, outputs),
        **signal,
        **(_outputs(task, outputs, y, loss) if has_classes(y) else _of_numbers(task, outputs, y)),
    }
    return numbers, layers, grads


def _outputs(task: Task, outputs: Array, y: Array, loss: Array) -> dict[str, Array]:
    """What holds for a network that tells classes apart."""
    classes = outputs.shape[-1]
    variance = outputs.var(-1).mean()
    # A loss that applies softmax itself does not see a number that is added to all logits.
    shifted = task.loss(outputs + 1.0, y)
    applies_softmax = jnp.allclose(shifted, task.loss(outputs, y), rtol=1e-3, atol=1e-4) & jnp.isclose(
        task.loss(jnp.zeros_like(outputs), y).mean(), jnp.log(classes), rtol=1e-3
    )
    expected = jnp.log(classes) + variance / 2
    slope = jax.grad(lambda outputs: task.loss(outputs, y).sum())(outputs)
    sloped = (slope != 0).any(-1)  # a margin that is met has no slope
    off_one = jnp.abs(outputs.sum(-1) - 1).max()

    def where_softmax(value: Array) -> Array:
        return jnp.where(applies_softmax, value, jnp.nan)

    return {
        "output_probabilities": where_softmax(jnp.where((outputs >= 0).all(), off_one, jnp.inf)),
        "output_negative": where_softmax((outputs < 0).sum() / (outputs != 0).sum()),  # NaN where all are 0
        "loss_target": ((slope.argmin(-1) == y) & sloped).sum() / sloped.sum(),
        "logit_variance": where_softmax(variance),
        "expected_loss": where_softmax(expected),
        "initial_loss": where_softmax((loss - expected) / jnp.log(classes)),
    }


def _of_numbers(task: Task, outputs: Array, y: Array) -> dict[str, Array]:
    """Whether the loss falls where the outputs of larger targets rise, all outputs being alike at first."""
    if y.shape != outputs.shape:
        return {}
    alike = jnp.broadcast_to(outputs.mean(0), outputs.shape)
    slope = jax.grad(lambda outputs: task.loss(outputs, y).sum())(alike)
    together = ((slope - slope.mean(0, keepdims=True)) * (y - y.mean(0, keepdims=True))).sum(0)
    return {"loss_target": (together < 0).sum() / (together != 0).sum()}


def _layers(
    net: Layer, params: Params, outputs: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    """How the signal fares from layer to layer: the numbers of the checks, and those of each layer."""
    layers = dict(walk(net))
    between = hidden(layers, params)
    spreads = jnp.stack([spread(outputs[path]) for path in between] or [jnp.full((), jnp.nan)])
    dead, saturated = shares(layers, outputs)
    numbers = {
        "signal": jnp.log10(spreads.min()),
        "signal_explodes": jnp.log10(spreads.max()),
        "dead_at_start": _largest(dead),
        "saturated_at_start": _largest(saturated),
    }
    by_layer = {
        path: {
            "mean": y.mean(),
            "deviation": spread(y),
            **({"dead": dead[path]} if path in dead else {}),
            **({"saturated": saturated[path]} if path in saturated else {}),
        }
        for path, y in outputs.items()
    }
    return numbers, by_layer


def spread(y: Array) -> Array:
    """The deviation over examples, of all units together: not the differences between units."""
    return jnp.sqrt(y.var(0).mean())


def hidden(layers: dict[str, Layer], params: Params) -> list[str]:
    """The layers from the first that learns to the last, which is left out: it may start at zero."""
    learned = [path for path, _ in paths(params)]
    learning = [path for path in layers if any(f"{name}/".startswith(f"{path}/") for name in learned)]
    names = list(layers)
    return names[names.index(learning[0]) : names.index(learning[-1])] if learning and learning[0] else []


def shares(layers: dict[str, Layer], outputs: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """By layer: the share of rectified units that are 0 for all examples, of outputs in the flat tails."""
    dead, saturated = {}, {}
    for path, layer in layers.items():
        y = outputs[path]
        if layer.kind in RECTIFIERS:
            units = y.reshape(-1, y.shape[-1])
            dead[path] = (units == 0).all(0).mean()
        elif layer.kind in TAILS:
            low, high = TAILS[layer.kind]
            saturated[path] = ((y < low) | (y > high)).mean()
    return dead, saturated


def _noise(net: Layer, quiet: Layer, state: TrainState, x: Array, signal: Array) -> Array:
    """How far dropout and the like spread an output, against the spread of outputs without them."""
    if quiet is net:
        return jnp.asarray(jnp.nan)

    def outputs(key: Key) -> Array:
        return net.apply(state.params, state.state, x, train=True, key=key)[0]

    drawn = jax.vmap(outputs)(jax.random.split(state.key, 8))
    return drawn.var(0).mean() / signal.var(0).mean()


def _independence(task: Task, state: TrainState, x: Array, y: Array) -> Array:
    """The loss of half of the examples beside others, in evaluation mode, where batch norm mixes none."""
    half = len(x) // 2
    if half == 0:
        return jnp.asarray(jnp.nan)

    def losses(batch: tuple[Array, Array]) -> Array:
        x, y = batch
        return task.loss(task.net.apply(state.params, state.state, x)[0], y)[:half]

    other_x = jnp.concatenate([x[:half], x[half:][::-1] + 1])
    # Reversed targets would have the same mean, and a loss that broadcasts sees little else of them.
    other_y = jnp.concatenate([y[:half], jnp.broadcast_to(y[0], y[half:].shape)])
    before, after = lax.map(losses, (jnp.stack([x, other_x]), jnp.stack([y, other_y])))
    return jnp.abs(after - before).max() / (jnp.abs(before).mean() + 1e-12)


def _of_optimizer(optimizer: Optimizer, grads: Params) -> dict[str, Array]:
    """Clipping and memory of an optimizer, told by what it does to the gradient of the first draw."""

    def first_step(scale: Array) -> Params:
        zeros = jax.tree.map(jnp.zeros_like, grads)
        return optimizer.update(_scaled(grads, scale), optimizer.init(zeros), zeros)[0]

    # A clipped gradient gives the same step when it is a million times smaller. So it does to Adam, whose
    # step, though, does not point along the gradient.
    tiny = 1e-6
    update, tiny_update = _two(lax.map(first_step, jnp.array([1.0, tiny])))
    size = global_norm(update)
    aligned = _along(update, grads) > 0.999 * size * global_norm(grads)
    clipped = jnp.where(aligned & (size > 0), global_norm(tiny_update) / (tiny * size), 1.0)

    # For how long do the updates go on as before, after the gradient held for 100 steps and then turned? A
    # part of each array tells. One that accumulates gradients, and stands still at most steps, cannot be
    # told so.
    few = jax.tree.map(_thinned, grads)

    def follow(carry: tuple[Any, Params], scale: Array) -> tuple[tuple[Any, Params], Array]:
        state, params = carry
        updates, state = optimizer.update(_scaled(few, scale), state, params)
        return (state, apply_updates(params, updates)), _along(updates, few)

    start = jax.tree.map(jnp.zeros_like, few)
    scales = jnp.concatenate([jnp.ones(_MEMORY_STEPS), -jnp.ones(_MEMORY_STEPS)])
    along = lax.scan(follow, (optimizer.init(start), start), scales)[1]
    moves = (along != 0).mean() > 0.9
    return {
        "clipping": jnp.where(moves, clipped, jnp.nan),
        "memory": jnp.where(moves, (along[_MEMORY_STEPS:] > 0).mean(), jnp.nan),
    }


def _scaled(grads: Params, scale: Array) -> Params:
    return jax.tree.map(lambda g: (scale * g).astype(g.dtype), grads)


def _thinned(leaf: Array) -> Array:
    """At most 32 of the numbers along each axis, evenly spaced."""
    return leaf[tuple(slice(None, None, -(-n // 32) or 1) for n in leaf.shape)]


def _along(updates: Params, grads: Params) -> Array:
    """How far updates go down a gradient."""
    return sum(
        (jnp.vdot(u, -g) for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(grads), strict=True)),
        jnp.zeros(()),
    )


def _two(stacked: Any) -> tuple[Any, Any]:
    """Both members of a tree of pairs."""
    return jax.tree.map(lambda leaf: leaf[0], stacked), jax.tree.map(lambda leaf: leaf[1], stacked)


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _share(truths: list[Array]) -> Array:
    """The share of them that hold; NaN of none."""
    return jnp.stack(truths).mean() if truths else jnp.asarray(jnp.nan)


def _largest(by_layer: dict[str, Array]) -> Array:
    return jnp.stack(list(by_layer.values())).max() if by_layer else jnp.asarray(jnp.nan)
