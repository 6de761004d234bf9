"""Intervals and paired tests, with NumPy and `math` alone.

SciPy is no dependency of the package; the tests compare with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution
RESAMPLES = 2000
CHUNK = 2_000_000  # drawn row numbers at a time
MANY_ROWS = 20_000  # the mean of more of them is normal: drawing tells nothing new
ALPHA = 0.05


def wilson(right: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of a fraction (Wilson 1927), in [0, 1].

    Args:
        right: how many rows are right.
        rows: of how many, >= 1.
    """
    share, slack = right / rows, Z95**2 / rows
    middle = (share + slack / 2) / (1 + slack)
    half = math.sqrt(share * (1 - share) * slack + slack**2 / 4) / (1 + slack)
    low = 0.0 if right == 0 else middle - half
    high = 1.0 if right == rows else middle + half
    return low, high


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p-value of McNemar's test.

    Args:
        lost: rows that only the first of two models gets right.
        gained: rows that only the second gets right.
    """
    pairs, fewer = lost + gained, min(lost, gained)
    logs = [
        math.lgamma(pairs + 1) - math.lgamma(k + 1) - math.lgamma(pairs - k + 1)
        for k in range(fewer + 1)
    ]
    tail = math.fsum(math.exp(one - pairs * math.log(2)) for one in logs)
    return min(1.0, 2 * tail)


def fewest_flips() -> int:
    """So many rows must flip, all one way, before McNemar's test says anything."""
    flips = 1
    while mcnemar(flips, 0) > ALPHA:
        flips += 1
    return flips


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected (Holm 1979), in the given order."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(
        sorted(range(len(p_values)), key=p_values.__getitem__)
    ):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def least_p_value(rows: int) -> float:
    """The smallest two-sided p-value that so many rows can give.

    That of all differences having one sign (the sign-flip test): 2 / 2^rows. Resamples
    of few rows are too much alike, and would claim more.
    """
    return float(min(1.0, 2.0 ** (1 - rows)))


def points(percent: float) -> str:
    """Percentage points as text."""
    return f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"


def mean_interval(values: Any) -> tuple[float, float]:
    """The 95 % interval of the mean of values, one for each row.

    2000 resamples of the rows (percentile bootstrap, seeded); from 20,000 rows on the
    normal approximation, which is the same there.
    """
    if len(values) >= MANY_ROWS:
        half = Z95 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
        middle = float(np.mean(values))
        return middle - half, middle + half
    return quantiles(_means(values))


def mean_p_value(differences: Any) -> float:
    """The two-sided p-value of a mean of zero, by the same resamples.

    Never below `least_p_value`.
    """
    if len(differences) >= MANY_ROWS:
        deviation = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
        if not deviation:
            return float(not np.any(differences))
        return math.erfc(abs(float(np.mean(differences))) / deviation / math.sqrt(2))
    return max(least_p_value(len(differences)), p_value(_means(differences)))


def resampled(
    measure: Callable[[Any], Sequence[float]], rows: int, count: int = 200
) -> Any:
    """Values of a measure that is no mean over rows, on resampled rows.

    Args:
        measure: given row numbers, a value for each model.
        rows: how many there are.
        count: resamples.

    Returns:
        An array of shape (count, models).
    """
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, rows, rows) for _ in range(count))
    return np.array([measure(picked) for picked in drawn], dtype=float)


def quantiles(values: Any) -> tuple[float, float]:
    """The middle 95 % of resampled values; those that are no number left out.

    At least one must be a number.
    """
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def p_value(differences: Any) -> float:
    """Two-sided: how often resampled differences lie on the other side of zero.

    Never 0: with r resamples at least 2 / (r + 1). Those that are no number are left
    out.
    """
    differences = differences[~np.isnan(differences)]
    if not np.any(differences):
        return 1.0
    below = 1 + int(np.sum(differences <= 0))
    above = 1 + int(np.sum(differences >= 0))
    return min(1.0, 2 * min(below, above) / (len(differences) + 1))


def _means(values: Any) -> Any:
    rng = np.random.default_rng(0)
    rows = len(values)
    at_once = max(1, CHUNK // rows)
    found = []
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        found.append(np.asarray(values)[rng.integers(0, rows, (count, rows))].mean(1))
    return np.concatenate(found)
