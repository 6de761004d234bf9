"""widen: more channels, the same function."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from tests.pruning.structural.masking import difference
from tests.pruning.structural.models import MODELS, built


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        *((one, 1.5) for one in MODELS if one != "one_neuron"),
        *((one, 3.0) for one in ("convolutions", "recurrent", "einsum")),
    ],
)
def test_the_function_stays(name, factor):
    model, x = built(name)
    bigger = kf.widen(model, factor)
    assert bigger.count_params() > model.count_params()
    assert difference(model, bigger, x) < 1e-4


def dense():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, "relu", name="hidden"),
            layers.Dense(6, "relu", name="second"),
            layers.Dense(2, name="head"),
        ]
    )


def values(model, layer, name="kernel"):
    return keras.ops.convert_to_numpy(getattr(model.get_layer(layer), name).value)


def test_each_copy_is_next_to_its_original_and_shares_its_weights():
    model = dense()
    bigger = kf.widen(model, 2, layers="hidden")
    np.testing.assert_array_equal(
        values(bigger, "hidden"), np.repeat(values(model, "hidden"), 2, axis=1)
    )
    np.testing.assert_allclose(
        values(bigger, "second"), np.repeat(values(model, "second"), 2, axis=0) / 2
    )
    assert bigger.get_layer("second").units == 6


def test_sizes_are_rounded_up():
    bigger = kf.widen(dense(), 1.2)
    assert bigger.get_layer("hidden").units == 10  # 9.6
    assert bigger.get_layer("second").units == 8  # 7.2
    assert bigger.get_layer("head").units == 2


def test_noise_tells_copies_apart_and_nothing_else():
    model = dense()
    bigger = kf.widen(model, 2, layers="hidden", noise=0.1, seed=1)
    plain, wide = values(model, "hidden"), values(bigger, "hidden")
    np.testing.assert_array_equal(wide[:, ::2], plain)
    moved = wide[:, 1::2] - plain
    assert 0.03 * plain.std() < moved.std() < 0.3 * plain.std()
    again = kf.widen(model, 2, layers="hidden", noise=0.1, seed=1)
    np.testing.assert_array_equal(values(again, "hidden"), wide)


def test_what_was_widened_shrinks_back():
    model = dense()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    bigger = kf.widen(model, 2)
    bigger.compile("sgd", "mse")
    bigger.fit(x, np.zeros((5, 2)), verbose=0)
    assert kf.shrink(bigger, layers={"hidden": 0.5}).get_layer("hidden").units == 8


def test_a_model_without_anything_to_add():
    with pytest.raises(ValueError, match="channels that can be added to"):
        kf.widen(keras.Sequential([keras.Input((3,)), layers.Dense(1)]), 2)
