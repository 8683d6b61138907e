"""`receptive_field` against the pixels that the gradient of one output reaches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import nn

KEY = jax.random.key(7)


def ones(key, shape, dtype):
    return jnp.ones(shape, dtype)


conv = partial(nn.conv, 1, kernel_init=ones)

# Net, spatial sizes of an input that is large enough for an interior output, size and stride by hand.
NETS = {
    "nothing": (nn.serial(), (9,), (1,), (1,)),
    "conv": (conv(3), (15,), (3,), (1,)),
    "the notes' L equal layers": (nn.serial(*[conv(3)] * 4), (25,), (9,), (1,)),
    "strides": (nn.serial(conv(3, stride=2), conv(3), conv(2, stride=3), conv(3)), (120,), (21,), (6,)),
    "dilations": (nn.serial(conv(3, dilation=2), conv(2, dilation=4), conv(3)), (40,), (11,), (1,)),
    "a stride and a dilation": (nn.serial(conv(3, stride=2), conv(3, dilation=3)), (60,), (15,), (2,)),
    "pools": (nn.serial(conv(3), nn.avg_pool(2), conv(3), nn.avg_pool(3, stride=2)), (60,), (12,), (4,)),
    "batch norm": (nn.serial(conv(3), nn.batch_norm(), nn.dropout(), conv(3)), (20,), (5,), (1,)),
    "valid and explicit padding": (nn.serial(conv(3, padding="VALID"), conv(4, padding=((3, 1),))), (25,), (6,), (1,)),
    "gaps": (conv(1, stride=3), (20,), (1,), (3,)),
    "axes of their own": (
        nn.serial(conv((3, 2), stride=(2, 1)), nn.avg_pool((1, 2)), conv(3, dilation=(1, 2))),
        (30, 40), (7, 11), (2, 2),
    ),
    "volumes": (nn.serial(conv((3, 1, 2)), nn.avg_pool(2)), (10, 10, 10), (4, 2, 3), (2, 2, 2)),
    "residual": (nn.serial(conv(2), nn.residual(conv(3), conv(3)), conv(3, stride=2)), (30,), (8,), (2,)),
    "residual with shortcut": (
        nn.serial(conv(3), nn.residual(conv(3, stride=2), conv(3), shortcut=conv(1, stride=2)), conv(3)),
        (60,), (13,), (2,),
    ),
    "a shortcut that sees more": (nn.residual(conv(1), shortcut=conv(5)), (20,), (5,), (1,)),
    "a shortcut with another centre": (
        nn.residual(conv(2, padding=((1, 0),)), shortcut=conv(2, padding=((0, 1),))), (20,), (3,), (1,),
    ),
    "nested": (nn.serial(nn.residual(nn.serial(nn.residual(conv(3)), conv(3)))), (20,), (5,), (1,)),
    "depthwise": (nn.depthwise_conv(3, stride=2, kernel_init=ones), (21,), (3,), (2,)),
    "locally connected": (
        nn.serial(conv(3), nn.locally_connected(1, 3, stride=2, kernel_init=ones)), (30,), (5,), (2,),
    ),
    "adaptive": (nn.serial(conv(3), nn.adaptive_avg_pool(6)), (24,), (6,), (4,)),
    "global": (nn.serial(conv(3, padding="VALID", stride=2), nn.global_avg_pool), (9,), (9,), (8,)),
    "flatten": (
        nn.serial(conv(3, padding="VALID"), nn.flatten, nn.linear(2, kernel_init=ones)), (7, 6), (7, 6), (5, 4),
    ),
}  # fmt: skip


def footprints(net, sizes):
    """From the first to the last pixel, along each axis, that an output in the middle and the next depend on."""

    @jax.jit
    def gradients(x):
        params, state = net.init(KEY, x)

        def output(x, step):
            y, _ = net.apply(params, state, x)
            return y[0, *(n // 2 + step for n in y.shape[1:-1])].sum()

        return jax.grad(output)(x, 0), jax.grad(output)(x, 1)

    for gradient in gradients(jnp.ones((1, *sizes, 1))):
        pixels = np.nonzero(np.asarray(gradient)[0, ..., 0])
        yield [(int(axis.min()), int(axis.max())) for axis in pixels]


@pytest.mark.parametrize("name", NETS)
def test_the_field_is_what_the_gradient_reaches(name):
    net, sizes, size, stride = NETS[name]
    field = fnn.receptive_field(net, jax.ShapeDtypeStruct((1, *sizes, 1), jnp.float32))
    assert field == fnn.ReceptiveField(size, stride)
    here, beside = footprints(net, sizes)
    assert tuple(last - first + 1 for first, last in here) == size
    if name not in ("global", "flatten"):  # whose output has no neighbour
        assert tuple(b - a for (a, _), (b, _) in zip(here, beside, strict=True)) == stride


def test_a_large_network_costs_nothing():
    block = nn.residual(nn.conv(64, 3), nn.batch_norm(), nn.relu, nn.conv(64, 3))
    net = nn.serial(
        nn.conv(64, 7, stride=2), nn.max_pool(3, stride=2), *[block] * 8, nn.global_avg_pool, nn.linear(10)
    )
    field = fnn.receptive_field(net, jax.ShapeDtypeStruct((256, 512, 512, 3), jnp.bfloat16))
    places = 127  # ⌊(256 − 3) / 2⌋ + 1
    assert field.size == (7 + 2 * 2 + 16 * 2 * 4 + (places - 1) * 4,) * 2


@pytest.mark.parametrize(
    ("net", "problem"),
    [
        (nn.serial(nn.relu, nn.conv_transpose(2, 3)), "^conv_transpose_1: a transposed convolution has no receptive"),
        (nn.serial(nn.residual(lambda x: x[:, ::2], shortcut=nn.avg_pool(2))), r"^residual_1/lambda_1: lambda makes spatial axes \(4,\) of \(8,\), and it is not known"),
        (nn.serial(nn.adaptive_max_pool(3)), "^adaptive_max_pool_1: 3 cells do not divide an input of shape"),
        (nn.serial(nn.residual(nn.avg_pool(3, stride=2), shortcut=nn.conv(2, 6, padding="VALID"))),
         r"^residual_1: its branches have the strides \(2,\) and \(1,\), which differ"),
        (nn.serial(nn.conv(2, 9, padding="VALID")), "^conv_1: a kernel that covers 9 pixels does not fit"),
    ],
)  # fmt: skip
def test_a_network_without_one_field_says_why(net, problem):
    with pytest.raises(nn.LayerError, match=problem):
        fnn.receptive_field(net, jnp.ones((1, 8, 2)))


def test_vectors_have_no_receptive_field():
    with pytest.raises(ValueError, match=r"expected images .* got shape \(2, 8\)"):
        fnn.receptive_field(nn.mlp(), jnp.ones((2, 8)))
