"""How a convolution is compiled on each platform."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
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


def convolutions(text):
    """Those of XLA in a program."""
    return [line for line in text.splitlines() if "stablehlo.convolution" in line]


def plain(convolution):
    """Whether XLA hands it to a library on CPU: NHWC and HWIO, nothing spread out, reversed or cut off."""
    axes = re.search(r"\[b, .*, f\]x\[.*, i, o\]->\[b, .*, f\]", convolution)
    apart = re.search(r"lhs_dilate = \[(.*?)\]", convolution)[1]
    padding = re.search(r"pad = \[\[(.*?)\]\]", convolution)[1]
    return bool(axes) and set(apart) <= set("1, ") and "true" not in convolution and "-" not in padding


@pytest.mark.cpu
@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2}, {"groups": 2}, {"dilation": 2}, {"padding": "VALID"}]
)
def test_convolutions_of_xla_are_such_as_it_is_fast_at_on_cpu(settings):
    """Others, as the gradients that JAX makes, fall onto a naive loop inside a scan."""
    kernel, xs = jnp.zeros((3, 3, 16 // settings.get("groups", 1), 16)), jnp.zeros((5, 2, 8, 8, 16))
    text = jax.jit(gradients_in_scan(partial(ops.conv, **settings))).lower(kernel, xs).as_text()
    assert len(convolutions(text)) == (1 if "stride" in settings else 2)
    assert all(map(plain, convolutions(text)))


@pytest.mark.cpu
def test_that_is_not_so_of_the_gradients_that_jax_makes():
    """So that the test beside this one looks for the right things."""
    kernel, xs = jnp.zeros((3, 3, 16, 16)), jnp.zeros((5, 2, 8, 8, 16))
    given = {"window_strides": (2, 2), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    function = partial(jax.lax.conv_general_dilated, **given)
    text = jax.jit(gradients_in_scan(function)).lower(kernel, xs).as_text()
    assert [plain(line) for line in convolutions(text)].count(False) == 2


@pytest.mark.cpu
def test_kernels_under_vmap_do_not_become_groups():
    """Eight of them were ten times slower so."""
    kernels, x = jnp.zeros((8, 3, 3, 16, 16)), jnp.zeros((2, 8, 8, 16))
    text = jax.jit(jax.vmap(ops.conv, (None, 0))).lower(x, kernels).as_text()
    assert convolutions(text) == []
    text = jax.jit(jax.vmap(ops.conv, (0, None))).lower(jnp.zeros((4, *x.shape)), kernels[0]).as_text()
    assert "tensor<8x8x8x16xf32>" in convolutions(text)[0]  # one batch of all images


@pytest.mark.cpu
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_transposed_convolution_is_such_a_one_too(axes):
    kernel, xs = jnp.zeros((*(3,) * axes, 32, 32)), jnp.zeros((5, 2, *(6,) * axes, 32))
    function = partial(ops.conv_transpose, stride=2)
    text = jax.jit(gradients_in_scan(function)).lower(kernel, xs).as_text()
    assert bool(convolutions(text)) is (axes < 3)
    assert all(map(plain, convolutions(text)))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_use_their_own_convolution(platform):
    kernel, x = jnp.zeros((3, 3, 4, 8)), jnp.zeros((2, 6, 6, 4))
    exported = jax.export.export(jax.jit(ops.conv), platforms=[platform])(x, kernel)
    assert "stablehlo.convolution" in exported.mlir_module()


def squares(conv):
    return lambda x, kernel: jnp.square(conv(x, kernel)).sum()


@pytest.mark.parametrize("axis", ["data", "other"])
def test_within_a_shard_map_of_ones_own_a_device_convolves_its_part(axis):
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
    mesh = jax.make_mesh((2,), (axis,), axis_types=(jax.sharding.AxisType.Auto,))
    cut = jax.P(axis)
    parts = jax.shard_map(ops.conv, mesh=mesh, in_specs=(cut, jax.P()), out_specs=cut, check_vma=False)
    np.testing.assert_allclose(jax.jit(parts)(x, kernel), ops.conv(x, kernel), atol=1e-5)
    of_parts, of_whole = (jax.jit(jax.grad(squares(conv), (0, 1)))(x, kernel) for conv in (parts, ops.conv))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), of_parts, of_whole)


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

    def counting(x, *rest, **settings):
        traced.append(x.shape)
        return on_cpu(x, *rest, **settings)

    monkeypatch.setattr(_conv, "on_cpu", counting)
    x, kernel = jnp.zeros((2, 5, 11, 3)), jnp.zeros((3, 3, 3, 3))  # a shape that no other test has

    def two_layers(kernel):
        return ops.conv(ops.conv(x, kernel), kernel).sum()

    jax.jit(two_layers).lower(kernel)
    jax.jit(jax.grad(two_layers)).lower(kernel)
    assert traced == [x.shape]
