"""Every way to convolve on CPU, and to make the kernel's gradient, inside a scan; bold is what `fnn` takes.

    python experiments/benchmarks/conv_forms.py               # about three minutes on two cores

Prints a table of milliseconds, and draws to docs/figures/roofline.png the rates
that were reached against the arithmetic intensity, under the roofline of the machine. Rates count the
multiplications of the plain sum, so Winograd's algorithm may lie above the roof. XLA's gradient convolutions
are called alone only: inside a scan they take seconds.
"""

import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn import ops
from fnn.ops import _library, _on_cpu
from fnn.ops._depthwise import DEPTHWISE
from fnn.ops._im2col import IM2COL
from fnn.ops._kn2row import KN2ROW
from fnn.ops._window import sliding_window
from fnn.ops._winograd import WINOGRAD

BATCH, REPEATS, STEPS = 128, 9, 4
# pixels along each side, channels in and out, side of the kernel, stride, groups
SHAPES = [
    (28, 1, 32, 3, 1, 1), (14, 32, 64, 3, 1, 1), (28, 32, 32, 3, 1, 1), (28, 32, 64, 3, 2, 1),
    (14, 64, 64, 3, 1, 1), (14, 64, 128, 3, 1, 1), (14, 128, 128, 3, 1, 1), (7, 128, 128, 3, 1, 1),
    (28, 8, 16, 3, 1, 1), (28, 16, 16, 3, 1, 1), (28, 16, 32, 3, 1, 1), (14, 64, 256, 1, 1, 1),
    (14, 16, 32, 5, 1, 1), (14, 32, 64, 5, 1, 1), (14, 16, 32, 7, 1, 1), (14, 128, 128, 3, 1, 8),
    (14, 64, 64, 3, 1, 64), (14, 64, 64, 7, 1, 64),
]  # fmt: skip
FORMS = {"Winograd": WINOGRAD, "kn2row": KN2ROW, "im2col": IM2COL, "sum": DEPTHWISE}
COLORS = {"XLA": "C3", "Winograd": "C2", "kn2row": "C4", "im2col": "C1", "sum": "C0"}
FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "roofline.png"


def possible(window, channels, features, groups):
    """The forms that this convolution can take."""
    if groups > 1:
        return ["im2col"] + ["sum"] * (groups == channels)
    narrow = window.size != (3, 3) or min(channels, features) < 16
    return (
        ["im2col"]
        + ["kn2row"] * (max(window.stride) == 1)
        + ["Winograd"] * (not narrow and max(window.stride) == 1)
    )


def milliseconds(function, *arrays, scanned=True):
    """The median time of one call; all its inputs differ from step to step, and all its outputs are used."""

    def step(carry, _):
        outputs = function(*(array + carry for array in arrays))
        return carry + 1e-9 * sum(jnp.mean(y) for y in jax.tree.leaves(outputs)), None

    if scanned:
        run = jax.jit(lambda *arrays: lax.scan(step, jnp.float32(0), None, length=STEPS)[0])
    else:
        run = jax.jit(function)
    jax.block_until_ready(run(*arrays))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run(*arrays))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times)) / (STEPS if scanned else 1)


def roof():
    """GFLOP/s of a large matrix product, GB/s read and written by a change of sign."""

    def best(function, argument):
        run = jax.jit(function)
        jax.block_until_ready(run(argument))
        times = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(run(argument))
            times.append(time.perf_counter() - start)
        return min(times)

    square, long, times = jnp.ones((2048, 2048)), jnp.ones(32 << 20), 8
    flops = 2 * 2048**3 / best(lambda a: a @ a, square) / 1e9
    in_place = best(lambda a: lax.fori_loop(0, times, lambda _, a: -a, a), long)  # one new array, not 8
    return flops, times * 2 * 4 * long.size / in_place / 1e9


def gradients(function):
    """Value and both gradients."""

    def of(x, kernel, dy):
        y, pullback = jax.vjp(function, x, kernel)
        return y, pullback(dy)

    return of


def measured(size, channels, features, side, stride, groups):
    """Milliseconds: of the ways to the product, of those to the kernel's gradient, of the whole."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (BATCH, size, size, channels))
    kernel = 0.05 * jax.random.normal(keys[1], (side, side, channels // groups, features))
    window = sliding_window(x, (side, side), stride, "SAME", name="kernel")
    dy = jax.random.normal(keys[2], (BATCH, *window.outputs((size, size)), features))
    names = possible(window, channels, features, groups)
    product = {name: milliseconds(partial(FORMS[name].product, window=window), x, kernel) for name in names}
    product["XLA"] = milliseconds(partial(_library.product, window=window), x, kernel)
    gradient = {
        name: milliseconds(partial(FORMS[name].kernel_gradient, window=window), x, dy, kernel)
        for name in names
    }
    own = gradients(partial(ops.conv, stride=stride, groups=groups))
    library = gradients(partial(_library.product, window=window))
    whole = (
        milliseconds(own, x, kernel, dy),
        milliseconds(own, x, kernel, dy, scanned=False),
        milliseconds(library, x, kernel, dy, scanned=False),
    )
    form = _on_cpu._form(x, kernel, window)
    written_out = next(name for name in names if FORMS[name] is form)
    chosen = "XLA" if _on_cpu._library_pays(x, kernel, window) else written_out, written_out
    return product, gradient, whole, chosen


def main():
    import matplotlib.pyplot as plt

    flops, bandwidth = roof()
    print(f"roof: {flops:.0f} GFLOP/s, {bandwidth:.0f} GB/s")
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    intensity = np.geomspace(1, 500, 200)
    axes.loglog(intensity, np.minimum(flops, bandwidth * intensity), color="black", label="roofline")
    columns = [*COLORS, *list(COLORS)[1:], "in scan", "alone", "XLA's alone"]
    print("| shape |", " | ".join(columns), "|\n|---|" + "---:|" * len(columns))
    for shape in SHAPES:
        size, channels, features, side, stride, groups = shape
        product, gradient, whole, chosen = measured(*shape)
        outputs = BATCH * (-(-size // stride)) ** 2 * features
        work = 2 * outputs * side**2 * channels // groups
        moved = 4 * (BATCH * size**2 * channels + outputs + side**2 * channels * features // groups)
        cells = []
        for times, mark, taken in ((product, "o", chosen[0]), (gradient, "x", chosen[1])):
            for name in COLORS if mark == "o" else list(COLORS)[1:]:
                bold = "**" if name == taken else ""
                cells.append(f"{bold}{times[name]:.2g}{bold}" if name in times else "–")
                if name in times:
                    axes.plot(work / moved, work / times[name] / 1e6, mark, color=COLORS[name], markersize=5)
        kind = f", stride {stride}" if stride > 1 else f", {groups} groups" if groups > 1 else ""
        cells += [f"{ms:.2g}" for ms in whole]
        print(
            f"| {size}×{size}, {channels}→{features}, {side}×{side}{kind} |",
            " | ".join(cells),
            "|",
            flush=True,
        )
    for name, color in COLORS.items():
        axes.plot([], [], "o", color=color, label=name)
    axes.set(xlabel="multiplications and additions per byte", ylabel="GFLOP/s of the plain sum")
    axes.set_title("convolutions in a scan (o), gradients of their kernels (x)", fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(FIGURE, dpi=130)


if __name__ == "__main__":
    main()
