"""Dropout and noise whose strength is a variable."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf

layers = keras.layers
Dropout = kf.regularizers.AdjustableDropout


def array(value):
    return keras.ops.convert_to_numpy(value)


def test_the_expectation_stays():
    layer = Dropout(0.25, seed=3)
    found = array(layer(np.ones((400, 50), "float32"), training=True))
    assert set(np.unique(found).round(5)) == {0.0, np.float32(1 / 0.75).round(5)}
    # 20,000 draws: four standard errors of a share of .25 are .012
    assert abs((found == 0).mean() - 0.25) < 0.012


def test_inference_and_rate_zero_pass_exactly():
    data = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    np.testing.assert_array_equal(array(Dropout(0.5)(data, training=False)), data)
    np.testing.assert_array_equal(array(Dropout(0.0)(data, training=True)), data)


@pytest.mark.parametrize(
    ("parts", "shape", "alike"),
    [
        ("channels", (6, 3, 3, 8), (1, 2)),
        ("channels", (6, 5, 8), (1,)),
        ("examples", (16, 3, 3, 2), (1, 2, 3)),
    ],
)
def test_whole_parts_go_together(parts, shape, alike):
    layer = Dropout(0.5, parts=parts, data_format="channels_last", seed=0)
    found = array(layer(np.ones(shape, "float32"), training=True))
    assert set(np.unique(found)) == {0.0, 2.0}
    np.testing.assert_array_equal(found.max(alike), found.min(alike))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(dtype):
    layer = Dropout(0.5, dtype=dtype, seed=0)
    found = layer(keras.ops.ones((8, 8)), training=True)
    assert keras.backend.standardize_dtype(found.dtype) == dtype.removeprefix("mixed_")
    assert set(np.unique(array(keras.ops.cast(found, "float32")))) == {0.0, 2.0}
    assert layer.strength.dtype == "float32"


def test_a_schedule_moves_it_in_a_compiled_fit(tmp_path):
    """The rate is read by the compiled step: with almost all dropped, all is zero."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            Dropout(0.0, name="one"),
            layers.Dense(4, kernel_initializer="ones", name="dense"),
            Dropout(0.0, seed=1, name="two"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, y = np.ones((4, 4), "float32"), np.zeros((4, 4), "float32")
    schedule = kf.HyperparameterSchedule(
        "*two/dropout_rate", 0.0, 0.999999, begin_step=2, end_step=3, frequency=1
    )
    history = model.fit(
        x, y, batch_size=4, epochs=4, verbose=0, shuffle=False, callbacks=[schedule]
    )
    found = history.history["loss"]
    assert found[:2] == [16.0, 16.0]
    assert found[2:] == [0.0, 0.0]
    assert history.history["dropout_rate"][-1] == pytest.approx(0.999999)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.get_layer("two").current == pytest.approx(0.999999)
    assert loaded.get_layer("one").current == 0.0


def test_a_pattern_moves_all_and_a_name_of_several_is_refused():
    model = kf.regularize(
        keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(4, "relu", name="a"),
                layers.Dense(4, "relu", name="b"),
                layers.Dense(1, name="head"),
            ]
        ),
        dropout=0.1,
    )
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    data = np.ones((2, 4)), np.ones((2, 1))
    schedule = kf.HyperparameterSchedule("*/dropout_rate", 0.2, 0.4, frequency=1)
    model.fit(*data, epochs=2, verbose=0, callbacks=[schedule])
    for name in ("a", "b"):
        assert model.get_layer(f"{name}_dropout").current == pytest.approx(0.4)
    with pytest.raises(ValueError, match=r"for all: '\*/dropout_rate'"):
        model.fit(
            *data,
            epochs=2,
            verbose=0,
            callbacks=[kf.HyperparameterSchedule("dropout_rate", 0.2, 0.4)],
        )
    with pytest.raises(ValueError, match=r"`end` must be a number in \[0, 1"):
        kf.HyperparameterSchedule("*/dropout_rate", 0.0, 1.5)


def test_noise():
    layer = kf.regularizers.AdjustableNoise(0.5, seed=0)
    data = np.zeros((400, 50), "float32")
    found = array(layer(data, training=True))
    # the standard error of a standard deviation of 20,000 draws is .5 / sqrt(40,000)
    assert abs(found.std() - 0.5) < 4 * 0.0025
    np.testing.assert_array_equal(array(layer(data, training=False)), data)


@pytest.mark.parametrize("parts", ["elements", "channels", "examples"])
def test_expand_gives_keras_own(parts):
    layer = Dropout(0.5, parts=parts, data_format="channels_last", seed=0, name="d")
    layer.build((None, 4, 4, 3))
    layer.strength.assign(0.25)
    plain = layer.expand()
    assert type(plain) is layers.Dropout
    assert (plain.name, plain.rate) == ("d", 0.25)
    shape = {"elements": None, "channels": (None, 1, 1, None)}
    shape["examples"] = (None, 1, 1, 1)
    assert plain.noise_shape == shape[parts]
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    assert type(kf.expand(model).layers[-1]) is layers.Dropout


def test_configuration():
    for layer in (
        Dropout(0.1, parts="channels", data_format="channels_first", seed=4, name="d"),
        kf.regularizers.AdjustableNoise(0.1, seed=4, name="n"),
    ):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        assert layer.count_params() == 1 if layer.built else True
