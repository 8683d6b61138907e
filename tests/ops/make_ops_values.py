"""Writes torch_values.npz: what float64 PyTorch gives for the cases of oracle_cases.py, with the inputs.

Run where torch is installed: `python tests/ops/make_ops_values.py`. The tests read the file only.
"""

import numpy as np
from oracle_cases import (
    ADAPTIVE,
    CONV,
    NORM,
    POOL,
    TORCH_VALUES,
    TRANSPOSE,
    conv_arrays,
    each,
    norm_arrays,
    pool_arrays,
)


def main() -> None:
    import torch  # here, so that collecting this file (doctests) needs no torch
    import torch.nn.functional as F

    def leaf(array):
        return torch.tensor(array, dtype=torch.float64, requires_grad=True)

    def images(x):
        return x.movedim(-1, 1)

    def channels_last(y):
        return y.movedim(1, -1)

    def pad(x, pads, value=0.0):
        return F.pad(x, [n for pair in reversed(pads) for n in pair], value=value)

    def function(name, axes):
        return getattr(F, f"{name}{axes}d")

    def gradients(y, cotangent, inputs):
        return torch.autograd.grad(y, inputs, torch.tensor(cotangent))

    values = {}

    def store(name, **arrays):
        for key, array in arrays.items():
            values[f"{name}/{key}"] = np.asarray(array.detach() if torch.is_tensor(array) else array)

    for case in CONV:
        x, kernel, cotangent = conv_arrays(case)
        tx, tk = leaf(x), leaf(kernel)
        padded, axes = pad(images(tx), case.pads), len(case.pads)
        oihw = tk.movedim((-1, -2), (0, 1)).contiguous()
        stride, dilation = each(case.stride, axes), each(case.dilation, axes)
        y = channels_last(function("conv", axes)(padded, oihw, None, stride, 0, dilation, case.groups))
        dx, dkernel = gradients(y, cotangent, (tx, tk))
        store(f"conv/{case.name}", x=x, kernel=kernel, cotangent=cotangent, y=y, dx=dx, dkernel=dkernel)

    for case in TRANSPOSE:
        x, kernel, cotangent = conv_arrays(case)
        tx, tk = leaf(x), leaf(kernel)
        axes, weight = len(case.pads), tk.movedim((-2, -1), (0, 1)).contiguous()
        stride, dilation = each(case.stride, axes), each(case.dilation, axes)
        transposed = function("conv_transpose", axes)
        surplus = [lo - hi for lo, hi in case.pads]
        if all(0 <= more < s for more, s in zip(surplus, stride, strict=True)):
            padding = [lo for lo, _ in case.pads]
            y = transposed(images(tx), weight, None, stride, padding, surplus, 1, dilation)
        else:  # what PyTorch's own padding cannot say
            y = transposed(images(tx), weight, None, stride, 0, 0, 1, dilation)
            y = pad(y, [(-lo, -hi) for lo, hi in case.pads])
        y = channels_last(y)
        dx, dkernel = gradients(y, cotangent, (tx, tk))
        arrays = {"x": x, "kernel": kernel, "cotangent": cotangent, "y": y}
        store(f"transpose/{case.name}", **arrays, dx=dx, dkernel=dkernel)

    for case in ADAPTIVE:
        x, cotangent = pool_arrays(case)
        axes, arrays = len(case.x) - 2, {"x": x, "cotangent": cotangent}
        for kind in ("max", "avg"):
            tx = leaf(x)
            y = channels_last(function(f"adaptive_{kind}_pool", axes)(images(tx), each(case.size, axes)))
            (dx,) = gradients(y, cotangent, (tx,))
            arrays |= {kind: y, f"dx_{kind}": dx}
        store(f"pool/{case.name}", **arrays)

    for case in POOL:
        x, cotangent = pool_arrays(case)
        axes = len(case.pads)
        window, stride = each(case.window, axes), None if case.stride is None else each(case.stride, axes)
        max_pool, avg_pool = function("max_pool", axes), function("avg_pool", axes)

        tx = leaf(x)
        y_max = channels_last(max_pool(pad(images(tx), case.pads, -torch.inf), window, stride))
        (dx_max,) = gradients(y_max, cotangent, (tx,))

        tx = leaf(x)
        symmetric = all(lo == hi <= size // 2 for (lo, hi), size in zip(case.pads, window, strict=True))
        if symmetric:
            pads = tuple(lo for lo, _ in case.pads)
            y_avg = avg_pool(images(tx), window, stride, pads, count_include_pad=False)
        else:  # PyTorch pads both ends alike: the share of real pixels undoes the mean over the padded ones
            real = avg_pool(pad(images(torch.ones_like(tx)), case.pads), window, stride)
            y_avg = avg_pool(pad(images(tx), case.pads), window, stride) / real
        y_avg = channels_last(y_avg)
        (dx_avg,) = gradients(y_avg, cotangent, (tx,))
        arrays = {"x": x, "cotangent": cotangent, "max": y_max, "avg": y_avg}
        store(f"pool/{case.name}", **arrays, dx_max=dx_max, dx_avg=dx_avg)

    for case in NORM:
        x, scale, bias, cotangent = norm_arrays(case)
        tx, ts, tb = leaf(x), leaf(scale), leaf(bias)
        channels_first = tx.movedim(-1, 1)
        y = F.batch_norm(channels_first, None, None, ts, tb, training=True, eps=case.eps).movedim(1, -1)
        dx, dscale, dbias = gradients(y, cotangent, (tx, ts, tb))
        arrays = {"x": x, "scale": scale, "bias": bias, "cotangent": cotangent, "y": y}
        store(f"norm/{case.name}", **arrays, dx=dx, dscale=dscale, dbias=dbias)

    np.savez_compressed(TORCH_VALUES, **values)
    print(f"{len(values)} arrays, {TORCH_VALUES.stat().st_size / 1000:.0f} kB, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
