"""The words that every room shares: what an array, a key, a schedule and a hyperparameter are."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Shape = tuple[int, ...]
Key = Annotated[jax.Array, "key"]
"""A typed random key, `jax.random.key(seed)`."""
Params = Annotated[Any, "params"]
"""A pytree of parameters: nested dicts keyed by layer name, leaves `kernel`, `bias`, `scale`, …"""
State = Annotated[Any, "state"]
"""A pytree of what a layer remembers without learning it by gradient: running statistics."""
DType = Annotated[Any, "dtype"]
"""Anything that `jnp.dtype` accepts."""

Metric = Annotated[jax.Array, "metric"]
"""One value per example, or one for all examples, that measures and is not made to be differentiated."""

Schedule = Callable[[jax.Array], jax.Array]
"""The value of a hyperparameter as a function of the number of steps already taken (0 at the first)."""
Hyperparameter = float | jax.Array | Schedule
"""A number, a scalar array or a schedule. An argument annotated so is a value, which may be traced and
changed without compiling again; any other argument is structure."""

Initializer = Callable[[jax.Array, Shape, Any], jax.Array]
"""`initializer(key, shape, dtype)` draws the initial values of one parameter."""


def as_float(x: Array) -> Array:
    """The same values in a dtype that can hold what is between 0 and 1: their own, or float32 of integers."""
    return jnp.asarray(x, jnp.result_type(x, float))


def at_least_float32(x: Array) -> Array:
    """The same values in float32, or in their own dtype where that is wider.

    bfloat16 and float16 have too few digits for sums of many small terms.
    """
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def check_range(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    integer: bool = False,
) -> None:
    """Raise ValueError where a concrete number lies outside its range; NaN lies outside every range.

    TypeError where it is no number or array of them, or no integer where one is wanted. Traced values and
    schedules are not known yet and pass.
    """
    if callable(value) or isinstance(value, jax.core.Tracer):
        return
    wanted = "an integer" if integer else "a number"
    if isinstance(value, dict):  # such as parameters, which would fill the screen
        raise TypeError(f"{name} must be {wanted}, not a dict")
    if isinstance(value, tuple | list):
        raise TypeError(f"{name} must be {wanted}, not {value!r}")
    numbers = np.asarray(value)
    if numbers.dtype.kind in "USO":
        raise TypeError(
            f"{name} must be {wanted}{' of at most 64 bits' if is_integer(value) else ''}, not {value!r}"
        )
    if integer and numbers.dtype.kind not in "iu":
        raise TypeError(f"{name} must be {wanted}, not {value!r}")
    limits = [
        ("at least", at_least, np.greater_equal),
        ("above", above, np.greater),
        ("at most", at_most, np.less_equal),
        ("below", below, np.less),
    ]
    bounds = [(words, bound, holds) for words, bound, holds in limits if bound is not None]
    if not all(np.all(holds(numbers, bound)) for _, bound, holds in bounds):
        wanted = " and ".join(f"{words} {bound:g}" for words, bound, _ in bounds)
        raise ValueError(f"{name} must be {wanted}, not {value}")


def check_optional(name: str, value: Any, **limits: Any) -> None:
    """`check_range` of a setting that may be left out, None."""
    if value is not None:
        check_range(name, value, **limits)


def check_number(name: str, value: Any, *, integer: bool = False, **limits: float) -> None:
    """`check_range` of a setting that must be one number; a bool or several raise TypeError too."""
    if isinstance(value, bool) or not (isinstance(value, Real) or getattr(value, "ndim", None) == 0):
        raise TypeError(f"{name} must be {'an integer' if integer else 'a number'}, not {value!r}")
    check_range(name, value, integer=integer, **limits)


def check_seed(seed: Any) -> None:
    """Raise ValueError or TypeError where a seed is none of those that JAX tells apart."""
    check_number("seed", seed, at_least=0, at_most=2**32 - 1, integer=True)


def check_sequence(name: str, value: Any) -> None:
    """Raise TypeError where something is not several: one number, or a word, which would be its letters."""
    if isinstance(value, str) or not np.iterable(value):
        raise TypeError(f"{name} must be a sequence such as ({value!r},), not {value!r}")


def check_channels(x: Array, channels: int) -> None:
    """Raise ValueError where the last axis of a batch is not as long as that of the parameters."""
    if x.shape[-1] != channels:
        raise ValueError(f"expected {channels} channels, got an input of shape {x.shape}")


def check_array(name: str, value: Any) -> None:
    """Raise TypeError where something is no array, such as the pair that a network's apply returns."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        way_out = "; a network's apply returns (outputs, state)" if type(value) is tuple else ""
        raise TypeError(f"{name} must be an array, not {type(value).__name__}{way_out}")


def check_mask(mask: Any, examples: int) -> None:
    """Raise ValueError where something is not a bool for each of so many examples."""
    if (np.shape(mask), getattr(mask, "dtype", None)) != ((examples,), bool):
        raise ValueError(
            f"a mask is an array of {examples} booleans, one for each example, got "
            f"{getattr(mask, 'dtype', type(mask).__name__)} of shape {np.shape(mask)}"
        )


def check_key(key: Any) -> None:
    """Raise TypeError where something, such as a seed, is no random key."""
    if not hasattr(key, "dtype") or (key.ndim == 0 and not jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key must be a random key such as jax.random.key(0), not {key!r}")


def is_integer(value: Any) -> bool:
    """Whether it is an integer of Python or NumPy, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def known_number(name: str, hyperparameter: Hyperparameter, **limits: Any) -> float | Array:
    """The hyperparameter itself, where no count is at hand at which a schedule could be evaluated.

    Raises:
        ValueError, TypeError: see `check_range`, which takes the limits; a schedule is refused too.
    """
    if callable(hyperparameter):
        raise TypeError(
            f"{name} must be a number or a scalar array here, not a schedule; "
            "pass the schedule's value at the current step, schedule(step)"
        )
    check_range(name, hyperparameter, **limits)
    return hyperparameter
