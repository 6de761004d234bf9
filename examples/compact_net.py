"""Build a small net from blocks, fuse it and factorize it, on real digits.

    python examples/compact_net.py [--seed SEED] [--epochs EPOCHS]

The same net of three stages is built from four kinds of block and trained on 1200 of
the 1797 digits of scikit-learn. Then the RepVGG one is fused: its branches become
single convolutions, and it gives the same answers. At last the net of plain
convolutions is factorized to half of its multiplications and trained for a few epochs
more. Each test accuracy comes with its 95 % interval: on so few rows small differences
mean nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
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
BLOCKS = {
    "3x3 convolution": kf.blocks.conv_norm_act,
    "separable (MobileNetV1)": kf.blocks.separable_block,
    "ghost module (GhostNet)": kf.blocks.ghost_module,
    "re-parameterized (RepVGG)": kf.blocks.rep_conv,
}
Rows = tuple[np.ndarray, np.ndarray]
console = Console()


def digits(seed: int) -> tuple[Rows, Rows]:
    """Train and test rows without a common one."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images = images[order].reshape(-1, 8, 8, 1).astype("float32") / 16.0
    train, test = slice(TRAIN_ROWS), slice(TRAIN_ROWS, None)
    return (images[train], labels[order][train]), (images[test], labels[order][test])


def build(block: Callable[..., Any], seed: int) -> keras.Model:
    """Three stages of one kind of block."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    own: dict[str, Any] = {"norm_momentum": 0.9}  # few steps: 0.99 would lag behind
    x = kf.blocks.conv_norm_act(inputs, 16, name="stem", **own)
    for stage, (filters, strides) in enumerate(((16, 1), (32, 2), (64, 2))):
        x = block(x, filters, strides=strides, name=f"stage{stage}", **own)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="classes")(x))


def train(model: keras.Model, rows: Rows, epochs: int, rate: float) -> None:
    """An ordinary fit."""
    model.compile(keras.optimizers.Adam(rate), LOSS)
    model.fit(*rows, batch_size=64, epochs=epochs, verbose=0)


def accuracy(model: keras.Model, rows: Rows) -> str:
    """Share of right answers with its 95 % Wilson interval, as text."""
    images, labels = rows
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    answers = logits.argmax(axis=1)
    right = int((answers == labels).sum())
    share = binomtest(right, len(labels)).proportion_ci(method="wilson")
    found = 100 * right / len(labels)
    return f"{found:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f} %)"


def main() -> None:
    """Builds, trains, fuses, factorizes and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10, help="of each net")
    options = parser.parse_args()
    rows, test = digits(options.seed)
    table = Table("net", "layers", "parameters", "test accuracy (95 % interval)")

    def add(name: str, model: keras.Model) -> None:
        counts = (str(len(model.layers)), f"{model.count_params():,}")
        table.add_row(name, *counts, accuracy(model, test))

    nets = {}
    for name, block in BLOCKS.items():
        begin = time.perf_counter()
        nets[name] = build(block, options.seed)
        train(nets[name], rows, options.epochs, 3e-3)
        console.print(f"{name}: trained in {time.perf_counter() - begin:.1f} s")
        add(name, nets[name])

    deploy = kf.fuse(nets["re-parameterized (RepVGG)"])
    add("  the last one, fused", deploy)

    plain = kf.fuse(nets["3x3 convolution"])
    small, report = kf.factorize(
        plain, target_macs=0.5, data=rows[0][:200], return_report=True
    )
    add("3x3 convolution, half the MACs", small)
    train(small, rows, max(1, options.epochs // 3), 1e-3)
    add("  the same, trained on", small)
    console.print(table)
    console.print(str(report), highlight=False)


if __name__ == "__main__":
    main()
