"""A large learning rate kills units of ReLU, and of ELU all but kills them; leaky ReLU's live on.

A unit whose slope is 0 on every example gets no gradient: one large step that moves a ReLU's scores below 0
for all of them is its last. Leaky ReLU's slope is 0.01 there, so it cannot die, though the notes list dying
among its problems too (and that it will not, rightly, among its advantages); PReLU's is what it has learned.
ELU's is eˣ, never 0 but small enough: at a large rate its units saturate together and learning stops.
Measured on digits, with plain gradient descent, each from the initial values made for it: the share of hidden
units whose slope is below DEAD on every training example, over the runs that have not diverged. At large
rates most of PReLU's have, so that it is in the table only.

Source: the notes, "Activation Functions"; Maas et al. 2013, "Rectifier Nonlinearities Improve Neural Network
Acoustic Models"; Clevert et al. 2016, "Fast and Accurate Deep Network Learning by ELUs".
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_RELU = 0.02  # of the share of dead units, by which ReLU's exceeds the other side's
MARGIN_ELU = 0.2  # by which ELU's exceeds leaky ReLU's
DEAD = 1e-3  # a slope ten times smaller than leaky ReLU's
RATES, LOW, HIGH, HIGH_ELU, BATCH = (0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0), 0.1, 0.8, 0.7, 50
ACTIVATIONS = {"relu": fnn.kaiming, "leaky_relu": fnn.kaiming, "prelu": fnn.kaiming, "elu": fnn.xavier}


def unit(which) -> fnn.Layer:
    """Which of ACTIVATIONS it is, by number, is a value: one program trains with all of them."""
    prelu = fnn.prelu()

    def apply(params, x):
        learned = [lambda x: prelu.apply(params, {}, x)[0]]
        return jax.lax.switch(which, [fnn.relu, fnn.leaky_relu, *learned, fnn.elu], x)

    return fnn.layer("unit", apply, lambda key, x: prelu.init(key, x)[0])


def network(which, kernel_init=fnn.kaiming) -> fnn.Layer:
    return fnn.mlp((64, 64), 10, unit(which), kernel_init=kernel_init)


@partial(jax.jit, static_argnames="steps")
@partial(jax.vmap, in_axes=(0, 0, None, None, None, None, None))
@partial(jax.vmap, in_axes=(None, None, 0, None, None, None, None))
def train(key, params, rate, which, x, y, steps: int) -> jax.Array:
    """The share of dead units after the last step, and the training accuracy; NaN if it has diverged."""
    net, optimizer, state = network(which), fnn.sgd(rate), {}
    rows = jax.random.randint(jax.random.fold_in(key, 1), (steps, BATCH), 0, len(x))

    def step(carry, rows):
        def loss(params):
            return fnn.softmax_cross_entropy(net.apply(params, state, x[rows])[0], y[rows]).mean()

        params, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return (fnn.apply_updates(params, updates), opt_state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), rows)
    outputs = fnn.intermediates(net, params, state, x)

    def dead(layer: int) -> jax.Array:
        own, scores = params[f"unit_{layer}"], outputs[f"linear_{layer}"]
        apply = partial(unit(which).apply, own, {})
        _, slope = jax.jvp(lambda s: apply(s)[0], (scores,), (jnp.ones_like(scores),))
        return jnp.abs(slope).max(0) < DEAD

    share = jnp.concatenate([dead(1), dead(2)]).mean()
    measured = jnp.stack([share, fnn.accuracy(outputs["linear_3"], y).mean()])
    return jnp.where(jnp.isfinite(outputs["linear_3"]).all(), measured, jnp.nan)


def mean(values: np.ndarray) -> float:
    """Over the runs that have not diverged."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


def shown(values: np.ndarray) -> str:
    """That mean, and how many have diverged."""
    lost = int(np.isnan(values).sum())
    if lost == len(values):
        return "all diverged"
    return f"{mean(values):.3g}, {lost} diverged" if lost else f"{mean(values):.3g}"


def undiverged(ahead: np.ndarray, behind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of the seeds whose run has diverged on neither."""
    kept = ~(np.isnan(ahead) | np.isnan(behind))
    return ahead[kept], behind[kept]


def study(seeds=range(12), *, mechanism=True, steps=300) -> Study:
    """Compare shares of dead units; without the mechanism, those of one activation at one rate."""
    x, y = fnn.digits().train
    x = fnn.standardize(x, fnn.moments(x)).reshape(len(x), -1)

    def measured_on(seeds, name) -> np.ndarray:
        """(seeds, RATES, 2)"""
        which, keys = list(ACTIVATIONS).index(name), jax.vmap(jax.random.key)(jnp.array(list(seeds)))
        params, _ = jax.vmap(network(which, ACTIVATIONS[name]).init, (0, None))(keys, x)
        return np.asarray(train(keys, params, jnp.array(RATES), which, x, jnp.asarray(y), steps))

    found = {name: measured_on(seeds, name) for name in ACTIVATIONS}
    share = {name: measured[:, :, 0] for name, measured in found.items()}
    table = [
        {
            "activation": name,
            **{f"dead at {rate}": shown(share[name][:, i]) for i, rate in enumerate(RATES)},
            f"accuracy at {HIGH_ELU}": mean(measured[:, RATES.index(HIGH_ELU), 1]),
        }
        for name, measured in found.items()
    ]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, line in zip(ACTIVATIONS, ("o-", "o-", "x--", "o-"), strict=True):
        axes.plot(RATES, [mean(column) for column in share[name].T], line, label=name)
    axes.set(xlabel="learning rate", ylabel="share of dead units", ylim=(-0.03, 1.03))
    axes.legend(frameon=False)

    low, middle, high = (RATES.index(rate) for rate in (LOW, HIGH_ELU, HIGH))
    relu, leaky, elu = share["relu"], share["leaky_relu"], share["elu"][:, middle]
    less, alive = relu[:, low], leaky[:, high]
    if not mechanism:
        less = alive = measured_on(others(seeds), "relu")[:, high, 0]
        elu = leaky[:, middle]
    by_rate = f"more of ReLU's units are dead at the rate {HIGH} than at {LOW}"
    than_leaky = "more of {}'s units are dead than of leaky ReLU's at {}"
    verdicts = [
        verdict(by_rate, *undiverged(relu[:, high], less), MARGIN_RELU),
        verdict(than_leaky.format("ReLU", HIGH), *undiverged(relu[:, high], alive), MARGIN_RELU),
        verdict(than_leaky.format("ELU", HIGH_ELU), *undiverged(elu, leaky[:, middle]), MARGIN_ELU),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("dead_units", study())
