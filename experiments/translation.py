"""Convolution moves its maps with the image, and global pooling forgets where; kernels of one place do not.

A convolution uses one kernel at every place, so a shifted image gives shifted feature maps ("translation-
equivariant responses"), as far as the border does not cut off or add anything. The largest (or mean) response
of each map is then the same wherever the image lies. A locally connected layer has a kernel of its own at
every place, and a fully connected one sees a shifted image as another image. Measured: how far the feature
maps of a shifted image are from the shifted feature maps, relative to their size; and the test accuracy on
digits shifted by up to 3 pixels, of networks that learned them in the middle of the frame only.

Source: the notes, "Convolution Layer" and "Pooling Layer"; LeCun et al. 1998, "Gradient-Based Learning
Applied to Document Recognition", section II.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_MOVED = 0.5  # of the maps' size: how much nearer the convolution's maps are to the shifted ones
MARGIN_FAR = 0.2  # of accuracy, at the largest shift
SHIFTS = range(4)  # pixels to the right
LARGEST, PADDING, BATCH, EXAMPLES = SHIFTS[-1], 5, 50, 500


def features(local):
    return [local(32, 5), fnn.relu]


def networks(mechanism):
    """By name: the layers that make the maps, and the head; without the mechanism no kernel is shared."""
    local = fnn.conv if mechanism else fnn.locally_connected
    return {
        "convolution, maximum": (local, fnn.global_max_pool),
        "convolution, flat": (local, fnn.flatten),
        "locally connected, maximum": (fnn.locally_connected, fnn.global_max_pool),
        "fully connected": (None, fnn.flatten),
    }


@cache
def built(local, head):
    """The network, the same one whenever it is asked for, so that it is compiled once."""
    layers = [fnn.flatten, fnn.linear(64), fnn.relu] if local is None else [*features(local), head]
    return fnn.serial(*layers, fnn.linear(10))


@partial(jax.jit, static_argnums=0)
def accuracies(net, x, y, seeds, epochs):
    """(seeds, shifts) the test accuracy on shifted digits after learning those in the middle."""

    def make(h):
        return net, fnn.softmax_cross_entropy, fnn.adam(3e-3)

    def run(seed):
        key = jax.random.key(seed)
        train, test = jax.random.permutation(key, len(x))[: 2 * EXAMPLES].reshape(2, EXAMPLES)
        state = fnn.init_state(make, None, key, x[:1])

        def epoch(state, number):
            return fnn.train_epoch(
                make, None, state, fnn.Examples(x[train], y[train]), number, batch_size=BATCH
            )

        state, _ = jax.lax.scan(epoch, state, epochs)

        def at(shift):
            part = fnn.Examples(jnp.roll(x[test], shift, axis=2), y[test])
            return fnn.evaluate(make, None, state, part)["accuracy"]

        return jax.lax.map(at, jnp.array(SHIFTS))

    return jax.lax.map(run, seeds)


@partial(jax.jit, static_argnums=0)
def moved_wrongly(local, x, seeds):
    """(seeds,) how far maps of shifted images are from shifted maps, relative to those."""
    net = fnn.serial(*features(local))

    def off(seed):
        params, state = net.init(jax.random.key(seed), x)
        moved = jnp.roll(net.apply(params, state, x)[0], LARGEST, axis=2)
        of_moved, _ = net.apply(params, state, jnp.roll(x, LARGEST, axis=2))
        return jnp.linalg.norm(of_moved - moved) / jnp.linalg.norm(moved)

    return jax.lax.map(off, seeds)


def study(seeds=range(5), *, mechanism=True, epochs=20) -> Study:
    """Compare the networks; without the mechanism the convolutions are locally connected too."""
    data = fnn.digits()
    x, y = (jnp.concatenate([jnp.asarray(a), b]) for a, b in zip(data.train, data.test, strict=True))
    x = jnp.pad(fnn.to_float(x), [(0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)])
    seeds, nets = jnp.array(list(seeds)), networks(mechanism)
    found = {
        name: np.asarray(accuracies(built(*net), x, y, seeds, jnp.arange(epochs)))
        for name, net in nets.items()
    }
    wrong = {
        name: np.asarray(moved_wrongly(nets[name][0], x[:20], seeds))
        for name in ("convolution, maximum", "locally connected, maximum")
    }
    table = [
        {"network": name}
        | {f"accuracy, shift {shift}": float(each[:, shift].mean()) for shift in SHIFTS}
        | {"maps off by": float(np.mean(wrong[name])) if name in wrong else "–"}
        for name, each in found.items()
    ]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, each in found.items():
        axes.plot(SHIFTS, each.mean(0), "o-", label=name)
    axes.set(xlabel="shift of the test images (pixels)", ylabel="test accuracy", xticks=SHIFTS)
    axes.legend(frameon=False)
    moved = "feature maps of a shifted image are nearer to the shifted maps with shared kernels than without"
    far = f"shifted by {LARGEST}, convolution and the maximum are more accurate than"
    pooled = found["convolution, maximum"][:, LARGEST]
    verdicts = [
        verdict(moved, *list(wrong.values())[::-1], MARGIN_MOVED),
        verdict(f"{far} a fully connected network", pooled, found["fully connected"][:, LARGEST], MARGIN_FAR),
        verdict(f"{far} convolution alone", pooled, found["convolution, flat"][:, LARGEST], MARGIN_FAR),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("translation", study())
