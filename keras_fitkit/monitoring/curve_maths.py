"""The statistics of one learning curve: level, noise, trend, rise. NumPy alone.

Values are one an epoch, oldest first, finite, lower is better.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]


def smooth(values: Array, decay: float) -> Array:
    """Exponential moving average, corrected for its start; `decay` 0 does nothing."""
    total, weight = 0.0, 0.0
    out = np.empty(len(values))
    for index, value in enumerate(values):
        total = decay * total + (1.0 - decay) * float(value)
        weight = decay * weight + (1.0 - decay)
        out[index] = total / weight
    return out


def best_so_far(values: Array) -> npt.NDArray[np.int64]:
    """For each epoch, the epoch of the lowest value up to there (the first of ties)."""
    lowest = np.minimum.accumulate(values)
    new = np.r_[True, values[1:] < lowest[:-1]]
    return np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))


def noise_level(values: Array, window: int = 30) -> float:
    """Standard deviation of the epoch-to-epoch noise, robust against the trend.

    From second differences, whose variance is 6 times that of independent noise; the
    median absolute deviation ignores single jumps. 0.0 for fewer than 3 values.
    """
    if len(values) < 3:
        return 0.0
    second = np.abs(np.diff(values, 2))[-window:]
    return float(1.4826 * np.median(second) / np.sqrt(6.0))


def mann_kendall_z(values: Array) -> float:
    """Mann-Kendall trend statistic: standard normal when there is no trend."""
    count = len(values)
    if count < 3:
        return 0.0
    later, earlier = np.tril_indices(count, -1)
    score = float(np.sign(values[later] - values[earlier]).sum())
    variance = count * (count - 1) * (2 * count + 5) / 18.0
    return float((score - np.sign(score)) / np.sqrt(variance))


@dataclasses.dataclass(frozen=True)
class Rise:
    """How far a curve stands above its own smoothed minimum, epoch by epoch.

    Attributes:
        smoothed: the smoothed curve.
        height: smoothed value minus the smallest smoothed value so far.
        threshold: the height that noise and `relative` explain.
    """

    smoothed: Array
    height: Array
    threshold: Array

    @property
    def risen(self) -> npt.NDArray[np.bool_]:
        """True where the height cannot be explained by noise (from epoch 5 on)."""
        enough = np.arange(len(self.height)) >= 4
        return enough & (self.height > self.threshold)


def rise(values: Array, decay: float, relative: float, sigmas: float) -> Rise:
    """`Rise` of a curve: threshold = max(relative * |minimum|, sigmas * noise)."""
    smoothed = smooth(values, decay)
    minimum = np.minimum.accumulate(smoothed) if len(smoothed) else smoothed
    noise = smoothed_noise(values, decay)
    return Rise(
        smoothed=smoothed,
        height=smoothed - minimum,
        threshold=np.maximum(relative * np.abs(minimum), sigmas * noise),
    )


def smoothed_noise(values: Array, decay: float) -> Array:
    """Noise that is left in the smoothed curve, as known at each epoch (1 sd)."""
    raw = np.array([noise_level(values[: end + 1]) for end in range(len(values))])
    left = math.sqrt((1.0 - decay) / (1.0 + decay))
    return np.asarray(raw * left, dtype=float)


def in_a_row(evidence: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.bool_]:
    """True where `evidence` has held for `count` epochs up to here."""
    out = np.zeros(len(evidence), dtype=bool)
    run = 0
    for index, holds in enumerate(evidence):
        run = run + 1 if holds else 0
        out[index] = run >= count
    return out
