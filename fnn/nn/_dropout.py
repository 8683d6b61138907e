"""The dropout layer."""

from __future__ import annotations

from typing import Any

from fnn import ops
from fnn._types import Array, Hyperparameter, Key, Params, State, check_range, known_number
from fnn.nn._layer import Layer, check_train


def dropout(rate: Hyperparameter = 0.5, *, name: str | None = None) -> Layer:
    """Drop each unit with probability `rate` in training, and scale the others by 1 / (1 − rate).

    At test time it is the identity: this is inverted dropout. `rate` is the fraction dropped; the notes'
    p is the fraction kept, p = 1 − rate.

    Args:
        rate: 0 ≤ rate < 1; a traced scalar is as good as a number.
        name: in place of dropout_1, dropout_2, …

    Raises:
        ValueError: training without a key.

    Source: Srivastava et al. (2014), "Dropout".
    """
    check_range("dropout rate", known_number("dropout rate", rate), at_least=0, below=1)

    def init(key: Key, x: Any) -> tuple[Params, State]:
        return {}, {}

    def apply(
        params: Params,
        state: State,
        x: Array,
        *,
        train: bool = False,
        key: Key | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, State]:
        check_train(train)
        if not train:
            return x, state
        if key is None:
            raise ValueError(
                "dropout draws at random, so training needs a key: net.apply(…, train=True, key=key)"
            )
        return ops.dropout(key, x, rate), state

    return Layer("dropout", init, apply, name)
