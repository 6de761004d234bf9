"""Every block in a LiteRT file: one file for all of them, in float and in int8."""

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.quantization import export_litert, run_litert
from tests.blocks.cases import CASES, built, randomized
from tests.blocks.models import images, outputs

pytestmark = [pytest.mark.tensorflow_only, pytest.mark.slow]

# Layer normalization is computed in float; a row of features has no image.
ROWS = {name: case for name, case in CASES.items() if case.image}
DATA = images(16, 9, 6, 8)


def model_of_all(skip=""):
    inputs = keras.Input((9, 6, 8))
    ends = []
    for name, case in ROWS.items():
        if name != skip:
            pooled = keras.layers.GlobalAveragePooling2D()(built(case)(inputs))
            ends.append(pooled)
    return keras.Model(inputs, keras.layers.Concatenate()(ends))


def test_float32(tmp_path):
    model = model_of_all()
    export_litert(model, tmp_path / "m.tflite", mode="float32")
    expected = outputs(model, DATA[:2])
    found = run_litert(tmp_path / "m.tflite", DATA[:2])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def model_of_the_rest():
    """What is no block: grouped layers, shuffles, and the blocks for rows."""
    b = kf.blocks
    image, row = keras.Input((9, 6, 8), name="image"), keras.Input((6,), name="row")
    x = b.GroupedConv2D(12, 3, groups=4, strides=2, padding="same")(image)
    x = b.ChannelShuffle(3)(x)
    x = b.StochasticDepth(0.2)(b.ChannelSlice(2, 10)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    y = b.LowRankDense(8, rank=3, activation="relu")(b.GroupedDense(8, 2)(row))
    return randomized(keras.Model({"image": image, "row": row}, [x, y]))


@pytest.mark.filterwarnings("ignore:.*may be slow in int8:UserWarning")
@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_the_rest(tmp_path, mode):
    model, rows = model_of_the_rest(), images(16, 6)
    data = {"image": DATA, "row": rows}
    given = {"calibration_data": data} if mode == "int8" else {}
    report = export_litert(model, tmp_path / "m.tflite", mode=mode, **given)
    assert mode == "float32" or report.float_ops == ()
    expected = model.predict(data, verbose=0)
    found = run_litert(tmp_path / "m.tflite", data)
    for one, other in zip(found, expected, strict=True):
        if mode == "float32":
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        else:
            assert np.abs(one - other).mean() < 0.02 * np.ptp(other)


def test_polynomial_features_in_float(tmp_path):
    """Products of columns by their places: nothing of it has an int8 form."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, kf.blocks.PolynomialFeatures(2)(inputs))
    export_litert(model, tmp_path / "m.tflite", mode="float32")
    rows = images(4, 3)
    found = run_litert(tmp_path / "m.tflite", rows)
    np.testing.assert_allclose(found, outputs(model, rows), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*may be slow in int8:UserWarning")
def test_int8(tmp_path):
    model = model_of_all(skip="SharedStack-layer")
    report = export_litert(
        model, tmp_path / "m.tflite", mode="int8", calibration_data=DATA
    )
    assert report.float_ops == ()
    expected = outputs(model, DATA)
    found = run_litert(tmp_path / "m.tflite", DATA)
    # All blocks share the grid of the concatenation: a step of its whole range.
    assert np.abs(found - expected).mean() < 0.02 * np.ptp(expected)
