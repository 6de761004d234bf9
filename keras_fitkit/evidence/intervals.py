"""Means of a few runs with their interval, in plain arithmetic."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable
from typing import Literal

Answer = Literal["would help", "would not", "cannot tell"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over runs, and how sure it is.

    Attributes:
        mean: over the runs; NaN where there is none.
        sd: standard deviation of a run; None for fewer than two runs.
        low, high: the ends of the 95 % t interval of the mean; None likewise.
        count: how many runs.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.evidence import Estimate
        >>> print(Estimate(0.5, 0.1, 0.4, 0.6, 5))
        0.5 (0.4 to 0.6)
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.4g} (no interval from {self.count} run)"
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


def estimate(values: Iterable[float], *, overlap: float = 0.0) -> Estimate:
    """The mean of `values` with a 95 % interval of Student's t.

        half = t(0.975, n - 1) * sd * sqrt(1 / n + overlap)

    Runs that share training rows are alike, and their plain standard deviation too
    small: `overlap` is rows of validation over rows of training of a run, the
    correction of Nadeau and Bengio; 0 for independent runs. No correction is exact:
    there is no unbiased estimate of that variance (Bengio and Grandvalet 2004).

    Reference: Nadeau and Bengio, "Inference for the generalization error", Machine
    Learning 52, 2003, the corrected resampled t statistic.
    """
    given = [float(value) for value in values]
    count = len(given)
    if not count or not all(math.isfinite(value) for value in given):
        return Estimate(math.nan, None, None, None, count)
    mean = statistics.fmean(given)
    if count < 2:
        return Estimate(mean, None, None, None, count)
    sd = statistics.stdev(given)
    half = student_quantile(0.975, count - 1) * sd * math.sqrt(1 / count + overlap)
    return Estimate(mean, sd, mean - half, mean + half, count)


def would_lower(change: Estimate, least: float) -> Answer:
    """Whether something lowers a loss, from its relative change.

    - "would help": the whole interval lies below 0, and the mean is a fall of at least
      `least`;
    - "would not": the whole interval lies above a fall of `least`, so that a fall worth
      having is ruled out;
    - "cannot tell": neither.
    """
    if change.low is None or change.high is None:
        return "cannot tell"
    if change.high < 0 and change.mean <= -least:
        return "would help"
    if change.low > -least:
        return "would not"
    return "cannot tell"


def student_within(t: float, df: int) -> float:
    """The probability that |T| < t of Student's t with `df` degrees of freedom.

    Reference: Abramowitz and Stegun, 26.7.3 and 26.7.4, for whole numbers.
    """
    angle = math.atan(t / math.sqrt(df))
    square = math.cos(angle) ** 2
    odd = df % 2
    term = math.cos(angle) if odd else 1.0
    total = term if df > 1 else 0.0
    for step in range(2 + odd, df - 1, 2):
        term *= square * (step - 1) / step
        total += term
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def student_quantile(share: float, df: int) -> float:
    """The `share` quantile (0.5 and up) of Student's t, by halving."""
    wanted, low, high = 2 * share - 1, 0.0, 1.0
    while student_within(high, df) < wanted:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if student_within(middle, df) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
