"""The best weights of EarlyStopping, in real fits: memory, disk, optimizer, EMA."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_fitkit._core import files
from keras_fitkit.monitoring.early_stopping import EarlyStopping

pytestmark = pytest.mark.eager


class Script(keras.callbacks.Callback):
    """Writes a value for each epoch into `logs`, and remembers the weights there."""

    def __init__(self, values: list[float], name: str = "val_score") -> None:
        super().__init__()
        self.values, self.name = values, name
        self.weights: list[Any] = []
        self.optimizer: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs[self.name] = self.values[epoch]
        self.weights.append(self.model.get_weights())
        variables = self.model.optimizer.variables
        self.optimizer.append([keras.ops.convert_to_numpy(v) for v in variables])


@contextlib.contextmanager
def warned(match: str) -> Iterator[None]:
    """One UserWarning that matches. `pytest.warns` repeats all the others, Keras's own
    about NumPy's `copy` among them, past the allow-list.
    """
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    texts = [str(item.message) for item in found if item.category is UserWarning]
    assert len(texts) == 1, texts
    assert re.search(match, texts[0]), texts


def small_model(optimizer: Any = "sgd", width: int = 4, **compile_args: Any) -> Any:
    if not compile_args:  # tracing takes longer than these few steps
        compile_args["run_eagerly"] = keras.backend.backend() == "tensorflow"
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse", **compile_args)
    return model


def data(rows: int = 32) -> tuple[Any, Any]:
    random = np.random.default_rng(5)
    x = random.normal(size=(rows, 3)).astype("float32")
    return x, (x.sum(axis=1, keepdims=True) + 1.0).astype("float32")


def fit(model: Any, *callbacks: Any, epochs: int = 5, **more: Any) -> Any:
    x, y = data()
    more = {"batch_size": 8, "verbose": 0, **more}
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **more)


def assert_same(left: list[Any], right: list[Any]) -> None:
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


VALUES = [3.0, 2.0, 2.5, 2.6, 2.7]
SCORE: dict[str, Any] = {"monitor": "val_score", "mode": "min"}


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
def test_weights_of_the_best_epoch(disk: bool, tmp_path: Path) -> None:
    # keras#20323
    path = tmp_path / "best.weights.h5" if disk else None
    script, model = Script(VALUES), small_model()
    stopper = EarlyStopping(
        **SCORE, patience=2, restore_best_weights=True, best_weights_path=path
    )
    history = fit(model, script, stopper)
    assert len(history.epoch) == 4
    assert_same(model.get_weights(), script.weights[1])
    assert stopper.report().restored
    # the optimizer goes on from the last epoch: 4 epochs of 32 / 8 steps
    iterations = keras.ops.convert_to_numpy(model.optimizer.iterations)
    assert int(iterations) == 4 * 4
    assert (stopper.best_weights is None) == disk
    assert [file.name for file in tmp_path.iterdir()] == ["best.weights.h5"] * disk


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("kind", ["adam", "loss scale", "momentum"])
def test_optimizer_of_the_best_epoch(kind: str, disk: bool, tmp_path: Path) -> None:
    # row 6: Keras leaves 56 iterations instead of 24, and the slots of the last epoch
    optimizer = {
        "adam": lambda: keras.optimizers.Adam(0.01),
        "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(0.01), initial_scale=4.0, dynamic_growth_steps=3
        ),
        "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    }[kind]()
    script, model = Script(VALUES), small_model(optimizer)
    stopper = EarlyStopping(
        **SCORE,
        patience=2,
        restore_best_weights=True,
        restore_best_optimizer=True,
        best_weights_path=tmp_path / "best.weights.h5" if disk else None,
    )
    fit(model, script, stopper)
    assert_same(model.get_weights(), script.weights[1])
    now = [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
    assert_same(now, script.optimizer[1])
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 2 * 4


def test_the_file_is_written_without_restoring(tmp_path: Path) -> None:
    path = tmp_path / "best.weights.h5"
    script, model = Script(VALUES), small_model()
    stopper = EarlyStopping(**SCORE, patience=2, best_weights_path=path)
    fit(model, script, stopper)
    assert_same(model.get_weights(), script.weights[3])
    assert not stopper.report().restored
    model.load_weights(path)
    assert_same(model.get_weights(), script.weights[1])


def test_keyboard_interrupt_leaves_the_best_weights_on_disk(tmp_path: Path) -> None:
    # row 8: Keras does not call on_train_end then
    class CtrlC(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 3:
                raise KeyboardInterrupt

    path = tmp_path / "best.weights.h5"
    script, model = Script(VALUES), small_model()
    stopper = EarlyStopping(
        **SCORE, patience=9, restore_best_weights=True, best_weights_path=path
    )
    with pytest.raises(KeyboardInterrupt):
        fit(model, script, stopper, CtrlC())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    model.load_weights(path)
    assert_same(model.get_weights(), script.weights[1])
    # and the same objects are good for another fit
    again = Script(VALUES)
    fit(model, again, stopper)
    assert_same(model.get_weights(), again.weights[1])


def test_the_file_of_another_run_is_replaced_by_the_first_best(tmp_path: Path) -> None:
    path = tmp_path / "best.weights.h5"
    path.write_bytes(b"not even HDF5")
    script, model = Script(VALUES), small_model()
    stopper = EarlyStopping(
        **SCORE, patience=1, restore_best_weights=True, best_weights_path=path
    )
    fit(model, script, stopper)
    assert_same(model.get_weights(), script.weights[1])


def test_a_file_that_is_not_ours_is_never_restored(tmp_path: Path) -> None:
    path = tmp_path / "best.weights.h5"
    other = small_model()
    other.save_weights(path)
    script, model = Script([float("nan")] * 5), small_model()
    stopper = EarlyStopping(
        **SCORE,
        patience=9,
        check_finite=False,
        restore_best_weights=True,
        best_weights_path=path,
    )
    with warned("No best weights were restored"):
        fit(model, script, stopper)
    assert_same(model.get_weights(), script.weights[4])


@pytest.mark.parametrize("restore", [False, True])
def test_a_file_that_cannot_be_written_costs_no_training(
    restore: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    path = tmp_path / "best.weights.h5"
    script, model = Script([3.0, 2.0, 1.0, 4.0, 5.0]), small_model()
    stopper = EarlyStopping(
        **SCORE, patience=2, restore_best_weights=restore, best_weights_path=path
    )
    instead = "kept in memory" if restore else "Training goes on"
    with warned(f"No space left.*{instead}"):
        fit(model, script, stopper)
    assert list(tmp_path.iterdir()) == []
    assert_same(model.get_weights(), script.weights[2 if restore else 4])


@pytest.mark.parametrize("damage", ["gone", "truncated"])
def test_a_file_that_cannot_be_read_keeps_the_last_weights(
    damage: str, tmp_path: Path
) -> None:
    path = tmp_path / "best.weights.h5"

    class Vandal(keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            if damage == "gone":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    script, model = Script(VALUES), small_model()
    stopper = EarlyStopping(
        **SCORE, patience=2, restore_best_weights=True, best_weights_path=path
    )
    with warned(r"could not be read from .*best\.weights\.h5"):
        fit(model, script, Vandal(), stopper)
    assert_same(model.get_weights(), script.weights[3])
    assert not stopper.report().restored


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stopper = EarlyStopping(**SCORE, patience=1, best_weights_path="a.weights.h5")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fit(small_model(), Script(VALUES), stopper)
    assert (tmp_path / "a.weights.h5").is_file()
    assert stopper.best_weights_path == "a.weights.h5"


def test_memory_with_the_weights_on_disk(tmp_path: Path) -> None:
    # row 7: Keras holds the model once more, twice while it changes the copies. On disk
    # one variable at a time passes through memory (HDF5 may hold a copy of it).
    width, layers = 512, 6
    one = 4 * width * width  # bytes: 1 MiB
    model = keras.Sequential(
        [
            keras.layers.Input((width,)),
            *[keras.layers.Dense(width) for _ in range(layers)],
        ]
    )
    model.compile(keras.optimizers.SGD(), "mse")

    def peak(stopper: Any) -> tuple[int, int]:
        stopper.set_model(model)
        stopper.on_train_begin()
        tracemalloc.start()
        for epoch in range(3):
            stopper.on_epoch_end(epoch, {"loss": 3.0 - epoch})
        held, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        stopper.on_train_end()
        return held, most

    arguments: dict[str, Any] = {"monitor": "loss", "restore_best_weights": True}
    path = tmp_path / "a.weights.h5"
    held, most = peak(EarlyStopping(**arguments, best_weights_path=path))
    assert held < 0.5 * one
    assert most < 4 * one
    held, most = peak(EarlyStopping(**arguments))
    assert held > layers * one
    assert most > 2 * layers * one


class Spoil(keras.callbacks.Callback):
    """Climbs instead of descending from epoch 4 on: the last epoch is not the best."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 3:
            self.model.optimizer.learning_rate = -0.006


def ema_fit(order: str, swap_on_epoch: bool, *stoppers: Any) -> Any:
    optimizer = keras.optimizers.SGD(0.06, use_ema=True, ema_momentum=0.5)
    model = small_model(optimizer)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
    callbacks = [swap, *stoppers] if order == "after" else [*stoppers, swap]
    x, y = data()
    more: dict[str, Any] = {"validation_data": (x[:16], y[:16]), "batch_size": 16}
    history = fit(model, Spoil(), *callbacks, epochs=8, **more)
    loss = model.evaluate(x[:16], y[:16], verbose=0)
    return model, history.history["val_loss"], loss


ORDERS = pytest.mark.parametrize("order", ["before", "after"])
SWAPS = pytest.mark.parametrize("swap_on_epoch", [False, True], ids=["test", "epoch"])


def averaged_loss(model: Any) -> float:
    """The loss with what the optimizer holds as averages."""
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    x, y = data()
    return float(model.evaluate(x[:16], y[:16], verbose=0, callbacks=[swap]))


@ORDERS
@SWAPS
@pytest.mark.parametrize(
    ("disk", "stops"),
    [(False, False), (False, True), (True, True)],
    ids=["memory, all epochs", "memory", "disk"],
)
def test_averaged_weights_reproduce_the_best_value(
    order: str, swap_on_epoch: bool, disk: bool, stops: bool, tmp_path: Path
) -> None:
    # row 12: Keras restores the raw weights, val .28148 against .28125
    stopper = EarlyStopping(
        patience=1 if stops else 99,
        min_epochs=3,
        restore_best_weights=True,
        best_weights_path=tmp_path / "best.weights.h5" if disk else None,
    )
    model, values, loss = ema_fit(order, swap_on_epoch, stopper)
    assert stops == (len(values) < 8)
    assert stopper.best == min(values)
    assert stopper.best_epoch < len(values) - 1  # else restoring shows nothing
    # Keras swaps by adding and subtracting: a rounding of float32
    assert loss == pytest.approx(min(values), rel=1e-5)
    # and another fit goes on from there, not from averages of other epochs
    assert averaged_loss(model) == pytest.approx(loss, rel=1e-5)


@ORDERS
@SWAPS
def test_an_early_stop_ends_with_the_averages(order: str, swap_on_epoch: bool) -> None:
    # row 12b: with swap_on_epoch=True Keras ends with the raw weights, val .36987
    # against .33224
    stopper = EarlyStopping(patience=1, min_epochs=3)
    _, values, loss = ema_fit(order, swap_on_epoch, stopper)
    assert len(values) < 8
    assert loss == pytest.approx(values[-1], rel=1e-5)


@SWAPS
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(
    ("order", "restore"), [("before", False), ("after", False), ("after", True)]
)
def test_averages_where_another_callback_stops(
    order: str, swap_on_epoch: bool, where: str, restore: bool
) -> None:
    # As the docstring says. After the last hook of an epoch Keras's `fit` writes the
    # raw weights over the averages: nothing is left of these in `on_train_end`.
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 5

    stopper = EarlyStopping(patience=99, restore_best_weights=restore)
    both = [Stop(), stopper] if where == "before" else [stopper, Stop()]
    _, values, loss = ema_fit(order, swap_on_epoch, *both)
    assert len(values) == 6
    expected = min(values) if restore else values[-1]
    raw = swap_on_epoch and where == "after" and not restore
    assert (loss == pytest.approx(expected, rel=1e-5)) != raw


@SWAPS
@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
def test_averages_with_the_optimizer_of_the_best_epoch(
    swap_on_epoch: bool, disk: bool, tmp_path: Path
) -> None:
    stopper = EarlyStopping(
        patience=1,
        min_epochs=3,
        restore_best_weights=True,
        restore_best_optimizer=True,
        best_weights_path=tmp_path / "best.weights.h5" if disk else None,
    )
    model, values, loss = ema_fit("before", swap_on_epoch, stopper)
    assert loss == pytest.approx(min(values), rel=1e-5)
    assert averaged_loss(model) == pytest.approx(loss, rel=1e-5)
    steps = keras.ops.convert_to_numpy(model.optimizer.iterations)
    assert int(steps) == 2 * (stopper.best_epoch + 1)


class Resume(keras.callbacks.Callback):
    """Puts a state back where a checkpoint would: last in `on_train_begin`."""

    def __init__(self, stopper: EarlyStopping, state: dict[str, Any]) -> None:
        super().__init__()
        self.stopper, self.state = stopper, state

    def on_train_begin(self, logs: Any = None) -> None:
        self.stopper.set_state(self.state)


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
def test_best_weights_are_carried_over(disk: bool, tmp_path: Path) -> None:
    def new() -> EarlyStopping:
        return EarlyStopping(
            **SCORE,
            patience=2,
            restore_best_weights=True,
            restore_best_optimizer=True,
            best_weights_path=tmp_path / "best.weights.h5" if disk else None,
        )

    model, first, second = small_model(), new(), new()
    before, after = Script(VALUES), Script(VALUES)
    fit(model, before, first, epochs=3)
    resume = Resume(second, first.get_state())
    history = fit(model, after, second, resume, initial_epoch=3)
    assert history.epoch == [3]
    assert_same(model.get_weights(), before.weights[1])
    now = [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
    assert_same(now, before.optimizer[1])


def nan_data() -> tuple[Any, Any]:
    x, y = data()
    x[3, 1] = np.nan
    return x, y


def test_nan_in_the_weights_stops_at_once() -> None:
    # row 5: 20 NaN epochs with patience 20; no activation, so that NaN shows
    x, y = nan_data()
    model = keras.Sequential([keras.layers.Dense(1, name="top")])
    model.compile("sgd", "mse")
    stopper = EarlyStopping("loss", patience=20, min_epochs=10)
    history = model.fit(x, y, epochs=30, verbose=0, callbacks=[stopper])
    assert len(history.epoch) == 1
    report = stopper.report()
    assert report.condition == "non_finite_weights"
    assert report.why.startswith("`loss` is nan in epoch 1 and the weight '")
    assert report.why.endswith("top/kernel' holds NaN or infinity.")
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    stopper = EarlyStopping("loss", patience=5, check_finite=False)
    history = model.fit(x, y, epochs=30, verbose=0, callbacks=[stopper])
    assert len(history.epoch) == 5


def test_infinity_in_a_weight_that_is_not_trained_is_no_reason() -> None:
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    mask = keras.layers.Dense(1, trainable=False)
    model.add(mask)
    model.compile("sgd", "mse")
    mask.set_weights([np.full((1, 1), -np.inf, "float32"), np.zeros(1, "float32")])
    stopper = EarlyStopping("loss", patience=9)
    stopper.set_model(model)
    stopper.on_train_begin()
    with warned("The weights are finite"):
        stopper.on_epoch_end(0, {"loss": np.nan})
    mask.set_weights([np.full((1, 1), np.nan, "float32"), np.zeros(1, "float32")])
    stopper.on_epoch_end(1, {"loss": np.nan})
    assert stopper.report().condition == "non_finite_weights"


def test_a_partial_epoch_counts_because_it_was_validated() -> None:
    # row 13: stopped within epoch 2; val_loss was measured on the weights of then
    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            steps = keras.ops.convert_to_numpy(self.model.optimizer.iterations)
            self.model.stop_training = int(steps) == 5

    x, y = data()
    model = small_model(keras.optimizers.SGD(0.05))
    stopper = EarlyStopping(patience=9, restore_best_weights=True)
    history = fit(model, Stop(), stopper, validation_data=(x, y))
    assert len(history.epoch) == 2
    assert stopper.report().condition == "other"
    loss = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(min(history.history["val_loss"]), rel=1e-5)


def test_max_seconds_ends_after_the_running_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from keras_fitkit.monitoring import early_stopping

    class Steps(keras.callbacks.Callback):
        done = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.done += 1

    steps = Steps()
    monkeypatch.setattr(early_stopping, "_monotonic", lambda: float(steps.done))
    model = small_model()
    stopper = EarlyStopping("loss", patience=9, max_seconds=6)
    history = fit(model, steps, stopper)
    # 4 steps an epoch; 6 are done when batch 3 of epoch 2 begins, which is the last
    assert steps.done == 6 + 1
    assert len(history.epoch) == 2
    assert stopper.report().condition == "max_seconds"
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_batches_stay_asynchronous() -> None:
    # Keras gives up its background thread when a callback has a batch END hook
    plain = keras.callbacks.CallbackList([keras.callbacks.Callback()])
    ours = keras.callbacks.CallbackList([EarlyStopping(max_seconds=5)])
    asynchronous = getattr(plain, "_async_train", None)
    assert getattr(ours, "_async_train", None) == asynchronous


@pytest.mark.parametrize(
    "how",
    [
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 2},
    ],
    ids=str,
)
def test_other_ways_to_run(how: dict[str, Any]) -> None:
    if "run_eagerly" not in how and keras.backend.backend() == "torch":
        pytest.skip("no steps_per_execution; torch.compile warns about torch itself")
    x, y = data()
    model = small_model(**how)
    stopper = EarlyStopping(patience=1, restore_best_weights=True, max_seconds=1000)
    history = fit(model, stopper, epochs=3, validation_data=(x, y))
    loss = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(min(history.history["val_loss"]), rel=1e-5)


def test_mixed_precision_and_a_multi_output_model() -> None:
    inputs = keras.Input((3,))
    policy = "mixed_bfloat16"
    outputs = {
        name: keras.layers.Dense(1, dtype=policy, name=name)(inputs) for name in "ab"
    }
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse", metrics={"b": ["accuracy"]})
    x, y = data()
    stopper = EarlyStopping(
        ["val_b_loss", "val_b_accuracy"], patience=3, restore_best_weights=True
    )
    targets = {"a": y, "b": y}
    history = model.fit(
        x,
        targets,
        validation_data=(x, targets),
        epochs=3,
        verbose=0,
        callbacks=[stopper],
    )
    assert stopper.best == min(history.history["val_b_loss"])


@pytest.mark.tensorflow_only
def test_mirrored_strategy() -> None:
    import tensorflow as tf

    x, y = data()
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        model = small_model()
    stopper = EarlyStopping(
        patience=1,
        restore_best_weights=True,
        restore_best_optimizer=True,
        max_seconds=1000,
    )
    history = fit(model, stopper, epochs=3, validation_data=(x, y))
    loss = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(min(history.history["val_loss"]), rel=1e-5)
