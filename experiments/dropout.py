"""Dropout narrows the gap between training and test where examples are few, and the network tests better.

A wide network learns 500 images of Fashion-MNIST by heart: its training loss goes to 0 while its test loss
grows. With dropout it has to do without half of its hidden units in every step. Measured: both losses, with
no unit dropped; and the lowest test loss of the whole run, since a gap would also be narrow where training is
merely slow, and a run can be stopped early.

The notes' p is the probability of keeping a unit; `rate` = 1 - p is the fraction dropped. The notes' first
form multiplies by p at test time; `fnn.dropout` divides by p in training instead.

Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting"; the
notes, "Dropout".
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_GAP = 0.05  # of ln(test loss - training loss)
MARGIN_TEST = 0.0  # of ln(lowest test loss)
TEST, BATCH, RECORDS = 2000, 50, 20


def losses(train, test, rate, seed, examples: int, steps: int):
    """(RECORDS,) the training loss, test loss and test accuracy; a seed's runs differ in the rate alone."""
    net = fnn.serial(fnn.flatten, fnn.linear(256), fnn.relu, fnn.dropout(rate), fnn.linear(10))
    key, optimizer = jax.random.key(seed), fnn.adam(1e-3)
    rows = jax.random.permutation(key, len(train.x))[:examples]
    few = fnn.Examples(train.x[rows], train.y[rows])
    params, state = net.init(key, few.x[:1])

    def step(carry, rows_and_key):
        rows, key = rows_and_key

        def loss(params):
            logits, _ = net.apply(params, state, few.x[rows], train=True, key=key)
            return fnn.softmax_cross_entropy(logits, few.y[rows]).mean()

        params, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return (fnn.apply_updates(params, updates), opt_state), None

    def record(carry, inputs):
        carry, _ = jax.lax.scan(step, carry, inputs)
        fitted, unseen = (net.apply(carry[0], state, part.x)[0] for part in (few, test))
        loss = fnn.softmax_cross_entropy
        right = fnn.accuracy(unseen, test.y)
        return carry, (loss(fitted, few.y).mean(), loss(unseen, test.y).mean(), right.mean())

    keys = jax.random.split(jax.random.fold_in(key, 1), (RECORDS, steps // RECORDS))
    rows = jax.random.randint(jax.random.fold_in(key, 2), (*keys.shape, BATCH), 0, examples)
    return jax.lax.scan(record, (params, optimizer.init(params)), (rows, keys))[1]


@partial(jax.jit, static_argnames=("examples", "steps"))
def runs(train, test, rates, seeds, **sizes):
    """What `losses` gives for every rate and seed, (rates, seeds, RECORDS)."""
    run = partial(losses, train, test, **sizes)
    return jax.vmap(jax.vmap(run, (None, 0)), (0, None))(rates, seeds)


def study(
    seeds=range(5),
    *,
    mechanism=True,
    load=fnn.fashion_mnist,
    examples=500,
    steps=1000,
    rates=(0.0, 0.25, 0.5, 0.75),
) -> Study:
    """Compare dropout rates 0 and 0.5; without the mechanism, every rate is 0."""
    data = load()
    train, test = (fnn.Examples(fnn.to_float(jnp.asarray(p.x)), jnp.asarray(p.y)) for p in data[:2])
    test = fnn.Examples(test.x[:TEST], test.y[:TEST])
    given, sizes = jnp.array(rates) * mechanism, {"examples": examples, "steps": steps}
    fitted, unseen, right = map(np.asarray, runs(train, test, given, jnp.array(list(seeds)), **sizes))

    gap, lowest = (unseen - fitted)[:, :, -1], unseen.min(2)
    table = [
        {
            "dropout rate": rate,
            "training loss": float(fitted[i, :, -1].mean()),
            "test loss": float(unseen[i, :, -1].mean()),
            "gap": float(gap[i].mean()),
            "lowest test loss": float(lowest[i].mean()),
            "test accuracy": float(right[i, :, -1].mean()),
        }
        for i, rate in enumerate(rates)
    ]
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    times = np.arange(1, RECORDS + 1) * (steps // RECORDS)
    for i, rate in enumerate(rates):
        axes.plot(times, unseen[i].mean(0), color=f"C{i}", label=f"test, rate {rate}")
        axes.plot(times, fitted[i].mean(0), "--", color=f"C{i}", label=f"training, rate {rate}")
    axes.set(xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, None))
    figure.legend(loc="outside right upper", frameon=False)
    half = rates.index(0.5)
    narrower = "ln of the gap between test and training loss falls with dropout"
    better = "so does ln of the lowest test loss"
    verdicts = [
        verdict(narrower, np.log(gap[0]), np.log(gap[half]), MARGIN_GAP),
        verdict(better, np.log(lowest[0]), np.log(lowest[half]), MARGIN_TEST),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("dropout", study())
