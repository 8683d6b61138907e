"""The four shapes of a bad loss curve, provoked, and the number by which each is recognised.

- It barely falls: the learning rate is too low. Number: the fall, 1 - end / start.
- It jumps: the rate is too high. Number: the way up and down, Σ|Lₜ₊₁ - Lₜ| / (max L - min L); 1 if it only
  falls.
- It falls steeply, then stays high: the rate is too high, though less so. Numbers: the part of the fall that
  the first 10 steps make, and the end. That the rate is the cause shows where it is cut after half of the
  run: the loss falls again.
- It stays flat, then falls suddenly: bad initial values, here a quarter of Kaiming's in every layer, near
  the saddle at 0, from where plain SGD escapes slowly. Number: t₁₀ / t₅₀, the times to a tenth and to half
  of the fall; a straight line has 0.2, an exponential 0.15, a cliff 1.

All on a network with 3 hidden layers on digits. The rates are tried with Adam, the initial values with SGD:
Adam's steps do not depend on the size of the gradient, so that it leaves the saddle at once. The table has
means over the seeds, the figure shows the first seed.

Source: the notes, "Hyperparameter Optimization"; Stanford's CS231n, "Neural Networks Part 3: Learning and
Evaluation", which draws the first three.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_FALL = 0.5  # of the first loss
MARGIN_JUMPS = np.log(2)  # of ln(way up and down)
MARGIN_STEEP = 0.1  # of the fall
MARGIN_HIGH = np.log(4)  # of ln(end)
MARGIN_FLAT = 0.3  # of t₁₀ / t₅₀
FALL, WAY, FIRST, WAIT = "fall", "way up and down", "of the fall in 10 steps", "t₁₀ / t₅₀"
BATCH, EVERY, WATCHED = 50, 5, 500
VALUES = "rate", "later", "scale"  # the rate in the first and second half, the factor of the initial kernels
GOOD = {"optimizer": fnn.adam, "rate": 2e-3, "later": 2e-3, "scale": 1.0}
SGD = {"optimizer": fnn.sgd, "rate": 0.1, "later": 0.1, "scale": 1.0}
SETTINGS = {
    "good": GOOD,
    "rate too low": GOOD | {"rate": 1e-5, "later": 1e-5},
    "rate too high": GOOD | {"rate": 0.04, "later": 0.04},
    "the same, later cut": GOOD | {"rate": 0.04},
    "rate far too high": GOOD | {"rate": 0.1, "later": 0.1},
    "SGD, good": SGD,
    "SGD, small initial values": SGD | {"scale": 0.25},
}


def curve(x, y, optimizer, rate, later, scale, seed, steps: int):
    """(1 + steps / EVERY,) the loss of WATCHED training examples, at first and after every 5 steps."""
    net, key = fnn.mlp((64, 64, 64), 10), jax.random.key(seed)
    params, state = net.init(key, x[:1])
    params = jax.tree.map(lambda w: w * scale, params)
    optimizer = optimizer(lambda count: jnp.where(count < steps // 2, rate, later))

    def loss(params, rows):
        return fnn.softmax_cross_entropy(net.apply(params, state, x[rows])[0], y[rows]).mean()

    def step(carry, rows):
        params, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(params, rows), opt_state, params)
        return (fnn.apply_updates(params, updates), opt_state), None

    def record(carry, rows):
        after, _ = jax.lax.scan(step, carry, rows)
        return after, loss(after[0], jnp.arange(WATCHED))

    rows = jax.random.randint(jax.random.fold_in(key, 1), (steps // EVERY, EVERY, BATCH), 0, len(x))
    _, losses = jax.lax.scan(record, (params, optimizer.init(params)), rows)
    return jnp.concatenate([loss(params, jnp.arange(WATCHED))[None], losses])


@partial(jax.jit, static_argnames=("optimizer", "steps"))
def curves(x, y, optimizer, rate, later, scale, seeds, steps: int):
    """The curves of every setting and seed."""
    run = partial(curve, x, y, optimizer, steps=steps)
    return jax.vmap(jax.vmap(run, (None, None, None, 0)), (0, 0, 0, None))(rate, later, scale, seeds)


def numbers(losses: np.ndarray) -> dict[str, float]:
    """What one curve is recognised by."""
    start, end = losses[0], losses[-len(losses) // 10 :].mean()
    times = [int((losses <= start - part * (start - end)).argmax()) for part in (0.1, 0.5)]
    return {
        FALL: 1 - end / start,
        WAY: np.abs(np.diff(losses)).sum() / np.ptp(losses),
        FIRST: (start - losses[10 // EVERY]) / (start - end),
        "end": end,
        WAIT: times[0] / times[1],
    }


def study(seeds=range(5), *, mechanism=True, steps=1000) -> Study:
    """Compare each bad setting with the good one of its optimizer; without the mechanism, all are good."""
    train = fnn.digits().train
    x, y = fnn.to_float(jnp.asarray(train.x)).reshape(len(train.x), -1), jnp.asarray(train.y)
    found = {}
    for good in (GOOD, SGD):
        chosen = {name: s for name, s in SETTINGS.items() if s["optimizer"] is good["optimizer"]}
        values = [[(s if mechanism else good)[key] for s in chosen.values()] for key in VALUES]
        losses = curves(x, y, good["optimizer"], *map(jnp.array, values), jnp.array(list(seeds)), steps=steps)
        found |= dict(zip(chosen, np.asarray(losses), strict=True))  # (seeds, 1 + steps / EVERY) each
    by_seed = {name: [numbers(one) for one in losses] for name, losses in found.items()}
    table = [
        {"setting": name} | {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        for name, rows in by_seed.items()
    ]

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    panels = {"barely falls": [0, 1], "jumps": [0, 4], "high plateau": [0, 2, 3], "flat, then a fall": [5, 6]}
    for axes, (title, shown) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        for i in shown:
            name, losses = list(found.items())[i]
            label = name if i or title == "barely falls" else None
            axes.plot(np.arange(losses.shape[1]) * EVERY, losses[0], color=f"C{i}", label=label)
        axes.set(xlabel="step", title=title, yscale="log" if title in ("jumps", "high plateau") else "linear")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.axes[0].set_ylabel("cross-entropy (nats)")

    def column(setting: str, key: str) -> np.ndarray:
        return np.array([row[key] for row in by_seed[setting]])

    def logs(setting: str, key: str) -> np.ndarray:
        return np.log(column(setting, key))

    high, cut, small = "rate too high", "the same, later cut", "SGD, small initial values"
    barely = "a rate too low makes less of the fall"
    jumps = "ln of the way up and down is larger at a rate far too high"
    steep = "at a rate too high the first 10 steps make more of the fall"
    plateau = "ln of the end is higher there"
    cause = "ln of the end falls when that rate is cut"
    flat = "t₁₀ / t₅₀ is larger from small initial values"
    verdicts = [
        verdict(barely, column("good", FALL), column("rate too low", FALL), MARGIN_FALL),
        verdict(jumps, logs("rate far too high", WAY), logs("good", WAY), MARGIN_JUMPS),
        verdict(steep, column(high, FIRST), column("good", FIRST), MARGIN_STEEP),
        verdict(plateau, logs(high, "end"), logs("good", "end"), MARGIN_HIGH),
        verdict(cause, logs(high, "end"), logs(cut, "end"), MARGIN_HIGH),
        verdict(flat, column(small, WAIT), column("SGD, good", WAIT), MARGIN_FLAT),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("loss_curves", study())
