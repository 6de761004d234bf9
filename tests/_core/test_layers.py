import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_fitkit._core import _private
from keras_fitkit._core.layers import (
    check_keras_model,
    is_legacy_keras,
    leaf_layers,
    refuse_legacy_keras,
)


def paths(model):
    return [path for path, _ in leaf_layers(model)]


def assert_no_weight_is_lost(model):
    found = [
        v for _, layer in leaf_layers(model) for v in _private.own_variables(layer)
    ]
    assert len({id(v) for v in found}) == len(found)
    assert {id(v) for v in found} == {id(v) for v in model.weights}


class Block(layers.Layer):
    """A composite layer: two children in a list and a dict, one weight of its own."""

    def __init__(self, own=False, **kwargs):
        super().__init__(**kwargs)
        self.own = own
        self.branch = [layers.Dense(4, name="in"), layers.Dense(4, name="out")]
        self.extra = {"norm": layers.LayerNormalization(name="norm")}

    def build(self, shape):
        for layer in self.branch:
            layer.build(shape)
        self.extra["norm"].build(shape)
        if self.own:
            self.scale = self.add_weight(shape=(4,), name="scale")

    def call(self, x):
        for layer in self.branch:
            x = layer(x)
        x = self.extra["norm"](x)
        return x * self.scale if self.own else x


def test_nested_models():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="dense"), layers.ReLU(name="relu")],
        name="block_1",
    )
    inputs = keras.Input((4,))
    encoder = keras.Model(inputs, inner(inputs), name="encoder")
    model = keras.Sequential([encoder, layers.Dense(1, name="head")])
    assert paths(model) == ["encoder/block_1/dense", "encoder/block_1/relu", "head"]
    assert_no_weight_is_lost(model)


def test_wrappers_attention_and_cells():
    x = keras.Input((6, 4), name="x")
    model = keras.Model(
        x,
        [
            layers.Bidirectional(layers.LSTM(3, name="lstm"), name="both")(x),
            layers.TimeDistributed(layers.Dense(2, name="dense"), name="each")(x),
            layers.MultiHeadAttention(2, 3, name="attention")(x, x),
            layers.SeparableConv1D(3, 2, name="separable")(x),
            layers.RNN([layers.GRUCell(2, name="g")], name="rnn")(x),
        ],
    )
    found = dict(leaf_layers(model))
    # Helpers without weights (softmax, dropout) differ from Keras to Keras.
    assert [path for path, layer in found.items() if layer.weights] == [
        "both/forward_lstm/lstm_cell",
        "both/backward_lstm/lstm_cell",
        "each/dense",
        "attention/query",
        "attention/key",
        "attention/value",
        "attention/attention_output",
        "separable",
        "rnn/stacked_rnn_cells/g",
    ]
    assert isinstance(found["both/backward_lstm/lstm_cell"], layers.LSTMCell)
    assert isinstance(found["attention/value"], layers.EinsumDense)
    assert_no_weight_is_lost(model)


def test_composite_layer_with_weights_of_its_own_comes_before_its_children():
    inputs = keras.Input((4,))
    hidden = Block(name="plain")(inputs)
    model = keras.Model(inputs, Block(own=True, name="scaled")(hidden))
    assert paths(model) == [
        "plain/in",
        "plain/out",
        "plain/norm",
        "scaled",
        "scaled/in",
        "scaled/out",
        "scaled/norm",
    ]
    assert_no_weight_is_lost(model)


def test_spectral_normalization_owns_vectors_and_wraps_a_kernel():
    wrapped = layers.SpectralNormalization(layers.Dense(2, name="dense"), name="sn")
    model = keras.Sequential([keras.Input((4,)), wrapped])
    assert paths(model) == ["sn", "sn/dense"]
    assert_no_weight_is_lost(model)


def test_shared_layer_comes_once_at_its_first_place():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared], name="inner")
    model = keras.Model(inputs, inner(shared(shared(inputs))))
    assert paths(model) == ["shared"]


def test_subclassed_model_in_order_of_definition():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = layers.Dense(1, name="last")
            self.blocks = [layers.Dense(4, name="same"), layers.Dense(4, name="same")]
            self.again = self.last
            self.offset = self.add_weight(shape=(1,), name="offset")

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return self.last(x) + self.offset

    model = Net()
    model.compile("adam", "mse", metrics=["mae"])
    assert paths(model) == ["", "last", "same", "same_1"]
    model.fit(np.zeros((2, 3)), np.zeros((2, 1)), verbose=0)
    assert paths(model) == ["", "last", "same", "same_1"]
    # `weights` of a compiled and trained model holds neither optimizer nor metrics.
    assert_no_weight_is_lost(model)


def test_single_layer_is_its_own_leaf():
    layer = layers.Dense(2)
    assert paths(layer) == []  # no weights yet
    layer.build((None, 3))
    assert list(leaf_layers(layer)) == [("", layer)]


def test_cycles_end():
    first, second = Block(name="first"), Block(name="second")
    first.other, second.other = second, first
    assert paths(first) == [
        "in",
        "out",
        "norm",
        "second/in",
        "second/out",
        "second/norm",
    ]


def test_check_returns_the_model():
    model = keras.Sequential([layers.Dense(1)])
    assert check_keras_model("model", model) is model
    model.build((None, 2))
    assert check_keras_model("model", model, built=True) is model


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (3, r"^`teacher` must be a keras\.Model\. Received: teacher=3\.$"),
        (None, "`teacher` must be a keras.Model"),
        (keras.Model, "Pass a model, not its class"),
        (keras.layers.ReLU(), r"It is a layer\. .*keras\.Sequential\(\[layer\]\)"),
    ],
)
def test_what_is_no_model(value, match):
    with pytest.raises(TypeError, match=match):
        check_keras_model("teacher", value)


def test_unbuilt_model():
    with pytest.raises(ValueError, match=r"`model` must be a built model.*`Input`"):
        check_keras_model("model", keras.Sequential([layers.Dense(1)]), built=True)


def fake_legacy_class(name, *bases):
    return type(name, bases, {"__module__": "tf_keras.src.engine.training"})


def test_legacy_model_names_the_way_out():
    # A subclass in the user's own module: only its base tells.
    value = type("Mine", (fake_legacy_class("Model"),), {})()
    assert is_legacy_keras(value)
    with pytest.raises(
        TypeError,
        match=r"`model` must be a Keras 3 model\. Received: .*Mine.*tf_keras.*"
        r"kf\.from_tfmot\(model\)",
    ):
        check_keras_model("model", value)


def test_only_a_legacy_model_is_refused():
    for fine in (None, object(), keras.Sequential()):
        refuse_legacy_keras("model", fine)
    value = fake_legacy_class("Model")()
    with pytest.raises(TypeError, match=r"`model` must be a Keras 3 model.*from_tfmot"):
        refuse_legacy_keras("model", value)


def test_name_that_only_begins_alike_is_not_legacy():
    value = type("Mine", (), {"__module__": "tf_keras_extras.models"})()
    assert not is_legacy_keras(value)


@pytest.mark.tensorflow_only
@pytest.mark.slow
def test_real_legacy_model_in_a_process_of_its_own():
    # tf_keras sets up a second Keras in the process it is imported in.
    code = """
import tf_keras
from keras_fitkit._core.layers import check_keras_model
model = tf_keras.Sequential([tf_keras.layers.Dense(1)])
try:
    check_keras_model("model", model)
except TypeError as error:
    assert "kf.from_tfmot" in str(error), error
else:
    raise SystemExit("no error")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
