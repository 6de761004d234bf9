"""The state and the report of EarlyStopping: reuse, resume, JSON. Scripted logs."""

from __future__ import annotations

import json
import math
from typing import Any

import keras
import numpy as np
import pytest

from keras_fitkit.monitoring import early_stopping
from keras_fitkit.monitoring.early_stopping import EarlyStopping
from keras_fitkit.monitoring.stopping_report import CONDITIONS, StoppingReport

pytestmark = pytest.mark.eager


class Scripted:
    """A model whose weights are the number of the epoch."""

    def __init__(self) -> None:
        self.stop_training = False
        self.epoch = -1

    def get_weights(self) -> Any:
        return [np.array(float(self.epoch))]

    def set_weights(self, weights: Any) -> None:
        self.epoch = int(weights[0])


def drive(stopper: Any, epochs: Any, first: int = 0) -> int:
    """Feeds one dict of logs an epoch; returns the number of epochs that ran."""
    stopper.set_model(Scripted())
    stopper.on_train_begin()
    done = go_on(stopper, epochs, first)
    stopper.on_train_end()
    return done


def go_on(stopper: Any, epochs: Any, first: int = 0) -> int:
    for epoch, logs in enumerate(epochs, first):
        stopper.model.epoch = epoch
        stopper.on_epoch_end(epoch, logs)
        if stopper.model.stop_training:
            return epoch - first + 1
    return len(epochs)


def table(**columns: list[float]) -> list[dict[str, float]]:
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


NOISY = [3.0, 2.0, 2.5, math.nan, 1.5, 1.4, 1.6, 1.7]
VARIANTS: list[dict[str, Any]] = [
    {"patience": 5},
    {"patience": 3, "min_delta": 0.1, "min_delta_mode": "relative"},
    {"patience": 4, "smoothing": 0.6},
    {"criterion": "gl"},
    {"criterion": "up"},
    {"patience": 9, "baseline": 1.45},
    {"patience": 3, "min_epochs": 6, "start_from_epoch": 1},
    {"patience": 3, "start_when": lambda logs: logs["val_loss"] < 2.9},
    {"monitor": ["val_loss", "loss"], "patience": 3, "mode": "min"},
]


@pytest.mark.parametrize("arguments", VARIANTS, ids=lambda given: "-".join(given))
@pytest.mark.parametrize("cut", [1, 4, 5])
def test_a_run_in_two_parts_is_the_run_in_one(
    arguments: dict[str, Any], cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # rows 1 and 20, and 19 for runs that are meant to be one
    logs = table(loss=[float(t) for t in range(8, 0, -1)], val_loss=NOISY)

    def fresh() -> EarlyStopping:
        stopper = EarlyStopping(
            restore_best_weights=True, check_finite=False, **arguments
        )
        stopper.set_model(Scripted())
        stopper.on_train_begin()
        return stopper

    now = [0.0]
    monkeypatch.setattr(early_stopping, "_monotonic", lambda: now[0])
    whole, first, second = fresh(), fresh(), fresh()
    done = go_on(whole, logs)
    split = go_on(first, logs[:cut])
    state = first.get_state()
    second.on_train_begin()
    second.set_state(state)
    if not first.model.stop_training:
        split += go_on(second, logs[cut:], first=cut)
    assert split == done
    for stopper in (whole, second):
        stopper.on_train_end()
    assert second.model.epoch == whole.model.epoch
    assert second.get_state() == whole.get_state()
    assert second.report() == whole.report()


def test_seconds_are_carried_over_and_the_pause_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(early_stopping, "_monotonic", lambda: now[0])
    first, second = EarlyStopping("loss", 9, max_seconds=10), EarlyStopping("loss")
    first.set_model(Scripted())
    first.on_train_begin()
    now[0] += 6.0
    first.on_epoch_end(0, {"loss": 1.0})
    state = first.get_state()
    now[0] += 1000.0
    second = EarlyStopping("loss", patience=9, max_seconds=10)
    second.set_model(Scripted())
    second.on_train_begin()
    second.set_state(state)
    now[0] += 3.0
    second.on_train_batch_begin(0)
    assert not second.model.stop_training
    now[0] += 1.0
    second.on_train_batch_begin(1)
    assert second.model.stop_training
    second.on_epoch_end(1, {"loss": 0.5})
    assert second.report().condition == "max_seconds"
    assert second.report().seconds == 6.0 + 3.0 + 1.0


def test_the_state_is_plain_and_a_copy() -> None:
    stopper = EarlyStopping(patience=5, restore_best_weights=True)
    drive(stopper, table(val_loss=[2.0, 1.0]))
    state = stopper.get_state()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            assert all(type(key) is str for key in value)
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                walk(item)
        else:
            plain = (bool, int, float, str, type(None), np.ndarray)
            assert isinstance(value, plain)

    walk(state)
    state["best_weights"][0][...] = 99.0
    state["run_"]["metrics"][0]["wait"] = 99
    assert stopper.best_weights[0] == 1.0
    assert stopper.wait == 0


def test_the_state_of_another_monitor_list_is_refused_whole() -> None:
    two = EarlyStopping(["loss", "val_loss"], patience=1)
    drive(two, table(loss=[1.0], val_loss=[1.0]))
    one = EarlyStopping(patience=1)
    drive(one, table(val_loss=[0.25]))
    before = one.get_state()
    with pytest.raises(
        ValueError, match=r"with 1 monitored metrics\. Received: the state of 2"
    ):
        one.set_state(two.get_state())
    assert one.get_state() == before
    with pytest.raises(ValueError, match=r"Missing: .*stopped_epoch"):
        one.set_state({"run_": before["run_"]})


def test_a_rerun_of_a_finished_job_keeps_its_best_and_stops_again() -> None:
    # row 20: Keras trains 4 more epochs and ends with best 1 instead of 0.1
    first = EarlyStopping(patience=2, restore_best_weights=True)
    assert drive(first, table(val_loss=[1.0, 0.1, 0.5, 0.5])) == 4
    state = first.get_state()
    second = EarlyStopping(patience=2, restore_best_weights=True)
    second.set_model(Scripted())
    second.on_train_begin()
    second.set_state(state)
    assert second.report().condition == "patience"
    assert go_on(second, table(val_loss=[1.0, 0.9]), first=4) == 1
    second.on_train_end()
    assert (second.best, second.best_epoch, second.model.epoch) == (0.1, 1, 1)


def test_a_second_fit_starts_afresh() -> None:
    # row 19: as in Keras (keras#20521, #20533); see above for a run in parts
    stopper = EarlyStopping(patience=4)
    flat = table(val_loss=[1.0, 1.0])
    assert sum(drive(stopper, flat) for _ in range(10)) == 20
    assert drive(stopper, table(val_loss=[1.0] * 20)) == 1 + 4
    assert drive(stopper, flat) == 2
    assert (stopper.wait, stopper.stopped_epoch) == (1, 0)
    assert stopper.report().condition == "finished"


def test_a_fit_that_raised_leaves_nothing_behind() -> None:
    stopper = EarlyStopping(patience=2, restore_best_weights=True)
    stopper.set_model(Scripted())
    stopper.on_train_begin()
    go_on(stopper, table(val_loss=[0.1, 0.2]))  # no on_train_end
    assert stopper.report().condition == "running"
    assert drive(stopper, table(val_loss=[0.9, 0.8, 0.85])) == 3
    assert (stopper.best, stopper.best_epoch) == (0.8, 1)


def test_constructor_attributes_never_change() -> None:
    arguments = {
        "monitor": ["val_loss", "val_acc"],
        "min_delta": {"val_loss": 0.1},
        "mode": {"val_acc": "max"},
        "patience": 2,
        "stopping_threshold": {"val_acc": 0.99},
        "smoothing": 0.5,
        "restore_best_weights": True,
    }
    stopper = EarlyStopping(**arguments)
    drive(stopper, table(val_loss=[1.0, 0.5, 0.6], val_acc=[0.5, 0.6, 0.7]))
    for name, value in arguments.items():
        assert getattr(stopper, name) is value
    assert arguments["min_delta"] == {"val_loss": 0.1}
    assert arguments["monitor"] == ["val_loss", "val_acc"]


def test_report_before_and_after() -> None:
    stopper = EarlyStopping(patience=2)
    before = stopper.report()
    assert (before.condition, before.epoch, before.stopped) == ("not run", None, False)
    drive(stopper, table(val_loss=[2.0, 1.0, 3.0, 4.0]))
    report = stopper.report()
    assert report.stopped
    assert (report.epoch, report.best_epoch, report.best) == (3, 1, 1.0)
    assert report.monitor == ("val_loss",)
    assert report.values["val_loss"] == {
        "value": 4.0,
        "raw": 4.0,
        "best": 1.0,
        "best_epoch": 1,
        "wait": 2,
    }
    assert report.render().splitlines()[:3] == [
        "Stopped in epoch 4: no improvement for `patience` epochs",
        "  `val_loss` did not improve for 2 epochs (patience=2); best 1 in epoch 2.",
        "  best: val_loss = 1 in epoch 2, weights not restored",
    ]
    assert str(report) == report.render()
    assert repr(report) == f"<StoppingReport: {report.summary}>"


def test_report_says_when_someone_else_stopped() -> None:
    stopper = EarlyStopping(patience=5)
    stopper.set_model(Scripted())
    stopper.on_train_begin()
    stopper.on_epoch_end(0, {"val_loss": 1.0})
    stopper.model.stop_training = True
    stopper.on_train_end()
    report = stopper.report()
    assert (report.condition, report.stopped, stopper.stopped_epoch) == (
        "other",
        True,
        0,
    )


def test_report_is_strict_json_and_html_is_escaped() -> None:
    stopper = EarlyStopping("<b>loss", mode="min", patience=1, check_finite=False)
    drive(stopper, table(**{"<b>loss": [math.nan, math.inf, 3.0]}))
    text = json.dumps(stopper.report().to_dict(), allow_nan=False)
    assert json.loads(text)["values"]["<b>loss"]["raw"] is None
    assert json.loads(text)["monitor"] == ["<b>loss"]
    page = stopper.report()._repr_html_()
    assert "<b>loss" not in page
    assert "&lt;b&gt;loss" in page


def test_every_condition_has_a_meaning() -> None:
    for condition, meaning in CONDITIONS.items():
        report = StoppingReport(condition, 0, None, None, ("loss",), "")
        assert meaning in report.summary
    assert "the rule MyRule" in StoppingReport("MyRule", 0, 0, 1.0, ("a",), "").summary


def test_keras_table_of_state_names_is_there_after_a_run() -> None:
    stopper = EarlyStopping(patience=2, restore_best_weights=True)
    drive(stopper, table(val_loss=[2.0, 1.0, 1.5]))
    assert (stopper.best, stopper.wait, stopper.stopped_epoch) == (1.0, 1, 0)
    assert (stopper.best_epoch, len(stopper.best_weights)) == (1, 1)
    assert stopper.monitor_op is keras.ops.less
