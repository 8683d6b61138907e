"""How a convolution is compiled on each platform."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from fnn import ops
from fnn.ops import _conv


def gradients_in_scan(function):
    """Both gradients of a convolution, inside a scan."""

    def loss(kernel, x):
        return jnp.square(function(x, kernel)).sum()

    def step(carry, x):
        d_kernel, dx = jax.grad(loss, (0, 1))(carry, x)
        return carry - d_kernel, dx

    return lambda kernel, xs: jax.lax.scan(step, kernel, xs)


@pytest.mark.cpu
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_no_convolution_of_xla_is_left_on_cpu(stride, groups):
    """XLA's own gradient convolutions fall onto a naive loop inside a scan; matrix products do not."""
    kernel, xs = jnp.zeros((3, 3, 4 // groups, 8)), jnp.zeros((5, 2, 6, 6, 4))
    function = partial(ops.conv, stride=stride, groups=groups)
    assert "convolution" not in jax.jit(gradients_in_scan(function)).lower(kernel, xs).as_text()


@pytest.mark.cpu
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_none_is_left_of_a_transposed_convolution_either(axes):
    kernel, xs = jnp.zeros((*(3,) * axes, 4, 8)), jnp.zeros((5, 2, *(6,) * axes, 4))
    function = partial(ops.conv_transpose, stride=2)
    assert "convolution" not in jax.jit(gradients_in_scan(function)).lower(kernel, xs).as_text()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_use_their_own_convolution(platform):
    kernel, x = jnp.zeros((3, 3, 4, 8)), jnp.zeros((2, 6, 6, 4))
    exported = jax.export.export(jax.jit(ops.conv), platforms=[platform])(x, kernel)
    assert "stablehlo.convolution" in exported.mlir_module()


@pytest.mark.cpu
def test_a_large_batch_is_convolved_in_blocks():
    """The shifted images of a block stay in the cache, so those of a whole batch are never made at once."""
    x, kernel = jnp.zeros((128, 14, 14, 64)), jnp.zeros((3, 3, 64, 64))
    compiled = jax.jit(ops.conv).lower(x, kernel).compile()
    whole = 128 * 14 * 14 * 9 * 64 * 4
    assert compiled.memory_analysis().temp_size_in_bytes < whole / 2


@pytest.mark.cpu
def test_layers_of_one_shape_are_traced_once_for_all_programs(monkeypatch):
    traced, on_cpu = [], _conv.on_cpu

    def counting(x, *rest):
        traced.append(x.shape)
        return on_cpu(x, *rest)

    monkeypatch.setattr(_conv, "on_cpu", counting)
    x, kernel = jnp.zeros((2, 5, 11, 3)), jnp.zeros((3, 3, 3, 3))  # a shape that no other test has

    def two_layers(kernel):
        return ops.conv(ops.conv(x, kernel), kernel).sum()

    jax.jit(two_layers).lower(kernel)
    jax.jit(jax.grad(two_layers)).lower(kernel)
    assert traced == [x.shape]
