"""One run: an ordinary fit, watched by an `OverfitMonitor`, and measured at its end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import metric_names, random_state, rows
from keras_fitkit._core.penalty import penalty
from keras_fitkit.monitoring import Diagnosis, OverfitMonitor

SAMPLE = 512  # rows of training that are measured
Data = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of one fit; losses are without the penalty of the regularizers.

    Attributes:
        train, validation: the honest curves of the loss, one value an epoch.
        diagnosis: the monitor's verdict.
        seconds: of the fit.
    """

    train: tuple[float, ...]
    validation: tuple[float, ...]
    diagnosis: Diagnosis
    seconds: float

    @property
    def best(self) -> int | None:
        """Index of the epoch with the lowest validation loss; None: all are NaN."""
        values = np.array(self.validation, dtype=float)
        if not np.isfinite(values).any():
            return None
        return int(np.argmin(np.where(np.isfinite(values), values, np.inf)))


def fit(
    model: Any,
    train: Data,
    validation: Data,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    callbacks: Sequence[Any] = (),
    measured: Data | None = None,
) -> Run:
    """Trains `model`, with the same order of rows for the same seed.

    Args:
        model: compiled.
        train: (x, y) as arrays.
        validation: likewise.
        epochs: of the fit.
        batch_size: of the fit.
        seed: of the order of the rows and of dropout.
        callbacks: of the user, after the monitor.
        measured: the rows of training that are measured, where `train` repeats them.
    """
    monitor = OverfitMonitor(
        train_data=measured or train,
        sample=SAMPLE,
        action=lambda diagnosis: None,
        verbose=0,
    )
    keras.utils.set_random_seed(seed)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        # The verdict says so as well.
        warnings.filterwarnings("ignore", message=r"Epoch \d+: NaN or infinite")
        model.fit(
            *train,
            validation_data=validation,
            epochs=epochs,
            batch_size=batch_size,
            verbose=0,
            callbacks=[monitor, *callbacks],
        )
    seconds = time.perf_counter() - begin
    found = monitor.report()
    curves = found.curves
    return Run(
        tuple(curves.train.tolist()),
        tuple(curves.validation.tolist()),
        found,
        seconds,
    )


def scores(model: Any, data: Data, batch_size: int) -> dict[str, float]:
    """Loss (without the penalty) and metrics of `data`, with the weights of now."""
    logs = model.evaluate(*data, batch_size=batch_size, verbose=0, return_dict=True)
    found = {
        name: metric_names.scalar(name, value)
        for name, value in logs.items()
        if np.size(keras.ops.convert_to_numpy(value)) == 1
    }
    loss = found.pop("loss") - penalty(model)
    return {"loss": loss, **found}


def part(data: Data, picked: Any) -> Data:
    """The rows of (x, y) at `picked`."""
    return rows.take(data[0], picked), rows.take(data[1], picked)


def sample(data: Data, count: int, limit: int = SAMPLE) -> Data:
    """At most `limit` rows of `count`, the same ones each time."""
    if count <= limit:
        return data
    picked = np.random.default_rng(0).choice(count, limit, replace=False)
    return part(data, np.sort(picked))


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Seeds that a study sets are not left behind for the caller."""
    state = random_state.global_state()
    try:
        yield
    finally:
        random_state.set_global_state(state)


def relative(change: float, base: float) -> float:
    """`change` as a share of `base`; NaN where a loss is not positive."""
    return change / base if base > 0 else math.nan
