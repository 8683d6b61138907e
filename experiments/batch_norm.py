"""Batch norm converges faster, at rates and from initial scales that would be wrong without it.

Measured on three hidden layers of sigmoid units, as in the paper, and digits, under plain SGD: the training
loss after a fixed number of steps, each network at its best rate; how many decades of learning rates and of
initial scales, at one rate, come below a loss of 0.3; and by how much the training loss, under a batch's own
statistics, exceeds that of evaluation on the same examples, for batches of 4 and of 64: statistics of few
examples are noise, which regularizes, and is the less the larger the batch. They divide by the batch's size
|Ω|; at test time running statistics take their place, which the notes leave out.

Source: Ioffe and Szegedy 2015, "Batch Normalization"; Wu and He 2018, "Group Normalization" (small batches);
the notes, "Batch Normalization".
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

FASTER, RATES_WIDER, SCALES_WIDER, GAP = 0.2, 0.5, 0.5, 0.02  # log10 of the loss; decades; decades; nats
GOOD = 0.3  # a loss that counts as trained
RATE = 1.0  # where not all of them are tried
RATES = 10.0 ** np.arange(-2.0, 2.1, 0.25)
SCALES = 10.0 ** np.arange(-2.0, 2.1, 0.25)  # of Kaiming's deviation


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
def grid(batch_norm: bool, seeds: tuple[int, ...], steps: int, batch: int, settings: tuple):
    """(settings, seeds) log10 of the training loss, at most 1, and what it exceeds that of evaluation by."""
    over_seeds = jax.vmap(partial(run, batch_norm, steps=steps, batch=batch), (None, None, 0))
    rates, scales = np.array(settings).T
    losses, gaps = map(
        np.asarray, jax.jit(jax.vmap(over_seeds, (0, 0, None)))(rates, scales, np.array(seeds))
    )
    return np.log10(np.clip(np.nan_to_num(losses, nan=10.0), 1e-6, 10.0)), gaps


def study(seeds=range(5), *, mechanism=True, steps=200) -> Study:
    """Compare a network with batch norm and without; without the mechanism, two without."""
    sides = {"with batch norm": mechanism, "without": False}
    seeds, middle = tuple(seeds), (RATE, 1.0)
    settings = (*((rate, 1.0) for rate in RATES), *((RATE, scale) for scale in SCALES))
    found = {name: grid(on, seeds, steps, 64, settings) for name, on in sides.items()}
    by_rate = {name: losses[: len(RATES)] for name, (losses, _) in found.items()}
    by_scale = {name: losses[len(RATES) :] for name, (losses, _) in found.items()}
    on, off = sides
    gaps = {
        4: grid(mechanism, seeds, steps, 4, (middle,))[1][0],
        64: found[on][1][settings.index(middle)],
    }
    best = {name: loss[loss.mean(1).argmin()] for name, loss in by_rate.items()}

    def decades(found):  # both grids have four points in each decade
        return {name: (loss < np.log10(GOOD)).sum(0) / 4 for name, loss in found.items()}

    rates, scales = decades(by_rate), decades(by_scale)
    table = [
        {
            "network": name,
            "log10 of the best loss": float(best[name].mean()),
            "decades of rates": float(rates[name].mean()),
            "decades of scales": float(scales[name].mean()),
        }
        for name in sides
    ]
    verdicts = [
        verdict("log10 of the loss is lower with batch norm", best[off], best[on], FASTER),
        verdict("more decades of learning rates train with batch norm", rates[on], rates[off], RATES_WIDER),
        verdict(
            "more decades of initial scales train with batch norm", scales[on], scales[off], SCALES_WIDER
        ),
        verdict(
            "training exceeds evaluation by more nats in batches of 4 than of 64", gaps[4], gaps[64], GAP
        ),
    ]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, found, grid_, label in zip(
        figure.subplots(1, 2),
        (by_rate, by_scale),
        (RATES, SCALES),
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
