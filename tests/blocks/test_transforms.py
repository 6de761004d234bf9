"""What holds for fuse, expand, factorize and replace_grouped_conv alike."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.blocks.cases import array, randomized
from tests.blocks.models import close, images, nested, nested_data, outputs

b = kf.blocks

TRANSFORMS = {
    "fuse": kf.fuse,
    "expand": kf.expand,
    "replace_grouped_conv": kf.replace_grouped_conv,
    "factorize": lambda model, **own: kf.factorize(
        model, explained_variance=1.0, **own
    ),
}
each = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())


@each
def test_predictions_and_structures_stay(transform):
    model, data = nested(), nested_data()
    expected = outputs(model, data)
    new = transform(model)
    close(outputs(new, data), expected)
    assert new is not model
    assert new.name == "nested"
    assert set(new.input) == {"left", "right"}
    assert not new.compiled
    assert len([one for one in new.layers if one.name == "inner"]) == 1


@each
def test_the_model_given_stays(transform):
    model, data = nested(), nested_data()
    expected, weights = outputs(model, data), model.get_weights()
    names = [layer.name for layer in model.layers]
    new = transform(model)
    new.set_weights([0 * one for one in new.get_weights()])
    assert [layer.name for layer in model.layers] == names
    for one, value in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, value)
    close(outputs(model, data), expected, 0)


@each
def test_trainable_flags_stay(transform):
    model = nested()
    model.get_layer("inner").get_layer("inner_conv").trainable = False
    new = transform(model)
    assert new.trainable
    assert not new.get_layer("frozen").trainable
    assert new.get_layer("head").trainable
    assert not new.get_layer("inner").get_layer("inner_conv").trainable
    model.trainable = False
    assert transform(model).trainable_weights == []


@each
def test_a_frozen_composite_gives_frozen_layers(transform):
    inputs = keras.Input((8, 8, 4))
    block = b.RepConv(4, trainable=False)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(block(inputs)))
    assert len(transform(model).trainable_weights) == 2


@each
def test_mixed_precision_stays(transform):
    inputs = keras.Input((9, 8, 4))
    x = b.RepConv(8, dtype="mixed_bfloat16")(inputs)
    x = keras.layers.Conv2D(8, 3, groups=2, dtype="mixed_bfloat16", name="last")(x)
    new = transform(keras.Model(inputs, x))
    assert new.get_layer("last").compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in new.layers[1:]} == {"bfloat16"}


@each
def test_a_sequential_model(transform, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((9, 8, 4)),
            b.ConvNormAct(8, groups=2),
            keras.layers.Dropout(0.5),
            b.MobileOne(8, branches=2, strides=2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    randomized(model)
    new = transform(model)
    close(outputs(new, images()), outputs(model, images()))
    new.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    close(outputs(again, images()), outputs(new, images()), 0)


@each
def test_a_report_comes_with_it(transform):
    new, report = transform(nested(), return_report=True)
    assert isinstance(new, keras.Model)
    assert report.render().startswith(report.summary)
    assert report.summary in repr(report)
    assert str(report) == report.render()
    assert report._repr_html_().startswith("<b>")
    assert len(report.to_dict()["layers"]) == len(report.changed) + len(report.kept)


@each
def test_a_subclassed_model_is_refused(transform):
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    model = Own()
    model(np.ones((1, 2)))
    with pytest.raises(ValueError, match="a functional or Sequential model"):
        transform(model)


@each
def test_a_layer_without_config_is_named(transform):
    class Own(keras.layers.Layer):
        def __init__(self, factor):
            super().__init__(name="mine")
            self.factor = len(factor)

        def call(self, inputs):
            return inputs * self.factor

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(Own({1, 2})(inputs)))
    with pytest.raises(ValueError, match=r"layers that can be copied.*'mine'"):
        transform(model)


def test_seed_states_stay():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dropout(0.5, seed=3)])
    model(np.ones((1, 16)), training=True)
    new = kf.expand(model)
    first, other = (array(one(np.ones((1, 16)), training=True)) for one in (model, new))
    np.testing.assert_array_equal(first, other)


def test_layers_with_a_state_or_a_function_of_their_own():
    """An adapted Normalization computes with more than its variables."""
    norm = keras.layers.Normalization()
    norm.adapt(np.random.default_rng(0).normal(3, 2, size=(50, 4)))
    model = keras.Sequential(
        [keras.Input((4,)), norm, keras.layers.Lambda(lambda x: 2 * x, (4,))]
    )
    data = images(3, 4)
    close(outputs(kf.expand(model), data), outputs(model, data), 0)


def test_attention_and_recurrent_layers():
    left, right = keras.Input((5, 8)), keras.Input((None, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(left, right)
    x = keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True))(x)
    model = randomized(keras.Model([left, right], keras.layers.LSTM(2)(x)))
    data = [images(2, 5, 8), images(2, 7, 8)]
    close(outputs(kf.expand(model), data), outputs(model, data), 1e-6)
