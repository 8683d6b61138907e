"""The weights of a linear classifier are templates, one a class: the score is large where x resembles w.

w·x = ‖w‖ ‖x‖ cos(w, x), so among images of one length the score ranks by resemblance; a brighter image
scores more without resembling more, which the notes leave out. Nor is a template its class's mean: the first
step from zero weights is proportional to the mean's deviation from the mean of all images, where classes are
equally frequent; later ones keep what tells the classes apart. Measured on Fashion-MNIST: the correlation
over pixels of each learned column with each class's deviation, and the test accuracy by the most resembling
template.

Source: the notes, "Linear Classifier"; Hastie, Tibshirani and Friedman, "The Elements of Statistical
Learning", section 4.4.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_LEARNED = 0.2  # of correlation, by which a learned column exceeds its initial values
MARGIN_OWN = 0.1  # of correlation, by which the own class's mean exceeds the next
BATCH, RATE = 100, 0.01


def kernels(x, y, seed, classes: int, steps: int) -> jax.Array:
    """(3, inputs, classes): the kernel at first, after a tenth of the steps, and after all."""
    net = fnn.linear(classes, kernel_init=partial(fnn.truncated_normal, stddev=0.001))
    key, optimizer = jax.random.key(seed), fnn.sgd(RATE)
    first, state = net.init(key, jax.ShapeDtypeStruct((1, x.shape[1]), x.dtype))
    rows = jax.random.randint(jax.random.fold_in(key, 1), (10, steps // 10, BATCH), 0, len(x))

    def step(carry, rows):
        def loss(params):
            logits, _ = net.apply(params, state, x[rows])
            return fnn.softmax_cross_entropy(logits, y[rows]).mean()

        params, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return (fnn.apply_updates(params, updates), opt_state), None

    def tenth(carry, rows):
        carry, _ = jax.lax.scan(step, carry, rows)
        return carry, carry[0]["kernel"]

    _, found = jax.lax.scan(tenth, (first, optimizer.init(first)), rows)
    return jnp.stack([first["kernel"], found[0], found[-1]])


def standardized(columns: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 over the pixels."""
    return (columns - columns.mean(-2, keepdims=True)) / columns.std(-2, keepdims=True)


def study(seeds=range(5), *, mechanism=True, load=fnn.fashion_mnist, steps=2000) -> Study:
    """Compare learned columns with class means; without the mechanism, columns that have learned nothing."""
    data = load()
    moments, names = fnn.moments(data.train.x), data.classes
    x, test = (np.asarray(fnn.standardize(p.x, moments)).reshape(len(p.x), -1) for p in data[:2])
    y = data.train.y
    run = partial(kernels, classes=len(names), steps=steps if mechanism else 0)
    kernel = np.asarray(jax.jit(jax.vmap(run, (None, None, 0)))(x, y, jnp.array(list(seeds))))
    # kernel: (seeds, 3, inputs, classes)
    means = np.stack([x[y == label].mean(0) for label in range(len(names))], 1) - x.mean(0)[:, None]
    correlation = standardized(kernel).swapaxes(2, 3) @ standardized(means) / len(means)
    own = np.diagonal(correlation, axis1=2, axis2=3).mean(-1)  # (seeds, 3)
    other = np.where(np.eye(len(names), dtype=bool), -1, correlation).max(3).mean(-1)
    alike = (test - x.mean(0)) @ (kernel / np.linalg.norm(kernel, axis=2, keepdims=True))
    right = (alike.argmax(-1) == data.test.y).mean((0, 2))

    columns = ("initial values", f"after {steps // 10} steps", f"after {steps} steps")
    table = [
        {
            "columns": name,
            "correlation with the own class's mean": float(own[:, time].mean()),
            "with the next": float(other[:, time].mean()),
            "accuracy by resemblance": float(right[time]),
        }
        for time, name in enumerate(columns)
    ]
    figure = Figure(figsize=(9, 3), layout="constrained")
    rows = {"class mean\n− mean of all": means, columns[1]: kernel[0, 1], columns[2]: kernel[0, 2]}
    for row, (axes, images) in enumerate(zip(figure.subplots(3, len(names)), rows.values(), strict=True)):
        for ax, image, label in zip(axes, images.T, names, strict=True):
            limit = float(np.abs(image).max())
            pixels = image.reshape(data.train.x.shape[1:3])
            ax.imshow(pixels, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.set_title(label if row == 0 else "", fontsize=8)
        axes[0].set_ylabel(list(rows)[row], fontsize=7)
    learned = "a learned column correlates with its class's mean more than its initial values"
    best = "a learned column correlates with its own class's mean more than with any other's"
    verdicts = [
        verdict(learned, own[:, 2], own[:, 0], MARGIN_LEARNED),
        verdict(best, own[:, 2], other[:, 2], MARGIN_OWN),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("linear_templates", study())
