"""What the tests of Checkpoint share."""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

import keras_fitkit as kf
from tests.tools import traced_once

RNG = np.random.default_rng(5)
X = RNG.normal(size=(90, 6)).astype("float32")
Y = (X.sum(1) > 0).astype("int64")
VALIDATION = (RNG.normal(size=(40, 6)).astype("float32"), RNG.integers(0, 2, 40))


# Momentum has a state as Adam has, and is traced in half the time.
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "accumulation": lambda: keras.optimizers.Adam(gradient_accumulation_steps=3),
    "average": lambda: keras.optimizers.Adam(0.01, use_ema=True),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(), initial_scale=2.0**14, dynamic_growth_steps=3
    ),
}


@traced_once
def build(optimizer="momentum", policy=None, **compile_args):
    """A model; `optimizer` is one of `OPTIMIZERS`, or what `compile` takes."""
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        optimizer = OPTIMIZERS[optimizer]()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(12, "relu", dtype=policy, name="hidden"),
            keras.layers.BatchNormalization(dtype=policy, name="norm"),
            keras.layers.Dropout(0.3, name="drop"),
            keras.layers.Dense(2, dtype="float32", name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **compile_args)
    return model


class Crash(Exception):
    """Stands for a kill."""


class Stateless(keras.callbacks.Callback):
    """One that has nothing to remember, and says so."""

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


class CrashAt(Stateless):
    """Raises in batch `at` of all batches of this process."""

    def __init__(self, at):
        super().__init__()
        self.at, self.batches = at, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.batches += 1
        if self.batches == self.at:
            raise Crash


def dataset(**arguments):
    return kf.ReproducibleDataset(X, Y, batch_size=20, seed=7, **arguments)


class Run(NamedTuple):
    """What a fit has left; the model may be in use again."""

    model: Any
    history: Any
    callbacks: Any
    values: Any


def train(folder, make, model=None, crash=None, epochs=6, data=None, **arguments):
    """One process's work: a fresh model, fresh callbacks, the same folder."""
    # One that changes the steps has no use for those that were traced.
    model = model or build(fresh=make is ours)
    callbacks = kf.resumable(
        folder, [*make(), CrashAt(crash)], **{"verbose": 0, **arguments}
    )
    history = model.fit(
        data or dataset(),
        shuffle=False,
        epochs=epochs,
        verbose=0,
        validation_data=VALIDATION,
        callbacks=callbacks,
    )
    return Run(model, history, callbacks, variables(model))


def variables(model):
    found = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in found]


def assert_same(one, other):
    """Models, histories and reports of two runs, to the bit."""
    for first, second in zip(one.values, other.values, strict=True):
        np.testing.assert_array_equal(first, second)
    assert one.history.epoch == other.history.epoch
    assert one.history.history == other.history.history
    for first, second in zip(one.callbacks, other.callbacks, strict=True):
        if hasattr(first, "report"):
            assert said(first) == said(second)


def said(callback):
    """Its report, without the seconds."""
    lines = str(callback.report()).splitlines()
    return [line for line in lines if not line.strip().startswith("time:")]


def ours():
    """This package's callbacks."""
    return [
        kf.OverfitMonitor(verbose=0),
        kf.EarlyStopping(patience=3, restore_best_weights=True),
        kf.PruneSchedule(0.6),
    ]


def interrupted(tmp_path, make, crashes, **arguments):
    """The result of runs that crash in these batches and of one that does not."""
    model = arguments.pop("model", lambda: None)
    for crash in crashes:
        with pytest.raises(Crash):
            train(tmp_path, make, model(), crash=crash, **arguments)
    return train(tmp_path, make, model(), **arguments)


def fit(*callbacks, model=None, **arguments):
    """Two epochs on arrays."""
    return (model or build()).fit(
        X, Y, epochs=2, verbose=0, callbacks=list(callbacks), **arguments
    )


def damage(path):
    """Cuts the end off."""
    path.write_bytes(path.read_bytes()[:-300])
