"""The maths of the grids, against NumPy."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_fitkit.quantization import (
    FakeQuantize,
    QuantizeConfig,
    QuantizeWrapper,
    fake_quant,
)
from tests.quantization.models import array


def tensor(value):
    return keras.ops.convert_to_tensor(value, "float32")


weights = hnp.arrays(
    np.float32, (3, 4), elements=st.floats(-4, 4, width=32, allow_subnormal=False)
)


def on_grid(weight, axes, bits):
    """The oracle: nearest integer times scale, the largest |w| on the last level."""
    n = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(weight).max(axis=axes, keepdims=True) / n, 1e-9)
    return np.clip(np.round(weight / scale), -n, n) * scale


@given(weights, st.sampled_from([2, 3, 4, 8]), st.sampled_from([(0,), None]))
def test_weights_are_on_the_grid_and_stay_there(weight, bits, axes):
    found = array(fake_quant.fake_quant_weights(tensor(weight), axes, bits))
    np.testing.assert_allclose(found, on_grid(weight, axes, bits), atol=1e-5)
    again = array(fake_quant.fake_quant_weights(tensor(found), axes, bits))
    np.testing.assert_allclose(again, found, rtol=1e-6, atol=1e-9)
    assert not found[weight == 0].any()  # pruned weights stay pruned
    levels = np.abs(weight).max(axis=axes, keepdims=True) / (2 ** (bits - 1) - 1)
    assert (np.abs(found - weight) <= levels / 2 + 1e-6).all()


def gradients(function, *values):
    """d sum(function) / d values, on every backend, by central differences of a trained
    copy being no use here: rounding has none. So by the backend's own."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        given_ = [tf.Variable(value) for value in values]
        with tf.GradientTape() as tape:
            total = keras.ops.sum(function(*(one.value() for one in given_)))
        return [
            array(tf.convert_to_tensor(one)) for one in tape.gradient(total, given_)
        ]
    if backend == "jax":
        import jax

        places = tuple(range(len(values)))
        total = jax.grad(lambda *v: keras.ops.sum(function(*v)), places)
        return [array(one) for one in jax.jit(total)(*values)]
    import torch

    given_ = [torch.tensor(value, requires_grad=True) for value in values]
    keras.ops.sum(function(*given_)).backward()
    return [array(one.grad) for one in given_]


def test_the_gradient_of_a_weight_passes_straight_through():
    weight = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)
    (found,) = gradients(lambda w: fake_quant.fake_quant_weights(w, (0,), 4), weight)
    np.testing.assert_allclose(found, 1.0)


def test_a_learned_step_has_the_gradient_of_lsq():
    # 3 bits: n = 3. v = w / 0.5 = -4, -1.2, 0.3, 1.0, 3.4.
    weight = np.array([-2.0, -0.6, 0.15, 0.5, 1.7], "float32")
    step = np.float32(0.5)
    of_weight, of_step = gradients(
        lambda w, s: fake_quant.learned_weights(w, s, 3), weight, step
    )
    np.testing.assert_allclose(of_weight, [0, 1, 1, 1, 0])
    # -3, -1 + 1.2, 0 - 0.3, 1 - 1, 3.
    assert of_step == pytest.approx(-3 + 0.2 - 0.3 + 0 + 3, abs=1e-5)
    found = array(fake_quant.learned_weights(tensor(weight), step, 3))
    np.testing.assert_allclose(found, [-1.5, -0.5, 0.0, 0.5, 1.5])


def test_each_channel_s_step_has_the_gradient_of_its_weights():
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(5, 4)).astype("float32")
    step = np.array([[0.1, 0.3, 0.5, 2.0]], "float32")
    of_weight, of_step = gradients(
        lambda w, s: fake_quant.learned_weights(w, s, 3), weight, step
    )
    value = weight / step
    inside = np.abs(value) <= 3
    np.testing.assert_array_equal(of_weight, inside)
    slope = np.where(inside, np.round(value) - value, 3 * np.sign(value))
    np.testing.assert_allclose(of_step, slope.sum(0, keepdims=True), atol=1e-5)


def test_a_learned_range_has_the_gradient_of_lsq_plus():
    # 3 bits from -1 to 2.5: scale 0.5, zero on level 2. x / 0.5 + 2 = ...
    x = np.array([-1.7, -0.6, 0.1, 0.8, 2.4, 2.9, 4.0], "float32")
    of_x, of_low, of_high = gradients(
        lambda *given: fake_quant.learned_range(*given, 3),
        x,
        np.float32(-1.0),
        np.float32(2.5),
    )
    np.testing.assert_allclose(of_x, [0, 1, 1, 1, 1, 0, 0])
    moved = (0.1 - 0.1 + 0.2 + 0.1) / 3.5  # to -0.5, 0, 1, 2.5; over the range's width
    assert of_high == pytest.approx(2 + moved, abs=1e-5)
    assert of_low == pytest.approx(1 - moved, abs=1e-5)


def test_rounding_rectifies_with_the_gradient_of_a_relu():
    # 3 bits from 0 to 3.5: the levels are half a unit apart.
    x = np.array([-2.0, -0.1, 0.0, 0.2, 0.3, 3.4, 3.5, 3.6, 40.0], "float32")
    high = np.float32(3.5)
    found = fake_quant.rectified(tensor(x), tensor(high), 3)
    np.testing.assert_allclose(array(found), [0, 0, 0, 0, 0.5, 3.5, 3.5, 3.5, 3.5])
    (of_x,) = gradients(
        lambda x: fake_quant.rectified(x, tensor(high), 3) * tensor(2 + np.arange(9)), x
    )
    np.testing.assert_allclose(of_x, [0, 0, 0, 5, 6, 7, 8, 0, 0])


def test_sgd_moves_a_learned_step_as_lsq_says():
    # arXiv:1902.08153: step -= rate * g * dL/dstep, g = 1 / sqrt(weights a channel * n)
    rng, rate = np.random.default_rng(2), 0.1
    x = rng.normal(size=(8, 6)).astype("float32")
    dense = keras.layers.Dense(4, use_bias=False)
    layer = QuantizeWrapper(dense, QuantizeConfig(weight_bits=3, activation_bits=None))
    model = keras.Sequential([keras.Input((6,)), layer])
    kernel = rng.normal(size=(6, 4)).astype("float32") * [1.0, 0.1, 10.0, 0.0]
    dense.kernel.assign(kernel)
    layer.grids.begin()
    before = array(layer.grids.scale(0))
    assert before[0, 3] == before.max()  # a channel of zeros can come to life
    model.compile(keras.optimizers.SGD(rate), lambda y, found: keras.ops.mean(found))
    model.fit(x, np.zeros((8, 4)), batch_size=8, verbose=0)

    value = np.clip(kernel / before, -3, 3)
    slope = np.where(np.abs(value) < 3, np.round(value) - value, value)
    of_kernel = np.repeat(x.sum(axis=0)[:, None] / (8 * 4), 4, axis=1)
    of_step = (slope * of_kernel).sum(axis=0, keepdims=True)
    expected = before - rate * (6 * 3) ** -0.5 * of_step
    np.testing.assert_allclose(array(layer.grids.scale(0)), expected, rtol=1e-4)


def test_sgd_moves_a_learned_range_as_lsq_says():
    # high = 7 step: step -= rate * g * dL/dstep, g = 1 / sqrt(values of a row * 7)
    layer = FakeQuantize(3, learned=True)
    model = keras.Sequential([keras.Input((5,)), layer])
    x = np.random.default_rng(2).uniform(0, 3, (4, 5)).astype("float32")
    layer(x, training=True)
    for end, value in ((layer.low, 0.0), (layer.high, 2.0), (layer.seen, 1000)):
        end.assign(value)
    model.compile(keras.optimizers.SGD(0.1), lambda y, found: keras.ops.mean(found))
    model.fit(x, np.zeros((4, 5)), batch_size=4, verbose=0)

    step = 2.0 / 7
    value = np.clip(x / step, 0, 7)
    slope = np.where(value < 7, np.floor(value + 0.5) - value, value)
    expected = step - 0.1 * (5 * 7) ** -0.5 * slope.sum() / 20
    low, high = (float(array(end)) for end in layer.ends())
    assert low == 0.0
    assert high == pytest.approx(7 * expected, rel=1e-5)


def affine(x, low, high, bits):
    """The oracle of TensorFlow's op: the ends moved so that zero is a level."""
    last = 2**bits - 1
    scale = (high - low) / last
    zero = np.clip(np.floor(-low / scale + 0.5), 0, last)
    return (np.clip(np.floor(x / scale + zero + 0.5), 0, last) - zero) * scale


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.3, 2.9), (-3.0, 0.0)])
def test_activations_are_those_of_the_oracle_but_for_ties(bits, low, high):
    x = np.random.default_rng(5).normal(scale=2, size=4000).astype("float32")
    expected = affine(x.astype("float64"), low, high, bits)
    step = (high - low) / (2**bits - 1)
    for function in (fake_quant.fake_quant, fake_quant.learned_range):
        found = array(function(tensor(x), tensor(low), tensor(high), bits))
        off = np.abs(found - expected)
        assert off.max() <= step * 1.01
        assert (off > 1e-4 * step).mean() < 0.002  # values half-way between two levels


def test_zero_is_always_within_a_range_that_is_not_empty():
    low, high = (float(array(end)) for end in fake_quant.with_zero(2.0, 5.0))
    assert (low, high) == (0.0, 5.0)
    low, high = (float(array(end)) for end in fake_quant.with_zero(0.0, 0.0))
    assert (low, high) == (0.0, 1.0)  # not a grid that LiteRT cannot compute on
    low, high = (float(array(end)) for end in fake_quant.with_zero(-1e-9, 0.0))
    assert (low, high) == pytest.approx((-1e-9, 1e-6), rel=0.01)


def test_the_range_is_the_mean_of_the_first_batches():
    layer = FakeQuantize(momentum=0.5)
    for low, high in ((-1.0, 3.0), (-3.0, 5.0)):
        layer(np.array([low, 0.0, high], "float32"), training=True)
    # Rates 1 and 1/2: (-1 - 3) / 2 and (3 + 5) / 2.
    assert [float(array(end)) for end in layer.ends()] == [-2.0, 4.0]
    layer(np.array([-6.0, 8.0], "float32"), training=True)  # rate max(1/2, 1/3)
    assert [float(array(end)) for end in layer.ends()] == [-4.0, 6.0]


def test_values_that_are_not_finite_leave_the_range_alone():
    layer = FakeQuantize()
    layer(np.array([-1.0, 1.0], "float32"), training=True)
    layer(np.array([np.nan, 9.0], "float32"), training=True)
    layer(np.array([np.inf, 9.0], "float32"), training=True)
    assert [float(array(end)) for end in layer.ends()] == [-1.0, 1.0]


def test_nothing_is_rounded_before_a_range_is_known_or_the_step_has_come():
    x = np.array([-1.0, 0.123, 1.0], "float32")
    layer = FakeQuantize(4, start_step=2)
    np.testing.assert_array_equal(array(layer(x)), x)
    for _ in range(2):
        np.testing.assert_array_equal(array(layer(x, training=True)), x)
    assert array(layer(x, training=True))[1] != x[1]
    assert array(layer(x))[1] != x[1]
    assert layer.calibrated


def test_a_constant_batch_gives_no_nan():
    layer = FakeQuantize()
    found = array(layer(np.zeros((4, 2), "float32"), training=True))
    np.testing.assert_array_equal(found, 0.0)
