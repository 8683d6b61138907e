"""Weights of the right size nearly keep the variance of the signal in each layer; others lose or explode it.

A layer multiplies the variance by n·Var(w) for inputs of mean 0, so Xavier's Var(w) = 1/n keeps it while
tanh is in its linear part; over many layers the little that tanh bends adds up. Small weights lose it; large
ones drive tanh into saturation, where its gradient is 0. A ReLU passes E[relu(s)²] = ½Var(s), so Xavier loses
half in each layer and Kaiming's Var(w) = 2/n makes up for it: randn · √(2/n). The notes' code divides by
√(2/n), which multiplies the variance by n²/4 instead.
Measured on inputs of mean 0 and variance 1: the factor by which each layer multiplies the activations'
variance, log₂, from the first hidden layer to the last; and the share of tanh units beyond ±0.99.

Source: Glorot and Bengio 2010; He et al. 2015; the notes, "Weight Initialization".
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure

import fnn

# In powers of 2 for each layer: what xavier loses in a ReLU net beyond kaiming, and by how much the dividing
# form and small weights are further off; a share of units.
HALF, EXPLODES, VANISHES, SATURATED = 0.8, 8.0, 3.0, 0.5


def normal(deviation):
    """An initializer of normal numbers whose deviation is a function of fan-in."""
    return lambda key, shape, dtype: deviation(shape[0]) * jax.random.normal(key, shape, dtype)


SCHEMES = {
    "tanh, σ = 0.01": (fnn.tanh, normal(lambda n: 0.01)),
    "tanh, σ = 1": (fnn.tanh, normal(lambda n: 1.0)),
    "tanh, Xavier": (fnn.tanh, fnn.xavier),
    "ReLU, Xavier": (fnn.relu, fnn.xavier),
    "ReLU, Kaiming": (fnn.relu, fnn.kaiming),
    "ReLU, randn / √(2/n)": (fnn.relu, normal(lambda n: 1 / np.sqrt(2 / n))),
}


@cache
def signal(scheme: str, seeds, width: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, depth) the variance of each layer's activations, and the share beyond ±0.99 in the last."""
    activation, kernel_init = SCHEMES[scheme]

    def layer(x, key):
        x = activation(x @ kernel_init(key, (width, width), float))
        return x, x

    @jax.jit
    @jax.vmap
    def outputs(key, x):
        return jax.lax.scan(layer, x, jax.random.split(key, depth))[1]

    x = np.stack([np.random.default_rng(seed).normal(size=(200, width)).astype(np.float32) for seed in seeds])
    found = np.asarray(outputs(jax.vmap(jax.random.key)(jnp.array(seeds)), x), np.float64)
    return found.var(axis=(2, 3)), (np.abs(found[:, -1]) > 0.99).mean((1, 2))


def study(seeds=range(5), *, mechanism=True, width=256, depth=15) -> Study:
    """Compare right and wrong schemes; without the mechanism, each wrong one with itself on other seeds."""
    seeds = tuple(seeds)
    found = {scheme: signal(scheme, seeds, width, depth) for scheme in SCHEMES}

    def per_layer(variances):
        return np.log2(variances[:, -1] / variances[:, 0]) / (depth - 1)

    def against(right, wrong):
        return found[right] if mechanism else signal(wrong, others(seeds), width, depth)

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for (name, (variances, _)), style in zip(found.items(), ("--", "--", "--", "-", "-", "-"), strict=True):
        axes.semilogy(range(1, depth + 1), np.exp(np.log(variances).mean(0)), style, label=name)
    axes.set(xlabel="hidden layer", ylabel="variance of the activations", ylim=(1e-8, 1e8))
    figure.legend(loc="outside right upper", frameon=False)
    table = [
        {
            "scheme": name,
            "factor per layer": float(2 ** per_layer(found[name][0]).mean()),
            "variance in the last": float(found[name][0][:, -1].mean()),
            "beyond ±0.99": float(found[name][1].mean()) if "tanh" in name else "",
        }
        for name in SCHEMES
    ]
    verdicts = []
    for right, wrong, margin in (
        ("ReLU, Kaiming", "ReLU, Xavier", HALF),
        ("ReLU, Kaiming", "ReLU, randn / √(2/n)", EXPLODES),
        ("tanh, Xavier", "tanh, σ = 0.01", VANISHES),
    ):
        ahead, behind = (np.abs(per_layer(v)) for v, _ in (found[wrong], against(right, wrong)))
        claim = f"a layer changes the variance by more powers of 2 with {wrong} than with {right}"
        verdicts.append(verdict(claim, ahead, behind, margin))
    large, right = found["tanh, σ = 1"][1], against("tanh, Xavier", "tanh, σ = 1")[1]
    verdicts.append(
        verdict("more tanh units are saturated with σ = 1 than with Xavier", large, right, SATURATED)
    )
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("initialization", study())
