"""A learning rate is better sought in log space: evenly drawn ones are nearly all of the largest decade.

Between 10⁻⁴ and 10, nine of ten evenly drawn rates lie above 1, where this network diverges or learns
nothing, and one of 11,000 below 10⁻³; drawn in log space every decade gets as many. Both are
random searches of a few trials over the same objective; the other hyperparameters are drawn alike. Measured:
the test loss of the trial that has the lowest validation loss, and the share of trials that end with a loss
above ln 10, that of a guess.

Source: the notes, "Hyperparameter Optimization"; Bergstra and Bengio 2012, "Random search for hyper-parameter
optimization", section 4.
"""

import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure
from objective import SPACE, chosen, only, random_trials, trained

import fnn

MARGIN = 0.2  # of ln(test loss)
EVEN = fnn.Space({**SPACE.distributions, "learning rate": fnn.uniform(1e-4, 10.0)}, allowed=SPACE.allowed)


def study(seeds=range(10, 40), *, mechanism=True, count=16) -> Study:
    """Compare both; without the mechanism the second search draws in log space too, other trials."""
    seeds = tuple(seeds)
    second = random_trials(count, seeds, EVEN) if mechanism else random_trials(count, others(seeds))
    trials = [log + even for log, even in zip(random_trials(count, seeds), second, strict=True)]
    losses = trained(trials, seeds)
    sides = {"in log space": np.arange(count), "evenly": np.arange(count, 2 * count)}
    found = {name: only(losses, kept) for name, kept in sides.items()}
    ends = {name: np.log(chosen(each)) for name, each in found.items()}
    table = [
        {
            "learning rate drawn": name,
            "trials no better than a guess": float((each.validation[:, :, -1] > np.log(10)).mean()),
            "ln test loss of the chosen": float(ends[name].mean()),
            "worst seed": float(ends[name].max()),
        }
        for name, each in found.items()
    ]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, kept in sides.items():
        rates = [trials[0][k].hyperparameters["learning rate"] for k in kept]
        axes.scatter(rates, losses.validation[0, kept, -1], s=14, label=name)
    axes.axhline(np.log(10), color="0.7", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="validation loss, first seed")
    axes.legend(frameon=False)
    claim = "ln test loss of what a search chose is lower with rates drawn in log space than evenly"
    return Study(table, [verdict(claim, ends["evenly"], ends["in log space"], MARGIN)], figure)


if __name__ == "__main__":
    publish("learning_rate_scale", study())
