"""Three epochs of configs/fashion_cnn.toml in PyTorch: python torch_fashion_cnn.py loader | tensor.

`loader` is a Dataset and a DataLoader, as the tutorials have it; `tensor` keeps all images as one tensor,
on the GPU where there is one, and augments whole batches.
"""

import gzip
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

DEVICE = torch.accelerator.current_accelerator() or torch.device("cpu")
EPOCHS, BATCH, VALIDATION = 3, 64, 5_000
FOLDER = Path("/usr/share/datasets/fashion-mnist")


def read(part):
    def idx(name, offset):
        path = next(FOLDER.glob(f"{part}-{name}*"))
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return np.frombuffer(raw, np.uint8, offset=offset)

    x = torch.from_numpy(idx("images", 16).copy()).reshape(-1, 1, 28, 28).float() / 255
    return x, torch.from_numpy(idx("labels", 8).copy()).long()


def augment(x):
    """Each image flipped or not, then moved by up to one pixel."""
    flipped = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x.flip(3), x)
    padded = functional.pad(flipped, (1, 1, 1, 1))
    images, pixels = torch.arange(len(x), device=x.device), torch.arange(28, device=x.device)
    rows = torch.randint(0, 3, (len(x), 1, 1), device=x.device) + pixels.view(1, -1, 1)
    columns = torch.randint(0, 3, (len(x), 1, 1), device=x.device) + pixels.view(1, 1, -1)
    return padded[images.view(-1, 1, 1), 0, rows, columns].unsqueeze(1)


class Images(Dataset):
    def __init__(self, x, y, mean, deviation):
        self.x, self.y, self.mean, self.deviation = x, y, mean, deviation

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x = self.x[i]
        if torch.rand(()) < 0.5:
            x = x.flip(2)
        top, left = torch.randint(0, 3, (2,)).tolist()
        x = functional.pad(x, (1, 1, 1, 1))[:, top : top + 28, left : left + 28]
        return (x - self.mean) / self.deviation, self.y[i]


def network():
    def stage(inputs, features, *pool):
        return (
            nn.Conv2d(inputs, features, 3, padding=1, bias=False),
            *pool,
            nn.BatchNorm2d(features),
            nn.ReLU(),
        )

    return nn.Sequential(
        *stage(1, 32, nn.MaxPool2d(2)), *stage(32, 64, nn.MaxPool2d(2)), *stage(64, 128),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(6272, 10),
    )  # fmt: skip


def evaluate(model, x, y):
    model.eval()
    with torch.inference_mode():
        right = sum(
            (model(a.to(DEVICE)).argmax(1) == b.to(DEVICE)).sum()
            for a, b in zip(x.split(1000), y.split(1000), strict=True)
        )
    model.train()
    return right.item() / len(x)


def main(kind):
    torch.manual_seed(0)
    if DEVICE.type != "cpu":
        torch.set_float32_matmul_precision("high")
    home = DEVICE if kind == "tensor" else torch.device("cpu")  # of the images
    x, y = read("train")
    order = torch.randperm(len(x))
    x, y = x[order].to(home), y[order].to(home)
    mean, deviation = x[VALIDATION:].mean(), x[VALIDATION:].std()
    validation = ((x[:VALIDATION] - mean) / deviation, y[:VALIDATION])
    x, y = x[VALIDATION:], y[VALIDATION:]

    model = network().to(DEVICE, memory_format=torch.channels_last)
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    # The gradient of 1e-5 Σw² is 2e-5 w.
    groups = [{"params": kernels, "weight_decay": 2e-5}, {"params": others}]
    optimizer = torch.optim.Adam(groups, lr=2e-3)
    steps = EPOCHS * -(-len(x) // BATCH)
    warm = round(0.1 * steps)

    def rate(step):
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    loader = DataLoader(Images(x, y, mean, deviation), BATCH, shuffle=True)

    def batches():
        if kind == "loader":
            yield from loader
            return
        for rows in torch.randperm(len(x), device=home).split(BATCH):
            yield (augment(x[rows]) - mean) / deviation, y[rows]

    for epoch in range(EPOCHS):
        for images, classes in batches():
            images, classes = images.to(DEVICE), classes.to(DEVICE)
            optimizer.zero_grad()
            loss(model(images.contiguous(memory_format=torch.channels_last)), classes).backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: validation accuracy {evaluate(model, *validation):.4f}", flush=True)
    x, y = (part.to(home) for part in read("t10k"))
    print(f"test accuracy {evaluate(model, (x - mean) / deviation, y):.4f}")


if __name__ == "__main__":
    main(sys.argv[1])
