"""The objective of the experiments about hyperparameter search: a real network on few real examples.

An MLP with dropout learns 300 digits by momentum descent. Four hyperparameters are searched, of which the
learning rate matters most. Each seed has other training examples, initial values and trials; what a search
chose by its validation loss is judged by the loss on the rest of the data.
"""

import jax
import jax.numpy as jnp
import numpy as np

import fnn

SPACE = fnn.Space(
    {
        "learning rate": fnn.log_uniform(1e-4, 10.0),
        "momentum": fnn.uniform(0.0, 0.95),
        "l2 strength": fnn.log_uniform(1e-7, 1e-2),
        "dropout rate": fnn.uniform(0.0, 0.5),
    }
)
EPOCHS, BATCH, TRAIN, VALIDATION = 16, 30, 300, 500
NAMES = list(SPACE.distributions)


def make(h):
    rate, momentum, strength, dropped = h
    net = fnn.serial(fnn.flatten, fnn.linear(32), fnn.relu, fnn.dropout(dropped), fnn.linear(10))
    penalties = (lambda params: fnn.l2(params, strength),)
    return net, fnn.softmax_cross_entropy, fnn.momentum(rate, momentum=momentum), penalties


def curve(x, y, h, seed):
    """(EPOCHS, 2) validation and test loss after each epoch; a run that diverges has infinite ones."""
    order = jax.random.permutation(jax.random.key(seed), len(x))
    train, held, unseen = (
        fnn.Examples(x[rows], y[rows]) for rows in jnp.split(order, [TRAIN, TRAIN + VALIDATION])
    )
    state = fnn.init_state(make, h, jax.random.key(seed), train.x[:1])

    def epoch(state, number):
        state, _ = fnn.train_epoch(make, h, state, train, number, batch_size=BATCH)
        losses = jnp.stack([fnn.evaluate(make, h, state, part)["loss"] for part in (held, unseen)])
        return state, jnp.where(jnp.isfinite(losses), losses, jnp.inf)

    return jax.lax.scan(epoch, state, jnp.arange(EPOCHS))[1]


@jax.jit
def _curves(x, y, values, seeds):
    return jax.vmap(lambda h, seed: jax.vmap(lambda h: curve(x, y, h, seed))(h))(values, seeds)


def curves(trials, seeds):
    """(seeds, trials, EPOCHS, 2) losses.

    Args:
        trials: for each seed the trials of a search, as many for each.
        seeds: of the data and the initial values.
    """
    data = fnn.digits()
    x = jnp.concatenate([jnp.asarray(part.x) for part in data[:2]]) / 255.0
    y = jnp.concatenate([jnp.asarray(part.y) for part in data[:2]])
    values = [[[trial.hyperparameters[name] for name in NAMES] for trial in row] for row in trials]
    values = np.moveaxis(np.array(values, np.float32), -1, 0)
    return np.asarray(_curves(x, y, tuple(values), jnp.array(list(seeds))))


def random_trials(count, seeds):
    """For each seed the trials of a random search."""
    return [next(fnn.random_search(count).rounds(SPACE, EPOCHS, seed)).trials for seed in seeds]


def chosen(losses):
    """(…) the test loss of the trial that ends with the lowest validation loss, of (…, trials, EPOCHS, 2)."""
    last = losses[..., -1, :]
    best = last[..., 0].argmin(-1)
    return np.take_along_axis(last[..., 1], best[..., None], -1)[..., 0]
