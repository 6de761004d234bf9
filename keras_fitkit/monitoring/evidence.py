"""The numbers behind a state, from the oriented curves (lower is better)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from keras_fitkit.monitoring import curve_maths
from keras_fitkit.monitoring.curve_maths import Array
from keras_fitkit.monitoring.curves import Curves
from keras_fitkit.monitoring.verdict import Evidence

MIN_EPOCHS = 5  # fewer finite epochs tell nothing
WORTHLESS = -1.0  # a skill below this does not measure skill
EASIER = 0.03  # validation better than training by this fraction, lastingly
ROW_SIGMAS = 2.0  # and by so many standard errors of what the rows explain
LIGHT = 0.3  # smoothing for numbers that are shown


def best_index(validation: Array) -> int:
    """Index of the best (smoothed) value, the one that every text names."""
    return int(np.argmin(curve_maths.smooth(validation, LIGHT)))


def measure(
    curves: Curves, where: npt.NDArray[np.int_], train: Array, validation: Array
) -> Evidence:
    """The evidence of every run that is long enough; keys as in `Diagnosis`."""
    smoothed = curve_maths.smooth(validation, LIGHT)
    best = best_index(validation)
    third = last_third(train)
    rows = curves.rows
    return {
        "epochs": len(where),
        "train_last": curves.as_given(train[-1]),
        "validation_last": curves.as_given(validation[-1]),
        "validation_best": curves.as_given(validation[best]),
        "best_epoch": int(curves.epochs[int(where[best])]) + 1,
        "validation_rise": relative(smoothed[-1] - smoothed[best], smoothed[best]),
        "validation_noise": curve_maths.noise_level(validation),
        "gap_first": float(validation[0] - train[0]),
        "gap_last": float(validation[-1] - train[-1]),
        "gap_trend_z": curve_maths.mann_kendall_z((validation - train)[-15:]),
        "train_improvement_last_third": improvement(train, third),
        "validation_improvement_last_third": improvement(validation, third),
        "constant_predictor": curves.constant,
        "skill": skill(curves, curves.as_given(float(np.median(train[-3:])))),
        "train_rows": rows[0],
        "validation_rows": rows[1],
    }


def last_third(values: Array) -> int:
    """How many epochs the last third of a run has."""
    return max(3, math.ceil(len(values) / 3))


def skill(curves: Curves, train_last: float) -> float | None:
    """Share of the constant predictor's error that the model removed, or None.

    None too when the constant is no measure: not positive, or training is worse than
    twice it.
    """
    constant = curves.constant
    if constant is None or not math.isfinite(constant):
        return None
    if curves.mode == "min":
        found = 1.0 - train_last / constant if constant > 0 else -math.inf
    elif 0.0 <= constant < 1.0 and 0.0 <= train_last <= 1.0:
        found = (train_last - constant) / (1.0 - constant)
    else:
        return None
    return found if found >= WORTHLESS else None


def improvement(values: Array, count: int) -> float:
    """Relative fall over the last `count` values, by a straight line (least squares).

    The line uses every value, so that it resists noise better than the median slope.
    """
    last = values[-count:]
    slope, begin = np.polyfit(np.arange(len(last)), last, 1)
    return min(relative(-float(slope) * (len(last) - 1), float(begin)), 1.0)


def improvement_error(values: Array, count: int) -> float:
    """The standard error that the noise of the curve gives to `improvement`."""
    length = min(count, len(values))
    spread = math.sqrt(12.0 / (length * (length**2 - 1.0))) * (length - 1)
    return relative(curve_maths.noise_level(values) * spread, values[-length])


def relative(part: float, whole: float) -> float:
    """`part` as a fraction of |`whole`|; infinite, or 0, where that is 0."""
    return (
        float(part) / abs(float(whole)) if whole else (0.0 if part == 0 else math.inf)
    )


def easier_since(curves: Curves, train: Array, validation: Array) -> int | None:
    """Index since which validation is lastingly better than training, or None.

    Beyond what chance gives: the noise from epoch to epoch, and the draw of the rows,
    which stays the same in every epoch.
    """
    excess = (train - validation) / np.maximum(np.abs(train), 1e-12)
    count = max(MIN_EPOCHS, len(excess) // 2)
    half = excess[-count:]
    error = float(np.std(half)) / math.sqrt(len(half))
    lasting = np.mean(half > 0) >= 0.9
    chance = ROW_SIGMAS * row_error(curves, float(np.mean(train[-count:])))
    if not (lasting and np.mean(half) > max(EASIER, 3.0 * error, chance)):
        return None
    negative = np.flatnonzero(excess <= 0)
    late = negative[negative < len(excess) - len(half)]
    return int(late[-1]) + 1 if len(late) else 0


def row_error(curves: Curves, level: float) -> float:
    """Standard error of (training - validation) / training, from the rows of each.

    A loss is taken to vary from row to row as much as it is large (a coefficient of
    variation of 1); an error rate, 1 - score, as a share does. 0.0 where the rows are
    not known; those of one side alone are taken for both.
    """
    first, second = curves.rows
    if first is None and second is None:
        return 0.0
    shares = 1.0 / float(first or second or 1) + 1.0 / float(second or first or 1)
    if curves.bounded:
        rate = min(max(level, 1e-6), 1.0)
        shares *= (1.0 - rate) / rate
    return math.sqrt(shares)
