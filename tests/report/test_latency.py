"""measure_latency: what is measured, and what the report makes of it."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from keras_fitkit.report import Latency, LatencyReport

X = np.random.default_rng(0).normal(size=(1, 32)).astype("float32")


def net(units=16):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((32,)), layers.Dense(units), layers.Dense(2)])


def latency(model, seconds, cpu=None):
    cpu = seconds if cpu is None else cpu
    return Latency(model, "Keras", tuple(seconds), tuple(cpu), None)


def test_figures_of_one_row():
    one = latency("model", [0.001 * n for n in range(1, 12)])
    assert one.median == pytest.approx(0.006)
    assert one.p90 == pytest.approx(0.010)
    assert one.spread == pytest.approx((0.0085 - 0.0035) / 0.006, abs=0.2)
    empty = Latency("model", "LiteRT", (), (), 1, "no export")
    assert (empty.median, empty.p90, empty.spread) == (None, None, None)
    assert "not measured: no export" in str(empty)


def test_the_ratio_is_within_the_rounds():
    slow = [0.004 * (1 + n % 3) for n in range(15)]  # both meet the same disturbance
    rows = (latency("model", [s / 2 for s in slow]), latency("against", slow))
    report = LatencyReport(rows, 1, "x86_64", 15)
    assert report.ratio("Keras") == pytest.approx(0.5)
    assert report.interval("Keras") == pytest.approx((0.5, 0.5))
    assert report.unsteady == ("Keras model", "Keras against")
    assert "0.50x, 0.50-0.50" in report.summary
    assert "take the CPU times" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["batch"] == 1
    assert repr(report).startswith("<LatencyReport: batch 1: Keras")
    assert "<table>" in report._repr_html_()
    assert report.ratio("LiteRT") is None


def test_models_are_measured_side_by_side():
    report = kf.measure_latency(net(), X, against=net(64), runs=6)
    for name in ("model", "against"):
        row = report.get(name, "Keras")
        assert len(row.seconds) == len(row.cpu_seconds) == 6
        assert min(row.seconds) > 0
    assert report.ratio("Keras") > 0
    assert report.runs == 6


def test_litert_on_one_thread():
    report = kf.measure_latency(net(), X, runs=5, runtimes="LiteRT")
    (row,) = report.rows
    assert row.threads == 1
    if keras.backend.backend() == "tensorflow":
        assert len(row.seconds) == 5
    else:
        assert row.reason.startswith("no export to LiteRT")


@pytest.mark.tensorflow_only
def test_files_are_measured_too(tmp_path):
    path = tmp_path / "net.tflite"
    kf.export_litert(net(), path, mode="float32")
    batch = np.repeat(X, 3, axis=0)
    report = kf.measure_latency(path, batch, against=net(), runs=5)
    assert report.get("model", "Keras").reason == "a LiteRT file"
    assert len(report.get("model", "LiteRT").seconds) == 5
    assert report.batch == 3


def test_a_model_that_cannot_be_exported_says_why():
    inputs = keras.Input((32,))
    outputs = layers.Lambda(lambda x: x, name="f")(inputs)
    report = kf.measure_latency(keras.Model(inputs, outputs), X, runs=5)
    assert report.get("model", "Keras").median > 0
    row = report.get("model", "LiteRT")
    assert row.seconds or row.reason


def test_inputs_of_another_shape():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"`x` must be inputs of the shapes .*8"):
        kf.measure_latency(model, np.ones((1, 3), "float32"), runs=5)
