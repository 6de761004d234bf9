"""quantize_model and strip_quantization."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit import blocks
from keras_fitkit.quantization import (
    FakeQuantize,
    QuantizeConfig,
    QuantizeWrapper,
    quantize_model,
    strip_quantization,
)
from tests.quantization.models import FLAT, X, array, cnn, mlp, trained
from tests.tools import warns_once

FINE = QuantizeConfig(weight_bits=16, activation_bits=16)


def predicted(model, x=X):
    return array(model(x, training=False))


def test_it_is_the_same_model_with_the_same_weights():
    model = cnn()
    before = [array(one) for one in model.weights]
    qat = quantize_model(model, FINE)
    np.testing.assert_allclose(predicted(qat), predicted(model), atol=1e-3)
    for one, other in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(one, array(other))
    assert qat.name == model.name
    assert not {id(one) for one in qat.weights} & {id(one) for one in model.weights}


def test_it_rounds_where_the_converter_looks():
    qat = quantize_model(cnn())
    rounding = {
        layer.name
        for layer in qat.layers
        if isinstance(layer, FakeQuantize)
        or (isinstance(layer, QuantizeWrapper) and layer.after is not None)
    }
    # Not: conv and norm, which become one with the ReLU; side, whose range is that of
    # the concatenation; pool and drop, which change no value.
    assert rounding == {
        "quant_image", "quant_relu", "quant_depth", "quant_add", "quant_joined",
        "quant_mean", "quant_logits",
    }  # fmt: skip
    kernels = {one.layer.name for one in qat.layers if getattr(one, "kernels", ())}
    assert kernels == {"conv", "depth", "side", "logits"}


def test_training_goes_on_in_a_saved_model(tmp_path):
    eagerly = keras.backend.backend() == "tensorflow"  # spares two traces
    qat = trained(quantize_model(cnn(dropout=0.0), "int4"), run_eagerly=eagerly)
    qat.save(tmp_path / "qat.keras")
    again = keras.models.load_model(tmp_path / "qat.keras")
    np.testing.assert_array_equal(predicted(again), predicted(qat))
    for model in (qat, again):
        model.fit(X, np.zeros(48), epochs=1, batch_size=48, shuffle=False, verbose=0)
    for one, other in zip(qat.weights, again.weights, strict=True):
        np.testing.assert_allclose(array(one), array(other), atol=1e-6)
    copy = keras.models.clone_model(qat)
    assert [layer.name for layer in copy.layers] == [one.name for one in qat.layers]


def test_stripped_it_is_plain_with_weights_on_the_grid():
    qat = trained(quantize_model(mlp(), "int2-weights"), FLAT)
    plain = strip_quantization(qat)
    assert [type(one).__name__ for one in plain.layers] == [
        "InputLayer", "Dense", "Dense",
    ]  # fmt: skip
    np.testing.assert_allclose(predicted(plain, FLAT), predicted(qat, FLAT), atol=1e-5)
    kernel = array(plain.get_layer("hidden").kernel)
    assert all(len(np.unique(column)) <= 3 for column in kernel.T)
    with pytest.raises(ValueError, match=r"that `kf\.quantize_model` made"):
        strip_quantization(plain)


def test_what_stays_float_is_told():
    inputs = keras.Input((6, 4))
    x = keras.layers.LayerNormalization(name="norm")(inputs)
    x = keras.layers.LSTM(5, name="lstm")(x)
    x = keras.layers.Dense(3, "sparsemax", name="dense")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(x))
    qat, floats = quantize_model(model, return_report=True)
    reasons = {one.name: one.reason for one in floats}
    assert set(reasons) == {"norm", "dense"}
    assert "sparsemax" in reasons["dense"]
    # Behind the norm there is a range again.
    assert qat.get_layer("quant_norm").bits == 8


def test_overrides_and_exclude():
    overrides = {"hid*": "int4", "logits": QuantizeConfig(weight_bits=6)}
    qat = quantize_model(mlp(), "int8", overrides=overrides)
    assert qat.get_layer("quant_hidden").config.weight_bits == 4
    assert qat.get_layer("quant_logits").config.weight_bits == 6
    qat, floats = quantize_model(mlp(), exclude="hidden", return_report=True)
    assert isinstance(qat.get_layer("hidden"), keras.layers.Dense)
    assert [(one.name, one.reason) for one in floats] == [("hidden", "excluded")]
    with pytest.raises(ValueError, match=r"`overrides` must be.*hiden"):
        quantize_model(mlp(), overrides={"hiden": "int4"})
    with pytest.raises(ValueError, match="`exclude` must be"):
        quantize_model(mlp(), exclude="nothing")


def test_nested_shared_and_several_inputs_and_outputs():
    inner = mlp()
    shared = keras.layers.Dense(12, "relu", name="shared")
    one, other = keras.Input((12,), name="one"), keras.Input((12,), name="other")
    joined = keras.layers.Add(name="add")([shared(one), shared(other)])
    outputs = {"a": inner(joined), "b": joined * 2.0}
    model = keras.Model({"one": one, "other": other}, outputs)
    qat = quantize_model(model, FINE)
    given = {"one": FLAT, "other": 2 * FLAT}
    expected, found = model(given), qat(given)
    assert set(found) == {"a", "b"}
    for name in expected:
        np.testing.assert_allclose(array(found[name]), array(expected[name]), atol=2e-3)
    assert sum(layer.name == "quant_shared" for layer in qat.layers) == 1
    assert isinstance(qat.get_layer("mlp").get_layer("quant_hidden"), QuantizeWrapper)


def test_grids_go_across_the_borders_of_nested_models():
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    before = [keras.Input((8, 8, 3)), layers.Rescaling(0.5, name="scale")]
    body = [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv")]
    x = keras.Sequential(before, name="before")(inputs)
    x = keras.Sequential(body, name="body")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    features = keras.Input((4,))
    last = keras.Model(features, layers.LayerNormalization(name="end")(features))
    last.name = "after"
    x = last(layers.GlobalAveragePooling2D(name="mean")(x))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    qat, floats = quantize_model(model, return_report=True)
    assert {one.name for one in floats} == {"before/scale", "after/end"}
    names = [one.name for one in qat.get_layer("before").layers]
    assert names[-1] == "quant_scale"  # the first range is after what prepares
    # The convolution is not rounded before the norm and the ReLU that it takes in.
    assert qat.get_layer("body").get_layer("quant_conv").after is None
    assert type(qat.get_layer("norm")) is layers.BatchNormalization
    assert qat.get_layer("after").layers[-1].name == "quant_end"


def test_a_range_that_is_excluded_is_not_relied_on():
    layers = keras.layers
    inputs = keras.Input((12,))
    one = layers.Dropout(0.2)(layers.Dense(4, name="one")(inputs))
    both = layers.Concatenate(name="both")([one, layers.Dense(4, name="two")(inputs)])
    model = keras.Model(inputs, layers.Dense(2, name="out")(both))
    shared = quantize_model(model)
    assert shared.get_layer("quant_one").after is None
    apart = quantize_model(model, exclude="both")
    assert apart.get_layer("quant_one").after is not None
    weights = QuantizeConfig(activation_bits=None)
    apart = quantize_model(model, overrides={"both": weights})
    assert apart.get_layer("quant_one").after is not None


def test_a_table_takes_in_no_relu():
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.ReLU()(keras.layers.Embedding(20, 4, name="table")(inputs))
    qat = quantize_model(keras.Model(inputs, keras.layers.Dense(2)(x)))
    assert qat.get_layer("quant_table").after is not None


def test_layers_that_hold_functions_or_statistics_are_copied():
    scale = keras.layers.Normalization(name="adapted")
    scale.adapt(FLAT)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            scale,
            keras.layers.Lambda(lambda x: 2.0 * x),
            *mlp().layers,
        ]
    )
    qat, floats = quantize_model(model, FINE, return_report=True)
    assert len(floats) == 2
    np.testing.assert_allclose(predicted(qat, FLAT), predicted(model, FLAT), atol=5e-3)


def test_a_block_is_quantized_as_the_layers_it_stands_for():
    inputs = keras.Input((8, 8, 3))
    x = kf.blocks.InvertedResidual(6, name="block")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(x))
    qat, floats = quantize_model(model, return_report=True)
    assert floats == []
    wrapped = [one for one in qat.layers if isinstance(one, QuantizeWrapper)]
    assert sum(bool(one.kernels) for one in wrapped) == 4
    for exclude in ("block", model.get_layer("block")):
        qat = quantize_model(model, exclude=exclude)
        assert type(qat.get_layer("block")) is kf.blocks.InvertedResidual
        np.testing.assert_array_equal(
            array(qat.get_layer("block").weights[0]),
            array(model.get_layer("block").weights[0]),
        )


def test_pruned_weights_stay_zero():
    model = mlp()
    kernel = array(model.layers[0].kernel)
    kernel[::2] = 0
    model.layers[0].kernel.assign(kernel)
    qat = quantize_model(model, "int8")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    qat.compile("adam", loss)
    hold = kf.PruneSchedule.hold()
    qat.fit(FLAT, np.zeros(48), epochs=2, verbose=0, callbacks=[hold])
    plain = strip_quantization(qat)
    assert not array(plain.layers[1].kernel)[::2].any()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def test_what_cannot_be_quantized():
    model = Subclassed()
    model(FLAT)
    with pytest.raises(ValueError, match=r"`model` must be a functional.*subclassed"):
        quantize_model(model)
    with pytest.raises(ValueError, match=r"a plain model.*strip_quantization"):
        quantize_model(quantize_model(mlp()))
    norm = keras.Sequential([keras.Input((3,)), keras.layers.LayerNormalization()])
    with pytest.raises(ValueError, match=r"a layer to quantize.*a norm"):
        quantize_model(norm)
    with pytest.raises(ValueError, match=r"`config` must be one of 'int8'"):
        quantize_model(mlp(), "int7")
    with pytest.raises(ValueError, match=r"`config` must be one of .*weight_bits'\?"):
        quantize_model(mlp(), {"weight_bit": 4})
    with pytest.raises(ValueError, match=r"`overrides` must be one of 'int8'"):
        quantize_model(mlp(), overrides={"hidden": "int5"})
    with pytest.raises(ValueError, match=r"a layer to quantize.*`config` has no bits"):
        quantize_model(mlp(), QuantizeConfig(None, None))
    whole = mlp()
    whole.layers[0].quantize("int8")  # Keras's own
    with pytest.raises(ValueError, match=r"a plain model.*integers of hidden's kernel"):
        quantize_model(whole)


def trap(size=3, variant="v3", se_ratio=0.25):
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.DepthwiseConv2D(size, padding="same", name="wide")(inputs)
    block = blocks.InvertedResidual(4, se_ratio=se_ratio, variant=variant, name="block")
    return keras.Model(inputs, block(x), name="net")


def test_what_is_slow_in_int8_is_said_once():
    with warns_once(UserWarning, "net may be slow in int8") as caught:
        quantize_model(trap(7), "int8")
    texts = [str(item.message) for item in caught]
    text = next(one for one in texts if "may be slow" in one)
    assert "depthwise kernels above 5 x 5 (wide)" in text
    assert "squeeze-and-excite (block" in text
    assert "with hard-swish (block" in text


@pytest.mark.parametrize(
    ("kind", "groups", "size", "text"),
    [
        ("Conv2D", 8, 3, r"more than 4 groups \(grouped\)"),
        ("GroupedConv2D", 8, 3, r"more than 4 groups \(grouped\)"),
        ("Conv2D", 4, 7, ""),
        ("Conv2D", 16, 3, ""),  # that is a depthwise convolution
        ("Conv2D", 16, 7, r"depthwise kernels above 5 x 5 \(grouped\)"),
    ],
)
def test_groups_that_are_slow_in_int8(kind, groups, size, text):
    layer = getattr(blocks if kind in blocks.__all__ else keras.layers, kind)
    conv = layer(16, size, groups=groups, padding="same", name="grouped")
    model = keras.Sequential([keras.Input((8, 8, 16)), conv])
    if text:
        with warns_once(UserWarning, text):
            quantize_model(model, "int8")
    else:
        quantize_model(model, "int8")


@pytest.mark.parametrize(
    "given", [{"variant": "v2"}, {"se_ratio": 0}, {"variant": "v2", "size": 5}]
)
def test_nothing_is_said_of_what_is_not(given):
    quantize_model(trap(**given), "int8")


def test_nothing_is_said_of_weights_alone():
    quantize_model(trap(7), "int4-weights")
