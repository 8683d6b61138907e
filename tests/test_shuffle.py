"""Random orders: complete, each as likely as any other, and different from key to key."""

from __future__ import annotations

from itertools import permutations

import jax
import numpy as np
import pytest
from scipy import stats

from fnn._shuffle import permutation


@pytest.mark.parametrize("n", [1, 2, 3, 64, 1797, 55_000, 65_536, 65_537])
def test_every_number_comes_once(n: int) -> None:
    order = np.asarray(permutation(jax.random.key(n), n))
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_all_orders_are_equally_likely() -> None:
    orders = jax.vmap(lambda key: permutation(key, 4))(jax.random.split(jax.random.key(0), 24_000))
    kinds = {order: i for i, order in enumerate(permutations(range(4)))}
    counts = np.bincount([kinds[tuple(order)] for order in np.asarray(orders).tolist()], minlength=24)
    assert stats.chisquare(counts).pvalue > 0.001


def test_where_random_bits_are_equal_no_number_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all of them equal, every number still comes first equally often."""
    bits = jax.random.bits

    def only_the_last(key: jax.Array, shape: tuple[int, ...], dtype: type) -> jax.Array:
        return bits(key, shape, dtype).at[:-1].set(0)

    monkeypatch.setattr(jax.random, "bits", only_the_last)
    orders = jax.vmap(lambda key: permutation(key, 8))(jax.random.split(jax.random.key(1), 8_000))
    assert stats.chisquare(np.bincount(np.asarray(orders)[:, 0], minlength=8)).pvalue > 0.001


def test_the_largest_sets_keep_no_trace_of_their_order() -> None:
    """At 55,000 numbers 16 random bits remain, and more than half of the numbers share theirs with another."""
    order = np.asarray(permutation(jax.random.key(2), 55_000))
    place = np.argsort(order)
    assert abs(stats.spearmanr(place[:-1], place[1:]).statistic) < 4 / np.sqrt(55_000)
    before = (place[0::2] < place[1::2]).mean()
    assert abs(before - 0.5) < 4 * 0.5 / np.sqrt(27_500)


def test_keys_decide() -> None:
    one, same, other = (np.asarray(permutation(jax.random.key(seed), 100)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).sum() > 80
