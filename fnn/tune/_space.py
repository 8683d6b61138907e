"""What a search may choose: a distribution for each hyperparameter, by its path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from fnn._types import check_number

_CHANGE = "; change the space"


@dataclass(frozen=True)
class Distribution:
    """A way from the unit interval to the values of one hyperparameter.

    All methods choose points of the unit cube, one axis for each hyperparameter, so that none has to know
    what a logarithm is.
    """

    kind: Literal["uniform", "log_uniform", "int_uniform", "choice"]
    at: Callable[[float], Any]
    """The value at a place of the unit interval. That of a number without end goes on beyond 0 and 1."""
    ends: tuple[Any, ...]
    """The smallest and the largest value, or all options."""
    options: int | None = None
    """How many values there are; None where they have no end."""
    condition: tuple[str, Any] | None = None
    """The path and the value of another hyperparameter that this one depends on."""

    @property
    def places(self) -> list[float]:
        """The middle of each option's part of the unit interval; none where there is no end of values."""
        return [(option + 0.5) / self.options for option in range(self.options)] if self.options else []


def uniform(low: float, high: float) -> Distribution:
    """Every number between two, with equal probability.

    Raises:
        ValueError: low is not below high.
        TypeError: an end that is no number.

    >>> uniform(0.0, 0.5).at(0.5)
    0.25
    """
    _check_ends(low, high)
    low, high = float(low), float(high)  # of NumPy or JAX they would be structure
    return Distribution("uniform", lambda u: low + u * (high - low), (low, high))


def log_uniform(low: float, high: float) -> Distribution:
    """Every number between two, with equal probability for each factor: for rates and strengths.

    Raises:
        ValueError: low is not above 0, or not below high.
        TypeError: an end that is no number.

    Source: Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 2012.

    >>> print(f"{log_uniform(1e-4, 1.0).at(0.5):g}")
    0.01
    """
    _check_ends(low, high)
    if not low > 0:
        raise ValueError(f"log_uniform needs low above 0, whose logarithm is wanted, not {low}")
    low, high = ends = float(low), float(high)

    def at(u: float) -> float:
        # The ends are exact, whatever the rounding of a power.
        return ends[int(u)] if u in (0, 1) else float(math.exp(math.log(low) + u * math.log(high / low)))

    return Distribution("log_uniform", at, ends)


def int_uniform(low: int, high: int) -> Distribution:
    """Every whole number from `low` to `high`, both included, with equal probability.

    Raises:
        ValueError: low is not below high.
        TypeError: an end that is no integer.

    >>> [int_uniform(1, 4).at(u) for u in (0.0, 0.3, 0.99)]
    [1, 2, 4]
    """
    _check_ends(low, high, integer=True)
    low, high = int(low), int(high)
    count = high - low + 1
    return Distribution(
        "int_uniform", lambda u: low + min(count - 1, max(0, int(u * count))), (low, high), count
    )


def choice(options: Sequence[Any]) -> Distribution:
    """One of several values, which may be anything that a config can hold, with equal probability.

    Args:
        options: in their order, so not a set. An option may also be a function.

    Raises:
        ValueError: there are none.
        TypeError: no list, or an option that cannot be told from others by its hash, such as an array.

    >>> choice(["adam", "nesterov"]).at(0.7)
    'nesterov'
    """
    if isinstance(options, str) or not isinstance(options, Sequence | np.ndarray):
        raise TypeError(f"choice needs a list of options, such as [1, 2], not {options!r}")
    options = tuple(options)
    if not options:
        raise ValueError("choice needs at least one option, not an empty list")
    for option in options:
        try:
            hash(identity(option))
        except TypeError as error:
            raise TypeError(
                f"an option of choice must be hashable, or a list or a dict of such, not {option!r}; of an "
                "array take array.tolist()"
            ) from error
    count = len(options)
    return Distribution("choice", lambda u: options[min(count - 1, max(0, int(u * count)))], options, count)


def only_if(path: str, equals: Any, then: Distribution) -> Distribution:
    """A hyperparameter that exists only where another one has a certain value.

    Args:
        path: of the other one, which is in the same space.
        equals: its value, one of its options.
        then: how this one is drawn where it exists.

    Raises:
        ValueError: the distribution has a condition already.
        TypeError: `then` is no distribution.
    """
    _check_distribution("then", then)
    if then.condition is not None:
        raise ValueError("only_if inside only_if: a hyperparameter depends on one other at most")
    return replace(then, condition=(path, equals))


@dataclass(frozen=True)
class Space:
    """The hyperparameters of a search: a unit cube with names on its axes.

    Raises:
        ValueError: an empty space, or a condition on what is not in it.
        TypeError: what is no distribution, or has no names.
    """

    distributions: Mapping[str, Distribution]
    allowed: Callable[[dict[str, Any]], bool] = field(default=lambda hyperparameters: False)
    """Whether values may be tried that lie beyond the ends of a distribution; none by default."""

    def __post_init__(self) -> None:
        """See the class."""
        if not isinstance(self.distributions, Mapping):
            raise TypeError(
                'a space must be a dict of distributions by name, such as {"x": uniform(0.0, 1.0)}, not '
                f"{self.distributions!r}"
            )
        if not self.distributions:
            raise ValueError("the space of a search has no hyperparameter; give it at least one")
        for path, distribution in self.distributions.items():
            _check_distribution(path, distribution)
            if distribution.condition is None:
                continue
            other, value = distribution.condition
            known = self.distributions.get(other)
            if known is None or known.condition is not None:
                raise ValueError(
                    f"{path} depends on {other}, which is not in the space or depends on another one itself; "
                    f"there is {', '.join(self.distributions)}"
                )
            if value not in [known.at(place) for place in known.places]:
                raise ValueError(f"{path} depends on {other} being {value!r}, which it never is")

    @property
    def axes(self) -> int:
        """How many hyperparameters there are."""
        return len(self.distributions)

    def check_ends(self, check: Callable[[dict[str, Any]], None]) -> None:
        """See that `check` raises nothing at both ends of all ranges, nor at any option of a choice.

        What depends on another hyperparameter is tried where its condition holds.

        Raises:
            ValueError: what it raised, and where.
        """
        names = list(self.distributions)
        corners = [[0.0] * self.axes, [1.0] * self.axes]
        for axis, distribution in enumerate(self.distributions.values()):
            places = [0.0, 1.0] if distribution.condition else []
            for place in distribution.places if distribution.kind == "choice" else places:
                corner = [0.0] * self.axes
                corner[axis] = place
                if distribution.condition:
                    other, value = distribution.condition
                    parent = self.distributions[other]
                    corner[names.index(other)] = next(u for u in parent.places if parent.at(u) == value)
                corners.append(corner)
        tried = {identity(hyperparameters): hyperparameters for hyperparameters in map(self.at, corners)}
        complaints = [_complaint(check, hyperparameters) for hyperparameters in tried.values()]
        same = len({*map(str, complaints)}) == 1  # whatever the values are, so others would not help
        for hyperparameters, complaint in zip(tried.values(), complaints, strict=True):
            if complaint is not None:
                with blamed_on_values(hyperparameters, "" if same else _CHANGE):
                    raise complaint

    def at(self, point: Sequence[float] | np.ndarray) -> dict[str, Any]:
        """The hyperparameters at a point of the unit cube, without those whose condition does not hold."""
        pairs = zip(self.distributions.items(), point, strict=True)
        values = {path: distribution.at(float(u)) for (path, distribution), u in pairs}
        return {path: value for path, value in values.items() if self._holds(path, values)}

    def _holds(self, path: str, values: dict[str, Any]) -> bool:
        condition = self.distributions[path].condition
        return condition is None or values[condition[0]] == condition[1]


def identity(value: Any) -> Any:
    """What tells values of hyperparameters apart, hashable: 1, 1.0 and True are three."""
    if isinstance(value, Mapping):
        return dict, tuple((name, identity(member)) for name, member in value.items())
    if isinstance(value, list | tuple):
        return list, tuple(map(identity, value))
    return type(value), value


def _complaint(check: Callable[[dict[str, Any]], None], hyperparameters: dict[str, Any]) -> ValueError | None:
    """What a check raises, if it does."""
    try:
        check(hyperparameters)
    except ValueError as error:
        return error
    return None


@contextmanager
def blamed_on_values(hyperparameters: Mapping[str, Any], way_out: str = _CHANGE) -> Iterator[None]:
    """Name the hyperparameters in a complaint about them, and what to do."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"where {all_in_words(hyperparameters)}: {error}{way_out}") from error


def all_in_words(hyperparameters: Mapping[str, Any]) -> str:
    """Hyperparameters with their paths."""
    return ", ".join(f"{path} = {in_words(value)}" for path, value in hyperparameters.items())


def in_words(value: Any) -> str:
    """A hyperparameter with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _check_distribution(name: str, value: Any) -> None:
    if not isinstance(value, Distribution):
        raise TypeError(
            f"{name} must be a distribution, such as uniform(0.0, 1.0) or choice([...]), not {value!r}"
        )


def _check_ends(low: float, high: float, *, integer: bool = False) -> None:
    for name, end in (("low", low), ("high", high)):
        check_number(name, end, integer=integer)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"low and high must be finite, not {low} and {high}")
    if not low < high:
        raise ValueError(f"low must be below high, not {low} and {high}")
