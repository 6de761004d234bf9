"""What a copy of a model keeps, and what must never be rounded."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.distillation import LogitsDistillation
from keras_fitkit.quantization import (
    FakeQuantize,
    QuantizeConfig,
    assign_bits,
    quantize_model,
    strip_quantization,
)
from tests.quantization.models import FLAT, Y, array, mlp

layers = keras.layers
RNG = np.random.default_rng(9)


def test_numbers_of_rows_are_not_rounded():
    # 1000 words and 256 levels: a rounded index would be another word.
    words = keras.Input((5,), dtype="int32")
    shifted = words + 1
    x = layers.Embedding(1001, 4, mask_zero=True, name="table")(shifted)
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    model = keras.Model(words, layers.Dense(3, name="out")(x))
    given = keras.ops.convert_to_tensor(RNG.integers(0, 1000, (64, 5)), "int32")
    qat = quantize_model(model, QuantizeConfig(weight_bits=16, activation_bits=16))
    for _ in range(2):
        qat(given, training=True)
    np.testing.assert_allclose(array(qat(given)), array(model(given)), atol=2e-3)
    quantizers = [one for one in qat.layers if isinstance(one, FakeQuantize)]
    assert not quantizers
    layer = FakeQuantize()
    found = array(layer(keras.ops.arange(1000), training=True))
    np.testing.assert_array_equal(found, np.arange(1000))


def partly_frozen():
    inner = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(12, name="a"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(12, "relu", name="b"),
        ],
        name="inner",
    )
    inner.get_layer("a").trainable = False
    inner.get_layer("norm").trainable = False
    inputs = keras.Input((12,))
    x = layers.Dense(12, "relu", name="c")(inner(inputs))
    model = keras.Model(inputs, layers.Dense(5, name="d")(x))
    model.get_layer("c").trainable = False
    return model


@pytest.mark.parametrize("config", ["int8", "int4"])
def test_frozen_layers_stay_frozen(config):
    model = partly_frozen()
    qat = quantize_model(model, config)
    inner = qat.get_layer("inner")
    assert not inner.get_layer("quant_a").trainable_variables
    assert not qat.get_layer("quant_c").trainable_variables
    assert inner.get_layer("quant_b").trainable_variables
    norms = [one for one in inner.layers if "norm" in one.name]
    assert norms
    assert not any(one.trainable for one in norms)
    stripped = strip_quantization(qat)
    names = {v.path.split("/")[-2] for v in stripped.trainable_variables}
    assert names == {"b", "d"}
    model.trainable = False
    assert not quantize_model(model, config).trainable_variables


def test_an_adapted_layer_is_still_adapted():
    adapted = layers.Normalization(name="prepare")
    adapted.adapt(5 + 3 * FLAT)
    model = keras.Sequential([keras.Input((12,)), adapted, layers.Dense(3)])
    x = keras.ops.convert_to_tensor(5 + 3 * FLAT)
    qat = quantize_model(model, QuantizeConfig(weight_bits=16, activation_bits=16))
    qat(x, training=True)
    np.testing.assert_allclose(array(qat(x)), array(model(x)), atol=2e-3)
    stripped = strip_quantization(qat)
    np.testing.assert_allclose(array(stripped(x)), array(model(x)), atol=2e-3)


def test_a_float_layer_that_is_called_twice_has_one_quantizer():
    inputs, other = keras.Input((12,)), keras.Input((12,))
    norm = layers.LayerNormalization(name="norm")
    x = layers.Add()([norm(inputs), norm(other)])
    model = keras.Model([inputs, other], layers.Dense(3)(x))
    qat = quantize_model(model, "int8")
    assert sum(one.name == "quant_norm" for one in qat.layers) == 1


def test_several_outputs_share_a_range_that_covers_all():
    inputs = keras.Input((4, 3))
    outputs = layers.LSTM(6, return_state=True, name="lstm")(inputs)
    model = keras.Model(inputs, layers.Concatenate(name="joined")(outputs))
    x = keras.ops.convert_to_tensor(3 * RNG.normal(size=(32, 4, 3)), "float32")
    qat = quantize_model(model, QuantizeConfig(16, 16))
    for _ in range(3):
        qat(x, training=True)
    np.testing.assert_allclose(array(qat(x)), array(model(x)), atol=2e-3)


def test_what_is_excluded_from_an_assignment_stays_float():
    model = mlp()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    made = assign_bits(
        model, FLAT, Y, (8, 4), size_budget=0.9, exclude="logits", verbose=0
    )
    assert made.floats == ("logits",)
    qat = quantize_model(model, made)
    assert isinstance(qat.get_layer("logits"), layers.Dense)
    qat = quantize_model(model, made, overrides={"hidden": QuantizeConfig(6)})
    assert qat.get_layer("quant_hidden").config.weight_bits == 6


def test_a_model_and_its_copy_are_used_in_one_step():
    """On JAX a step that is given one buffer twice is refused."""
    model = mlp()
    for copy in (quantize_model(model), strip_quantization(quantize_model(model))):
        distiller = kf.Distiller(model, copy, LogitsDistillation(1.0))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile("sgd", loss)
        distiller.fit(FLAT, Y, verbose=0)
        assert np.isfinite(array(model(FLAT))).all()


def test_learned_steps_are_never_pruned():
    qat = quantize_model(mlp(), "int4")
    schedule = kf.PruneSchedule(kf.ConstantSparsity(0.5), layers=["quant_hidden*"])
    qat.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    qat.fit(FLAT, Y, verbose=0, callbacks=[schedule])
    assert list(schedule.masks_) == ["quant_hidden/hidden/kernel"]
