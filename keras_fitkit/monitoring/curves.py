"""Two learning curves of one quantity, made comparable before anything is concluded.

The number Keras prints for training is the mean over an epoch of values measured while
the weights moved, with dropout and augmentation on and with the penalty added; the
validation number is measured once, at the end, with them off. `Curves` holds what is
comparable, and says where the training curve comes from.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

from keras_fitkit.monitoring.curve_maths import Array

Mode = Literal["min", "max"]

# Added to 1 - score: near a perfect score the error is a handful of rows, and a share
# of it says nothing (an accuracy of 0.999 after 1.000 is no divergence).
ERROR_FLOOR = 0.01
_ROUNDING = 1e-6  # a float32 score may come out as 1.0000001

RUNNING_MEAN = "Keras's running mean over the epoch, shifted by half an epoch"


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """What one run measured, one value an epoch, oldest first; NaN where there is none.

    Attributes:
        monitor: training name of the quantity, such as "loss".
        mode: "min" or "max".
        epochs: epoch numbers, 0-based as in Keras's `History.epoch`.
        train: the comparable training values.
        validation: the validation values, measured the same way.
        keras_train: what Keras logged for training, or None.
        train_source: where `train` comes from, in words.
        honest: whether `train` was measured in inference mode.
        constant: value of the best constant predictor, or None with `constant_note`.
        constant_note: why there is no `constant`.
        start: index from which the verdict looks; later than 0 when another callback
            was changing the model on purpose until then.
        bad_weights: (epoch, names) of the first NaN or infinite weights, or None.
        rows: how many rows each side was measured on, None where that is not known.
        optimizer: (class name, learning rate) at the end, None where not known.
        live: whether this is a fit that is watched, not one read from its history.
        notes: remarks for the report.
    """

    monitor: str
    mode: Mode
    epochs: npt.NDArray[np.int64]
    train: Array
    validation: Array
    keras_train: Array | None = None
    train_source: str = "as given"
    honest: bool = True
    constant: float | None = None
    constant_note: str = ""
    start: int = 0
    bad_weights: tuple[int, tuple[str, ...]] | None = None
    rows: tuple[int | None, int | None] = (None, None)
    optimizer: tuple[str, float] | None = None
    live: bool = False
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Mask of the epochs from `start` on where both curves are finite."""
        both = np.isfinite(self.train) & np.isfinite(self.validation)
        return both & (np.arange(len(both)) >= self.start)

    @property
    def gap(self) -> Array:
        """How much worse validation is than training: positive means worse."""
        with np.errstate(invalid="ignore"):  # infinite on both sides
            difference = self.validation - self.train
        return difference if self.mode == "min" else -difference

    @property
    def bounded(self) -> bool:
        """Whether this is a score whose values, on both sides, lie within [0, 1]."""
        both = np.concatenate([self.train, self.validation])
        finite = both[np.isfinite(both)]
        inside = (finite >= -_ROUNDING) & (finite <= 1.0 + _ROUNDING)
        return self.mode == "max" and bool(inside.all())

    def worse_than_best(self, share: str) -> str:
        """Words for validation being worse than its best by a `share` of it."""
        if self.mode == "min":
            return f"validation is {share} above its best"
        if self.bounded:
            return f"validation's error (1 - score) is {share} above its best"
        return f"validation is {share} below its best"

    def oriented(self, values: Array) -> Array:
        """`values` of the usable epochs with lower as better.

        A score within [0, 1] becomes an error, 1 - score (+ `ERROR_FLOOR`), so that
        shares of it mean something; any other score is negated. Both curves alike.
        """
        return self._turned(values[self.usable])

    def as_given(self, value: float) -> float:
        """An oriented value in the user's own unit again."""
        return float(self._turned(np.asarray(value, dtype=float)))

    def _turned(self, values: Array) -> Array:
        if self.mode == "min":
            return values
        return 1.0 + ERROR_FLOOR - values if self.bounded else -values


def half_epoch(running: Array, mode: Mode = "min") -> Array:
    """A running mean moved to the end of its epoch.

    The mean over epoch e stands for about its middle. The end lies halfway to the next
    epoch's mean; the last value is carried on by half of the last step, as a ratio
    where that keeps a positive error positive (or a score below 1).
    """
    values = np.asarray(running, dtype=float)
    if len(values) < 2:
        return values.copy()
    if mode == "max" and np.nanmax(values) <= 1.0 and np.nanmin(values) >= 0.0:
        return np.clip(1.0 - half_epoch(1.0 - values), 0.0, 1.0)
    last, before = values[-1], values[-2]
    if last > 0 and before > 0:
        end = last * np.sqrt(last / before)
    else:
        end = last + (last - before) / 2
    return np.append((values[:-1] + values[1:]) / 2, end)
