"""The small config that the tests of this room change, and ways of changing it."""

import copy
import sys
import tomllib
from pathlib import Path

import pytest

from fnn.run._build import make_and_values, numbers_at
from fnn.run._config import check
from fnn.run.cli import main

ROOT = Path(__file__).parents[2]

SMALL = """
[data]
use = "digits"

[split]
validation = 0.2

[model]
layers = ["flatten", {linear = {features = 16}}, "relu", {linear = {features = 10, name = "head"}}]

[loss]
use = "softmax_cross_entropy"
penalties = [{l2 = {strength = 1e-4}}]

[optimizer]
use = "adam"
learning_rate = 1e-2

[train]
epochs = 3
batch_size = 64
"""

EVERYTHING = """
seed = 3

[data]
use = "digits"

[split]
validation = 300
seed = 1

[model]
use = "serial"
name = "net"
layers = [
  {conv = {features = 4, kernel_size = [3, 3], padding = [[1, 1], [1, 1]], stride = [1, 1], bias = false}},
  {batch_norm = {momentum = {exponential = {initial = 0.9, rate = 0.99, every = 10}}}}, "relu",
  {residual = {layers = [
    {conv = {features = 8, kernel_size = 3, kernel_init = {xavier = {distribution = "uniform"}}, name = "a"}},
    {serial = {layers = ["batch_norm", "tanh"]}},
  ], shortcut = {conv = {features = 8, kernel_size = 1, kernel_init = "kaiming"}}}},
  {avg_pool = {window = 2, padding = "SAME"}}, {max_pool = {window = [2, 2], stride = 1}},
  {dropout = {rate = {step_decay = {initial = 0.5, every = 5, factor = {cosine = {peak = 0.5}}}}}},
  "flatten", {mlp = {hidden = [8, 8], features = 10, activation = {residual = {layers = ["sigmoid"]}}}},
]

[loss]
use = "softmax_cross_entropy"
label_smoothing = {piecewise = {boundaries = [3, 6], values = [0.1, {cosine = {peak = 0.1}}, 0]}}
penalties = [{l2 = {strength = 1e-4, pattern = "*conv_1/kernel"}}, {l1 = {strength = {cosine = {peak = 1e-4}}}}]

[optimizer]
use = "chain"
transforms = [
  {clip_by_global_norm = {max_norm = 1}},
  {nesterov = {learning_rate = {cosine = {peak = 0.1, warmup = 0.1, end = 1e-3, steps = 20}}, momentum = 0.8}},
]

[train]
epochs = 2
batch_size = "all"
standardize = false
augment = ["random_flip", {random_crop = {padding = 2}}]

[run]
directory = "runs/everything"
"""

REQUIRED = {
    "features": 10,
    "kernel_size": 3,
    "window": 2,
    "layers": ["relu"],
    "transforms": [{"sgd": {"learning_rate": 0.1}}],
    "learning_rate": 0.1,
    "max_norm": 1.0,
    "peak": 0.1,
    "initial": 0.1,
    "rate": 0.5,
    "every": 5,
    "boundaries": [2],
    "values": [0.1, 0.2],
    "strength": 0.1,
    "path": "a/path",
    "size": 2,
    "groups": 2,
    "k": 2,
    "limit": 1.0,
    "threshold": 0.1,
    "period": 5,
    "after": 0.1,
    "schedules": [{"cosine": {"peak": 0.1}}, {"cosine": {"peak": 0.2}}],
    "optimizer": {"sgd": {"learning_rate": 0.1}},
    "default": {"sgd": {"learning_rate": 0.1}},
    "pattern": "*",
    "low": 1,
    "high": 3,
    "options": ["a", 2],
    "equals": 2,
    "then": {"uniform": {"low": 0.0, "high": 1.0}},
}
"""A value for every setting that some function must be given, by its name."""


def changed(key, value, text=SMALL):
    """A config with another value at a dotted key of its tables."""
    raw = tomllib.loads(text)
    table = raw
    *tables, last = key.split(".")
    for name in tables:
        table = table.setdefault(name, {})
    table[last] = copy.deepcopy(value)
    return raw


def without(key, text=SMALL):
    """A config that lacks a key."""
    raw = tomllib.loads(text)
    *tables, last = key.split(".")
    table = raw
    for name in tables:
        table = table[name]
    del table[last]
    return raw


def made(raw, steps=10):
    """What a config makes: the structure, its hyperparameters and the task at its start."""
    make, values = make_and_values(check(raw), steps)
    return make, values, make(numbers_at(values, 0))


def in_process(monkeypatch, capsys, *arguments):
    """The exit code, what is printed and what is complained, without a new process."""
    monkeypatch.setattr(sys, "argv", ["fnn", *map(str, arguments)])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # comes back after the test
    with pytest.raises(SystemExit) as ended:
        main()
    output, errors = capsys.readouterr()
    return ended.value.code, output, errors
