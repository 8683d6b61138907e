"""Writes torch_values.npz: what float64 PyTorch gives for activations, PReLU, norms and alpha dropout.

Run where torch is installed: `python tests/nn/make_nn_values.py`. The tests read the file only.
"""

from pathlib import Path

import numpy as np

RATES = (0.1, 0.5, 0.8)


def main() -> None:
    import torch  # here, so that collecting this file (doctests) needs no torch
    import torch.nn.functional as F

    rng = np.random.default_rng(0)
    values = {}

    def leaf(array):
        return torch.tensor(array, dtype=torch.float64, requires_grad=True)

    def store(name, y, cotangent, **inputs):
        """The output and, for each input, its values and its gradient."""
        gradients = torch.autograd.grad(y, list(inputs.values()), torch.tensor(cotangent))
        values[f"{name}/y"] = y.detach().numpy()
        values[f"{name}/cotangent"] = cotangent
        for (key, value), gradient in zip(inputs.items(), gradients, strict=True):
            values[f"{name}/{key}"] = value.detach().numpy()
            values[f"{name}/d{key}"] = gradient.numpy()

    # Activations, at 0, on both sides of it and far away. F.softplus is x itself from 20 on, to 2e-9.
    x = np.array([0.0, 1e-3, -1e-3, 0.5, -0.5, 1, -1, 2.5, -2.5, 5, -5, 15, -15, 1e4, -1e4])
    activations = {
        "relu": F.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "leaky_relu": F.leaky_relu,
        "leaky_relu 0.3": lambda x: F.leaky_relu(x, 0.3),
        "leaky_relu 1.5": lambda x: F.leaky_relu(x, 1.5),
        "elu": F.elu,
        "elu 0.4": lambda x: F.elu(x, 0.4),
        "selu": F.selu,
        "gelu": F.gelu,
        "gelu approximate": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
        "softplus": F.softplus,
    }
    for name, function in activations.items():
        tx = leaf(x)
        store(f"activation/{name}", function(tx), np.ones(len(x)), x=tx)

    # PReLU and norms: channels are last here, second in PyTorch.
    shapes = {"vectors": (4, 6), "sequences": (3, 5, 6), "images": (2, 3, 4, 6), "volumes": (2, 3, 2, 2, 6)}
    for name, shape in shapes.items():
        x, cotangent = rng.normal(size=shape) * 2 + 1, rng.normal(size=shape)

        for slopes in (1, 6):
            tx, slope = leaf(x), leaf(rng.uniform(0.1, 1.5, slopes))
            y = F.prelu(tx.movedim(-1, 1), slope).movedim(1, -1)
            store(f"prelu/{'shared' if slopes == 1 else 'channels'}/{name}", y, cotangent, x=tx, slope=slope)

        norms = {
            "layer_norm": lambda x, scale, bias: F.layer_norm(x, (6,), scale, bias, eps=1e-2),
            "group_norm": lambda x, scale, bias: F.group_norm(
                x.movedim(-1, 1), 2, scale, bias, eps=1e-2
            ).movedim(1, -1),
            "instance_norm": lambda x, scale, bias: F.instance_norm(
                x.movedim(-1, 1), weight=scale, bias=bias, eps=1e-2
            ).movedim(1, -1),
        }
        for kind, norm in norms.items():
            if (kind, name) != ("instance_norm", "vectors"):
                tx, scale, bias = leaf(x), leaf(rng.uniform(0.5, 2, 6)), leaf(rng.normal(size=6))
                store(f"{kind}/{name}", norm(tx, scale, bias), cotangent, x=tx, scale=scale, bias=bias)

    # Alpha dropout of zeros gives b where kept and aα' + b where dropped; of ones a + b where kept.
    torch.manual_seed(0)
    for rate in RATES:
        for number in (0, 1):
            y = F.alpha_dropout(torch.full((1000,), float(number), dtype=torch.float64), rate, training=True)
            values[f"alpha_dropout/{rate}/{number}"] = np.unique(y.numpy())

    path = Path(__file__).with_name("torch_values.npz")
    np.savez_compressed(path, **values)
    print(f"{len(values)} arrays, {path.stat().st_size / 1000:.0f} kB, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
