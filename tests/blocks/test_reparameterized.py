"""RepConv and MobileOne: the fused form computes the same."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.blocks.cases import array, needs_channels_first, randomized, run

b = kf.blocks


def made(layer, shape=(None, 9, 6, 8)):
    layer.build(shape)
    return randomized(layer)


def images(height, width, channels=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, height, width, channels)).astype("float32")


LAYERS = {
    "rep": lambda **own: b.RepConv(8, **own),
    "rep-wider": lambda **own: b.RepConv(12, **own),
    "rep-strides": lambda **own: b.RepConv(8, strides=2, **own),
    "rep-bias": lambda **own: b.RepConv(8, use_bias=True, activation=None, **own),
    "one": lambda **own: b.MobileOne(8, branches=2, **own),
    "one-strides": lambda **own: b.MobileOne(12, strides=2, branches=1, **own),
    "one-5": lambda **own: b.MobileOne(12, kernel_size=5, strides=3, **own),
    "one-bias": lambda **own: b.MobileOne(8, use_bias=True, **own),
}
each = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


@each
@pytest.mark.parametrize("size", [(9, 6), (8, 7)])
def test_fused_form_gives_the_same(make, size):
    layer, data = made(make()), images(*size)
    expected, found = array(layer(data)), array(layer.fuse()(data))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@each
def test_fused_form_is_plain_convolutions(make):
    layer = made(make(name="mine"))
    kinds = {type(one).__name__ for one in layer.fuse().layers}
    assert kinds <= {"Conv2D", "DepthwiseConv2D", "ReLU", "ZeroPadding2D"}
    assert all(one.name.startswith("mine_") for one in layer.fuse().layers)


@each
def test_fused_form_applies_to_a_keras_tensor(make):
    layer = made(make())
    inputs = keras.Input((None, None, 8))
    model = keras.Model(inputs, layer.fuse()(inputs))
    assert model.output_shape == layer.compute_output_shape((None, None, None, 8))


def test_channels_first():
    needs_channels_first()
    last, first = (
        b.RepConv(8, strides=2, data_format=f"channels_{w}") for w in ("last", "first")
    )
    made(last)
    made(first, (None, 8, 9, 6)).set_weights(last.get_weights())
    found = array(run(first.fuse(), images(9, 6).transpose(0, 3, 1, 2)))
    expected = array(last(images(9, 6))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_fused_weights_are_arrays_with_the_shapes_of_the_convolutions():
    kernel, bias = made(b.RepConv(12)).fused_weights()["conv"]
    assert (kernel.shape, bias.shape) == ((3, 3, 8, 12), (12,))
    assert (kernel.dtype, bias.dtype) == (np.float32, np.float32)
    parts = made(b.MobileOne(12)).fused_weights()
    assert {name: [one.shape for one in pair] for name, pair in parts.items()} == {
        "depthwise": [(3, 3, 8, 1), (8,)],
        "pointwise": [(1, 1, 8, 12), (12,)],
    }


def test_fused_kernel_by_hand():
    """One channel; every norm multiplies by gamma / sqrt(variance + epsilon)."""
    layer = b.RepConv(1, activation=None, norm_epsilon=0.25)
    layer.build((None, 4, 4, 1))
    inner = {one.name: one for one in layer.layers}
    norm = [np.array([float(v)]) for v in (3.0, 0.5, 2.0, 0.75)]
    for name in ("conv3x3_norm", "conv1x1_norm", "identity_norm"):
        inner[name].set_weights(norm)  # gamma, beta, mean, variance
    inner["conv3x3_conv"].set_weights([np.ones((3, 3, 1, 1))])
    inner["conv1x1_conv"].set_weights([np.full((1, 1, 1, 1), 5.0)])
    kernel, bias = layer.fused_weights()["conv"]
    factor = 3.0 / np.sqrt(0.75 + 0.25)
    expected = np.full((3, 3), factor)
    expected[1, 1] += 5.0 * factor + 1.0 * factor
    np.testing.assert_allclose(kernel[:, :, 0, 0], expected)
    np.testing.assert_allclose(bias, [3 * (0.5 - 2.0 * factor)])


def test_fuse_leaves_the_layer_alone():
    layer = made(b.RepConv(8))
    before = layer.get_weights()
    for one in layer.fuse().layers:
        one.set_weights([0 * weight for weight in one.get_weights()])
    for weight, value in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_fuse_needs_weights():
    with pytest.raises(ValueError, match=r"Layer 'rep_conv' must be built\."):
        b.RepConv(8).fuse()
    with pytest.raises(ValueError, match=r"Layer 'mobile_one' must be built\."):
        b.MobileOne(8).fused_weights()
