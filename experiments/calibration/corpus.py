"""Sound and broken runs by the hundred, each with all the numbers that the babysitter would measure of it.

A configuration is a data set, a network and an optimizer. It is trained at 20 learning rates from two seeds;
runs within 2 points of the best rate's accuracy are sound. Then its best rate is kept and one thing after the
other is broken. All runs of a configuration are one population: what is broken is a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import fnn
from fnn.train._state import Batch, as_values
from fnn.tune._check import BATCH, DRAWS, OVERFIT_FACTORS, rate_numbers, short_batches
from fnn.tune._curve import Curves, in_pieces, of_curves, of_watched
from fnn.tune._data import of_data, same_class
from fnn.tune._probe import probe
from fnn.tune._short_runs import overfit, range_test
from fnn.tune._start import at_start

RATES = 20
SEEDS = (0, 1)
RUN_BATCH = 32

# What a sound run has: values that a breakage replaces.
SOUND = {
    "init": 1.0, "l2": 1e-4, "dropout": 0.2, "momentum": 0.9, "clip": 1e9, "running": 0.9,
    "relu": 0.0, "softmax": 0.0, "sign": 1.0,
}  # fmt: skip
DATA = {"labels": False, "sorted": False, "raw": False, "leak": False}


class Breakage(NamedTuple):
    """One way to break a run: what is replaced, and where it can happen."""

    values: Mapping[str, float] = MappingProxyType({})
    rate: float = 1.0  # times the best one
    data: str = ""  # what is wrong with them
    needs: str = ""  # what the network or optimizer must have
    freeze: bool = False  # its first layer


BREAKAGES: dict[str, Breakage] = {
    "rate × 100": Breakage(rate=100.0),
    "rate ÷ 1000": Breakage(rate=1e-3),
    "initial values zero": Breakage({"init": 0.0}, needs="hidden"),
    "initial values × 10": Breakage({"init": 10.0}),
    "labels shuffled": Breakage(data="labels"),
    "data not shuffled": Breakage(data="sorted"),
    "inputs unnormalised": Breakage(data="raw"),
    "penalty's sign flipped": Breakage({"l2": -1e-2}),
    "penalty far too large": Breakage({"l2": 10.0}),
    "softmax twice": Breakage({"softmax": 1.0}),
    "loss of the wrong sign": Breakage({"sign": -1.0}),
    "ReLU on the output": Breakage({"relu": 1.0}),
    "dropout 0.95": Breakage({"dropout": 0.95}, needs="dropout"),
    "gradient clipped to nothing": Breakage({"clip": 1e-12}, needs="clippable"),
    "training rows in validation": Breakage(data="leak"),
    "batch norm never updates": Breakage({"running": 1.0}, needs="batch_norm"),
    "layer frozen by mistake": Breakage(freeze=True, needs="hidden"),
    "momentum 0.999, large rate": Breakage({"momentum": 0.999}, rate=3.0, needs="momentum"),
}

# The checks that name the right cause of each.
_HIGH = ("rate_high", "diverged", "jumps", "high_plateau", "update_ratio_high")
_SCALE = ("logit_variance", "initial_loss", "signal_explodes", "saturated_at_start")
CAUSES: dict[str, tuple[str, ...]] = {
    "rate × 100": _HIGH,
    "rate ÷ 1000": ("rate_low", "barely_moves", "update_ratio_low"),
    "initial values zero": ("signal", "zero_gradient"),
    "initial values × 10": _SCALE,
    "labels shuffled": ("data_labels",),
    "data not shuffled": ("batch_purity",),
    "inputs unnormalised": ("data_range",),
    "penalty's sign flipped": ("penalty_sign",),
    "penalty far too large": ("penalty_size",),
    "softmax twice": ("output_probabilities",),
    "loss of the wrong sign": ("loss_target",),
    "ReLU on the output": ("output_negative",),
    "dropout 0.95": ("noise",),
    "gradient clipped to nothing": ("clipping",),
    "training rows in validation": ("data_leak",),
    "batch norm never updates": ("state_updates", "statistics"),
    "layer frozen by mistake": ("frozen",),
    "momentum 0.999, large rate": ("memory",),
    "deep sigmoid stack": ("signal",),
}


def _classifier(*hidden: Any) -> Callable[[dict], Any]:
    return lambda values: fnn.serial(
        *[part(values) if getattr(part, "takes_values", False) else part for part in hidden]
    )


def of_values(function: Callable[[dict], Any]) -> Callable[[dict], Any]:
    """Mark a layer that is made from the values of a run."""
    function.takes_values = True
    return function


drop = of_values(lambda values: fnn.dropout(values["dropout"]))
norm = of_values(lambda values: fnn.batch_norm(momentum=values["running"]))
HEAD = fnn.linear(10, name="head")
xavier = partial(fnn.linear, kernel_init=fnn.xavier)


def residual_block(features: int) -> Callable[[dict], Any]:
    """Two convolutions with batch norm around a shortcut."""
    return of_values(
        lambda values: fnn.residual(
            fnn.conv(features, 3, bias=False),
            norm(values),
            fnn.relu,
            fnn.conv(features, 3, bias=False),
            norm(values),
        )
    )


NETS: dict[str, tuple[Callable[[dict], Any], str, int]] = {
    # name: network, what it has, epochs
    "linear": (_classifier(fnn.flatten, HEAD), "", 20),
    "MLP": (_classifier(fnn.flatten, fnn.linear(64), fnn.relu, HEAD), "hidden", 20),
    "MLP, 3 hidden": (
        _classifier(fnn.flatten, *(fnn.linear(48), fnn.relu) * 3, HEAD), "hidden", 20,
    ),
    "MLP, leaky ReLU": (
        _classifier(fnn.flatten, *(fnn.linear(48), fnn.leaky_relu) * 2, HEAD), "hidden", 20,
    ),
    "MLP, tanh": (
        _classifier(fnn.flatten, xavier(64), fnn.tanh, xavier(32), fnn.tanh, HEAD), "hidden", 20,
    ),
    "MLP, sigmoid": (_classifier(fnn.flatten, xavier(64), fnn.sigmoid, HEAD), "hidden", 20),
    "MLP, ELU": (_classifier(fnn.flatten, *(fnn.linear(64), fnn.elu) * 2, HEAD), "hidden", 20),
    "MLP, maxout": (_classifier(fnn.flatten, fnn.maxout(32, 2), HEAD), "hidden", 20),
    "MLP, dropout": (
        _classifier(fnn.flatten, fnn.linear(96), fnn.relu, drop, HEAD), "hidden dropout", 20,
    ),
    "MLP, batch norm": (
        _classifier(fnn.flatten, fnn.linear(64), norm, fnn.relu, fnn.linear(64), norm, fnn.relu, HEAD),
        "hidden batch_norm", 20,
    ),
    "CNN": (
        _classifier(fnn.conv(8, 3), fnn.relu, fnn.max_pool(2), fnn.conv(16, 3), fnn.relu, fnn.flatten, HEAD),
        "hidden conv", 12,
    ),
    "CNN, batch norm, dropout": (
        _classifier(
            fnn.conv(8, 3, bias=False), norm, fnn.relu, fnn.max_pool(2),
            fnn.conv(16, 3, bias=False), norm, fnn.relu, fnn.flatten, drop, HEAD,
        ),
        "hidden conv batch_norm dropout", 12,
    ),
    "ResNet": (
        _classifier(
            fnn.conv(8, 3, bias=False), norm, fnn.relu, residual_block(8), fnn.relu, fnn.max_pool(2),
            fnn.flatten, HEAD,
        ),
        "hidden conv batch_norm", 12,
    ),
    "sigmoids, 6 deep": (
        _classifier(fnn.flatten, *(xavier(48), fnn.sigmoid) * 6, HEAD), "hidden", 20,
    ),
}  # fmt: skip

OPTIMIZERS: dict[str, tuple[Callable[[Any, dict], Any], float, float, str]] = {
    # name: how it is made, the ends of its grid of rates, what it has
    "SGD": (lambda rate, v: fnn.sgd(rate), 1e-3, 10.0, "clippable"),
    "momentum": (lambda rate, v: fnn.momentum(rate, v["momentum"]), 1e-4, 3.0, "momentum clippable"),
    "Nesterov": (lambda rate, v: fnn.nesterov(rate, v["momentum"]), 1e-4, 3.0, "momentum clippable"),
    "AdaGrad": (lambda rate, v: fnn.adagrad(rate), 1e-4, 3.0, ""),
    "RMSProp": (lambda rate, v: fnn.rmsprop(rate), 1e-5, 0.3, "clippable"),
    "AdaDelta": (lambda rate, v: fnn.adadelta(rate), 1e-2, 100.0, ""),
    "Adam": (lambda rate, v: fnn.adam(rate, b1=v["momentum"]), 1e-5, 0.3, "momentum clippable"),
    "AdamW": (lambda rate, v: fnn.adamw(rate, b1=v["momentum"]), 1e-5, 0.3, "momentum clippable"),
    "AdaMax": (lambda rate, v: fnn.adamax(rate, b1=v["momentum"]), 1e-5, 0.3, ""),
    "NAdam": (lambda rate, v: fnn.nadam(rate), 1e-5, 0.3, "clippable"),
    "Lion": (lambda rate, v: fnn.lion(rate), 1e-6, 0.03, ""),
    "LAMB": (lambda rate, v: fnn.lamb(rate), 1e-4, 1.0, ""),
    "Muon": (
        lambda rate, v: fnn.by_path(fnn.group("*kernel", fnn.muon(rate)), default=fnn.adam(rate / 10)),
        1e-4,
        1.0,
        "",
    ),
}

CONFIGURATIONS: tuple[tuple[str, str, str], ...] = (
    ("digits", "linear", "SGD"), ("Fashion-MNIST", "linear", "Nesterov"),
    ("Fashion-MNIST", "linear", "AdamW"), ("synthetic", "linear", "AdaGrad"),
    ("digits", "MLP", "momentum"), ("digits", "MLP", "AdaMax"),
    ("synthetic", "MLP", "SGD"), ("synthetic", "MLP, 3 hidden", "NAdam"),
    ("Fashion-MNIST", "MLP, 3 hidden", "Nesterov"), ("Fashion-MNIST", "MLP, 3 hidden", "RMSProp"),
    ("digits", "MLP, tanh", "AdaGrad"), ("Fashion-MNIST", "MLP, tanh", "momentum"),
    ("digits", "MLP, dropout", "RMSProp"), ("digits", "MLP, dropout", "Nesterov"),
    ("synthetic", "MLP, dropout", "Adam"), ("synthetic", "MLP, batch norm", "Lion"),
    ("Fashion-MNIST", "MLP, batch norm", "Adam"), ("digits", "MLP, batch norm", "SGD"),
    ("Fashion-MNIST", "MLP, ELU", "AdaMax"), ("digits", "MLP, leaky ReLU", "LAMB"),
    ("synthetic", "MLP, maxout", "AdaDelta"), ("digits", "MLP, sigmoid", "Nesterov"),
    ("digits", "CNN", "Adam"), ("Fashion-MNIST", "CNN", "momentum"),
    ("Fashion-MNIST", "CNN, batch norm, dropout", "AdamW"),
    ("digits", "CNN, batch norm, dropout", "Nesterov"),
    ("digits", "ResNet", "Muon"), ("Fashion-MNIST", "ResNet", "Adam"),
    ("digits", "sigmoids, 6 deep", "SGD"), ("Fashion-MNIST", "sigmoids, 6 deep", "momentum"),
    ("synthetic", "sigmoids, 6 deep", "SGD"), ("digits", "sigmoids, 6 deep", "AdaGrad"),
)  # fmt: skip
"""Those with even numbers set the thresholds, those with odd ones judge them."""


@dataclass(frozen=True)
class Make:
    """What a configuration trains, for `fnn.train_chunk`: values in, task out."""

    net: str
    optimizer: str
    frozen: bool = False

    def __call__(self, values: dict[str, Any]) -> fnn.Task:
        """The task of one run."""
        net = fnn.serial(NETS[self.net][0](values), _output(values))

        def scaled_init(key: Any, x: Any) -> Any:
            params, state = net.init(key, x)
            return jax.tree_util.tree_map_with_path(_scaled, params), state

        def _scaled(path: Any, leaf: Any) -> Any:
            return leaf * values["init"] if path[-1].key == "kernel" else leaf

        def loss(outputs: Any, y: Any) -> Any:
            return fnn.softmax_cross_entropy(values["sign"] * outputs, y)

        made = OPTIMIZERS[self.optimizer][0](values["rate"], values)
        return fnn.Task(
            replace(net, init=scaled_init),
            loss,
            fnn.chain(fnn.clip_by_global_norm(values["clip"]), made),
            (lambda params: fnn.l2(params, values["l2"]),),
            freeze=("serial_1/*_1/*",) if self.frozen else (),
        )


def _output(values: dict[str, Any]) -> Callable[[Any], Any]:
    """What may wrongly stand behind the last layer."""

    def output(logits: Any) -> Any:
        logits = jnp.where(values["relu"] > 0, fnn.relu(logits), logits)
        return jnp.where(values["softmax"] > 0, fnn.softmax(logits), logits)

    return output


def data_set(name: str) -> fnn.Splits:
    """Some thousand examples as floats: images in [0, 1], or points around 20 centres."""
    if name == "digits":
        splits = fnn.split(fnn.digits(), validation=0.2)
        floats = [fnn.Examples(np.asarray(fnn.to_float(jnp.asarray(p.x))), p.y) for p in splits[:3]]
        return splits._replace(train=floats[0], validation=floats[1], test=floats[2])
    random = np.random.default_rng(0)
    if name == "Fashion-MNIST":
        data = fnn.fashion_mnist()
        rows = random.permutation(len(data.train.x))[:4000]
        small = data.train.x[rows].reshape(-1, 14, 2, 14, 2, 1).mean((2, 4), dtype=np.float32) / 255
        x, y, classes = small, data.train.y[rows], data.classes
    else:
        centres = random.normal(size=(20, 20)) * 0.8
        cluster = random.integers(0, 20, 4000)
        x = (centres[cluster] + random.normal(size=(4000, 20))).astype(np.float32) * 0.1 + 0.5
        y, classes = (cluster % 10).astype(np.int32), tuple("0123456789")
    parts = [fnn.Examples(x[part], y[part]) for part in (slice(3000), slice(3000, 4000), slice(0))]
    return fnn.Splits(*parts, classes, name)


class Shared(NamedTuple):
    """What all runs of a configuration share."""

    train: fnn.Examples
    validation: fnn.Examples
    leaked: Any  # validation inputs of which a part are training inputs
    leaked_y: Any
    shuffled_y: Any
    rows: Any  # (epochs, steps, batch)
    sorted_rows: Any
    moments: fnn.Moments
    raw: fnn.Moments  # moments that leave inputs at 0 to 255


def shared_of(data: fnn.Splits, epochs: int) -> Shared:
    """The arrays of a configuration, broken ones beside sound ones."""
    random = np.random.default_rng(1)
    x, y = data.train
    steps = len(x) // RUN_BATCH
    rows = np.stack([random.permutation(len(x))[: steps * RUN_BATCH] for _ in range(epochs)])
    in_order = np.broadcast_to(np.argsort(y, kind="stable")[: steps * RUN_BATCH], rows.shape)
    share = len(data.validation.x) * 3 // 10
    taken = random.permutation(len(x))[:share]
    leaked = np.concatenate([x[taken], data.validation.x[share:]])
    leaked_y = np.concatenate([y[taken], data.validation.y[share:]])
    means = fnn.moments(x)
    return jax.tree.map(
        jnp.asarray,
        Shared(
            data.train, data.validation, leaked, leaked_y, random.permutation(y),
            rows.reshape(epochs, steps, RUN_BATCH).astype(np.int32),
            in_order.reshape(epochs, steps, RUN_BATCH).astype(np.int32),
            means, fnn.Moments(np.zeros_like(means.mean), np.full_like(means.std, 1 / 255)),
        ),
    )  # fmt: skip


class Member(NamedTuple):
    """One run: its values, how its data are broken, and its key."""

    values: dict[str, Any]
    data: dict[str, Any]
    key: Any


def _its_data(member: Member, shared: Shared) -> tuple[fnn.Examples, fnn.Examples, Any, fnn.Moments]:
    def choose(broken: Any, sound: Any, name: str) -> Any:
        return jax.tree.map(lambda b, s: jnp.where(member.data[name], b, s), broken, sound)

    train = shared.train._replace(y=choose(shared.shuffled_y, shared.train.y, "labels"))
    held = choose(fnn.Examples(shared.leaked, shared.leaked_y), shared.validation, "leak")
    return (
        train,
        held,
        choose(shared.sorted_rows, shared.rows, "sorted"),
        choose(shared.raw, shared.moments, "raw"),
    )


def trained(make: Make, member: Member, shared: Shared, watch_every: int) -> dict[str, Any]:
    """A whole run: its curves, what was watched, and what its last state does."""
    train, held, rows, means = _its_data(member, shared)
    state = fnn.init_state(make, member.values, member.key, train.x[:1], means)

    def epoch(state: Any, rows: Any) -> Any:
        mask = jnp.ones(rows.shape, bool)
        state, metrics = fnn.train_chunk(
            make, member.values, state, train, rows, mask, watch_every=watch_every
        )
        measured = fnn.evaluate(make, member.values, state, held)
        return state, (metrics, measured)

    state, (metrics, measured) = lax.scan(epoch, state, rows)
    probed = probe(make, member.values, state, train.x[:256])
    return {
        "loss": metrics.loss.reshape(-1),
        "accuracy": metrics.accuracy.mean(1),
        "watched": jax.tree.map(lambda leaf: leaf.reshape(-1), metrics.watched._asdict()),
        "validation_loss": measured["loss"],
        "validation_accuracy": measured["accuracy"],
        **{name: jnp.stack(list(v.values())).max() for name, v in probed.items() if v},
    }


def started(make: Make, member: Member, shared: Shared, batches: Batch, sample_rows: Any) -> dict[str, Any]:
    """What `fnn.check` measures of it."""
    train, _, _, means = _its_data(member, shared)
    take = lambda rows: fnn.Examples(train.x[rows], train.y[rows])  # noqa: E731
    batches = batches._replace(y=train.y[batches.visit.example])
    probed = take(jnp.arange(BATCH))
    starts = jax.vmap(lambda key: fnn.init_state(make, member.values, key, probed.x, means))(
        jax.random.split(member.key, DRAWS)
    )
    numbers, _ = at_start(make, member.values, starts, probed)
    first = jax.tree.map(lambda leaf: leaf[0], starts)
    losses, unlearnt = range_test(make, member.values, first, batches)
    right, excess = lax.map(
        lambda f: overfit(make, member.values, f, first, take(sample_rows)), jnp.array(OVERFIT_FACTORS)
    )
    best = jnp.argmin(jnp.where(right >= right.max(), excess, jnp.inf))
    return {
        **numbers, "losses": losses, "blank": jnp.nanmin(losses) / unlearnt, "overfit": right[best],
        "overfit_loss": excess[best],
    }  # fmt: skip


@partial(jax.jit, static_argnums=(0, 3, 4))
def train_all(make: Make, members: Member, shared: Shared, watch_every: int, how: str) -> Any:
    """A population of runs."""
    return fnn.over_population(lambda m, s: trained(make, m, s, watch_every), how=how)(members, shared)


@partial(jax.jit, static_argnums=(0, 5))
def start_all(make: Make, members: Member, shared: Shared, batches: Any, rows: Any, how: str) -> Any:
    """What can be known of all of them before they are trained."""
    return fnn.over_population(lambda m, *s: started(make, m, *s), how=how)(members, shared, batches, rows)


class Run(NamedTuple):
    """One run of the corpus."""

    configuration: str
    kind: str  # "sound", or how it is broken
    rate: float
    accuracy: float
    numbers: dict[str, float]


class Trained(NamedTuple):
    """A run, and what it recorded."""

    kind: str
    rate: float
    member: Member
    record: dict[str, Any]


def runs_of(dataset: str, net: str, optimizer: str, *, log: Callable[[str], None] = print) -> list[Run]:
    """All runs of one configuration."""
    name = f"{dataset}, {net}, {optimizer}"
    data, (_, has, epochs) = data_set(dataset), NETS[net]
    _, low, high, offers = OPTIMIZERS[optimizer]
    shared = shared_of(data, epochs)
    steps = shared.rows.shape[1]
    every = next(k for k in range(max(1, epochs * steps // 100), steps + 1) if steps % k == 0)
    how = "map" if "conv" in has else "vmap"
    make = Make(net, optimizer)

    def member(rate: float, seed: int, breakage: Breakage) -> Member:
        values = SOUND | dict(breakage.values) | {"rate": rate * breakage.rate}
        broken = DATA | ({breakage.data: True} if breakage.data else {})
        return Member(as_values(values), {k: jnp.asarray(v) for k, v in broken.items()}, jax.random.key(seed))

    def population(make: Make, runs: list[tuple[str, float, Member]]) -> list[Trained]:
        members = _stacked([member for *_, member in runs])
        found = jax.device_get(train_all(make, members, shared, every, how))
        records = [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(len(runs))]
        return [Trained(*run, record) for run, record in zip(runs, records, strict=True)]

    rates = np.geomspace(low, high, RATES)
    deep = net.startswith("sigmoids")
    kind = "deep sigmoid stack" if deep else "sound"
    grid = population(
        make, [(kind, rate, member(rate, seed, Breakage())) for rate in rates for seed in SEEDS]
    )
    accuracy = np.array([_end(run.record["validation_accuracy"]) for run in grid])
    by_rate = accuracy.reshape(RATES, len(SEEDS)).mean(1)
    best = float(rates[by_rate.argmax()])
    if deep:
        groups = [(make, [run for run in grid if run.rate == best])]
    else:
        can = f"{has} {offers}".split()
        kinds = [kind for kind, breakage in BREAKAGES.items() if not breakage.needs or breakage.needs in can]
        sound = [run for run, reached in zip(grid, accuracy, strict=True) if reached >= by_rate.max() - 0.02]
        groups = [(make, sound)]
        for freeze in (False, True):
            broken = [kind for kind in kinds if BREAKAGES[kind].freeze == freeze]
            its_make = replace(make, frozen=freeze)
            if broken:
                runs = [(kind, best, member(best, SEEDS[0], BREAKAGES[kind])) for kind in broken]
                groups.append((its_make, population(its_make, runs)))
    runs = [
        run
        for make, trained in groups
        for run in _with_numbers(name, make, trained, data, shared, how, every)
    ]
    count = sum(run.kind == "sound" for run in runs)
    log(f"{name}: best rate {best:.3g} with {by_rate.max():.3f}, {count} sound, {len(runs) - count} broken")
    return runs


def _end(accuracy: np.ndarray) -> float:
    """The mean of the last tenth of the epochs; 0 where the run diverged."""
    return float(np.nan_to_num(accuracy)[-max(1, len(accuracy) // 10) :].mean())


def _with_numbers(
    name: str, make: Make, chosen: list[Trained], data: fnn.Splits, shared: Shared, how: str, every: int
) -> list[Run]:
    batches = short_batches(data.train, np.random.default_rng(0).permutation(len(data.train.x)))
    rows = np.concatenate([np.flatnonzero(data.train.y == label)[:2] for label in np.unique(data.train.y)])
    members = _stacked([m for _, _, m, _ in chosen])
    at_first = jax.device_get(start_all(make, members, shared, batches, jnp.asarray(rows), how))
    of_the_data = {name: _data_numbers(data, shared, name) for name in ("", *DATA)}
    guess = same_class(data.train.y)
    runs = []
    for i, (kind, rate, m, result) in enumerate(chosen):
        start = {key: leaf[i] for key, leaf in at_first.items()}
        numbers = {key: float(value) for key, value in start.items() if np.ndim(value) == 0}
        numbers |= rate_numbers(np.asarray(start["losses"]), numbers["loss"])
        numbers |= of_the_data[next((key for key, broken in m.data.items() if bool(broken)), "")]
        losses = result["loss"]
        steps, means, highest = in_pieces(losses, every)
        curves = Curves(
            steps, means, result["accuracy"], result["validation_loss"], result["validation_accuracy"],
            len(data.validation.x), highest=highest,
        )  # fmt: skip
        watched = result["watched"]
        records = [
            jax.tree.map(lambda leaf, t=t: float(leaf[t]), watched) for t in range(len(losses) // every)
        ]
        measured = of_curves(curves) | of_watched(records, guess)
        numbers |= {id: number for id, (number, _) in measured.items()}
        numbers |= {
            k: float(result[k]) for k in ("dead_units", "saturated_units", "statistics") if k in result
        }
        runs.append(Run(name, kind, float(rate), float(result["validation_accuracy"][-1]), numbers))
    return runs


def _data_numbers(data: fnn.Splits, shared: Shared, broken: str) -> dict[str, float]:
    held = fnn.Examples(np.asarray(shared.leaked), np.asarray(shared.leaked_y))
    its = data._replace(
        train=data.train._replace(y=np.asarray(shared.shuffled_y) if broken == "labels" else data.train.y),
        validation=held if broken == "leak" else data.validation,
    )
    return of_data(its, jax.tree.map(np.asarray, shared.raw if broken == "raw" else shared.moments))[0]


def _stacked(members: list[Member]) -> Member:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
