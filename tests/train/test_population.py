"""A population is its members, however it is computed and on however many devices."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.train import _population

X = np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype(np.float32)
Y = (np.arange(16) % 3).astype(np.int32)
ROWS = np.arange(16, dtype=np.int32).reshape(2, 8)
MASK = np.ones((2, 8), bool)


def make(rate):
    net = fnn.serial(fnn.conv(4, 3), fnn.batch_norm(), fnn.relu, fnn.flatten, fnn.linear(3))
    return net, fnn.softmax_cross_entropy, fnn.momentum(rate)


def member(member, *shared):
    return fnn.train_chunk(make, *member, *shared)


@pytest.mark.parametrize("groups", [1, *(pytest.param(n, marks=pytest.mark.devices) for n in (2, 4))])
@pytest.mark.parametrize("how", ["vmap", "map"])
def test_every_member_equals_its_solo_run(how, groups):
    with jax.enable_x64(True):
        x = X.astype(np.float64)
        rates, keys = np.array([0.01, 0.02, 0.05, 0.1]), jax.random.split(jax.random.key(0), 4)
        states = jax.vmap(lambda key: fnn.init_state(make, 0.1, key, x[:1]))(keys)
        shared = (fnn.Examples(x, Y), ROWS, MASK)
        with nullcontext() if groups == 1 else jax.set_mesh(fnn.mesh(population=groups, data=1)):
            run = jax.jit(fnn.over_population(member, how=how))
            after, metrics = run((jnp.asarray(rates), states), *shared)
        assert len(after.params["linear_1"]["kernel"].sharding.device_set) == groups
        solo = jax.jit(member)
        for k in range(4):
            alone, measured = solo(
                (jnp.asarray(rates[k]), jax.tree.map(lambda leaf, k=k: leaf[k], states)), *shared
            )
            np.testing.assert_allclose(metrics.loss[k], measured.loss, rtol=1e-9)
            jax.tree.map(
                partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12),
                jax.tree.map(lambda leaf, k=k: leaf[k], after.params),
                alone.params,
            )


@pytest.mark.devices
def test_an_axis_of_one_device_leaves_no_sharding_to_xla():
    member = lambda factor, x: jnp.tanh(jnp.sin(factor) * x) + factor @ factor  # noqa: E731
    with jax.set_mesh(fnn.mesh(population=2, data=1)):
        run = jax.jit(fnn.over_population(member, how="vmap"))
        program = run.lower(jnp.ones((4, 3)), jnp.ones(3)).as_text()
    assert "manual_computation" in program
    assert "sharding_constraint" not in program


@pytest.mark.devices
def test_bad_input():
    with pytest.raises(ValueError, match='how must be "vmap" or "map", not \'both\''):
        fnn.over_population(member, how="both")
    with (
        jax.set_mesh(fnn.mesh(population=2, data=1)),
        pytest.raises(ValueError, match="2 groups of devices cannot share 3 members equally"),
    ):
        fnn.over_population(lambda x: x, how="map")(jnp.arange(3))
    for members, shapes in (
        ({}, "{}"),
        ({"a": jnp.ones(3), "b": 1.0}, r"{'a': \(3,\), 'b': \(\)}"),
        ({"a": jnp.ones((0, 2))}, r"{'a': \(0, 2\)}"),
        ({"a": jnp.ones(3), "b": jnp.ones((2, 5))}, r"{'a': \(3,\), 'b': \(2, 5\)}"),
    ):
        with pytest.raises(ValueError, match=f"as their first axis; these have the shapes {shapes}"):
            fnn.over_population(lambda x: x, how="vmap")(members)
    with pytest.raises(ValueError, match="repeats must be at least 1, not 0"):
        fnn.fastest(lambda x: x, jnp.arange(3.0), repeats=0)


class Clock:
    """A clock of our own: each call of a way through a population costs 1, one of the slow way 10."""

    def __init__(self, monkeypatch, slow):
        self.now, self.slow = 0.0, slow
        right = fnn.over_population

        def over_population(function, *, how):
            run = right(function, how=how)

            def called(*arguments):
                self.now += 10 if how == self.slow else 1
                return run(*arguments)

            return called

        monkeypatch.setattr(_population, "over_population", over_population)
        monkeypatch.setattr(_population.time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize("slow", ["vmap", "map"])
def test_the_fastest_way_is_measured(monkeypatch, slow):
    Clock(monkeypatch, slow)
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", None)
    monkeypatch.setattr(_population.jax, "jit", lambda function: function)
    chosen = fnn.fastest(lambda factor, x: factor * x.sum(), jnp.arange(3.0), jnp.ones(2))
    assert {chosen, slow} == {"vmap", "map"}


@pytest.mark.parametrize("first", ["vmap", "map"])
def test_the_answer_is_kept_where_compiled_programs_are(monkeypatch, tmp_path, first):
    """Another function, and another number of members, are other questions."""
    clock = Clock(monkeypatch, slow="map" if first == "vmap" else "vmap")
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", str(tmp_path))
    right = jax.jit
    monkeypatch.setattr(  # the clock sees calls alone, so the ways themselves are not compiled
        _population.jax,
        "jit",
        lambda function: function if function.__name__ == "called" else right(function),
    )

    def ask(members, power):
        return fnn.fastest(lambda factor, x: factor * (x**power).sum(), jnp.arange(members), jnp.ones(2))

    assert ask(3, 2) == first
    clock.slow = first
    assert ask(3, 2) == first
    assert {ask(4, 2), first} == {"vmap", "map"}
    assert {ask(3, 3), first} == {"vmap", "map"}
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 3


@pytest.mark.parametrize("directory", ["gs://bucket/cache", "/proc/nowhere"])
def test_a_cache_that_cannot_keep_an_answer_stops_nothing(monkeypatch, directory):
    """A bucket is shared, and what is fast on one machine may be slow on another."""
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", directory)
    assert fnn.fastest(lambda factor: factor + 1, jnp.arange(3.0)) in ("vmap", "map")
