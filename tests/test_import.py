"""What importing fnn loads, which names it has, and what it changes in XLA's settings."""

import json
import os
import subprocess
import sys
from collections import Counter
from importlib import import_module
from types import SimpleNamespace

import pytest

import fnn
from fnn import _xla

ROOMS = ("nn", "optim", "data", "train", "tune")
RUN_EXTRAS = ("pydantic", "tomli_w", "typer", "rich", "matplotlib", "orbax", "pooch", "PIL")


def loaded_after(code):
    """The names of all modules that a fresh interpreter has loaded after some code."""
    code += "\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


HELP = """
import sys
from fnn.run.cli import main
sys.argv = ["fnn", "--help"]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
"""


@pytest.mark.parametrize(
    ("code", "loads", "leaves"),
    [
        ("import fnn", ["fnn._xla"], ["jax", "jaxlib", "numpy", *RUN_EXTRAS]),
        ("import fnn; fnn.adam", ["jax", "fnn.optim"], RUN_EXTRAS),
        ("import fnn; fnn.fit; dir(fnn)", ["jax", "fnn.train"], RUN_EXTRAS),
        (HELP, ["typer"], ["jax", "jaxlib", "numpy", "orbax", "pydantic", "matplotlib"]),
    ],
    ids=["import", "a name", "every name", "help"],
)
def test_what_is_loaded(code, loads, leaves):
    loaded = loaded_after(code)
    assert set(loads) <= loaded
    assert not loaded & set(leaves)


def test_a_run_cannot_be_read_back_without_the_extra():
    code = "import sys; sys.modules['tomli_w'] = None; import fnn; fnn.run.load('runs/digits_cnn/1')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = "ModuleNotFoundError: fnn.run.load needs the package tomli_w: pip install 'fnn[run]'"
    assert ran.stderr.splitlines()[-1] == said


def test_every_name_resolves():
    names = dir(fnn)
    assert {"adam", "conv", "fit", "digits", *ROOMS, "ops", "run", "__version__"} <= set(names)
    missing = [name for name in names if getattr(fnn, name, None) is None]
    assert not missing


@pytest.mark.parametrize("room", ROOMS)
def test_a_rooms_names_are_those_of_fnn(room):
    module = import_module(f"fnn.{room}")
    assert list(module.__all__) == sorted(set(module.__all__))
    assert [name for name in module.__all__ if getattr(fnn, name) is not getattr(module, name)] == []


def test_every_name_is_unique_across_the_rooms():
    count = Counter(name for room in ROOMS for name in import_module(f"fnn.{room}").__all__)
    assert [name for name, times in count.items() if times > 1] == []
    assert not set(count) & {*ROOMS, "ops", "run"}


@pytest.mark.parametrize("name", ["adamm", "_tree_", "os_"])
def test_an_unknown_name(name):
    with pytest.raises(AttributeError, match=f"module 'fnn' has no attribute '{name}'"):
        getattr(fnn, name)


# --- XLA ------------------------------------------------------------------------------------------------

FLAG = "--xla_cpu_experimental_ynn_fusion_type="
OFF = "YNNPACK fusion switched off"


@pytest.fixture
def surroundings(monkeypatch):
    """Set the version of jaxlib, the environment and whether JAX has started; nothing leaks."""

    def set_up(version, started=False, **environ):
        monkeypatch.setattr(_xla, "version", lambda package: {"jaxlib": version}[package])
        for name in ("XLA_FLAGS", "FNN_XLA_DEFAULTS"):
            monkeypatch.setenv(name, "")  # so that what is set later is undone
            monkeypatch.delenv(name)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        bridge = None if started is None else SimpleNamespace(backends_are_initialized=lambda: started)
        monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", bridge)

    return set_up


@pytest.mark.parametrize(
    ("version", "environ", "said", "flags"),
    [
        ("0.10.1", {}, "does not need any", None),
        ("0.10.1", {"XLA_FLAGS": "--a=1"}, "does not need any", "--a=1"),
        ("0.11.0", {}, OFF, FLAG),
        ("0.11.0.dev20260101", {}, OFF, FLAG),
        ("0.12.3", {"XLA_FLAGS": "--a=1"}, OFF, f"--a=1 {FLAG}"),
        ("1.0", {}, OFF, FLAG),
        ("0.11.0", {"XLA_FLAGS": f"{FLAG}dot"}, "XLA_FLAGS decides", f"{FLAG}dot"),
        ("0.11.0", {"FNN_XLA_DEFAULTS": "0"}, "FNN_XLA_DEFAULTS=0", None),
        ("0.11.0", {"FNN_XLA_DEFAULTS": "1"}, OFF, FLAG),
    ],
)
def test_xla_defaults(surroundings, version, environ, said, flags):
    surroundings(version, **environ)
    assert said in _xla.apply_defaults()
    assert os.environ.get("XLA_FLAGS") == flags


@pytest.mark.parametrize(
    ("started", "said", "flags"), [(True, "JAX had already started", None), (None, OFF, FLAG)]
)
def test_xla_defaults_depend_on_whether_jax_is_up(surroundings, started, said, flags):
    surroundings("0.11.0", started=started)
    assert said in _xla.apply_defaults()
    assert os.environ.get("XLA_FLAGS") == flags


def test_what_was_changed_is_recorded():
    assert fnn.xla_defaults.startswith(("left alone: ", OFF))
