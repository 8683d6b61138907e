"""The MLP on digits in scikit-learn."""

import numpy as np
import sklearn
from data import EPOCHS, digits
from sklearn.neural_network import MLPClassifier


def digits_mlp():
    x, y = digits()
    model = MLPClassifier((64,), batch_size=64, learning_rate_init=1e-3, alpha=0.0)
    classes = np.arange(10)

    def run():
        for _ in range(EPOCHS):
            model.partial_fit(x, y, classes=classes)

    return run


PREPARE = {"digits_mlp": digits_mlp}
VERSIONS = {"scikit-learn": sklearn.__version__}
