"""Checking gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn._tree import paths
from fnn._types import Array, check_range


class GradientCheck(NamedTuple):
    """How far a gradient is from centred differences; printed, a table."""

    errors: dict[str, float]
    """For each array, by its path, the largest relative error |a - n| / max(|a|, |n|) of its elements."""

    @property
    def largest(self) -> float:
        """The largest error of all; NaN where one is."""
        return float(np.max(list(self.errors.values())))

    @property
    def verdict(self) -> str:
        """What the largest error means, by the thresholds of the course CS231n.

        "good" up to 1e-7, "fine if the function has kinks" up to 1e-4, "suspicious" up to 1e-2 and "wrong"
        beyond. ReLU, max pooling and the hinge have kinks; tanh and softmax have none.
        """
        limits = {"good": 1e-7, "fine if the function has kinks": 1e-4, "suspicious": 1e-2}
        return next((words for words, limit in limits.items() if self.largest <= limit), "wrong")

    def __str__(self) -> str:
        """A line for each array, and the verdict."""
        rows = [*self.errors.items(), ("largest", self.largest)]
        width = max(len(path) for path, _ in rows)
        lines = [f"{path:<{width}}  {error:.1e}" for path, error in rows]
        return "\n".join([f"{'':<{width}}  relative error", *lines]) + f"  {self.verdict}"


def check_gradients(
    function: Callable[..., Array],
    /,
    *arguments: Any,
    step: float = 1e-5,
    samples: int = 50,
    seed: int = 0,
) -> GradientCheck:
    """Compare reverse-mode gradients with centred differences, in float64.

        n_i = (f(x + h e_i) - f(x - h e_i)) / 2h,    error_i = |a_i - n_i| / max(|a_i|, |n_i|),    0 / 0 = 0

    Args:
        function: gives a scalar, and must compute in float64 where its arguments are float64.
        arguments: pytrees. Floating-point arrays are cast to float64 and differentiated; integers, keys and
            the like are passed as they are.
        step: h, in the unit of the arguments; above 0.
        samples: how many elements of each array are compared, drawn at random where there are more.
        seed: decides which.

    Returns:
        The error of each array under its path, which begins with the place of the argument:
        `check_gradients(loss, params, x)` has `0/conv_1/kernel` and `1`.

    Raises:
        ValueError: if the function's value is not a float64 scalar, no argument has floating-point arrays,
            a number is out of its range, or the step is lost beside a value, x + h = x - h in float64.

    A difference |a - n| within what rounding may do to n, 10 ε |f| / h, counts as 0, and most of those of a
    right gradient do. So does a bias before batch norm, whose gradient is 0 but for noise. A step over a kink
    shows as an error that is no mistake; few examples make it rare. Random numbers have to be held fixed,
    such as by a key.

    Source: Stanford's course CS231n, "Neural Networks Part 3: Learning and Evaluation".

    Example:
        >>> import jax.numpy as jnp
        >>> from fnn.optim import check_gradients
        >>> params = {"kernel": jnp.array([[0.5, -1.0], [0.2, 0.3]]), "bias": jnp.array([0.1, 0.0])}
        >>> def function(params, x):
        ...     return jnp.sum(jnp.tanh(x @ params["kernel"] + params["bias"]) ** 2)
        >>> check = check_gradients(function, params, jnp.array([1.0, 2.0]))
        >>> list(check.errors), check.verdict
        (['0/bias', '0/kernel', '1'], 'good')
    """
    check_range("step", step, above=0)
    check_range("samples", samples, at_least=1, integer=True)
    leaves, structure = jax.tree.flatten(arguments)
    named = dict(zip((path for path, _ in paths(arguments)), leaves, strict=True))
    point = {
        path: np.array(leaf, np.float64)
        for path, leaf in named.items()
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    }
    if not point:
        raise ValueError("check_gradients needs at least one argument with a floating-point array")

    @jax.jit
    def value(point: dict[str, Array]) -> Array:
        return function(*jax.tree.unflatten(structure, {**named, **point}.values()))

    random = np.random.default_rng(seed)
    errors = {}
    with jax.enable_x64(True):
        at_point = jax.eval_shape(value, point)
        if at_point.shape != () or at_point.dtype != jnp.float64:
            raise ValueError(
                "the function's value must be a float64 scalar where its arguments are float64, "
                f"not {at_point.dtype} of shape {at_point.shape}"
            )
        analytic = jax.jit(jax.grad(value))(point)
        for path, x in point.items():
            gradient = np.asarray(analytic[path]).ravel()
            places = random.permutation(x.size)[:samples]
            found = [_error(value, point, path, place, gradient[place], step) for place in places]
            errors[path] = float(np.max(found, initial=0))
    return GradientCheck(errors)


def _error(
    value: Callable[[Any], Array], point: dict[str, np.ndarray], path: str, place: int, a: float, step: float
) -> float:
    """The relative error of one element of the gradient."""

    def moved(by: float) -> tuple[float, float]:
        x = point[path].copy()
        x.flat[place] += by
        return x.flat[place], float(value({**point, path: x}))

    (right, above), (left, below) = moved(step), moved(-step)
    if right == left:
        raise ValueError(
            f"the step {step:g} is lost beside the value {right:g} of {path}; make the step larger"
        )
    n = (above - below) / (right - left)
    noise = 10 * np.finfo(np.float64).eps * max(abs(above), abs(below)) / step
    return 0.0 if abs(a - n) <= noise else float(abs(a - n) / max(abs(a), abs(n)))
