"""Every block in a LiteRT file: one file for all of them, in float and in int8."""

import keras
import numpy as np
import pytest

from keras_fitkit.quantization import export_litert, run_litert
from tests.blocks.cases import CASES, built
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
