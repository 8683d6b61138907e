"""What an activation does to a signal: gradient by depth, mean output, slope far from 0, time.

Sigmoid's slope is at most 1/4: with weights of variance 1 / fan-in each layer keeps at most a quarter of the
gradient's size. ReLU with the initial values made for it passes the gradient on. Tanh does so too while its
units are near 0, but far from 0 its slope vanishes like sigmoid's; ReLU's is 1 or 0 there, leaky ReLU's never
0. On a standard normal input the mean outputs are 1/2 for sigmoid, 1/√(2π) = 0.40 for ReLU, hardly less for
leaky ReLU, 0.16 for ELU and 0 for tanh. Measured on digits, in a network of 10 hidden layers before it
learns, with the initial values made for each: the root mean square gradient of the first hidden kernel over
the last's, and the first hidden layer's mean output, for which ReLU's from ELU's values is measured too, as
its own have twice the variance. The time of each function on 2¹⁸ elements is in the table only: exp() costs,
but how much depends on the machine and on what else it does.

Source: the notes, "Activation Functions"; Glorot and Bengio 2010, "Understanding the difficulty of training
deep feedforward networks"; Clevert et al. 2016, "Fast and Accurate Deep Network Learning by ELUs".
"""

from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGIN_GRADIENT = 2.0  # decades of the gradient in the first layer over that in the last
MARGIN_MEAN = 0.1  # of the distance of the mean output from 0
ACTIVATIONS = {
    "sigmoid": (fnn.sigmoid, fnn.xavier),
    "tanh": (fnn.tanh, fnn.xavier),
    "relu": (fnn.relu, fnn.kaiming),
    "leaky_relu": (fnn.leaky_relu, fnn.kaiming),
    "elu": (fnn.elu, fnn.xavier),
    "relu, xavier": (fnn.relu, fnn.xavier),
}


def signal(keys, x, y, name: str, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, depth) the gradient's size in each hidden kernel; (seeds,) the first layer's mean output."""
    activation, kernel_init = ACTIVATIONS[name]
    net = fnn.mlp((64,) * depth, 10, activation, kernel_init=kernel_init)
    params, state = jax.vmap(net.init, (0, None))(keys, x)

    @jax.jit
    @jax.vmap
    def run(params):
        def loss(params):
            outputs = fnn.intermediates(net, params, state, x)
            return fnn.softmax_cross_entropy(outputs[f"linear_{depth + 1}"], y).mean(), outputs

        grads, outputs = jax.grad(loss, has_aux=True)(params)
        sizes = [jnp.sqrt(jnp.square(grads[f"linear_{i}"]["kernel"]).mean()) for i in range(1, depth + 1)]
        return jnp.stack(sizes), outputs[f"{name.split(',')[0]}_1"].mean()

    return jax.tree.map(np.asarray, run(params))


def nanoseconds(name: str, elements: int = 2**18, repeats: int = 30) -> float:
    """The time for one element: the fastest of some runs."""
    apply, x = jax.jit(ACTIVATIONS[name][0]), jax.random.normal(jax.random.key(0), elements)
    apply(x).block_until_ready()

    def once() -> float:
        start = perf_counter()
        apply(x).block_until_ready()
        return perf_counter() - start

    return min(once() for _ in range(repeats)) / elements * 1e9


def study(seeds=range(5), *, mechanism=True, examples=500, depth=10) -> Study:
    """Compare activations; without the mechanism, the same one on both sides of each comparison."""
    x, y = fnn.digits().train
    x = fnn.standardize(x, fnn.moments(x)).reshape(len(x), -1)[:examples]
    keys = jax.vmap(jax.random.key)(jnp.array(list(seeds)))
    found = {name: signal(keys, x, y[:examples], name, depth) for name in ACTIVATIONS}
    sizes = {name: size for name, (size, _) in found.items()}
    ratios = {name: np.log10(size[:, 0] / size[:, -1]) for name, size in sizes.items()}
    means = {name: mean for name, (_, mean) in found.items()}
    table = [
        {
            "activation": name,
            "gradient, first layer / last": float(10 ** ratios[name].mean()),
            "mean output": float(means[name].mean()),
            "slope at −10": float(jax.grad(activation)(-10.0)),
            "slope at 10": float(jax.grad(activation)(10.0)),
            "ns per element": nanoseconds(name),
        }
        for name, (activation, _) in ACTIVATIONS.items()
    ]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, size), line in zip(sizes.items(), ("-", "-", "-", "--", "--", ":"), strict=True):
        left.semilogy(range(1, depth + 1), (size / size[:, -1:]).mean(0), line, label=name)
    left.set(xlabel="hidden layer", ylabel="gradient / gradient in the last layer")
    left.legend(frameon=False)
    right.bar(list(means), [mean.mean() for mean in means.values()], yerr=[m.std() for m in means.values()])
    right.tick_params("x", rotation=30)
    right.axhline(0, color="black", linewidth=0.8)
    right.set(ylabel="mean output of the first hidden layer")

    def side(name: str, otherwise: str) -> str:
        return name if mechanism else otherwise

    depths = "decades by which ReLU's gradient in the first layer over the last's exceeds sigmoid's"
    verdicts = [verdict(depths, ratios[side("relu", "sigmoid")], ratios["sigmoid"], MARGIN_GRADIENT)]
    for far, near in (("sigmoid", "tanh"), ("relu, xavier", "elu")):
        claim = f"the mean output of {far} is farther from 0 than that of {near}"
        verdicts.append(verdict(claim, abs(means[far]), abs(means[side(near, far)]), MARGIN_MEAN))
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("activation_signal", study())
