"""The compile cache: where it lies, who may use it, and that a second process reads it."""

import os
import subprocess
import sys

import jax
import pytest

from fnn.run._cache import use_compile_cache


@pytest.fixture(autouse=True)
def settings_restored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("FNN_COMPILE_CACHE", raising=False)
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_it_is_the_users_own_and_of_this_jaxlib(tmp_path):
    directory = use_compile_cache()
    assert directory == tmp_path / "fnn" / f"jaxlib-{jax.lib.__version__}"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert jax.config.jax_compilation_cache_dir == str(directory)


def test_the_environment_decides(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    assert use_compile_cache() == tmp_path / "mine"
    monkeypatch.setenv("FNN_COMPILE_CACHE", "0")
    assert use_compile_cache() is None
    assert not (tmp_path / "fnn").exists()


def test_a_cache_that_cannot_be_made_is_none(tmp_path):
    (tmp_path / "fnn").write_text("a file")
    assert use_compile_cache() is None


def test_a_user_without_a_home_has_none(monkeypatch):
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert use_compile_cache() is None


def test_a_cache_of_somebody_else_is_not_used(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert use_compile_cache() is None


def test_a_second_process_reads_what_the_first_compiled(tmp_path):
    code = (
        "import jax; from fnn.run._cache import use_compile_cache; use_compile_cache();"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0);"
        "hits = []; jax.monitoring.register_event_listener(lambda name, **_: hits.append(name));"
        "jax.jit(lambda x: x @ x + 1)(jax.numpy.ones((5, 5)));"
        "print(sum(name == '/jax/compilation_cache/cache_hits' for name in hits))"
    )
    hits = [
        int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(2)
    ]
    assert hits[0] == 0
    assert hits[1] > 0
