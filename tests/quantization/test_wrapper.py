"""QuantizeWrapper around one layer."""

import keras
import numpy as np
import pytest

from keras_fitkit.quantization import (
    QuantizeConfig,
    QuantizeWrapper,
    register,
    rules,
)
from tests.quantization.models import array
from tests.quantization.test_fake_quant import on_grid

layers = keras.layers
SHAPES = {
    "dense": (lambda: layers.Dense(4), (2, 6)),
    "einsum": (lambda: layers.EinsumDense("ab,bcd->acd", (2, 3)), (2, 6)),
    "conv1d": (lambda: layers.Conv1D(4, 3), (2, 8, 3)),
    "conv2d": (lambda: layers.Conv2D(4, 3), (2, 8, 8, 3)),
    "conv3d": (lambda: layers.Conv3D(2, 2), (2, 4, 4, 4, 2)),
    "transposed": (lambda: layers.Conv2DTranspose(4, 3), (2, 4, 4, 3)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), (2, 8, 8, 3)),
    "separable": (lambda: layers.SeparableConv2D(4, 3), (2, 8, 8, 3)),
    "lstm": (lambda: layers.LSTM(4), (2, 5, 3)),
    "gru": (lambda: layers.GRU(4), (2, 5, 3)),
    "two ways": (lambda: layers.Bidirectional(layers.LSTM(3)), (2, 5, 3)),
    "norm": (lambda: layers.BatchNormalization(), (2, 6)),
    "relu": (lambda: layers.ReLU(), (2, 6)),
    "silu": (lambda: layers.Activation("silu"), (2, 6)),
    "softmax": (lambda: layers.Dense(4, "softmax"), (2, 6)),
    "pool": (lambda: layers.AveragePooling2D(2), (2, 8, 8, 3)),
    "mean": (lambda: layers.GlobalAveragePooling2D(), (2, 8, 8, 3)),
}


def sample(shape):
    return np.random.default_rng(2).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    "name", sorted(set(SHAPES) - {"norm"})
)  # its range is in training
def test_16_bits_compute_nearly_what_the_layer_does(name):
    make, shape = SHAPES[name]
    keras.utils.set_random_seed(1)
    wrapper = QuantizeWrapper(
        make(), QuantizeConfig(weight_bits=16, activation_bits=16)
    )
    x = sample(shape)
    wrapper(x, training=True)
    np.testing.assert_allclose(
        array(wrapper(x)), array(wrapper.layer(x)), atol=2e-3, rtol=1e-2
    )


@pytest.mark.parametrize("name", SHAPES)
def test_the_kernels_are_on_their_grid_while_it_computes(name):
    make, shape = SHAPES[name]
    wrapper = QuantizeWrapper(
        make(), QuantizeConfig(weight_bits=4, ranges="moving_average")
    )
    wrapper.build(shape)
    for index, kernel in enumerate(wrapper.kernels):
        weight = array(kernel.variable)
        found = array(wrapper.grids.on_grid(index, keras.ops.convert_to_tensor(weight)))
        np.testing.assert_allclose(
            found, on_grid(weight, kernel.axes, 4), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_array_equal(array(kernel.variable), weight)
    with_kernels = name not in ("norm", "relu", "silu", "pool", "mean")
    assert bool(wrapper.kernels) is with_kernels
    assert set(wrapper.compression_info) == {k.variable.path for k in wrapper.kernels}


def test_attention_and_two_inputs():
    x = sample((2, 5, 8))
    inputs = keras.Input((5, 8))
    inner = layers.MultiHeadAttention(2, 4)
    inner.build(query_shape=(None, 5, 8), value_shape=(None, 5, 8))
    wrapper = QuantizeWrapper(inner, QuantizeConfig(16, 16))
    model = keras.Model(inputs, wrapper(inputs, inputs))
    assert len(wrapper.kernels) == 4
    np.testing.assert_allclose(array(wrapper(x, x)), array(inner(x, x)), atol=1e-2)
    assert model.output_shape == (None, 5, 8)


@pytest.mark.parametrize("make", [layers.Concatenate, layers.Add, layers.Multiply])
def test_merges(make):
    one, other = sample((4, 3)), 3 * sample((4, 3))
    wrapper = QuantizeWrapper(make())
    wrapper([one, other], training=True)
    found, exact = array(wrapper([one, other])), array(wrapper.layer([one, other]))
    step = (exact.max() - exact.min()) / 255
    assert np.abs(found - exact).max() <= step * 1.01
    if make is layers.Concatenate:
        # The range is that of both inputs.
        low, high = (float(array(end)) for end in wrapper.after.ends())
        assert (low, high) == pytest.approx((exact.min(), exact.max()), rel=1e-5)


@pytest.mark.parametrize("make", [layers.ReLU, lambda: layers.Dense(6, "relu")])
def test_behind_a_relu_the_largest_value_alone_is_looked_for(make):
    wrapper, x = QuantizeWrapper(make()), sample((32, 6))
    wrapper(x, training=True)
    most = float(array(wrapper.layer(x)).max())
    low, high = (float(array(end)) for end in wrapper.after.ends())
    assert (low, high) == (0.0, pytest.approx(most, rel=0.02))
    for odd in (np.nan, np.inf):  # neither moves the range, as elsewhere
        x[3, 2] = odd
        wrapper(x, training=True)
    assert float(array(wrapper.after.ends()[1])) == high

    class Own(layers.ReLU):  # of which nothing is known
        def call(self, inputs):
            return super().call(inputs) - 1.0

    wrapper = QuantizeWrapper(Own())
    wrapper(sample((32, 6)), training=True)
    assert float(array(wrapper.after.ends()[0])) == -1.0


RECTIFIERS = {
    "layer": layers.ReLU,
    "up to 6": lambda **how: layers.ReLU(6.0, **how),
    "activation": lambda **how: layers.Activation("relu6", **how),
    "dense": lambda **how: layers.Dense(6, "relu", **how),
    "dense up to 6": lambda **how: layers.Dense(6, "relu6", **how),
}


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_relu_within_the_rounding_is_the_relu_before_it(name, dtype, monkeypatch):
    config = QuantizeConfig(weight_bits=8, activation_bits=4, ranges="moving_average")
    x = 4 * sample((32, 6))
    found = []
    for fused in (True, False):
        keras.utils.set_random_seed(4)
        wrapper = QuantizeWrapper(RECTIFIERS[name](dtype=dtype), config)
        assert wrapper._rectifies
        monkeypatch.setattr(QuantizeWrapper, "_rectifies", fused)
        steps = [array(wrapper(x * size, training=True)) for size in (1.0, 0.5, 2.0)]
        monkeypatch.undo()
        found.append((*steps, array(wrapper.after.high), array(wrapper(x))))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert found[0][2].max() > 1.0  # and not all zeros


def test_the_range_of_a_relu_that_ends_knows_it_where_inputs_do_not():
    for make in (lambda: layers.ReLU(6.0), lambda: layers.Activation("relu6")):
        wrapper, x = QuantizeWrapper(make()), sample((8, 6))
        x[2, 3] = np.inf
        assert float(array(wrapper(x, training=True)).max()) == 6.0
        assert float(array(wrapper.after.high)) == 6.0


def test_a_relu_that_is_to_share_its_range_is_computed(monkeypatch):
    monkeypatch.setattr(rules, "_registered", {})
    register(layers.ReLU, kind=rules.SHARED)
    wrapper, x = QuantizeWrapper(layers.ReLU()), sample((8, 6))
    found = array(wrapper(x, training=True))
    low, high = (float(array(end)) for end in wrapper.after.ends())
    assert (low, high) == pytest.approx((x.min(), x.max()), rel=1e-5)
    np.testing.assert_allclose(found, array(wrapper(x)), atol=1e-6)


def test_integers_go_through_a_relu_as_they_are():
    wrapper = QuantizeWrapper(layers.ReLU())
    x = keras.ops.convert_to_tensor(np.array([[-3, 2, 300]]), "int32")
    for training in (True, False):
        assert array(wrapper(x, training=training)).tolist() == [[0, 2, 300]]


def test_a_relu_whose_outputs_are_penalized_is_computed():
    wrapper = QuantizeWrapper(layers.ReLU(activity_regularizer="l1"))
    x = sample((8, 6))
    wrapper(x, training=True)
    (loss,) = wrapper.losses
    assert float(array(loss)) == pytest.approx(0.01 * np.maximum(x, 0).sum() / 8, 1e-4)


def test_a_fixed_output_and_a_range_before_it():
    wrapper = QuantizeWrapper(layers.Dense(4, "softmax"))
    x = sample((64, 6))
    wrapper(x, training=True)
    assert wrapper.after.ends() == (0.0, 255 / 256)
    assert wrapper.before.calibrated
    found = array(wrapper(x)) * 256
    np.testing.assert_allclose(found, np.round(found), atol=1e-4)


def test_the_kernels_come_back_when_the_layer_raises():
    class Broken(layers.Dense):
        def call(self, inputs, training=None):
            raise RuntimeError("the user's own")

    wrapper = QuantizeWrapper(Broken(3))
    wrapper.build((None, 2))
    kernel = wrapper.layer.kernel
    with pytest.raises(RuntimeError, match="the user's own"):
        wrapper(sample((1, 2)))
    assert wrapper.layer.kernel is kernel


def test_half_precision():
    wrapper = QuantizeWrapper(layers.Dense(4, dtype="mixed_float16"))
    found = wrapper(sample((2, 6)), training=True)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    assert str(wrapper.layer.kernel.dtype) == "float32"


def test_a_frozen_norm_keeps_its_statistics():
    config = QuantizeConfig(freeze_batch_norm_after=2)
    wrapper = QuantizeWrapper(layers.BatchNormalization(), config)
    seen = []
    for _ in range(4):
        wrapper(5 + sample((16, 3)), training=True)
        seen.append(array(wrapper.layer.moving_mean).tolist())
    assert seen[0] != seen[1]
    assert seen[1] == seen[2] == seen[3]


@keras.saving.register_keras_serializable("tests.wrapper")
class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(1, shape[-1]), name="scale")

    def call(self, inputs):
        return inputs * self.scale


def test_somebody_s_own_layer(monkeypatch):
    with pytest.raises(ValueError, match=r"no rule for Scale.*register"):
        QuantizeWrapper(Scale())
    monkeypatch.setattr(rules, "_registered", {})
    register(Scale, kernels=["scale"])
    wrapper = QuantizeWrapper(Scale(), "int4-weights")
    wrapper.build((None, 6))
    assert [kernel.variable.name for kernel in wrapper.kernels] == ["scale"]
    register(Scale, kernels=["scales"])
    with pytest.raises(ValueError, match=r"`kernels` must be.*\['scale'\].*scales"):
        QuantizeWrapper(Scale()).build((None, 6))


def test_a_file_says_how_somebody_s_own_layer_is_quantized(monkeypatch, tmp_path):
    monkeypatch.setattr(rules, "_registered", {})
    register(Scale, kernels=["scale"])
    inputs = keras.Input((6,))
    model = keras.Model(inputs, QuantizeWrapper(Scale(), "int4-weights")(inputs))
    model.save(tmp_path / "m.keras")
    monkeypatch.setattr(rules, "_registered", {})  # another process
    again = keras.models.load_model(tmp_path / "m.keras")
    assert [one.variable.name for one in again.layers[-1].kernels] == ["scale"]
    assert again.layers[-1].get_config()["registered"]["kernels"] == ["scale"]
    x = sample((4, 6))
    np.testing.assert_array_equal(array(again(x)), array(model(x)))


def of_keras():
    layer = layers.Dense(2)
    layer.build((None, 4))
    layer.quantize("int8")
    return layer


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (of_keras(), "a plain layer.*integers of its kernel"),
        (layers.LayerNormalization(), "stays float"),
        (QuantizeWrapper(layers.Dense(2)), "quantized already"),
        (keras.Sequential([layers.Dense(2)]), r"kf\.quantize_model"),
        (3, r"keras\.layers\.Layer"),
    ],
    ids=["of Keras", "norm", "twice", "model", "number"],
)
def test_what_cannot_be_wrapped(layer, text):
    with pytest.raises((TypeError, ValueError), match=f"`layer` must be.*{text}"):
        QuantizeWrapper(layer)
