"""L1 makes weights zero, L2 spreads them out, the elastic net lies between; max-norm bounds every unit.

A network on digits that gets every pixel twice, the second time at half its brightness. Of the weights w₁ and
w₂ with one w₁ + w₂ / 2, L2 prefers w₁ = 2 w₂, so that the bright twin has 2/3 of the weight; L1 prefers
w₂ = 0. (Between twins of one brightness and sign L1 does not choose: |w₁| + |w₂| is the same for every
split.) The gradient of L1 overshoots zero: it leaves weights that hover within a step of it, where the
proximal step leaves true zeros. Measured over all kernels after training: the share of small weights,
|w| < 0.001, and of zeros; the bright twins' part, Σ|w₁| / Σ(|w₁| + |w₂|); the largest norm of a unit.

Source: Zou and Hastie 2005, "Regularization and Variable Selection via the Elastic Net"; Srivastava et al.
2014, "Dropout", section 5.1 (max-norm); the notes, "Regularization".
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_SHARE = 0.2  # of all weights, by which more are small, or 0
MARGIN_TWINS = 0.02  # of the bright twins' part
MARGIN_NORM = 0.1  # of ln(norm)
BATCH, RATE, L1, BETA, LIMIT, SMALL = 50, 0.2, 2e-3, 2.0, 3.0, 1e-3
# Strengths, max-norm's limit, and the proximal step's threshold, which is the learning rate × the strength.
OFF = {"l1": 0.0, "l2": 0.0, "elastic": 0.0, "threshold": 0.0, "limit": 1e9}
SETTINGS = {
    "none": {},
    "L1": {"l1": L1},
    "L1, proximal": {"threshold": RATE * L1},
    "elastic net": {"elastic": L1},
    "L2": {"l2": L1 * BETA},
    "max-norm": {"limit": LIMIT},
}


def trained(x, y, setting, seed, steps: int):
    """The kernels after training, from the same initial values and batches in every setting of a seed."""
    net, key = fnn.mlp((16,), 10), jax.random.key(seed)
    params, state = net.init(key, x[:1])
    optimizer = fnn.chain(
        fnn.sgd(RATE), fnn.proximal_l1(setting["threshold"]), fnn.max_norm(setting["limit"])
    )

    def step(carry, rows):
        def loss(params):
            data = fnn.softmax_cross_entropy(net.apply(params, state, x[rows])[0], y[rows]).mean()
            l1, l2 = fnn.l1(params, setting["l1"]), fnn.l2(params, setting["l2"])
            return data + l1 + l2 + fnn.elastic_net(params, setting["elastic"], BETA)

        params, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return (fnn.apply_updates(params, updates), opt_state), None

    rows = jax.random.randint(jax.random.fold_in(key, 1), (steps, BATCH), 0, len(x))
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), rows)
    return params["linear_1"]["kernel"], params["linear_2"]["kernel"]


@partial(jax.jit, static_argnames="steps")
def runs(x, y, settings, seeds, steps: int):
    """The kernels for every setting and seed."""
    run = partial(trained, x, y, steps=steps)
    return jax.vmap(jax.vmap(run, (None, 0)), (0, None))(settings, seeds)


def study(seeds=range(5), *, mechanism=True, steps=3000) -> Study:
    """Compare the penalties and the constraint; without the mechanism, all have strength 0 and no limit."""
    train = fnn.digits().train
    x = fnn.to_float(jnp.asarray(train.x)).reshape(len(train.x), -1)
    x = jnp.concatenate([x, x / 2], 1)
    rows = [OFF | (setting if mechanism else {}) for setting in SETTINGS.values()]
    settings = {name: jnp.array([row[name] for row in rows]) for name in OFF}
    found = runs(x, jnp.asarray(train.y), settings, jnp.array(list(seeds)), steps)
    first, second = map(np.asarray, found)  # (settings, seeds, inputs, units)
    weights = np.concatenate([kernel.reshape(*kernel.shape[:2], -1) for kernel in (first, second)], 2)
    zero, small = (weights == 0).mean(2), (np.abs(weights) < SMALL).mean(2)
    bright, dim = np.split(np.abs(first).sum(3), 2, axis=2)
    bright, dim = bright.sum(2), dim.sum(2)
    bright = bright / (bright + dim)
    norm = np.maximum(*(np.linalg.norm(kernel, axis=2).max(2) for kernel in (first, second)))
    table = [
        {
            "regularization": name,
            f"below {SMALL}": float(small[i].mean()),
            "exactly 0": float(zero[i].mean()),
            "bright twins' part": float(bright[i].mean()),
            "largest norm": float(norm[i].max()),
        }
        for i, name in enumerate(SETTINGS)
    ]
    norm = np.log(norm)
    none, l1, proximal, elastic, l2, limited = range(len(SETTINGS))
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for i, name in enumerate(SETTINGS):
        size = np.sort(np.abs(weights[i, 0]))
        left.plot(np.linspace(0, 1, len(size)), np.where(size > 0, size, np.nan), label=name)
        right.plot(np.sort(np.linalg.norm(first[i, 0], axis=0))[::-1], label=name)
    left.set(yscale="log", ylim=(1e-5, 3), xlabel="share of the weights", ylabel="|w| at most")
    right.set(xlabel="hidden unit, by norm", ylabel="norm of its weights")
    right.legend(frameon=False, fontsize=8)
    for i in (l1, elastic, l2):
        one, other = np.split(first[i, 0], 2)
        middle.plot(one.ravel(), other.ravel(), ".", ms=2, color=f"C{i}", label=list(SETTINGS)[i])
    middle.set(xlabel="bright twin's weight", ylabel="dim twin's weight")
    middle.legend(frameon=False, fontsize=8, markerscale=4)
    verdicts = [
        verdict("L1 leaves more small weights than no penalty", small[l1], small[none], MARGIN_SHARE),
        verdict("the elastic net leaves more small weights than L2", small[elastic], small[l2], MARGIN_SHARE),
        verdict(
            "the proximal step leaves more zeros than L1's gradient", zero[proximal], zero[l1], MARGIN_SHARE
        ),
        verdict("L1 gives bright twins more than the elastic net", bright[l1], bright[elastic], MARGIN_TWINS),
        verdict("the elastic net gives them more than L2", bright[elastic], bright[l2], MARGIN_TWINS),
        verdict("ln of the largest norm falls with max-norm", norm[none], norm[limited], MARGIN_NORM),
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("regularization", study())
