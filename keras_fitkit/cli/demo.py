"""`keras-fitkit demo`: a small net on real digits, from an installed package alone."""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_fitkit as kf
from keras_fitkit._core import arguments
from keras_fitkit.cli.files import say, show, show_json

EPOCHS, PRUNING_EPOCHS, INTEGER_EPOCHS = 20, 8, 2
TRAIN, VALIDATION = 700, 400  # of the 1797 digits; the rest tests


def run(options: argparse.Namespace) -> None:
    """Trains, prunes, quantizes and compares, in about half a minute."""
    train, validation, test = _digits(options.seed)
    out = None
    if options.out is not None:
        out = arguments.folder("--out", options.out)
        out.mkdir(parents=True, exist_ok=True)
    rows = f"{len(train[1])} to train, {len(validation[1])} to validate"
    say(options.quiet, f"digits of scikit-learn: {rows}, {len(test[1])} to test")
    say(options.quiet, "1. train, watched by kf.OverfitMonitor")
    dense, monitor = _trained(train, validation, options.seed)
    say(options.quiet, "2. prune: kf.PruneSchedule(0.8)")
    pruned = _pruned(dense, train, validation)
    models: dict[str, Any] = {"dense": dense, "pruned": pruned}
    with tempfile.TemporaryDirectory() as folder:
        file = (out or Path(folder)) / "int8.tflite"
        if keras.backend.backend() == "tensorflow":
            say(options.quiet, "3. quantize: kf.quantize_model(pruned, 'int8')")
            _quantized(pruned, train, file)
            models["int8"] = str(file)
        say(options.quiet, "4. compare: kf.compare(models, data=test)")
        found = kf.compare(models, data=test)
    if out is not None:
        _drawn(out, monitor, found)
        pruned.save(out / "pruned.keras")
        say(options.quiet, f"written: pictures and models in {out}")
    if options.json:
        show_json({"diagnosis": monitor.report().to_dict(), **found.to_dict()})
    else:
        show(f"{monitor.report().summary}\n{found.render()}")


def _digits(seed: int) -> list[tuple[Any, Any]]:
    """The 1797 digits that come with scikit-learn: train, validation, test."""
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ImportError(
            "The demonstration needs scikit-learn. Install it with: pip install "
            "'keras-fitkit[demo]'"
        ) from error
    found = datasets.load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    images = found.images[order, ..., None].astype("float32") / 16
    labels = found.target[order].astype("int32")
    ends = [TRAIN, TRAIN + VALIDATION]
    return list(zip(np.split(images, ends), np.split(labels, ends), strict=True))


def _trained(train: Any, validation: Any, seed: int) -> tuple[Any, Any]:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ],
        name="digits",
    )
    model.compile(keras.optimizers.Adam(2e-3), _loss(), metrics=["accuracy"])
    monitor = kf.OverfitMonitor(verbose=0)
    _fit(model, train, EPOCHS, [monitor], validation)
    return model, monitor


def _pruned(dense: Any, train: Any, validation: Any) -> Any:
    model = keras.models.clone_model(dense)
    model.set_weights(dense.get_weights())
    model.compile(keras.optimizers.Adam(1e-3), _loss(), metrics=["accuracy"])
    pruner = kf.PruneSchedule(0.8, allocation="global")
    _fit(model, train, PRUNING_EPOCHS, [pruner], validation)
    return model


def _quantized(pruned: Any, train: Any, path: Path) -> None:
    integers = kf.quantize_model(pruned, "int8")
    integers.compile(keras.optimizers.Adam(1e-4), _loss())
    _fit(integers, train, INTEGER_EPOCHS, [kf.PruneSchedule.hold()])
    kf.export_litert(integers, path)


def _loss() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _fit(
    model: Any, data: Any, epochs: int, callbacks: list[Any], validation: Any = None
) -> None:
    model.fit(
        *data,
        epochs=epochs,
        batch_size=32,
        verbose=0,
        validation_data=validation,
        callbacks=callbacks,
    )


def _drawn(out: Path, monitor: Any, found: Any) -> None:
    monitor.plot(out / "gap.png")
    found.plot(out / "pareto.png")
    for name, lost in found.forgotten.items():
        lost.plot(out / f"forgotten-{name}.png")
