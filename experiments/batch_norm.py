"""Batch norm converges faster, at more learning rates and from more initial scales.

Measured on three hidden layers of sigmoid units, as in the paper, and digits, under plain SGD: the training
loss after a fixed number of steps, each network at its best rate and initial scale of one grid, since sigmoid
units without batch norm hardly start from Xavier's own; how many decades of rates, at the best scale, and of
scales, at the best rate, come below a loss of 0.3; and by how much the training loss, under a batch's own
statistics, exceeds that of evaluation on the same examples, for batches of 4 and of 64: statistics of few
examples are noise, the less the larger the batch. They divide by the batch's size |Ω|; at test time running
statistics take their place, which the notes leave out.

Source: Ioffe and Szegedy 2015, "Batch Normalization"; Wu and He 2018, "Group Normalization" (small batches);
the notes, "Batch Normalization".
"""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure

import fnn

FASTER, RATES_WIDER, SCALES_WIDER, GAP = 0.1, 0.5, 0.5, 0.02  # log10 of the loss; decades; decades; nats
GOOD = 0.3  # a loss that counts as trained
RATES = 10.0 ** np.arange(-2.0, 2.1, 0.25)
SCALES = 10.0 ** np.arange(-2.0, 2.1, 0.5)  # of Xavier's deviation
MIDDLE = (1.0, 1.0)  # the rate and scale at which training and evaluation are compared


def run(batch_norm: bool, rate, scale, seed, *, steps: int, batch: int):
    """The mean loss of the last tenth of the steps, and how much training exceeds evaluation in the end."""
    data = fnn.split(fnn.digits(), validation=0.2).train
    x, y = fnn.standardize(jnp.asarray(data.x), fnn.moments(data.x)), jnp.asarray(data.y)
    between = (fnn.batch_norm(), fnn.sigmoid) if batch_norm else (fnn.sigmoid,)
    net = fnn.serial(
        fnn.flatten,
        *(layer for _ in range(3) for layer in (fnn.linear(64, kernel_init=fnn.xavier), *between)),
        fnn.linear(10),
    )
    params, state = net.init(jax.random.key(seed), x[:1])
    params = jax.tree.map(lambda w: scale * w if w.ndim == 2 else w, params)
    rows = jax.random.randint(jax.random.key(seed), (steps, batch), 0, len(x))

    def step(carry, rows):
        params, state = carry

        def loss(params):
            logits, new_state = net.apply(params, state, x[rows], train=True)
            return fnn.softmax_cross_entropy(logits, y[rows]).mean(), new_state

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return (jax.tree.map(lambda w, g: w - rate * g, params, grads), state), value

    (params, state), losses = jax.lax.scan(step, (params, state), rows)

    def again(rows, train):  # without an update
        return fnn.softmax_cross_entropy(net.apply(params, state, x[rows], train=train)[0], y[rows]).mean()

    trained, tested = (jax.vmap(partial(again, train=train))(rows[-50:]).mean() for train in (True, False))
    return losses[-(steps // 10) :].mean(), trained - tested


@cache
def tried(batch_norm: bool, seeds: tuple[int, ...], steps: int, batch: int, settings: tuple):
    """(settings, seeds) log10 of the training loss, at most 1, and what it exceeds that of evaluation by."""
    over_seeds = jax.vmap(partial(run, batch_norm, steps=steps, batch=batch), (None, None, 0))
    rates, scales = np.array(settings).T
    losses, gaps = map(
        np.asarray, jax.jit(jax.vmap(over_seeds, (0, 0, None)))(rates, scales, np.array(seeds))
    )
    return np.log10(np.clip(np.nan_to_num(losses, nan=10.0), 1e-6, 10.0)), gaps


def study(seeds=range(5), *, mechanism=True, rates=RATES, scales=SCALES, steps=200) -> Study:
    """Compare a network with batch norm and without; without the mechanism, two without, of other seeds."""
    seeds, settings = tuple(seeds), tuple(product(rates, scales))
    on, off = "with batch norm", "without"
    sides = {on: (mechanism, seeds if mechanism else others(seeds)), off: (False, seeds)}
    found = {name: tried(*side, steps, 64, settings) for name, side in sides.items()}
    gaps = {batch: tried(*sides[on], steps, batch, (MIDDLE,))[1][0] for batch in (4, 64)}
    at, best, by_rate, by_scale = {}, {}, {}, {}
    for name, (losses, _) in found.items():
        losses = losses.reshape(len(rates), len(scales), -1)
        i, j = np.unravel_index(losses.mean(2).argmin(), losses.shape[:2])
        at[name], best[name], by_rate[name], by_scale[name] = (i, j), losses[i, j], losses[:, j], losses[i]

    def decades(found, tried):
        width = np.log10(tried[1] / tried[0])
        return {name: (loss < np.log10(GOOD)).sum(0) * width for name, loss in found.items()}

    of_rates, of_scales = decades(by_rate, rates), decades(by_scale, scales)
    table = [
        {
            "network": name,
            "best rate": float(rates[at[name][0]]),
            "best scale": float(scales[at[name][1]]),
            "log10 of the best loss": float(best[name].mean()),
            "decades of rates": float(of_rates[name].mean()),
            "decades of scales": float(of_scales[name].mean()),
        }
        for name in sides
    ]
    verdicts = [
        verdict("log10 of the loss is lower with batch norm", best[off], best[on], FASTER),
        verdict(
            "more decades of learning rates train with batch norm", of_rates[on], of_rates[off], RATES_WIDER
        ),
        verdict(
            "more decades of initial scales train with batch norm",
            of_scales[on],
            of_scales[off],
            SCALES_WIDER,
        ),
        verdict(
            "training exceeds evaluation by more nats in batches of 4 than of 64", gaps[4], gaps[64], GAP
        ),
    ]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, found, grid_, label in zip(
        figure.subplots(1, 2),
        (by_rate, by_scale),
        (rates, scales),
        ("learning rate", "initial scale"),
        strict=True,
    ):
        for name, loss in found.items():
            axes.loglog(grid_, 10 ** loss.mean(1), label=name)
        axes.set(xlabel=label, ylabel="training loss")
        axes.legend(frameon=False)
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("batch_norm", study())
