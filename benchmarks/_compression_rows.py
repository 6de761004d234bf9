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
from _distill_rows import Shifted
from _models import MODELS

import keras_fitkit as kf

BATCH, LAST_RATE, HELD_BACK = 256, 0.01, 5000
TEMPERATURE, SHARE, RAMP, FREQUENCY = 4.0, 0.1, 0.6, 50
BIAS_STEPS = 32  # biases are multiples of 1/32
MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # of the digits, in pixels
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
DENSE = "dense"


@dataclasses.dataclass(frozen=True)
class Dense:
    """How the net that everything starts from is trained.

    Attributes:
        net: its name in `_models.MODELS`.
        epochs: with the digits moved by up to `shift` pixels, another way in each.
        shift: in pixels.
        dropout: before each Dense but the first.
        rate: of Adam at the start; it falls along a cosine.
    """

    net: str
    epochs: int
    shift: int
    dropout: float
    rate: float


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a dense net gets small.

    Attributes:
        name: of the row.
        dense: the start, and the teacher.
        sparsity: fraction of zeros in all kernels together.
        passes: over all digits and their moved copies, of the pruning.
        clusters: values of each kernel, zero included.
        narrowed: fractions of the filters and units that are taken out first, by layer
            from the first on. Defaults to none.
        rate: of Adam at the start of the pruning; it falls along a cosine.
        cluster_passes: of the training of the values.
        cluster_rate: of Adam at the start of that.
    """

    name: str
    dense: Dense
    sparsity: float
    passes: int
    clusters: int
    narrowed: tuple[float, ...] = ()
    rate: float = 2e-3
    cluster_passes: int = 1
    cluster_rate: float = 3e-4


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    dense: Dense
    recipe: Recipe | None  # None: the dense net itself
    seed: int
    train_rows: int
    validated: bool

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        kind = DENSE if self.recipe is None else self.recipe.name
        return f"{self.dense.net}/{kind}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        shared = [BATCH, LAST_RATE, TEMPERATURE, SHARE, RAMP, FREQUENCY, BIAS_STEPS]
        how = dataclasses.asdict(self)
        # As it comes back from JSON: a tuple is a list there.
        plain: dict[str, Any] = json.loads(json.dumps({**how, "shared": shared}))
        return {"row": self.name, **plain}


class Trainer:
    """Makes the nets; what a row was made of is kept in files and found again.

    Args:
        data: images (rows, 28, 28) from 0 to 1, and labels.
        folder: for the files.
    """

    def __init__(self, data: dict[str, Any], folder: Path) -> None:
        self.data, self.folder = data, folder

    def run(self, row: Row) -> dict[str, Any]:
        """Errors on the test digits, sizes in bytes, seconds."""
        begun, cpu = time.perf_counter(), time.process_time()
        dense = self._dense(row)
        parameters = dense.count_params()
        found: dict[str, Any] = {"parameters": parameters, "nonzero": parameters}
        model = dense
        if row.recipe is not None:
            small = self._clustered(row, self._pruned(row, dense), dense)
            path = self.folder / f"{_name(row, 'packed')}.kfz"
            size = kf.save_packed(small, path)
            model = kf.load_packed(path)  # what is counted is what the file says
            found |= {
                "nonzero": _nonzero(model),
                "kept": model.count_params(),
                "file_bytes": path.stat().st_size,
                "weight_bytes": size.weights_bytes,
            }
        return {
            **found,
            "errors": self._errors(model),
            "tested": len(self.data["y_test"]),
            "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }

    def _dense(self, row: Row) -> Any:
        keras.utils.set_random_seed(row.seed)
        model, how = MODELS[row.dense.net](keras), row.dense
        path = self.folder / f"{_name(row, DENSE)}.weights.h5"
        if path.exists():
            model.load_weights(path)
            return model
        x, y = self.data["x_train"], self.data["y_train"]
        images = Shifted(x, y, row.seed, how.shift, model.input_shape[1:])
        trained = _with_dropout(model, how.dropout)
        trained.compile(_adam(how.rate, how.epochs * len(images)), LOSS)
        trained.fit(images, epochs=how.epochs, shuffle=False, verbose=0)
        _keep(model, path)
        return model

    def _pruned(self, row: Row, dense: Any) -> Any:
        """Zeros in growing number, taught by the dense net; units without use go."""
        recipe = row.recipe
        assert recipe is not None
        path = self.folder / f"{_name(row, 'pruned')}.keras"
        if path.exists():
            return keras.models.load_model(path, compile=False)
        model = plain(narrowed(dense, recipe.narrowed))
        steps = recipe.passes * self._steps(dense)
        schedule = kf.PolynomialSparsity(
            recipe.sparsity, 0, max(1, int(RAMP * steps)), frequency=FREQUENCY
        )
        prune = kf.PruneSchedule(schedule, allocation="global")
        self._taught(row, dense, model, recipe.passes, recipe.rate, [prune])
        model = plain(kf.shrink(model))  # the predictions stay
        unfinished = path.with_name(f"unfinished_{path.name}")
        model.save(unfinished)
        unfinished.replace(path)
        return model

    def _clustered(self, row: Row, model: Any, dense: Any) -> Any:
        """Few values in each kernel, the biases on a grid, trained on."""
        recipe = row.recipe
        assert recipe is not None
        for layer in model.layers:
            if layer.weights:
                bias = np.asarray(keras.ops.convert_to_numpy(layer.bias))
                layer.bias.assign(np.rint(bias * BIAS_STEPS) / BIAS_STEPS)
                layer.bias.trainable = False
        callbacks = [kf.PruneSchedule.hold(), kf.ClusterWeights(recipe.clusters)]
        passes, rate = recipe.cluster_passes, recipe.cluster_rate
        self._taught(row, dense, model, passes, rate, callbacks)
        for variable in model.trainable_variables:
            variable.assign(
                keras.ops.cast(keras.ops.cast(variable, "bfloat16"), "float32")
            )
        return model

    def _taught(
        self,
        row: Row,
        teacher: Any,
        student: Any,
        passes: int,
        rate: float,
        callbacks: list[Any],
    ) -> None:
        """Digits and copies moved by a pixel; the teacher is asked once about each."""
        x = moved(self.data["x_train"]).reshape(-1, *student.input_shape[1:])
        y = np.tile(self.data["y_train"], len(MOVES))
        path = self.folder / f"{_name(row, DENSE)}.cache"
        cache = kf.cache_teacher(teacher, x, path, batch_size=1000, verbose=0)
        loss = kf.distillation.LogitsDistillation(TEMPERATURE)
        distiller = kf.Distiller(cache, student, loss, student_loss_weight=SHARE)
        data = cache.dataset(x, y, batch_size=BATCH, seed=row.seed)
        distiller.compile(_adam(rate, passes * len(data)), LOSS)
        distiller.fit(
            data, epochs=passes, shuffle=False, verbose=0, callbacks=callbacks
        )

    def _steps(self, model: Any) -> int:
        return -(-len(MOVES) * len(self.data["y_train"]) // BATCH)

    def _errors(self, model: Any) -> int:
        x = self.data["x_test"].reshape(-1, *model.input_shape[1:])
        said = model.predict(x, batch_size=500, verbose=0)
        return int((said.argmax(axis=1) != self.data["y_test"]).sum())


def moved(images: Any) -> Any:
    """The images and their copies, moved by a pixel; zeros come in at the border."""
    padded = np.pad(images.astype("float16"), ((0, 0), (1, 1), (1, 1)))
    return np.concatenate(
        [
            padded[:, 1 + down : 29 + down, 1 + right : 29 + right]
            for down, right in MOVES
        ]
    )


def narrowed(model: Any, fractions: Sequence[float]) -> Any:
    """The model without these fractions of its filters and units, by layer."""
    if not fractions:
        return model
    layers = [layer.name for layer in model.layers if layer.weights]
    return kf.shrink(model, layers=dict(zip(layers, fractions, strict=False)))


def plain(model: Any) -> Any:
    """A Sequential of layers with these weights: the shortest description of it."""
    copies = [type(one).from_config(one.get_config()) for one in model.layers]
    layers = [one for one in copies if not isinstance(one, keras.layers.InputLayer)]
    made = keras.Sequential([keras.Input(model.input_shape[1:]), *layers])
    made.set_weights(model.get_weights())
    return made


def _nonzero(model: Any) -> int:
    weights = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    return sum(int(np.count_nonzero(weight)) for weight in weights)


def rows_of(
    recipes: Iterable[Recipe], seeds: Sequence[int], train_rows: int, validated: bool
) -> list[Row]:
    """All rows: of each net the dense one first."""
    rows: dict[str, Row] = {}
    for seed in seeds:
        for recipe in recipes:
            for kind in (None, recipe):
                row = Row(recipe.dense, kind, seed, train_rows, validated)
                rows.setdefault(row.name, row)
    return list(rows.values())


def _name(row: Row, stage: str) -> str:
    """A file name of all that a stage depends on."""
    key = {name: row.key[name] for name in ("dense", "seed", "train_rows", "shared")}
    if row.recipe is not None and stage != DENSE:
        late = (
            ()
            if stage == "packed"
            else ("name", "clusters", "cluster_passes", "cluster_rate")
        )
        recipe = row.key["recipe"]
        key["recipe"] = {name: recipe[name] for name in recipe if name not in late}
    how = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
    return f"mnist_compression_{row.dense.net}_{stage}_{how}"


def _keep(model: Any, path: Path) -> None:
    unfinished = path.with_name(f"unfinished_{path.name}")
    model.save_weights(unfinished)
    unfinished.replace(path)


def _with_dropout(model: Any, rate: float) -> Any:
    """The same layers, those after the first Dense with dropout before them."""
    layers: list[Any] = [keras.Input(model.input_shape[1:])]
    for layer in model.layers:
        layers.append(layer)
        if isinstance(layer, keras.layers.Dense) and layer is not model.layers[-1]:
            layers.append(keras.layers.Dropout(rate))
    return keras.Sequential(layers)


def _adam(rate: float, steps: int) -> Any:
    decay = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=LAST_RATE)
    return keras.optimizers.Adam(decay)
