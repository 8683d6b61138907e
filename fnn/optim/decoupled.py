"""Optimizers with decoupled weight decay: AdamW, Lion and LAMB.

The decay shrinks the weights themselves. Added to the gradient, as an L2 penalty is, it would be divided by
the size of the gradient, and weights with large gradients would decay less. Only leaves whose path matches
the pattern decay: by default the kernels, not biases or scales.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from fnn._types import Array, Hyperparameter, Params, check_range
from fnn.optim.moments import AdamState, adam_init, adam_update
from fnn.optim.transforms import (
    Optimizer,
    Updates,
    first_count,
    global_norm,
    leafwise,
    matching_init,
    ratio,
    transition,
    update_matching,
    zeros_like,
)

# --- AdamW ----------------------------------------------------------------------------------------------


def adamw(
    learning_rate: Hyperparameter,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 1e-2,
    pattern: str = "*kernel",
) -> Optimizer:
    """AdamW: Adam, and weights that decay at a rate of their own.

        x_{t+1} = x_t - α_t (m̂ / (√v̂ + eps) + λ x_t),    m̂ and v̂ as in `adam`

    Args:
        learning_rate: α, at least 0.
        b1: weight of the old mean of the gradient, at least 0 and below 1.
        b2: weight of the old mean of its square, at least 0 and below 1.
        eps: keeps the denominator from 0, in units of the gradient; at least 0.
        weight_decay: λ, at least 0.
        pattern: shell pattern on the path of what decays; `*` also crosses `/`, and `"*"` is everything.

    Raises:
        ValueError: if a number is out of its range; at init, if the pattern matches no parameter.

    PyTorch, Optax and Keras have the same formula but decay every parameter, as does `pattern="*"`. Their
    defaults of λ are 0.01 (as here), 0.0001 and 0.004. The paper's decay follows the schedule of α and not α
    itself: its λ is this λ times the first α.

    Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import adamw
        >>> params = {"kernel": jnp.array([4.0]), "bias": jnp.array([4.0])}
        >>> optimizer = adamw(0.5, weight_decay=0.25)
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> updates["kernel"].round(3).tolist(), updates["bias"].round(3).tolist()
        ([-1.0], [-0.5])
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("b1", b1, at_least=0, below=1)
    check_range("b2", b2, at_least=0, below=1)
    check_range("eps", eps, at_least=0)
    check_range("weight_decay", weight_decay, at_least=0)

    return transition(
        matching_init(adam_init, pattern),
        partial(adamw_update, pattern=pattern),
        needs_params="adamw",
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
    )


def adamw_update(
    grads: Updates,
    state: AdamState,
    params: Params,
    /,
    *,
    learning_rate: float | Array,
    b1: float | Array,
    b2: float | Array,
    eps: float | Array,
    weight_decay: float | Array,
    pattern: str = "*kernel",
) -> tuple[Updates, AdamState]:
    """One step of `adamw`, with its hyperparameters given as numbers; it starts from `adam_init`."""
    updates, state = adam_update(grads, state, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps)
    decay = learning_rate * weight_decay
    return update_matching(lambda update, x: update - decay * x, updates, params, pattern), state


# --- Lion -----------------------------------------------------------------------------------------------


class LionState(NamedTuple):
    """The state of `lion`."""

    count: Array  # type: ignore[assignment]  # () int32: steps taken
    first_moment: Params  # m, running mean of g, shapes of the parameters, float32 or wider


def lion(
    learning_rate: Hyperparameter,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.99,
    weight_decay: Hyperparameter = 1e-3,
    pattern: str = "*kernel",
) -> Optimizer:
    """Lion: every parameter steps by the same amount, in the direction that momentum and gradient agree on.

        c_{t+1} = b1 m_t + (1 - b1) g_t
        x_{t+1} = x_t - α_t (sign(c_{t+1}) + λ x_t)
        m_{t+1} = b2 m_t + (1 - b2) g_t

    Args:
        learning_rate: α, at least 0; the size of every step, a third to a tenth of AdamW's.
        b1: weight of the mean in the direction, at least 0 and below 1.
        b2: weight of the old mean, at least 0 and below 1.
        weight_decay: λ, at least 0; three to ten times AdamW's.
        pattern: shell pattern on the path of what decays; `*` also crosses `/`, and `"*"` is everything.

    Raises:
        ValueError: if a number is out of its range; at init, if the pattern matches no parameter.

    It has half of Adam's memory and no eps: sign(0) is 0. Optax and Keras have the same formula but decay
    every parameter, as does `pattern="*"`; λ is 0.001 in Optax (as here) and 0 in Keras by default. PyTorch
    has no Lion.

    Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import lion
        >>> params = {"kernel": jnp.array([4.0, 0.01, -4.0])}
        >>> optimizer = lion(0.5, weight_decay=0.25)
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> print(updates["kernel"].round(2))
        [-1.  -0.5  1. ]
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("b1", b1, at_least=0, below=1)
    check_range("b2", b2, at_least=0, below=1)
    check_range("weight_decay", weight_decay, at_least=0)

    return transition(
        matching_init(lion_init, pattern),
        partial(lion_update, pattern=pattern),
        needs_params="lion",
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        weight_decay=weight_decay,
    )


def lion_init(params: Params) -> LionState:
    """The state before the first step."""
    return LionState(count=first_count(), first_moment=zeros_like(params))


def lion_update(
    grads: Updates,
    state: LionState,
    params: Params,
    /,
    *,
    learning_rate: float | Array,
    b1: float | Array,
    b2: float | Array,
    weight_decay: float | Array,
    pattern: str = "*kernel",
) -> tuple[Updates, LionState]:
    """One step of `lion`, with its hyperparameters given as numbers."""

    def rule(g: Array, m: Array) -> tuple[Array, Array]:
        return -learning_rate * jnp.sign(b1 * m + (1 - b1) * g), b2 * m + (1 - b2) * g

    updates, first_moment = leafwise(rule, grads, state.first_moment)
    decay = learning_rate * weight_decay
    updates = update_matching(lambda update, x: update - decay * x, updates, params, pattern)
    return updates, LionState(state.count + 1, first_moment)


# --- LAMB -----------------------------------------------------------------------------------------------


def lamb(
    learning_rate: Hyperparameter,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 1e-2,
    pattern: str = "*kernel",
) -> Optimizer:
    """LAMB: each layer takes AdamW's direction, by a step in proportion to its weights. For huge batches.

        r       = m̂ / (√v̂ + eps) + λ x_t,    m̂ and v̂ as in `adam`
        x_{t+1} = x_t - α_t ‖x_t‖ / ‖r‖ · r

    with norms over one leaf, and the trust ratio ‖x‖ / ‖r‖ = 1 where either norm is 0, or a bias that starts
    at 0 would stay there.

    Args:
        learning_rate: α, at least 0; the length of a step as a fraction of the leaf's norm.
        b1: weight of the old mean of the gradient, at least 0 and below 1.
        b2: weight of the old mean of its square, at least 0 and below 1.
        eps: keeps the denominator from 0, in units of the gradient; at least 0.
        weight_decay: λ, at least 0.
        pattern: shell pattern on the path of what decays; `*` also crosses `/`, and `"*"` is everything. The
            trust ratio applies to all leaves.

    Raises:
        ValueError: if a number is out of its range; at init, if the pattern matches no parameter.

    The paper's φ, which may bound ‖x‖, is the identity here, as in Optax; Optax decays every parameter, as
    does `pattern="*"`, and its λ is 0 by default. Keras applies its decay outside the trust ratio. PyTorch
    has no LAMB.

    Source: You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import lamb
        >>> params = {"kernel": jnp.array([3.0, -4.0])}
        >>> optimizer = lamb(0.1, weight_decay=0.0)
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> print(updates["kernel"].round(4))
        [-0.3536  0.3536]
    """
    check_range("learning_rate", learning_rate, at_least=0)
    check_range("b1", b1, at_least=0, below=1)
    check_range("b2", b2, at_least=0, below=1)
    check_range("eps", eps, at_least=0)
    check_range("weight_decay", weight_decay, at_least=0)

    return transition(
        matching_init(adam_init, pattern),
        partial(lamb_update, pattern=pattern),
        needs_params="lamb",
        learning_rate=learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
    )


def lamb_update(
    grads: Updates,
    state: AdamState,
    params: Params,
    /,
    *,
    learning_rate: float | Array,
    b1: float | Array,
    b2: float | Array,
    eps: float | Array,
    weight_decay: float | Array,
    pattern: str = "*kernel",
) -> tuple[Updates, AdamState]:
    """One step of `lamb`, with its hyperparameters given as numbers; it starts from `adam_init`."""
    # With a learning rate of 1, AdamW's update is -r.
    descent, state = adamw_update(
        grads,
        state,
        params,
        learning_rate=1,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        pattern=pattern,
    )

    def rule(descent: Array, x: Array) -> Array:
        trust = ratio(global_norm(x), global_norm(descent))
        return learning_rate * jnp.where(trust == 0, 1, trust) * descent

    return update_matching(rule, descent, params, "*"), state
