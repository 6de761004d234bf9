"""How alarms are scored: precision, recall, F1, false alarms, delay, with intervals.

A flag on a positive run counts when it comes no more than `tolerance` epochs before the
run's onset. An earlier one is a false alarm AND a missed run.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from _curves import NO_ONSET, BoolArray, IntArray

NEVER = -1
_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Score:
    """Counts over runs, and what follows from them. Fractions, not percents."""

    hits: int
    early: int
    missed: int
    false_alarms: int
    negatives: int
    delay: float | None

    @property
    def positives(self) -> int:
        """Runs that overfit."""
        return self.hits + self.early + self.missed

    @property
    def precision(self) -> float:
        """Of the runs flagged, how many rightly so."""
        return _ratio(self.hits, self.hits + self.early + self.false_alarms)

    @property
    def recall(self) -> float:
        """Of the runs that overfit, how many were flagged in time."""
        return _ratio(self.hits, self.positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        weight = 2 * self.hits + 2 * self.early + self.missed + self.false_alarms
        return _ratio(2 * self.hits, weight)

    @property
    def false_alarm_rate(self) -> float:
        """Of the runs that do not overfit, how many were flagged."""
        return _ratio(self.false_alarms, self.negatives)

    def f1_interval(self) -> tuple[float, float]:
        """95 % bootstrap interval, positives and negatives resampled apart."""
        rng = np.random.default_rng(0)
        outcome = np.array([self.hits, self.early, self.missed]) / max(
            self.positives, 1
        )
        drawn = rng.multinomial(self.positives, outcome, _RESAMPLES)
        alarms = rng.binomial(self.negatives, self.false_alarm_rate, _RESAMPLES)
        hits, early, missed = drawn.T
        weight = 2 * hits + 2 * early + missed + alarms
        low, high = np.quantile(2 * hits / np.maximum(weight, 1), [0.025, 0.975])
        return float(low), float(high)

    def false_alarm_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the false-alarm rate."""
        return wilson(self.false_alarms, self.negatives)

    def to_dict(self) -> dict[str, object]:
        """Everything, as plain values."""
        return {
            **dataclasses.asdict(self),
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "f1_interval": self.f1_interval(),
            "false_alarm_rate": self.false_alarm_rate,
            "false_alarm_interval": self.false_alarm_interval(),
        }


def score(flagged: IntArray, onset: IntArray, tolerance: npt.ArrayLike) -> Score:
    """Scores each run's first flagged epoch (`NEVER` for none) against its onset."""
    positive = onset != NO_ONSET
    alarm = flagged != NEVER
    early = positive & alarm & (flagged < onset - np.asarray(tolerance))
    hit = positive & alarm & ~early
    return Score(
        hits=int(hit.sum()),
        early=int(early.sum()),
        missed=int((positive & ~alarm).sum()),
        false_alarms=int((~positive & alarm).sum()),
        negatives=int((~positive).sum()),
        delay=float(np.median((flagged - onset)[hit])) if hit.any() else None,
    )


def first_flags(flags: BoolArray) -> IntArray:
    """First flagged epoch of each row, `NEVER` where there is none."""
    return np.where(flags.any(axis=1), flags.argmax(axis=1), NEVER)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % Wilson interval of a proportion."""
    if trials == 0:
        return 0.0, 1.0
    z = 1.959964
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    half /= 1 + z * z / trials
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
