"""Mixed precision: what is kept, what is computed, and that a network still learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

X = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype(np.float32)


def layers():
    return fnn.conv(4, 3, bias=False), fnn.batch_norm(), fnn.relu, fnn.flatten, fnn.linear(5)


def test_parameters_gradients_and_statistics_are_float32_and_what_lies_between_bfloat16():
    net = fnn.mixed_precision(*layers())
    params, state = net.init(jax.random.key(0), X)
    outputs = fnn.intermediates(net, params, state, X, train=True)
    assert {outputs[path].dtype for path in ("conv_1", "batch_norm_1", "relu_1", "linear_1")} == {
        np.dtype(jnp.bfloat16)
    }

    def loss(params):
        y, new_state = net.apply(params, state, X, train=True)
        return y.sum(), (y, new_state)

    grads, (y, new_state) = jax.grad(loss, has_aux=True)(params)
    assert y.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((params, grads, new_state))} == {np.dtype(np.float32)}


def test_values_are_those_of_serial_up_to_rounding():
    plain, mixed = fnn.serial(*layers()), fnn.mixed_precision(*layers())
    params, state = plain.init(jax.random.key(0), X)
    jax.tree.map(np.testing.assert_array_equal, params, mixed.init(jax.random.key(0), X)[0])
    wanted, _ = plain.apply(params, state, X, train=True)
    got, _ = mixed.apply(params, state, X, train=True)
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < error < 3e-2  # bfloat16 has 8 bits; an error of 0 would mean that nothing was rounded


def test_parameters_may_be_kept_in_bfloat16_and_outputs_left_there():
    net = fnn.mixed_precision(fnn.linear(5), params="bfloat16", output="bfloat16")
    params, state = net.init(jax.random.key(0), X[:, 0, 0])
    assert params["linear_1"]["kernel"].dtype == jnp.bfloat16
    assert net.apply(params, state, X[:, 0, 0])[0].dtype == jnp.bfloat16


def test_a_network_learns_as_well_as_in_float32():
    def make(combine):
        def make(rate):
            net = combine(fnn.flatten, fnn.mlp((32,), 10))
            return net, fnn.softmax_cross_entropy, fnn.adam(rate)

        return make

    data = fnn.split(fnn.digits(), validation=0.2)
    reached = [
        fnn.fit(make(combine), 3e-3, data, epochs=6, batch_size=64).history[-1]["validation_accuracy"]
        for combine in (fnn.serial, fnn.mixed_precision)
    ]
    assert reached[0] > 0.93
    assert reached[1] > reached[0] - 0.02


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match='compute must be "float32" or "bfloat16", not \'float16\''):
        fnn.mixed_precision(fnn.linear(5), compute="float16")
