"""The perceptron: a unit with a step, and the rule by which it learns without a gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp

from fnn._types import Array, Params, State, check_range
from fnn.nn._layer import Layer
from fnn.nn._linear import linear
from fnn.nn.activations import heaviside
from fnn.nn.initializers import constant


def perceptron(features: int = 1, *, name: str | None = None) -> Layer:
    """Units with a step function, 1 where x W + b > 0 and 0 otherwise.

    No gradient passes a step, so an optimizer leaves its zeros as they are: `perceptron_update` is the rule
    by which it learns. Weights found so are `{"kernel": weights[:, None], "bias": bias[None]}` here.

    Args:
        features: the number of units.
        name: in place of perceptron_1, perceptron_2, …

    Parameters: `kernel` W (inputs, features) and `bias` b (features,), from 0. Input (N, inputs), output
    (N, features).

    Source: Rosenblatt (1958), "The Perceptron".
    """
    score = linear(features, kernel_init=constant)

    def apply(params: Params, state: State, x: Array, **context: Any) -> tuple[Array, State]:
        y, state = score.apply(params, state, x, **context)
        return heaviside(y), state

    return replace(score, kind="perceptron", apply=apply, name=name)


class PerceptronState(NamedTuple):
    """One perceptron while it learns."""

    weights: Array  # (inputs,)
    bias: Array  # ()
    mistakes: Array  # () int32: examples that it got wrong, each of which changed it


def perceptron_init(inputs: int) -> PerceptronState:
    """A perceptron that knows nothing: weights and bias 0.

    Args:
        inputs: the number of its inputs.
    """
    check_range("inputs", inputs, at_least=1, integer=True)
    return PerceptronState(jnp.zeros(inputs), jnp.zeros(()), jnp.zeros((), jnp.int32))


def perceptron_predict(state: PerceptronState, x: Array, /) -> Array:
    """1 where w·x + b > 0, 0 otherwise.

    Args:
        state: the perceptron.
        x: one example (inputs,) or many (N, inputs).

    Returns:
        A scalar or (N,).
    """
    return heaviside(x @ state.weights + state.bias)


def perceptron_update(state: PerceptronState, x: Array, y: Array, /) -> PerceptronState:
    """The perceptron learning rule for one example: only a mistake changes the weights.

        w ← w + (y − f(x)) · x,   b ← b + (y − f(x))

    There is no learning rate: from weights of 0 it would scale w and b alike, and change no prediction.

    If some unit vector v separates the data with margin γ, so that ±v·(x, 1) ≥ γ for every example, the rule
    makes at most (R / γ)² mistakes in however many epochs, R being the largest ‖(x, 1)‖. On data that no
    plane separates, such as XOR, it never stops making them.

    Args:
        state: the perceptron.
        x: one example (inputs,).
        y: its class, 0 or 1.

    A scan over the examples is an epoch.

    Source: Rosenblatt (1958), "The Perceptron"; Novikoff (1962), "On Convergence Proofs on Perceptrons".

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x, y = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), jnp.array([0, 1, 1, 1])
        >>> def epoch(state, _):
        ...     return jax.lax.scan(lambda s, example: (perceptron_update(s, *example), None), state, (x, y))
        >>> state, _ = jax.lax.scan(epoch, perceptron_init(2), length=5)
        >>> perceptron_predict(state, x).tolist(), int(state.mistakes)
        ([0.0, 1.0, 1.0, 1.0], 4)
    """
    error = (y - perceptron_predict(state, x)).astype(state.weights.dtype)
    return PerceptronState(
        state.weights + error * x.astype(state.weights.dtype),
        state.bias + error,
        state.mistakes + (error != 0),
    )
