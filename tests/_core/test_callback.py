"""State in and out, and the step count under every way `fit` can run."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from typing import ClassVar

import keras
import numpy as np
import pytest

from keras_fitkit._core.callback import FitCallback, StepCounter
from tests.replicas import run_on_two_cpus


class Memory(FitCallback):
    _state_attributes: ClassVar[tuple[str, ...]] = ("wait_", "best_")

    def __init__(self, wait=0, best=None):
        super().__init__()
        self.wait_ = wait
        self.best_ = best


class Child(Memory):
    _state_attributes: ClassVar[tuple[str, ...]] = ("extra_",)

    def __init__(self, extra=None):
        super().__init__(3, 0.5)
        self.extra_ = extra


def run_alone(code):
    """Runs code in a process of its own, on the CPU."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-2000:]


# --- models and fits that are refused


def test_a_model_that_is_none_of_keras_is_taken():
    callback, dummy = FitCallback(), object()
    callback.set_model(dummy)
    assert callback.model is dummy


def test_a_legacy_model_is_refused():
    kind = type("Model", (), {"__module__": "tf_keras.src.engine.training"})
    with pytest.raises(TypeError, match=r"`model` must be a Keras 3 .*kf\.from_tfmot"):
        FitCallback().set_model(kind())


@pytest.mark.tensorflow_only
@pytest.mark.slow
def test_the_methods_of_a_legacy_model_end_in_one_clear_error():
    # tf_keras sets up a second Keras in the process it is imported in.
    run_alone("""
import numpy as np, tf_keras
from keras_fitkit._core.callback import FitCallback, StepCounter
model = tf_keras.Sequential([tf_keras.layers.Dense(1)])
model.compile("sgd", "mse")
x, y = np.ones((4, 3)), np.ones((4, 1))
for call in (
    lambda: model.fit(x, y, verbose=0, callbacks=[FitCallback()]),
    lambda: model.fit(x, y, verbose=0, callbacks=[StepCounter()]),
    lambda: model.evaluate(x, y, verbose=0, callbacks=[FitCallback()]),
    lambda: model.predict(x, verbose=0, callbacks=[FitCallback()]),
):
    try:
        call()
    except TypeError as error:
        assert "kf.from_tfmot" in str(error), error
    else:
        raise SystemExit("no error")
""")


@pytest.mark.tensorflow_only
@pytest.mark.slow
def test_several_steps_on_several_replicas_are_refused_by_name():
    run_on_two_cpus("""
import keras, numpy as np
from keras_fitkit._core.callback import FitCallback, StepCounter
x, y = np.ones((32, 3), "float32"), np.ones((32, 1), "float32")

def fit(steps, devices, *callbacks):
    with tf.distribute.MirroredStrategy(devices).scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", steps_per_execution=steps)
    model.fit(x, y, batch_size=8, verbose=0, callbacks=list(callbacks))
    return model

one, two = ["/cpu:0"], ["/cpu:0", "/cpu:1"]
fit(2, one, FitCallback())
model = fit(1, two, FitCallback())
model.compile("sgd", "mse", steps_per_execution=2)
model.evaluate(x, y, batch_size=8, verbose=0, callbacks=[FitCallback()])
for callback in (FitCallback(), StepCounter()):
    try:
        fit(2, two, callback)
    except ValueError as error:
        text = "`steps_per_execution` must be 1 for `fit` with MirroredStrategy (2 rep"
        assert str(error).startswith(text), error
        assert "Received: steps_per_execution=2." in str(error), error
    else:
        raise SystemExit("no error")
try:
    fit(2, two)
except tf.errors.InvalidArgumentError:
    pass
else:
    raise SystemExit("Keras can do it now: refuse it no more")
""")


# --- state


def test_state_goes_out_and_comes_back():
    state = Memory(3, [np.arange(4.0), "x", {"a": None}]).get_state()
    other = Memory()
    other.set_state(state)
    assert other.wait_ == 3
    np.testing.assert_array_equal(other.best_[0], [0.0, 1.0, 2.0, 3.0])
    assert other.best_[1:] == ["x", {"a": None}]


def test_state_holds_plain_values_only():
    variable = keras.Variable(np.ones((2,)))
    state = Memory(np.int64(3), (np.float32(0.5), variable, True)).get_state()
    assert type(state["wait_"]) is int
    assert [type(value) for value in state["best_"]] == [float, np.ndarray, bool]
    tensor = keras.ops.ones((2,))
    assert type(Memory(best=tensor).get_state()["best_"]) is np.ndarray


def test_state_is_a_copy_both_ways():
    weights = [np.zeros(3)]
    callback = Memory(best=weights)
    state = callback.get_state()
    weights[0][:] = 7
    np.testing.assert_array_equal(state["best_"][0], np.zeros(3))
    callback.set_state(state)
    callback.best_[0][:] = 9
    np.testing.assert_array_equal(state["best_"][0], np.zeros(3))


def test_state_of_a_variable_is_a_copy():
    variable = keras.Variable(np.zeros(3, "float32"))
    state = Memory(best=variable).get_state()
    variable.assign(np.ones(3, "float32"))
    np.testing.assert_array_equal(state["best_"], np.zeros(3))


def test_state_attributes_of_base_classes_are_added():
    assert Child("e").get_state() == {"wait_": 3, "best_": 0.5, "extra_": "e"}
    assert FitCallback().get_state() == {}
    json.dumps(Child().get_state())


def test_state_beside_a_keras_callback():
    class Stopper(FitCallback, keras.callbacks.EarlyStopping):
        _state_attributes: ClassVar[tuple[str, ...]] = ("wait", "best")

    stopper = Stopper(monitor="loss", patience=3)
    assert isinstance(stopper, keras.callbacks.EarlyStopping)
    stopper.on_train_begin()
    stopper.set_state({"wait": 2, "best": 0.25})
    assert (stopper.wait, stopper.best, stopper.patience) == (2, 0.25, 3)


@pytest.mark.parametrize(
    ("state", "error", "match"),
    [
        ({"wait_": 1}, ValueError, r"the state of a Memory.*Missing: \['best_'\]"),
        (
            {"wait_": 1, "best_": 2, "wat_": 3},
            ValueError,
            r"Received: state=\['wait_', 'best_', 'wat_'\].*Unknown: \['wat_'\]",
        ),
        ([1, 2], TypeError, r"`state` must be a dict from `Memory\.get_state`"),
        ({"wait_": 1, "best_": {1, 2}}, TypeError, r"`Memory\.best_` must be made of"),
    ],
)
def test_state_that_does_not_fit_changes_nothing(state, error, match):
    callback = Memory(5, 6)
    with pytest.raises(error, match=match):
        callback.set_state(state)
    assert (callback.wait_, callback.best_) == (5, 6)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (object(), r"`Memory\.best_` must be made of plain values and arrays"),
        ([1, {"k": print}], r"`Memory\.best_\[1\]\['k'\]` must be made of plain"),
        ({1: 2}, r"`Memory\.best_` must be a dict with str keys"),
        (np.array([object()]), r"`Memory\.best_` must be made of plain"),
    ],
)
def test_state_that_cannot_be_stored(value, match):
    with pytest.raises(TypeError, match=match):
        Memory(best=value).get_state()


def test_base_overrides_no_batch_hook():
    # One that is overridden makes Keras run the hooks of every callback in line.
    for name in ("on_batch", "on_train_batch", "on_test_batch", "on_predict_batch"):
        for end in ("begin", "end"):
            hook = f"{name}_{end}"
            assert getattr(FitCallback, hook) is getattr(keras.callbacks.Callback, hook)


# --- steps: the truth is a weight that each training step raises by one


class Truth(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            name="steps",
        )

    def call(self, x, training=False):
        if training:
            # The step that finds the data at its end runs too, on no data: only what
            # depends on the data tells the two apart.
            nothing = keras.ops.sum(keras.ops.cast(x, "float32")) * 0
            self.steps.assign(self.steps + 1 + nothing)
        return x


class Watcher(StepCounter):
    """Notes the count at every hook."""

    async_safe = False

    def __init__(self):
        super().__init__()
        self.begins, self.ends, self.epochs, self.truth = [], [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        self.begins.append(self.step_)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self.ends.append(self.step_)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.epochs.append(self.step_)
        steps = self.model.get_layer("truth").steps
        self.truth.append(int(keras.ops.convert_to_numpy(steps)))


X, Y = np.ones((40, 3), "float32"), np.ones((40, 1), "float32")


def make_model(optimizer="sgd", **compile_arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), Truth(name="truth"), keras.layers.Dense(1)]
    )
    model.compile(optimizer, "mse", **compile_arguments)
    return model


def finite(batches=20):
    for _ in range(batches):
        yield X[:4], Y[:4]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return X[:4], Y[:4]


def multi_step(size):
    if size > 1 and keras.backend.backend() == "torch":
        pytest.skip("Keras has no steps_per_execution on torch")
    return size


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("size", [1, 3, 4, 16])
def test_steps_of_arrays(size, eager):
    model = make_model(steps_per_execution=multi_step(size), run_eagerly=eager)
    watcher = Watcher()
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[watcher], verbose=0)
    assert watcher.epochs == watcher.truth == [10, 20]
    assert watcher.begins == [e + s for e in (0, 10) for s in range(0, 10, size)]
    assert watcher.ends == [
        e + min(s + size, 10) for e in (0, 10) for s in range(0, 10, size)
    ]


def test_steps_of_a_dataset_of_known_length():
    model = make_model()
    watcher = Watcher()
    model.fit(Batches(), epochs=2, callbacks=[watcher], verbose=0)
    assert watcher.epochs == watcher.truth == [10, 20]


@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize("size", [1, 4])
def test_steps_of_unknown_length(size):
    model = make_model(steps_per_execution=multi_step(size))
    watcher = Watcher()
    model.fit(finite(10), epochs=1, callbacks=[watcher], verbose=0)
    assert watcher.params["steps"] is None
    assert watcher.epochs == watcher.truth == [10]


@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize("size", [1, 4])
def test_steps_of_tf_data_of_unknown_length(size):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).filter(lambda x, y: True)
    model = make_model(steps_per_execution=size)
    watcher = Watcher()
    model.fit(data, shuffle=False, epochs=3, callbacks=[watcher], verbose=0)
    assert watcher.params["steps"] is None
    assert watcher.epochs == watcher.truth == [10, 20, 30]
    iterations = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    # Why we count by the hooks there: Keras's own counter is ahead.
    assert iterations == {1: 33, 4: 30}[size]


@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize(("size", "steps"), [(1, [6, 12]), (4, [8, 16])])
def test_steps_per_epoch(size, steps):
    # With 4 steps an execution Keras runs 8 for `steps_per_epoch=6`.
    model = make_model(steps_per_execution=multi_step(size))
    watcher = Watcher()
    model.fit(finite(30), steps_per_epoch=6, epochs=2, callbacks=[watcher], verbose=0)
    assert watcher.epochs == watcher.truth == steps


@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize("size", [1, 4])
def test_data_that_ends_before_steps_per_epoch(size):
    model = make_model(steps_per_execution=multi_step(size))
    watcher = Watcher()
    model.fit(
        X, Y, batch_size=4, steps_per_epoch=7, epochs=2, callbacks=[watcher], verbose=0
    )
    assert watcher.epochs == watcher.truth
    assert watcher.epochs[-1] == 10


@pytest.mark.parametrize("size", [1, 4])
def test_stop_within_an_epoch(size):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch >= 4:
                self.model.stop_training = True

    model = make_model(steps_per_execution=multi_step(size))
    watcher = Watcher()
    model.fit(X, Y, batch_size=4, epochs=3, callbacks=[watcher, Stop()], verbose=0)
    assert watcher.epochs == watcher.truth == [{1: 5, 4: 8}[size]]


def test_several_fits_and_initial_epoch():
    model = make_model()
    watcher = Watcher()
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[watcher], verbose=0)
    model.fit(
        X[:8],
        Y[:8],
        batch_size=4,
        epochs=9,
        initial_epoch=7,
        callbacks=[watcher],
        verbose=0,
    )
    assert watcher.epochs == [10, 20, 2, 4]
    assert watcher.truth == [10, 20, 22, 24]


def test_fit_after_a_fit_that_raised():
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                raise RuntimeError("power cut")

    model = make_model()
    watcher = Watcher()
    with pytest.raises(RuntimeError, match="power cut"):
        model.fit(X, Y, batch_size=4, callbacks=[watcher, Break()], verbose=0)
    assert watcher.step_ == 4
    model.fit(X, Y, batch_size=4, callbacks=[watcher], verbose=0)
    assert watcher.epochs == [10]


@pytest.mark.parametrize("size", [1, 4])
def test_optimizers_that_skip_steps(size):
    # Accumulation counts every batch, the optimizer only every second one.
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    model = make_model(optimizer, steps_per_execution=multi_step(size))
    watcher = Watcher()
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[watcher], verbose=0)
    assert watcher.epochs == watcher.truth == [10, 20]


@pytest.mark.parametrize("size", [1, 4])
def test_steps_that_loss_scaling_skips_are_steps(size):
    huge = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(), initial_scale=1e38
    )
    model = make_model(huge, steps_per_execution=multi_step(size))
    watcher = Watcher()
    model.fit(X * 100, Y, batch_size=4, epochs=2, callbacks=[watcher], verbose=0)
    assert watcher.epochs == watcher.truth == [10, 20]
    applied = int(keras.ops.convert_to_numpy(huge.iterations))
    assert applied < 20


def test_count_in_threads_is_exact():
    # Alone in the list, the end hooks run in threads on JAX and torch.
    model = make_model()
    counter = StepCounter()
    model.fit(X, Y, batch_size=1, epochs=3, callbacks=[counter], verbose=0)
    assert counter.step_ == 3 * 40


def test_late_and_disordered_end_hooks_change_nothing():
    rng = random.Random(0)
    counter = StepCounter()
    counter.set_params({"steps": 50})
    counter.on_train_begin()
    for epoch in range(3):
        counter.on_epoch_begin(epoch)
        pending = []
        for batch in range(50):
            counter.on_train_batch_begin(batch)
            assert counter.step_ == epoch * 50 + batch
            pending.append(batch)
            rng.shuffle(pending)
            while len(pending) > 5:
                counter.on_train_batch_end(pending.pop())
                assert counter.step_ <= epoch * 50 + batch + 1
        for batch in pending:
            counter.on_train_batch_end(batch)
        counter.on_epoch_end(epoch)
        assert counter.step_ == (epoch + 1) * 50


def test_counting_leaves_the_threads_on():
    # `CallbackList` asks exactly this; on TensorFlow Keras never uses threads.
    threaded = keras.callbacks.CallbackList([StepCounter()], model=make_model())
    assert threaded._async_train == (keras.backend.backend() != "tensorflow")


def test_model_is_not_touched_in_batches(monkeypatch):
    model = make_model()
    if not hasattr(model, "jax_state_sync"):
        pytest.skip("only the JAX trainer keeps its state away from the model")
    syncs = []
    real = model.jax_state_sync
    monkeypatch.setattr(model, "jax_state_sync", lambda: (syncs.append(1), real()))
    plain = keras.callbacks.Callback()
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[plain], verbose=0)
    without = len(syncs)
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[StepCounter()], verbose=0)
    # Two at the begin of the fit, none in the 20 batches.
    assert len(syncs) - without <= without + 2


def test_resumed_count_goes_on():
    model = make_model()
    first = StepCounter()
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[first], verbose=0)
    state = json.loads(json.dumps(first.get_state()))
    assert state == {"step_": 20}

    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            second.set_state(state)

    second = Watcher()
    model.fit(
        X,
        Y,
        batch_size=4,
        epochs=3,
        initial_epoch=2,
        callbacks=[second, Restore()],
        verbose=0,
    )
    assert second.begins == list(range(20, 30))
    assert second.step_ == 30


def test_counter_beside_a_keras_callback():
    class Rate(StepCounter, keras.callbacks.LearningRateScheduler):
        pass

    model = make_model()
    rate = Rate(lambda epoch: 0.1 / (1 + epoch))
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=[rate], verbose=0)
    assert rate.step_ == 20
    learned = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    assert learned == pytest.approx(0.1 / 2)


def test_counter_can_be_copied_and_driven_by_hand():
    counter = copy.deepcopy(StepCounter())
    counter.on_train_begin()
    counter.on_epoch_begin(0)
    counter.on_train_batch_begin(0, logs=None)
    counter.on_train_batch_end(0, logs=None)
    counter.on_epoch_end(0)
    counter.on_train_end()
    assert counter.step_ == 1
