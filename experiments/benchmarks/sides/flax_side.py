"""The workloads in Flax (NNX) and Optax, as their documentation writes them: a jitted step in a loop."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from data import BATCH, EPOCHS, digits, images
from flax import nnx


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.linear1 = nnx.Linear(3136, 128, rngs=rngs)
        self.linear2 = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), window_shape=(2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), window_shape=(2, 2), strides=(2, 2))
        x = nnx.relu(self.linear1(x.reshape(x.shape[0], -1)))
        return self.linear2(x)


class DeepCNN(nnx.Module):
    def __init__(self, rngs):
        stages = ((1, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 1), (128, 128, 1))
        self.convs = nnx.List(
            nnx.Conv(inputs, features, (3, 3), strides=stride, use_bias=False, rngs=rngs)
            for inputs, features, stride in stages
        )
        self.norms = nnx.List(nnx.BatchNorm(features, rngs=rngs) for _, features, _ in stages)
        self.head = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(norm(conv(x)))
        return self.head(x.mean((1, 2)))


class MLP(nnx.Module):
    def __init__(self, inputs, hidden, rngs):
        self.linear1 = nnx.Linear(inputs, hidden, rngs=rngs)
        self.linear2 = nnx.Linear(hidden, 10, rngs=rngs)

    def __call__(self, x):
        return self.linear2(nnx.relu(self.linear1(x.reshape(x.shape[0], -1))))


def loss(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


@nnx.jit
def train_step(model, optimizer, x, y):
    optimizer.update(model, nnx.grad(loss)(model, x, y))


def on_batches(model, examples, batch, epochs=1):
    x, y = map(jnp.asarray, examples)
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    def run():
        for _ in range(epochs):
            for first in range(0, len(x), batch):
                train_step(model, optimizer, x[first : first + batch], y[first : first + batch])
        jax.block_until_ready(nnx.state(model))

    return run


def cnn_population(members=8, steps=6):
    """An ensemble by `vmap` over split models, as the guide to transformations shows."""
    x, y = map(jnp.asarray, images(steps * BATCH))
    keys = jax.random.split(jax.random.key(0), members)

    @nnx.vmap
    def create(key, rate):
        model = CNN(nnx.Rngs(key))
        transform = optax.inject_hyperparams(optax.adam)(learning_rate=rate)
        return model, nnx.Optimizer(model, transform, wrt=nnx.Param)

    models, optimizers = create(keys, jnp.asarray(np.geomspace(1e-4, 1e-2, members)))
    step = nnx.jit(nnx.vmap(train_step.__wrapped__, in_axes=(0, 0, None, None)))

    def run():
        for first in range(0, len(x), BATCH):
            step(models, optimizers, x[first : first + BATCH], y[first : first + BATCH])
        jax.block_until_ready(nnx.state(models))

    return run


def inference(batch, calls):
    model, (x, _) = CNN(nnx.Rngs(0)), images(batch)
    forward, x = nnx.jit(lambda model, x: model(x)), jnp.asarray(x)

    def run():
        for _ in range(calls):
            jax.block_until_ready(forward(model, x))

    return run


PREPARE = {
    "cnn": lambda: on_batches(CNN(nnx.Rngs(0)), images(20 * BATCH), BATCH),
    "deep_cnn": lambda: on_batches(DeepCNN(nnx.Rngs(0)), images(3 * BATCH), BATCH),
    "mlp": lambda: on_batches(MLP(784, 128, nnx.Rngs(0)), images(500 * BATCH), BATCH),
    "digits_mlp": lambda: on_batches(MLP(64, 64, nnx.Rngs(0)), digits(), 64, EPOCHS),
    "cnn_population": cnn_population,
    "inference_1": lambda: inference(1, 200),
    "inference_1000": lambda: inference(1000, 5),
}
VERSIONS = {"jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__}
