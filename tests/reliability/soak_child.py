"""One process of the soak: trains, and kills itself at a given moment.

A moment is a hook of the fit, or a step of writing a file (a member begun, the data
flushed, the name changed, an old file deleted). They are counted; at number KILL the
process gets SIGKILL, with nothing flushed and no handler run.

    python soak_child.py FOLDER RESULT KILL
"""

import json
import os
import random
import signal
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np

import keras_fitkit as kf

ROWS, EPOCHS = 240, 16
MOMENTS = {"seen": 0, "kill": 0}


def moment():
    """One more; the last, if it is the one to be killed at."""
    MOMENTS["seen"] += 1
    if MOMENTS["seen"] == MOMENTS["kill"]:
        os.kill(os.getpid(), signal.SIGKILL)


def counted(owner, name):
    """A function that has a moment before it and one after it."""
    real = getattr(owner, name)

    def wrapper(*args, **kwargs):
        moment()
        result = real(*args, **kwargs)
        moment()
        return result

    setattr(owner, name, wrapper)


class Moments(keras.callbacks.Callback):
    """Counts the hooks of a fit."""

    def on_train_batch_begin(self, batch, logs=None):
        moment()

    def on_epoch_begin(self, epoch, logs=None):
        moment()

    def on_epoch_end(self, epoch, logs=None):
        moment()

    def on_train_end(self, logs=None):
        moment()

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def build():
    """A model with all that is hard to put back."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(24, name="one"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Dropout(0.4, name="drop"),
            keras.layers.Dense(3, name="two"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    return model


def data():
    """Labels with much noise, so that training overfits and early stopping stops."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(2 * ROWS, 12)).astype("float32")
    y = (np.abs(x[:, :3]).argmax(1) + (rng.random(2 * ROWS) < 0.3)) % 3
    return (x[:ROWS], y[:ROWS]), (x[ROWS:], y[ROWS:])


def main(directory, result, kill):
    """Trains, or dies."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    model = build()
    (x, y), validation = data()
    train = kf.ReproducibleDataset(x, y, batch_size=32, seed=7)
    monitor = kf.OverfitMonitor(verbose=0)
    stopper = kf.EarlyStopping(patience=1, restore_best_weights=True)
    prune = kf.PruneSchedule(0.7)
    plateau = keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5)
    callbacks = [monitor, stopper, prune, plateau, Moments()]
    MOMENTS["kill"] = kill
    counted(zipfile.ZipFile, "open")
    counted(os, "fsync")
    counted(Path, "replace")
    counted(Path, "unlink")
    history = model.fit(
        train,
        shuffle=False,
        epochs=EPOCHS,
        verbose=0,
        validation_data=validation,
        callbacks=kf.resumable(directory, callbacks, data=train),
    )
    MOMENTS["kill"] = 0
    report = [
        line for line in str(stopper.report()).splitlines() if "time:" not in line
    ]
    found = [*model.variables, *model.optimizer.variables]
    arrays = {
        str(i): np.array(keras.ops.convert_to_numpy(v)) for i, v in enumerate(found)
    }
    said = {
        "epoch": history.epoch,
        "history": history.history,
        "monitor": str(monitor.report()),
        "stopper": report,
        "sparsity": kf.sparsity_of(model).sparsity,
        "zeros": {path: int((~mask).sum()) for path, mask in prune.masks_.items()},
        "random": random.random(),  # the global state went on, too
    }
    np.savez(result, said=json.dumps(said), moments=MOMENTS["seen"], **arrays)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
