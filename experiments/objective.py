"""The objective of the experiments about hyperparameter search: a real network on few real examples.

An MLP with dropout learns 300 digits by momentum descent. Four hyperparameters are searched, of which the
learning rate matters most. Each seed has other training examples, initial values and trials; what a search
chose by its validation loss is judged by the loss on the rest of the data.
"""

from functools import cache
from typing import NamedTuple

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
    },
    allowed=lambda h: 0 <= h["momentum"] < 1 and 0 <= h["dropout rate"] < 1,
)
EPOCHS, BATCH, TRAIN, VALIDATION = 16, 30, 300, 500
NAMES = list(SPACE.distributions)


def make(h):
    rate, momentum, strength, dropped = h
    net = fnn.serial(fnn.flatten, fnn.linear(32), fnn.relu, fnn.dropout(dropped), fnn.linear(10))
    penalties = (lambda params: fnn.l2(params, strength),)
    return net, fnn.softmax_cross_entropy, fnn.momentum(rate, momentum=momentum), penalties


class Losses(NamedTuple):
    """Of every run of some searches; infinite where it diverged."""

    training: np.ndarray  # (seeds, trials, EPOCHS) of each epoch, the mean over its batches
    validation: np.ndarray  # (seeds, trials, EPOCHS) after each epoch
    test: np.ndarray  # (seeds, trials) at the end


def run(x, y, h, seed):
    """The losses of one run."""
    order = jax.random.permutation(jax.random.key(seed), len(x))
    train, held, unseen = (
        fnn.Examples(x[rows], y[rows]) for rows in jnp.split(order, [TRAIN, TRAIN + VALIDATION])
    )
    state = fnn.init_state(make, h, jax.random.key(seed), train.x[:1])

    def finite(value):
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    def loss(state, part):
        return finite(fnn.evaluate(make, h, state, part)["loss"])

    def epoch(state, number):
        state, measured = fnn.train_epoch(make, h, state, train, number, batch_size=BATCH)
        return state, (finite(measured.loss.mean()), loss(state, held))

    state, (training, validation) = jax.lax.scan(epoch, state, jnp.arange(EPOCHS))
    return Losses(training, validation, loss(state, unseen))


@jax.jit
def _trained(x, y, values, seeds):
    return jax.vmap(lambda h, seed: jax.vmap(lambda h: run(x, y, h, seed))(h))(values, seeds)


def trained(trials, seeds):
    """The losses of every trial.

    Args:
        trials: for each seed the trials of a search, as many for each.
        seeds: of the data and the initial values.
    """
    data = fnn.digits()
    x = jnp.concatenate([jnp.asarray(part.x) for part in data[:2]]) / 255.0
    y = jnp.concatenate([jnp.asarray(part.y) for part in data[:2]])
    values = [[[trial.hyperparameters[name] for name in NAMES] for trial in row] for row in trials]
    values = np.moveaxis(np.array(values, np.float32), -1, 0)
    return jax.device_get(_trained(x, y, tuple(values), jnp.array(list(seeds))))


def random_trials(count, seeds, space=SPACE):
    """For each seed the trials of a random search."""
    return [next(fnn.random_search(count).rounds(space, EPOCHS, seed)).trials for seed in seeds]


@cache
def random_losses(count, seeds):
    """Their losses, trained once for all studies of a process."""
    return trained(random_trials(count, seeds), seeds)


def chosen(losses):
    """(seeds,) the test loss of the trial that ends with the lowest validation loss."""
    best = losses.validation[:, :, -1].argmin(1)
    return losses.test[np.arange(len(best)), best]


def only(losses, kept):
    """The losses of those trials alone, (K,) by number, the same or others for each seed, (seeds, K)."""
    rows = np.arange(len(losses.test))[:, None]
    return Losses(*(each[rows, kept] for each in losses))
