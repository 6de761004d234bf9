"""Metrics with intervals, paired tests, and what was forgotten."""

import functools
import json

import keras
import numpy as np
import pytest
from scipy import stats

from keras_fitkit.report import evaluation, statistics
from keras_fitkit.report.forgotten import forgotten
from tests.report import nets

RNG = np.random.default_rng(5)
N = 60
LABELS = RNG.integers(0, 3, N)
SCORES = RNG.normal(size=(N, 3)).astype("float32")


def judged(model, targets, *outputs):
    measures = evaluation.measures_of(model, targets, outputs[0])
    values = [evaluation.values(measures, targets, one) for one in outputs]
    return measures, values


def test_values_are_those_of_evaluate():
    top = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")
    model = nets.given(np.eye(3), metrics=["accuracy", top])
    _, (values,) = judged(model, LABELS, SCORES)
    expected = model.evaluate(SCORES, LABELS, verbose=0, return_dict=True)
    assert {one.name: pytest.approx(one.value, abs=1e-6) for one in values} == expected
    assert [one.method for one in values] == ["bootstrap", "Wilson", "Wilson"]
    assert [one.better for one in values] == ["min", "max", "max"]


def test_accuracy_has_the_interval_of_wilson():
    model = nets.given(np.eye(3))
    _, (values,) = judged(model, LABELS, SCORES)
    right = int((SCORES.argmax(1) == LABELS).sum())
    expected = stats.binomtest(right, N).proportion_ci(method="wilson")
    accuracy = values[1]
    assert accuracy.value == right / N
    assert (accuracy.low, accuracy.high) == pytest.approx((expected.low, expected.high))


def test_a_mean_is_resampled_by_rows():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    targets, outputs = RNG.normal(size=(2, N, 1)).astype("float32")
    _, (values,) = judged(model, targets, outputs)
    loss, mae = values
    assert loss.value == pytest.approx(np.square(targets - outputs).mean(), rel=1e-5)
    errors = np.abs(targets - outputs)[:, 0]
    assert mae.value == pytest.approx(errors.mean(), rel=1e-5)
    assert (mae.low, mae.high) == pytest.approx(
        statistics.mean_interval(errors), rel=1e-5
    )
    assert mae.better == "min"


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
@pytest.mark.parametrize("loss", ["binary_crossentropy", "mse"])
def test_targets_of_one_output_may_lack_an_axis(loss, shape):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", loss, metrics=["accuracy", "mae"])
    outputs = RNG.uniform(0.01, 0.99, (N, 1)).astype("float32")
    truth = RNG.integers(0, 2, shape)
    _, (values,) = judged(model, truth, outputs)
    flat, given = truth.reshape(-1), outputs[:, 0]
    crossentropy = -np.log(np.where(flat == 1, given, 1 - given)).mean()
    expected = crossentropy if loss != "mse" else np.square(flat - given).mean()
    assert values[0].value == pytest.approx(expected, rel=1e-4)
    assert values[2].value == pytest.approx(np.abs(flat - given).mean(), rel=1e-5)
    if loss != "mse":
        assert values[1].value == np.mean((given > 0.5) == flat)
    assert model.loss == loss


def test_a_metric_that_is_no_mean_is_computed_on_resampled_rows(monkeypatch):
    few = functools.partial(statistics.resampled, count=20)
    monkeypatch.setattr(statistics, "resampled", few)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    rmse = keras.metrics.RootMeanSquaredError(name="rmse")
    model.compile("sgd", "mse", metrics=[rmse])
    targets, outputs = RNG.normal(size=(2, 20, 1)).astype("float32")
    measures, (values,) = judged(model, targets, outputs)
    value = values[1]
    assert value.value == pytest.approx(np.sqrt(np.square(targets - outputs).mean()))
    assert value.low < value.value < value.high
    assert value.method == "bootstrap"
    same = evaluation.tests(measures, targets, outputs, outputs)[1]
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert float(rmse.result()) == 0.0  # the model's own is left as it was


def test_pairs_of_right_and_wrong_rows():
    model = nets.given(np.eye(3))
    better = SCORES.copy()
    wrong = np.flatnonzero(SCORES.argmax(1) != LABELS)[:8]
    right = np.flatnonzero(SCORES.argmax(1) == LABELS)[:2]
    better[wrong, LABELS[wrong]] += 10
    better[right, (LABELS[right] + 1) % 3] += 10
    measures, _ = judged(model, LABELS, better)
    test = evaluation.tests(measures, LABELS, better, SCORES)[1]
    assert (test.lost, test.gained, test.method) == (2, 8, "McNemar")
    assert test.difference == pytest.approx((8 - 2) / N)
    assert test.p_value == pytest.approx(stats.binomtest(2, 10).pvalue)
    assert not test.significant
    assert "2 rows lost, 8 gained" in test.sentence
    assert test.sentence.endswith("noise can explain it")


def test_pairs_of_losses_are_resampled_together():
    """A shift that is the same in every row is sure, however much rows differ."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mae")
    targets = np.zeros((N, 1), "float32")
    outputs = np.abs(RNG.normal(size=(N, 1))).astype("float32")
    measures, _ = judged(model, targets, outputs)
    (test,) = evaluation.tests(measures, targets, outputs + 0.01, outputs)
    assert test.difference == pytest.approx(0.01, abs=1e-6)
    assert (test.low, test.high) == pytest.approx((0.01, 0.01), abs=1e-6)
    assert test.significant
    assert (test.method, test.lost) == ("bootstrap", None)
    assert test.sentence.endswith("more than noise")


def test_a_model_without_a_loss_has_no_measures():
    model = nets.given(np.eye(3), compiled=False)
    assert evaluation.measures_of(model, LABELS, SCORES) == []


@pytest.mark.parametrize(
    ("loss", "targets", "cut"),
    [
        (keras.losses.BinaryCrossentropy(from_logits=True), (N,), 0.0),
        (keras.losses.BinaryCrossentropy(), (N, 1), 0.5),
        ("binary_crossentropy", (N, 1), 0.5),
    ],
)
def test_classes_of_one_output(loss, targets, cut):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    truth = RNG.integers(0, 2, targets)
    outputs = RNG.uniform(-1, 1, (N, 1))
    true, named = evaluation.labels(model, truth, {"a": outputs})
    np.testing.assert_array_equal(true, truth.reshape(-1))
    np.testing.assert_array_equal(named["a"], outputs[:, 0] > cut)


def test_classes_of_one_hot_targets():
    model = nets.given(np.eye(3))
    true, named = evaluation.labels(model, np.eye(3)[LABELS], {"a": SCORES})
    np.testing.assert_array_equal(true, LABELS)
    np.testing.assert_array_equal(named["a"], SCORES.argmax(1))


@pytest.mark.parametrize(
    ("targets", "outputs", "why"),
    [
        (RNG.normal(size=(N, 3)), SCORES, "not one-hot"),
        (RNG.normal(size=(N, 1)), SCORES, "no class numbers"),
        (np.full(N, 7), SCORES, "no number of an output"),
        (np.full(N, 7), SCORES[:, :1], "not 0 or 1"),
        (np.zeros(N), SCORES[:, :1], "a loss that is none of classes"),
        (LABELS, SCORES[None], "no list of scores"),
    ],
)
def test_what_is_no_classification_says_why(targets, outputs, why):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert why in evaluation.labels(model, targets, {"a": outputs})


def lost_report(x=None):
    """Class 0 keeps all, class 1 loses 9 of 20, class 2 loses 1 and gains 1."""
    truth = np.repeat([0, 1, 2], 20)
    before, after = truth.copy(), truth.copy()
    after[20:29] = 0
    before[40], after[41] = 1, 1
    return forgotten(truth, after, before, np.zeros((60, 2)) if x is None else x)


def test_forgotten_by_class_and_by_sample():
    report = lost_report()
    assert report.lost == (*range(20, 29), 41)
    assert report.gained == (40,)
    assert report.flipped == 11
    first = report.classes[0]
    assert (first.label, first.lost, first.gained, first.rows) == (1, 9, 0, 20)
    assert first.change == pytest.approx(-9 / 20)
    assert first.p_value == pytest.approx(3 * 2 * 0.5**9)  # Holm: the least, times 3
    assert first.significant
    others = {one.label: one for one in report.classes[1:]}
    assert others[0].p_value == others[2].p_value == 1.0
    assert others[2].change == 0.0
    assert report.truth[:2] == (1, 1)
    assert (report.named[-1], report.baseline_named[-1]) == (2, 1)
    assert "classes that lost recall (points): 1 (-45)" in report.summary
    assert "10 of 60 samples lost, 1 gained" in str(report)
    assert "noise can explain" in forgotten(*[np.arange(3)] * 3, None).summary


def test_forgotten_as_plain_values():
    report = lost_report()
    found = json.loads(json.dumps(report.to_dict()))
    assert found["classes"][0]["label"] == 1
    assert "samples" not in found
    assert repr(report).startswith("<Forgotten: 10 of 60")
    assert "&gt;" in report._repr_html_()


def test_pictures_of_lost_samples(tmp_path):
    images = RNG.uniform(size=(60, 4, 4, 1))
    figure = lost_report(images).plot(tmp_path / "lost.png")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 10 + 1
    assert titles[0] == "row 20: is 1\n1 > 0"
    assert titles[-1] == "row 40: is 2\n1 > 2"
    np.testing.assert_allclose(
        figure.axes[0].images[0].get_array(),
        (images[20, ..., 0] - shown(images).min()) / np.ptp(shown(images)),
        rtol=1e-5,
    )
    assert (tmp_path / "lost.png").read_bytes().startswith(b"\x89PNG")
    flat = lost_report(images.reshape(60, 16)).plot(image_shape=(4, 4))
    assert len(flat.axes) == len(figure.axes)
    with pytest.raises(ValueError, match="`image_shape` must be two or three sizes"):
        lost_report(images).plot(image_shape=(3, 3))


def shown(images):
    return images[[*range(20, 29), 41, 40]]


def test_bars_where_samples_are_no_images():
    figure = lost_report().plot()
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([-45, 0, 0])
