"""The rows of distill_mnist.py: what is trained, and what they say together."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from _quality_rows import Store

import keras_fitkit as kf

BATCH, TEACHER_BATCH, LEARNING_RATE, LAST_RATE = 128, 256, 1e-3, 0.01
SHARE, SHIFT, DROPOUT = 0.1, 2, 0.25
HINT = "hidden2"  # the teacher's last hidden layer
FEW_LABELS = 1000
FEW_TIMES = 20  # an epoch of the teacher has each of a few rows so often
ARMS = ("plain", "kf", "keras default")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A student and what it may see."""

    units: int
    temperature: float
    epochs: int
    rate: float = LEARNING_RATE
    share: float = SHARE  # of the labels
    hint: float = 0.0  # weight of the difference in the last hidden layer
    without: int | None = None
    labels: int | None = None


SETTINGS = {
    "800": Setting(800, 20.0, 30, hint=160.0),
    "30": Setting(30, 3.0, 60, rate=3e-3, share=0.5),
    "no 3s": Setting(800, 20.0, 12, without=3),
    "1000 labels": Setting(800, 20.0, 12, labels=FEW_LABELS),
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclasses.dataclass(frozen=True)
class Row:
    """One student to be trained."""

    setting: str
    arm: str
    seed: int
    epochs: int
    teacher_epochs: int
    train_rows: int

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.setting}/{self.arm}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        setting = SETTINGS[self.setting]
        shared = [BATCH, TEACHER_BATCH, LAST_RATE, SHIFT, DROPOUT, FEW_TIMES]
        how = {**dataclasses.asdict(setting), "shared": shared}
        if setting.labels is not None:
            how["repeated"] = True  # within an epoch
        return {"row": self.name, **dataclasses.asdict(self), **how}


class Shifted(keras.utils.PyDataset):
    """Batches of digits moved by up to `shift` pixels, another way in each epoch."""

    def __init__(
        self,
        x: Any,
        y: Any,
        seed: int,
        shift: int = SHIFT,
        shape: tuple[int, ...] = (784,),
    ) -> None:
        super().__init__()
        self.shift, self._shape = shift, shape
        padded = np.pad(x.reshape(-1, 28, 28), ((0, 0), (shift, shift), (shift, shift)))
        self._views = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), (1, 2))
        self._y, self._rng = y, np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._y) // TEACHER_BATCH

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """A batch."""
        rows = self._order[index * TEACHER_BATCH : (index + 1) * TEACHER_BATCH]
        down, right = self._rng.integers(2 * self.shift + 1, size=(2, len(rows)))
        found = self._views[rows, down, right].reshape(-1, *self._shape)
        return found, self._y[rows]

    def on_epoch_end(self) -> None:
        """Another order."""
        self._order = self._rng.permutation(len(self._y))


class Trainer:
    """Trains each teacher once, and students.

    Args:
        data: images as rows, and labels.
        folder: for the teachers and their caches.
    """

    def __init__(self, data: dict[str, Any], folder: Path) -> None:
        self.data, self.folder = data, folder
        self._teachers: dict[str, Any] = {}

    def run(self, row: Row) -> dict[str, Any]:
        """Trains a student; its errors, those of the teacher, and seconds."""
        teacher = None if row.arm == "plain" else self.teacher(row)
        begun, cpu = time.perf_counter(), time.process_time()
        setting = SETTINGS[row.setting]
        keras.utils.set_random_seed(row.seed)
        student = _net(setting.units)
        x, y = self._transfer_set(setting)
        if row.arm == "plain":
            self._plain(student, row, setting, x, y)
        else:
            self._taught(teacher, student, row, setting, x, y)
        return {
            "errors": self.errors(student),
            "tested": len(self.data["y_test"]),
            "teacher_errors": None if teacher is None else self.errors(teacher),
            "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }

    def teacher(self, row: Row) -> Any:
        """784-1200-1200-10 with dropout, on shifted digits; kept in a file.

        Where only some labels exist it is trained on these rows alone.
        """
        name = self._teacher_name(row)
        if name in self._teachers:
            return self._teachers[name]
        labels = SETTINGS[row.setting].labels
        epochs = row.teacher_epochs
        x, y = self.data["x_train"], self.data["y_train"]
        if labels is not None:
            x, y = _again(x[:labels], FEW_TIMES), _again(y[:labels], FEW_TIMES)
        keras.utils.set_random_seed(0)
        made = _net(1200, DROPOUT)
        path = self.folder / f"{name}.weights.h5"
        if path.exists():
            made.load_weights(path)
        else:
            data = Shifted(x, y, seed=0)
            made.compile(_adam(epochs * len(data)), LOSS)
            made.fit(data, epochs=epochs, verbose=0, shuffle=False)
            unfinished = path.with_name(f"unfinished_{path.name}")
            made.save_weights(unfinished)
            unfinished.replace(path)
        self._teachers[name] = made
        return made

    def _teacher_name(self, row: Row) -> str:
        labels = SETTINGS[row.setting].labels
        rows = f"{FEW_TIMES}x{labels}" if labels else len(self.data["y_train"])
        return f"distill_mnist_teacher_{row.teacher_epochs}x{rows}"

    def errors(self, model: Any) -> int:
        """On the test digits."""
        said = model.predict(self.data["x_test"], batch_size=500, verbose=0)
        return int((said.argmax(axis=1) != self.data["y_test"]).sum())

    def _transfer_set(self, setting: Setting) -> tuple[Any, Any]:
        x, y = self.data["x_train"], self.data["y_train"]
        if setting.without is not None:
            kept = y != setting.without
            x, y = x[kept], y[kept]
        return x, y

    def _plain(self, student: Any, row: Row, setting: Setting, x: Any, y: Any) -> None:
        if setting.labels is not None:  # as many steps, on fewer rows
            times = -(-len(y) // setting.labels)
            x, y = (_again(one[: setting.labels], times) for one in (x, y))
        data = kf.ReproducibleDataset(x, y, batch_size=BATCH, seed=row.seed)
        student.compile(_adam(row.epochs * len(data), setting.rate), LOSS)
        student.fit(data, epochs=row.epochs, shuffle=False, verbose=0)

    def _taught(
        self, teacher: Any, student: Any, row: Row, setting: Setting, x: Any, y: Any
    ) -> None:
        if setting.labels is not None:
            # The label loss ignores the class -1; the teacher is heard on every row.
            y = np.where(np.arange(len(y)) < setting.labels, y.astype("int32"), -1)
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1 if setting.labels else None
        )
        steps = row.epochs * -(-len(y) // BATCH)
        if row.arm == "kf":
            losses = [kf.distillation.LogitsDistillation(setting.temperature)]
            weights, taps = [1.0], []
            if setting.hint:
                losses.append(kf.distillation.FeatureDistillation(HINT, HINT))
                weights, taps = [1.0, setting.hint], [HINT]
            name = f"{self._teacher_name(row)}_on_{len(y)}{'_hint' * len(taps)}.cache"
            path = self.folder / name
            teacher = kf.cache_teacher(teacher, x, path, taps=taps, verbose=0)
            distiller = kf.Distiller(
                teacher, student, losses, weights, student_loss_weight=setting.share
            )
            data = teacher.dataset(x, y, batch_size=BATCH, seed=row.seed)
        else:
            soft = keras.distillation.LogitsDistillation(setting.temperature)
            distiller = keras.distillation.Distiller(
                teacher, student, soft, student_loss_weight=setting.share
            )
            data = kf.ReproducibleDataset(x, y, batch_size=BATCH, seed=row.seed)
        distiller.compile(_adam(steps, setting.rate), loss)
        distiller.fit(data, epochs=row.epochs, shuffle=False, verbose=0)


def _again(rows: Any, times: int) -> Any:
    """The rows so many times: an epoch of few batches costs more than its steps."""
    return np.concatenate([rows] * times)


@dataclasses.dataclass(frozen=True)
class Summary:
    """An arm of a setting over the seeds."""

    setting: str
    arm: str
    errors: tuple[int, ...]
    seconds: float

    @property
    def mean(self) -> float:
        """Mean errors."""
        return statistics.mean(self.errors)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for one seed."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else 0.0

    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        return (
            self.setting,
            self.arm,
            f"{self.mean:.1f}",
            f"{self.spread:.1f}" if len(self.errors) > 1 else "-",
            f"{min(self.errors)}-{max(self.errors)}",
            str(len(self.errors)),
            f"{self.seconds:.0f} s",
        )


def summaries(rows: Sequence[Row], store: Store) -> dict[tuple[str, str], Summary]:
    """Finished rows put together over their seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        stored = store.find(row)
        if stored is not None:
            groups.setdefault((row.setting, row.arm), []).append(stored)
    return {
        key: Summary(
            *key,
            errors=tuple(one["errors"] for one in found),
            seconds=statistics.mean(one["seconds"] for one in found),
        )
        for key, found in sorted(groups.items())
    }


def _net(units: int, dropout: float = 0.0) -> Any:
    layers = [keras.Input((784,))]
    for number in (1, 2):
        layers.append(keras.layers.Dense(units, "relu", name=f"hidden{number}"))
        if dropout:
            layers.append(keras.layers.Dropout(dropout))
    return keras.Sequential([*layers, keras.layers.Dense(10)])


def _adam(steps: int, rate: float = LEARNING_RATE) -> Any:
    decay = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=LAST_RATE)
    return keras.optimizers.Adam(decay)
