"""`diagnose`: the same verdict from whatever a finished run left behind."""

import json

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.monitoring.curves import RUNNING_MEAN, half_epoch
from keras_fitkit.monitoring.sources import LOGGED

EPOCHS = np.arange(60.0)
TRAIN = np.exp(-EPOCHS / 8)
WORSE = 0.3 + 0.7 * np.exp(-EPOCHS / 4) + 0.02 * np.maximum(EPOCHS - 15, 0)
LOSSES = {"loss": TRAIN.tolist(), "val_loss": WORSE.tolist()}


def history(columns):
    """A History as `fit` leaves it."""
    callback = keras.callbacks.History()
    callback.set_model(keras.Sequential([keras.layers.Dense(1)]))
    callback.on_train_begin()
    count = max(map(len, columns.values()))
    for epoch in range(count):
        logs = {name: v[epoch] for name, v in columns.items() if epoch < len(v)}
        callback.on_epoch_end(epoch, logs)
    return callback


def csv(path, columns, separator=",", append=False):
    """A file as CSVLogger writes it, by CSVLogger."""
    logger = keras.callbacks.CSVLogger(path, separator=separator, append=append)
    model = keras.Sequential([keras.layers.Dense(1)])
    logger.set_model(model)
    logger.on_train_begin()
    for epoch, row in enumerate(zip(*columns.values(), strict=True)):
        logs = {k: v for k, v in zip(columns, row, strict=True) if v is not None}
        logger.on_epoch_end(epoch, logs)
    logger.on_train_end()
    return path


def test_history_dict_and_csv_give_the_same_verdict(tmp_path):
    verdicts = [
        kf.diagnose(LOSSES),
        kf.diagnose(history(LOSSES)),
        kf.diagnose(csv(tmp_path / "a.csv", LOSSES)),
        kf.diagnose(str(csv(tmp_path / "b.csv", LOSSES, separator=";"))),
    ]
    first = verdicts[0].to_dict()
    assert first["state"] == "overfitting"
    for verdict in verdicts[1:]:
        assert json.dumps(verdict.to_dict()) == json.dumps(first)


def test_the_running_mean_is_shifted_and_the_report_says_so():
    verdict = kf.diagnose(LOSSES)
    assert verdict.train_source == RUNNING_MEAN
    np.testing.assert_allclose(verdict.curves.train, half_epoch(TRAIN))
    np.testing.assert_array_equal(verdict.curves.keras_train, TRAIN)


def test_the_monitors_own_column_is_used_as_it_is():
    verdict = kf.diagnose({**LOSSES, "train_loss": (TRAIN / 2).tolist()})
    assert verdict.train_source == LOGGED
    np.testing.assert_array_equal(verdict.curves.train, TRAIN / 2)


def test_a_run_that_was_watched_gives_the_monitors_verdict():
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(4)
    x, xv = rng.normal(size=(2, 40, 12)).astype("float32")
    y, yv = rng.integers(0, 2, (2, 40))
    model = keras.Sequential(
        [keras.layers.Dense(64, "relu"), keras.layers.Dense(1, "sigmoid")]
    )
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
    monitor = kf.OverfitMonitor(verbose=0, action=lambda verdict: None)
    fit = model.fit(
        x, y, validation_data=(xv, yv), epochs=15, verbose=0, callbacks=[monitor]
    )
    online, after = monitor.report(), kf.diagnose(fit)
    assert online.state == after.state == "overfitting"
    assert online.since_epoch == after.since_epoch


def test_validation_freq_is_seen_from_the_lengths():
    thin = {"loss": TRAIN.tolist(), "val_loss": WORSE[1::2].tolist()}
    verdict = kf.diagnose(history(thin))
    finite = np.isfinite(verdict.curves.validation)
    np.testing.assert_array_equal(np.flatnonzero(finite), np.arange(1, 60, 2))
    assert verdict.state == "overfitting"


def test_lengths_that_fit_no_validation_freq_are_an_error():
    with pytest.raises(
        ValueError, match=r"one value an epoch \(60\).*'val_loss' has 59"
    ):
        kf.diagnose({"loss": TRAIN.tolist(), "val_loss": WORSE[1:].tolist()})


def test_csv_with_epochs_that_were_not_validated(tmp_path):
    gaps = [value if epoch % 2 else None for epoch, value in enumerate(WORSE)]
    rows = {"loss": TRAIN, "val_loss": gaps}
    path = tmp_path / "log.csv"
    text = ["epoch,loss,val_loss"]
    for epoch in range(60):
        value = "NA" if rows["val_loss"][epoch] is None else rows["val_loss"][epoch]
        text.append(f"{epoch},{TRAIN[epoch]},{value}")
    path.write_text("\n".join(text))
    assert kf.diagnose(path).state == "overfitting"


def test_of_a_file_with_two_runs_the_last_one_counts(tmp_path):
    path = tmp_path / "log.csv"
    csv(path, LOSSES)
    falling = {"loss": TRAIN[:20], "val_loss": TRAIN[:20] + 0.01}
    csv(path, falling, append=True)
    verdict = kf.diagnose(path)
    assert verdict.evidence["epochs"] == 20
    assert verdict.notes[0] == "the file holds several runs; rows 61 and later count"


def test_columns_that_are_no_numbers_are_left_out(tmp_path):
    columns = {**LOSSES, "f1": [np.array([0.1, 0.2])] * 60}
    assert kf.diagnose(csv(tmp_path / "log.csv", columns)).state == "overfitting"
    assert kf.diagnose(columns).state == "overfitting"


def test_a_sparsity_ramp_is_left_out():
    ramp = {
        **LOSSES,
        "sparsity": np.minimum(EPOCHS / 50, 0.9).tolist(),
        "sparsity_target": [0.9] * 60,
    }
    verdict = kf.diagnose(ramp)
    assert verdict.evidence["epochs"] == 60 - 45


def test_a_score_needs_no_mode_when_its_name_tells():
    scores = {
        "accuracy": (1 - TRAIN).tolist(),
        "val_accuracy": (1 - WORSE / 2).tolist(),
    }
    assert kf.diagnose(scores, monitor="accuracy").curves.mode == "max"


def test_no_validation_column_is_unknown():
    verdict = kf.diagnose({"loss": TRAIN.tolist()})
    assert verdict.state == "unknown"
    assert "there is no finite val_loss" in verdict.summary


def test_an_empty_history_is_no_source():
    with pytest.raises(ValueError, match="`source` must be the record of a run"):
        kf.diagnose({})


def test_a_column_that_is_needed_and_holds_no_numbers_is_named():
    text = "`source` must be a dict of lists, one number an epoch.*{'loss': "
    with pytest.raises(ValueError, match=text):
        kf.diagnose({**LOSSES, "loss": ["a", "b"]})


@pytest.mark.parametrize("name", ["los", "va_loss", "acc"])
def test_an_unknown_metric_suggests_none_of_validation_and_gives_no_fit_advice(name):
    with pytest.raises(ValueError, match="in the columns of `source`: 'loss'") as info:
        kf.diagnose({**LOSSES, "train_loss": [1.0] * 60}, monitor=name)
    said = str(info.value)
    assert not any(text in said for text in ("val_loss", "train_loss", "ompile"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "its first column is not 'epoch'"),
        ("a,b\n1,2\n", "its first column is not 'epoch'"),
        ("epoch,loss\n", "it holds no epoch"),
        ("epoch,loss\n0,1,2\n", "more or fewer values than the header"),
        ("epoch,loss\n0\n", "more or fewer values than the header"),
        ("epoch,loss\nx,1\n", "an epoch is not a whole number"),
    ],
)
def test_a_file_that_is_no_csv_logger_file_is_told_why(tmp_path, text, why):
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=f"written by keras.callbacks.CSVLogger.*{why}"
    ):
        kf.diagnose(path)


def test_a_binary_file_and_a_folder_are_no_csv_logger_file(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="it is not a text file"):
        kf.diagnose(path)
    with pytest.raises(ValueError, match="a file, not a folder"):
        kf.diagnose(tmp_path)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="`source` must be a file that exists"):
        kf.diagnose("no_such_file.csv")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"source": 3}, TypeError, "`source` must be a History, a dict of lists"),
        ({"monitor": "val_loss"}, ValueError, "without 'val_'"),
        ({"monitor": "los"}, ValueError, "Did you mean 'loss'"),
        ({"mode": "mx"}, ValueError, "Did you mean 'max'"),
        ({"rule": "gll"}, ValueError, "Did you mean 'gl'"),
    ],
)
def test_bad_arguments_are_named(arguments, error, text):
    with pytest.raises(error, match=text):
        kf.diagnose(**{"source": LOSSES, **arguments})


def test_plot_draws_every_curve_and_writes_the_file(tmp_path):
    verdict = kf.diagnose({**LOSSES, "train_loss": (TRAIN / 2).tolist()})
    path = tmp_path / "gap.png"
    figure = verdict.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [item.name for item in tmp_path.iterdir()] == ["gap.png"]
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == [
        "training, as Keras shows it",
        "training, inference mode",
        "validation",
        "validation noise (1 sd)",
        "best epoch",
        "flagged",
    ]
    drawn = figure.axes[1].get_lines()[-1].get_ydata()
    np.testing.assert_allclose(drawn, WORSE - TRAIN / 2)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_plot_of_hardly_any_epoch_is_no_error(count):
    short = {name: values[:count] for name, values in LOSSES.items()}
    kf.diagnose(short).plot()


def test_plot_to_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ValueError, match="Make the folder first"):
        kf.diagnose(LOSSES).plot(tmp_path / "no" / "gap.png")


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"keras-fitkit\[plot\]"):
        kf.diagnose(LOSSES).plot()


def test_a_column_that_the_monitor_estimated_is_not_called_measured():
    columns = {**LOSSES, "train_loss": (TRAIN / 2).tolist()}
    estimated = kf.diagnose({**columns, "train_loss_estimated": [1.0] * 60})
    assert not estimated.curves.honest
    assert estimated.train_source == RUNNING_MEAN
    np.testing.assert_allclose(estimated.curves.train, half_epoch(TRAIN))
    measured = kf.diagnose({**columns, "train_loss_estimated": [0.0] * 60})
    assert measured.curves.honest


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"epoch,loss\n0,{'1' * 200_000}\n", "it cannot be parsed"),
        (f"epoch,loss\n{'9' * 30},1\n", "an epoch is not a whole number"),
    ],
)
def test_a_file_beyond_what_csv_or_numpy_hold_is_no_csv_logger_file(
    tmp_path, text, why
):
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=f"written by keras.callbacks.CSVLogger.*{why}"
    ):
        kf.diagnose(path)


@pytest.mark.parametrize("end", ["60", "60,0.1", "60,0.1,", "60,0.1,2.3e-", "60,0.1\n"])
def test_the_half_written_last_row_of_a_killed_run_is_left_out(tmp_path, end):
    path = csv(tmp_path / "log.csv", LOSSES)
    whole = kf.diagnose(path)
    with path.open("a") as file:
        file.write(end)
    verdict = kf.diagnose(path)
    assert verdict.evidence == whole.evidence
    assert verdict.notes == ("the file's last row is unfinished and left out",)


def test_a_column_that_the_verdict_does_not_need_may_have_any_length():
    more = {**LOSSES, "batch_loss": [1.0] * 1000, "val_mae": [1.0], "run": "abc"}
    for source in (more, history(LOSSES)):
        if source is not more:
            source.history.update(more)
        assert kf.diagnose(source).evidence["epochs"] == 60


@pytest.mark.parametrize("column", ["123", b"123", 3.0, None])
def test_a_column_that_is_no_list_is_named(column):
    text = "`source` must be a dict of lists, one number an epoch.*{'loss'"
    with pytest.raises(TypeError, match=text):
        kf.diagnose({"loss": column})


def penalized(every=1, **arguments):
    """A fit with a penalty that falls from epoch to epoch, and its monitor."""
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(4)
    x, xv = rng.normal(size=(2, 40, 12)).astype("float32")
    y, yv = rng.integers(0, 2, (2, 40))
    layer = keras.layers.Dense(
        64, "relu", kernel_regularizer=keras.regularizers.L2(0.02)
    )
    model = keras.Sequential([layer, keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
    monitor = kf.OverfitMonitor(
        verbose=0, every=every, action=lambda verdict: None, **arguments
    )
    fit = model.fit(
        x, y, validation_data=(xv, yv), epochs=15, verbose=0, callbacks=[monitor]
    )
    return monitor, fit


@pytest.mark.parametrize("given", ["auto", None])
def test_a_run_with_a_weight_penalty_gives_the_monitors_verdict(given):
    monitor, fit = penalized(train_data=given)
    online, after = monitor.report(), kf.diagnose(fit)
    penalty = np.array(fit.history["val_loss"]) - online.curves.validation
    assert penalty[0] > 0.3  # no small part of val_loss
    np.testing.assert_allclose(after.curves.validation, online.curves.validation)
    np.testing.assert_allclose(after.curves.train, online.curves.train, rtol=1e-5)
    assert after.state == online.state
    assert after.since_epoch == online.since_epoch
    flagged = online.evidence.get("flagged_epoch")
    assert after.evidence.get("flagged_epoch") == flagged


def test_epochs_that_the_monitor_skipped_get_the_penalty_of_their_neighbours():
    monitor, fit = penalized(every=3)
    after = kf.diagnose(fit).curves.validation
    watched = monitor.report().curves.validation
    np.testing.assert_allclose(after[::3], watched[::3])
    np.testing.assert_allclose(after[:13], watched[:13], atol=0.2)


def test_validation_of_a_score_is_training_minus_the_gap():
    columns = {
        "auc": (1 - TRAIN).tolist(),
        "val_auc": (1 - WORSE / 3).tolist(),
        "train_auc": (1 - TRAIN).tolist(),
        "gap_auc": (WORSE / 3 - TRAIN).tolist(),
    }
    curves = kf.diagnose(columns, monitor="auc").curves
    np.testing.assert_allclose(curves.validation, 1 - WORSE / 3)


def test_a_history_whose_model_is_known_gives_advice_on_its_learning_rate():
    monitor, fit = penalized()
    assert kf.diagnose(fit).curves.optimizer == ("Adam", pytest.approx(0.02))
    assert kf.diagnose(fit.history).curves.optimizer is None
    assert monitor.report().curves.optimizer == ("Adam", pytest.approx(0.02))


def test_what_a_history_does_not_hold_is_said_where_it_matters():
    falling = [1.0 / (epoch + 1) for epoch in range(12)]
    verdict = kf.diagnose({"loss": falling, "val_loss": falling})
    assert "underfitting cannot be told here" in verdict.notes[0]
    assert "a finished run does not record it" in verdict.notes[0]
    assert kf.diagnose(LOSSES).notes == ()  # it overfits, whatever the constant


def test_a_loss_over_more_than_two_decades_gets_a_log_axis():
    assert kf.diagnose(LOSSES).plot().axes[0].get_yscale() == "log"
    flat = {"loss": WORSE.tolist(), "val_loss": WORSE.tolist()}
    assert kf.diagnose(flat).plot().axes[0].get_yscale() == "linear"
