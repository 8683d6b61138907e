"""Gradients derived by hand agree with jax.grad to rounding; the gradient of a batch estimates the whole one.

The two worked examples of the notes, f = ‖Wx‖² and f = ‖tanh(W₂ tanh(W₁x + b₁) + b₂)‖², in float64. In the
second the notes give ∂f/∂y₃ as 2(1 + y₄)(1 - y₄); the chain rule gives 2y₄ ⊙ (1 + y₄) ⊙ (1 - y₄), and
without its factor y₄ every gradient is wrong.

A batch's loss is a mean over its |Ω| examples, not the notes' 1/n: then the mean of the batch gradients over
a partition is the whole gradient. The deviation of a batch drawn at random, with replacement, is
√(tr Cov / |Ω|). Measured: correct digits, -log₁₀ of the largest error over the largest element, and the
slope of the deviation on logarithmic axes. Without the mechanism the notes' form stands in for the right one,
and a batch holds copies of one example, which average nothing out.

Source: the notes, "Backpropagation"; Robbins and Monro 1951, "A Stochastic Approximation Method".
"""

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

import fnn

DIGITS, SLOPE = 9.0, 0.05  # more correct digits than the notes' form; distance of the slope from -1/2
GRADIENTS = ["W", "x", "W₁", "b₁", "W₂", "b₂", "x"]  # two of the first example, five of the second
EXAMPLES, SIZES, BATCHES = 1024, (1, 4, 16, 64, 256), 200


def worked_examples(seed: int, factor: bool) -> list[float]:
    """The correct digits of each of the GRADIENTS by hand, with or without the factor y₄."""
    random = np.random.default_rng(seed)
    w, w1, w2 = random.normal(size=(3, 4, 4)) / 2
    x, b1, b2 = random.normal(size=(3, 4))
    y2 = np.tanh(w1 @ x + b1)
    y4 = np.tanh(w2 @ y2 + b2)
    dy3 = 2 * (y4 if factor else 1) * (1 + y4) * (1 - y4)
    dy1 = (w2.T @ dy3) * (1 + y2) * (1 - y2)
    hand = [2 * np.outer(w @ x, x), 2 * w.T @ (w @ x)]
    hand += [np.outer(dy1, x), dy1, np.outer(dy3, y2), dy3, w1.T @ dy1]
    f = jax.grad(lambda w, x: jnp.sum((w @ x) ** 2), (0, 1))
    g = jax.grad(lambda w1, b1, w2, b2, x: jnp.sum(jnp.tanh(w2 @ jnp.tanh(w1 @ x + b1) + b2) ** 2), range(5))
    exact = [*f(w, x), *g(w1, b1, w2, b2, x)]
    return [digits(*pair) for pair in zip(hand, exact, strict=True)]


def digits(found: np.ndarray, exact: np.ndarray) -> float:
    return -np.log10(max(np.abs(found - exact).max() / np.abs(exact).max(), 1e-16))


NET = fnn.serial(fnn.flatten, fnn.mlp((16,), 10, fnn.tanh))


@jax.jit
def gradients(params: dict, x: jax.Array, y: jax.Array) -> jax.Array:
    """(batches, parameters) the gradient of the mean loss of each batch."""

    def loss(params, x, y):
        logits, _ = NET.apply(params, {}, x)
        return fnn.softmax_cross_entropy(logits, y).mean()

    return jax.vmap(lambda x, y: ravel_pytree(jax.grad(loss)(params, x, y))[0])(x, y)


def batch_gradients(seed: int, independent: bool) -> tuple[np.ndarray, float, float]:
    """Relative deviations by batch size, and the digits of a partition's mean by 1/|Ω| and by 1/n."""
    x, y = fnn.digits().train.x[:EXAMPLES] / 255, fnn.digits().train.y[:EXAMPLES]
    params, _ = NET.init(jax.random.key(seed), x[:1])
    random = np.random.default_rng(seed)

    def of(rows: np.ndarray) -> np.ndarray:
        rows = rows if independent else np.broadcast_to(rows[:, :1], rows.shape)
        return np.asarray(gradients(params, x[rows], y[rows]))

    (whole,) = np.asarray(gradients(params, x[None], y[None]))
    draws = [of(random.integers(EXAMPLES, size=(BATCHES, size))) for size in SIZES]
    deviations = np.sqrt([((draw - whole) ** 2).sum(1).mean() for draw in draws]) / np.linalg.norm(whole)
    mean = of(random.permutation(EXAMPLES).reshape(-1, 64)).mean(0)
    return deviations, digits(mean, whole), digits(mean * 64 / EXAMPLES, whole)


def study(seeds=range(5), *, mechanism=True) -> Study:
    with jax.enable_x64(True):
        hand = [worked_examples(seed, mechanism) for seed in seeds]
        notes = [worked_examples(seed, False) for seed in seeds]
        deviations, by_batch, by_all = zip(*(batch_gradients(seed, mechanism) for seed in seeds), strict=True)
    deviations = np.array(deviations)
    slopes = np.polyfit(np.log(SIZES), np.log(deviations).T, 1)[0]
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for shift, name, runs in ((-0.2, "the notes", notes), (0.2, "by hand", hand)):
        left.bar(np.arange(7) + shift, np.mean(runs, 0), 0.4, label=name)
    left.set_xticks(range(7), GRADIENTS)
    left.set(
        xlabel="with respect to (first example | second example)",
        ylabel="digits that agree with jax.grad",
        ylim=(0, 21),
    )
    left.axvline(1.5, color="0.7")
    left.legend(frameon=False, ncols=2)
    right.loglog(SIZES, deviations.mean(0), "o", label="measured")
    right.loglog(SIZES, deviations[:, 0].mean() / np.sqrt(SIZES), "k--", label="1/√|Ω|")
    right.set(xlabel="batch size |Ω|", ylabel="deviation / whole gradient")
    right.legend(frameon=False)
    table = [
        {"batch size": size, "deviation": float(mean), "deviation · √size": float(mean * size**0.5)}
        for size, mean in zip(SIZES, deviations.mean(0), strict=True)
    ]
    worst = np.min(hand, 1), np.min(notes, 1)
    allowed = np.full(len(slopes), SLOPE)
    verdicts = [
        verdict("every gradient by hand has more correct digits than without the factor y₄", *worst, DIGITS),
        verdict("over a partition 1/|Ω| gives more correct digits than 1/n", by_batch, by_all, DIGITS),
        verdict(f"the deviation's slope is nearer to -1/2 than {SLOPE}", allowed, np.abs(slopes + 0.5), 0),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("backpropagation_by_hand", study())
