"""How long a hyperparameter search takes to reach an accuracy: fnn, PyTorch with Optuna, scikit-learn.

    python experiments/benchmarks/search.py          # half an hour on two cores
    python experiments/benchmarks/search.py digits --rounds 1

Each side is a process of its own, from its start to the moment at which its best trial reaches the target;
the sides take turns. All choose a learning rate and the strength of an L2 penalty for the same network,
optimizer, batch, epochs and data, in up to 64 trials: fnn as one program, PyTorch trial by trial as Optuna's
default sampler (and pruner, where one split judges) proposes them, scikit-learn by `RandomizedSearchCV` on
all cores. PyTorch and fnn judge a trial by its best epoch, scikit-learn by its last, which is all it has. fnn
runs with an empty compile cache, and again with the one that this left behind.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from statistics import median

TASKS = {  # accuracy to reach, hidden units, batch, epochs, folds, seconds at most
    "digits": (0.978, 64, 64, 20, 5, 300),
    "fashion": (0.892, 128, 128, 16, 1, 400),
}
TRIALS = 64
RATES, STRENGTHS = (1e-4, 1e-1), (1e-6, 1e-2)


def load(task):
    import numpy as np

    import fnn

    data = fnn.digits() if task == "digits" else fnn.fashion_mnist()
    x, y = (np.asarray(part) for part in data.train)
    return data, x.reshape(len(x), -1).astype(np.float32) / 255, y.astype(np.int64)


def say(best):
    print(json.dumps({"best": float(best)}), flush=True)


def fnn_side(task, seed):
    from fnn.run._cache import use_compile_cache
    from fnn.run._devices import one_device_per_core

    use_compile_cache()
    one_device_per_core()
    import jax

    import fnn

    _, hidden, batch, epochs, folds, _ = TASKS[task]

    def make(h):
        net = fnn.serial(fnn.flatten, fnn.mlp((hidden,), 10))
        return fnn.train._state.Task(
            net,
            fnn.softmax_cross_entropy,
            fnn.adam(h["rate"]),
            (lambda params: fnn.l2(params, h["strength"]),),
        )

    data = load(task)[0]
    cut = fnn.stratified_folds(data, count=folds) if folds > 1 else fnn.split(data, validation=5_000)
    fnn.search(
        fnn.training(make, cut, epochs=epochs, batch_size=batch),
        {"rate": fnn.log_uniform(*RATES), "strength": fnn.log_uniform(*STRENGTHS)},
        method=fnn.random_search(TRIALS, 16)
        if folds > 1
        else fnn.successive_halving(TRIALS, 4, population=16),
        seed=seed,
        mesh=fnn.mesh(data=1, population=len(jax.devices())) if len(jax.devices()) > 1 else None,
        report=lambda progress: say(max(outcome.score for outcome in progress.outcomes)),
    )


def torch_side(task, seed):
    import numpy as np
    import optuna
    import torch
    from sklearn.model_selection import StratifiedKFold, train_test_split
    from torch import nn

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _, hidden, batch, epochs, folds, _ = TASKS[task]
    _, x, y = load(task)
    if folds > 1:
        cuts = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y))
    else:
        cuts = [train_test_split(np.arange(len(x)), test_size=5_000, stratify=y, random_state=0)]
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def train(rate, strength, rows, held, report):
        torch.manual_seed(seed)
        mean, std = x[rows].mean(), x[rows].std()
        inside, outside = (x[rows] - mean) / std, (x[held] - mean) / std
        y_in, y_out = y[rows], y[held]
        net = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, 10))
        optimizer = torch.optim.Adam(net.parameters(), lr=rate, weight_decay=2 * strength)
        criterion = nn.CrossEntropyLoss()
        for epoch in range(epochs):
            net.train()
            for chosen in torch.randperm(len(rows)).split(batch):
                optimizer.zero_grad()
                criterion(net(inside[chosen]), y_in[chosen]).backward()
                optimizer.step()
            net.eval()
            with torch.inference_mode():
                report(epoch, (net(outside).argmax(1) == y_out).float().mean().item())

    best = 0.0

    def objective(trial):
        nonlocal best
        rate = trial.suggest_float("rate", *RATES, log=True)
        strength = trial.suggest_float("strength", *STRENGTHS, log=True)
        curves = np.zeros((folds, epochs))
        for fold, (rows, held) in enumerate(cuts):

            def report(epoch, accuracy, fold=fold):
                nonlocal best
                curves[fold, epoch] = accuracy
                if folds == 1:
                    best = max(best, accuracy)
                    say(best)
                    trial.report(accuracy, epoch)
                    if trial.should_prune():
                        raise optuna.TrialPruned

            train(rate, strength, rows, held, report)
        best = max(best, curves.mean(0).max())
        say(best)
        return curves.mean(0).max()

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=TRIALS)


def sklearn_side(task, seed):
    """Prints what `RandomizedSearchCV` prints of every fit, which `best_of` reads."""
    import numpy as np
    from scipy.stats import loguniform
    from sklearn.model_selection import PredefinedSplit, RandomizedSearchCV, StratifiedKFold, train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _, hidden, batch, epochs, folds, _ = TASKS[task]
    _, x, y = load(task)
    if folds > 1:
        cuts = StratifiedKFold(folds, shuffle=True, random_state=0)
    else:
        _, held = train_test_split(np.arange(len(x)), test_size=5_000, stratify=y, random_state=0)
        cuts = PredefinedSplit(np.where(np.isin(np.arange(len(x)), held), 0, -1))
    network = MLPClassifier((hidden,), batch_size=batch, max_iter=epochs, random_state=seed)
    RandomizedSearchCV(
        make_pipeline(StandardScaler(), network),
        {
            "mlpclassifier__learning_rate_init": loguniform(*RATES),
            "mlpclassifier__alpha": loguniform(1e-5, 1.0),
        },
        n_iter=TRIALS,
        cv=cuts,
        n_jobs=-1,
        random_state=seed,
        refit=False,
        verbose=3,
    ).fit(x, y)


def best_of(line, folds, scores):
    """The best accuracy so far, from a line of a side's output; None if it says nothing of it."""
    if line.startswith("{"):
        return json.loads(line)["best"]
    if " END " not in line or "score=" not in line:
        return None
    candidate = line.split(" END ")[1].split(";")[0]
    scores[candidate].append(float(line.split("score=")[1].split()[0]))
    whole = [sum(found) / folds for found in scores.values() if len(found) == folds]
    return max(whole, default=None)


def seconds_of(side, task, seed, cache):
    """Seconds from the start of a process to the target, and the best accuracy that it saw until then."""
    target, *_, folds, limit = TASKS[task]
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, task, "--side", side, "--seed", str(seed)]
    start = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    best, scores = 0.0, defaultdict(list)
    try:
        for line in process.stdout:
            best = max(best, best_of(line, folds, scores) or 0.0)
            if best >= target or time.monotonic() - start > limit:
                break
        return time.monotonic() - start, best
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    tasks = given.tasks or list(TASKS)
    if given.side:
        {"fnn": fnn_side, "torch": torch_side, "sklearn": sklearn_side}[given.side](tasks[0], given.seed)
        return
    for task in tasks:
        times = defaultdict(list)
        for seed in range(given.rounds):
            with tempfile.TemporaryDirectory() as cache:
                for name in ("fnn, cold", "fnn, warm", "torch", "sklearn"):
                    seconds, best = seconds_of(name.split(",")[0], task, seed, cache)
                    reached = best >= TASKS[task][0]
                    times[name].append(seconds if reached else float("inf"))
                    print(f"{task} seed {seed} {name:10} {seconds:6.1f} s  best {best:.4f}", flush=True)
        peer = min(median(times["torch"]), median(times["sklearn"]))
        for name, seconds in times.items():
            print(
                f"{task} {name:10} median {median(seconds):6.1f} s, "
                f"{median(seconds) / peer:.2f} of the faster peer"
            )


if __name__ == "__main__":
    main()
