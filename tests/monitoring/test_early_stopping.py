"""When EarlyStopping stops: scripted logs, no training."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from keras_fitkit.monitoring import early_stopping
from keras_fitkit.monitoring.early_stopping import EarlyStopping
from keras_fitkit.monitoring.rules import (
    GeneralizationLoss,
    ProgressQuotient,
    SuccessiveStrips,
)

pytestmark = pytest.mark.eager

NAN, INF = math.nan, math.inf


class Scripted:
    """A model whose weights are the number of the epoch."""

    def __init__(self) -> None:
        self.stop_training = False
        self.epoch = -1

    def get_weights(self) -> Any:
        return [np.array(float(self.epoch))]

    def set_weights(self, weights: Any) -> None:
        self.epoch = int(weights[0])


def drive(stopper: Any, values: Any, *, name: str = "val_loss", first: int = 0) -> int:
    """Feeds one value (or one dict of logs) an epoch; returns the epochs that ran."""
    stopper.set_model(Scripted())
    stopper.on_train_begin()
    done = 0
    for epoch, value in enumerate(values, first):
        stopper.model.epoch = epoch
        stopper.on_epoch_begin(epoch)
        stopper.on_train_batch_begin(0)
        logs = value if isinstance(value, dict) else {"loss": 1.0, name: value}
        stopper.on_epoch_end(epoch, logs)
        done += 1
        if stopper.model.stop_training:
            break
    stopper.on_train_end()
    return done


def test_is_a_keras_early_stopping_with_its_names_and_defaults() -> None:
    stopper, keras_own = EarlyStopping(), keras.callbacks.EarlyStopping()
    assert isinstance(stopper, keras.callbacks.EarlyStopping)
    for name in ["monitor", "min_delta", "patience", "verbose", "mode", "baseline"]:
        assert getattr(stopper, name) == getattr(keras_own, name)
    for name in ["restore_best_weights", "start_from_epoch", "wait", "stopped_epoch"]:
        assert getattr(stopper, name) == getattr(keras_own, name)
    for name in ["best", "best_weights", "monitor_op"]:
        assert getattr(stopper, name) is None
    positional = EarlyStopping("loss", 0.1, 3, 1, "min", 0.5, True, 2)
    given = [positional.monitor, positional.min_delta, positional.patience]
    given += [positional.verbose, positional.mode, positional.baseline]
    given += [positional.restore_best_weights, positional.start_from_epoch]
    assert given == ["loss", 0.1, 3, 1, "min", 0.5, True, 2]


CURVES = [
    [10.0, 9.0, 8.0, 9.0, 8.9, 8.8, 8.7, 8.6, 8.5],
    [0.2, 0.15, 0.1, 0.11, 0.12, 0.13, 0.05],
    [1.0, 1.0, 1.0, 1.0, 1.0],
    [5.0, 4.0, 3.0, 2.0, 1.0],
    [1.0, 0.96, 0.92, 0.88, 0.84, 0.80, 0.76],
    [0.3, 0.5, 0.2, 0.6, 0.7, 0.1, 0.9, 0.9, 0.9],
]


@pytest.mark.parametrize("values", CURVES)
@pytest.mark.parametrize("patience", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"min_delta": 0.05}, {"start_from_epoch": 2}, {"mode": "max"}],
    ids=str,
)
def test_defaults_stop_where_keras_stops(
    values: list[float], patience: int, arguments: dict[str, Any]
) -> None:
    ours = EarlyStopping(patience=patience, restore_best_weights=True, **arguments)
    theirs = keras.callbacks.EarlyStopping(
        patience=patience, restore_best_weights=True, **arguments
    )
    # Keras's "auto" asks the model's metrics, which a scripted model has not.
    assert drive(ours, values) == drive(theirs, values)
    for name in ["best", "best_epoch", "wait", "stopped_epoch"]:
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.model.epoch == theirs.model.epoch
    assert ours.monitor_op is theirs.monitor_op


def test_patience_zero_and_one_are_the_same() -> None:
    # row 21; keras#16393, #14750
    curve = [3.0, 2.0, 2.5, 1.0]
    assert drive(EarlyStopping(patience=0), curve) == 3
    assert drive(EarlyStopping(patience=1), curve) == 3


def test_nan_first_is_not_best() -> None:
    # row 4: Keras stops after 6 epochs and restores the NaN epoch
    curve = [NAN, 5.0, 4.0, 3.0, 2.0, 1.0]
    stopper = EarlyStopping(patience=5, restore_best_weights=True)
    with pytest.warns(UserWarning, match=r"`val_loss` is nan in epoch 1\. .* finite"):
        assert drive(stopper, curve) == 6
    assert (stopper.best, stopper.best_epoch, stopper.wait) == (1.0, 5, 0)
    assert stopper.report().condition == "finished"
    assert stopper.model.epoch == 5


def test_inf_is_not_best_in_mode_max() -> None:
    # row 5
    stopper = EarlyStopping("val_accuracy", patience=2, mode="max")
    with pytest.warns(UserWarning, match="`val_accuracy` is inf in epoch 2"):
        drive(stopper, [0.5, INF, 0.6, 0.7], name="val_accuracy")
    assert (stopper.best, stopper.best_epoch) == (0.7, 3)


def test_later_nan_is_no_improvement_and_said_once() -> None:
    # row 5: wait is 1, 2, 3 for the three NaN epochs
    stopper = EarlyStopping(patience=3)
    with pytest.warns(UserWarning, match="in epoch 3") as said:
        assert drive(stopper, [2.0, 1.0, NAN, NAN, NAN, 0.5]) == 2 + 3
    assert len(said) == 1
    assert stopper.report().condition == "patience"
    assert "Not finite in 3 epochs, first in epoch 3." in stopper.report().notes


def test_check_finite_off_is_silent_but_nan_is_still_never_best() -> None:
    stopper = EarlyStopping(patience=5, check_finite=False)
    assert drive(stopper, [NAN, 2.0, NAN, 1.0]) == 4
    assert (stopper.best, stopper.best_epoch) == (1.0, 3)


def test_nan_everywhere_restores_nothing_and_says_so() -> None:
    stopper = EarlyStopping(patience=3, restore_best_weights=True)
    with pytest.warns(UserWarning, match="No best|in epoch 1") as said:
        assert drive(stopper, [NAN] * 9) == 3
    assert [str(item.message).split(".")[0] for item in said] == [
        "`val_loss` is nan in epoch 1",
        "No best weights were restored",
    ]
    report = stopper.report()
    assert (report.best, report.best_epoch, report.restored) == (None, None, False)
    assert "no epoch with a finite value" in report.render()
    assert stopper.model.epoch == 2  # untouched


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_relative_min_delta_does_not_depend_on_the_scale(scale: float) -> None:
    # row 15: absolute min_delta gave 57 / 4 / 60 epochs. The value falls by a factor
    # 0.9 to 0.9**7 = 0.478 and then by 0.999: less than 1 % of the best.
    curve = [scale * 0.9 ** min(t, 7) * 0.999 ** max(t - 7, 0) for t in range(30)]
    stopper = EarlyStopping(patience=5, min_delta=0.01, min_delta_mode="relative")
    # 0.999**11 > 0.99, so nothing after epoch 7 is an improvement within 5 epochs
    assert drive(stopper, curve) == 7 + 1 + 5


def test_relative_min_delta_with_negative_scores() -> None:
    # best -10, 10 %: only below -11 is better (skorch and ignite accept -9.5)
    stopper = EarlyStopping(patience=9, min_delta=0.1, min_delta_mode="relative")
    drive(stopper, [-10.0, -9.5, -10.5, -10.9, -11.1])
    assert (stopper.best, stopper.best_epoch, stopper.wait) == (-11.1, 4, 0)
    stopper = EarlyStopping(
        patience=9, min_delta=0.1, min_delta_mode="relative", mode="max"
    )
    drive(stopper, [-10.0, -9.5, -10.5, -8.9])
    assert (stopper.best, stopper.best_epoch) == (-8.9, 3)


def test_min_delta_attribute_never_changes() -> None:
    # row 21: Keras flips its sign after one epoch
    stopper = EarlyStopping(min_delta=0.1, patience=3)
    drive(stopper, [1.0, 0.5])
    assert stopper.min_delta == 0.1


def test_smoothing_is_the_bias_corrected_average() -> None:
    # b = 0.5: s1 = 4; s2 = (0.5*0.5*4 + 0.5*1) / 0.75 = 2; s3 = (0.25*3 + 2) / 0.875
    stopper = EarlyStopping(patience=5, smoothing=0.5, restore_best_weights=True)
    drive(stopper, [4.0, 1.0, 4.0])
    assert stopper.best == pytest.approx(2.0, rel=1e-12)
    assert stopper.best_epoch == 1
    value = stopper.report().values["val_loss"]["value"]
    assert value == pytest.approx((0.125 * 4 + 0.25 * 1 + 0.5 * 4) / 0.875, rel=1e-12)


def test_smoothing_rides_over_noise() -> None:
    # row 11: a healthy falling curve with noise of sd 0.03
    random = np.random.default_rng(3)
    curves = np.exp(-np.arange(60) / 20.0) + random.normal(0.0, 0.03, (50, 60))
    plain = [drive(EarlyStopping(patience=3), curve) for curve in curves]
    smooth = [
        drive(EarlyStopping(patience=3, smoothing=0.8), curve) for curve in curves
    ]
    assert np.mean(np.array(plain) < 30) > 0.25
    assert np.mean(np.array(smooth) < 30) < 0.05


def test_a_nan_does_not_poison_the_average() -> None:
    stopper = EarlyStopping(patience=5, smoothing=0.5, check_finite=False)
    drive(stopper, [4.0, NAN, 1.0])
    assert stopper.best == pytest.approx(2.0, rel=1e-12)


def test_warm_up_is_absolute_and_never_best() -> None:
    # row 9, as in Keras
    curve = [0.1, 0.9, 0.8, 0.7, 0.75, 0.76]
    stopper = EarlyStopping(patience=2, start_from_epoch=2, restore_best_weights=True)
    assert drive(stopper, curve) == 6
    assert (stopper.best, stopper.best_epoch) == (0.7, 3)
    stopper = EarlyStopping(patience=2, start_from_epoch=2)
    assert drive(stopper, [1.0, 1.0, 1.0, 1.0], first=10) == 3  # epochs 10, 11, 12


def test_nothing_but_a_warm_up_is_said() -> None:
    stopper = EarlyStopping(start_from_epoch=9, restore_best_weights=True)
    with pytest.warns(UserWarning, match=r"before start_from_epoch=9\."):
        assert drive(stopper, [1.0, 2.0, 3.0]) == 3


def test_validation_freq_counts_evaluations_in_silence() -> None:
    # row 10: validation in epochs 5, 10, 15; patience 2 -> 15 epochs, no warning
    logs: list[dict[str, float]] = [{"loss": 1.0} for _ in range(20)]
    for epoch in range(4, 20, 5):
        logs[epoch]["val_loss"] = 1.0
    assert drive(EarlyStopping(patience=2), logs) == 15


def test_baseline_gives_patience_epochs_in_all() -> None:
    # Keras's own case: 0.5 is never passed, 5 epochs, weights of epoch 3
    curve = [0.9, 0.8, 0.7, 0.71, 0.72, 0.73]
    stopper = EarlyStopping(patience=5, baseline=0.5, restore_best_weights=True)
    assert drive(stopper, curve) == 5
    assert stopper.model.epoch == 2
    assert "did not pass baseline=0.5 for 5 epochs" in stopper.report().why


def test_one_uptick_below_the_baseline_does_not_stop() -> None:
    # row 16: improving for 7 epochs, one uptick at epoch 8; keras#23559
    curve = [0.9 - 0.01 * t for t in range(7)] + [0.95] + [0.8, 0.7, 0.4, 0.3]
    assert drive(EarlyStopping(patience=5, baseline=0.5), curve) == len(curve)
    assert (
        drive(
            keras.callbacks.EarlyStopping(patience=5, baseline=0.5, mode="min"), curve
        )
        == 8
    )
    stalled = [0.9 - 0.01 * t for t in range(7)] + [0.95, 0.95, 0.1]
    assert drive(EarlyStopping(patience=5, baseline=0.5), stalled) == 9


def test_passing_the_baseline_starts_wait_again() -> None:
    curve = [0.9, 0.8, 0.4, 0.5, 0.5, 0.5, 0.5]
    stopper = EarlyStopping(patience=3, baseline=0.5)
    assert drive(stopper, curve) == 3 + 3
    assert stopper.wait == 3


def test_stopping_threshold() -> None:
    stopper = EarlyStopping(patience=9, stopping_threshold=0.3)
    assert drive(stopper, [0.5, 0.4, 0.3, 0.2]) == 3  # "at least that good"
    report = stopper.report()
    assert (report.condition, report.epoch, stopper.stopped_epoch) == (
        "stopping_threshold",
        2,
        2,
    )
    assert report.why == "`val_loss` = 0.3 reached stopping_threshold=0.3."
    stopper = EarlyStopping("val_acc", patience=9, mode="max", stopping_threshold=0.9)
    assert drive(stopper, [0.5, 0.89, 0.95, 1.0], name="val_acc") == 3


def test_divergence_threshold() -> None:
    stopper = EarlyStopping(patience=9, divergence_threshold=2.0)
    assert drive(stopper, [1.0, 2.0, 2.5, 0.1]) == 3  # "worse than that"
    assert stopper.report().condition == "divergence_threshold"
    assert "`val_loss` = 2.5 is worse than" in stopper.report().why
    stopper = EarlyStopping("val_acc", patience=9, mode="max", divergence_threshold=0.2)
    assert drive(stopper, [0.5, 0.2, 0.1], name="val_acc") == 3


def test_infinity_is_beyond_any_divergence_threshold_and_nan_is_not() -> None:
    for bad, epochs in ((INF, 2), (NAN, 3), (-INF, 3)):
        stopper = EarlyStopping(patience=9, divergence_threshold=5, check_finite=False)
        assert drive(stopper, [1.0, bad, 1.0]) == epochs


def test_thresholds_look_at_the_smoothed_value() -> None:
    # raw 0.1 at epoch 2, smoothed (0.25 * 1 + 0.5 * 0.1) / 0.75 = 0.4
    stopper = EarlyStopping(patience=9, stopping_threshold=0.3, smoothing=0.5)
    assert drive(stopper, [1.0, 0.1, 1.0]) == 3


def test_min_epochs_belong_to_this_run() -> None:
    assert drive(EarlyStopping(patience=1, min_epochs=5), [1.0] * 9) == 5
    assert drive(EarlyStopping(patience=1, min_epochs=5), [1.0] * 9, first=100) == 5
    stopper = EarlyStopping(patience=9, min_epochs=4, stopping_threshold=0.5)
    assert drive(stopper, [0.1, 0.1, 0.1, 0.9, 0.1]) == 5  # 0.9 is not good enough
    stopper = EarlyStopping(patience=9, min_epochs=3, divergence_threshold=2.0)
    assert drive(stopper, [9.0, 1.0, 9.0]) == 3


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(early_stopping, "_monotonic", lambda: self.now)


def test_max_seconds_at_epoch_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stopper = EarlyStopping(patience=9, max_seconds=25, min_epochs=99)

    def curve() -> Any:
        while True:  # 10 s an epoch: 20 s after the second, 30 s after the third
            clock.now += 10.0
            yield 1.0 / clock.now

    assert drive(stopper, curve()) == 3
    report = stopper.report()
    assert (report.condition, report.seconds) == ("max_seconds", 30.0)
    assert report.why == "30.0 s of this fit have passed (max_seconds=25)."


def test_max_seconds_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stopper = EarlyStopping(max_seconds=2.5)
    stopper.set_model(Scripted())
    stopper.on_train_begin()
    stopped = []
    for batch in range(5):
        stopper.on_train_batch_begin(batch)
        stopped.append(stopper.model.stop_training)
        clock.now += 1.0
    assert stopped == [False, False, False, True, True]  # 3 s at the start of batch 3


def test_the_clock_starts_with_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stopper = EarlyStopping(max_seconds=5)
    for _ in range(2):
        clock.now += 1000.0
        assert drive(stopper, [3.0, 2.0, 1.0]) == 3
        assert stopper.report().seconds == 0.0


@pytest.mark.parametrize(
    ("criterion", "curve", "epochs"),
    [
        # GL = 100 (1.06 / 1 - 1) = 6 > 5 in epoch 4; 4 is not enough in epoch 3
        ("gl", [2.0, 1.0, 1.04, 1.06, 0.1], 4),
        (GeneralizationLoss(3.0), [2.0, 1.0, 1.04, 1.06, 0.1], 3),
        # strips of one epoch: 1 < 1.1 < 1.2
        (SuccessiveStrips(2, strip=1), [2.0, 1.0, 1.1, 1.2, 0.1], 4),
    ],
    ids=["gl", "GL(3)", "UP"],
)
def test_rules_stop(criterion: Any, curve: list[float], epochs: int) -> None:
    stopper = EarlyStopping(criterion=criterion, restore_best_weights=True)
    assert drive(stopper, curve) == epochs
    expected = criterion if isinstance(criterion, str) else type(criterion).__name__
    assert stopper.report().condition == expected
    assert "flagged by" in stopper.report().why
    assert (stopper.best, stopper.model.epoch) == (1.0, 1)


def test_rules_see_scores_negated_and_only_what_is_finite() -> None:
    seen: list[tuple[list[float], list[float]]] = []

    def rule(train: Any, validation: Any) -> bool:
        seen.append((train.tolist(), validation.tolist()))
        return False

    stopper = EarlyStopping("val_acc", mode="max", criterion=rule, check_finite=False)
    logs = [
        {"acc": 0.5, "val_acc": 0.25},
        {"acc": 0.6, "val_acc": NAN},
        {"acc": 0.7, "train_acc": 0.75, "val_acc": 0.5},
    ]
    assert drive(stopper, logs) == 3
    assert seen == [([-0.5], [-0.25]), ([-0.5, -0.75], [-0.25, -0.5])]


def test_progress_quotient_reads_training_and_says_when_it_is_missing() -> None:
    # strip 2: GL = 25, P_2 = 1000 (0.495 / 0.49 - 1) = 10.2, quotient 2.45 > 0.75
    rule = ProgressQuotient(0.75, strip=2)
    logs = [
        {"loss": loss, "val_loss": value}
        for loss, value in zip([1, 0.5, 0.50, 0.49], [1.0, 0.8, 0.9, 1.0], strict=True)
    ]
    assert (
        drive(EarlyStopping(criterion=rule), [*logs, {"loss": 0, "val_loss": 0}]) == 4
    )
    with pytest.raises(ValueError, match="neither 'train_f1' nor 'f1' in `logs`"):
        drive(EarlyStopping("val_f1", mode="max", criterion="pq"), [0.5], name="val_f1")
    # GL needs no training value
    drive(EarlyStopping("val_f1", mode="max", criterion="gl"), [0.5], name="val_f1")


def test_smoothed_rule() -> None:
    # smoothed 2, then (0.25*2 + 0.5*1)/0.75 = 4/3, then (0.125*2+0.25+0.5*1.3)/0.875
    #   = 1.314...: still falling, while the raw values rose by 30 %
    curve = [2.0, 1.0, 1.3]
    assert drive(EarlyStopping(criterion="gl", smoothing=0.5), [*curve, 1.2]) == 4
    assert drive(EarlyStopping(criterion="gl"), [*curve, 1.2]) == 3


def test_one_element_arrays_are_accepted() -> None:
    curve = [np.array([0.5]), np.array([[0.75]]), np.float32(0.25), np.array(0.5)]
    stopper = EarlyStopping("val_f1_score", patience=2, mode="max")
    assert drive(stopper, curve, name="val_f1_score") == 4
    assert stopper.best == 0.75
    assert type(stopper.best) is float
    with pytest.raises(ValueError, match=r"`val_f1_score` must be one number an epoch"):
        drive(stopper, [np.array([0.5, 0.5])], name="val_f1_score")


def test_logs_none_is_nothing_to_go_by() -> None:
    stopper = EarlyStopping(patience=1, restore_best_weights=True)
    stopper.set_model(Scripted())
    stopper.on_train_begin(None)
    stopper.on_epoch_end(0, None)
    stopper.on_epoch_end(1)
    stopper.on_train_end(None)
    assert not stopper.model.stop_training
    assert stopper.get_monitor_value(None) is None


def test_verbose_says_what_keras_says(capsys: pytest.CaptureFixture[str]) -> None:
    drive(
        EarlyStopping(patience=2, verbose=1, restore_best_weights=True), [2.0, 1, 3, 3]
    )
    assert capsys.readouterr().out == (
        "Epoch 4: early stopping\n"
        "Restoring model weights from the end of the best epoch: 2.\n"
    )
    drive(EarlyStopping(verbose=1, stopping_threshold=2.5), [2.0])
    out = capsys.readouterr().out
    assert out.startswith("Epoch 1: early stopping (`val_loss` = 2 reached")
    drive(EarlyStopping(patience=2, restore_best_weights=True), [2.0, 1, 3, 3])
    assert capsys.readouterr().out == ""
