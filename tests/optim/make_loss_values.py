"""Write torch_loss_values.npz: losses, their gradients and schedules as PyTorch computes them.

Run it where PyTorch is installed: python tests/optim/make_loss_values.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 61


def main() -> None:
    import torch  # not at the top: the test run imports this file where PyTorch is missing

    torch.set_default_dtype(torch.float64)
    f, o = torch.nn.functional, torch.optim.lr_scheduler
    random = np.random.default_rng(0)
    values: dict[str, Any] = {
        "outputs": random.normal(size=(6, 4)) * 3,
        "classes": random.integers(0, 4, size=6).astype(np.int32),
        "labels": random.integers(0, 2, size=(6, 4)).astype(np.int32),
        "fractions": random.uniform(size=(6, 4)),
        "probabilities": random.dirichlet(np.ones(4), size=6),
        "numbers": random.normal(size=(6, 4)) * 3,
    }
    values["probabilities"][0] = (0, 0.25, 0.75, 0)
    targets = {name: torch.tensor(array) for name, array in values.items()}

    # Losses: one value per example, and the gradient of their sum.
    def store(name: str, loss: Callable[[Any], Any]) -> None:
        outputs = torch.nn.Parameter(torch.tensor(values["outputs"]))
        losses = loss(outputs)
        losses.sum().backward()
        values[name], values[f"{name}_gradient"] = losses.detach().numpy(), outputs.grad.numpy()

    def elements(loss: Any, target: str, **settings: Any) -> Callable[[Any], Any]:
        return lambda y: loss(y, targets[target].double(), reduction="none", **settings).mean(dim=-1)

    store("sigmoid_cross_entropy", elements(f.binary_cross_entropy_with_logits, "labels"))
    store("sigmoid_cross_entropy_fractions", elements(f.binary_cross_entropy_with_logits, "fractions"))
    store("mean_absolute_error", elements(f.l1_loss, "numbers"))
    store("huber", elements(f.huber_loss, "numbers", delta=0.7))
    store("smooth_l1", elements(f.smooth_l1_loss, "numbers", beta=0.7))
    store(
        "multi_margin",
        lambda y: f.multi_margin_loss(y, targets["classes"].long(), margin=1.5, reduction="none"),
    )
    store(
        "kl_divergence",
        lambda y: f.kl_div(f.log_softmax(y, dim=-1), targets["probabilities"], reduction="none").sum(dim=-1),
    )

    # Schedules: the learning rate of each step, from 0.8.
    def rates(name: str, make: Callable[[Any], Any], steps: int = STEPS) -> None:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
        scheduler, seen = make(optimizer), []
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        values[name] = np.array(seen)

    def exponential(optimizer: Any) -> Any:
        return o.ExponentialLR(optimizer, 0.95)

    def warmup(optimizer: Any) -> Any:
        return o.LinearLR(optimizer, start_factor=1 / 12, total_iters=11)

    rates("polynomial", lambda s: o.PolynomialLR(s, total_iters=40, power=2.5))
    rates("linear", lambda s: o.LinearLR(s, start_factor=1.0, end_factor=0.25, total_iters=40))
    rates("warm_restarts", lambda s: o.CosineAnnealingWarmRestarts(s, T_0=7, T_mult=2, eta_min=0.1))
    rates("equal_restarts", lambda s: o.CosineAnnealingWarmRestarts(s, T_0=7))
    rates("one_cycle", lambda s: o.OneCycleLR(s, max_lr=0.8, total_steps=41, pct_start=13 / 41), steps=41)
    rates("chained", lambda s: o.ChainedScheduler([warmup(s), exponential(s)]))
    rates("sequential", lambda s: o.SequentialLR(s, [warmup(s), exponential(s)], milestones=[12]))

    np.savez_compressed(Path(__file__).with_name("torch_loss_values.npz"), **values)


if __name__ == "__main__":
    main()
