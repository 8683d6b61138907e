"""What a data set is, and the checks that every loader ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class DataError(ValueError):
    """A data set that is missing, damaged or not what was expected; its message is one sentence."""


class Examples(NamedTuple):
    """Inputs with their labels or targets, in NumPy arrays on the host.

    Attributes:
        x: Inputs, (N, ...): images are (N, height, width, channels) uint8, 0 to 255, other inputs float32.
        y: Class labels, (N,) int32, or float32 targets of a regression, (N, ...) as the network's outputs:
            (N, 1) for one output.
    """

    x: np.ndarray
    y: np.ndarray


def has_classes(targets: Any) -> bool:
    """Whether targets are class numbers."""
    return targets.ndim == 1 and jnp.issubdtype(targets.dtype, jnp.integer)


class Dataset(NamedTuple):
    """A training part and a test part.

    Attributes:
        train: What may be learned from.
        test: What is looked at once, at the end.
        classes: The name of each label; empty for a regression.
        name: What reports call it.
    """

    train: Examples
    test: Examples
    classes: tuple[str, ...]
    name: str


def checked(train: Examples, test: Examples, classes: tuple[str, ...], name: str) -> Dataset:
    """The Dataset of two parts, after the checks that all data sets share.

    Raises:
        DataError: What `check_examples` finds in a part, or the two parts differ in the shape or dtype of an
            example.
    """
    for part, examples in (("training", train), ("test", test)):
        check_examples(examples, classes, f"the {part} part of {name}")
    check_alike({f"the training part of {name}": train, f"the test part of {name}": test})
    return Dataset(train, test, classes, name)


def check_alike(parts: dict[str, Examples]) -> None:
    """Raise DataError where an example of one part has another shape or dtype than one of another part."""
    for field in Examples._fields:
        arrays = {where: getattr(examples, field) for where, examples in parts.items()}
        kinds = [f"{array.dtype} of shape {array.shape[1:]} in {where}" for where, array in arrays.items()]
        if len({(array.shape[1:], array.dtype) for array in arrays.values()}) > 1:
            raise DataError(
                f"one example's {field} is {' and '.join(kinds)}; both must have the same shape and dtype"
            )


def check_examples(examples: Examples, classes: tuple[str, ...], where: str) -> None:
    """Raise DataError where inputs, labels or the names of classes are not what a network can learn."""
    if not isinstance(examples, Examples):
        raise DataError(f"{where} must be fnn.Examples(x, y), not {type(examples).__name__}")
    _check_classes(classes, where)
    check_arrays(examples, where)
    if np.issubdtype(examples.y.dtype, np.integer):
        _check_labels(examples.y, classes, where)


def check_arrays(examples: Examples, where: str) -> None:
    """Raise DataError where inputs and targets are no sound arrays of equal length."""
    x, y = examples
    _check_kind(x, f"x of {where}", "uint8 (images, 0 to 255) or floats", jnp.uint8, jnp.floating)
    _check_kind(
        y,
        f"y of {where}",
        "integers (labels from 0) or floats (targets)",
        jnp.integer,
        jnp.bool_,
        jnp.floating,
    )
    if x.ndim < 2:
        raise DataError(
            f"x in {where} has shape {x.shape}; expected (examples, features) or "
            "(examples, height, width, channels)"
        )
    if y.ndim < 1 or len(x) != len(y):
        raise DataError(
            f"{where} has {len(x)} examples in x but y has shape {y.shape}; x and y must be equally long"
        )
    if x.size == 0:
        raise DataError(f"{where} is empty: its x has shape {x.shape}; expected at least one example")
    for field, array in zip(Examples._fields, examples, strict=True):
        _check_finite(array, f"{field} of {where}")


def _check_classes(classes: tuple[str, ...], where: str) -> None:
    if not isinstance(classes, Sequence):
        raise DataError(
            f"the classes of {where} are of type {type(classes).__name__}; expected a tuple of names, "
            "tuple(map(str, classes)), and () for a regression"
        )
    for name in classes:
        try:
            str(name).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the class {name!r} of {where} is not text of UTF-8; rename it, or its folder"
            ) from error


def _check_kind(array: np.ndarray, where: str, wanted: str, *kinds: Any) -> None:
    if not isinstance(array, (np.ndarray, jax.Array)):
        raise DataError(f"{where} is of type {type(array).__name__}; expected an array of NumPy or JAX")
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise DataError(f"{where} is {array.dtype}; expected {wanted}: convert it with astype")
    if not array.dtype.isnative or array.dtype.itemsize > 8:
        fits = "float32" if jnp.issubdtype(array.dtype, jnp.floating) else "int32"
        raise DataError(
            f"{where} is {array.dtype}, which JAX does not know; expected numbers of at most 64 bits in this "
            f"machine's byte order: convert it with astype(np.{fits})"
        )


def _check_finite(array: np.ndarray, where: str) -> None:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return
    array = np.asarray(array)  # what is done to one of JAX inside of jit would be traced
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32, copy=False))
    if not finite.all():
        first = np.unravel_index(int(np.argmin(finite)), array.shape)
        raise DataError(
            f"{where} holds {array[first]} at example {first[0]}; every number must be finite in float32: "
            "drop such examples, fill in their values or rescale them"
        )


def _check_labels(y: np.ndarray, classes: tuple[str, ...], where: str) -> None:
    if y.ndim != 1:
        raise DataError(
            f"the labels in {where} have shape {y.shape}; expected one integer for each example, or floats, "
            "y.astype(np.float32), where an example has several labels"
        )
    if not classes:
        raise DataError(
            f"{where} has integer labels but no classes; name the classes, or make the targets floats if it "
            "is a regression"
        )
    check_labels_exist(y, len(classes), where)


def check_labels_exist(y: np.ndarray, classes: int, where: str) -> None:
    """Raise DataError where a label is none of so many classes."""
    y = np.asarray(y)
    outside = (y < 0) | (y >= classes)
    if outside.any():
        first = int(np.argmax(outside))
        raise DataError(
            f"label {y[first]} at example {first} in {where} lies outside the {classes} classes; "
            f"labels run from 0 to {classes - 1}"
        )
