"""Annealing momentum from 0.5 to 0.99 gains over 0.5 without noise, over 0.99 with batches, not the reverse.

The notes say that optimization "can sometimes benefit a little" from a momentum that rises during training.
Measured: ln of the training loss of an MLP on digits, each setting at its best rate of one grid, in steps
with the whole data (no noise) and in steps with batches of 50. Sometimes it is so: without noise, annealing
gains over the 0.5 it starts from. But a velocity grows to α / (1 - ρ) gradients, 50 times more at 0.99 than
at 0.5, so a rate that is right at the end is too small before. With α_t = α (1 - ρ_t) that quotient stays
("annealed, kept"), and with batches, annealing so gains over 0.99. These are two of eight pairs: in the means
of the table no schedule beats 0.99 without noise or 0.5 with batches, and the other two gains are small.

Neither gains over the best constant of the notes' list. Without noise that one is clearly ahead, with batches
in the mean only, so no verdict claims it. The best of four has a small advantage, being chosen on the same
seeds.

All settings, rates and seeds are one vmapped program: a schedule's end-points are values.

Source: the notes, "SGD with Momentum"; Sutskever et al. 2013, "On the importance of initialization and
momentum in deep learning", which has such schedules for deep autoencoders.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure

import fnn

GAIN = 0.25  # ln of the loss that annealing gains over a constant
BEHIND = 0.1  # and by which it is behind the best one
SETTINGS = {  # momentum and the factor of the learning rate, first and last
    "0.5": (0.5, 0.5, 1, 1),
    "0.9": (0.9, 0.9, 1, 1),
    "0.95": (0.95, 0.95, 1, 1),
    "0.99": (0.99, 0.99, 1, 1),
    "annealed": (0.5, 0.99, 1, 1),
    "annealed, kept": (0.5, 0.99, 0.5, 0.01),
}
CONSTANTS = list(SETTINGS)[:4]
RATES = 10.0 ** np.arange(-2.75, 0.6, 0.25)
NET = fnn.serial(fnn.flatten, fnn.mlp((16,), 10))


def runs(seeds, x, y, rows):
    """(settings, rates, seeds, steps) the batches' losses; (settings, rates, seeds) the final one."""
    steps = rows.shape[1]

    def run(setting, rate, seed, rows):
        first, last, factor, last_factor = setting
        schedule = fnn.polynomial(rate * factor, steps, rate * last_factor)
        optimizer = fnn.momentum(schedule, fnn.polynomial(first, steps, last))
        params, _ = NET.init(jax.random.key(seed), x)

        def loss(params, rows):
            return fnn.softmax_cross_entropy(NET.apply(params, {}, x[rows])[0], y[rows]).mean()

        def step(carry, rows):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, rows)
            updates, state = optimizer.update(grads, state, params)
            return (fnn.apply_updates(params, updates), state), value

        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), rows)
        return losses, loss(params, jnp.arange(len(x)))

    over_seeds = jax.vmap(run, (None, None, 0, 0))
    over_all = jax.vmap(jax.vmap(over_seeds, (None, 0, None, None)), (0, None, None, None))
    settings = jnp.array(list(SETTINGS.values()), jnp.float32)
    return jax.jit(over_all)(settings, jnp.asarray(RATES, jnp.float32), jnp.array(seeds), rows)


@cache
def measured(problem, seeds, steps):
    """By setting: its best rate, ln of the last loss for each seed, and the curve at that rate."""
    data = fnn.digits().train
    examples = 300 if problem == "whole" else 1400
    x, y = fnn.standardize(data.x[:examples], fnn.moments(data.x)), jnp.asarray(data.y[:examples])
    if problem == "whole":
        rows = np.broadcast_to(np.arange(examples), (len(seeds), steps, examples))
    else:
        rows = np.stack([np.random.default_rng(seed).integers(examples, size=(steps, 50)) for seed in seeds])
    losses, ends = map(np.asarray, runs(seeds, x, y, rows))
    ends = np.log(np.nan_to_num(ends, nan=np.inf) + 1e-7)
    best = ends.mean(2).argmin(1)
    return {
        name: (RATES[b], ends[i, b], np.exp(np.log(losses[i, b] + 1e-7).mean(0)))
        for i, (name, b) in enumerate(zip(SETTINGS, best, strict=True))
    }


def study(seeds=range(10), *, mechanism=True, whole_steps=60, batch_steps=300) -> Study:
    """Compare annealed momenta with constants; without the mechanism, constants with those on other seeds."""
    steps = {"whole": whole_steps, "batches": batch_steps}
    seeds = tuple(seeds)
    found = {problem: measured(problem, seeds, steps[problem]) for problem in steps}

    def end(problem, name):
        return found[problem][name][1]

    def below(problem, lower, higher, margin):
        claim = f"{problem}: the loss with {lower} is below that with {higher}, in ln"
        if mechanism:
            return verdict(claim, end(problem, higher), end(problem, lower), margin)
        again = measured(problem, others(seeds), steps[problem])
        return verdict(claim, end(problem, higher), again[higher][1], margin)

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, problem in zip(figure.subplots(1, 2), found, strict=True):
        for name, (_, _, losses) in found[problem].items():
            smooth = np.convolve(losses, np.full(10, 0.1), "valid")
            axes.semilogy(np.arange(len(smooth)) + 5, smooth, "-" if name in CONSTANTS else "--", label=name)
        axes.set(title=problem, xlabel="step", ylabel="training loss")
    figure.legend(
        *axes.get_legend_handles_labels(), title="momentum", loc="outside right upper", frameon=False
    )
    table = [
        {"momentum": name}
        | {f"rate, {problem}": float(found[problem][name][0]) for problem in found}
        | {f"ln loss, {problem}": float(end(problem, name).mean()) for problem in found}
        for name in SETTINGS
    ]
    best = min(CONSTANTS, key=lambda name: end("whole", name).mean())
    verdicts = [
        below("whole", "annealed", "0.5", GAIN),
        below("batches", "annealed, kept", "0.99", GAIN),
        below("whole", best, "annealed", BEHIND),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("momentum_schedule", study())
