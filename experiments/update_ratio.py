"""The best learning rate differs by decades between optimizers, the updates that it makes hardly.

Rule of thumb: the ratio of an update's size to that of the weights, ‖Δw‖ / ‖w‖, is about 0.001. Measured: the
median ratio of each kernel over a run, at the learning rate of one grid whose validation loss is lowest, for
an MLP on digits. Between SGD and Adam that rate falls by almost two decades, the ratio by less than one: this
is why the ratio, and not the rate, can be judged without knowing the optimizer. Its size depends on how long
the run is. It is nearer to 0.01 in the short runs here and falls towards 0.001 in those of four times the
length, most of whose steps come when little is left to learn; 0.001 is no constant.

The notes compare updates with the "initial weights"; what is meant, and measured, is the weights before each
update.

Source: the notes, "Hyperparameter Optimization"; Stanford CS231n, "Neural Networks Part 3: Learning and
Evaluation", section "Ratio of weights:updates".
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_SPREAD = 0.3  # decades by which best rates lie farther apart than their ratios
MARGIN_LENGTH = 0.3  # decades by which longer runs have smaller ratios
OPTIMIZERS = {"SGD": fnn.sgd, "momentum": fnn.momentum, "RMSProp": fnn.rmsprop, "Adam": fnn.adam}
TRAIN, VALIDATION, BATCH, EVERY = 1200, 400, 50, 20
RATES = 10.0 ** np.arange(-3.5, 0.6, 0.25)
NET = fnn.serial(fnn.flatten, fnn.mlp((32,), 10))


@partial(jax.jit, static_argnames=("name", "steps", "times"))
def runs(name, x, y, rates, seeds, steps, times):
    """(rates, seeds, times) validation losses, one each after some steps, and the ratios of these steps."""

    def make(rate):
        return NET, fnn.softmax_cross_entropy, OPTIMIZERS[name](rate)

    def run(rate, seed):
        key = jax.random.key(seed)
        train, held = jnp.split(jax.random.permutation(key, len(x))[: TRAIN + VALIDATION], [TRAIN])
        rows = train[jax.random.randint(key, (times, steps, BATCH), 0, TRAIN)]

        def chunk(state, rows):
            state, measured = fnn.train_chunk(
                make, rate, state, fnn.Examples(x, y), rows, jnp.ones(rows.shape, bool), watch_every=EVERY
            )
            ratios = measured.watched.update_ratio
            kernels = jnp.stack([ratio for path, ratio in ratios.items() if path.endswith("kernel")])
            return state, (fnn.evaluate(make, rate, state, fnn.Examples(x[held], y[held]))["loss"], kernels)

        _, (losses, ratios) = jax.lax.scan(chunk, fnn.init_state(make, rate, key, x[:1]), rows)
        return losses, ratios

    return jax.vmap(jax.vmap(run, (None, 0)), (0, None))(rates, seeds)


@cache
def best(name, rates, seeds, steps, times):
    """(seeds,) log₁₀ of the best rate and of its ratio, after the steps and after so many times as many.

    The ratio is the median over the run, and the mean of the kernels.
    """
    data = fnn.digits()
    x, y = (jnp.concatenate([jnp.asarray(a), b]) for a, b in zip(data.train, data.test, strict=True))
    losses, ratios = map(
        np.asarray, runs(name, fnn.to_float(x), y, jnp.array(rates), jnp.array(seeds), steps, times)
    )
    ends = []
    for till in (1, times):
        chosen = np.nan_to_num(losses[:, :, till - 1], nan=np.inf).argmin(0)
        at_best = ratios[chosen, np.arange(len(seeds)), :till]  # (seeds, times, kernels, watched steps)
        ends.append((np.log10(rates)[chosen], np.log10(np.median(at_best, axis=(1, 3))).mean(1)))
    return ends


def apart(values):
    """(seeds,) how far the largest and the smallest of the optimizers lie apart."""
    return np.ptp(list(values), axis=0)


def study(seeds=range(5), *, mechanism=True, rates=RATES, steps=400, times=4) -> Study:
    """Compare rates with ratios; without the mechanism, like with like on other seeds."""
    seeds, rates, lengths = tuple(seeds), tuple(map(float, rates)), (steps, times * steps)
    each = {name: best(name, rates, seeds, steps, times) for name in OPTIMIZERS}
    short, long = ({name: ends[k] for name, ends in each.items()} for k in (0, 1))
    if mechanism:
        second = {name: ratio for name, (_, ratio) in short.items()}, long
    else:
        again = {name: best(name, rates, others(seeds), steps, times)[0] for name in OPTIMIZERS}
        second = {name: rate for name, (rate, _) in again.items()}, again
    found = dict(zip(lengths, (short, long), strict=True))
    table = [
        {"optimizer": name, "steps": n, "best learning rate": float(10 ** rate.mean())}
        | {"‖Δw‖ / ‖w‖": float(10 ** ratio.mean())}
        for n, each in found.items()
        for name, (rate, ratio) in each.items()
    ]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(OPTIMIZERS):
        for n, marker in zip(lengths, "o^", strict=True):
            rate, ratio = found[n][name]
            axes.scatter(10**rate, 10**ratio, color=f"C{k}", marker=marker, label=f"{name}, {n} steps")
    axes.axhline(1e-3, color="0.7", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="best learning rate", ylabel="‖Δw‖ / ‖w‖ at it")
    figure.legend(loc="outside right upper", frameon=False)
    mean = [np.mean([ratio for _, ratio in each.values()], 0) for each in (short, second[1])]
    verdicts = [
        verdict(
            "decades by which the optimizers' best rates lie farther apart than the ratios at them",
            apart(rate for rate, _ in short.values()),
            apart(second[0].values()),
            MARGIN_SPREAD,
        ),
        verdict(
            f"decades by which the ratio is smaller in {lengths[1]} than in {lengths[0]} steps",
            *mean,
            MARGIN_LENGTH,
        ),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("update_ratio", study())
