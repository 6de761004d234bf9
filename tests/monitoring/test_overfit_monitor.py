"""OverfitMonitor: honest numbers, no trace in the training, the right verdict."""

import inspect
import math
import random
import warnings

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit.monitoring.curves import RUNNING_MEAN
from tests.tools import traced_once, warns_once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype("float32")
Y = (X[:, :1] * X[:, 1:2] > 0).astype("float32")
XV = RNG.normal(size=(40, 6)).astype("float32")
YV = (XV[:, :1] * XV[:, 1:2] > 0).astype("float32")


@traced_once
def build(l2=0.0, optimizer="sgd", noise=True, metrics=("accuracy",), **compile_args):
    keras.utils.set_random_seed(11)
    layers = [keras.Input((6,))]
    layers += [keras.layers.GaussianNoise(0.2)] if noise else []
    layers += [
        keras.layers.Dense(16, "relu", kernel_regularizer=keras.regularizers.L2(l2)),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.4),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=list(metrics), **compile_args)
    return model


def fit(model, callbacks, epochs=4, data=(X, Y), **arguments):
    arguments.setdefault("validation_data", (XV, YV))
    x, y = data if isinstance(data, tuple) else (data, None)
    return model.fit(
        x, y, epochs=epochs, batch_size=16, verbose=0, callbacks=callbacks, **arguments
    ).history


def quiet(**arguments):
    return kf.OverfitMonitor(**{"verbose": 0, **arguments})


class Batches(keras.utils.PyDataset):
    """Batches drawn with generators that the data set owns and NumPy's global one."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(5)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        shift = self.rng.normal() + np.random.normal()
        return X[rows] + np.float32(0.01 * shift), Y[rows]


def global_states():
    torch = inspect.sys.modules.get("torch")
    state = random.getstate(), str(np.random.get_state())
    return (*state, torch.get_rng_state().tolist()) if torch else state


@pytest.mark.parametrize(
    "kind", ["arrays", "validation_split", "pydataset", "explicit"]
)
def test_training_is_the_same_to_the_bit_with_and_without(kind):
    def run(callbacks):
        more = {}
        data = Batches() if kind == "pydataset" else (X, Y)
        if kind == "validation_split":
            more = {"validation_data": None, "validation_split": 0.25}
        model = build(l2=1e-3)
        history = fit(model, callbacks, data=data, **more)
        values = [keras.ops.convert_to_numpy(v) for v in model.variables]
        return history, values, global_states()

    monitor = quiet(sample=20, train_data=(XV, YV) if kind == "explicit" else "auto")
    plain, watched = run([]), run([monitor])
    assert set(watched[0]) - set(plain[0]) == {"train_loss", "gap_loss"}
    assert monitor.report().curves.honest
    for name, values in plain[0].items():
        assert watched[0][name] == values, name
    for first, second in zip(plain[1], watched[1], strict=True):
        np.testing.assert_array_equal(first, second)
    assert plain[2] == watched[2]


def test_values_are_those_of_evaluate_without_the_penalty():
    model = build(l2=0.05)
    monitor = quiet()
    seen = []

    class Oracle(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logits = keras.ops.convert_to_numpy(self.model(X, training=False))
            clean = np.mean(np.log1p(np.exp(-logits * (2 * Y - 1))))
            kernel = keras.ops.convert_to_numpy(self.model.layers[1].kernel)
            penalty = 0.05 * (kernel**2).sum()
            seen.append((clean, logs["val_loss"] - penalty - clean, penalty))

    history = fit(model, [monitor, Oracle()])
    clean, gap, penalty = np.transpose(seen)
    assert penalty.min() > 0.3  # The penalty is no small part of val_loss here.
    np.testing.assert_allclose(history["train_loss"], clean, rtol=1e-4)
    np.testing.assert_allclose(history["gap_loss"], gap, atol=1e-4)


def test_gap_of_a_score_is_positive_when_validation_is_worse():
    history = fit(build(), [quiet(monitor="accuracy")])
    expected = np.array(history["train_accuracy"]) - np.array(history["val_accuracy"])
    np.testing.assert_allclose(history["gap_accuracy"], expected, atol=1e-6)


def test_keras_would_show_another_gap():
    history = fit(build(), [quiet()], epochs=8)
    keras_gap = np.array(history["val_loss"]) - np.array(history["loss"])
    # Dropout and noise make the running mean worse than the model is.
    assert np.mean(np.array(history["gap_loss"]) - keras_gap) > 0.02


def test_every_measures_every_second_epoch():
    monitor = quiet(every=2)
    history = fit(build(), [monitor], epochs=5)
    measured = [math.isfinite(value) for value in history["train_loss"]]
    assert measured == [True, False, True, False, True]
    assert monitor.report().evidence["reason"].startswith("only 3 epochs")


@pytest.mark.parametrize("swap_on_epoch", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_with_swapped_ema_weights_it_measures_what_validation_used(
    swap_on_epoch, first
):
    model = build(optimizer=keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.9))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
    monitor = quiet(train_data=(XV, YV))  # the validation data itself: the gap is 0
    history = fit(model, [monitor, swap] if first else [swap, monitor])
    np.testing.assert_allclose(history["gap_loss"], 0.0, atol=1e-5)


def test_training_with_swapped_ema_weights_is_unchanged_too():
    def run(more):
        model = build(optimizer=keras.optimizers.Adam(0.02, use_ema=True))
        fit(model, [*more, keras.callbacks.SwapEMAWeights(swap_on_epoch=True)])
        return [keras.ops.convert_to_numpy(v) for v in model.weights]

    for first, second in zip(run([]), run([quiet()]), strict=True):
        # The TensorFlow swap adds and subtracts, which rounds.
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_weights_follow_validation_data():
    weights = np.linspace(0.1, 3.0, len(X)).astype("float32")
    unweighted = fit(build(), [quiet()], sample_weight=weights)
    data = {"validation_data": (XV, YV, np.ones(len(XV)))}
    weighted = fit(build(), [quiet()], sample_weight=weights, **data)
    plain = fit(build(), [quiet(train_data=(X, Y))], sample_weight=weights)
    np.testing.assert_allclose(unweighted["train_loss"], plain["train_loss"], rtol=1e-5)
    assert abs(weighted["train_loss"][-1] - plain["train_loss"][-1]) > 1e-4


class Weighted(Batches):
    """Batches with sample weights, without augmentation."""

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        return X[rows], Y[rows], np.full(16, 10.0)


def test_weights_of_a_pydataset_are_left_out_where_validation_has_none():
    history = fit(build(), [quiet()], data=Weighted(), validation_data=(X, Y))
    np.testing.assert_allclose(history["gap_loss"], 0.0, atol=1e-5)


@pytest.mark.tensorflow_only
def test_tf_data_is_not_read_again_and_this_is_said():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    monitor = quiet()
    with warns_once(UserWarning, match="cannot measure the training data: fit was"):
        history = fit(build(), [monitor], data=data, epochs=2)
    assert monitor.report().train_source == RUNNING_MEAN
    assert history["train_loss"][0] == pytest.approx(history["loss"][0])


@pytest.mark.tensorflow_only
def test_a_tf_data_set_of_its_own_is_measured():
    tf = pytest.importorskip("tensorflow")

    def run(callbacks):
        keras.utils.set_random_seed(2)
        data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(48).batch(16)
        return fit(build(), callbacks, data=data)

    own = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    monitor = quiet(train_data=own)
    plain, watched = run([]), run([monitor])
    assert watched["loss"] == plain["loss"]
    assert "first rows of the tf.data.Dataset" in monitor.report().train_source


@pytest.mark.tensorflow_only
def test_reading_the_data_set_that_is_trained_on_is_said():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    with warns_once(UserWarning, match="this moved its random order"):
        fit(build(), [quiet(train_data=data)], data=data, epochs=1)


def test_a_generator_falls_back_to_the_running_mean():
    def batches():
        while True:
            yield X[:16], Y[:16]

    monitor = quiet()
    with warns_once(UserWarning, match="fit was given a generator"):
        fit(build(), [monitor], data=batches(), epochs=2, steps_per_epoch=3)
    assert not monitor.report().curves.honest


def test_train_data_none_uses_the_running_mean_without_a_word():
    monitor = quiet(train_data=None)
    history = fit(build(), [monitor])
    first, second = history["loss"][:2]
    # Online there is no next epoch yet: half of the last ratio.
    assert history["train_loss"][1] == pytest.approx(second * math.sqrt(second / first))
    assert monitor.report().train_source == RUNNING_MEAN


def test_without_validation_it_says_so_at_once_and_the_verdict_is_unknown():
    monitor = quiet()
    with warns_once(UserWarning, match="without validation data"):
        history = fit(build(), [monitor], validation_data=None)
    assert all(map(math.isnan, history["gap_loss"]))
    assert monitor.report().state == "unknown"
    assert "validation_data" in monitor.report().summary


def test_validation_freq_leaves_gaps_that_are_not_judged():
    monitor = quiet()
    history = fit(build(), [monitor], epochs=5, validation_freq=2)
    assert [math.isnan(v) for v in history["gap_loss"]] == [True, False] * 2 + [True]
    assert "only 2 epochs" in monitor.report().summary


def test_a_metric_that_is_not_there_is_named_in_the_first_epoch():
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        fit(build(), [quiet(monitor="acuracy")])


def scripted(train, validation, **arguments):
    """Runs the hooks by hand; the logs are the curves."""
    monitor = quiet(train_data=None, **arguments)
    model = build(fresh=True)
    monitor.set_model(model)
    monitor.set_params({"epochs": len(train)})
    monitor.on_train_begin()
    rows = []
    for epoch, (first, second) in enumerate(zip(train, validation, strict=True)):
        rows.append({"loss": first, "val_loss": second})
        monitor.on_epoch_end(epoch, rows[-1])
        if model.stop_training:
            break
    monitor.on_train_end()
    return monitor, rows, model


EPOCHS = np.arange(60.0)
TRAIN = np.exp(-EPOCHS / 8)
WORSE = 0.3 + 0.7 * np.exp(-EPOCHS / 4) + 0.02 * np.maximum(EPOCHS - 15, 0)


def test_it_warns_once_when_it_flags():
    with warns_once(
        kf.OverfittingWarning, match="Epoch [0-9]+: loss overfits"
    ) as caught:
        monitor, _, _ = scripted(TRAIN, WORSE)
    texts = [str(item.message) for item in caught]
    assert any(f"Epoch {monitor.flagged_epoch_ + 1}:" in text for text in texts)
    assert monitor.report().state == "overfitting"
    assert abs(monitor.report().since_epoch - 15) <= 1


def test_a_run_that_ended_early_is_flagged_at_its_end():
    """100 epochs planned: the strict rule needs more than the 22 that ran."""
    monitor = quiet(train_data=None)
    monitor.set_model(build(fresh=True))
    monitor.set_params({"epochs": 100})
    monitor.on_train_begin()
    for epoch in range(22):
        monitor.on_epoch_end(epoch, {"loss": TRAIN[epoch], "val_loss": WORSE[epoch]})
    assert monitor.flagged_epoch_ is None
    with warns_once(kf.OverfittingWarning, match="Epoch 22: loss overfits"):
        monitor.on_train_end()
    assert monitor.report().state == "overfitting"


def test_a_flag_does_not_stop_by_default():
    with warns_once(kf.OverfittingWarning, match="overfits"):
        _, rows, model = scripted(TRAIN, WORSE)
    assert len(rows) == 60
    assert not model.stop_training


def test_action_stop_ends_the_run_at_the_flag():
    with warns_once(kf.OverfittingWarning, match="Training stops"):
        monitor, rows, _ = scripted(TRAIN, WORSE, action="stop")
    assert len(rows) == monitor.flagged_epoch_ + 1 < 60


def test_action_callable_gets_the_diagnosis_once():
    got = []
    scripted(TRAIN, WORSE, action=got.append)
    assert [verdict.state for verdict in got] == ["overfitting"]


def test_a_rule_of_the_users_own():
    with warns_once(kf.OverfittingWarning, match="overfits"):
        monitor, _, _ = scripted(TRAIN, WORSE, rule=lambda train, val: len(val) == 30)
    assert monitor.flagged_epoch_ == 29


@pytest.mark.parametrize("rule", ["gl", "pq", "up"])
def test_prechelts_rules_flag_too(rule):
    with warns_once(kf.OverfittingWarning, match="overfits"):
        monitor, _, _ = scripted(TRAIN, WORSE, rule=rule)
    assert monitor.flagged_epoch_ > 15


def test_a_sparsity_ramp_is_not_overfitting_and_the_window_starts_after_it():
    monitor = quiet(train_data=None)
    monitor.set_model(build(fresh=True))
    monitor.set_params({"epochs": 60})
    monitor.on_train_begin()
    for epoch in range(60):
        target = {"sparsity": min(epoch / 40, 0.9), "sparsity_target": 0.9}
        logs = {"loss": TRAIN[epoch], "val_loss": WORSE[epoch], **target}
        if epoch >= 40:
            logs["loss"] = logs["val_loss"] = 1.0
        monitor.on_epoch_end(epoch, logs)
    assert monitor.flagged_epoch_ is None
    report = monitor.report()
    assert report.evidence["epochs"] == 60 - 36  # 36 / 40 is the first that reaches 0.9
    assert report.state != "overfitting"


def test_nan_weights_are_found_though_relu_hides_them_from_the_loss():
    model = build(noise=False)
    monitor = quiet()

    class Poison(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                layer = self.model.layers[0]
                layer.kernel.assign(np.full(layer.kernel.shape, np.nan))

    with warns_once(UserWarning, match="Epoch 2: NaN or infinite weights in .*kernel"):
        fit(model, [Poison(), monitor], epochs=3)
    report = monitor.report()
    assert (report.state, report.since_epoch) == ("diverging", 1)
    assert "kernel" in report.evidence["non_finite_weights"]


def test_check_weights_can_be_switched_off():
    model = build(noise=False)
    model.layers[0].kernel.assign(np.full((6, 16), np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, [quiet(check_weights=False)], epochs=1)


def test_verbose_prints_the_lines_and_the_verdict(capsys):
    fit(build(), [quiet(verbose=2)], epochs=2)
    printed = capsys.readouterr().out
    assert "Epoch 1: train_loss" in printed
    assert "OverfitMonitor: loss: unknown" in printed


def test_verbose_0_prints_nothing(capsys):
    fit(build(), [quiet(verbose=0)], epochs=2)
    assert capsys.readouterr().out == ""


def test_it_can_be_used_for_several_fits():
    monitor = quiet()
    fit(build(), [monitor], epochs=3)
    fit(build(), [monitor], epochs=2)
    assert monitor.epochs_ == [0, 1]


def test_it_survives_a_fit_that_raised_and_reports_what_it_saw():
    monitor = quiet()

    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build(fresh=True), [monitor, Break()])
    assert monitor.report().state == "unknown"
    assert len(monitor.epochs_) == 2
    fit(build(), [monitor], epochs=1)
    assert monitor.epochs_ == [0]


def test_state_carried_over_continues_the_run():
    with warns_once(kf.OverfittingWarning, match="overfits"):
        whole, _, _ = scripted(TRAIN, WORSE)
    flagged = []
    first = quiet(train_data=None, action=flagged.append)
    second = quiet(train_data=None, action=flagged.append)
    for monitor, span in ((first, range(20)), (second, range(20, 60))):
        monitor.set_model(build(fresh=True))
        monitor.set_params({"epochs": 60})
        monitor.on_train_begin()
        if monitor is second:
            monitor.set_state(first.get_state())
        for epoch in span:
            logs = {"loss": TRAIN[epoch], "val_loss": WORSE[epoch]}
            monitor.on_epoch_end(epoch, logs)
    assert len(flagged) == 1
    assert second.flagged_epoch_ == whole.flagged_epoch_
    assert second.report().to_dict() == whole.report().to_dict()


def test_it_works_with_one_element_array_metrics():
    model = build(metrics=[keras.metrics.F1Score(threshold=0.5, name="f1")])
    history = fit(model, [quiet(monitor="f1")])
    assert all(0 <= value <= 1 for value in history["train_f1"])


def test_it_works_eagerly_and_with_no_logs():
    monitor = quiet()
    monitor.on_epoch_end(0, None)
    history = fit(build(run_eagerly=True), [monitor], epochs=2)
    assert len(history["gap_loss"]) == 2


@pytest.mark.tensorflow_only
def test_it_works_with_steps_per_execution_and_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build(steps_per_execution=2)
    finally:
        keras.config.set_dtype_policy("float32")
    history = fit(model, [quiet()], epochs=2)
    assert np.isfinite(history["gap_loss"]).all()


def test_it_measures_models_with_dict_inputs_and_two_outputs():
    inputs = {name: keras.Input((6,), name=name) for name in ("a", "b")}
    joined = keras.layers.Concatenate()(list(inputs.values()))
    outputs = {n: keras.layers.Dense(1, name=n)(joined) for n in ("c", "d")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"c": "mse", "d": "mae"}, metrics={"c": ["mae"]})
    monitor = quiet(monitor="c_mae")
    history = model.fit(
        {"a": X, "b": X}, {"c": Y, "d": Y}, validation_split=0.3, epochs=2, verbose=0,
        callbacks=[monitor],
    ).history  # fmt: skip
    assert np.isfinite(history["gap_c_mae"]).all()


class Autoencoder(keras.Model):
    """A model whose loss needs no targets, as in keras.io's own examples."""

    def __init__(self):
        super().__init__()
        self.code = keras.layers.Dense(6)

    def call(self, inputs):
        return self.code(inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
        return keras.ops.mean((x - y_pred) ** 2)


def test_it_measures_models_without_targets():
    model = Autoencoder()
    model.compile("adam")
    monitor = quiet()
    history = model.fit(
        X, validation_data=(XV,), epochs=2, verbose=0, callbacks=[monitor]
    )
    assert np.isfinite(history.history["gap_loss"]).all()
    assert "the data has no targets" in monitor.report().curves.constant_note


def test_a_penalty_under_swapped_weights_is_that_of_the_swapped_weights():
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.8)
    model = build(l2=0.05, optimizer=optimizer)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    monitor = quiet()
    history = fit(model, [swap, monitor])
    # After fit the averages are the weights.
    logits = keras.ops.convert_to_numpy(model(X, training=False))
    clean = np.mean(np.log1p(np.exp(-logits * (2 * Y - 1))))
    assert history["train_loss"][-1] == pytest.approx(clean, rel=1e-4)


def test_no_penalty_is_taken_from_a_loss_that_never_had_one():
    class Own(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
            return keras.ops.mean((y - y_pred) ** 2)

    layer = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(1.0))
    model = Own([keras.Input((6,)), layer])
    model.compile("sgd")
    history = fit(model, [quiet(train_data=(XV, YV))], epochs=1)
    assert history["train_loss"][0] == pytest.approx(history["val_loss"][0], rel=1e-5)


class Ragged(keras.utils.PyDataset):
    """Batches padded to different lengths, as text models get them."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.ones((4, 5 + index)), np.ones((4, 1))


def test_batches_of_different_lengths_fall_back_with_the_reason():
    layers = [
        keras.layers.Reshape((-1, 1)),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    monitor = quiet()
    with warns_once(UserWarning, match="padded to different shapes"):
        model.fit(
            Ragged(),
            validation_data=(np.ones((4, 5)), np.ones((4, 1))),
            epochs=1,
            verbose=0,
            callbacks=[monitor],
        )
    assert not monitor.report().curves.honest


class Stubborn(keras.Sequential):
    """Cannot be evaluated on anything but the validation data of `fit`."""

    def evaluate(self, x=None, *args, **kwargs):
        if len(x) != len(XV):
            raise RuntimeError("wrong number of rows")
        return super().evaluate(x, *args, **kwargs)


def test_a_fit_that_works_without_the_monitor_works_with_it():
    model = Stubborn([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    monitor = quiet(sample=20)
    text = "measuring failed with RuntimeError: wrong number of rows"
    with warns_once(UserWarning, match=text):
        history = fit(model, [monitor], epochs=2)
    assert history["train_loss_estimated"] == [1.0, 1.0]
    assert np.isfinite(history["train_loss"]).all()


def test_the_warning_of_another_rule_says_what_that_rule_saw():
    match = r"\(rule gl\): validation is 0\.\d+, its best \(smoothed\) was"
    with warns_once(kf.OverfittingWarning, match=match):
        scripted(TRAIN, WORSE, rule="gl")


def test_loggers_after_it_get_its_columns(tmp_path):
    path = tmp_path / "log.csv"
    fit(build(), [quiet(), keras.callbacks.CSVLogger(path)], epochs=2)
    header = path.read_text().splitlines()[0]
    assert {"train_loss", "gap_loss"} <= set(header.split(","))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"monitor": "val_loss"}, ValueError, "without 'val_'.*Pass 'loss'"),
        ({"monitor": ""}, ValueError, "`monitor` must be a training name"),
        ({"monitor": 3}, TypeError, "`monitor` must be the name of a metric"),
        ({"mode": "mni"}, ValueError, "Did you mean 'min'"),
        ({"sample": 0}, ValueError, "`sample` must be an integer >= 1"),
        ({"every": 0}, ValueError, "`every` must be an integer >= 1"),
        ({"rule": "prechelt"}, ValueError, "`rule` must be one of"),
        ({"action": "stpo"}, ValueError, "Did you mean 'stop'"),
        ({"check_weights": 1}, TypeError, "`check_weights` must be True or False"),
        ({"verbose": 3}, ValueError, r"`verbose` must be an integer in \[0, 2\]"),
        ({"train_data": (X, Y[:5])}, ValueError, r"same length.*\[5, 48\]"),
        ({"train_data": (X[:0], Y[:0])}, ValueError, "data with rows"),
        ({"train_data": iter([1])}, TypeError, "cannot be read a second time"),
    ],
)
def test_bad_arguments_are_named_before_any_training(arguments, error, text):
    with pytest.raises(error, match=text):
        kf.OverfitMonitor(**arguments)


def test_constructor_arguments_never_change():
    monitor = quiet(monitor="accuracy", sample=9, every=2)
    names = inspect.signature(kf.OverfitMonitor).parameters
    before = {name: getattr(monitor, name) for name in names}
    fit(build(), [monitor], epochs=2)
    assert {name: getattr(monitor, name) for name in names} == before


def test_a_report_before_any_fit_says_so():
    assert quiet().report().summary == "unknown, because there is no fit yet."


def test_two_monitors_of_one_quantity_are_an_error_before_training():
    with pytest.raises(ValueError, match=r"monitor='loss' twice.*train_loss and gap_"):
        fit(build(), [quiet(), quiet(sample=3)])
    fit(build(), [quiet(), quiet(monitor="accuracy")], epochs=1)


def test_the_rows_of_both_sides_are_known_where_fit_got_arrays():
    monitor = quiet(sample=20)
    fit(build(), [monitor], epochs=5)
    evidence = monitor.report().evidence
    assert (evidence["train_rows"], evidence["validation_rows"]) == (20, 40)
    fit(build(), [monitor], epochs=5, validation_steps=1)
    assert monitor.report().evidence["validation_rows"] is None


def test_why_training_was_not_measured_stays_in_the_report():
    def batches():
        while True:
            yield X[:16], Y[:16]

    monitor = quiet()
    with warns_once(UserWarning, match="fit was given a generator"):
        fit(build(), [monitor], data=batches(), epochs=1, steps_per_epoch=3)
    text = "training is not measured: fit was given a generator"
    assert text in monitor.report().notes[0]
    assert text in monitor.report().render()


def monitor_columns(history):
    return {k: v for k, v in history.items() if k.startswith(("train_", "gap_"))}


def test_train_data_that_does_not_fit_is_not_advised_again():
    monitor = quiet(train_data=(X[:, :4], Y))
    with warns_once(UserWarning, match="measuring failed") as caught:
        history = fit(build(), [monitor], epochs=3)
    assert history == {**fit(build(), [], epochs=3), **monitor_columns(history)}
    texts = [str(item.message) for item in caught if "measuring" in str(item.message)]
    assert "train_data=(x_train, y_train)" not in texts[0]
    assert "measuring failed" in monitor.report().notes[0]


@pytest.mark.parametrize("data", [[X, Y], (X, Y, Y, Y), X], ids=["list", "4", "array"])
def test_data_in_another_form_than_a_tuple_is_told_the_form(data):
    with pytest.raises(TypeError, match=r"Pass a tuple \(x, y\)"):
        quiet(train_data=data)


@pytest.mark.tensorflow_only
def test_a_dataset_without_batches_is_told_to_batch():
    tf = pytest.importorskip("tensorflow")
    single = tf.data.Dataset.from_tensor_slices((X, Y[:, 0]))
    with pytest.raises(ValueError, match=r"a batched dataset.*Call \.batch\(n\)"):
        quiet(train_data=single)
    longer = tf.data.Dataset.from_tensor_slices((X, Y))  # x of 6 values, y of 1
    with pytest.raises(ValueError, match=r"as many rows in y as in x.*\.batch\(n\)"):
        quiet(train_data=longer)
    alike = tf.data.Dataset.from_tensor_slices((X, np.repeat(Y, 6, axis=1)))
    monitor = quiet(train_data=alike)
    with warns_once(UserWarning, match=r"lack the batch axis.*Call \.batch\(n\)"):
        fit(build(), [monitor], epochs=1)


@pytest.mark.tensorflow_only
def test_a_fit_on_tf_data_is_told_of_a_dataset_without_shuffle():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    with warns_once(UserWarning, match=r"a tf\.data\.Dataset without shuffle\(\)"):
        fit(build(), [quiet()], data=data, epochs=1)


def test_the_warning_names_the_rule_and_the_best_epoch_of_the_report():
    def too_wide(train, validation):
        return len(validation) == 30

    verdicts = []
    scripted(TRAIN, WORSE, rule=too_wide, action=verdicts.append)
    best = verdicts[0].evidence["best_epoch"]
    match = rf"\(rule too_wide\).*its best \(smoothed\) was .* in epoch {best}\."
    with warns_once(kf.OverfittingWarning, match=match):
        scripted(TRAIN, WORSE, rule=too_wide)


def test_an_action_or_rule_of_another_kind_is_told_all_there_are():
    with pytest.raises(TypeError, match=r"'warn', 'stop', or a callable.*Diagnosis"):
        quiet(action=3)
    with pytest.raises(TypeError, match=r"'auto', 'gl', 'pq', 'up', or a callable"):
        quiet(rule=3)


def test_a_metric_that_is_not_there_suggests_no_name_that_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'loss'") as info:
        fit(build(), [quiet(monitor="va_loss")])
    assert "val_loss" not in str(info.value)


def test_the_learning_rate_of_the_model_is_in_the_advice():
    monitor = quiet()
    fit(build(optimizer=keras.optimizers.SGD(0.05)), [monitor], epochs=2)
    assert monitor.report().curves.optimizer == ("SGD", pytest.approx(0.05))
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    fit(build(optimizer=keras.optimizers.SGD(schedule)), [monitor], epochs=2)
    assert monitor.report().curves.optimizer is None


@pytest.mark.tensorflow_only  # on torch Keras's own get_weights warns
def test_numpy_has_nothing_to_warn_of_that_a_plain_fit_does_not_raise():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        model = build(l2=1e-3, optimizer=keras.optimizers.Adam(use_ema=True))
        stopper = kf.EarlyStopping(
            restore_best_weights=True, restore_best_optimizer=True, patience=9
        )
        swap = keras.callbacks.SwapEMAWeights()
        monitors = [quiet(), quiet(monitor="accuracy"), stopper, swap]
        fit(model, monitors, epochs=2)
        assert monitors[0].report().curves.honest
        stopper.set_state(stopper.get_state())
