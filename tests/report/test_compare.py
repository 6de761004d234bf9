"""compare: several models, the Pareto front and its picture."""

import json
import re

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_fitkit as kf
from keras_fitkit.report import measuring
from keras_fitkit.report.comparison import pareto_front
from tests.report import nets

TRUTH = np.repeat(np.arange(4), 15)
X = nets.rows_of(TRUTH)


@pytest.fixture(scope="module")
def found():
    worse = np.diag([1, 1, 1, -1.0])
    models = {
        "dense": nets.given(np.eye(4) + 0.01),
        "sparse": nets.given(np.eye(4)),
        "worse": nets.given(worse, compiled=False),
    }
    return kf.compare(models, (X, TRUTH))


def test_each_against_the_first(found):
    assert [one.name for one in found.models] == ["dense", "sparse", "worse"]
    assert [one.num_nonzero for one in found.models] == [16, 4, 4]
    assert [one.metric("accuracy").value for one in found.models] == [1.0, 1.0, 0.75]
    assert set(found.tests) == set(found.forgotten) == {"sparse", "worse"}
    assert found.forgotten["worse"].lost == tuple(range(45, 60))
    assert found.forgotten["sparse"].flipped == 0
    assert found.metric == "accuracy"


def test_calls_are_timed_in_turns(found):
    rows = {(row.model, row.runtime) for row in found.latency.rows}
    runtimes = ("Keras", "LiteRT")
    assert rows == {(n, r) for n in ("dense", "sparse", "worse") for r in runtimes}
    assert all(one.keras_median > 0 for one in found.models)


def test_front(found):
    assert found.pareto("num_nonzero") == ["sparse"]
    assert found.pareto("num_nonzero", "loss")[0] == "sparse"
    assert found.get("worse").num_params == 16
    with pytest.raises(KeyError):
        found.get("none")


def test_front_by_hand():
    points = [("a", 3, 0.9), ("b", 1, 0.7), ("c", 2, 0.6), ("d", 2, 0.8), ("e", 4, 0.9)]
    assert pareto_front(points) == ["b", "d", "a"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_nothing_beats_the_front_and_the_front_beats_the_rest(pairs):
    points = [(str(i), *pair) for i, pair in enumerate(pairs)]
    front = set(pareto_front(points))

    def beaten(one):
        return any(
            other[1] <= one[1] and other[2] >= one[2] and other[1:] != one[1:]
            for other in points
        )

    assert not any(beaten(one) for one in points if one[0] in front)
    kept = {one[1:] for one in points if one[0] in front}
    assert all(beaten(one) or one[1:] in kept for one in points)


def test_texts(found):
    table = found.to_markdown().splitlines()
    assert table[0] == "|  | dense | sparse | worse |"
    assert "| not zero | 16 | 4 | 4 |" in table
    assert "| accuracy | 100.0 % | 100.0 % | 75.0 % |" in table
    assert "|   95 % interval | 94.0 to 100.0 | 94.0 to 100.0 | 62.8 to 84.2 |" in table
    assert "| flipped samples | - | 0 | 15 |" in table
    text = found.render()
    assert "worse: accuracy: -25.0 points; 15 rows lost, 0 gained" in text
    assert "sparse: accuracy: +0.0 points; 0 rows lost, 0 gained: the same" in text
    assert "fewer than 6 rows (10 points)" in text
    assert "3 models, accuracy: dense 100.0 %" in repr(found)
    assert "<td>flipped samples</td>" in found._repr_html_()
    assert json.loads(json.dumps(found.to_dict()))["models"][1]["num_nonzero"] == 4


def test_the_picture(found, tmp_path):
    size, latency = found.plot(tmp_path / "p.png", size="num_nonzero").axes
    assert size.get_xlabel() == "not zero"
    assert size.get_ylabel() == "accuracy (%), 95 % interval"
    assert re.search(r"median \((ms|us)\)", latency.get_xlabel())
    assert {one.get_text() for one in latency.get_legend().get_texts()} == {
        "dense",
        "sparse",
        "worse",
    }
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    # As a rule the file after gzip; what LiteRT cannot write has another size.
    first = found.plot().axes[0].get_xlabel()
    tensorflow = keras.backend.backend() == "tensorflow"
    assert first == ("LiteRT gzip (KiB)" if tensorflow else "packed (KiB)")
    with pytest.raises(ValueError, match="`size` must be one of"):
        found.plot(size="bytes")
    with pytest.raises(ValueError, match="`metric` must be one of"):
        found.plot(metric="auc")


def test_without_data_there_is_a_table_and_no_picture(monkeypatch):
    monkeypatch.setattr(measuring, "_litert", lambda model, folder: ("left out", ""))
    models = {"a": nets.given(np.eye(4)), "b": nets.given(np.eye(4))}
    found = kf.compare(models, latency=False)
    assert found.metric is None
    assert found.pareto("macs") == []
    assert "MACs" in found.render()
    with pytest.raises(ValueError, match="`data` must have been given"):
        found.plot()


def test_models_of_other_inputs_are_timed_each_with_its_own():
    shapes = {"flat": (16,), "image": (4, 4)}
    models = {
        name: keras.Sequential(
            [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)]
        )
        for name, shape in shapes.items()
    }
    found = kf.compare(models)
    assert all(one.keras_median > 0 for one in found.models)
    with pytest.raises(ValueError, match="`data` must be inputs of the shapes"):
        kf.compare(models, (np.ones((9, 16), "float32"), np.zeros(9)))


class Breaks(keras.Model):
    """Takes what it was built with, and nothing else."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def test_a_call_that_fails_is_told(found):
    broken = Breaks()
    broken(np.ones((1, 7), "float32"))
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    told = kf.compare({"other": other, "broken": broken})  # it is given 4 numbers
    assert told.get("other").keras_median > 0
    assert told.get("broken").keras_median is None
    assert "the call failed" in told.get("broken").reason("keras_median")
    assert "the call failed" in str(told)


@pytest.mark.tensorflow_only
def test_several_outputs_of_a_file_have_no_metrics(tmp_path):
    inputs = keras.Input((4,))
    heads = [keras.layers.Dense(2, name=one)(inputs) for one in ("a", "b")]
    model = keras.Model(inputs, heads)
    model.compile("sgd", ["mse", "mse"])
    path = tmp_path / "m.tflite"
    kf.export_litert(model, path, mode="float32")
    targets = [np.ones((60, 2), "float32")] * 2
    found = kf.compare({"model": model, "file": path}, (X, targets), latency=False)
    assert found.get("model").metric("loss").value > 0
    assert found.get("file").metrics == ()
    assert "file is no compiled Keras model" in found.reasons["metrics"]
    assert "Metrics are over 60 rows, without intervals" in str(found)
