"""`fnn doctor`: whether this installation computes right, and whether it computes fast."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.console import Console
from rich.text import Text

from fnn import ops
from fnn.run._diagnose import STYLES
from fnn.run._directory import environment
from fnn.run._workloads import chunk_of, digits, mlp_64


class Finding(NamedTuple):
    """What one check found."""

    name: str
    verdict: Literal["PASS", "WARN", "FAIL"]
    says: str


def doctor(console: Console) -> int:
    """Print what every check finds; 1 where one failed, else 0."""
    about = environment()
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    console.print(f"fnn {about['fnn']}, Python {about['python']}, {packages}", highlight=False)
    console.print(f"{', '.join(about['devices'])}; {about['cores']} cores", highlight=False)
    console.print(f"XLA_FLAGS: {about['xla_flags'] or 'none'}; {about['xla_defaults']}", highlight=False)
    worst = 0
    for finding in examine():
        verdict = Text(finding.verdict, STYLES[finding.verdict])
        console.print(verdict, f"{finding.name}: {finding.says}", highlight=False)
        worst = max(worst, finding.verdict == "FAIL")
    return worst


def examine() -> Iterator[Finding]:
    """Every check, one after the other; together a few seconds."""
    with jax.default_matmul_precision("highest"):  # GPUs round what they multiply to TensorFloat-32 else
        sums, gradients = _vmapped_sums(), _convolution_in_scan()
    yield _within("sums of products under vmap", sums, 1e-3, "jax 0.10.2 fails here: install another")
    yield _within("gradients of a convolution inside scan", gradients, 1e-4, "report it")
    yield _faster("steps in one scan against a loop of calls", *_scan_and_loop(), limit=1.5)
    yield _faster("a step of a long scan against one of a short scan", *_long_and_short_scan(), limit=2.0)
    yield _devices()


def _within(name: str, error: float, limit: float, advice: str) -> Finding:
    if error <= limit:
        return Finding(name, "PASS", f"relative error {error:.1e}, at most {limit:.0e} allowed")
    return Finding(
        name, "FAIL", f"relative error {error:.1e}, above {limit:.0e}: results are wrong; {advice}"
    )


def _faster(name: str, seconds: float, reference: float, *, limit: float) -> Finding:
    ratio = seconds / reference
    says = f"{1e3 * seconds:.3f} ms against {1e3 * reference:.3f} ms, a ratio of {ratio:.2f}"
    if ratio <= limit:
        return Finding(name, "PASS", says)
    return Finding(name, "WARN", f"{says}, above {limit}: is the machine busy? If not, try another jaxlib")


def _vmapped_sums() -> float:
    """The computation of JAX's issue 39103: 32,769 rows, one more than XLA's fusion handles right."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(32_769, 8)).astype(np.float32)
    matrix = random.normal(size=(8, 8)).astype(np.float32)
    got = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    wanted = np.sum((rows.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2, axis=1)
    return _relative(got, wanted)


def _convolution_in_scan() -> float:
    """Both gradients of a batch that all cores share, against sums written out in float64."""
    random, n = np.random.default_rng(0), 14
    x, dy = random.normal(size=(2, 64, n, n, 32))
    kernel = random.normal(size=(3, 3, 32, 32))

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        pullback: Any = jax.vjp(lambda x, kernel: ops.conv(x, kernel), *carry)[1]
        return carry, pullback(jnp.asarray(dy, jnp.float32))

    arrays = (jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    dx, d_kernel = (
        leaf[0] for leaf in jax.jit(lambda carry: lax.scan(step, carry, None, length=2)[1])(arrays)
    )
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    wanted_dx = np.zeros_like(padded)
    wanted_kernel = np.zeros_like(kernel)
    for i, j in np.ndindex(3, 3):
        wanted_dx[:, i : i + n, j : j + n] += dy @ kernel[i, j].T
        wanted_kernel[i, j] = np.tensordot(padded[:, i : i + n, j : j + n], dy, ((0, 1, 2), (0, 1, 2)))
    return max(_relative(dx, wanted_dx[:, 1:-1, 1:-1]), _relative(d_kernel, wanted_kernel))


def _relative(got: Any, wanted: np.ndarray) -> float:
    error = np.abs(np.asarray(got, np.float64) - wanted).max() / np.abs(wanted).max()
    return float(error) if np.isfinite(error) else float("inf")


def _chunk(steps: int) -> Callable[[], Any]:
    """So many steps of a small network in one program."""
    rows = jnp.arange(steps * 64, dtype=jnp.int32).reshape(steps, 64) % 1797
    return chunk_of(mlp_64, digits(), rows, jnp.ones(rows.shape, bool), None)


def _scan_and_loop() -> tuple[float, float]:
    """Seconds per step of 100 steps in one program, and of 100 calls of a program of one step."""
    one = _chunk(1)

    def loop() -> Any:
        for _ in range(99):
            one()
        return one()  # each call takes the arrays that the one before returned

    return _seconds(_chunk(100)) / 100, _seconds(loop) / 100


def _long_and_short_scan() -> tuple[float, float]:
    """Seconds per step of 20,000 and of 1,000 steps; in some versions of XLA the first are slower."""
    return _seconds(_chunk(20_000), 1) / 20_000, _seconds(_chunk(1_000)) / 1_000


def _seconds(run: Callable[[], Any], repeats: int = 5) -> float:
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def _devices() -> Finding:
    platform, devices, cores = jax.devices()[0].platform, len(jax.devices()), os.cpu_count() or 1
    if platform == "cpu" and devices == 1 and cores > 1:
        says = (
            f"one device on {cores} cores; JAX_NUM_CPU_DEVICES={cores} spreads each batch over {cores}, "
            "which pays for some convolutional networks"
        )
        return Finding("devices", "PASS", says)
    return Finding("devices", "PASS", f"{devices} of the platform {platform}")
