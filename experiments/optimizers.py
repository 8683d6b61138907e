"""With its best rate, each of momentum, Nesterov and Adam gets further than plain SGD in as many steps.

In Rosenbrock's valley, f = (1 - x)² + 100 (y - x²)², and on Beale's plateau, from starting points around the
usual ones; and a small MLP on Fashion-MNIST at half its size, the mean loss of the last fifth of the batches.
All rates of one grid and all seeds are one vmapped program for each optimizer; its best rate is the one of
the lowest mean log loss over the seeds, chosen alike for all. Losses below 10⁻¹² count as 10⁻¹², as float32
rounds smaller ones down to 0. The order of momentum, Nesterov and Adam among each other is not claimed.

Source: the notes, "Optimizer"; Rosenbrock 1960; Beale 1958.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure

import fnn

MARGINS = {"Rosenbrock": 0.5, "Beale": 0.5, "MLP": 0.02}  # how much lower log₁₀ of the loss is than SGD's
FLOOR = 1e-12
MAKERS = {f.__name__: f for f in (fnn.sgd, fnn.momentum, fnn.nesterov, fnn.adagrad, fnn.rmsprop, fnn.adam)}
RATES = 10.0 ** np.arange(-4, 1.1, 0.25)


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(x, y):
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


PROBLEMS = list(MARGINS)
PLANES = ((rosenbrock, (-2.2, -0.5), (2, 3)), (beale, (0, -0.5), (4.5, 2)))  # with the corners of the view


def runs(maker, loss, starts, batches):
    """What the loss gives beside its value, of each rate, seed and step: (rates, seeds, steps, …)."""

    def run(rate, params, batches):
        optimizer = maker(rate)

        def step(carry, batch):
            params, state = carry
            value, grads = jax.value_and_grad(loss, has_aux=True)(params, batch)
            updates, state = optimizer.update(grads, state, params)
            return (fnn.apply_updates(params, updates), state), value[1]

        return jax.lax.scan(step, (params, optimizer.init(params)), batches)[1]

    both = jax.vmap(jax.vmap(run, (None, 0, 0)), (0, None, None))
    return jax.device_get(jax.jit(both)(jnp.asarray(RATES, jnp.float32), starts, batches))


def plane(maker, seeds, steps):
    """Both functions at once, which is possible as none of these optimizers mixes coordinates."""
    near = np.stack([np.random.default_rng(seed).uniform(-0.3, 0.3, (2, 2)) for seed in seeds])
    starts = jnp.asarray(near + np.array([[-1.5, 2.0], [1.0, 1.5]]), jnp.float32)

    def loss(points, _):
        values = jnp.stack([rosenbrock(*points[0]), beale(*points[1])])
        return values.sum(), (values, points)

    values, points = runs(maker, loss, starts, jnp.zeros((len(seeds), steps)))
    return values[..., 0], values[..., 1], points


def clothes(maker, seeds, data, steps):
    """The losses of an MLP, (rates, seeds, steps), of batches of 100."""
    net = fnn.serial(fnn.avg_pool(2), fnn.flatten, fnn.mlp((32,), 10))
    x, y = fnn.standardize(data.x[:5000], fnn.moments(data.x[:5000])), jnp.asarray(data.y[:5000])
    starts, _ = jax.vmap(lambda seed: net.init(jax.random.key(seed), x))(jnp.array(seeds))
    rows = np.stack([np.random.default_rng(seed).integers(len(x), size=(steps, 100)) for seed in seeds])

    def loss(params, rows):
        value = fnn.softmax_cross_entropy(net.apply(params, {}, x[rows])[0], y[rows]).mean()
        return value, value

    return runs(maker, loss, starts, rows)


@cache
def measured(name, seeds, load, steps):
    """By problem: the best rate, log₁₀ of each seed's end, its curves, a path in the plane."""
    *planes, points = plane(MAKERS[name], seeds, 500)
    found = {}
    for i, curves in enumerate((*planes, clothes(MAKERS[name], seeds, load().train, steps))):
        last = curves[..., -1] if i < 2 else curves[..., -steps // 5 :].mean(-1)
        ends = np.log10(np.maximum(np.nan_to_num(last, nan=np.inf), FLOOR))
        best = ends.mean(1).argmin()
        found[PROBLEMS[i]] = RATES[best], ends[best], curves[best], points[best, 0, :, i % 2]
    return found


def study(seeds=range(5), *, mechanism=True, load=fnn.fashion_mnist, steps=300) -> Study:
    """Compare each with SGD, both at their best rates; without the mechanism, SGD with SGD on other seeds."""
    seeds = tuple(seeds)
    found = {name: measured(name, seeds, load, steps) for name in MAKERS}
    again = None if mechanism else measured("sgd", others(seeds), load, steps)
    figure = Figure(figsize=(9.5, 3.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1)
    *planes, curves = figure.subplots(1, 3)
    for axes, problem, (f, low, high) in zip(planes, PROBLEMS, PLANES, strict=False):
        x, y = np.meshgrid(*np.linspace(low, high, 200).T)
        axes.contour(x, y, np.log10(f(x, y) + 1e-3), 8, colors="0.85", linewidths=0.7)
        for runs in found.values():
            axes.plot(*runs[problem][3].T, linewidth=1)
        axes.plot(*((1, 1) if f is rosenbrock else (3, 0.5)), "k*")
        axes.set(title=problem, xlabel="x", ylabel="y", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    for name, runs in found.items():
        smooth = runs["MLP"][2].mean(0).reshape(-1, 10).mean(1)
        curves.plot(np.arange(5, steps, 10), smooth, label=name)
    curves.set(title="MLP", xlabel="step", ylabel="training loss", yscale="log")
    figure.legend(*curves.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    table = [
        {
            "optimizer": name,
            **{f"rate, {problem}": float(runs[problem][0]) for problem in PROBLEMS},
            **{f"log₁₀, {problem}": float(runs[problem][1].mean()) for problem in PROBLEMS},
        }
        for name, runs in found.items()
    ]
    verdicts = [
        verdict(
            f"{problem}: {name} gets below SGD, in powers of 10",
            found["sgd"][problem][1],
            (again or found[name])[problem][1],
            margin,
        )
        for problem, margin in MARGINS.items()
        for name in ("momentum", "nesterov", "adam")
    ]
    return Study(table, verdicts, figure)


if __name__ == "__main__":
    publish("optimizers", study())
