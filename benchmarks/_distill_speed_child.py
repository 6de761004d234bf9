"""The arms of distill_speed.py: fits and evaluations that wait for their turn.

One process: all arms share a backend, and each is compiled and warm before it counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from _child import serve
from _overhead_child import Arm

import keras_fitkit as kf

BATCH, BATCHES = 128, 20
SIZES = {"small": (64, 256, 64), "medium": (784, 512, 256), "large": (784, 1200, 800)}
TEMPERATURE, SHARE = 4.0, 0.5
FROM_ROWS = (
    *("student from rows", "one array more"),
    *("cached", "ideal cached", "ideal cached, logged"),
)


class Arms:
    """The commands: `start` an arm, run so many batches of it."""

    def __init__(self, part: str) -> None:
        self.width, self.wide, self.thin = SIZES[part]
        rng = np.random.default_rng(0)
        rows = BATCH * BATCHES
        self.x = rng.normal(size=(rows, self.width)).astype("float32")
        self.y = rng.integers(10, size=rows)
        self.arms: dict[str, Callable[[int], float]] = {}
        self._folder = tempfile.TemporaryDirectory()

    def start(self, arm: str, warm: int) -> None:
        """Makes an arm and runs `warm` batches of it."""
        if arm.startswith("evaluate"):
            self.arms[arm] = self._evaluated(arm.split()[1])
        else:
            model, data = self._trained(arm)
            self.arms[arm] = Arm(keras, model, [], data).run
        self.arms[arm](warm)

    def steps(self, arm: str, count: int) -> float:
        """CPU seconds of so many batches."""
        return self.arms[arm](count)

    def _trained(self, arm: str) -> tuple[Any, Any]:
        if arm in FROM_ROWS:
            return self._from_rows(arm)
        data = tf.data.Dataset.from_tensor_slices((self.x, self.y))
        data = data.batch(BATCH, drop_remainder=True).cache().repeat()
        kind, _, more = arm.partition(" + ")
        logged = more.endswith(", logged")
        return self._distiller(kind, more.startswith("tap"), logged), data

    def _from_rows(self, arm: str) -> tuple[Any, Any]:
        if arm == "student from rows":
            rows = kf.ReproducibleDataset(self.x, self.y, batch_size=BATCH, seed=0)
            return self._distiller("student", False), _Endless(rows)
        teacher = self._net(self.wide)
        path = Path(self._folder.name) / arm
        cache = kf.cache_teacher(teacher, self.x, path, verbose=0)
        if arm == "cached":
            loss = kf.distillation.LogitsDistillation(TEMPERATURE)
            model = kf.Distiller(cache, self._net(self.thin), loss)
        elif arm.startswith("ideal cached"):
            model = _IdealCached(self._net(self.thin), logged=arm.endswith("logged"))
        else:
            model = _Deaf(self._net(self.thin))
        _compile(model)
        return model, _Endless(cache.dataset(self.x, self.y, batch_size=BATCH, seed=0))

    def _distiller(self, kind: str, tap: bool, logged: bool = False) -> Any:
        student = self._net(self.thin)
        teacher = None if kind == "student" else self._net(self.wide)
        if kind == "student":
            model = student
        elif kind == "ideal":
            model = _Ideal(teacher, student, tap, logged)
        elif kind == "kf":
            losses = [kf.distillation.LogitsDistillation(TEMPERATURE)]
            if tap:
                # Two layers of one width: what Keras can compute as well.
                losses.append(kf.distillation.FeatureDistillation("tap", "tap"))
            model = kf.Distiller(teacher, student, losses, student_loss_weight=SHARE)
        else:
            api = keras.distillation
            soft = api.LogitsDistillation(TEMPERATURE, keras.losses.KLDivergence())
            losses = [soft]
            if tap:
                layers = {"teacher_layer_name": "tap", "student_layer_name": "tap"}
                losses.append(api.FeatureDistillation(loss="mse", **layers))
            model = api.Distiller(teacher, student, losses, student_loss_weight=SHARE)
        _compile(model)
        return model

    def _net(self, units: int) -> Any:
        return keras.Sequential(
            [
                keras.Input((self.width,)),
                keras.layers.Dense(units, "relu"),
                keras.layers.Dense(units, "relu"),
                keras.layers.Dense(32, name="tap"),
                keras.layers.Dense(10),
            ]
        )

    def _evaluated(self, kind: str) -> Callable[[int], float]:
        model = self._distiller(kind, tap=kind != "student")

        def run(count: int) -> float:
            rows = BATCH * min(count, BATCHES)
            begun = time.process_time()
            model.evaluate(self.x[:rows], self.y[:rows], batch_size=BATCH, verbose=0)
            return (time.process_time() - begun) * count / min(count, BATCHES)

        return run


class _Endless(keras.utils.PyDataset):
    """The batches of a data set over and over."""

    def __init__(self, rows: Any) -> None:
        super().__init__()
        self._rows = rows

    @property
    def num_batches(self) -> None:
        """Unknown: there is no end."""

    def __getitem__(self, index: int) -> Any:
        return self._rows[index % len(self._rows)]


class _Deaf(keras.Model):
    """A student that is handed what the teacher said and does not use it."""

    def __init__(self, student: Any) -> None:
        super().__init__(name="deaf")
        self.student, self.built = student, True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The student, of its own inputs."""
        return self.student(inputs["inputs"], training=training)


class _Logs:
    """The means of terms by Keras's own metrics, weighted by batch size."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.means = [keras.metrics.Mean(name) for name in names]

    def update(self, values: tuple[Any, ...], like: Any) -> None:
        """Takes in a batch."""
        size = keras.ops.shape(like)[0]
        for mean, value in zip(self.means, values, strict=True):
            mean.update_state(value, sample_weight=size)


class _IdealCached(_Deaf):
    """A student that reads what it is handed: nothing is logged or can be changed."""

    def __init__(self, student: Any, logged: bool = False) -> None:
        super().__init__(student)
        names = ("student_loss", "distillation_loss") if logged else ()
        self.logs = _Logs(names)
        self.terms = self.logs.means  # tracked

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
        """The label loss of a student's step, and soft targets."""
        label = super().compute_loss(None, y, y_pred)
        goal = x["keras_fitkit_teacher_outputs"]["logits_0"]
        soft = _soft(goal, y_pred)
        if self.terms:
            self.logs.update((label, soft), y_pred)
        return SHARE * label + (1 - SHARE) * soft


class _Ideal(keras.Model):
    """The least that soft targets cost: nothing is checked, nothing can be changed."""

    def __init__(
        self, teacher: Any, student: Any, tap: bool, logged: bool = False
    ) -> None:
        super().__init__(name="ideal")
        self.student, self._tap = student, tap
        names = ("student_loss", "distillation_loss", "logits_loss", "layer_loss")
        self.logs = _Logs(names if logged else ())
        self.terms = self.logs.means  # tracked
        models = [teacher, student]
        if tap:
            models = [
                keras.Model(m.inputs, [m.outputs[0], m.get_layer("tap").output])
                for m in models
            ]
        self._ask = (lambda x: models[0](x, training=False), models[1])
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """The student; in training with its layer."""
        return self._ask[1](x, training=training) if training else self.student(x)

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
        """The student's own label loss, soft targets, the difference of a layer."""
        said = self._ask[0](x)
        logits, goal = (y_pred[0], said[0]) if self._tap else (y_pred, said)
        label, soft = super().compute_loss(None, y, logits), _soft(goal, logits)
        total = soft
        if self._tap:
            layer = keras.ops.mean(keras.ops.square(said[1] - y_pred[1]))
            total = soft + layer
            if self.terms:
                self.logs.update((label, total, soft, layer), logits)
        return SHARE * label + (1 - SHARE) * total


def _soft(goal: Any, logits: Any) -> Any:
    p = keras.ops.log_softmax(goal / TEMPERATURE)
    q = keras.ops.log_softmax(logits / TEMPERATURE)
    return TEMPERATURE**2 * keras.ops.mean(
        keras.ops.sum(keras.ops.exp(p) * (p - q), axis=-1)
    )


def _compile(model: Any) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)


def main() -> None:
    """Serves the commands of one part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=SIZES)
    arms = Arms(parser.parse_args().part)
    serve({name: getattr(arms, name) for name in ("start", "steps")})


if __name__ == "__main__":
    main()
