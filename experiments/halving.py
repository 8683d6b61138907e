"""Successive halving finds better hyperparameters than random search does with as many epochs.

64 trials on rungs of 1, 4 and 16 epochs cost 64·1 + 16·3 + 4·12 = 160 epochs: as much as 10 whole ones.
Measured: the test loss of the trial with the lowest validation loss among those that were trained to the end.
Survivors go on from where they were, so a rung of halving is a piece of a whole curve. A trial is told with
its training and validation losses, as a search of fnn does, where low training losses protect. Sizes and
margin were set on seeds 0-9.

Source: Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization".
"""

import numpy as np
from claims import Study, publish, verdict
from matplotlib.figure import Figure
from objective import EPOCHS, SPACE, chosen, only, random_losses

import fnn

MARGIN = 0.05  # of ln(test loss)
TRIALS, ETA = 64, 4


def survivors(training, validation, seed):
    """Which of the trials of one seed are trained to the end, and the epochs that halving cost."""
    rounds = fnn.successive_halving(TRIALS, ETA).rounds(SPACE, EPOCHS, seed)
    asked, cost, before = next(rounds), 0, 0
    while asked.epochs < EPOCHS:
        cost, before = cost + len(asked.trials) * (asked.epochs - before), asked.epochs
        told = []
        for trial in asked.trials:
            seen = [float(loss) for loss in training[trial.number, : asked.epochs]]
            held = [float(loss) for loss in validation[trial.number, : asked.epochs]]
            rows = tuple({"loss": a, "validation_loss": b} for a, b in zip(seen, held, strict=True))
            diverged = not np.isfinite([seen, held]).all()
            told.append(fnn.Outcome(trial, asked.epochs, -min(held), float("nan"), rows, diverged))
        asked = rounds.send(told)
    return [trial.number for trial in asked.trials], cost + len(asked.trials) * (EPOCHS - before)


def study(seeds=range(10, 40), *, mechanism=True) -> Study:
    """Compare both; without the mechanism, who survives is decided by lot."""
    seeds = tuple(seeds)
    losses = random_losses(TRIALS, seeds)
    told = losses.training, losses.validation
    if not mechanism:
        told = np.random.default_rng(7).random((2, *losses.validation.shape))
    kept, costs = zip(*map(survivors, *told, seeds), strict=True)
    whole = costs[0] // EPOCHS
    found = {
        "successive halving": np.log(chosen(only(losses, kept))),
        "random search": np.log(chosen(only(losses, range(whole)))),
        "all trials to the end": np.log(chosen(losses)),
    }
    table = [
        {
            "search": name,
            "trials": trials,
            "epochs": epochs,
            "ln test loss of the chosen": float(found[name].mean()),
            "worst seed": float(found[name].max()),
        }
        for name, trials, epochs in (
            ("successive halving", TRIALS, costs[0]),
            ("random search", whole, whole * EPOCHS),
            ("all trials to the end", TRIALS, TRIALS * EPOCHS),
        )
    ]
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, EPOCHS + 1)
    for number, each in enumerate(losses.validation[0]):
        axes.plot(
            epochs, each, color="C0" if number in kept[0] else "0.8", linewidth=1, zorder=number in kept[0]
        )
    axes.set(
        xlabel="epoch", ylabel="validation loss", yscale="log", title="first seed: the trials that survive"
    )
    claim = (
        "ln test loss of what a search chose is lower after halving than after as many whole trials' epochs"
    )
    pair = found["random search"], found["successive halving"]
    return Study(table, [verdict(claim, *pair, MARGIN)], figure)


if __name__ == "__main__":
    publish("halving", study())
