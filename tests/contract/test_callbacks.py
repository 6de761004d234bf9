"""DESIGN's callback contract, for every callback there is."""

import copy
import functools
import inspect
import json

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from keras_fitkit._core.callback import FitCallback
from tests.contract.cases import CALLBACKS
from tests.tools import traced_once

RNG = np.random.default_rng(7)
X, XV = RNG.normal(size=(2, 20, 3)).astype("float32")
Y, YV = X.sum(1, keepdims=True), XV.sum(1, keepdims=True)

every_callback = pytest.mark.parametrize("name", CALLBACKS)


@traced_once
def build(policy=None, **compile_args):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, dtype=policy, name="hidden"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1, name="output"),
        ]
    )
    model.compile("sgd", "mse", metrics=["mae"], **compile_args)
    return model


def model_for(callback, **how):
    """Callbacks that change the step have no use for what was traced before."""
    changes = isinstance(callback, (kf.ClusterWeights, kf.PruneSchedule))
    if changes and not how and keras.backend.backend() == "tensorflow":
        how = {"run_eagerly": True}  # a trace takes longer than these few steps
    return build(fresh=changes, **how)


def fit(callback, model=None, epochs=2, more=(), batch_size=8):
    return (model or model_for(callback)).fit(
        X, Y, validation_data=(XV, YV), batch_size=batch_size, epochs=epochs,
        verbose=0, callbacks=[callback, *more],
    )  # fmt: skip


@functools.cache
def fitted(name):
    """A callback after a fit, its History, its arguments before: to be read only."""
    callback = CALLBACKS[name]()
    before = settings(callback)
    return callback, json.dumps(fit(callback).history), before


def settings(callback):
    names = inspect.signature(type(callback)).parameters
    return {name: getattr(callback, name) for name in names}


def test_every_public_callback_is_in_the_table():
    public = {
        name
        for name in kf.__all__
        if inspect.isclass(getattr(kf, name))
        and issubclass(getattr(kf, name), keras.callbacks.Callback)
    }
    # Two of its fits are one, and it has to know all other callbacks: its own tests,
    # in tests/checkpoint, go through the contract.
    public.remove("Checkpoint")
    assert {name.split("-")[0] for name in CALLBACKS} == public


@every_callback
def test_it_keeps_its_state_the_house_way(name):
    callback = CALLBACKS[name]()
    assert isinstance(callback, FitCallback)
    assert callback.get_state()


@every_callback
def test_constructor_arguments_never_change(name):
    callback, _, before = fitted(name)
    assert settings(callback) == before


@every_callback
@pytest.mark.filterwarnings("ignore:.*does not run inside Model.fit:UserWarning")
@pytest.mark.filterwarnings("ignore:.*the fit ended at sparsity:UserWarning")
def test_it_bears_hooks_without_logs(name):
    callback = CALLBACKS[name]()
    callback.set_model(build(fresh=True))
    callback.set_params({"epochs": 2, "steps": 3})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_begin(0)
    callback.on_train_batch_end(0)
    callback.on_epoch_end(0)
    callback.on_train_end()


@every_callback
def test_a_second_fit_starts_afresh(name):
    fresh, first, _ = fitted(name)
    used = CALLBACKS[name]()
    fit(used, epochs=3)
    assert json.dumps(fit(used).history) == first
    assert plain(fresh.get_state()) == plain(used.get_state())


@every_callback
def test_it_survives_a_fit_that_raised(name):
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("the user's own")

    used = CALLBACKS[name]()
    # It ends with the first epoch, before a trace has paid.
    broken = build(fresh=True, run_eagerly=keras.backend.backend() == "tensorflow")
    with pytest.raises(RuntimeError, match="the user's own"):
        fit(used, broken, more=[Break()])
    assert json.dumps(fit(used).history) == fitted(name)[1]


def plain(state):
    """State without clock readings, arrays as lists: comparable by ==."""
    if isinstance(state, dict):
        return {k: plain(v) for k, v in state.items() if k != "seconds"}
    if isinstance(state, list):
        return [plain(item) for item in state]
    return state.tolist() if isinstance(state, np.ndarray) else state


def check_kinds(state):
    if isinstance(state, dict):
        assert all(isinstance(key, str) for key in state)
        state = list(state.values())
    if isinstance(state, list):
        for item in state:
            check_kinds(item)
    else:
        assert state is None or isinstance(state, (bool, int, float, str, np.ndarray))


@every_callback
@pytest.mark.filterwarnings("ignore:.*does not run inside Model.fit:UserWarning")
def test_state_is_plain_and_goes_into_a_fresh_callback(name):
    state = fitted(name)[0].get_state()
    check_kinds(state)
    other = CALLBACKS[name]()
    other.set_model(build(fresh=True))  # a fit that does not end
    other.set_params({"epochs": 2, "steps": 3})
    other.on_train_begin()
    other.set_state(copy.deepcopy(state))
    assert plain(other.get_state()) == plain(state)


@every_callback
def test_state_of_another_class_is_refused(name):
    callback = CALLBACKS[name]()
    with pytest.raises(ValueError, match=f"the state of a {type(callback).__name__}"):
        callback.set_state({"something": 1})


@every_callback
def test_run_state_that_is_not_keras_s_own_ends_in_an_underscore(name):
    from_keras = {"wait", "stopped_epoch", "best", "best_epoch", "best_weights"}
    for attribute in CALLBACKS[name]().get_state():
        assert attribute.endswith("_") or attribute in from_keras


@every_callback
def test_it_runs_eagerly(name):
    fit(CALLBACKS[name](), build(run_eagerly=True), epochs=1)


@every_callback
@pytest.mark.tensorflow_only  # torch has no steps_per_execution in Keras
def test_it_runs_with_steps_per_execution(name):
    callback = CALLBACKS[name]()
    fit(callback, model_for(callback, steps_per_execution=2))


@every_callback
@pytest.mark.tensorflow_only  # the default on JAX; torch compiles through inductor
def test_it_runs_in_a_jit_compiled_fit(name):
    callback = CALLBACKS[name]()
    # Two whole batches: XLA compiles every shape by itself.
    fit(callback, model_for(callback, jit_compile=True), batch_size=10)


@every_callback
def test_it_runs_in_mixed_precision(name):
    callback = CALLBACKS[name]()
    fit(callback, model_for(callback, policy="mixed_bfloat16"))


@every_callback
def test_it_runs_beside_keras_s_own_callbacks(name, tmp_path):
    more = [
        keras.callbacks.ReduceLROnPlateau(patience=1),
        keras.callbacks.ModelCheckpoint(tmp_path / "m.keras", save_best_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.EarlyStopping(patience=5),
    ]
    fit(CALLBACKS[name](), more=more)
