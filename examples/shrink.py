"""Take channels out of a trained net, and put some in, on real digits.

    python examples/shrink.py [--seed SEED] [--epochs EPOCHS]

A convolutional net learns 1200 of the 1797 digits of scikit-learn. Then

1. half of its channels are zeroed in training and taken out: the same predictions;
2. its multiplications are cut to a third at once, by a Taylor score, and it is trained
   for some epochs more;
3. the result is widened again, to the same function with more room.

The table shows what each costs and how often it is right, with the 95 % interval: on so
few rows small differences mean nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest
from sklearn.datasets import load_digits

import keras_fitkit as kf

TRAIN_ROWS = 1200
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Rows = tuple[np.ndarray, np.ndarray]
console = Console()


def digits(seed: int) -> tuple[Rows, Rows]:
    """Train and test rows without a common one."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images = images[order].reshape(-1, 8, 8, 1).astype("float32") / 16.0
    train, test = slice(TRAIN_ROWS), slice(TRAIN_ROWS, None)
    return (images[train], labels[order][train]), (images[test], labels[order][test])


def build(seed: int) -> keras.Model:
    """Three convolutions, one of them in a residual branch."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="stem")(inputs)
    branch = layers.Conv2D(48, 3, padding="same", name="inner")(x)
    branch = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(branch))
    branch = layers.Conv2D(32, 3, padding="same", name="outer")(branch)
    x = layers.MaxPooling2D()(layers.Add(name="sum")([x, branch]))
    x = layers.Conv2D(64, 3, padding="same", activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="digits")(x))


def fit(
    model: keras.Model, rows: Rows, epochs: int, rate: float, *callbacks: Any
) -> None:
    """An ordinary fit."""
    model.compile(keras.optimizers.Adam(rate), LOSS)
    model.fit(*rows, epochs=epochs, verbose=0, callbacks=list(callbacks))


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """In one eager call: each `predict` of a new model would trace it first."""
    return keras.ops.convert_to_numpy(model(images, training=False))


def add_row(table: Table, name: str, model: keras.Model, rows: Rows) -> None:
    """Parameters, multiplications and accuracy of a model."""
    right = logits(model, rows[0]).argmax(1) == rows[1]
    share = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    table.add_row(
        name,
        f"{model.count_params():,}",
        f"{kf.count_macs(model).total:,}",
        f"{100 * right.mean():.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})",
    )


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    begin = time.perf_counter()
    train, test = digits(options.seed)
    table = Table("model", "parameters", "MACs", "test accuracy (95 % interval)")

    dense = build(options.seed)
    fit(dense, train, options.epochs, 2e-3)
    console.print(kf.channel_groups(dense).render(), highlight=False)
    add_row(table, "dense", dense, test)

    zeroed = keras.models.clone_model(dense)
    zeroed.set_weights(dense.get_weights())
    prune = kf.PruneSchedule(0.5, pattern="channel")
    fit(zeroed, train, options.epochs, 1e-3, prune)
    add_row(table, "half of the channels zero", zeroed, test)
    small = kf.shrink(zeroed)  # exactly what is dead
    add_row(table, "and taken out", small, test)
    moved = np.abs(logits(zeroed, test[0]) - logits(small, test[0])).max()
    console.print(f"Taking them out moves the logits by {moved:.1e} at most.")

    cut, report = kf.shrink(
        dense, target_macs=1 / 3, scores="taylor", data=train, return_report=True
    )
    console.print(report.render(), highlight=False)
    add_row(table, "a third of the MACs, at once", cut, test)
    fit(cut, train, options.epochs, 1e-3)
    add_row(table, "the same, trained on", cut, test)
    add_row(table, "widened by half", kf.widen(cut, 1.5), test)
    console.print(table)
    console.print(kf.measure_latency(cut, test[0][:1], against=dense, runs=30).render())
    console.print(f"All in {time.perf_counter() - begin:.0f} s.")


if __name__ == "__main__":
    main()
