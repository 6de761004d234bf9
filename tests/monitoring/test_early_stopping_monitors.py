"""Which metrics EarlyStopping watches, and from which epoch on: scripted logs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_fitkit.monitoring.early_stopping import EarlyStopping
from keras_fitkit.monitoring.overfit_monitor import OverfitMonitor
from tests.tools import warns_once

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


FLAT = [1.0] * 9
FALLING = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
BOTH = {"val_loss": FLAT, "val_mae": FALLING}


def test_all_metrics_of_a_list_must_agree() -> None:
    stopper = EarlyStopping(["val_loss", "val_mae"], patience=2)
    assert drive(stopper, table(**BOTH)) == 9
    assert stopper.wait == 0  # the metric that will decide last
    later = {"val_loss": FLAT, "val_mae": [9.0, 8, 7, 6, 6, 6, 6, 6, 6]}
    assert drive(stopper, table(**later)) == 6
    why = stopper.report().why
    assert "`val_loss` did not improve for 5 epochs" in why
    assert "`val_mae` did not improve for 2 epochs" in why


def test_any_metric_of_a_list_is_enough() -> None:
    stopper = EarlyStopping(["val_loss", "val_mae"], patience=2, combine="any")
    assert drive(stopper, table(**BOTH)) == 3
    assert stopper.wait == 2
    assert "val_mae" not in stopper.report().why


def test_best_follows_the_first_metric() -> None:
    curves = table(val_acc=[0.5, 0.9, 0.7], val_loss=[3.0, 2.0, 1.0])
    names = ["val_acc", "val_loss"]
    stopper = EarlyStopping(names, patience=5, restore_best_weights=True)
    drive(stopper, curves)
    assert (stopper.best, stopper.best_epoch, stopper.model.epoch) == (0.9, 1, 1)
    assert stopper.monitor_op is keras.ops.greater
    assert stopper.monitor is names
    assert stopper.report().values["val_loss"]["best"] == 1.0
    drive(stopper := EarlyStopping(names[::-1], patience=5), curves)
    assert (stopper.best, stopper.best_epoch) == (1.0, 2)


def test_arguments_by_name() -> None:
    stopper = EarlyStopping(
        ["score", "cost"],
        min_delta={"score": 0.5},
        mode={"score": "max", "cost": "min"},
        baseline={"cost": 7.0},
        patience=2,
        combine="any",
    )
    # score: 0.4 more is no improvement of 0.5; cost improves, min_delta 0
    rising = table(score=[1.0, 1.4, 1.4, 1.4], cost=[6.0, 5, 4, 3])
    assert drive(stopper, rising) == 3
    # cost: 9, 8 do not pass the baseline 7, but improve; then two bad epochs
    below = table(score=[1.0, 2, 3, 4, 5], cost=[9.0, 8, 8, 8, 8])
    assert drive(stopper, below) == 4


def test_thresholds_by_name() -> None:
    names = ["val_loss", "val_acc"]
    goals = {"val_loss": 0.5, "val_acc": 0.9}
    curves = table(val_loss=[0.4, 0.4, 0.6], val_acc=[0.8, 0.95, 0.8])
    stopper = EarlyStopping(names, patience=9, stopping_threshold=goals)
    assert drive(stopper, curves) == 2
    stopper = EarlyStopping(names, patience=9, stopping_threshold=goals, combine="any")
    assert drive(stopper, curves) == 1
    # a metric without a goal has no say
    stopper = EarlyStopping(names, patience=9, stopping_threshold={"val_acc": 0.9})
    assert drive(stopper, curves) == 2
    # one that diverged is enough, also with combine="all"
    stopper = EarlyStopping(names, patience=9, divergence_threshold={"val_loss": 0.5})
    assert drive(stopper, curves) == 3


def test_a_list_with_a_metric_that_is_validated_now_and_then() -> None:
    logs: list[dict[str, float]] = [{"loss": 1.0} for _ in range(9)]
    for epoch in (2, 5, 8):
        logs[epoch]["val_loss"] = 1.0
    stopper = EarlyStopping(["val_loss", "loss"], patience=2)
    assert drive(stopper, logs) == 9  # val_loss: 1 + 2 evaluations
    assert stopper.best_epoch == 2


@pytest.mark.parametrize("mode", ["auto", "min"])
def test_a_misspelt_monitor_is_an_error_in_the_first_epoch(mode: str) -> None:
    # row 14: with mode="min" Keras only warns, trains to the end and never stops
    logs = [{"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}]
    expected = (
        r"in `logs`: 'accuracy', 'loss', 'val_accuracy', 'val_loss'\. Received: "
        r"monitor='val_acuracy'\. Did you mean 'val_accuracy'"
    )
    with pytest.raises(ValueError, match=expected):
        drive(EarlyStopping("val_acuracy", mode=mode), logs)
    with pytest.raises(ValueError, match=r"monitor='losss'\. Did you mean 'loss'"):
        drive(EarlyStopping("losss", mode=mode), logs)
    with pytest.raises(ValueError, match="monitor='val_lost'"):
        drive(EarlyStopping(["val_loss", "val_lost"], mode=mode), logs)


def test_a_misspelt_monitor_waits_for_the_first_validation() -> None:
    logs = [{"loss": 1.0}, {"loss": 1.0, "val_loss": 1.0}]
    stopper = EarlyStopping("val_lss", mode="min")
    stopper.set_model(Scripted())
    stopper.on_train_begin()
    stopper.on_epoch_end(0, logs[0])
    with pytest.raises(ValueError, match="Did you mean 'val_loss'"):
        stopper.on_epoch_end(1, logs[1])


def test_no_validation_is_an_error_at_the_end() -> None:
    stopper = EarlyStopping(patience=3)
    with pytest.raises(ValueError, match=r"no epoch of this fit had validation\. Pass"):
        drive(stopper, [{"loss": 1.0}] * 4)
    report = stopper.report()
    assert (report.condition, report.notes) == ("finished", ())


def test_no_validation_yet_is_a_warning_when_something_else_stopped() -> None:
    # validation_freq=10, and another callback ends the fit in epoch 2
    stopper = EarlyStopping(patience=3)
    stopper.set_model(Scripted())
    stopper.on_train_begin()
    stopper.on_epoch_end(0, {"loss": 1.0})
    stopper.model.stop_training = True
    with pytest.warns(UserWarning, match="no epoch of this fit had validation"):
        stopper.on_train_end()
    assert stopper.report().condition == "other"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val_loss", "less"),
        ("val_b_loss", "less"),  # row 14: Keras raises, after a whole epoch
        ("val_b_accuracy", "greater"),
        ("val_f1_score", "greater"),
        ("gap_loss", "less"),
        ("train_loss", "less"),
    ],
)
def test_the_direction_comes_from_the_name(name: str, expected: str) -> None:
    stopper = EarlyStopping(name, patience=1)
    assert drive(stopper, [{"val_loss": 1.0, name: 1.0}]) == 1
    assert stopper.monitor_op is getattr(keras.ops, expected)


def test_the_direction_of_the_loss_is_known_before_the_first_epoch() -> None:
    stopper = EarlyStopping(["val_loss", "val_b_accuracy"])
    stopper.on_train_begin()
    assert stopper.monitor_op is keras.ops.less
    contrary = EarlyStopping(stopping_threshold=0.9, divergence_threshold=0.5)
    with pytest.raises(ValueError, match="`divergence_threshold` must be above"):
        contrary.on_train_begin()


class Accuracy(keras.metrics.Mean):
    """A metric whose name says the contrary of its direction."""

    _direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().update_state(y_pred)


@pytest.mark.parametrize(
    ("metric", "name"),
    [(keras.losses.dice, "dice"), (Accuracy(name="my_accuracy"), "my_accuracy")],
    ids=["dice", "my_accuracy"],
)
def test_the_direction_is_that_of_the_metric_where_keras_knows_it(
    metric: Any, name: str
) -> None:
    # on TensorFlow a new model has no metric objects when the fit begins
    x = np.ones((8, 2))
    operators = []
    for kind in (keras.callbacks.EarlyStopping, EarlyStopping):
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=[metric])
        stopper = kind(name, patience=9)
        model.fit(x, x[:, :1], epochs=1, verbose=0, callbacks=[stopper])
        operators.append(stopper.monitor_op)
    assert operators == [keras.ops.less] * 2


NAN = float("nan")


@pytest.mark.parametrize("name", ["gap_loss", "train_loss"])
def test_epochs_that_were_not_measured_do_not_count(name: str) -> None:
    # OverfitMonitor(every=2): epochs 2, 4, ... hold 0.4, 0.3 and 0.3, 0.3
    curve = [NAN, 0.4, NAN, 0.3, NAN, 0.3, NAN, 0.3, NAN, 0.1]
    stopper = EarlyStopping(name, patience=2, restore_best_weights=True)
    assert drive(stopper, table(loss=curve, **{name: curve})) == 8
    assert (stopper.best, stopper.best_epoch, stopper.wait) == (0.3, 3, 2)
    assert stopper.report().notes == ()
    assert stopper.model.epoch == 3


def test_a_gap_that_is_infinite_is_not_finite() -> None:
    stopper = EarlyStopping("gap_loss", patience=9)
    with pytest.warns(UserWarning, match="`gap_loss` is inf in epoch 2"):
        drive(stopper, table(gap_loss=[0.5, float("inf"), 0.4]))
    assert stopper.wait == 0


def test_a_metric_beside_one_that_was_not_measured_counts() -> None:
    stopper = EarlyStopping(["val_loss", "gap_loss"], patience=3, combine="any")
    logs = table(val_loss=[1.0] * 9, gap_loss=[NAN] * 9)
    assert drive(stopper, logs) == 3 + 1


def test_an_unknown_direction_is_an_error_that_says_what_to_pass() -> None:
    stopper = EarlyStopping("val_quality")
    with pytest.raises(ValueError, match=r"monitor='val_quality'.* mode='max' for a"):
        drive(stopper, table(val_quality=[1.0]))
    assert (
        drive(EarlyStopping("val_quality", mode="max"), table(val_quality=[1.0])) == 1
    )


def test_thresholds_that_contradict_the_direction() -> None:
    arguments = {"stopping_threshold": 0.9, "divergence_threshold": 0.95}
    expected = r"`divergence_threshold` must be below `stopping_threshold` \(0.9\)"
    with pytest.raises(ValueError, match=expected):
        EarlyStopping("val_acc", mode="max", **arguments)
    stopper = EarlyStopping("val_acc", **arguments)
    with pytest.raises(ValueError, match=expected):
        drive(stopper, table(val_acc=[0.5]))
    expected = r"`divergence_threshold` must be above `stopping_threshold` \(0.9\)"
    with pytest.raises(ValueError, match=expected):
        EarlyStopping(mode="min", stopping_threshold=0.9, divergence_threshold=0.9 / 2)


def test_epochs_below_the_target_sparsity_neither_count_nor_become_best() -> None:
    logs = table(
        val_loss=[0.1, 0.2, 0.3, 0.4, 0.9, 0.8, 0.85, 0.86],
        sparsity=[0.0, 0.3, 0.5, 0.7, 0.9, 0.9, 0.9, 0.9],
        sparsity_target=[0.9] * 8,
    )
    stopper = EarlyStopping(patience=2, restore_best_weights=True)
    assert drive(stopper, logs) == 8
    assert (stopper.best, stopper.best_epoch, stopper.model.epoch) == (0.8, 5, 5)
    assert drive(EarlyStopping(patience=2, start_when=None), logs) == 3


def test_rounded_sparsity_is_at_its_target_and_a_ramp_is_not() -> None:
    at = table(
        val_loss=[1.0, 1.0], sparsity=[0.9 - 1e-8] * 2, sparsity_target=[0.9] * 2
    )
    assert drive(EarlyStopping(patience=1), at) == 2
    ramp = table(val_loss=[1.0, 1.0], sparsity=[0.899] * 2, sparsity_target=[0.9] * 2)
    assert drive(EarlyStopping(patience=1), ramp) == 2
    stopper = EarlyStopping(patience=1, restore_best_weights=True)
    with pytest.warns(UserWarning, match="while `sparsity` is below `sparsity_target`"):
        drive(stopper, ramp)
    assert stopper.best is None


def test_what_was_best_before_the_ramp_is_forgotten() -> None:
    dense = table(val_loss=[0.1, 0.2])
    ramp = table(val_loss=[0.3, 0.4], sparsity=[0.4, 0.7], sparsity_target=[0.8] * 2)
    after = table(
        val_loss=[0.6, 0.5, 0.7], sparsity=[0.8] * 3, sparsity_target=[0.8] * 3
    )
    stopper = EarlyStopping(patience=2, smoothing=0.5, restore_best_weights=True)
    drive(stopper, dense + ramp + after)
    # smoothed from 0.6 on: (0.25 * 0.6 + 0.5 * 0.5) / 0.75 = 0.5333
    assert stopper.best == pytest.approx(0.4 / 0.75, rel=1e-12)
    assert stopper.model.epoch == 5
    # also when the fit ends within the ramp
    with pytest.warns(UserWarning, match=r"No best weights were restored\."):
        drive(stopper, dense + ramp)
    assert (stopper.best, stopper.best_weights) == (None, None)


def test_a_pruner_later_in_the_list_is_seen_by_its_attributes() -> None:
    class Pruner(keras.callbacks.Callback):
        sparsity_, sparsity_target_ = 0.0, 0.5

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.sparsity_ = min(0.5, self.sparsity_ + 0.25)  # after this epoch

    stopper = EarlyStopping("loss", patience=99, restore_best_weights=True)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 2))
    model.fit(x, x[:, :1], epochs=4, verbose=0, callbacks=[stopper, Pruner()])
    # sparsity in epochs 1 to 4, as EarlyStopping finds it: 0, 0.25, 0.5, 0.5
    assert stopper.report().values["loss"]["wait"] == 0
    assert stopper.best_epoch in (2, 3)
    assert len(stopper.run_["metrics"][0]["train"]) == 0


def test_a_callable_starts_the_count_once() -> None:
    asked = []

    def good_enough(logs: Any) -> bool:
        asked.append(logs["val_loss"])
        return bool(logs["val_loss"] < 0.5)

    stopper = EarlyStopping(patience=2, start_when=good_enough)
    curve = [9.0, 0.8, 0.4, 0.7, 0.6]
    assert drive(stopper, table(val_loss=curve)) == 5
    assert asked == [9.0, 0.8, 0.4]
    assert (stopper.best, stopper.best_epoch) == (0.4, 2)
    never = EarlyStopping(start_when=lambda logs: False)
    drive(never, table(val_loss=curve))
    assert (
        "No epoch counts, because `start_when` was never true." in never.report().notes
    )


def trained(callbacks: Any, **arguments: Any) -> Any:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((8, 2)), np.ones((8, 1))
    return model.fit(x, y, verbose=0, callbacks=callbacks, **arguments)


def test_a_fit_that_validates_nothing_is_warned_of_before_it_runs() -> None:
    text = "validates nothing, and EarlyStopping monitors 'val_loss'"
    with (
        warns_once(UserWarning, match=text),
        pytest.raises(ValueError, match="Received: monitor='val_loss', but no epoch"),
    ):
        trained([EarlyStopping(patience=3)])
    trained([EarlyStopping("loss", patience=3)])


def test_a_callback_that_validates_by_itself_is_no_reason_to_warn() -> None:
    def write(epoch: int, logs: Any) -> None:
        logs["val_loss"] = 1.0

    writer = keras.callbacks.LambdaCallback(on_epoch_end=write)
    trained([writer, EarlyStopping(patience=3)])


def test_a_metric_of_a_monitor_that_stands_later_is_an_error_that_says_so() -> None:
    monitor = OverfitMonitor(verbose=0)
    stopper = EarlyStopping("gap_loss", patience=3)
    data = {"validation_data": (np.ones((8, 2)), np.ones((8, 1)))}
    with pytest.raises(ValueError, match=r"stands later in the list.*Put it first"):
        trained([stopper, monitor], **data)
    trained([monitor, stopper], **data)


def test_a_metric_that_no_monitor_writes_names_the_callback_that_would() -> None:
    stopper = EarlyStopping("gap_loss")
    with pytest.raises(ValueError, match=r"which kf\.OverfitMonitor\(\) writes"):
        drive(stopper, [{"loss": 1.0, "val_loss": 1.0}])
    stopper = EarlyStopping("train_mae")
    with pytest.raises(ValueError, match=r"which kf\.OverfitMonitor\('mae'\) writes"):
        drive(stopper, [{"mae": 1.0}])


def test_one_epoch_is_no_plural_and_a_rule_is_called_by_its_name() -> None:
    stopper = EarlyStopping(patience=1)
    drive(stopper, table(val_loss=FLAT))
    assert "for 1 epoch (patience=1)" in stopper.report().why

    def at_third(train: Any, validation: Any) -> bool:
        return len(validation) == 3

    stopper = EarlyStopping(criterion=at_third)
    drive(stopper, table(val_loss=FLAT, loss=FLAT))
    assert "flagged by at_third;" in stopper.report().why
