"""Which weights are no longer numbers."""

import keras
import numpy as np
import pytest

from keras_fitkit._core.finite import non_finite_weights


def build():
    layers = [keras.layers.Dense(2), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((3,)), *layers])


def poison(variable, value):
    array = np.ones(variable.shape)
    array.flat[0] = value
    variable.assign(array)


def test_a_sound_model_has_none():
    assert non_finite_weights(build()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_exactly_the_bad_weight_is_named(value):
    model = build()
    poison(model.layers[0].bias, value)
    assert non_finite_weights(model) == [model.layers[0].bias.path]


def test_infinity_in_a_weight_that_is_not_trained_is_no_fault_but_nan_is():
    model = build()
    moving = model.layers[1].moving_mean
    poison(moving, np.inf)
    assert non_finite_weights(model) == []
    poison(moving, np.nan)
    assert non_finite_weights(model) == [moving.path]


def test_half_precision_does_not_overflow_in_the_check():
    half = keras.layers.Dense(2, dtype="float16")
    model = keras.Sequential([keras.Input((3,)), half])
    model.layers[0].kernel.assign(np.full((3, 2), 60000.0))
    assert non_finite_weights(model) == []


def test_an_object_without_weights_has_none():
    assert non_finite_weights(object()) == []
