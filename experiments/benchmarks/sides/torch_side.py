"""The workloads in PyTorch, as its tutorials write them."""

import numpy as np
import torch
from data import BATCH, EPOCHS, digits, images
from torch import nn

CHANNELS_LAST = True
COMPILED = False
DEVICE = torch.accelerator.current_accelerator() or torch.device("cpu")
if DEVICE.type != "cpu":
    torch.set_float32_matmul_precision("high")  # TensorFloat-32, as JAX has it and PyTorch's convolutions


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def deep_cnn():
    layers, channels = [], 1
    for features, stride in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 1), (128, 1)):
        convolution = nn.Conv2d(channels, features, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(features), nn.ReLU()]
        channels = features
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def mlp(hidden, inputs=784):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def tensors(examples):
    x, y = examples
    x, y = torch.from_numpy(x), torch.from_numpy(y).long()
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous()
        if CHANNELS_LAST:
            x = x.contiguous(memory_format=torch.channels_last)
    return x.to(DEVICE), y.to(DEVICE)


def network(model):
    if CHANNELS_LAST:
        model = model.to(memory_format=torch.channels_last)
    return model.to(DEVICE).train()


def wait():
    if DEVICE.type != "cpu":
        torch.accelerator.synchronize()


def stepper(model, rate=1e-3):
    optimizer, loss = torch.optim.Adam(model.parameters(), rate), nn.CrossEntropyLoss()
    forward = torch.compile(model) if COMPILED else model

    def step(x, y):
        optimizer.zero_grad()
        loss(forward(x), y).backward()
        optimizer.step()

    return step


def training(model, steps):
    x, y = tensors(images(steps * BATCH))
    step = stepper(network(model))

    def run():
        for first in range(0, steps * BATCH, BATCH):
            step(x[first : first + BATCH], y[first : first + BATCH])
        wait()

    return run


def digits_mlp():
    x, y = tensors(digits())
    step = stepper(network(mlp(64, 64)))

    def run():
        for _ in range(EPOCHS):
            order = torch.randperm(len(x), device=DEVICE)
            for first in range(0, len(x), 64):
                rows = order[first : first + 64]
                step(x[rows], y[rows])
        wait()

    return run


def mlp_population(members=64, steps=20):
    x, y = tensors(images(steps * BATCH))
    all_steps = [stepper(network(mlp(32)), rate) for rate in np.geomspace(1e-4, 1e-2, members)]

    def run():
        for step in all_steps:
            for first in range(0, steps * BATCH, BATCH):
                step(x[first : first + BATCH], y[first : first + BATCH])
        wait()

    return run


def inference(batch, calls):
    model = network(cnn()).eval()
    forward = torch.compile(model) if COMPILED else model
    x, _ = tensors(images(batch))

    def run():
        with torch.inference_mode():
            for _ in range(calls):
                forward(x)
                wait()

    return run


PREPARE = {
    "cnn": lambda: training(cnn(), 20),
    "deep_cnn": lambda: training(deep_cnn(), 3),
    "mlp": lambda: training(mlp(128), 500),
    "digits_mlp": digits_mlp,
    "mlp_population": mlp_population,
    "inference_1": lambda: inference(1, 200),
    "inference_1000": lambda: inference(1000, 5),
}
VERSIONS = {"torch": torch.__version__, "torch threads": torch.get_num_threads()}
