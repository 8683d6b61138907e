"""Every check of the babysitter, with its thresholds, in one table.

The order is that of causes: where several checks complain, the first is named. What is certain (a row of the
training data among the validation data) comes before what is inferred from it (a gap that is too small), and
causes before symptoms. The thresholds are set on one half of the runs of `experiments/calibration` and judged
on the other; `docs/diagnostics.md` has the error rates.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

_CS231N = "Stanford CS231n, Neural Networks Part 3: Learning and Evaluation"
_INF = float("inf")


class Check(NamedTuple):
    """What a check measures, and when that is bad.

    Attributes:
        stage: when it can be told: from the data, before training, while training, or after it.
        measures: the number, in words.
        warn, fail: thresholds; infinite (or minus infinite) where there is none.
        bad: whether high or low numbers are bad.
        advice: what to try next.
        source: the paper or textbook.
    """

    stage: Literal["data", "start", "training", "curve"]
    measures: str
    warn: float
    fail: float
    bad: Literal["high", "low"]
    advice: str
    source: str


CHECKS: dict[str, Check] = {
    # The data.
    "data_leak": Check(
        "data", "the share of validation and test rows that also stand among the training rows",
        0.02, 0.1, "high", "take duplicates out before splitting; the validation figures say too much",
        "Barz and Denzler (2020), Do we train on test data?",
    ),
    "data_labels": Check(
        "data", "by how many standard errors a nearest neighbour's class is ahead of guessing",
        6.0, 4.0, "low", "look at examples with their labels: they may be shuffled against the inputs",
        "Cover and Hart (1967), Nearest neighbor pattern classification",
    ),
    "batch_purity": Check(
        "training", "how much more often two examples of a batch share a class than two of the data, 0 to 1",
        0.15, 0.4, "high", "shuffle the examples in every epoch: batches of one class pull in turn",
        "Bengio (2012), Practical recommendations for gradient-based training, section 3.1",
    ),
    "data_range": Check(
        "data", "|log10 of the root mean square of the network's inputs|",
        0.6, 1.0, "high", "standardize the inputs: mean 0 and deviation 1",
        "LeCun et al. (1998), Efficient BackProp, section 4.3",
    ),
    "data_balance": Check(
        "data", "the size of the rarest class over that of the most frequent",
        0.1, -_INF, "low", "judge by class, weigh the loss or resample: accuracy hides the rare class",
        "He and Garcia (2009), Learning from imbalanced data",
    ),
    "data_constant": Check(
        "data", "the share of input features that never change",
        0.6, 0.999, "high", "see whether the inputs were read right; drop features without information",
        _CS231N,
    ),
    "data_duplicates": Check(
        "data", "the share of training rows that repeat an earlier one",
        0.1, _INF, "high", "take duplicates out, or mean them: they weigh more than the others",
        "Barz and Denzler (2020), Do we train on test data?",
    ),
    # The network and its loss, before the first step.
    "output_probabilities": Check(
        "start", "how far the outputs' sum is from 1, where the loss applies softmax itself",
        1e-3, 1e-3, "low", "remove the softmax at the end of the network: the loss applies it to logits",
        "Goodfellow, Bengio and Courville (2016), Deep Learning, section 6.2.2",
    ),
    "output_negative": Check(
        "start", "the share of negative outputs at the start",
        0.01, 1e-4, "low", "remove the ReLU behind the last layer: logits have to take either sign",
        "Goodfellow, Bengio and Courville (2016), Deep Learning, section 6.2.2",
    ),
    "loss_target": Check(
        "start", "the share of examples whose loss falls fastest where the right class's output rises; of "
        "outputs that are numbers, the share for which it falls as those of larger targets rise",
        0.9, 0.5, "low", "look at the loss: its sign, its order of arguments, its numbering of classes",
        _CS231N,
    ),
    "penalty_sign": Check(
        "start", "the smallest rise of the penalty over the loss as parameters grow to 10 and to 100 times",
        0.0, 0.0, "low", "turn the sign of the penalty: it rewards large parameters",
        _CS231N,
    ),
    "penalty_size": Check(
        "start", "the penalty's pull over the loss's, as norms of their gradients at the start",
        1.0, 10.0, "high", "make the penalty weaker by powers of ten until the loss leads",
        _CS231N,
    ),
    "logit_variance": Check(
        "start", "the variance of an example's outputs at the start, the mean over examples",
        15.0, 100.0, "high", "draw the last layer's initial values smaller: Kaiming's or Xavier's deviation",
        "He et al. (2015), Delving deep into rectifiers",
    ),
    "initial_loss": Check(
        "start", "|loss - expected| over ln C at the start, expected ln C + ½ logit_variance",
        0.5, 1.0, "high", "see whether loss and targets fit, and whether initial values are of a usual size",
        _CS231N,
    ),
    "signal": Check(
        "start", "log10 of the smallest deviation over examples of a hidden layer's outputs at the start",
        -2.0, -3.0, "low", "the signal dies on its way: Kaiming for ReLU, Xavier for tanh, fewer sigmoids, "
        "normalisation or residuals; values that all start at zero never part",
        "Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward networks",
    ),
    "signal_explodes": Check(
        "start", "log10 of the largest deviation over examples of a hidden layer's outputs at the start",
        0.7, 1.5, "high", "draw smaller initial values: Kaiming for ReLU, Xavier for tanh",
        "Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward networks",
    ),
    "dead_at_start": Check(
        "start", "the largest share of a layer's rectified units that are 0 for every example at the start",
        0.5, 0.95, "high", "look at the biases and the scale of the initial values",
        "Maas, Hannun and Ng (2013), Rectifier nonlinearities improve neural network acoustic models",
    ),
    "saturated_at_start": Check(
        "start", "the largest share of a layer's sigmoid or tanh outputs in the flat tails at the start",
        0.5, 0.9, "high", "draw smaller initial values, and standardize the inputs",
        "LeCun et al. (1998), Efficient BackProp, section 4.4",
    ),
    "zero_gradient": Check(
        "start", "the share of learning parameter arrays whose gradient is zero or not finite at the start",
        0.0, 0.0, "high", "find out which part of the network does not reach the loss; do not start all "
        "kernels at zero",
        _CS231N,
    ),
    "frozen": Check(
        "start", "the share of the parameters that `freeze` keeps at their initial, untrained values",
        0.0, 0.95, "high", "freeze only what was trained before; remove the pattern from `freeze`",
        "Yosinski et al. (2014), How transferable are features in deep neural networks?",
    ),
    "state_updates": Check(
        "start", "the share of running statistics that a training step changes",
        0.999, 0.5, "low", "give batch norm a momentum below 1, and keep the state that apply returns",
        "Ioffe and Szegedy (2015), Batch Normalization",
    ),
    "noise": Check(
        "start", "the variance of the outputs over dropout masks, over that over examples",
        6.0, 10.0, "high", "lower the dropout rate, which is the share that is dropped: 0.2 to 0.5",
        "Srivastava et al. (2014), Dropout",
    ),
    "independence": Check(
        "start", "how far an example's loss changes with the other examples of its batch, relative",
        1e-4, 1e-2, "high", "some operation mixes examples: look for a wrong axis or reshape, or a loss "
        "that broadcasts (N,) against (N, 1)",
        "Karpathy (2019), A recipe for training neural networks",
    ),
    "gradients": Check(
        "start", "the relative error of the gradient against differences in float64",
        0.001, 0.01, "high", "a gradient written by hand is wrong, or the loss is not smooth there",
        _CS231N,
    ),
    # The optimizer.
    "clipping": Check(
        "start", "how many times the optimizer's first step is shortened by clipping",
        300.0, 3000.0, "high", "raise the clipping norm above the usual norm of the gradient",
        "Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks",
    ),
    "memory": Check(
        "start", "for which share of 100 steps the updates go on when a gradient of 100 steps turns",
        0.6, 0.8, "high", "lower the momentum: 0.9 forgets in tens of steps, 0.999 in thousands",
        "Sutskever et al. (2013), On the importance of initialization and momentum in deep learning",
    ),
    "rate_high": Check(
        "start", "log10 of the learning rate over that which fell fastest in the range test",
        0.7, 1.2, "high", "lower the learning rate by this many powers of ten",
        "Smith (2017), Cyclical learning rates for training neural networks",
    ),
    "rate_low": Check(
        "start", "log10 of the learning rate that fell fastest in the range test over the configured one",
        1.8, 2.3, "high", "raise the learning rate by this many powers of ten",
        "Smith (2017), Cyclical learning rates for training neural networks",
    ),
    "overfit": Check(
        "start", "the accuracy on a tiny sample after training on it alone, at the best of several rates",
        0.999, 0.9, "low", "the model cannot even remember: look for a part that does not learn, or a loss "
        "that does not fit",
        _CS231N,
    ),
    "overfit_loss": Check(
        "start", "how far the loss on that sample ends above the lowest possible",
        0.01, 1.0, "high", "train longer or look at the loss and the last layer",
        _CS231N,
    ),
    "blank": Check(
        "start", "the loss after a few steps on real inputs over that on blank ones",
        0.97, _INF, "high", "the network learns nothing from its inputs: see whether they reach it",
        "Karpathy (2019), A recipe for training neural networks",
    ),
    # While it trains and after it.
    "diverged": Check(
        "curve", "the training loss at the end over the one at the start",
        1.05, 1.3, "high", "lower the learning rate, or clip the gradient by its norm",
        _CS231N,
    ),
    "barely_moves": Check(
        "curve", "the part of the training loss that the run removed",
        0.3, 0.1, "low", "raise the learning rate",
        _CS231N,
    ),
    "jumps": Check(
        "curve", "how far the training loss goes up in all, over its whole range",
        1.0, 3.0, "high", "lower the learning rate, or take larger batches",
        _CS231N,
    ),
    "high_plateau": Check(
        "curve", "the loss of the last tenth over the one at the start, where the first tenth made the fall",
        0.4, _INF, "high", "lower the learning rate, at once or when the fall ends",
        _CS231N,
    ),
    "late_fall": Check(
        "curve", "the time until a tenth of the fall over the time until half of it",
        0.7, 0.9, "high", "draw other initial values: the run starts near a saddle",
        _CS231N,
    ),
    "spikes": Check(
        "curve", "the highest loss of a step over the median of those around it",
        50.0, 1000.0, "high", "clip the gradient by its norm, or lower the learning rate",
        "Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks",
    ),
    "update_ratio_high": Check(
        "training", "log10 of the largest of the layers' median ratios ‖Δw‖/‖w‖",
        -0.5, 0.0, "high", "lower the learning rate: about 1e-3 is usual",
        _CS231N,
    ),
    "update_ratio_low": Check(
        "training", "log10 of the largest of the layers' median ratios ‖Δw‖/‖w‖",
        -4.0, -5.0, "low", "raise the learning rate: about 1e-3 is usual",
        _CS231N,
    ),
    "statistics": Check(
        "training", "how far running statistics are from those of the data, in deviations",
        0.5, 2.0, "high", "lower the momentum of batch norm, or train longer: evaluation uses them",
        "Ioffe and Szegedy (2015), Batch Normalization",
    ),
    "dead_units": Check(
        "training", "the largest share of a layer's rectified units that are 0 for every probed example",
        0.65, _INF, "high", "lower the learning rate, or take leaky ReLU",
        "Maas, Hannun and Ng (2013), Rectifier nonlinearities improve neural network acoustic models",
    ),
    "saturated_units": Check(
        "training", "the largest share of a layer's sigmoid or tanh outputs in the flat tails",
        0.9, 0.99, "high", "draw smaller initial values, lower the learning rate, or normalise",
        "Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward networks",
    ),
    "overfitting": Check(
        "curve", "the gap of training and validation accuracy, beyond two standard errors",
        0.2, _INF, "high", "more regularization, more data or augmentation, or stop earlier",
        _CS231N,
    ),
    "validation_rise": Check(
        "curve", "how far the validation loss ends above its lowest, relative",
        2.0, _INF, "high", "stop earlier or keep the best state; more regularization, data or augmentation",
        _CS231N,
    ),
    "underfitting": Check(
        "curve", "by how many standard errors the training error exceeds that of a larger reference run",
        3.0, _INF, "high", "raise the capacity or train longer: the reference learns what this run does not",
        _CS231N,
    ),
    "still_falling": Check(
        "curve", "how much the last fifth of the run lowered the validation loss, relative",
        0.4, _INF, "high", "train longer",
        _CS231N,
    ),
}  # fmt: skip
"""Every check by its id, in the order in which causes are named."""
