"""Overfitting alarms to compare with: each maps runs to flags, all runs at once.

A rival takes training and validation losses of shape (runs, epochs) and returns flags
of that shape. Each is online: the flag at an epoch depends on that epoch and earlier
ones only (tests/benchmarks/test_curves.py). Keras's patience is scored here as an
alarm, which is not its job: this says nothing about the weights it picks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Rival = Callable[[FloatArray, FloatArray], BoolArray]

_TINY = 1e-12


def patience(epochs: int) -> Rival:
    """Keras's EarlyStopping: no new minimum of validation for `epochs` epochs."""

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        return _epochs_since_minimum(validation) >= epochs

    return flags


def theil_sen(window: int) -> Rival:
    """Median of all pair slopes over a window: up for validation, down for training."""

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        up = _per_window(validation, window, _median_pair_slope) > 0
        return up & (_per_window(train, window, _median_pair_slope) < 0)

    return flags


def mann_kendall_pair(window: int, z: float) -> Rival:
    """Mann-Kendall trend tests over a window: validation rises, training does not."""

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        rising = _per_window(validation, window, _mann_kendall_z) > z
        return rising & ~(_per_window(train, window, _mann_kendall_z) > z)

    return flags


def mann_kendall_gap(window: int, z: float) -> Rival:
    """Mann-Kendall trend test on the gap alone."""

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        return _per_window(validation - train, window, _mann_kendall_z) > z

    return flags


def spearman(window: int, below: float) -> Rival:
    """Rank correlation of the two losses over a window; validation slopes upwards."""

    def correlation(train: FloatArray, validation: FloatArray) -> FloatArray:
        ranks = [
            stats.rankdata(x, axis=-1) - (window + 1) / 2 for x in (train, validation)
        ]
        size = np.sqrt((ranks[0] ** 2).sum(-1) * (ranks[1] ** 2).sum(-1))
        return np.asarray((ranks[0] * ranks[1]).sum(-1) / np.maximum(size, _TINY))

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        apart = np.zeros(validation.shape, dtype=bool)
        if validation.shape[1] >= window:
            apart[:, window - 1 :] = (
                correlation(_windows(train, window), _windows(validation, window))
                < below
            )
        return apart & (_per_window(validation, window, _least_squares_slope) > 0)

    return flags


def smoothed_generalization_loss(smoothing: float, rise: float, times: int) -> Rival:
    """Smoothed validation stands `rise` above its minimum, `times` epochs running."""

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        smoothed = _smooth(validation, smoothing)
        lowest = np.minimum.accumulate(smoothed, axis=1)
        return _running_count(smoothed > lowest * (1 + rise)) >= times

    return flags


def gap_rises(times: int) -> Rival:
    """The gap has risen `times` epochs running."""

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        rises = np.diff(validation - train, axis=1, prepend=np.inf) > 0
        return _running_count(rises) >= times

    return flags


def ratio_above(limit: float) -> Rival:
    """Validation loss over training loss."""

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        return validation > limit * train

    return flags


def cusum(threshold: float) -> Rival:
    """Page's cumulative sum of validation's excess over its minimum, in noise sds.

    Each epoch adds its distance from the lowest value so far, less the two sds by
    which noise alone puts it there.
    """

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        excess = validation - np.minimum.accumulate(validation, axis=1)
        return _reflected_sum(excess / _noise_so_far(validation) - 2.0) > threshold

    return flags


def page_hinkley(threshold: float, allowance: float) -> Rival:
    """Page-Hinkley test on validation's epoch-to-epoch change, in noise sds."""

    def flags(train: FloatArray, validation: FloatArray) -> BoolArray:
        change = np.diff(validation, axis=1, prepend=validation[:, :1])
        return (
            _reflected_sum(change / _noise_so_far(validation) - allowance) > threshold
        )

    return flags


RIVALS: dict[str, Rival] = {
    "Keras patience 10": patience(10),
    "Keras patience 20": patience(20),
    "Theil-Sen val up, train down, w=20": theil_sen(20),
    "EMA(.8) GL > 5 %, 3 times": smoothed_generalization_loss(0.8, 0.05, 3),
    "Spearman < -.6, val slope > 0, w=20": spearman(20, -0.6),
    "MK val up, train not up, w=20": mann_kendall_pair(20, 2.58),
    "CUSUM excess h=40": cusum(40.0),
    "Page-Hinkley val 8/.2": page_hinkley(8.0, 0.2),
    "gap rises 5 times": gap_rises(5),
    "MK gap only, w=15": mann_kendall_gap(15, 1.96),
    "val/train > 1.5": ratio_above(1.5),
}


def _windows(values: FloatArray, window: int) -> FloatArray:
    return np.lib.stride_tricks.sliding_window_view(values, window, axis=1)


def _per_window(
    values: FloatArray, window: int, statistic: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """`statistic` of the window that ends at each epoch; 0 where none fits yet."""
    result = np.zeros(values.shape)
    if values.shape[1] >= window:
        result[:, window - 1 :] = statistic(_windows(values, window))
    return result


def _median_pair_slope(windows: FloatArray) -> FloatArray:
    first, second = np.triu_indices(windows.shape[-1], k=1)
    slopes = (windows[..., second] - windows[..., first]) / (second - first)
    return np.asarray(np.median(slopes, axis=-1))


def _mann_kendall_z(windows: FloatArray) -> FloatArray:
    size = windows.shape[-1]
    first, second = np.triu_indices(size, k=1)
    score = np.sign(windows[..., second] - windows[..., first]).sum(-1)
    spread = np.sqrt(size * (size - 1) * (2 * size + 5) / 18)
    return np.asarray((score - np.sign(score)) / spread)


def _least_squares_slope(windows: FloatArray) -> FloatArray:
    size = windows.shape[-1]
    centred = np.arange(size) - (size - 1) / 2
    return np.asarray(windows @ centred / (centred**2).sum())


def _smooth(values: FloatArray, smoothing: float) -> FloatArray:
    """Bias-corrected exponential moving average."""
    total, weight = np.zeros(len(values)), 0.0
    smoothed = np.empty_like(values)
    for epoch in range(values.shape[1]):
        total = smoothing * total + (1 - smoothing) * values[:, epoch]
        weight = smoothing * weight + (1 - smoothing)
        smoothed[:, epoch] = total / weight
    return smoothed


def _running_count(condition: BoolArray) -> npt.NDArray[np.int64]:
    """How many epochs in a row, ending at each epoch, the condition has held."""
    epochs = np.arange(1, condition.shape[1] + 1)
    last_failure = np.maximum.accumulate(np.where(condition, 0, epochs), axis=1)
    return np.asarray(epochs - last_failure)


def _epochs_since_minimum(values: FloatArray) -> npt.NDArray[np.int64]:
    before = np.minimum.accumulate(values, axis=1)[:, :-1]
    improved = np.ones(values.shape, dtype=bool)
    improved[:, 1:] = values[:, 1:] < before
    return _running_count(~improved)


def _noise_so_far(values: FloatArray, memory: int = 30) -> FloatArray:
    """Robust noise sd from the last second differences; infinite for five epochs."""
    noise = np.full(values.shape, np.inf)
    for epoch in range(4, values.shape[1]):
        recent = np.diff(values[:, : epoch + 1], 2, axis=1)[:, -memory:]
        noise[:, epoch] = 1.4826 * np.median(np.abs(recent), axis=1) / np.sqrt(6)
    return np.asarray(np.maximum(noise, _TINY))


def _reflected_sum(steps: FloatArray) -> FloatArray:
    """Cumulative sum that starts afresh wherever it would fall below zero."""
    total = np.zeros(len(steps))
    sums = np.empty_like(steps)
    for epoch in range(steps.shape[1]):
        total = np.maximum(0.0, total + steps[:, epoch])
        sums[:, epoch] = total
    return sums
