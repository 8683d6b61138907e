"""Thirty layers of SELU learn sooner than thirty of ReLU, which catch up without batch norm, not with it.

SELU's constants make mean 0 and variance 1 a fixed point to which each layer's activations are drawn, for
weights of mean 0 and variance 1 / fan-in (LeCun's). A ReLU network under Kaiming's weights keeps the second
moment only on average: its activations have a mean, and examples become alike layer by layer. Batch norm is
no cure in a plain stack of this depth: the gradient grows by a constant factor in each layer (Yang et al.);
that is what residual connections are for. Measured: the training loss on digits after few steps of Adam and
after many, each network at the best of a grid of learning rates for that number of steps.

Source: Klambauer et al. 2017, "Self-Normalizing Neural Networks"; Yang et al. 2019, "A Mean Field Theory of
Batch Normalization"; the notes, "SELU".
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN = 0.3  # of log10 of the loss: SELU's is half of the other's, or less
RATES = tuple(10.0 ** np.arange(-4.0, -1.4, 0.5))
WIDTH, BATCH = 64, 100
NETWORKS = {  # what stands after each linear layer, and its initial values
    "SELU": ((fnn.selu,), fnn.lecun),
    "ReLU": ((fnn.relu,), fnn.kaiming),
    "ReLU, batch norm": ((fnn.batch_norm(), fnn.relu), fnn.kaiming),
}


@cache
def curves(name: str, seeds: tuple[int, ...], rates: tuple[float, ...], depth: int, steps: int):
    """(rates, seeds, steps) the training loss of every step."""
    after, kernel_init = NETWORKS[name]
    hidden, head = (
        fnn.serial(fnn.linear(WIDTH, kernel_init=kernel_init), *after),
        fnn.linear(10, kernel_init=fnn.lecun),
    )
    data = fnn.split(fnn.digits(), validation=0.2).train
    x, y = fnn.standardize(jnp.asarray(data.x), fnn.moments(data.x)), jnp.asarray(data.y)
    x = x.reshape(-1, WIDTH)  # an image has as many numbers as a layer has units, so all layers are alike

    def init(key):
        keys = jax.random.split(key, depth + 1)
        layers, state = jax.vmap(lambda key: hidden.init(key, x[:1]))(keys[1:])
        return (layers, head.init(keys[0], x[:1])[0]), state

    def apply(params, state, x):
        """Layers that are alike are one, scanned over their stacked parameters: depth compiles nothing."""
        layers, last = params
        x, state = jax.lax.scan(lambda x, its: hidden.apply(*its, x, train=True), x, (layers, state))
        return head.apply(last, {}, x)[0], state

    def train(rate, seed):
        optimizer = fnn.adam(rate)
        params, state = init(jax.random.key(seed))
        rows = jax.random.randint(jax.random.key(seed), (steps, BATCH), 0, len(x))

        def step(carry, rows):
            params, state, opt_state = carry

            def loss(params):
                logits, new_state = apply(params, state, x[rows])
                return fnn.softmax_cross_entropy(logits, y[rows]).mean(), new_state

            (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (fnn.apply_updates(params, updates), state, opt_state), value

        return jax.lax.scan(step, (params, state, optimizer.init(params)), rows)[1]

    over_seeds = jax.vmap(train, in_axes=(None, 0))
    return np.asarray(jax.jit(jax.vmap(over_seeds, in_axes=(0, None)))(np.array(rates), np.array(seeds)))


def study(seeds=range(10), *, mechanism=True, rates=RATES, depth=30, steps=(300, 1200)) -> Study:
    """Compare three networks of equal depth; without the mechanism, ReLU's with itself on other seeds."""
    seeds = tuple(seeds)
    sides = {name: (name, seeds) for name in NETWORKS}
    if not mechanism:
        sides = dict.fromkeys(NETWORKS, ("ReLU", seeds)) | {"SELU": ("ReLU", others(seeds))}
    best = {}  # by network and number of steps: the rate, its curves, log10 of their ends
    for name, side in sides.items():
        found = curves(*side, rates, depth, max(steps))
        for count in steps:
            last = np.nan_to_num(found[:, :, count - 20 : count].mean(2), nan=np.inf)  # (rates, seeds)
            rate = int(last.mean(1).argmin())
            best[name, count] = rates[rate], found[rate, :, :count], np.log10(last[rate])
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, count in zip(figure.subplots(1, 2, sharey=True), steps, strict=True):
        for name in NETWORKS:
            rate, curve, _ = best[name, count]
            axes.semilogy(np.exp(np.log(curve).mean(0)), label=f"{name}, rate {rate:.2g}")
        axes.set(xlabel="step", title=f"{depth} hidden layers, {count} steps")
        axes.legend(frameon=False)
    figure.axes[0].set_ylabel("training loss")
    table = [
        {"network": name}
        | {f"best rate, {count} steps": float(best[name, count][0]) for count in steps}
        | {f"loss, {count} steps": float(10 ** best[name, count][2].mean()) for count in steps}
        for name in NETWORKS
    ]
    few, many = steps
    verdicts = [
        verdict(
            f"after {count} steps log10 of the loss is lower with SELU than with {name}",
            best[name, count][2],
            best["SELU", count][2],
            MARGIN,
        )
        for name, count in (("ReLU", few), ("ReLU, batch norm", few), ("ReLU, batch norm", many))
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("selu_deep", study())
