"""The perceptron rule converges where a line separates the classes, never on XOR; a hidden layer learns XOR.

If a unit vector v separates the data with margin γ, ±v·(x, 1) ≥ γ, the rule makes at most (R / γ)² mistakes
in however many epochs, R being the largest ‖(x, 1)‖. XOR has no such v: every epoch has a mistake, and at
most 3 of the 4 answers are right. Measured: the mistakes on AND, OR and XOR, on random points labelled by a
random line (those nearer than γ left out) and on the same points labelled by the XOR of their signs, and the
accuracy on XOR of a network with one hidden layer.

Source: Novikoff 1962, "On Convergence Proofs on Perceptrons"; Minsky and Papert 1969, "Perceptrons"; the
notes, "Perceptron" and "Multi-layer Perceptron", which leave both theorems out.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_BOUND = 0.0  # of ln(mistakes): a theorem, so any distance from the bound will do
MARGIN_MISTAKES = 0.1  # of the share of examples that the last epoch gets wrong
MARGIN_ACCURACY = 0.1  # of the accuracy on XOR
POINTS, GAMMA = 60, 0.1
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
AND, OR, XOR = np.array([[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 1, 0]])
SIDE = np.linspace(-0.5, 1.5, 41, dtype=np.float32)  # elements 10 and 30 are 0 and 1


def bound(x: np.ndarray, y: np.ndarray, v: np.ndarray) -> float:
    """(R / γ)² for the line v·(x, 1) = 0, which separates."""
    with_one = np.column_stack([x, np.ones(len(x))])
    gamma = ((2 * y - 1) * (with_one @ v)).min() / np.linalg.norm(v)
    return (with_one**2).sum(1).max() / gamma**2


def separable(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Points of the square [-1, 1]², on which side of a random line each lies, and (R / γ)²."""
    random = np.random.default_rng(seed)
    angle, offset = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3)
    x = random.uniform(-1, 1, (20 * POINTS, 2)).astype(np.float32)
    line = np.array([np.cos(angle), np.sin(angle), offset])
    score = (x @ line[:2] + offset) / np.linalg.norm(line)
    x, score = (a[np.abs(score) >= GAMMA][:POINTS] for a in (x, score))
    y = (score > 0).astype(np.int32)
    return x, y, bound(x, y, line)


@partial(jax.jit, static_argnames="epochs")
@partial(jax.vmap, in_axes=(0, 0, 0, None))
def perceptron(seed, x, y, epochs: int) -> tuple[jax.Array, jax.Array]:
    """(epochs,) the mistakes in each, the examples in another order each time, and the accuracy after it."""

    def example(state, i):
        return fnn.perceptron_update(state, x[i], y[i]), None

    def epoch(state, key):
        after, _ = jax.lax.scan(example, state, jax.random.permutation(key, len(x)))
        return after, (after.mistakes - state.mistakes, (fnn.perceptron_predict(after, x) == y).mean())

    return jax.lax.scan(epoch, fnn.perceptron_init(2), jax.random.split(jax.random.key(seed), epochs))[1]


@partial(jax.jit, static_argnames="steps")
@partial(jax.vmap, in_axes=(0, None))
def hidden_layer(seed, steps: int) -> jax.Array:
    """What a network with 8 hidden units that has learned XOR says of each point of SIDE × SIDE: P(1)."""
    net, optimizer = fnn.mlp((8,), 2, fnn.tanh), fnn.adam(0.05)
    params, state = net.init(jax.random.key(seed), CORNERS)

    def step(carry, _):
        def loss(params):
            return fnn.softmax_cross_entropy(net.apply(params, state, jnp.asarray(CORNERS))[0], XOR).mean()

        params, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return (fnn.apply_updates(params, updates), opt_state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    grid = jnp.stack(jnp.meshgrid(SIDE, SIDE, indexing="ij"), -1)
    return fnn.softmax(net.apply(params, state, grid.reshape(-1, 2))[0])[:, 1].reshape(grid.shape[:2])


def study(seeds=range(5), *, mechanism=True, epochs=100, steps=300) -> Study:
    """Compare separable data with XOR; without the mechanism, XOR on both sides, and no hidden layer."""
    keys, n = jnp.array(list(seeds)), len(seeds)
    x, sides, bounds = (np.stack(column) for column in zip(*map(separable, seeds), strict=True))
    signs = (x[:, :, 0] * x[:, :, 1] < 0).astype(np.int32)
    made, _ = perceptron(jnp.tile(keys, 2), np.tile(x, (2, 1, 1)), np.concatenate([sides, signs]), epochs)
    by_line, by_xor = np.asarray(made)[:n], np.asarray(made)[n:]
    by_line = by_line if mechanism else by_xor
    corners, targets = np.tile(CORNERS, (3 * n, 1, 1)), np.repeat([AND, OR, XOR], n, 0)
    gates, right = map(np.asarray, perceptron(jnp.tile(keys, 3), corners, targets, epochs))
    best = right[2 * n :].max(1)
    probability = np.asarray(hidden_layer(keys, steps))
    answers = probability[:, [10, 10, 30, 30], [10, 30, 10, 30]] > 0.5
    hidden = (answers == XOR).mean(1) if mechanism else best

    cases = {"AND": gates[:n], "OR": gates[n : 2 * n], "XOR": gates[2 * n :]}
    cases |= {"points, by a line": by_line, "points, by XOR of the signs": by_xor}
    limits = [bound(CORNERS, AND, np.array([2, 2, -3])), bound(CORNERS, OR, np.array([2, 2, -1]))]
    at_most = dict(zip(cases, (*limits, "none", float(bounds.mean()), "none"), strict=True))
    table = [
        {
            "data": name,
            "(R / γ)²": at_most[name],
            f"mistakes in {epochs} epochs": float(made.sum(1).mean()),
            "in the last epoch": float(made[:, -1].mean()),
            "last epoch with a mistake": float(np.where(made > 0, np.arange(1, epochs + 1), 0).max(1).mean()),
        }
        for name, made in cases.items()
    ]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in ("points, by a line", "points, by XOR of the signs"):
        left.plot(range(1, epochs + 1), cases[name].mean(0) / POINTS, label=name)
    left.set(xlabel="epoch", ylabel="share of mistakes", title="perceptron", ylim=(0, 0.75), xscale="log")
    left.legend(frameon=False)
    shown = right.contourf(SIDE, SIDE, probability[0].T, np.linspace(0, 1, 11), cmap="RdBu_r")
    figure.colorbar(shown, label="probability of 1")
    right.scatter(*CORNERS.T, c=XOR, cmap="RdBu_r", edgecolors="black", s=80)
    right.set(xlabel="x₁", ylabel="x₂", title="8 hidden units on XOR", aspect="equal")
    bounded = "ln of the bound (R / γ)² exceeds ln of the mistakes where a line separates"
    never = "the share of mistakes in the last epoch is larger on XOR than where a line separates"
    verdicts = [
        verdict(bounded, np.log(bounds), np.log(by_line.sum(1)), MARGIN_BOUND),
        verdict(never, by_xor[:, -1] / POINTS, by_line[:, -1] / POINTS, MARGIN_MISTAKES),
        verdict("a hidden layer beats the best epoch of a perceptron on XOR", hidden, best, MARGIN_ACCURACY),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("perceptron_xor", study())
