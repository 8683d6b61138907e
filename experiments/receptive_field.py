"""An output sees as many pixels as the formula says, and mostly those in the middle half of what it sees.

Size = 1 + Σ (kₗ - 1) dₗ ∏_{i<l} sᵢ over layers of window k, dilation d and stride s; the notes' 1 + L (K - 1)
is that of L layers without strides and dilations. Measured: the input pixels that the gradient of one inner
output reaches, with positive kernels, in random networks of convolutions and pools; and how that gradient is
spread: the middle half of its width holds more than half of it, so the effective field is smaller.

Source: Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks"; Luo et al. 2016,
"Understanding the Effective Receptive Field"; the notes, "Convolution Layer".
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

AGREES = -0.5  # pixels: less the difference between formula and footprint, which are whole numbers
EXCEEDS = 1.0  # pixels by which the notes' formula misses
CONCENTRATED = 0.1  # share of the gradient that the middle half holds beyond its share of the width
IMAGE = jax.ShapeDtypeStruct((1, 97, 97, 1), "float32")


def random_net(seed: int, layers: int) -> tuple[fnn.Layer, int]:
    """Convolutions of random window, stride and dilation, and what the notes' formula says of them."""
    draw, parts, notes = np.random.default_rng(seed), [], 1
    for number in range(layers):
        size, dilation = int(draw.choice([3, 5])), int(draw.choice([1, 2]))
        stride = 2 if number == 1 else 1  # one in each, so that the output keeps an interior
        parts.append(fnn.conv(4, size, stride=stride, dilation=dilation))
        notes += size - 1
    return fnn.serial(*parts, fnn.avg_pool(2)), notes + 1


def footprint(net: fnn.Layer, seed: int) -> np.ndarray:
    """(97, 97) the gradient of the middle output for the input, under positive kernels."""
    params, state = net.init(jax.random.key(seed), IMAGE)
    positive = jax.tree.map(jnp.abs, params)

    def middle(x, params):
        y, _ = net.apply(params, state, x)
        return y[0, y.shape[1] // 2, y.shape[2] // 2].sum()

    return np.asarray(jax.jit(jax.grad(middle))(jnp.zeros(IMAGE.shape), positive))[0, :, :, 0]


def excess(across: np.ndarray) -> float:
    """By how much the middle half of the footprint holds more of the gradient than its width's share."""
    first, last = np.flatnonzero(across)[[0, -1]]
    width = last - first + 1
    inner = slice(first + width // 4, last + 1 - width // 4)
    return float(across[inner].sum() / across.sum() - (inner.stop - inner.start) / width)


def study(seeds=range(5), *, mechanism=True, layers=4) -> Study:
    """Compare the formula with the footprint, and the footprint with an even one.

    Without the mechanism, windows count without strides and dilations, and one even layer sees all at once.
    """
    rows, measured, formula, notes, middle, gradients = ([] for _ in range(6))
    for seed in seeds:
        net, plain = random_net(seed, layers)
        seen = footprint(net, seed)
        across = seen.sum(0)
        reached = np.flatnonzero(across)
        width = int(reached[-1] - reached[0] + 1)
        by_formula = fnn.receptive_field(net, IMAGE).size[1] if mechanism else plain
        one_layer = fnn.conv(1, width, kernel_init=partial(fnn.constant, value=1.0))
        middle.append(excess(across if mechanism else footprint(one_layer, seed).sum(0)))
        measured.append(width)
        formula.append(by_formula)
        notes.append(plain)
        rows.append({"network": seed, "measured": width, "formula": by_formula, "notes": plain})
        gradients.append(seen / seen.max())
    off = -np.abs(np.subtract(measured, formula))
    verdicts = [
        verdict("the formula gives the footprint's width, less than half a pixel off", off, 0 * off, AGREES),
        verdict("the footprint is wider than the notes' formula says", formula, notes, EXCEEDS),
        verdict(
            "the middle half holds more of the gradient than of the width", middle, 0 * off, CONCENTRATED
        ),
    ]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    image, profile = figure.subplots(1, 2)
    image.imshow(gradients[0], cmap="viridis")
    image.set(title="gradient of one output (first network)", xlabel="pixel", ylabel="pixel")
    for seed, seen in zip(seeds, gradients, strict=True):
        profile.plot(seen.sum(0) / seen.sum(), label=f"network {seed}")
    profile.set(title="summed over rows", xlabel="pixel", ylabel="share of the gradient")
    profile.legend(frameon=False)
    return Study(rows, verdicts, figure)


if __name__ == "__main__":
    publish("receptive_field", study())
