"""The rows of distill_mnist.py: which there are, and what they say together."""

from __future__ import annotations

import dataclasses
import statistics
import zlib
from collections.abc import Sequence
from typing import Any

from _quality_rows import Store

BATCH, LEARNING_RATE, LAST_RATE = 128, 1e-3, 0.01
TEACHER_BATCH, TEACHER_RATE, SHIFT, DROPOUT = 256, 1e-3, 2, 0.25
HEARD = 1  # pixels around: a teacher is heard on nine places of each digit
SHARE = 0.1  # of the labels
HINT = "hidden2"  # the last hidden layer
FEW_LABELS = 1000
TEACHER_EPOCHS, FEW_EPOCHS = 100, 50  # with all labels, with a few
FEW_TIMES = 20  # an epoch of the teacher has each of a few rows so often
ARMS = ("plain", "kf", "keras default")
ONE_SEED = ("30", "no 3s", "1000 labels")  # of "keras default"


@dataclasses.dataclass(frozen=True)
class Setting:
    """A student and what it may see."""

    units: int
    temperature: float
    epochs: int
    rate: float = LEARNING_RATE
    share: float = SHARE
    hint: float = 0.0  # weight of the difference in the last hidden layer
    without: int | None = None
    labels: int | None = None
    batch: int = BATCH


SETTINGS = {
    "800": Setting(800, 6.0, 20, rate=2e-3, hint=160.0),
    "30": Setting(30, 3.0, 50, rate=3e-3, share=0.5),
    "no 3s": Setting(800, 20.0, 12, without=3),
    "1000 labels": Setting(800, 20.0, 8, labels=FEW_LABELS),
}


# What a teacher says depends on, beside its own numbers.
_SHARED = [
    *(TEACHER_BATCH, TEACHER_RATE, LAST_RATE, SHIFT, DROPOUT, FEW_TIMES, HEARD),
    "XLA",
]


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Who is asked: trained on all rows, or on the first few."""

    epochs: int
    rows: int
    times: int = 1  # that an epoch has each row

    @property
    def name(self) -> str:
        """Of its files; another one for every other way to train it."""
        again = f"{self.times}x" if self.times > 1 else ""
        how = zlib.crc32(repr(_SHARED).encode())
        return f"distill_mnist_teacher_{self.epochs}x{again}{self.rows}_{how:08x}"


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
    def teacher(self) -> Teacher:
        """Whom it may hear."""
        labels = SETTINGS[self.setting].labels
        if labels is None:
            return Teacher(self.teacher_epochs, self.train_rows)
        return Teacher(self.teacher_epochs, labels, FEW_TIMES)

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.setting}/{self.arm}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        setting = SETTINGS[self.setting]
        how = {**dataclasses.asdict(setting), "shared": _SHARED}
        return {"row": self.name, **dataclasses.asdict(self), **how}


def rows_of(
    seeds: Sequence[int], epochs: tuple[int | None, int | None], count: int
) -> list[Row]:
    """All rows, seed by seed, so that what is done first can be compared.

    Args:
        seeds: of the students.
        epochs: of students and of teachers; None: those of the setting.
        count: training rows.
    """
    made: list[Row] = []
    for seed in seeds:
        for name, setting in SETTINGS.items():
            taught = TEACHER_EPOCHS if setting.labels is None else FEW_EPOCHS
            many = (epochs[0] or setting.epochs, epochs[1] or taught)
            for arm in ARMS:
                if arm != "keras default" or name not in ONE_SEED or seed == seeds[0]:
                    made.append(Row(name, arm, seed, *many, count))
    return made


@dataclasses.dataclass(frozen=True)
class Summary:
    """An arm of a setting over the seeds."""

    setting: str
    arm: str
    errors: tuple[int, ...]
    seconds: float  # of CPU

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
            seconds=statistics.mean(one["cpu_seconds"] for one in found),
        )
        for key, found in sorted(groups.items())
    }
