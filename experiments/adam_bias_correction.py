"""Adam's means start at zero; without the bias correction its first steps are too large.

With b1 = 0.9, b2 = 0.999 and a constant gradient the first uncorrected step is (1 - b1) / √(1 - b2) ≈ 3.2
learning rates and the largest 6.6; corrected, every step is one. Changing gradients lie around these numbers.
Measured: the largest change of any weight in the first 20 steps, in learning rates.

Source: Kingma and Ba 2015, "Adam", section 3; the notes, "Adam". t starts at 1, not at 0.
"""

import jax
import jax.numpy as jnp
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN = 1.0  # learning rates by which the largest step of the uncorrected form exceeds the corrected one's
STEPS, RATE = 20, 1e-3


def largest_changes(seed: int, bias_correction: bool) -> jax.Array:
    """(STEPS,) the largest change of a weight in each step, in learning rates, on batches of digits."""
    data = fnn.split(fnn.digits(), validation=0.2, seed=seed).train
    net = fnn.serial(fnn.flatten, fnn.mlp((64,), 10))
    optimizer = fnn.adam(RATE, bias_correction=bias_correction)
    params, state = net.init(jax.random.key(seed), data.x[:1])
    rows = jax.random.permutation(jax.random.key(seed), len(data.x))[: STEPS * 50].reshape(STEPS, 50)

    def step(carry, rows):
        params, opt_state = carry

        def loss(params):
            logits, _ = net.apply(params, state, fnn.to_float(jnp.asarray(data.x)[rows]))
            return fnn.softmax_cross_entropy(logits, jnp.asarray(data.y)[rows]).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        largest = jnp.max(jnp.stack([jnp.abs(update).max() for update in jax.tree.leaves(updates)]))
        return (fnn.apply_updates(params, updates), opt_state), largest / RATE

    return jax.lax.scan(step, (params, optimizer.init(params)), rows)[1]


def study(seeds=range(5), *, mechanism=True) -> Study:
    """Compare Adam with and without correction; without the mechanism, two uncorrected ones."""
    without = [largest_changes(seed, False) for seed in seeds]
    corrected = [largest_changes(seed, mechanism) for seed in seeds]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, runs in (("without correction", without), ("with correction", corrected)):
        axes.plot(range(1, STEPS + 1), jnp.stack(runs).mean(0), label=name)
    axes.set(xlabel="step", ylabel="largest change of a weight / learning rate")
    axes.legend(frameon=False)
    sides = {"without correction": without, "with correction": corrected}
    table = [
        {
            "Adam": name,
            "first step": float(jnp.stack(runs)[:, 0].mean()),
            "largest": float(jnp.stack(runs).max()),
        }
        for name, runs in sides.items()
    ]
    claim = "the largest of the first 20 uncorrected steps exceeds the largest corrected one"
    ahead, behind = ([float(run.max()) for run in runs] for runs in (without, corrected))
    return Study(table, [verdict(claim, ahead, behind, MARGIN)], figure)


if __name__ == "__main__":
    publish("adam_bias_correction", study())
