"""`fnn doctor` says what is wrong, and exits with 1 where results are."""

import io

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from fnn.run import _doctor


def run():
    screen = io.StringIO()
    code = _doctor.doctor(Console(file=screen, width=300))
    return code, screen.getvalue()


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    """What is fast on a test machine is not asked here."""
    monkeypatch.setattr(_doctor, "_scan_and_loop", lambda: (1e-3, 1e-3))
    monkeypatch.setattr(_doctor, "_long_and_short_scan", lambda: (1e-3, 1e-3))


def test_a_sound_installation_passes():
    code, text = run()
    assert code == 0
    assert text.count("PASS") == 5
    assert "FAIL" not in text


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_wrong_gradients_fail(monkeypatch, wrong):
    right = _doctor.ops.conv
    monkeypatch.setattr(_doctor.ops, "conv", lambda x, kernel: wrong * right(x, kernel))
    code, text = run()
    assert code == 1
    assert "FAIL gradients of a convolution inside scan" in text


def test_wrong_sums_fail(monkeypatch):
    right = jnp.sum
    monkeypatch.setattr(_doctor.jnp, "sum", lambda x: right(x) * 1.01)
    code, text = run()
    assert code == 1
    assert "FAIL sums of products under vmap" in text
    assert "install another" in text


def test_a_slow_scan_is_a_warning(monkeypatch):
    monkeypatch.setattr(_doctor, "_scan_and_loop", lambda: (4e-3, 1e-3))
    code, text = run()
    assert code == 0
    assert (
        "WARN steps in one scan against a loop of calls: 4.000 ms against 1.000 ms, a ratio of 4.00" in text
    )


def test_the_timed_programs_take_steps():
    state, metrics = _doctor._chunk(3)()
    assert int(state.step) == 3
    assert jnp.isfinite(metrics.loss).all()


def test_what_a_loop_of_calls_returns_is_still_there(monkeypatch):
    """Each call donates the state that the one before returned, which nobody may wait for any more."""
    monkeypatch.undo()
    deleted = []

    def once(run, repeats=5):
        deleted.extend(leaf.is_deleted() for leaf in jax.tree.leaves(run()))
        return 1.0

    monkeypatch.setattr(_doctor, "_seconds", once)
    _doctor._scan_and_loop()
    assert deleted
    assert not any(deleted)
