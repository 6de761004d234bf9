"""The rows of mnist_compression.py: how a net is trained, pruned, clustered, packed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from _models import MODELS
from _shifted import Shifted

import keras_fitkit as kf
from keras_fitkit._core.files import atomic_path

BATCH, LAST_RATE = 256, 0.01
TEMPERATURE, SHARE, RAMP, FREQUENCY = 4.0, 0.1, 0.6, 50
BIAS_STEPS = 16  # biases are multiples of 1/16
MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # of the digits, in pixels
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclasses.dataclass(frozen=True)
class Dense:
    """How the net that everything starts from is trained.

    Attributes:
        net: its name in `_models.MODELS`.
        epochs: with the digits moved by up to `shift` pixels, another way in each.
        shift: in pixels.
        dropout: before each Dense but the first.
        rate: of Adam at the start; it falls along a cosine.
        seed: of the weights, of the batches, and of all that follows.
        rows: digits that are trained on.
    """

    net: str
    epochs: int
    shift: int
    dropout: float
    rate: float
    seed: int = 0
    rows: int = 55_000

    @property
    def dense(self) -> Dense:
        """Itself."""
        return self


@dataclasses.dataclass(frozen=True)
class Pruning:
    """How zeros are made.

    Attributes:
        start: a dense net, or one that was pruned before.
        nonzero: weights that stay, in all kernels together.
        passes: over all digits and their moved copies.
        narrowed: fractions of the filters and units that are taken out first, by layer
            from the first on. Defaults to none.
        rate: of Adam at the start; it falls along a cosine.
    """

    start: Dense | Pruning
    nonzero: int
    passes: int
    narrowed: tuple[float, ...] = ()
    rate: float = 2e-3

    @property
    def dense(self) -> Dense:
        """Where it all began: the teacher too."""
        return self.start.dense


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the row, within its net.
        start: the net as it is, or the one whose kernels get few values.
        clusters: how many values, zero included.
        passes: of the training of the values.
        rate: of Adam at the start of that.
        validated: whether the digits held back are tested, not the test digits.
    """

    name: str
    start: Dense | Pruning
    clusters: int = 0
    passes: int = 1
    rate: float = 3e-4
    validated: bool = False

    @property
    def dense(self) -> Dense:
        """Where it all began."""
        return self.start.dense

    @property
    def full_name(self) -> str:
        """What `--only` looks at."""
        return f"{self.dense.net}/{self.name}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        return {
            "row": self.full_name,
            "validated": self.validated,
            "how": described(self),
        }


class Trainer:
    """Makes the nets; what a row is made of is kept in files and found again.

    Args:
        data: images (rows, 28, 28) from 0 to 1, and labels.
        folder: for the files.
    """

    def __init__(self, data: dict[str, Any], folder: Path) -> None:
        self.data, self.folder = data, folder

    def run(self, row: Row) -> dict[str, Any]:
        """Errors on what is tested, sizes in bytes, CPU seconds of all that it took."""
        keras.utils.clear_session()
        parameters = MODELS[row.dense.net](keras).count_params()
        found: dict[str, Any] = {"parameters": parameters}
        if isinstance(row.start, Dense):
            model, seconds = self.made(row.start)
        else:
            small, seconds = self.made(row)
            path = self._path(row).with_suffix(".kfz")
            size = kf.save_packed(small, path)
            model = kf.load_packed(path)  # what is counted is what the file says
            found["file_bytes"] = path.stat().st_size
            found["weight_bytes"] = size.weights_bytes
        return {
            **found,
            "nonzero": _nonzero(model.weights),
            "errors": self._errors(model),
            "tested": len(self.data["y_test"]),
            "cpu_seconds": round(seconds),
        }

    def made(self, how: Dense | Pruning | Row) -> tuple[Any, float]:
        """What a stage makes, now or before, and the CPU seconds of all up to it."""
        path = self._path(how)
        note = path.with_suffix(".json")
        if path.exists() and note.exists():
            seconds = json.loads(note.read_text())["cpu_seconds"]
            return keras.models.load_model(path, compile=False), seconds
        start, seconds = (None, 0.0) if isinstance(how, Dense) else self.made(how.start)
        begun = time.process_time()
        if isinstance(how, Dense):
            model = self._dense(how)
        elif isinstance(how, Pruning):
            model = self._pruned(how, start)
        else:
            model = self._clustered(how, start)
        seconds += time.process_time() - begun
        with atomic_path(path, suffix=".keras") as unfinished:
            model.save(unfinished)
        note.write_text(json.dumps({"cpu_seconds": seconds, "how": described(how)}))
        return model, seconds

    def _dense(self, how: Dense) -> Any:
        keras.utils.set_random_seed(how.seed)
        model = MODELS[how.net](keras)
        x, y = self._training(how)
        images = Shifted(x, y, how.seed, how.shift, model.input_shape[1:])
        trained = _with_dropout(model, how.dropout)
        trained.compile(_adam(how.rate, how.epochs * len(images)), LOSS)
        trained.fit(images, epochs=how.epochs, shuffle=False, verbose=0)
        return model

    def _pruned(self, how: Pruning, start: Any) -> Any:
        """Zeros in growing number, taught by the dense net; useless units go."""
        model = plain(narrowed(start, how.narrowed))
        kernels = [one for one in model.weights if len(one.shape) > 1]
        size = sum(int(np.prod(one.shape)) for one in kernels)
        taught = self._taught(how.dense)
        schedule = kf.PolynomialSparsity(
            1 - how.nonzero / size,
            begin_step=0,
            end_step=max(1, int(RAMP * how.passes * -(-len(taught[1]) // BATCH))),
            initial_sparsity=1 - _nonzero(kernels) / size,
            frequency=FREQUENCY,
        )
        prune = kf.PruneSchedule(schedule, allocation="global")
        self._fit(model, taught, how, [prune])
        return plain(kf.shrink(model))  # the predictions stay

    def _clustered(self, how: Row, model: Any) -> Any:
        """Few values in each kernel, the biases on a grid, trained on."""
        for layer in model.layers:
            if layer.weights:
                bias = keras.ops.convert_to_numpy(layer.bias)
                layer.bias.assign(np.rint(bias * BIAS_STEPS) / BIAS_STEPS)
                layer.bias.trainable = False
        callbacks = [kf.PruneSchedule.hold(), kf.ClusterWeights(how.clusters)]
        self._fit(model, self._taught(how.dense), how, callbacks)
        for kernel in model.trainable_variables:  # 16 bits for each of the few values
            short = keras.ops.cast(keras.ops.cast(kernel, "bfloat16"), "float32")
            kernel.assign(short)
        return model

    def _taught(self, how: Dense) -> tuple[Any, Any, Any]:
        """Digits and copies moved by a pixel, and what the dense net says of them."""
        teacher, _ = self.made(how)
        x, y = self._training(how)
        x = moved(x).reshape(-1, *teacher.input_shape[1:])
        path = self._path(how).with_suffix(".cache")
        cache = kf.cache_teacher(teacher, x, path, batch_size=1000, verbose=0)
        return x, np.tile(y, len(MOVES)), cache

    def _fit(
        self, model: Any, taught: tuple[Any, Any, Any], how: Any, callbacks: list[Any]
    ) -> None:
        x, y, cache = taught
        loss = kf.distillation.LogitsDistillation(TEMPERATURE)
        distiller = kf.Distiller(cache, model, loss, student_loss_weight=SHARE)
        data = cache.dataset(x, y, batch_size=BATCH, seed=how.dense.seed + 1)
        distiller.compile(_adam(how.rate, how.passes * len(data)), LOSS)
        fit = {"epochs": how.passes, "shuffle": False, "verbose": 0}
        distiller.fit(data, callbacks=callbacks, **fit)

    def _training(self, how: Dense) -> tuple[Any, Any]:
        return self.data["x_train"][: how.rows], self.data["y_train"][: how.rows]

    def _errors(self, model: Any) -> int:
        x = self.data["x_test"].reshape(-1, *model.input_shape[1:])
        said = model.predict(x, batch_size=500, verbose=0)
        return int((said.argmax(axis=1) != self.data["y_test"]).sum())

    def _path(self, how: Dense | Pruning | Row) -> Path:
        """A file name of all that a stage depends on."""
        text = json.dumps(described(how), sort_keys=True)
        code = hashlib.sha256(text.encode()).hexdigest()[:10]
        stage = "clustered" if isinstance(how, Row) else type(how).__name__.lower()
        name = f"mnist_compression_{how.dense.net}_{stage}_{code}.keras"
        return self.folder / name


def described(how: Dense | Pruning | Row) -> dict[str, Any]:
    """All that the result depends on, as it comes back from JSON."""
    found = dataclasses.asdict(how)
    for label in ("name", "validated"):
        found.pop(label, None)
    found["shared"] = [BATCH, LAST_RATE]
    if not isinstance(how, Dense):
        found["shared"] += [TEMPERATURE, SHARE, RAMP, FREQUENCY, BIAS_STEPS, MOVES]
    plain_values: dict[str, Any] = json.loads(json.dumps(found))
    return plain_values


def moved(images: Any) -> Any:
    """The images and their copies, moved by a pixel; zeros come in at the border."""
    padded = np.pad(images.astype("float16"), ((0, 0), (1, 1), (1, 1)))
    copies = [
        padded[:, 1 + down : 29 + down, 1 + right : 29 + right] for down, right in MOVES
    ]
    return np.concatenate(copies)


def narrowed(model: Any, fractions: Sequence[float]) -> Any:
    """The model without these fractions of its filters and units, by layer."""
    if not fractions:
        return model
    layers = [layer.name for layer in model.layers if layer.weights]
    return kf.shrink(model, layers=dict(zip(layers, fractions, strict=False)))


def plain(model: Any) -> Any:
    """A Sequential with these layers and weights: the shortest description of them."""
    copies = [type(one).from_config(one.get_config()) for one in model.layers]
    layers = [one for one in copies if not isinstance(one, keras.layers.InputLayer)]
    made = keras.Sequential([keras.Input(model.input_shape[1:]), *layers])
    made.set_weights(model.get_weights())
    return made


def _nonzero(weights: Iterable[Any]) -> int:
    arrays = [keras.ops.convert_to_numpy(weight) for weight in weights]
    return sum(int(np.count_nonzero(array)) for array in arrays)


def _with_dropout(model: Any, rate: float) -> Any:
    """The same layers, with dropout behind each Dense but the last."""
    layers: list[Any] = [keras.Input(model.input_shape[1:])]
    for layer in model.layers:
        layers.append(layer)
        if isinstance(layer, keras.layers.Dense) and layer is not model.layers[-1]:
            layers.append(keras.layers.Dropout(rate))
    return keras.Sequential(layers)


def _adam(rate: float, steps: int) -> Any:
    decay = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=LAST_RATE)
    return keras.optimizers.Adam(decay)
