"""What importing fnn loads, and what it sets."""

import json
import subprocess
import sys

import pytest

import fnn
from fnn import _xla

EXTRAS = {"pydantic", "typer", "rich", "matplotlib", "orbax", "pooch", "PIL", "tomli_w"}


def loaded(code):
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import fnn", {*EXTRAS, "jax"}),
        ("import fnn; fnn.adam(1e-3); fnn.fit; fnn.digits", EXTRAS),
        (
            "sys.argv = ['fnn', '--help']\nfrom fnn.run.cli import main\ntry: main()\nexcept SystemExit: pass",
            {"jax", "pydantic", "matplotlib", "orbax"},
        ),
    ],
)
def test_nothing_is_loaded_before_it_is_needed(code, absent):
    assert loaded(code) & absent == set()


def test_names_are_unique_and_resolve():
    rooms = [fnn.nn, fnn.optim, fnn.data, fnn.train]
    names = [name for room in rooms for name in room.__all__]
    assert len(names) == len(set(names))
    for name in dir(fnn):
        getattr(fnn, name)
    with pytest.raises(AttributeError, match="has no attribute 'convv'"):
        fnn.convv  # noqa: B018


@pytest.mark.parametrize(
    ("jaxlib", "environment", "flags", "said"),
    [
        ("0.10.1", {}, None, "does not need any"),
        ("0.11.0", {}, "--xla_cpu_experimental_ynn_fusion_type=", "switched off"),
        ("0.12.0.1", {"XLA_FLAGS": "--a=b"}, "--a=b --xla_cpu_experimental_ynn_fusion_type=", "switched off"),
        ("0.12.0.1", {"XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type=x"}, None, "XLA_FLAGS decides"),
        ("0.12.0.1", {"FNN_XLA_DEFAULTS": "0"}, None, "FNN_XLA_DEFAULTS=0"),
    ],
)
def test_xla_defaults(jaxlib, environment, flags, said, monkeypatch):
    monkeypatch.setattr(_xla, "version", lambda package: jaxlib)
    monkeypatch.setattr(_xla, "sys", type("without_jax", (), {"modules": {}}))
    surrounding = dict(environment)
    monkeypatch.setattr(_xla.os, "environ", surrounding)
    assert said in _xla.apply_defaults()
    assert surrounding == (environment if flags is None else {**environment, "XLA_FLAGS": flags})
