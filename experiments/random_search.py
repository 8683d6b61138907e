"""Random search beats a grid of the same size where few of the hyperparameters matter.

A grid of 3⁴ = 81 trials tries three learning rates, 81 random trials try 81. Which values a grid hits is
luck, so each seed's grid is shifted by a random part of its spacing. Measured: the test loss of the trial
that has the lowest validation loss, and the share of the random trials' ranks that each hyperparameter
explains. Sizes and margin were set on seeds 0-9.

Source: Bergstra and Bengio 2012, "Random search for hyper-parameter optimization"; the notes, "Hyperparameter
optimization".
"""

import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure
from objective import EPOCHS, NAMES, SPACE, chosen, random_losses, random_trials, trained

import fnn
from fnn.tune._importance import importance
from fnn.tune._method import numbered

MARGIN = 0.02  # of ln(test loss)


def shifted_grid(points, seed):
    """Every combination of a few values, in random places of equal distances."""
    offsets = np.random.default_rng([seed, 7]).random(SPACE.axes)
    axes = [(np.arange(points) + offset) / points for offset in offsets]
    return numbered(SPACE, np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, SPACE.axes))


def study(seeds=range(10, 40), *, mechanism=True, points=3) -> Study:
    """Compare both; without the mechanism the grid is a random search too, of other trials."""
    seeds = tuple(seeds)
    random = random_trials(points**SPACE.axes, seeds)
    grid = [shifted_grid(points, seed) for seed in seeds]
    if not mechanism:
        grid = random_trials(points**SPACE.axes, others(seeds))
    losses = {"random": random_losses(len(random[0]), seeds), "grid": trained(grid, seeds)}
    found = {name: np.log(chosen(each)) for name, each in losses.items()}
    shares = [
        importance(
            [
                fnn.Outcome(t, EPOCHS, -float(loss), float("nan"), (), False)
                for t, loss in zip(row, each[:, -1], strict=True)
            ],
            SPACE,
        )
        for row, each in zip(random, losses["random"].validation, strict=True)
    ]
    table = [
        {
            "search": name,
            "values of each hyperparameter": points if name == "grid" else points**SPACE.axes,
            "ln test loss of the chosen": float(found[name].mean()),
            "worst seed": float(found[name].max()),
        }
        for name in losses
    ]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, (name, trials) in enumerate((("random", random), ("grid", grid))):
        rates = [trial.hyperparameters["learning rate"] for trial in trials[0]]
        left.scatter(rates, losses[name].validation[0, :, -1], s=10, color=f"C{k}", label=name)
    left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="validation loss, first seed")
    left.legend(frameon=False)
    right.barh(NAMES, [np.mean([share[name] for share in shares]) for name in NAMES], color="C0")
    right.set(xlabel="share of the ranks that each explains", xlim=(0, 1))
    claim = "ln test loss of what a search chose is lower for random search than for a grid"
    return Study(table, [verdict(claim, found["grid"], found["random"], MARGIN)], figure)


if __name__ == "__main__":
    publish("random_search", study())
