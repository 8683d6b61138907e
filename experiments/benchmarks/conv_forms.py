"""Every form of a convolution on CPU, with both gradients: alone in a call, and inside a scan.

    python experiments/benchmarks/conv_forms.py               # about five minutes on two cores

`chosen` is what `fnn.ops.conv` takes of the others, `lax` is XLA's own convolution.
Prints milliseconds for each shape, and draws to docs/figures/roofline.png the rate that was reached against
the arithmetic intensity, under the roofline of the machine. Rates count the multiplications of the plain
sum, so Winograd's algorithm may lie above the roof.
"""

import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn import ops
from fnn.ops import _winograd
from fnn.ops._blocks import convolve
from fnn.ops._im2col import IM2COL
from fnn.ops._kn2row import KN2ROW
from fnn.ops._window import sliding_window

BATCH, REPEATS, STEPS = 128, 7, 4
# pixels along each side, channels in and out, side of the kernel, stride, groups
SHAPES = [
    (28, 1, 32, 3, 1, 1), (14, 32, 64, 3, 1, 1), (28, 32, 32, 3, 1, 1), (28, 32, 64, 3, 2, 1),
    (14, 64, 64, 3, 1, 1), (14, 64, 128, 3, 1, 1), (14, 128, 128, 3, 1, 1), (7, 128, 128, 3, 1, 1),
    (28, 8, 16, 3, 1, 1), (28, 16, 16, 3, 1, 1), (28, 16, 32, 3, 1, 1), (14, 16, 32, 5, 1, 1),
    (14, 32, 64, 5, 1, 1), (14, 16, 32, 7, 1, 1), (14, 64, 64, 3, 1, 64), (14, 64, 64, 7, 1, 64),
]  # fmt: skip
FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "roofline.png"


def forms(x, kernel, stride, groups):
    window = sliding_window(x, kernel.shape[:2], stride, "SAME", name="kernel")
    own = {
        "chosen": partial(ops.conv, stride=stride, groups=groups),
        "im2col": lambda x, kernel: convolve(IM2COL, x, kernel, window),
        "lax": lambda x, kernel: lax.conv_general_dilated(
            x,
            kernel,
            window.stride,
            window.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        ),
    }
    if stride == groups == 1:
        own["kn2row"] = lambda x, kernel: convolve(KN2ROW, x, kernel, window)
        if kernel.shape[0] == 3:
            own["winograd"] = lambda x, kernel: _winograd.conv(x, kernel, window)
    return own


def milliseconds(function, scanned, x, kernel):
    def step(carry, _):
        y, pullback = jax.vjp(function, *carry)
        dx, d_kernel = pullback(jnp.tanh(y))
        return (carry[0] - 1e-9 * dx, carry[1] - 1e-9 * d_kernel), None

    if scanned:
        run = jax.jit(lambda carry: lax.scan(step, carry, None, length=STEPS)[0])
    else:
        run = jax.jit(lambda carry: step(carry, None)[0])
    jax.block_until_ready(run((x, kernel)))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run((x, kernel)))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times)) / (STEPS if scanned else 1)


def roof():
    """GFLOP/s of a large matrix product, GB/s of a large copy."""

    def best(function, argument):
        run = jax.jit(function)
        jax.block_until_ready(run(argument))
        times = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(run(argument))
            times.append(time.perf_counter() - start)
        return min(times)

    square, long = jnp.ones((2048, 2048)), jnp.ones(32 << 20)
    return 2 * 2048**3 / best(lambda a: a @ a, square) / 1e9, 2 * 4 * long.size / best(
        jnp.negative, long
    ) / 1e9


def main():
    import matplotlib.pyplot as plt

    flops, bandwidth = roof()
    print(f"roof: {flops:.0f} GFLOP/s, {bandwidth:.0f} GB/s")
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    intensity = np.geomspace(1, 500, 200)
    axes.loglog(intensity, np.minimum(flops, bandwidth * intensity), color="black", label="roofline")
    colors = {"chosen": "C0", "im2col": "C1", "winograd": "C2", "lax": "C3", "kn2row": "C4"}
    markers = {True: "o", False: "x"}
    for size, channels, features, side, stride, groups in SHAPES:
        keys = jax.random.split(jax.random.key(0))
        x = jax.random.normal(keys[0], (BATCH, size, size, channels))
        kernel = 0.05 * jax.random.normal(keys[1], (side, side, channels // groups, features))
        outputs = BATCH * (size // stride) ** 2 * features
        work = 3 * 2 * outputs * side**2 * channels // groups
        moved = 4 * (3 * x.size + 3 * outputs + 3 * kernel.size)
        row = []
        for name, function in forms(x, kernel, stride, groups).items():
            for scanned in (False, True):
                if name == "lax" and scanned:
                    continue  # a naive loop: seconds
                ms = milliseconds(function, scanned, x, kernel)
                row.append(f"{name} {'in scan' if scanned else 'alone'} {ms:.1f}")
                axes.plot(work / moved, work / ms / 1e6, markers[scanned], color=colors[name], markersize=5)
        shape = f"{size}×{size} {channels}→{features}, {side}×{side}, stride {stride}, groups {groups}"
        print(f"{shape}: {', '.join(row)} ms", flush=True)
    for name, color in colors.items():
        axes.plot([], [], "o", color=color, label=name)
    axes.set(xlabel="multiplications and additions per byte", ylabel="GFLOP/s of the plain sum")
    axes.set_title("convolutions with both gradients (o in a scan, x alone)", fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(FIGURE, dpi=130)


if __name__ == "__main__":
    main()
