"""`fnn bench`: its table, its file, and that each workload does the work that it says."""

import io
import json
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

import fnn
from fnn.run import _bench, _workloads
from fnn.run._config import ConfigError

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
SMALL = {
    "mlp": _workloads.WORKLOADS["mlp"]._replace(
        units=2, prepare=partial(_workloads.training, _workloads.mlp_32, 2)
    )
}


def test_table_and_file(monkeypatch, tmp_path):
    monkeypatch.setattr(_bench, "WORKLOADS", SMALL)
    screen = io.StringIO()
    assert _bench.bench((), 3, tmp_path / "bench.json", Console(file=screen, width=200)) == 0
    written = json.loads((tmp_path / "bench.json").read_text())
    measured = written["workloads"]["mlp"]
    assert len(measured["all_ms"]) == written["rounds"] == 3
    assert measured["median_ms"] == pytest.approx(sorted(measured["all_ms"])[1])
    assert f"{measured['median_ms']:.3f} ms" in screen.getvalue()
    assert written["environment"]["packages"]["jax"] == jax.__version__


def test_bad_input(tmp_path):
    with pytest.raises(ConfigError, match="there is no workload 'cn'; there are cnn, "):
        _bench.bench(("cn",), 3, None, Console())
    with pytest.raises(ConfigError, match="there is no directory"):
        _bench.bench((), 3, tmp_path / "nowhere" / "bench.json", Console())


@pytest.mark.parametrize(
    "name",
    [".", "directory", "x" * 300, pytest.param("/proc/bench.json", marks=ON_LINUX)],
    ids=["here", "there", "long", "proc"],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    monkeypatch.setattr(_bench, "measure", lambda *_: pytest.fail("it measured"))
    with pytest.raises(ConfigError, match=rf"^cannot write {name}: .*; name another file$"):
        _bench.bench((), 3, Path(name), Console())


def test_a_file_that_cannot_be_written_any_more_is_said_to_be(monkeypatch, tmp_path):
    def measure(*_):
        (tmp_path / "bench.json").unlink()
        (tmp_path / "bench.json").mkdir()
        return {"median_ms": 1.0, "quartiles_ms": [1.0, 1.0], "first_s": 1.0}

    monkeypatch.setattr(_bench, "measure", measure)
    with pytest.raises(ConfigError, match=r"^cannot write .*bench\.json: Is a directory; name another file$"):
        _bench.bench(("mlp",), 3, tmp_path / "bench.json", Console())


def test_nothing_but_the_file_is_written(monkeypatch, tmp_path):
    """Where it leads if it is a link, which stays one."""
    found = {"median_ms": 1.0, "quartiles_ms": [1.0, 1.0], "first_s": 1.0}
    monkeypatch.setattr(_bench, "measure", lambda *_: found)
    (tmp_path / "bench.partial").write_text("mine")
    (tmp_path / "bench.json").symlink_to("results")
    assert _bench.bench(("mlp",), 3, tmp_path / "bench.json", Console(quiet=True)) == 0
    assert json.loads((tmp_path / "results").read_text())["workloads"] == {"mlp": found}
    assert (tmp_path / "bench.json").is_symlink()
    assert (tmp_path / "bench.partial").read_text() == "mine"


@pytest.mark.parametrize("devices", [None, pytest.param(2, marks=pytest.mark.devices)])
@pytest.mark.parametrize("how", ["vmap", "map"])
def test_a_population_learns_with_the_rate_of_each_member(monkeypatch, devices, how):
    """Each member is what its solo run is: nothing is left out of the work that is timed."""
    seen = []
    monkeypatch.setattr(_workloads, "BATCH", 8)
    original = jax.block_until_ready
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: seen.append(tree) or original(tree))
    mesh = None if devices is None else fnn.mesh(data=devices)
    _workloads.training_population(_workloads.mlp_32, 4, 3, how, mesh)()
    states, metrics = seen[-1]
    assert metrics.loss.shape == (4, 3)
    np.testing.assert_array_equal(states.step, [3] * 4)
    examples = _workloads.images(24)
    rows = np.arange(24, dtype=np.int32).reshape(3, 8)
    keys, rates = jax.random.split(jax.random.key(0), 4), np.geomspace(1e-4, 1e-2, 4)
    for k in (0, 3):
        start = fnn.init_state(_workloads.mlp_32, rates[k], keys[k], examples.x[:1])
        chunk = partial(fnn.train_chunk, _workloads.mlp_32, np.float32(rates[k]))
        _, alone = jax.jit(chunk)(start, examples, rows, np.ones(rows.shape, bool))
        np.testing.assert_allclose(metrics.loss[k], alone.loss, rtol=1e-4)


def test_epochs_of_digits_see_every_example(monkeypatch):
    seen = []
    original = jax.block_until_ready
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: seen.append(tree) or original(tree))
    run = _workloads.epochs_of_digits(3, None)
    run()
    run()
    (_, metrics), (second, _) = seen[-2:]
    assert metrics.examples.sum(1).tolist() == [1797] * 3
    assert int(second.step) == 2 * 3 * 29
