"""Rules that read two learning curves and say whether the model overfits now.

A rule is any callable `(train, validation) -> bool` on the values of all epochs so far,
oldest first, **lower is better** (scores arrive negated). It answers for the last epoch
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

Array: TypeAlias = npt.NDArray[np.float64]
Rule: TypeAlias = Callable[[Array, Array], bool]

LONG_RUN = 40  # epochs from which OverfitTrend is strict
SHORT_RUN = 14  # epochs below which it is quickest


def smooth(values: Array, decay: float) -> Array:
    """Exponential moving average, corrected for its start; `decay` 0 does nothing."""
    total, weight = 0.0, 0.0
    out = np.empty(len(values))
    for index, value in enumerate(values):
        total = decay * total + (1.0 - decay) * float(value)
        weight = decay * weight + (1.0 - decay)
        out[index] = total / weight
    return out


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
    noise = np.array([noise_level(values[: end + 1]) for end in range(len(values))])
    noise = noise * np.sqrt((1.0 - decay) / (1.0 + decay))
    return Rise(
        smoothed=smoothed,
        height=smoothed - minimum,
        threshold=np.maximum(relative * np.abs(minimum), sigmas * noise),
    )


@dataclasses.dataclass(frozen=True)
class OverfitTrend:
    """Flags overfitting: validation got worse, the gap widens, training does not rise.

    An epoch is evidence when all three hold: the smoothed validation curve stands above
    its own minimum by more than `relative` of it and by more than `sigmas` standard
    deviations of noise; the Mann-Kendall statistic of the gap over the last `window`
    epochs exceeds `gap_z`; the training curve does not stand above its own minimum by
    the same measure (else the model diverges). `patience` such epochs in a row flag.

    Args:
        decay: smoothing, in [0, 1). Defaults to 0.6.
        relative: fraction of the minimum, >= 0. Defaults to 0.03.
        sigmas: standard deviations of the smoothed noise, >= 0. Defaults to 3.0.
        window: epochs of the gap trend, >= 3. Defaults to 20.
        patience: evidence epochs in a row, >= 1. Defaults to 8.
        gap_z: quantile of the standard normal, >= 0. Defaults to 2.58.

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

    def __post_init__(self) -> None:
        arguments.number("decay", self.decay, low=0, high=1, include_high=False)
        for name in ("relative", "sigmas", "gap_z"):
            arguments.number(name, getattr(self, name), low=0)
        arguments.integer("window", self.window, low=3)
        arguments.integer("patience", self.patience, low=1)

    @classmethod
    def for_run(cls, epochs: int) -> OverfitTrend:
        """The setting for a run of so many epochs.

        From 40 epochs on the defaults, which hardly ever raise a false alarm; shorter
        runs get shorter windows, or the alarm would come after their end.
        """
        if epochs >= LONG_RUN:
            return cls()
        short = cls(decay=0.5, relative=0.02, sigmas=2.0, window=10, patience=2)
        if epochs >= SHORT_RUN:
            return short
        return dataclasses.replace(short, decay=0.4, window=7, gap_z=1.96)

    def gap_trend(self, train: Array, validation: Array) -> Array:
        """Mann-Kendall statistic of the gap over the window that ends at each epoch."""
        gap = validation - train
        out = np.zeros(len(gap))
        for end in range(self.window, len(gap) + 1):
            out[end - 1] = mann_kendall_z(gap[end - self.window : end])
        return out

    def flags(self, train: Array, validation: Array) -> npt.NDArray[np.bool_]:
        """For each epoch, whether the rule flags there."""
        worse = rise(validation, self.decay, self.relative, self.sigmas).risen
        widening = self.gap_trend(train, validation) > self.gap_z
        diverging = rise(train, self.decay, self.relative, self.sigmas).risen
        evidence = worse & widening & ~diverging
        out = np.zeros(len(evidence), dtype=bool)
        run = 0
        for index, holds in enumerate(evidence):
            run = run + 1 if holds else 0
            out[index] = run >= self.patience
        return out

    def __call__(self, train: Array, validation: Array) -> bool:
        """Whether the rule flags at the last epoch."""
        return len(validation) > 0 and bool(self.flags(train, validation)[-1])


def generalization_loss(validation: Array) -> float:
    """Prechelt's GL in percent at the last epoch: how far above the minimum so far.

    GL(t) = 100 (E(t) / E_opt(t) - 1), written as 100 (E - E_opt) / |E_opt| so that it
    keeps its sign for negative values; infinite when E_opt is 0 and E is not.
    """
    best = float(np.min(validation))
    above = float(validation[-1]) - best
    if above == 0.0:
        return 0.0
    return float("inf") if best == 0.0 else 100.0 * above / abs(best)


def training_progress(train: Array, strip: int) -> float:
    """Prechelt's P_k in per mille: how much training still moved in the last strip."""
    last = train[-strip:]
    best = float(np.min(last))
    above = float(np.mean(last)) - best
    if above == 0.0:
        return 0.0
    return float("inf") if best == 0.0 else 1000.0 * above / abs(best)


@dataclasses.dataclass(frozen=True)
class GeneralizationLoss:
    """Prechelt's GL: flags once validation is `threshold` percent above its minimum.

    Args:
        threshold: percent, > 0. Defaults to 5.0.

    Raises:
        ValueError, TypeError: `threshold` outside its range.

    Example:
        >>> import numpy as np
        >>> rule = GeneralizationLoss(5.0)
        >>> falling = np.array([3.0, 2.0, 1.0])
        >>> (
        ...     rule(falling, np.array([2.0, 1.0, 1.04])),
        ...     rule(falling, np.array([2.0, 1.0, 1.06])),
        ... )
        (False, True)

    Reference: Prechelt, "Early Stopping - But When?", 1998, section 2.1.
    """

    threshold: float = 5.0

    def __post_init__(self) -> None:
        arguments.number("threshold", self.threshold, low=0, include_low=False)

    def __call__(self, train: Array, validation: Array) -> bool:
        """Whether GL exceeds the threshold at the last epoch."""
        return len(validation) > 0 and generalization_loss(validation) > self.threshold


@dataclasses.dataclass(frozen=True)
class ProgressQuotient:
    """Prechelt's PQ: GL over training progress, looked at when a strip ends.

    Flags when GL(t) / P_k(t) > `threshold` at the end of a strip of k epochs: a rise of
    validation counts for less while training still makes quick progress.

    Args:
        threshold: percent per per-mille, > 0. Defaults to 0.75.
        strip: epochs in a strip, >= 1. Defaults to 5.

    Raises:
        ValueError, TypeError: an argument outside its range, by name.

    Example:
        >>> import numpy as np
        >>> rule = ProgressQuotient(0.75, strip=2)
        >>> rule(np.array([1.0, 0.5, 0.50, 0.49]), np.array([1.0, 0.8, 0.9, 1.0]))
        True

    Reference: Prechelt, "Early Stopping - But When?", 1998, section 2.1.
    """

    threshold: float = 0.75
    strip: int = 5

    def __post_init__(self) -> None:
        arguments.number("threshold", self.threshold, low=0, include_low=False)
        arguments.integer("strip", self.strip, low=1)

    def __call__(self, train: Array, validation: Array) -> bool:
        """Whether a strip ends here with a quotient above the threshold."""
        if len(validation) == 0 or len(validation) % self.strip:
            return False
        loss = generalization_loss(validation)
        progress = training_progress(train, self.strip)
        return loss > 0.0 and (progress == 0.0 or loss / progress > self.threshold)


@dataclasses.dataclass(frozen=True)
class SuccessiveStrips:
    """Prechelt's UP: validation rose from strip end to strip end, `successive` times.

    Args:
        successive: strips in a row, >= 1. Defaults to 4.
        strip: epochs in a strip, >= 1. Defaults to 5.

    Raises:
        ValueError, TypeError: an argument outside its range, by name.

    Example:
        >>> import numpy as np
        >>> rule = SuccessiveStrips(2, strip=1)
        >>> train = np.zeros(4)
        >>> (
        ...     rule(train, np.array([2.0, 1.0, 1.1, 1.2])),
        ...     rule(train, np.array([2, 1, 1.1, 1.0])),
        ... )
        (True, False)

    Reference: Prechelt, "Early Stopping - But When?", 1998, section 2.1.
    """

    successive: int = 4
    strip: int = 5

    def __post_init__(self) -> None:
        arguments.integer("successive", self.successive, low=1)
        arguments.integer("strip", self.strip, low=1)

    def __call__(self, train: Array, validation: Array) -> bool:
        """Whether the last `successive` strips each ended worse than the one before."""
        count = len(validation)
        if count % self.strip or count < self.strip * (self.successive + 1):
            return False
        ends = validation[self.strip - 1 :: self.strip][-(self.successive + 1) :]
        return bool(np.all(np.diff(ends) > 0))


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
    return arguments.function("rule", rule, "(train, validation) -> bool")
