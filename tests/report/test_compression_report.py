"""compression_report: every figure by arithmetic, what is missing with its reason."""

import dataclasses
import gzip
import json
import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_fitkit as kf
from keras_fitkit.report import litert_reading, measuring, sizes
from keras_fitkit.report.measure_latency import in_order
from tests.report import nets

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
TRUTH = np.repeat(np.arange(4), 15)  # 60 rows
X = nets.rows_of(TRUTH)
LOSES_CLASS_3 = np.diag([1, 1, 1, -1]) * 5.0  # names 15 rows wrongly


@pytest.fixture
def no_litert(monkeypatch):
    """Spares a test that is about something else the conversion."""
    monkeypatch.setattr(measuring, "_litert", lambda model, folder: ("left out", ""))


@pytest.fixture(scope="module")
def report():
    """Of a model that fails on one class, beside one that does not; with latency."""
    small = nets.given(LOSES_CLASS_3)
    big = nets.given(np.eye(4) * 5)
    return kf.compression_report(small, big, (X, TRUTH))


def test_counts(report):
    figures = report.model
    assert figures.num_params == 4 * 4
    assert figures.num_nonzero == 4
    assert figures.macs == 4 * 4
    assert figures.nonzero_macs == 4
    assert figures.peak_memory == 4 * (4 + 4)
    (row,) = figures.storage
    assert (row.distinct, row.bits) == (3, 2)
    assert figures.bits_per_weight == 2
    read = 16 * 2 / 32 * 640
    assert figures.energy == pytest.approx((16 * 4.6 + read) * 1e-12)
    assert report.ratio("num_params") == 1.0
    assert report.ratio("energy") == pytest.approx(
        (16 * 4.6 + 16 * 1 / 32 * 640) / (16 * 4.6 + read)
    )


@pytest.mark.tensorflow_only
def test_of_a_plain_model_everything_can_be_had(report):
    """A reason here would be a defect of ours, told as a property of the model."""
    assert dict(report.model.reasons) == {}
    assert dict(report.baseline.reasons) == {}


def test_the_packed_size_is_that_of_the_file(report, tmp_path):
    size = kf.save_packed(nets.given(LOSES_CLASS_3), tmp_path / "m.kfz")
    # The name of the model is in the file, and Keras counts the names.
    assert report.model.packed_bytes == pytest.approx(size.file_bytes, abs=8)


def test_metrics_and_the_paired_test(report):
    assert str(report.model.metric("accuracy")) == "75.0 % (62.8 to 84.2 %)"
    assert report.baseline.metric("accuracy").value == 1.0
    loss, accuracy = report.tests
    assert (accuracy.lost, accuracy.gained) == (15, 0)
    assert accuracy.p_value == pytest.approx(2 * 0.5**15)
    assert accuracy.difference == -15 / 60
    assert loss.difference > 0
    assert report.forgotten.lost == tuple(range(45, 60))
    assert report.forgotten.classes[0].label == 3


def test_few_rows_are_said_in_words(report):
    text = report.uncertainty
    assert "over 60 rows" in text
    assert f"One row is {100 / 60:.2g} points" in text
    assert f"fewer than 6 rows ({100 * 6 / 60:.2g} points)" in text
    assert text in report.render()


def test_latency_says_how_it_was_measured(report):
    text = report.render()
    assert f"predict_on_batch on {keras.backend.backend()}" in text
    assert report.model.keras_p90 >= report.model.keras_median > 0
    assert report.ratio("keras_median") == pytest.approx(
        1 / report.latency.ratio("Keras", against="baseline")
    )
    if ON_TENSORFLOW:
        assert "LiteRT: 1 thread, XNNPACK" in text
        assert report.model.litert_median > 0
    else:
        why = f"no export to LiteRT on {keras.backend.backend()}"
        assert report.model.litert_median is report.model.litert_bytes is None
        assert report.model.reason("litert_p90") == why
        assert report.model.reason("arena") == why
        assert why in text


def test_texts(report):
    lines = report.to_markdown().splitlines()
    assert lines[0] == "|  | baseline | model | baseline / model |"
    assert "| MACs | 16 | 16 | 1.00 |" in lines
    assert (
        "| accuracy | 100.0 % (94.0 to 100.0 %) | 75.0 % (62.8 to 84.2 %) |  |" in lines
    )
    assert "effective MACs (not a speed-up)" in report.render()
    assert "ranking only" in str(report)
    assert re.search(r"^│ not zero +│ +4 │ +4 │ +1.00 │$", report.render(), re.M)
    assert repr(report).startswith("<CompressionReport: ")
    assert "15 rows lost, 0 gained" in report.summary


def test_html_is_escaped(report):
    figures = dataclasses.replace(report.model, name="<script>")
    page = dataclasses.replace(report, model=figures)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<td>75.0 % (62.8 to 84.2 %)</td>" in page


def test_plain_values(report):
    found = json.loads(json.dumps(report.to_dict()))
    assert found["model"]["macs"] == 16
    assert found["ratios"]["num_params"] == 1.0
    assert found["tests"][1]["lost"] == 15
    assert found["forgotten"]["lost"] == list(range(45, 60))
    assert found["model"]["keras_p90_seconds"] > 0
    assert found["model"]["storage"][0]["shape"] == [4, 4]


def test_the_picture(report, tmp_path):
    figure = report.plot(tmp_path / "report.png")
    shares, metrics = figure.axes
    labels = [one.get_text() for one in shares.get_yticklabels()]
    widths = dict(zip(labels, [bar.get_width() for bar in shares.patches], strict=True))
    assert widths["MACs"] == 100
    assert widths["energy (model, ranking only)"] == pytest.approx(
        100 / report.ratio("energy")
    )
    assert [one.get_text() for one in metrics.get_xticklabels()] == [
        "baseline",
        "model",
    ]
    assert (tmp_path / "report.png").stat().st_size > 1000


@pytest.mark.usefixtures("no_litert")
def test_alone_it_draws_its_weights():
    found = kf.compression_report(nets.given(np.eye(4)), latency=False)
    (axes,) = found.plot().axes
    assert [one.get_text() for one in axes.get_yticklabels()] == ["dense/kernel"]
    assert found.ratio("macs") is found.forgotten is None
    assert found.tests == found.model.metrics == ()
    assert found.model.keras_median is None
    assert found.model.reason("keras_median") == "latency=False"
    assert "parameters" in found.summary


def test_the_keras_file_has_no_optimizer(tmp_path):
    model = nets.given(np.eye(50))
    model.compile("adam", nets.LOGITS)
    before = sizes.keras_file(model, tmp_path).stat().st_size
    model.fit(nets.rows_of(range(50)), np.arange(50), verbose=0)
    (tmp_path / "again").mkdir()
    path = sizes.keras_file(model, tmp_path / "again")
    assert path.stat().st_size == pytest.approx(before, abs=100)
    model.save(tmp_path / "whole.keras")
    assert (tmp_path / "whole.keras").stat().st_size > before + 2 * 50 * 50 * 4
    again = keras.saving.load_model(path, compile=False)
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    assert sizes.gzipped(path) == len(gzip.compress(path.read_bytes(), 9, mtime=0))


def test_texts_of_bytes():
    assert sizes.bytes_text(None) == "-"
    assert sizes.bytes_text(1023) == "1023 B"
    assert sizes.bytes_text(1.5 * 1024) == "1.50 KiB"
    assert sizes.bytes_text(2 * 1024**2) == "2.00 MiB"


def test_a_subclassed_model_gives_what_it_can():
    model = nets.Subclassed()
    model.compile("sgd", nets.LOGITS, metrics=["accuracy"])
    model(X[:1])
    found = kf.compression_report(model, data=(X, TRUTH % 3), latency=False)
    figures = found.model
    assert figures.num_params == 4 * 3 + 3
    assert figures.macs == 4 * 3  # the sizes come from the data
    assert figures.peak_memory is None
    assert figures.reason("peak_memory") == (
        "the calls of a subclassed model cannot be seen"
    )
    assert figures.metric("accuracy") is not None
    assert figures.keras_bytes > 0
    assert figures.litert_bytes is None
    assert "no LiteRT" in found.render() or not ON_TENSORFLOW


def test_a_subclassed_model_without_an_example():
    model = nets.Subclassed()
    model(X[:1])
    found = kf.compression_report(model)
    assert found.model.macs is found.latency is None
    assert "pass example" in found.model.reason("macs")
    assert "pass example" in found.reasons["latency"]


@pytest.mark.usefixtures("no_litert")
def test_what_cannot_be_counted_is_none_not_less():
    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(4, 4), name="w")

        def call(self, inputs):
            return keras.ops.matmul(inputs, self.w)

    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), Own(name="own")])
    figures = kf.compression_report(model, latency=False).model
    assert figures.macs is figures.energy is None
    assert figures.reason("macs").startswith("at least 16; not counted: own")


@pytest.mark.usefixtures("no_litert")
def test_several_outputs_have_no_intervals():
    inputs = keras.Input((4,))
    heads = {name: layers.Dense(2, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, heads)
    model.compile("sgd", "mse")
    targets = {name: np.ones((60, 2), "float32") for name in heads}
    found = kf.compression_report(model, data=(X, targets), latency=False)
    (loss,) = [one for one in found.model.metrics if one.name == "loss"]
    expected = model.evaluate(X, targets, verbose=0, return_dict=True)["loss"]
    assert loss.value == pytest.approx(expected)
    assert loss.low is None
    assert loss.reason == "several outputs"


@pytest.mark.usefixtures("no_litert")
def test_metrics_are_those_of_the_baseline_where_the_model_has_none():
    small = nets.given(LOSES_CLASS_3, compiled=False)
    big = nets.given(np.eye(4))
    found = kf.compression_report(small, big, (X, TRUTH), latency=False)
    assert found.model.metric("accuracy").value == 45 / 60


@pytest.mark.tensorflow_only
def test_a_file_gives_what_is_in_it(tmp_path):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    outputs = layers.Dense(3, name="head")(layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    for name in ("conv", "depthwise", "head"):  # biases of zero are not written
        bias = model.get_layer(name).bias
        bias.assign(np.linspace(0.1, 0.2, bias.shape[0]))
    path = tmp_path / "m.tflite"
    data = np.random.default_rng(0).normal(size=(20, 8, 8, 2)).astype("float32")
    kf.export_litert(model, path, mode="int8", calibration_data=data)
    model.compile("sgd", nets.LOGITS, metrics=["accuracy"])
    labels = model.predict(data, verbose=0).argmax(1)
    found = kf.compression_report(str(path), model, (data, labels))
    figures = found.model
    assert figures.litert_bytes == path.stat().st_size
    convolved = 6 * 6 * 4 * (3 * 3 * 2)
    by_channel, last = 4 * 4 * 4 * (3 * 3), 4 * 4 * 4 * 3
    assert figures.macs == convolved + by_channel + last == found.baseline.macs
    assert figures.num_params == model.count_params()
    kernels = [one for one in figures.storage if one.arithmetic == "int8"]
    assert sum(one.size for one in kernels) == 72 + 36 + 192
    assert {one.bits for one in kernels} == {8}
    assert figures.keras_bytes is figures.peak_memory is figures.packed_bytes is None
    assert figures.reason("keras_bytes") == "a LiteRT file"
    assert figures.reason("keras_median") == "a LiteRT file"
    assert figures.litert_median > 0
    assert figures.metric("accuracy").value > 0.8
    assert figures.arena < found.baseline.arena


@pytest.mark.tensorflow_only
def test_a_pruned_file_has_fewer_effective_macs(tmp_path):
    path = tmp_path / "m.tflite"
    kf.export_litert(nets.given(LOSES_CLASS_3), path)
    figures = kf.compression_report(path).model  # its sizes are in the file
    assert (figures.macs, figures.nonzero_macs) == (16, 4)
    assert figures.num_nonzero == 4
    assert figures.litert_median > 0


@pytest.mark.tensorflow_only
def test_a_file_that_is_none(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"TFL3" * 40)
    found = kf.compression_report(path, latency=False)
    assert found.model.macs is None
    assert "LiteRT cannot run the file" in found.model.reason("macs")


@pytest.mark.tensorflow_only
def test_files_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="It does not begin as a LiteRT file"):
        kf.compression_report(path)
    path.write_bytes(b"TFL3" * 40)
    found = kf.compression_report(path)
    assert "LiteRT cannot run the file" in found.reasons["latency"]
    with pytest.raises(ValueError, match=r"`data` must be inputs that m\.tflite takes"):
        kf.compression_report(path, nets.given(np.eye(4)), (X, TRUTH))


@pytest.mark.tensorflow_only
def test_inputs_of_a_file_go_in_the_order_of_their_numbers():
    names = ["serving_default_input_10_b:0", "serving_default_input_2_c:0", "x", "a"]
    found = in_order([{"name": one} for one in names])
    assert [one["name"] for one in found] == [names[1], names[0], "a", "x"]


def test_addresses_are_joined_where_they_are_near():
    spans = [(0, 64), (64, 128), (100, 256), (100_000, 100_064), (512, 600)]
    assert litert_reading.union(spans) == 600 + 64
    assert litert_reading.union([]) == 0


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ((X[:, :3], TRUTH), r"inputs of the shapes \[\('rows', 4\)\]"),
        ((X, TRUTH[:9]), "the same length"),
        ((X, np.ones((60, 7))), "targets that fit the compiled loss and metrics"),
    ],
)
def test_data_of_the_wrong_shape_is_told_before_any_work(data, text):
    with pytest.raises(ValueError, match=f"`data` must be .*{text}"):
        kf.compression_report(nets.given(np.eye(4)), data=data)


def test_one_row_shows_nothing():
    small, big = nets.given(LOSES_CLASS_3), nets.given(np.eye(4))
    found = kf.compression_report(small, big, (X[-1:], TRUTH[-1:]), latency=False)
    loss, accuracy = found.model.metrics
    assert (loss.low, loss.high, loss.reason) == (None, None, "one row")
    assert (accuracy.value, accuracy.low) == (0.0, 0.0)
    assert not any(one.significant for one in found.tests)
    assert "One row is 100 points; no difference at all" in found.uncertainty
    assert "over 1 row." in found.uncertainty
    json.dumps(found.to_dict())
    found = kf.compression_report(small, big, (X[-3:], TRUTH[-3:]), latency=False)
    assert found.tests[0].p_value >= 2 / 2**3
    assert "a bootstrap is too sure" in found.uncertainty


def test_a_model_that_gives_no_numbers_is_no_significant_loss():
    model, baseline = nets.given(np.eye(4) * np.nan), nets.given(np.eye(4))
    found = kf.compression_report(model, baseline, (X, TRUTH), latency=False)
    loss, accuracy = found.tests
    assert (loss.low, loss.high, loss.p_value) == (None, None, None)
    assert not loss.significant
    assert "no test" in loss.sentence
    assert accuracy.p_value < 0.05
    assert found.model.metric("loss").reason == "it is no number of every row"
    assert "nan (" not in str(found)


def test_a_line_for_each_weight():
    figures = kf.compression_report(nets.given(LOSES_CLASS_3), latency=False).model
    (line,) = [one for one in str(figures).splitlines() if "dense/kernel" in one]
    cells = [one.strip() for one in line.strip("│").split("│")]
    # 16 values, 4 of them not 0; two or three kinds: 1 or 2 bits
    distinct = len(np.unique(LOSES_CLASS_3))
    bits = int(np.ceil(np.log2(distinct)))
    assert cells[1:] == ["4x4", "16", "4", f"{distinct}", f"{bits}", f"{2 * bits} B"]
    assert "<td>4x4</td>" in figures._repr_html_()


def batches(kind):
    if kind == "PyDataset":
        return kf.ReproducibleDataset(X, TRUTH, batch_size=32, seed=0)
    if kind == "DataLoader":
        torch = pytest.importorskip("torch")
        pair = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(TRUTH))
        return torch.utils.data.DataLoader(pair, batch_size=32)
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, TRUTH)).batch(32)


@pytest.mark.parametrize("kind", ["PyDataset", "DataLoader", "tf.data"])
def test_a_data_set_is_read_as_its_arrays(kind):
    models = nets.given(LOSES_CLASS_3), nets.given(np.eye(4))
    one = kf.compression_report(*models, batches(kind), latency=False)
    other = kf.compression_report(*models, (X, TRUTH), latency=False)
    accuracies = [each.model.metric("accuracy") for each in (one, other)]
    assert accuracies[0] == accuracies[1]
    assert len(one.forgotten.lost) == len(other.forgotten.lost) == 15


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: (X, TRUTH, np.ones(len(X))), "Sample weights are not taken"),
        (lambda: X, r"Pass \(x, y\)"),
        (lambda: (one for one in [(X, TRUTH)]), "a generator cannot be read"),
        (lambda: "val.npz", "a str cannot be read"),
        (lambda: kf.ReproducibleDataset(X, batch_size=8, seed=0), "have no targets"),
        (lambda: batches("tf.data").repeat(), "repeats without an end"),
        (lambda: batches("tf.data").unbatch(), r"Call .batch\(n\)"),
    ],
)
def test_data_that_cannot_be_taken(make, text):
    with pytest.raises((TypeError, ValueError), match=f"(?s)`data` must be .*{text}"):
        kf.compression_report(nets.given(np.eye(4)), data=make(), latency=False)


def test_data_without_a_compiled_model():
    model = nets.given(np.eye(4), compiled=False)
    with pytest.raises(ValueError, match=r"`data` must come .*Call model.compile"):
        kf.compression_report(model, data=(X, TRUTH))


def test_latency_of_open_sizes_needs_an_example():
    model = keras.Sequential([keras.Input((None, 2)), layers.Conv1D(3, 2)])
    with pytest.raises(ValueError, match=r"`example` must be .*latency=False"):
        kf.compression_report(model)
