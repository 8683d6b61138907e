"""Looking coarsely everywhere, then finely around the best, beats looking everywhere for as many epochs.

32 trials of 3 epochs, a fifth of 16, then 26 whole ones in a box of 0.3 of each range around the best:
512 epochs, as many as 32 whole random trials. Measured: the test loss of the trial with the lowest validation
loss. Sizes and margin were set on seeds 0-9.

Source: Stanford's course CS231n, "Hyperparameter optimization: stage your search from coarse to fine"; the
notes, "Hyperparameter Optimization".
"""

import numpy as np
from claims import Study, others, publish, verdict
from matplotlib.figure import Figure
from objective import EPOCHS, SPACE, chosen, random_losses, random_trials, trained

import fnn

MARGIN = 0.0  # of ln(test loss)
COARSE, FINE, ZOOM = 32, 26, 0.3


def study(seeds=range(10, 40), *, mechanism=True) -> Study:
    """Compare both; without the mechanism the fine stage looks everywhere too."""
    seeds = tuple(seeds)
    random = random_trials(COARSE, seeds)
    first = random_losses(COARSE, seeds)
    method = fnn.coarse_to_fine(COARSE, FINE, ZOOM)
    fine = []
    for seed, losses in zip(seeds, first.validation, strict=True):
        rounds = method.rounds(SPACE, EPOCHS, seed)
        asked = next(rounds)
        coarse = losses[:, asked.epochs - 1]
        told = [
            fnn.Outcome(trial, asked.epochs, -float(loss), float("nan"), (), not np.isfinite(loss))
            for trial, loss in zip(asked.trials, coarse, strict=True)
        ]
        fine.append(rounds.send(told).trials)
    if not mechanism:
        fine = [row[:FINE] for row in random_trials(COARSE, others(seeds))]
    second = trained(fine, seeds)
    found = {"coarse to fine": np.log(chosen(second)), "random search": np.log(chosen(first))}
    table = [
        {
            "search": name,
            "epochs": epochs,
            "ln test loss of the chosen": float(found[name].mean()),
            "worst seed": float(found[name].max()),
        }
        for name, epochs in (
            ("coarse to fine", COARSE * (EPOCHS // 5) + FINE * EPOCHS),
            ("random search", COARSE * EPOCHS),
        )
    ]
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for k, (trials, losses, name) in enumerate(((random[0], first, "coarse"), (fine[0], second, "fine"))):
        rates = [trial.hyperparameters["learning rate"] for trial in trials]
        at = EPOCHS // 5 - 1 if name == "coarse" else -1
        axes.scatter(rates, losses.validation[0, :, at], s=12, color=f"C{k}", label=name)
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="validation loss, first seed")
    axes.legend(frameon=False)
    claim = "ln test loss of what a search chose is lower from coarse to fine than at random"
    return Study(table, [verdict(claim, found["random search"], found["coarse to fine"], MARGIN)], figure)


if __name__ == "__main__":
    publish("coarse_to_fine", study())
