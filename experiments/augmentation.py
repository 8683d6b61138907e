"""Augmentation helps most where data are few, and only by changes that occur among the images to recognise.

A network learns from 30 to 1000 digits, in the same number of steps; each batch is shifted by up to half a
pixel, or mirrored, or stays as it is. Measured: the accuracy on 797 other digits by the same writers. With
1000 examples shifts cost accuracy in these 1000 steps, which says nothing of longer runs. The notes name
changes without a condition; mirroring, which no writer does, costs accuracy however few the data are.

Source: Simard, Steinkraus and Platt 2003, "Best Practices for Convolutional Neural Networks Applied to Visual
Document Analysis"; the notes, "Data Augmentation".
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_GAIN = 0.005  # of the accuracy
BATCH, LARGEST = 50, 1000
KINDS = {
    "none": lambda key, x: x,
    "shifted": partial(fnn.random_shift, pixels=0.5),
    "mirrored": fnn.random_flip,
}


def accuracy(x, y, kind, size, seed, steps: int) -> jax.Array:
    """The test accuracy; the runs of a seed share initial values, batches of one size, and test digits."""
    net, optimizer = fnn.serial(fnn.flatten, fnn.mlp((128,), 10)), fnn.adam(1e-3)
    key = jax.random.key(seed)
    order = jax.random.permutation(key, len(x))
    params, state = net.init(key, x[:1])

    def step(carry, key):
        rows = order[jax.random.randint(key, (BATCH,), 0, size)]
        images = jnp.stack([augment(jax.random.fold_in(key, 1), x[rows]) for augment in KINDS.values()])[kind]

        def loss(params):
            return fnn.softmax_cross_entropy(net.apply(params, state, images)[0], y[rows]).mean()

        params, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return (fnn.apply_updates(params, updates), opt_state), None

    keys = jax.random.split(jax.random.fold_in(key, 1), steps)
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    test = order[LARGEST:]
    return fnn.accuracy(net.apply(params, state, x[test])[0], y[test]).mean()


@partial(jax.jit, static_argnames="steps")
def accuracies(x, y, kinds, sizes, seeds, steps: int):
    """The test accuracy of every run, (kinds, sizes, seeds)."""
    run = partial(accuracy, x, y, steps=steps)
    for axis in (2, 1, 0):
        run = jax.vmap(run, [0 if i == axis else None for i in range(3)])
    return run(kinds, sizes, seeds)


def study(seeds=range(20), *, mechanism=True, sizes=(30, 100, 300, LARGEST), steps=1000) -> Study:
    """Compare the changes at each size; without the mechanism, nothing is changed."""
    data = fnn.digits()
    x, y = (np.concatenate([a, b]) for a, b in zip(data.train, data.test, strict=True))
    kinds = jnp.arange(len(KINDS)) * mechanism
    found = accuracies(
        fnn.to_float(jnp.asarray(x)), jnp.asarray(y), kinds, jnp.array(sizes), jnp.array(list(seeds)), steps
    )
    none, shifted, mirrored = np.asarray(found)  # (sizes, seeds) each
    gain, mean = shifted - none, np.asarray(found).mean(2)
    table = [
        {
            "examples": size,
            "accuracy": float(mean[0, i]),
            "shifted": float(mean[1, i]),
            "mirrored": float(mean[2, i]),
            "gain by shifts": float(gain[i].mean()),
        }
        for i, size in enumerate(sizes)
    ]
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, name in enumerate(KINDS):
        left.plot(sizes, mean[i], "o-", color=f"C{i}", label=name)
    for i, values in ((1, gain), (2, mirrored - none)):
        spread = values.std(1, ddof=1) / np.sqrt(values.shape[1])
        right.errorbar(sizes, 100 * values.mean(1), 100 * spread, fmt="o-", color=f"C{i}", capsize=3)
    right.axhline(0, color="C0")
    left.set(xlabel="training examples", ylabel="test accuracy", xscale="log")
    right.set(xlabel="training examples", ylabel="gain (points, ± standard error)", xscale="log")
    left.legend(frameon=False)
    most = "shifts gain more accuracy with the fewest examples than with the most"
    verdicts = [
        verdict("shifts raise the accuracy with the fewest examples", shifted[0], none[0], MARGIN_GAIN),
        verdict(most, gain[0], gain[-1], MARGIN_GAIN),
        verdict("mirrors lower it", none[0], mirrored[0], MARGIN_GAIN),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("augmentation", study())
