"""learning_curve: sizes, steps, verdicts, and what it refuses."""

import json

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.evidence import SizeRun
from keras_fitkit.evidence.learning_report import LearningCurveReport
from tests.evidence.models import hidden, line, linear


def test_every_run_takes_the_same_steps_on_nested_parts(monkeypatch, capsys):
    x, y = line(40)
    seen = []
    fit = keras.Model.fit

    def watched(model, a, b, **named):
        assert len(a) == len(b)
        seen.append({float(row) for row in a[:, 0]})
        history = fit(model, a, b, **named)
        steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations.value))
        assert steps == named["epochs"] * -(-len(a) // named["batch_size"])
        assert len(a) == 30
        return history

    monkeypatch.setattr(keras.Model, "fit", watched)
    report = kf.learning_curve(
        hidden,
        x,
        y,
        fractions=(0.2, 1.0),
        seeds=(0, 1),
        epochs=2,
        batch_size=8,
        at="last",
    )
    assert [len(rows) for rows in seen] == [6, 30, 30, 6, 30, 30]
    assert seen[0] < seen[1] == seen[2]
    assert seen[0] != seen[3]  # another seed, another split
    assert [point.rows for point in report.points] == [6, 30]
    assert report.overlap == pytest.approx(10 / 30)
    assert report.wider.count == 2
    assert all(run.epoch == 1 for run in report.runs)
    assert capsys.readouterr().out.count("wider: training") == 2
    assert json.loads(json.dumps(report.to_dict()))["points"][0]["rows"] == 6
    assert "2 x wide" in report.render()
    assert "<table>" in report._repr_html_()
    assert report.plot().axes[0].get_xlabel() == "training rows"


def test_validation_data_is_the_same_for_all_and_a_run_counts_at_its_best():
    x, y = line(24)
    rng = np.random.default_rng(1)
    validation = rng.normal(size=(8, 3)), rng.normal(size=8)
    report = kf.learning_curve(
        lambda: linear(rate=0.3),
        x,
        y,
        fractions=(0.5, 1.0),
        seeds=(3,),
        epochs=3,
        validation_data=validation,
        capacity=2.0,  # a layer that is the head cannot be widened
        verbose=0,
    )
    assert report.overlap == 0.0
    assert [point.rows for point in report.points] == [12, 24]
    assert report.capacity is None
    assert "channels that can be added to" in report.no_capacity
    assert report.more_capacity == "cannot tell"
    assert report.more_data == "cannot tell"  # one seed has no interval
    assert "other validation rows" in str(report)


def runs(small, full, wide=None):
    found = []
    for seed in range(3):
        shift = 0.001 * seed
        found.append(SizeRun(0.5, 50, seed, 0.1, small + shift, 4, "?"))
        found.append(SizeRun(1.0, 100, seed, 0.1, full + 2 * shift, 4, "?"))
        if wide is not None:
            found.append(SizeRun(1.0, 100, seed, 0.1, wide, 4, "?", wider=True))
    return LearningCurveReport(tuple(found), 0.0, 0.02, None if wide is None else 2.0)


@pytest.mark.parametrize(
    ("small", "full", "wide", "data", "capacity"),
    [
        (0.4, 0.3, 0.5, "would help", "would not"),
        (0.3, 0.3, 0.2, "would not", "would help"),
        (0.3, 0.31, None, "would not", "cannot tell"),
        (0.0, 0.0, 0.1, "cannot tell", "cannot tell"),  # no shares of a loss of 0
    ],
)
def test_the_verdict_follows_the_rule(small, full, wide, data, capacity):
    report = runs(small, full, wide)
    assert (report.more_data, report.more_capacity) == (data, capacity)
    assert f"more data: {data}" in report.verdict


def test_the_change_is_for_twice_the_rows():
    """From 25 to 100 rows is two doublings: (0.3 - 0.5) / 2 / 0.3."""
    found = [SizeRun(f, r, 0, 0.1, v, 4, "?") for f, r, v in _TWO_DOUBLINGS]
    report = LearningCurveReport(tuple(found), 0.0, 0.02, None)
    assert report.doubling.mean == pytest.approx((0.3 - 0.5) / 2 / 0.3)


_TWO_DOUBLINGS = ((0.25, 25, 0.5), (1.0, 100, 0.3))
X, Y = line(12)
_PLAIN = {"build_fn": linear, "x": X, "y": Y, "epochs": 1, "fractions": (0.5, 1.0)}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"fractions": (1.0, 0.5)}, "two or more increasing fractions"),
        ({"fractions": (0.01, 1.0)}, "different parts of 2 rows or more"),
        ({"seeds": (1, 1)}, "1 or more different integers"),
        ({"validation_data": (X, np.full(12, np.inf))}, "finite numbers"),
        ({"build_fn": (lambda one: lambda: one)(linear())}, "gave the same model"),
    ],
)
def test_it_refuses_before_training(more, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        kf.learning_curve(**{**_PLAIN, **more})
    assert text in str(caught.value)
