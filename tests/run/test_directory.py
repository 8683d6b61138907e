"""Run directories: their names, what says how a run was made, and checkpoints."""

import json
import os
import signal
import sys
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_cases import SMALL, changed

import fnn
from fnn.run._config import ConfigError, check
from fnn.run._directory import (
    choose,
    create,
    environment,
    load_checkpoint,
    opened,
    read_json,
    save_checkpoints,
    write_json,
)
from fnn.run._signals import signals


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(directory=None, name="mine"):
    raw = tomllib.loads(SMALL) if directory is None else changed("run.directory", str(directory))
    return check(raw, name=name)


# --- names ----------------------------------------------------------------------------------------------


def test_runs_are_numbered():
    for number in ("1", "2", "3"):
        directory = choose(config())
        assert directory.as_posix() == f"runs/mine/{number}"
        create(directory, {})
    assert choose(config(name="other")).as_posix() == "runs/other/1"


def test_numbers_are_not_used_again_and_other_names_do_not_count(here):
    for name in ("2", "10", "best", "3b"):
        (here / "runs" / "mine" / name).mkdir(parents=True)
    assert choose(config()).as_posix() == "runs/mine/11"


def test_choosing_makes_nothing(here):
    choose(config())
    choose(config("elsewhere"))
    assert list(here.iterdir()) == []


def test_a_directory_of_one_s_own(here):
    directory = choose(config("a/b"))
    create(directory, {})
    assert (here / "a" / "b" / "checkpoints").is_dir()


def test_the_home_folder_is_meant(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert choose(config("~/mine")) == here / "mine"


def test_the_home_of_nobody(here):
    (here / "mine.toml").write_text(SMALL)
    message = r"^run\.directory: there is no home directory for ~nobody-here/mine; name another one$"
    with pytest.raises(ConfigError, match=message):
        choose(config("~nobody-here/mine"))
    with pytest.raises(ConfigError, match=message):
        opened("mine.toml", ('run.directory="~nobody-here/mine"',), "run", "metrics.jsonl")


@pytest.mark.parametrize(("name", "directory"), [("bad\udcff", None), ("mine", None), ("mine", "mine")])
def test_a_path_that_checkpoints_cannot_have(name, directory, here, monkeypatch):
    if name == "mine":
        (here / "bad\udcff").mkdir()
        monkeypatch.chdir(here / "bad\udcff")
    message = r"^run\.directory: /.*bad\udcff/.* is not UTF-8, .*; name another one$"
    with pytest.raises(ConfigError, match=message):
        choose(config(directory, name))


def test_a_directory_that_exists_is_left_alone(here):
    (here / "a").mkdir()
    (here / "a" / "precious").write_text("x")
    with pytest.raises(ConfigError, match=r"^run\.directory: a exists; name another one, or remove it$"):
        choose(config("a"))
    assert [path.name for path in (here / "a").iterdir()] == ["precious"]


def test_a_file_in_its_place(here):
    (here / "a").write_text("x")
    with pytest.raises(ConfigError, match=r"^run\.directory: a exists"):
        choose(config("a"))
    assert (here / "a").read_text() == "x"


IMPOSSIBLE = {
    "below a file": ("a/b", "Not a directory"),
    "below /proc": ("/proc/x/y", "No such file or directory"),
    "a long name": ("x" * 300, "File name too long"),
    "a zero byte": ("a\0b", "embedded null"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_be_made(case, here):
    (here / "a").write_text("x")
    directory, reason = IMPOSSIBLE[case]
    with pytest.raises(
        ConfigError, match=rf"^run\.directory: cannot make the directory .*{reason}"
    ) as caught:
        create(choose(config(directory)), {})
    assert "\n" not in str(caught.value)
    assert os.listdir(here) == ["a"]


def test_a_directory_whose_first_files_cannot_be_written_is_gone_again(here):
    create(here / "a", {"config.toml": "seed = 1", "metrics.jsonl": ""})
    assert (here / "a" / "config.toml").read_text() == "seed = 1"
    with pytest.raises(FileNotFoundError):
        create(here / "b", {"config.toml": "seed = 1", "nowhere/metrics.jsonl": ""})
    assert os.listdir(here) == ["a"]


def test_a_run_that_was_made_in_the_meantime_is_left_alone():
    first, second = choose(config()), choose(config())
    create(first, {})
    with pytest.raises(ConfigError, match=r"cannot make the directory runs/mine/1: File exists"):
        create(second, {})


# --- files ----------------------------------------------------------------------------------------------


def test_the_environment_of_a_run(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fnn", "train", "a.toml", "seed=3"])
    jax.devices()  # XLA reads its flags once, and knows none of this name
    monkeypatch.setenv("XLA_FLAGS", "--xla_some=1")
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["fnn"] == fnn.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["jax"] == jax.__version__
    assert found["packages"]["numpy"] == np.__version__
    assert set(found["packages"]) >= {"jaxlib", "chex", "orbax-checkpoint", "pydantic"}
    assert len(found["devices"]) == len(jax.devices())
    assert found["devices"][0].startswith(jax.devices()[0].platform)
    assert found["xla_flags"] == "--xla_some=1"
    assert found["xla_defaults"] == fnn.xla_defaults
    assert found["command"] == "fnn train a.toml seed=3"
    assert found["cores"] == os.cpu_count()
    assert found["git"] is None, "this folder is not a repository"


def test_json_is_written_whole_or_not_at_all(here):
    path = here / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(here) == ["results.json"]


@pytest.mark.parametrize("damaged", [b"", b'{"a"', b"\xff", b"[]"])
def test_json_that_is_damaged_is_named_and_what_to_do(damaged, here):
    path = here / "environment.json"
    path.write_bytes(damaged)
    with pytest.raises(
        ConfigError, match=r"environment\.json: this is not .*; the file is damaged: remove it$"
    ):
        read_json(path, {})
    path.unlink()
    assert read_json(path, {"a": 1}) == {"a": 1}


# --- checkpoints ----------------------------------------------------------------------------------------


def make(hyperparameters, features=16):
    net = fnn.serial(fnn.linear(features), fnn.batch_norm(), fnn.linear(3))
    return net, fnn.softmax_cross_entropy, fnn.adam(hyperparameters)


def state(make, seed=0, step=0):
    x = jax.ShapeDtypeStruct((1, 64), jnp.float32)  # wide enough for a file of its own
    moments = fnn.Moments(jnp.arange(64.0), jnp.ones(64))
    return fnn.init_state(make, 0.1, jax.random.key(seed), x, moments)._replace(step=jnp.asarray(step))


@pytest.fixture
def saved(here):
    directory = here / "run"
    create(directory, {})
    best, last = state(make, seed=1, step=7), state(make, seed=2, step=9)
    save_checkpoints(directory, fnn.Fit(best, last, 1, ()))
    return directory, {"best": best, "last": last}


def leaves(state):
    return jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))


def test_both_states_are_restored_equal(saved):
    directory, states = saved
    for name, expected in states.items():
        restored = load_checkpoint(directory, name, jax.eval_shape(lambda: state(make)))
        assert jax.tree.structure(restored) == jax.tree.structure(expected)
        assert jax.dtypes.issubdtype(restored.key.dtype, jax.dtypes.prng_key)
        for a, b in zip(leaves(restored), leaves(expected), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_a_checkpoint_is_replaced_by_a_later_one(saved):
    directory, states = saved
    save_checkpoints(directory, fnn.Fit(states["last"], states["last"], 2, ()))
    assert int(load_checkpoint(directory, "best", jax.eval_shape(lambda: state(make))).step) == 9


def test_a_checkpoint_that_is_missing(saved):
    directory, _ = saved
    (directory / "checkpoints" / "best").rename(directory / "elsewhere")
    with pytest.raises(
        ConfigError, match=r"^.*run has no checkpoint 'best': its run ended before it saved one; "
    ):
        load_checkpoint(directory, "best", jax.eval_shape(lambda: state(make)))


def largest(folder):
    """The file that holds the arrays."""
    return max((folder / "ocdbt.process_0" / "d").iterdir(), key=lambda path: path.stat().st_size)


DAMAGE = {
    "data cut": lambda folder: largest(folder).write_bytes(largest(folder).read_bytes()[:100]),
    "data gone": lambda folder: largest(folder).unlink(),
    "structure cut": lambda folder: (folder / "_METADATA").write_text('{"tree'),
    "structure gone": lambda folder: (folder / "_METADATA").unlink(),
    "index gone": lambda folder: (folder / "manifest.ocdbt").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_that_is_damaged_is_one_sentence(saved, damage):
    directory, _ = saved
    path = directory / "checkpoints" / "best"
    DAMAGE[damage](path)
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(directory, "best", jax.eval_shape(lambda: state(make)))
    assert str(caught.value).startswith(f"the checkpoint {path} cannot be read: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_checkpoint_of_another_network_is_one_sentence(saved):
    directory, _ = saved
    other = jax.eval_shape(lambda: state(lambda h: make(h, features=17)))
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(directory, "best", other)
    assert str(caught.value) == (
        f"the checkpoint {directory / 'checkpoints' / 'best'} is of another network: its "
        "params/batch_norm_1/bias is (16,), that of the config (17,); change "
        f"{directory / 'config.toml'} back"
    )


# --- signals --------------------------------------------------------------------------------------------


def test_the_first_signal_is_noted_and_the_second_obeyed(request):
    # A shell's background job starts with this signal ignored.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, previous))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with signals() as received:
        assert received == []
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with signals() as received:
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
