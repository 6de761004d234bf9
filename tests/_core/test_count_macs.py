"""count_macs: formulas against counts by hand, on every backend."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf


def macs(layer, *shapes, **kwargs):
    """Of a model of this layer alone."""
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, layer(*inputs, **kwargs))
    report = kf.count_macs(model)
    assert report.complete
    return report.total


CASES = {
    "dense": (layers.Dense(5), [(7,)], 7 * 5),
    "dense on a sequence": (layers.Dense(5), [(3, 7)], 3 * 7 * 5),
    "einsum": (layers.EinsumDense("abc,cd->abd", (None, 5)), [(3, 7)], 3 * 7 * 5),
    "einsum with dots": (
        layers.EinsumDense("...x,xy->...y", 5),
        [(3, 7)],
        3 * 7 * 5,
    ),
    "einsum over two": (layers.EinsumDense("abc,bcd->ad", 5), [(3, 7)], 3 * 7 * 5),
    "conv1d": (layers.Conv1D(5, 3), [(9, 2)], 7 * 5 * (3 * 2)),
    "conv2d, strides": (
        layers.Conv2D(5, 3, strides=2, padding="same"),
        [(8, 8, 2)],
        4 * 4 * 5 * (3 * 3 * 2),
    ),
    "grouped": (layers.Conv2D(4, 3, groups=2), [(5, 5, 6)], 3 * 3 * 4 * (3 * 3 * 3)),
    "conv3d": (layers.Conv3D(2, 2), [(3, 3, 3, 4)], 2 * 2 * 2 * 2 * (2 * 2 * 2 * 4)),
    "depthwise": (
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        [(5, 5, 6)],
        3 * 3 * 12 * (3 * 3),
    ),
    "separable": (
        layers.SeparableConv2D(5, 3, depth_multiplier=2),
        [(5, 5, 6)],
        3 * 3 * (12 * 9 + 12 * 5),
    ),
    "transposed": (
        layers.Conv2DTranspose(5, 3, strides=2),
        [(4, 4, 2)],
        4 * 4 * (3 * 3 * 2 * 5),
    ),
    "lstm": (layers.LSTM(4), [(20, 8)], 20 * (4 * 4) * (8 + 4)),
    "gru": (layers.GRU(4, return_sequences=True), [(20, 8)], 20 * (3 * 4) * (8 + 4)),
    "simple rnn": (layers.SimpleRNN(4), [(20, 8)], 20 * 4 * (8 + 4)),
    "stacked cells": (
        layers.RNN([layers.LSTMCell(4), layers.GRUCell(2)]),
        [(20, 8)],
        20 * ((4 * 4) * (8 + 4) + (3 * 2) * (4 + 2)),
    ),
    "bidirectional": (
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        [(20, 8)],
        2 * 20 * (4 * 4) * (8 + 4),
    ),
    "conv lstm": (
        layers.ConvLSTM2D(3, 3, padding="same"),
        [(6, 5, 4, 2)],
        6 * (5 * 4) * (3 * 3) * (4 * 3) * (2 + 3),
    ),
    "time distributed": (
        layers.TimeDistributed(layers.Conv2D(3, 3)),
        [(6, 5, 5, 2)],
        6 * (3 * 3 * 3) * (3 * 3 * 2),
    ),
    "reversible embedding": (layers.ReversibleEmbedding(11, 4), [(3,)], 0),
    "normalization": (layers.BatchNormalization(), [(3, 4)], 0),
    "dropout": (layers.Dropout(0.5), [(3, 4)], 0),
    "spectral": (
        layers.SpectralNormalization(layers.Dense(5)),
        [(7,)],
        7 * 5,
    ),
    "grouped dense": (kf.blocks.GroupedDense(6, groups=2), [(4,)], 4 * 3),
    "composite": (
        kf.blocks.SeparableBlock(5),
        [(4, 4, 3)],
        4 * 4 * (9 * 3 + 3 * 5),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_layer(case):
    layer, shapes, expected = CASES[case]
    copy = type(layer).from_config(layer.get_config())
    assert macs(copy, *shapes) == expected


def test_attention_is_projections_and_two_products():
    heads, size, value, model, queries, keys = 2, 4, 3, 8, 5, 7
    # JAX's own dot product attention wants values of the size of the keys.
    value = size if keras.backend.backend() == "jax" else value
    layer = layers.MultiHeadAttention(heads, size, value_dim=value)
    projections = heads * (
        queries * model * size
        + keys * model * size
        + keys * model * value
        + queries * value * model
    )
    products = heads * queries * keys * (size + value)
    found = macs(layer, (queries, model), (keys, model))
    assert found == projections + products


def test_attention_over_chosen_axes():
    # 3 rows of 5 positions: each row sees itself alone
    layer = layers.MultiHeadAttention(2, 4, attention_axes=2)
    inputs = keras.Input((3, 5, 8))
    report = kf.count_macs(keras.Model(inputs, layer(inputs, inputs)))
    projections = 4 * (3 * 5) * 8 * (2 * 4)
    assert report.total == projections + 2 * 3 * (5 * 5) * (4 + 4)


def test_grouped_query_attention():
    layer = layers.GroupQueryAttention(4, 6, 2)  # size of a head, heads, of keys
    inputs = keras.Input((5, 8))
    report = kf.count_macs(keras.Model(inputs, layer(inputs, inputs)))
    projections = 5 * 8 * 4 * (6 + 2 + 2 + 6)
    assert report.total == projections + 6 * (5 * 5) * (4 + 4)


def test_attention_without_weights():
    inputs = [keras.Input((5, 8)), keras.Input((7, 8))]
    for layer in (layers.Attention(), layers.AdditiveAttention()):
        model = keras.Model(inputs, layer(inputs))
        assert kf.count_macs(model).total == 5 * 7 * (8 + 8)


def test_operations_in_a_graph():
    a, b = keras.Input((5, 8)), keras.Input((8, 3))
    model = keras.Model([a, b], keras.ops.matmul(a, b))
    assert kf.count_macs(model).total == 5 * 8 * 3
    model = keras.Model([a, b], keras.ops.einsum("nab,nbc->nac", a, b))
    assert kf.count_macs(model).total == 5 * 8 * 3
    model = keras.Model([a, b], layers.Dot((2, 1))([a, b]))
    assert kf.count_macs(model).total == 5 * 8 * 3


def test_convolutions_in_a_graph():
    x = keras.Input((8, 8, 4))
    shapes = ((3, 3, 4, 6), (3, 3, 4, 2), (1, 1, 8, 5))
    kernel, deep, point = (np.ones(shape, "float32") for shape in shapes)
    for made, macs in (
        (keras.ops.conv(x, kernel), 6 * 6 * 6 * (3 * 3 * 4)),
        (keras.ops.depthwise_conv(x, deep), 6 * 6 * 8 * (3 * 3)),
        (keras.ops.separable_conv(x, deep, point), 6 * 6 * 8 * (3 * 3 + 5)),
    ):
        assert kf.count_macs(keras.Model(x, made)).total == macs


def test_shared_and_nested_layers_count_once_for_each_call():
    inner_input = keras.Input((4,))
    dense = layers.Dense(4, name="shared")
    inner = keras.Model(inner_input, dense(dense(inner_input)), name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner(inner(inputs)))
    report = kf.count_macs(model)
    assert report.total == 4 * (4 * 4)
    (row,) = report.layers
    assert (row.path, row.kind, row.calls) == ("inner/shared", "Dense", 4)
    assert (row.input_shape, row.output_shape) == ((1, 4), (1, 4))


class Own(layers.Layer):
    """A kernel that no rule knows."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1], 2))
        self.inner = layers.Dense(3, name="inner")
        self.inner.build((*shape[:-1], 2))

    def call(self, x):
        return self.inner(keras.ops.matmul(x, self.scale))


class Telling(Own):
    """The same, and it says what it costs."""

    def count_own_macs(self, input_shapes, output_shapes):
        return input_shapes[0][-1] * 2


def test_a_layer_without_a_rule_is_listed():
    model = keras.Sequential([keras.Input((4,)), Own(name="own")])
    report = kf.count_macs(model)
    assert report.uncounted == {"own": "Own has weights and no rule"}
    assert report.by_layer == {"own/inner": 2 * 3}
    assert not report.complete
    assert "at least 6 MACs" in report.summary
    assert "not counted: own" in str(report)


def test_a_layer_can_tell_its_own():
    model = keras.Sequential([keras.Input((4,)), Telling(name="own")])
    assert kf.count_macs(model).by_layer == {"own": 4 * 2, "own/inner": 2 * 3}


def test_lambda_is_listed():
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x, name="f")])
    assert kf.count_macs(model).uncounted == {
        "f": "what Lambda computes cannot be seen"
    }


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(5, name="hidden")

    def call(self, inputs):
        return self.hidden(inputs["a"]) + self.hidden(inputs["b"])


def test_subclassed_models_need_a_shape():
    model = Subclassed()
    model({"a": np.ones((1, 3)), "b": np.ones((1, 3))})
    report = kf.count_macs(model, {"a": (3,), "b": (3,)})
    assert report.by_layer == {"hidden": 2 * 3 * 5}
    with pytest.raises(ValueError, match="`input_shape` must be given for a subclas"):
        kf.count_macs(model)


def test_sizes_that_are_not_known():
    inputs = keras.Input((None, None, 3), name="image")
    model = keras.Model(inputs, layers.Conv2D(2, 3, padding="same")(inputs))
    assert kf.count_macs(model, (8, 6, 3)).total == 8 * 6 * 2 * (3 * 3 * 3)
    with pytest.raises(ValueError, match="`input_shape` must be given where sizes"):
        kf.count_macs(model)


def test_shapes_of_several_inputs():
    given = {"b": keras.Input((None, 4), name="b"), "a": keras.Input((3,), name="a")}
    outputs = [layers.Dense(2, name="on_b")(given["b"])]
    outputs.append(layers.Dense(5, name="on_a")(given["a"]))
    model = keras.Model(given, outputs)
    report = kf.count_macs(model, {"a": (3,), "b": (6, 4)})
    assert report.by_layer == {"on_b": 6 * 4 * 2, "on_a": 3 * 5}


@pytest.mark.parametrize(
    ("shape", "error", "text"),
    [
        ((8, 8, 4), ValueError, "must be of the form"),
        ((8, 8), ValueError, "must be of the form"),
        ((8, 0, 3), ValueError, "positive integers"),
        ([(8, 8, 3), (8, 8, 3)], ValueError, "one shape for each of the 1 inputs"),
        ("8x8", TypeError, "positive integers"),
    ],
)
def test_wrong_shapes(shape, error, text):
    inputs = keras.Input((8, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3)(inputs))
    with pytest.raises(error, match=text):
        kf.count_macs(model, shape)


def test_the_model_is_as_it_was():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    call, before = keras.Operation.__call__, model.get_config()
    kf.count_macs(model)
    assert keras.Operation.__call__ is call
    assert model.get_config() == before
    with pytest.raises(ValueError, match="deliberate"):
        kf.count_macs(Broken())
    assert keras.Operation.__call__ is call


class Broken(keras.Sequential):
    def __init__(self):
        super().__init__([keras.Input((4,)), layers.Dense(2)])

    def call(self, inputs, training=None, mask=None):
        raise ValueError("deliberate")


def test_quantized_models_count_as_what_they_wrap():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    x = layers.SeparableConv2D(4, 3)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Flatten()(layers.Add()([x, x]))
    model = keras.Model(inputs, layers.Dense(3)(x))
    quantized = kf.count_macs(kf.quantize_model(model, "int8"))
    assert quantized.complete
    assert quantized.total == kf.count_macs(model).total


def test_the_report_shows_itself():
    report = kf.MacsReport((kf.LayerMacs("<b>", "Dense", 1, 8, (1, 4), (1, 2)),))
    assert json.loads(json.dumps(report.to_dict()))["total"] == 8
    assert repr(report) == "<MacsReport: 8 MACs (16 FLOPs) an example>"
    assert "<b>&lt;b&gt;" not in report._repr_html_()
    assert "&lt;b&gt;" in report._repr_html_()
    assert "100.0%" in str(report)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("MobileNetV2", 300.8), ("MobileNetV3Small", 56.5), ("EfficientNetB0", 385.8)],
)
def test_known_nets(name, millions):
    model = getattr(keras.applications, name)(weights=None)
    found = kf.count_macs(model, (224, 224, 3))
    assert found.complete
    assert found.total / 1e6 == pytest.approx(millions, rel=0.01)
