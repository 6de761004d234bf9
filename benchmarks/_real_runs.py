"""Real Keras runs on scikit-learn data, with labels that no rule under test decides.

Each configuration is trained a few times, each time on other rows and from other
weights. The user's side has few training rows and a small validation set. Beside them
stands a large held-out set that no rule ever sees. The label comes from its loss
(penalty removed), mean over a configuration's runs, then a centred mean over 5
epochs:

- overfitting: it ends more than `RISES` above its minimum, the minimum lies before the
  last third of the run, and the training loss ends no higher than it was there;
- not overfitting: it ends less than `FLAT` above its minimum, or the training loss has
  risen since by at least half as much (that is divergence);
- anything between: ambiguous, left out and counted.

A run whose own held-out curve says otherwise than its configuration's mean is
ambiguous too. The onset is the minimum of the run's own held-out curve.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _curves import NO_ONSET, FloatArray
from _recipes import Configuration

from keras_fitkit._core.files import atomic_path

EPOCHS = 70
RISES = 0.05
FLAT = 0.02
AMBIGUOUS = -2
MOST_HELD_OUT = 1500

SERIES = (
    "keras_train",
    "keras_validation",
    "clean_train",
    "clean_validation",
    "held_out",
)


@dataclasses.dataclass(frozen=True)
class RealRun:
    """One training run: the logged series by name, and its onset or why it has none."""

    name: str
    seed: int
    series: dict[str, FloatArray]
    onset: int


def load_or_train(
    configurations: tuple[Configuration, ...],
    seeds: tuple[int, ...],
    cache: Path,
    announce: Callable[[str], None],
) -> list[RealRun]:
    """Every run of every configuration, from `cache` or trained now and kept there."""
    stored = _read(cache)
    for configuration in configurations:
        for seed in seeds:
            if f"{configuration.key}/{seed}" not in stored:
                announce(f"training {configuration.name}, seed {seed}")
                stored[f"{configuration.key}/{seed}"] = _train(configuration, seed)
                _write(cache, stored)
    return [
        run
        for configuration in configurations
        for run in _labelled(
            configuration.name,
            {seed: stored[f"{configuration.key}/{seed}"] for seed in seeds},
        )
    ]


def onset_of(held_out: FloatArray, train: FloatArray) -> int:
    """The onset of overfitting by the criterion above, `NO_ONSET` or `AMBIGUOUS`."""
    if not (np.isfinite(held_out).all() and np.isfinite(train).all()):
        return NO_ONSET
    loss, train = _centred_mean(held_out), _centred_mean(train)
    lowest = int(np.argmin(loss))
    rise, train_rise = loss[-1] - loss[lowest], train[-1] - train[lowest]
    if rise < FLAT * loss[lowest] or train_rise > rise / 2:
        return NO_ONSET
    clear = rise > RISES * loss[lowest] and train_rise <= 0
    return lowest if clear and lowest < len(loss) * 2 / 3 else AMBIGUOUS


def _labelled(name: str, runs: dict[int, FloatArray]) -> Iterator[RealRun]:
    train, held_out = SERIES.index("clean_train"), SERIES.index("held_out")
    mean = np.mean(list(runs.values()), axis=0)
    together = onset_of(mean[held_out], mean[train])
    for seed, run in runs.items():
        onset = onset_of(run[held_out], run[train])
        agrees = AMBIGUOUS not in (onset, together)
        agrees = agrees and (onset == NO_ONSET) == (together == NO_ONSET)
        series = dict(zip(SERIES, run, strict=True))
        yield RealRun(name, seed, series, onset if agrees else AMBIGUOUS)


def _centred_mean(values: FloatArray, width: int = 5) -> FloatArray:
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def _read(cache: Path) -> dict[str, FloatArray]:
    if not cache.exists():
        return {}
    with np.load(cache, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _write(cache: Path, runs: dict[str, FloatArray]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(cache, suffix=".npz") as path:
        np.savez_compressed(path, allow_pickle=False, **runs)


def _train(configuration: Configuration, seed: int) -> FloatArray:
    """Trains one run and returns its series, of shape (len(SERIES), EPOCHS)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(seed)
    parts = _split(configuration, np.random.default_rng([seed, 11]))
    model = _build(keras, configuration, parts["train"])
    recorder = _recorder(keras, parts)
    model.fit(
        *parts["train"],
        validation_data=parts["validation"],
        epochs=EPOCHS,
        batch_size=configuration.batch_size,
        callbacks=[recorder],
        verbose=0,
    )
    keras.backend.clear_session()
    return np.array([recorder.series[name] for name in SERIES])


_Rows = tuple[FloatArray, FloatArray]


def _split(configuration: Configuration, rng: np.random.Generator) -> dict[str, _Rows]:
    x, y = _load(configuration.data, rng)
    x = ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)).astype("float32")
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    ends = np.cumsum([configuration.rows, configuration.validation_rows, MOST_HELD_OUT])
    noisy = _noisy_labels(y, configuration.label_noise, rng)
    rest = y if configuration.clean_validation else noisy
    return {
        "train": (x[: ends[0]], noisy[: ends[0]]),
        "validation": (x[ends[0] : ends[1]], rest[ends[0] : ends[1]]),
        "held_out": (x[ends[1] : ends[2]], rest[ends[1] : ends[2]]),
    }


def _load(data: str, rng: np.random.Generator) -> _Rows:
    from sklearn import datasets

    draw = int(rng.integers(2**31))
    bundled = {
        "digits": datasets.load_digits,
        "cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
        "wine": datasets.load_wine,
    }
    if data in bundled:
        x, y = bundled[data](return_X_y=True)
    elif data == "moons":
        x, y = datasets.make_moons(2200, noise=0.3, random_state=draw)
    else:
        x, y = datasets.make_friedman1(2200, noise=0.5, random_state=draw)
    if np.issubdtype(np.asarray(y).dtype, np.integer):
        return x, y
    return x, ((y - y.mean()) / y.std()).astype("float32")


def _noisy_labels(y: FloatArray, amount: float, rng: np.random.Generator) -> FloatArray:
    if np.issubdtype(y.dtype, np.integer):
        drawn_anew = rng.random(len(y)) < amount
        return np.where(drawn_anew, rng.integers(0, y.max() + 1, len(y)), y)
    return (y + amount * rng.normal(size=len(y))).astype("float32")


def _build(keras: Any, configuration: Configuration, rows: _Rows) -> Any:
    x, y = rows
    classes = int(y.max()) + 1 if np.issubdtype(y.dtype, np.integer) else 0
    layers = [keras.Input((x.shape[1],))]
    if configuration.input_noise:
        layers.append(keras.layers.GaussianNoise(configuration.input_noise))
    for units in configuration.hidden:
        penalty = keras.regularizers.L2(configuration.l2) if configuration.l2 else None
        layers.append(
            keras.layers.Dense(units, activation="relu", kernel_regularizer=penalty)
        )
        if configuration.dropout:
            layers.append(keras.layers.Dropout(configuration.dropout))
    layers.append(keras.layers.Dense(classes or 1))
    model = keras.Sequential(layers)
    optimizer = keras.optimizers.get(configuration.optimizer)
    optimizer.learning_rate = configuration.learning_rate
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=crossentropy if classes else "mse")
    return model


def _recorder(keras: Any, parts: dict[str, _Rows]) -> Any:
    class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
        """Keras's own two losses; three in inference mode without the penalty."""

        def __init__(self) -> None:
            super().__init__()
            self.series: dict[str, list[float]] = {name: [] for name in SERIES}

        def on_epoch_end(
            self, epoch: int, logs: dict[str, float] | None = None
        ) -> None:
            logs = logs or {}
            self.series["keras_train"].append(logs["loss"])
            self.series["keras_validation"].append(logs["val_loss"])
            for name, part in zip(
                SERIES[2:], ("train", "validation", "held_out"), strict=True
            ):
                self.series[name].append(self._clean_loss(part))

        def _clean_loss(self, part: str) -> float:
            logged = self.model.test_on_batch(*parts[part], return_dict=True)["loss"]
            return float(logged) - sum(float(penalty) for penalty in self.model.losses)

    return Recorder()
