"""Write torch_values.npz: what PyTorch computes where its formulas are also ours.

Run it where PyTorch is installed: python tests/optim/make_optim_values.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

STEPS = 100


def main() -> None:
    import torch  # not at the top: the test run imports this file where PyTorch is missing

    torch.set_default_dtype(torch.float64)
    random = np.random.default_rng(0)
    values: dict[str, Any] = {}

    # Optimizers, on f(x) = ½ xᵀ A x + Σ log cosh x, whose gradient is A x + tanh x.
    root = random.normal(size=(6, 6))
    values["matrix"] = root @ root.T / 6
    values["start"] = random.normal(size=6)
    matrix = torch.tensor(values["matrix"])

    def trajectory(make: Any, rate_at: Any = None) -> np.ndarray:
        x = torch.nn.Parameter(torch.tensor(values["start"]))
        optimizer = make([x])
        points = []
        for step in range(STEPS):
            if rate_at is not None:
                optimizer.param_groups[0]["lr"] = rate_at(step)
            optimizer.zero_grad()
            (0.5 * x @ matrix @ x + torch.log(torch.cosh(x)).sum()).backward()
            optimizer.step()
            points.append(x.detach().numpy().copy())
        return np.stack(points)

    o = torch.optim
    values["sgd"] = trajectory(lambda x: o.SGD(x, lr=0.1))
    values["momentum"] = trajectory(lambda x: o.SGD(x, lr=0.05, momentum=0.9))
    values["momentum_drop"] = trajectory(
        lambda x: o.SGD(x, lr=0.05, momentum=0.9), lambda step: 0.05 if step < 5 else 0.005
    )
    values["nesterov"] = trajectory(lambda x: o.SGD(x, lr=0.05, momentum=0.9, nesterov=True))
    # A large eps, so that a place inside the root would show.
    values["adagrad"] = trajectory(lambda x: o.Adagrad(x, lr=0.3, eps=0.1))
    values["rmsprop"] = trajectory(lambda x: o.RMSprop(x, lr=0.05, alpha=0.9, eps=0.1))
    values["adam"] = trajectory(lambda x: o.Adam(x, lr=0.1, betas=(0.8, 0.99), eps=0.1))

    values["adadelta"] = trajectory(lambda x: o.Adadelta(x, lr=0.3, rho=0.9, eps=1e-2))
    values["adamax"] = trajectory(lambda x: o.Adamax(x, lr=0.1, betas=(0.8, 0.9), eps=0.1))
    # A decay so large that 0.96^decay is 0 leaves b1 constant.
    values["nadam"] = trajectory(lambda x: o.NAdam(x, lr=0.1, betas=(0.8, 0.99), eps=0.1, momentum_decay=1e9))
    values["adamw"] = trajectory(lambda x: o.AdamW(x, lr=0.1, betas=(0.8, 0.99), eps=0.1, weight_decay=0.3))

    # Muon, on x as one kernel of shape (inputs, outputs), which PyTorch keeps as (outputs, inputs). Its
    # iteration rounds to bfloat16; here that is switched off.
    torch.Tensor.bfloat16 = lambda tensor: tensor.double().clone()
    for inputs, outputs in ((2, 3), (3, 2)):
        kernel = torch.tensor(values["start"].reshape(inputs, outputs))
        weight = torch.nn.Parameter(kernel.T.clone())
        optimizer = o.Muon([weight], lr=0.01, momentum=0.8, weight_decay=0.1)
        points = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            x = weight.T.reshape(6)
            (0.5 * x @ matrix @ x + torch.log(torch.cosh(x)).sum()).backward()
            optimizer.step()
            points.append(weight.detach().T.reshape(6).numpy().copy())
        values[f"muon_{inputs}_{outputs}"] = np.stack(points)

    # Clipping
    gradient = torch.tensor(random.normal(size=6) * 3)
    values["clip_gradient"] = gradient.numpy().copy()
    x = torch.nn.Parameter(torch.zeros(6))
    x.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_([x], 0.5)
    values["clipped"] = x.grad.numpy().copy()
    x.grad = gradient.clone()
    torch.nn.utils.clip_grad_value_([x], 0.5)
    values["clipped_by_value"] = x.grad.numpy().copy()

    # Cross-entropy
    values["logits"] = random.normal(size=(5, 4)) * 3
    values["classes"] = random.integers(0, 4, size=5).astype(np.int32)
    values["probabilities"] = random.dirichlet(np.ones(4), size=5)
    for name in ("classes", "probabilities"):
        for smoothing in (0.0, 0.1):
            logits = torch.nn.Parameter(torch.tensor(values["logits"]))
            targets = torch.tensor(values[name])
            if name == "classes":
                targets = targets.long()
            losses = torch.nn.functional.cross_entropy(
                logits, targets, label_smoothing=smoothing, reduction="none"
            )
            losses.sum().backward()
            values[f"cross_entropy_{name}_{smoothing}"] = losses.detach().numpy()
            values[f"cross_entropy_gradient_{name}_{smoothing}"] = logits.grad.numpy()

    np.savez_compressed(Path(__file__).with_name("torch_values.npz"), **values)


if __name__ == "__main__":
    main()
