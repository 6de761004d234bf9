"""Trains the teachers and students of distill_mnist.py as it is told, on one thread."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from _child import serve
from _distill_nets import LAYERS, MEAN, averaged, by_number, dense_net, numbered
from _distill_rows import (
    DROPOUT,
    HEARD,
    HINT,
    LAST_RATE,
    SETTINGS,
    SHIFT,
    TEACHER_BATCH,
    TEACHER_RATE,
    Row,
    Teacher,
)
from _shifted import Shifted

import keras_fitkit as kf

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Trainer:
    """The commands: `teach` makes a teacher, `train` a student.

    Args:
        data: an .npz with images and labels.
        folder: for the teachers and their caches.
    """

    def __init__(self, data: Path, folder: Path) -> None:
        with np.load(data) as stored:
            self.data = {name: stored[name] for name in stored.files}
        for name in ("x_train", "x_test"):
            images = self.data[name].reshape(-1, 784)
            self.data[name] = images.astype("float32") / 255.0
        self.folder = folder
        self._teachers: dict[Teacher, Any] = {}
        self._teacher_errors: dict[Teacher, list[int]] = {}

    def teach(self, teacher: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> float:
        """Trains a teacher and asks it what these students are to hear; CPU seconds."""
        cpu = time.process_time()
        model = self._teacher(Teacher(**teacher))
        for one in rows:
            row = Row(**one)
            if row.arm != "plain":
                self._cache(model, row, self._transfer_set(row)[0])
        return round(time.process_time() - cpu, 1)

    def train(self, **values: Any) -> dict[str, Any]:
        """Trains a student; its errors, those of the teacher, and seconds."""
        row = Row(**values)
        teacher = None if row.arm == "plain" else self._teacher(row.teacher)
        begun, cpu = time.perf_counter(), time.process_time()
        keras.utils.set_random_seed(row.seed)
        student = dense_net(SETTINGS[row.setting].units)
        x, y = self._transfer_set(row)
        if teacher is None:
            self._plain(student, row, x, y)
        else:
            self._taught(teacher, student, row, x, y)
        return {
            "errors": self._errors(student),
            "tested": len(self.data["y_test"]),
            "teacher_errors": None if teacher is None else self._of(row.teacher),
            "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }

    def _teacher(self, teacher: Teacher) -> Any:
        """784-1200-1200-10 with dropout, on shifted digits; kept in a file.

        It is asked about some places of each digit.
        """
        if teacher in self._teachers:
            return self._teachers[teacher]
        keras.utils.set_random_seed(0)
        made = dense_net(1200, DROPOUT)
        path = self.folder / f"{teacher.name}.weights.h5"
        if path.exists():
            made.load_weights(path)
        else:
            images, labels = (
                _again(self.data[name][: teacher.rows], teacher.times)
                for name in ("x_train", "y_train")
            )
            rows = Shifted(images, labels, 0, SHIFT, batch_size=TEACHER_BATCH)
            optimizer = _adam(teacher.epochs * len(rows), TEACHER_RATE)
            made.compile(optimizer, LOSS, jit_compile=True)
            made.fit(rows, epochs=teacher.epochs, verbose=0, shuffle=False)
            unfinished = path.with_name(f"unfinished_{path.name}")
            made.save_weights(unfinished)
            unfinished.replace(path)
        self._teachers[teacher] = averaged(made, HEARD)
        return self._teachers[teacher]

    def _cache(self, teacher: Any, row: Row, x: Any) -> Any:
        """What the teacher says of these images: its logits, and its hint if used."""
        taps = [MEAN] if SETTINGS[row.setting].hint else []
        name = f"{row.teacher.name}_on_{len(x)}{'_hint' * len(taps)}.cache"
        return kf.cache_teacher(teacher, x, self.folder / name, taps=taps, verbose=0)

    def _of(self, teacher: Teacher) -> list[int]:
        """The errors of a teacher as it is heard, and of one that is asked once."""
        if teacher not in self._teacher_errors:
            heard = self._teacher(teacher)
            layers = [heard.get_layer(name) for name in LAYERS]
            found = [self._errors(heard), self._errors(keras.Sequential(layers))]
            self._teacher_errors[teacher] = found
        return self._teacher_errors[teacher]

    def _errors(self, model: Any) -> int:
        """On the test digits."""
        said = model.predict(self.data["x_test"], batch_size=500, verbose=0)
        return int((said.argmax(axis=1) != self.data["y_test"]).sum())

    def _transfer_set(self, row: Row) -> tuple[Any, Any]:
        x, y = self.data["x_train"], self.data["y_train"]
        without = SETTINGS[row.setting].without
        kept = np.ones(len(y), bool) if without is None else y != without
        return x[kept], y[kept]

    def _plain(self, student: Any, row: Row, x: Any, y: Any) -> None:
        setting = SETTINGS[row.setting]
        if setting.labels is not None:  # as many steps, on fewer rows
            times = -(-len(y) // setting.labels)
            x, y = (_again(one[: setting.labels], times) for one in (x, y))
        data = kf.ReproducibleDataset(x, y, batch_size=setting.batch, seed=row.seed)
        _fit(student, data, row, LOSS)

    def _taught(self, teacher: Any, student: Any, row: Row, x: Any, y: Any) -> None:
        setting = SETTINGS[row.setting]
        loss = LOSS
        if setting.labels is not None:
            # The label loss ignores the class -1; the teacher is heard on every row.
            y = np.where(np.arange(len(y)) < setting.labels, y.astype("int32"), -1)
            loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=-1
            )
        cache = self._cache(teacher, row, x)
        if row.arm == "kf":
            losses = [kf.distillation.LogitsDistillation(setting.temperature)]
            weights = [1.0]
            if setting.hint:
                losses.append(kf.distillation.FeatureDistillation(MEAN, HINT))
                weights.append(setting.hint)
            distiller = kf.Distiller(
                cache, student, losses, weights, student_loss_weight=setting.share
            )
            data = cache.dataset(x, y, batch_size=setting.batch, seed=row.seed)
        else:
            said = cache.rows(np.arange(len(x)))["logits_0"]
            soft = keras.distillation.LogitsDistillation(setting.temperature)
            distiller = keras.distillation.Distiller(
                *by_number(said, student), soft, student_loss_weight=setting.share
            )
            data = kf.ReproducibleDataset(
                numbered(x), y, batch_size=setting.batch, seed=row.seed
            )
        _fit(distiller, data, row, loss)


def _fit(model: Any, data: Any, row: Row, loss: Any) -> None:
    """The same for all arms; compiled by XLA, a fifth faster on such nets."""
    optimizer = _adam(row.epochs * len(data), SETTINGS[row.setting].rate)
    model.compile(optimizer, loss, jit_compile=True)
    model.fit(data, epochs=row.epochs, shuffle=False, verbose=0)


def _again(rows: Any, times: int) -> Any:
    """The rows so many times: an epoch of few batches costs more than its steps."""
    return np.concatenate([rows] * times)


def _adam(steps: int, rate: float) -> Any:
    decay = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=LAST_RATE)
    return keras.optimizers.Adam(decay)


def main() -> None:
    """Serves the commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    # Two processes of a thread each are faster than one of two with nets so small.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    trainer = Trainer(arguments.data, arguments.folder)
    serve({"teach": trainer.teach, "train": trainer.train})


if __name__ == "__main__":
    main()
