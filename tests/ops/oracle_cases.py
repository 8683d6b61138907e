"""The cases that the oracles of `fnn.ops` share: plain data, and the seeded arrays that go with each case.

`pads` is the padding that `padding` stands for, worked out by hand: the PyTorch values and the output shapes
come from it, while the NumPy oracles resolve `padding` with the formula.
"""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TORCH_VALUES = Path(__file__).with_name("torch_values.npz")

Pair = tuple[int, int]
Sizes = int | tuple[int, ...]
NONE = ((0, 0), (0, 0))


class Conv(NamedTuple):
    name: str
    x: tuple[int, ...]  # N, H, W, C_in, or another number of spatial axes
    kernel: tuple[int, ...]  # kh, kw, C_in / groups, C_out
    padding: Any = "SAME"
    pads: tuple[Pair, ...] = NONE
    stride: Sizes = 1
    dilation: Sizes = 1
    groups: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def output(self) -> tuple[int, ...]:
        sizes = output_size(self.x, self.kernel[:-2], self.stride, self.pads, self.dilation)
        return self.x[0], *sizes, self.kernel[-1]


class Transpose(NamedTuple):
    name: str
    x: tuple[int, ...]  # N, H, W, C_in
    kernel: tuple[int, ...]  # kh, kw, C_in, C_out
    padding: Any
    pads: tuple[Pair, ...]  # what is cut off the full output; below zero, what is added to it
    stride: Sizes = 1
    dilation: Sizes = 1

    @property
    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    @property
    def output(self) -> tuple[int, ...]:
        axes = len(self.pads)
        stride, dilation = each(self.stride, axes), each(self.dilation, axes)
        sizes = (
            (self.x[1 + a] - 1) * stride[a] + (self.kernel[a] - 1) * dilation[a] + 1 - sum(self.pads[a])
            for a in range(axes)
        )
        return self.x[0], *sizes, self.kernel[-1]


class Pool(NamedTuple):
    name: str
    x: tuple[int, ...]  # N, H, W, C, or another number of spatial axes
    window: Sizes
    stride: Sizes | None = None
    padding: Any = "VALID"
    pads: tuple[Pair, ...] = NONE

    @property
    def settings(self) -> dict[str, Any]:
        return {"window": self.window, "stride": self.stride, "padding": self.padding}

    @property
    def output(self) -> tuple[int, ...]:
        stride = self.window if self.stride is None else self.stride
        sizes = output_size(self.x, each(self.window, len(self.pads)), stride, self.pads, 1)
        return self.x[0], *sizes, self.x[-1]


class Adaptive(NamedTuple):
    name: str
    x: tuple[int, ...]  # N, H, W, C
    size: Sizes

    @property
    def settings(self) -> dict[str, Any]:
        return {"size": self.size}

    @property
    def output(self) -> tuple[int, ...]:
        return self.x[0], *each(self.size, len(self.x) - 2), self.x[-1]


class Norm(NamedTuple):
    name: str
    x: tuple[int, ...]  # the last axis is the channels
    eps: float = 1e-5


CONV = [
    Conv("same_3x3", (2, 6, 5, 3), (3, 3, 3, 4), pads=((1, 1), (1, 1))),
    Conv("same_3x3_stride_2_even", (2, 6, 8, 2), (3, 3, 2, 3), pads=((0, 1), (0, 1)), stride=2),
    Conv("same_3x3_stride_2_odd", (2, 7, 5, 2), (3, 3, 2, 3), pads=((1, 1), (1, 1)), stride=(2, 2)),
    Conv("same_3x3_stride_2_1", (2, 6, 5, 2), (3, 3, 2, 3), pads=((0, 1), (1, 1)), stride=(2, 1)),
    Conv("same_2x2", (2, 5, 4, 3), (2, 2, 3, 2), pads=((0, 1), (0, 1))),
    Conv("same_4x3", (2, 6, 5, 2), (4, 3, 2, 3), pads=((1, 2), (1, 1))),
    Conv("same_4x3_stride_2", (2, 7, 6, 2), (4, 3, 2, 3), pads=((1, 2), (0, 1)), stride=2),
    Conv("same_5x5", (2, 6, 5, 2), (5, 5, 2, 2), pads=((2, 2), (2, 2))),
    Conv("same_5x5_stride_2", (1, 8, 7, 2), (5, 5, 2, 2), pads=((1, 2), (2, 2)), stride=2),
    Conv("same_1x5", (2, 3, 7, 2), (1, 5, 2, 3), pads=((0, 0), (2, 2))),
    Conv("same_kernel_above_image", (2, 2, 2, 2), (3, 5, 2, 2), pads=((1, 1), (2, 2))),
    Conv("same_1x1", (2, 5, 4, 3), (1, 1, 3, 4)),
    Conv("same_1x1_stride_2", (2, 5, 4, 3), (1, 1, 3, 4), stride=2),
    Conv("same_1x1_groups_2", (2, 3, 4, 4), (1, 1, 2, 6), groups=2),
    Conv("padded_1x1", (2, 3, 4, 2), (1, 1, 2, 3), padding=((1, 0), (0, 2)), pads=((1, 0), (0, 2))),
    Conv("valid_3x3", (2, 6, 5, 3), (3, 3, 3, 4), padding="VALID"),
    Conv("valid_3x3_stride_2_remainder", (2, 6, 8, 2), (3, 3, 2, 3), padding="VALID", stride=2),
    Conv("valid_2x2_stride_3_gaps", (2, 8, 7, 2), (2, 2, 2, 3), padding="VALID", stride=3),
    Conv("valid_3x3_batch_1", (1, 7, 6, 2), (3, 3, 2, 3), padding="VALID"),
    Conv("valid_whole_image", (1, 4, 3, 2), (4, 3, 2, 5), padding="VALID"),
    Conv("asymmetric_3x3", (2, 5, 4, 2), (3, 3, 2, 3), ((2, 0), (1, 3)), ((2, 0), (1, 3))),
    Conv("asymmetric_4x3_stride_2_1", (2, 6, 5, 2), (4, 3, 2, 2), ((0, 2), (1, 0)), ((0, 2), (1, 0)), (2, 1)),
    Conv("padding_above_kernel", (1, 3, 3, 2), (2, 2, 2, 2), ((3, 3), (4, 3)), ((3, 3), (4, 3)), 2),
    Conv("dilated_same", (2, 7, 6, 2), (3, 3, 2, 2), pads=((2, 2), (2, 2)), dilation=2),
    Conv("dilated_same_stride_2", (2, 7, 8, 2), (3, 3, 2, 2), "SAME", ((2, 2), (1, 2)), 2, 2),
    Conv("dilated_2x2_2_1", (2, 5, 4, 2), (2, 2, 2, 3), "SAME", ((1, 1), (0, 1)), 1, (2, 1)),
    Conv("dilated_valid_1_2", (2, 5, 7, 2), (3, 3, 2, 2), padding="VALID", dilation=(1, 2)),
    Conv("groups_2", (2, 5, 4, 4), (3, 3, 2, 6), pads=((1, 1), (1, 1)), groups=2),
    Conv("groups_2_valid_4x3_stride_2", (2, 7, 6, 4), (4, 3, 2, 4), "VALID", NONE, 2, 1, 2),
    Conv("depthwise", (2, 6, 5, 3), (3, 3, 1, 3), pads=((1, 1), (1, 1)), groups=3),
    Conv("depthwise_multiplier_2_stride_2", (2, 6, 5, 3), (3, 3, 1, 6), "SAME", ((0, 1), (1, 1)), 2, 1, 3),
    Conv("depthwise_dilated", (1, 5, 6, 3), (3, 2, 1, 6), ((2, 1), (0, 2)), ((2, 1), (0, 2)), 1, 2, 3),
    Conv("one_channel", (2, 6, 5, 1), (3, 3, 1, 1), pads=((1, 1), (1, 1))),
    Conv("one_channel_in_5x5", (2, 7, 6, 1), (5, 5, 1, 3), pads=((2, 2), (2, 2))),
    Conv("one_channel_out", (2, 5, 4, 3), (3, 3, 3, 1), padding="VALID"),
    Conv("one_pixel", (2, 1, 1, 3), (3, 3, 3, 2), pads=((1, 1), (1, 1))),
    Conv("padding_of_an_integer", (2, 4, 5, 2), (3, 2, 2, 3), 1, ((1, 1), (1, 1)), 2),
    Conv("sequence_same", (2, 7, 3), (3, 3, 4), pads=((1, 1),)),
    Conv("sequence_causal_dilated", (2, 7, 2), (3, 2, 3), ((4, 0),), ((4, 0),), 1, 2),
    Conv("sequence_valid_stride_3_groups_2", (2, 11, 4), (4, 2, 6), "VALID", ((0, 0),), (3,), 1, 2),
    Conv("volume_same", (2, 3, 4, 3, 2), (3, 2, 3, 2, 3), pads=((1, 1), (0, 1), (1, 1))),
    Conv("volume_stride_2_dilated", (1, 5, 4, 6, 2), (2, 3, 2, 2, 2), 1, ((1, 1),) * 3, 2, (1, 1, 3)),
    Conv("volume_depthwise", (1, 3, 4, 3, 2), (2, 2, 2, 1, 4), "VALID", ((0, 0),) * 3, (1, 2, 1), 1, 2),
]  # fmt: skip

TRANSPOSE = [
    Transpose("same_3x3_stride_2", (2, 3, 4, 3), (3, 3, 3, 2), "SAME", ((0, 1), (0, 1)), 2),
    Transpose("same_4x2_stride_2_1", (2, 3, 4, 2), (4, 2, 2, 3), "SAME", ((1, 1), (0, 1)), (2, 1)),
    Transpose("same_2x1_stride_3_gaps", (2, 3, 2, 2), (2, 1, 2, 2), "SAME", ((0, -1), (0, -2)), 3),
    Transpose("same_dilated", (1, 4, 3, 2), (3, 2, 2, 2), "SAME", ((2, 2), (1, 1)), 1, 2),
    Transpose("valid_3x2_stride_3", (2, 3, 2, 2), (3, 2, 2, 2), "VALID", ((0, 0), (0, 0)), 3),
    Transpose("valid_dilated_stride_2_3", (1, 3, 2, 2), (3, 2, 2, 2), "VALID", NONE, (2, 3), (2, 1)),
    Transpose("pytorch_padding_1", (2, 3, 4, 2), (3, 3, 2, 2), 1, ((1, 1), (1, 1)), 2),
    Transpose("pytorch_output_padding_1", (2, 3, 4, 2), (3, 4, 2, 2), ((1, 0), (2, 1)), ((1, 0), (2, 1)), 2),
    Transpose("padding_above_kernel", (1, 6, 5, 2), (2, 2, 2, 2), ((3, 2), (0, 4)), ((3, 2), (0, 4)), 2),
    Transpose("sequence_same_stride_4", (2, 3, 3), (5, 3, 2), "SAME", ((0, 1),), 4),
    Transpose("volume_valid", (1, 2, 3, 2, 2), (2, 3, 1, 2, 2), "VALID", ((0, 0),) * 3, (2, 1, 2)),
]

# Sizes at which a lowering may change its mind, such as batches cut into blocks of which the last is not full
# (above 4 MiB of shifted images on CPU). No PyTorch values are stored for these.
LARGE_CONV = [
    Conv("large_one_channel_5x5", (55, 28, 28, 1), (5, 5, 1, 4), pads=((2, 2), (2, 2))),
    Conv("large_images_3x3", (41, 32, 32, 3), (3, 3, 3, 8), pads=((1, 1), (1, 1))),
    Conv("large_batch_3x3", (131, 8, 8, 16), (3, 3, 16, 32), pads=((1, 1), (1, 1))),
    Conv("large_channels_stride_2", (11, 14, 14, 64), (3, 3, 64, 32), pads=((0, 1), (0, 1)), stride=2),
    Conv("large_channels_1x1", (57, 14, 14, 96), (1, 1, 96, 48)),
    Conv("large_depthwise", (77, 14, 14, 8), (3, 3, 1, 16), pads=((1, 1), (1, 1)), groups=8),
    Conv("large_groups_of_one_feature", (2, 9, 9, 16), (3, 3, 8, 2), pads=((1, 1), (1, 1)), groups=2),
    Conv("large_kernel_7x7_stride_2", (8, 31, 31, 3), (7, 7, 3, 16), padding="VALID", stride=2),
    Conv("large_asymmetric", (19, 20, 20, 16), (3, 3, 16, 16), ((0, 3), (4, 1)), ((0, 3), (4, 1))),
]

POOL = [
    Pool("window_2", (2, 6, 4, 3), 2),
    Pool("window_2_odd", (2, 7, 5, 2), 2),
    Pool("window_2_stride_2", (2, 6, 5, 2), (2, 2), (2, 2)),
    Pool("window_3_stride_2", (2, 7, 8, 2), 3, 2),
    Pool("window_3_stride_1", (2, 5, 6, 2), 3, 1),
    Pool("window_2_stride_3_gaps", (2, 7, 8, 2), 2, 3),
    Pool("window_2_3", (2, 5, 7, 2), (2, 3)),
    Pool("window_2_3_stride_1_2", (2, 5, 8, 2), (2, 3), (1, 2)),
    Pool("window_3_padded_1", (2, 6, 5, 2), 3, 2, ((1, 1), (1, 1)), ((1, 1), (1, 1))),
    Pool("window_3_asymmetric", (2, 5, 6, 2), 3, 2, ((0, 2), (2, 1)), ((0, 2), (2, 1))),
    Pool("window_2_padded_no_stride", (1, 5, 7, 3), 2, None, ((1, 0), (0, 1)), ((1, 0), (0, 1))),
    Pool("same_window_3_stride_2_even", (2, 6, 8, 2), 3, 2, "SAME", ((0, 1), (0, 1))),
    Pool("same_window_3_stride_1", (2, 5, 4, 2), 3, 1, "SAME", ((1, 1), (1, 1))),
    Pool("same_window_2_odd", (2, 5, 7, 2), 2, None, "SAME", ((0, 1), (0, 1))),
    Pool("whole_image", (2, 4, 5, 3), (4, 5)),
    Pool("one_pixel_window", (1, 3, 4, 2), 1, 2),
    Pool("batch_1_one_channel", (1, 9, 9, 1), 3, 2),
    Pool("padding_of_an_integer", (2, 4, 5, 2), 3, 2, 1, ((1, 1), (1, 1))),
    Pool("sequence_window_3", (2, 8, 2), 3, None, "VALID", ((0, 0),)),
    Pool("sequence_same_stride_2", (2, 7, 2), (3,), 2, "SAME", ((1, 1),)),
    Pool("volume_window_2", (1, 4, 5, 2, 2), 2, None, "VALID", ((0, 0),) * 3),
    Pool("volume_padded", (1, 4, 3, 4, 2), (2, 3, 2), (2, 1, 1), ((1, 1), (0, 1), (0, 0)), ((1, 1), (0, 1), (0, 0))),
]  # fmt: skip

ADAPTIVE = [
    Adaptive("divides", (2, 6, 4, 3), (3, 2)),
    Adaptive("divides_one_axis", (2, 7, 6, 2), 3),
    Adaptive("overlaps", (2, 7, 5, 2), (4, 3)),
    Adaptive("larger_than_the_input", (1, 3, 5, 2), (5, 7)),
    Adaptive("one_cell", (2, 3, 5, 2), 1),
    Adaptive("sequence", (2, 11, 2), 4),
    Adaptive("volume", (1, 5, 4, 3, 2), (3, 2, 2)),
]

NORM = [
    Norm("images", (4, 3, 5, 3)),
    Norm("vectors", (9, 4)),
    Norm("one_channel", (2, 3, 3, 1)),
    Norm("wide_eps", (5, 2, 3, 2), eps=0.1),
]


def conv_arrays(case: Conv | Transpose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, kernel and the output's cotangent, float64."""
    rng = generator(case.name)
    return rng.normal(size=case.x), rng.normal(size=case.kernel), rng.normal(size=case.output)


def pool_arrays(case: Pool | Adaptive) -> tuple[np.ndarray, np.ndarray]:
    """x without ties, mostly negative so that a padding of zeros would win, and the output's cotangent."""
    rng = generator(case.name)
    return rng.normal(size=case.x) - 1.0, rng.normal(size=case.output)


def norm_arrays(case: Norm) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, scale, bias and the output's cotangent; every channel has its own mean and deviation."""
    rng = generator(case.name)
    channels = case.x[-1:]
    x = rng.normal(size=case.x) * rng.uniform(0.3, 3.0, channels) + rng.normal(size=channels)
    return x, rng.normal(size=channels), rng.normal(size=channels), rng.normal(size=case.x)


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def each(value: Sizes, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else value


def output_size(x, window, stride, pads, dilation) -> tuple[int, ...]:
    """Count the positions of a dilated window on each padded spatial axis."""
    counts, axes = [], len(window)
    for axis in range(axes):
        span = (window[axis] - 1) * each(dilation, axes)[axis] + 1
        counts.append((x[1 + axis] + sum(pads[axis]) - span) // each(stride, axes)[axis] + 1)
    return tuple(counts)


def resolve_pads(case: Conv | Pool, window: Sizes, stride: Sizes, dilation: Sizes = 1) -> tuple[Pair, ...]:
    """The padding of each spatial axis, from the convention."""
    axes, pads = len(case.x) - 2, []
    for axis, size in enumerate(case.x[1:-1]):
        own = case.padding if isinstance(case.padding, str | int) else case.padding[axis]
        geometry = (each(setting, axes)[axis] for setting in (window, stride, dilation))
        pads.append(resolve_padding(size, *geometry, own))
    return tuple(pads)


def resolve_padding(size: int, window: int, stride: int, dilation: int, padding: Any) -> Pair:
    """One axis of "SAME", from the convention: ceil(size / stride) outputs, the smaller half first."""
    if isinstance(padding, int):
        return (padding, padding)
    if padding == "VALID":
        return (0, 0)
    if padding == "SAME":
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + (window - 1) * dilation + 1 - size, 0)
        return (total // 2, total - total // 2)
    return padding


def assert_close(got, want, tolerance: float = 1e-9) -> None:
    """The largest difference, relative to the largest wanted magnitude; shapes must agree exactly."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    if want.size:
        scale = np.abs(want).max()
        worst = np.abs(got - want).max()
        assert worst <= tolerance * max(scale, 1e-3), f"off by {worst} at scale {scale}"
