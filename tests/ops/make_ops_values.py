"""Writes torch_values.npz: what float64 PyTorch gives for the cases of oracle_cases.py, with the inputs.

Run where torch is installed: `python tests/ops/make_ops_values.py`. The tests read the file only.
"""

import numpy as np
from oracle_cases import CONV, NORM, POOL, TORCH_VALUES, conv_arrays, norm_arrays, pair, pool_arrays


def main() -> None:
    import torch  # here, so that collecting this file (doctests) needs no torch
    import torch.nn.functional as F

    def leaf(array):
        return torch.tensor(array, dtype=torch.float64, requires_grad=True)

    def images(x):
        return x.permute(0, 3, 1, 2)

    def channels_last(y):
        return y.permute(0, 2, 3, 1)

    def pad(x, pads, value=0.0):
        (top, bottom), (left, right) = pads
        return F.pad(x, (left, right, top, bottom), value=value)

    def gradients(y, cotangent, inputs):
        return torch.autograd.grad(y, inputs, torch.tensor(cotangent))

    values = {}

    def store(name, **arrays):
        for key, array in arrays.items():
            values[f"{name}/{key}"] = np.asarray(array.detach() if torch.is_tensor(array) else array)

    for case in CONV:
        x, kernel, cotangent = conv_arrays(case)
        tx, tk = leaf(x), leaf(kernel)
        padded = pad(images(tx), case.pads)
        oihw = tk.permute(3, 2, 0, 1).contiguous()
        y = F.conv2d(padded, oihw, None, pair(case.stride), 0, pair(case.dilation), case.groups)
        y = channels_last(y)
        dx, dkernel = gradients(y, cotangent, (tx, tk))
        store(f"conv/{case.name}", x=x, kernel=kernel, cotangent=cotangent, y=y, dx=dx, dkernel=dkernel)

    for case in POOL:
        x, cotangent = pool_arrays(case)
        window, stride = pair(case.window), None if case.stride is None else pair(case.stride)

        tx = leaf(x)
        y_max = channels_last(F.max_pool2d(pad(images(tx), case.pads, -torch.inf), window, stride))
        (dx_max,) = gradients(y_max, cotangent, (tx,))

        tx = leaf(x)
        symmetric = all(lo == hi <= size // 2 for (lo, hi), size in zip(case.pads, window, strict=True))
        if symmetric:
            pads = tuple(lo for lo, _ in case.pads)
            y_avg = F.avg_pool2d(images(tx), window, stride, pads, count_include_pad=False)
        else:  # PyTorch pads both ends alike: the share of real pixels undoes the mean over the padded ones
            real = F.avg_pool2d(pad(images(torch.ones_like(tx)), case.pads), window, stride)
            y_avg = F.avg_pool2d(pad(images(tx), case.pads), window, stride) / real
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
