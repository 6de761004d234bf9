"""Rules that read two learning curves and say whether the model overfits now.

A rule is any callable `(train, validation) -> bool` on the values of all epochs so far,
oldest first, **lower is better** (a score arrives as 1 - score, or
negated where it is not bounded by 1). It answers for the last epoch
only; `flags` answers for every epoch. What a rule is not: a stopping decision. Before
its second descent double descent looks exactly like overfitting, to every rule here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_fitkit._core import arguments
from keras_fitkit.monitoring.curve_maths import (
    Array,
    best_so_far,
    in_a_row,
    mann_kendall_z,
    rise,
    smooth,
    smoothed_noise,
)
from keras_fitkit.monitoring.prechelt import (
    GeneralizationLoss,
    ProgressQuotient,
    SuccessiveStrips,
)

Rule: TypeAlias = Callable[[Array, Array], bool]

LONG_RUN = 40  # epochs from which OverfitTrend is strict
SHORT_RUN = 14  # epochs below which it is quickest
SOLVED = 1e-3  # of the validation loss: training has nothing left to learn
LARGE_SIGMAS = 4.0  # a rise beyond doubt


@dataclasses.dataclass(frozen=True)
class OverfitTrend:
    """Flags overfitting: validation got worse, the gap widens, training gets better.

    An epoch is evidence when all three hold: the smoothed validation curve stands above
    its own minimum by more than `relative` of it and by more than `sigmas` standard
    deviations of noise; the Mann-Kendall statistic of the gap over the last `window`
    epochs exceeds `gap_z`; and the smoothed training curve lies below what it was at
    that minimum by more than `train_fall` of it (else the model diverges, or nothing
    but the validation noise moves), or has nothing left to fall: it is below a
    thousandth of the validation curve. `patience` such epochs in a row flag.

    A noisy or old rise has no trend within the window. So `large_patience` epochs in a
    row flag too in which validation stands above its minimum, and the gap above what
    it was then, by more than `large` of that minimum and by 4 standard deviations,
    while the training curve lies below as before.

    Args:
        decay: smoothing, in [0, 1). Defaults to 0.6.
        relative: fraction of the minimum, >= 0. Defaults to 0.03.
        sigmas: standard deviations of the smoothed noise, >= 0. Defaults to 3.0.
        window: epochs of the gap trend, >= 3. Defaults to 20.
        patience: evidence epochs in a row, >= 1. Defaults to 8.
        gap_z: quantile of the standard normal, >= 0. Defaults to 2.58.
        train_fall: fraction of the training loss, in [0, 1). Defaults to 0.1.
        large: fraction of the minimum, >= 0. Defaults to 0.1.
        large_patience: epochs in a row, >= 1. Defaults to 8.

    Raises:
        ValueError, TypeError: an argument outside its range, by name.

    Example:
        >>> import numpy as np
        >>> epochs = np.arange(60.0)
        >>> train = np.exp(-epochs / 8)
        >>> validation = 0.3 + np.exp(-epochs / 4) + 0.01 * np.maximum(epochs - 15, 0)
        >>> rule = OverfitTrend()
        >>> bool(rule(train, validation)), int(np.argmax(rule.flags(train, validation)))
        (True, 27)

    Reference: Mann 1945 and Kendall 1975 for the trend statistic; the combination is
    this package's own, measured in `benchmarks/diagnosis.py`.
    """

    decay: float = 0.6
    relative: float = 0.03
    sigmas: float = 3.0
    window: int = 20
    patience: int = 8
    gap_z: float = 2.58
    train_fall: float = 0.1
    large: float = 0.1
    large_patience: int = 8

    def __post_init__(self) -> None:
        for name in ("decay", "train_fall"):
            value = getattr(self, name)
            arguments.number(name, value, low=0, high=1, include_high=False)
        for name in ("relative", "sigmas", "gap_z", "large"):
            arguments.number(name, getattr(self, name), low=0)
        arguments.integer("window", self.window, low=3)
        for name in ("patience", "large_patience"):
            arguments.integer(name, getattr(self, name), low=1)

    @classmethod
    def for_run(cls, epochs: int) -> OverfitTrend:
        """The setting for a run of so many epochs.

        From 40 epochs on the defaults, which hardly ever raise a false alarm; shorter
        runs get shorter windows, or the alarm would come after their end.
        """
        if epochs >= LONG_RUN:
            return cls()
        short = cls(
            decay=0.4, sigmas=2.5, window=10, patience=2, gap_z=2.33, large_patience=4
        )
        if epochs >= SHORT_RUN:
            return short
        return dataclasses.replace(short, sigmas=2.0, window=6, gap_z=1.64)

    def gap_trend(self, train: Array, validation: Array) -> Array:
        """Mann-Kendall statistic of the gap over the window that ends at each epoch."""
        gap = validation - train
        out = np.zeros(len(gap))
        for end in range(self.window, len(gap) + 1):
            out[end - 1] = mann_kendall_z(gap[end - self.window : end])
        return out

    def flags(self, train: Array, validation: Array) -> npt.NDArray[np.bool_]:
        """For each epoch, whether the rule flags there."""
        if len(validation) == 0:
            return np.zeros(0, dtype=bool)
        best = best_so_far(smooth(validation, self.decay))
        smoothed = smooth(train, self.decay)
        falls = smoothed[best] - smoothed > self.train_fall * np.abs(smoothed[best])
        solved = np.abs(smoothed) <= SOLVED * np.abs(smooth(validation, self.decay))
        better = falls | solved
        worse = rise(validation, self.decay, self.relative, self.sigmas).risen
        rising = self.gap_trend(train, validation) > self.gap_z
        much_worse = rise(validation, self.decay, self.large, LARGE_SIGMAS).risen
        wide = self._widened(train, validation, best)
        trend = in_a_row(worse & rising & better, self.patience)
        level = in_a_row(much_worse & wide & better, self.large_patience)
        return trend | level

    def _widened(
        self, train: Array, validation: Array, best: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether the gap is larger by a lot than when validation was at its best."""
        lowest = np.abs(smooth(validation, self.decay)[best])
        gap = smooth(validation - train, self.decay)
        noise = smoothed_noise(validation - train, self.decay)
        lot = np.maximum(self.large * lowest, LARGE_SIGMAS * noise)
        return np.asarray(gap - gap[best] > lot, dtype=bool)

    def __call__(self, train: Array, validation: Array) -> bool:
        """Whether the rule flags at the last epoch."""
        return len(validation) > 0 and bool(self.flags(train, validation)[-1])


def flags(rule: Rule, train: Array, validation: Array) -> npt.NDArray[np.bool_]:
    """For each epoch, whether `rule` flags there, whatever kind of rule it is."""
    if isinstance(rule, OverfitTrend):
        return rule.flags(train, validation)
    ends = range(1, len(validation) + 1)
    answers = [bool(rule(train[:end], validation[:end])) for end in ends]
    return np.array(answers, dtype=bool)


RULES = ("auto", "gl", "pq", "up")


def stopping_rule(name: str) -> Rule:
    """The Prechelt rule called "gl", "pq" or "up", with its default parameters."""
    known: dict[str, Callable[[], Rule]] = {
        "gl": GeneralizationLoss,
        "pq": ProgressQuotient,
        "up": SuccessiveStrips,
    }
    return known[arguments.choice("criterion", name, tuple(known))]()


def resolve(rule: Any, epochs: int) -> Rule:
    """The rule meant by `rule`: "auto", a Prechelt name, or a callable as it is."""
    if isinstance(rule, str):
        arguments.choice("rule", rule, RULES)
        return OverfitTrend.for_run(epochs) if rule == "auto" else stopping_rule(rule)
    return function("rule", rule, RULES)


def function(argument: str, rule: Any, names: tuple[str, ...]) -> Rule:
    """A rule that is no name; the error for anything else lists the `names`."""
    if not callable(rule):
        listed = ", ".join(repr(name) for name in names)
        allowed = f"one of {listed}, or a callable (train, validation) -> bool"
        raise TypeError(arguments.message(argument, allowed, rule))
    return rule  # type: ignore[no-any-return]


def name_of(rule: Any) -> str:
    """What texts call a rule: its name, or the call that makes it."""
    if isinstance(rule, str):
        return rule
    if dataclasses.is_dataclass(rule):
        return repr(rule)
    return str(getattr(rule, "__name__", type(rule).__name__))
