"""Training: pure steps, chunks and epochs, and the loop that drives them."""

from fnn.train._check_fit import steps_of_run
from fnn.train._evaluate import evaluate, predict
from fnn.train._fit import Diverged, Fit, Progress, fit
from fnn.train._mesh import mesh
from fnn.train._population import fastest, over_population
from fnn.train._state import Batch, Make, Task, TrainState, init_state
from fnn.train._step import StepMetrics, epoch_rows, masked_mean, train_chunk, train_epoch, train_step
from fnn.train._watch import Watched

__all__ = [
    "Batch",
    "Diverged",
    "Fit",
    "Make",
    "Progress",
    "StepMetrics",
    "Task",
    "TrainState",
    "Watched",
    "epoch_rows",
    "evaluate",
    "fastest",
    "fit",
    "init_state",
    "masked_mean",
    "mesh",
    "over_population",
    "predict",
    "steps_of_run",
    "train_chunk",
    "train_epoch",
    "train_step",
]
