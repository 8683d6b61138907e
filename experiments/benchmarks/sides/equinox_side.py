"""The workloads in Equinox and Optax, as their documentation writes them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from data import BATCH, images


def cnn(key):
    keys = jax.random.split(key, 4)
    return eqx.nn.Sequential([
        eqx.nn.Conv2d(1, 32, 3, padding=1, key=keys[0]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.MaxPool2d(2, 2),
        eqx.nn.Conv2d(32, 64, 3, padding=1, key=keys[1]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.MaxPool2d(2, 2),
        eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(3136, 128, key=keys[2]), eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Linear(128, 10, key=keys[3]),
    ])  # fmt: skip


def mlp(key):
    return eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), eqx.nn.MLP(784, 10, 128, depth=1, key=key)])


def loss(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()


def training(model, steps):
    x, y = images(steps * BATCH)
    x, y = jnp.asarray(x.transpose(0, 3, 1, 2)), jnp.asarray(y)
    optimizer = optax.adam(1e-3)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state, x, y):
        grads = eqx.filter_grad(loss)(model, x, y)
        updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), state

    def run():
        nonlocal model, state
        for first in range(0, len(x), BATCH):
            model, state = step(model, state, x[first : first + BATCH], y[first : first + BATCH])
        jax.block_until_ready(state)

    return run


PREPARE = {
    "cnn": lambda: training(cnn(jax.random.key(0)), 20),
    "mlp": lambda: training(mlp(jax.random.key(0)), 500),
}
VERSIONS = {"jax": jax.__version__, "equinox": eqx.__version__, "optax": optax.__version__}
