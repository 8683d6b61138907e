"""AdaGrad's rate α / √Σg² only falls, so it stalls where a constant one goes on; rare features keep more.

In a long run of an MLP on digits, with AdaGrad and RMSProp each at its best rate of one grid, and SGD at the
constant rate that AdaGrad has at step 10. Measured: the effective rate α / √mean(cache) of all parameters,
from step 10 to the last, in ln, and ln of the training loss at the end. AdaGrad's rate falls to about a half;
that this is what stalls it, SGD shows. RMSProp's rises as the gradients become small, so that the distance
between the losses of these two is of both.

And in logistic regression on features that are 1 in a share p of the examples: Σg² grows in proportion to p,
so rates go as 1/√p. The notes say that the rate of infrequent weights is increased; it falls too, only later.
Without the mechanism SGD stands on every side, once on other seeds, and all features have the same p.

Source: Duchi, Hazan and Singer 2011, "Adaptive Subgradient Methods"; the notes, "AdaGrad".
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure

import fnn

# ln: how much AdaGrad's rate falls and RMSProp's rises, how much lower the losses of SGD and of RMSProp are,
# and how much larger the rate of the rarest feature is than that of the most frequent.
FALLS, RISES, STALLS, RARE = 0.4, 1.0, 0.5, 1.0
MAKERS = {"AdaGrad": fnn.adagrad, "RMSProp": fnn.rmsprop, "SGD": fnn.sgd}
RATES = tuple(10.0 ** np.arange(-3, 0.1, 0.5))
SHARES = 0.5 ** np.arange(1, 8)
NET = fnn.serial(fnn.flatten, fnn.mlp((16,), 10))


def effective(rate, state):
    """The rate times 1/√ of the mean of the cache, over all parameters; SGD has none."""
    if not jax.tree.leaves(state[1:]):
        return rate
    _, squares = state
    return rate / jnp.sqrt(jnp.mean(jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(squares)])))


@cache
def on_digits(name, seeds, steps, tried=RATES):
    """The best rate; its losses and effective rates, (seeds, steps); ln of its last loss, (seeds,)."""
    data = fnn.digits().train
    x, y = fnn.standardize(data.x, fnn.moments(data.x)), jnp.asarray(data.y)

    def run(rate, seed, rows):
        optimizer = MAKERS[name](rate)
        params, _ = NET.init(jax.random.key(seed), x)

        def loss(params, x, y):
            return fnn.softmax_cross_entropy(NET.apply(params, {}, x)[0], y).mean()

        def step(carry, rows):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, x[rows], y[rows])
            updates, state = optimizer.update(grads, state, params)
            return (fnn.apply_updates(params, updates), state), (value, effective(rate, state))

        (params, _), (values, rates) = jax.lax.scan(step, (params, optimizer.init(params)), rows)
        return values, rates, jnp.log(loss(params, x, y) + 1e-7)

    rows = np.stack([np.random.default_rng(seed).integers(len(x), size=(steps, 50)) for seed in seeds])
    over_all = jax.jit(jax.vmap(jax.vmap(run, (None, 0, 0)), (0, None, None)))
    values, rates, ends = map(np.asarray, over_all(jnp.asarray(tried, jnp.float32), jnp.array(seeds), rows))
    best = np.nan_to_num(ends, nan=np.inf).mean(1).argmin()
    return tried[best], values[best], rates[best], ends[best]


def on_features(seeds, shares, steps=500):
    """(seeds, features) the effective rate of each feature's weight after AdaGrad's steps with α = 1."""

    def batches(seed):
        random = np.random.default_rng(seed)
        x = random.random((steps, 50, len(shares))) < shares
        score = x @ random.normal(size=len(shares)) + random.logistic(size=x.shape[:2])
        return x.astype(np.float32), (score > 0).astype(np.float32)

    return np.asarray(feature_rates(*map(np.stack, zip(*map(batches, seeds), strict=True))))


@jax.jit
@jax.vmap
def feature_rates(x, y):
    optimizer = fnn.adagrad(1.0)
    weights = jnp.zeros(x.shape[-1])

    def step(carry, batch):
        (weights, state), (x, y) = carry, batch
        grads = jax.grad(lambda w: fnn.sigmoid_cross_entropy(x @ w, y).mean())(weights)
        updates, state = optimizer.update(grads, state, weights)
        return (fnn.apply_updates(weights, updates), state), None

    (_, state), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), (x, y))
    return 1 / jnp.sqrt(state.sum_of_squares)


def study(seeds=range(5), *, mechanism=True, steps=2000) -> Study:
    """Compare AdaGrad with RMSProp and with a constant rate, and rare with frequent features."""
    seeds = tuple(seeds)
    found = {name: on_digits(name, seeds, steps) for name in ("AdaGrad", "RMSProp")}
    constant = (float(found["AdaGrad"][2][:, 9].mean()),)
    found["SGD"] = on_digits("SGD", seeds, steps, constant)
    if not mechanism:
        found = {"AdaGrad": on_digits("SGD", others(seeds), steps, constant)} | dict.fromkeys(
            ("RMSProp", "SGD"), found["SGD"]
        )
    shares = SHARES if mechanism else np.full_like(SHARES, SHARES[0])
    features = on_features(seeds, shares)
    figure = Figure(figsize=(9.5, 3.5), layout="constrained")
    losses, rates, frequent = figure.subplots(1, 3)
    for name, (_, values, effective_rates, _) in found.items():
        smooth = np.exp(np.log(values + 1e-7).reshape(-1, steps // 50, 50).mean((0, 2)))
        losses.semilogy(np.arange(25, steps, 50), smooth, label=name)
        rates.loglog(np.arange(1, steps + 1), effective_rates.mean(0), label=name)
    losses.set(xlabel="step", ylabel="training loss")
    rates.set(xlabel="step", ylabel="effective rate")
    losses.legend(frameon=False)
    frequent.loglog(shares, features.mean(0), "o", label="AdaGrad")
    frequent.loglog(shares, features[:, 0].mean() * np.sqrt(shares[0] / shares), "k--", label="1/√p")
    frequent.set(xlabel="share p of examples", ylabel="effective rate of its weight")
    frequent.legend(frameon=False)
    table = [
        {
            "optimizer": name,
            "best rate": float(rate),
            "effective rate, step 10": float(effective_rates[:, 9].mean()),
            "last step": float(effective_rates[:, -1].mean()),
            "ln loss": float(ends.mean()),
        }
        for name, (rate, _, effective_rates, ends) in found.items()
    ]
    logs = {name: np.log(effective_rates) for name, (_, _, effective_rates, _) in found.items()}
    fall, rise = logs["AdaGrad"], logs["RMSProp"]
    end = {name: ends for name, (_, _, _, ends) in found.items()}
    same = "AdaGrad's last loss is above that of SGD at the rate that AdaGrad has at step 10, in ln"
    rare = np.log(features[:, -1]), np.log(features[:, 0])
    verdicts = [
        verdict("AdaGrad's effective rate falls from step 10 on, in ln", fall[:, 9], fall[:, -1], FALLS),
        verdict("RMSProp's rises, in ln", rise[:, -1], rise[:, 9], RISES),
        verdict(same, end["AdaGrad"], end["SGD"], STALLS),
        verdict("AdaGrad's last loss is above RMSProp's, in ln", end["AdaGrad"], end["RMSProp"], STALLS),
        verdict("the rarest feature's effective rate is above the most frequent one's, in ln", *rare, RARE),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("adagrad", study())
