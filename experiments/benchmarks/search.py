"""How long a hyperparameter search takes to the same best accuracy: fnn, PyTorch with Optuna, scikit-learn.

    python experiments/benchmarks/search.py          # half an hour on two cores
    python experiments/benchmarks/search.py digits --rounds 1

Each side is a process of its own, and the sides take turns. All choose a learning rate and the strength of an
L2 penalty for the same network, optimizer, batch, epochs and data, in up to 64 trials: fnn by successive
halving, many trials in one program; PyTorch trial by trial as Optuna's default sampler (and pruner, where one
split judges) proposes them; scikit-learn by `RandomizedSearchCV` on all cores. PyTorch and fnn judge a trial
by its best epoch, scikit-learn by its last, which is all it has. fnn runs with an empty compile cache, and
again with the one that this left behind.

fnn searches to its end, the others until they are where it ended, or to theirs, or for `LIMIT` seconds. What
counts is the time since the start of the process to the best accuracy that all have reached, those apart that
met the limit.
"""

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from statistics import median

TASKS = {  # hidden units, batch, epochs, folds; how many trials fnn trains together, how many share a place
    "digits": (64, 64, 20, 5, 64, 4),
    "fashion": (128, 128, 16, 1, 18, 3),
}
LIMIT = 200  # seconds for a side
SIDES = ("fnn, cold", "fnn, warm", "torch", "sklearn")
TRIALS = 64
RATES, STRENGTHS = (1e-4, 1e-1), (1e-6, 1e-2)


def load(task):
    import fnn

    return fnn.digits() if task == "digits" else fnn.fashion_mnist()


def arrays(task):
    """The inputs as rows of floats in [0, 1], and the classes, as the peers want them."""
    import numpy as np

    x, y = (np.asarray(part) for part in load(task).train)
    return x.reshape(len(x), -1).astype(np.float32) / 255, y.astype(np.int64)


def say(best):
    print(json.dumps({"best": float(best)}), flush=True)


def fnn_side(task, seed):
    from fnn.run._cache import use_compile_cache
    from fnn.run._devices import one_device_per_core

    gc.set_threshold(10_000)  # this and the next two as the command `fnn` does
    use_compile_cache()
    one_device_per_core()
    import jax

    import fnn

    hidden, batch, epochs, folds, together, eta = TASKS[task]

    def make(h):
        net = fnn.serial(fnn.flatten, fnn.mlp((hidden,), 10))
        return fnn.train._state.Task(
            net,
            fnn.softmax_cross_entropy,
            fnn.adam(h["rate"]),
            (lambda params: fnn.l2(params, h["strength"]),),
        )

    data = load(task)
    cut = fnn.stratified_folds(data, count=folds) if folds > 1 else fnn.split(data, validation=5_000)
    fnn.search(
        fnn.training(make, cut, epochs=epochs, batch_size=batch),
        {"rate": fnn.log_uniform(*RATES), "strength": fnn.log_uniform(*STRENGTHS)},
        method=fnn.successive_halving(TRIALS, eta, population=together),
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
    hidden, batch, epochs, folds, *_ = TASKS[task]
    x, y = arrays(task)
    if folds > 1:
        cuts = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y))
    else:
        cuts = [train_test_split(np.arange(len(x)), test_size=5_000, stratify=y, random_state=0)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)

    def train(rate, strength, rows, held, report):
        torch.manual_seed(seed)
        mean, std = x[rows].mean(), x[rows].std()
        inside, outside = (x[rows] - mean) / std, (x[held] - mean) / std
        y_in, y_out = y[rows], y[held]
        net = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, 10)).to(device)
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

    hidden, batch, epochs, folds, *_ = TASKS[task]
    x, y = arrays(task)
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


def trace_of(side, task, seed, cache, enough):
    """How a side's best accuracy rose, `(seconds since its start, accuracy)`; whether it met the limit."""
    folds = TASKS[task][3]
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, task, "--side", side, "--seed", str(seed)]
    start = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    clock = threading.Timer(LIMIT, end, [process])
    clock.start()
    trace, scores = [(0.0, 0.0)], defaultdict(list)
    try:
        for line in process.stdout:
            best = best_of(line, folds, scores)
            if best is not None and best > trace[-1][1]:
                trace.append((time.monotonic() - start, best))
                if best >= enough:
                    break
    finally:
        late = not clock.is_alive()
        clock.cancel()
        end(process)
    if process.returncode > 0:
        raise SystemExit(f"{side} failed; see why with `{' '.join(command[1:])}`")
    seconds, best = trace[-1]
    print(f"{task} seed {seed} {side:7} {best:.4f} after {seconds:.1f} s", flush=True)
    return trace, late


def end(process):
    """End a side and its workers."""
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    process.wait()


def reached(trace, accuracy):
    """Seconds until a trace is at an accuracy."""
    return next((seconds for seconds, best in trace if best >= accuracy), math.inf)


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
                traces, enough = {}, 1.0
                for name in SIDES:
                    side = name.split(",")[0]
                    traces[name] = trace_of(side, task, seed, cache, enough)
                    if side == "fnn":
                        enough = traces[name][0][-1][1]
            same = min(trace[-1][1] for trace, late in traces.values() if not late)
            for name, (trace, _) in traces.items():
                times[name].append(reached(trace, same))
                print(f"{task} seed {seed} {name:10} {times[name][-1]:6.1f} s to {same:.4f}", flush=True)
            print(json.dumps({"task": task, "seed": seed, "traces": traces}), flush=True)
        peer = min(median(times["torch"]), median(times["sklearn"]))
        for name, seconds in times.items():
            print(
                f"{task} {name:10} median {median(seconds):6.1f} s, "
                f"{median(seconds) / peer:.2f} of the faster peer"
            )


if __name__ == "__main__":
    main()
