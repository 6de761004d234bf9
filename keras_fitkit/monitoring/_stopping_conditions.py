"""What one metric says, epoch by epoch, and when that ends a fit. No Keras in here.

`MetricWatch` keeps the run of one metric: smoothed value, best value, epochs without
improvement, curves for a rule. `verdict` combines the watches into a reason to stop.
Epochs are 0-based in values and 1-based in texts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit.monitoring.rules import Rule, name_of


class Reason(NamedTuple):
    """Why a fit was stopped: the name of the condition and one sentence."""

    condition: str
    why: str


@dataclasses.dataclass(frozen=True)
class MetricSettings:
    """The arguments of EarlyStopping that belong to one metric, already checked."""

    name: str
    mode: str = "auto"
    min_delta: float = 0.0
    relative: bool = False
    baseline: float | None = None
    stopping_threshold: float | None = None
    divergence_threshold: float | None = None
    smoothing: float = 0.0


@dataclasses.dataclass
class Progress:
    """The state of one metric in one run: plain values, so that it can be saved.

    Attributes:
        direction: "min" or "max", None until it is known.
        best, best_epoch: best (smoothed) value so far and its epoch.
        wait: epochs counted as Keras counts them (see `MetricWatch.take`).
        stall: epochs since `best` was last improved, whatever `baseline` says.
        value, raw: the last finite value, smoothed, and the last value as it was.
        total, weight: numerator and denominator of the bias-corrected average.
        seen: whether `logs` ever held the metric.
        flagged, reached, diverged: what the last counted epoch said.
        train, validation: the curves for a rule, lower is better.
    """

    direction: str | None = None
    best: float | None = None
    best_epoch: int = 0
    wait: int = 0
    stall: int = 0
    value: float | None = None
    raw: float | None = None
    total: float = 0.0
    weight: float = 0.0
    seen: bool = False
    flagged: bool = False
    reached: bool = False
    diverged: bool = False
    train: list[float] = dataclasses.field(default_factory=list)
    validation: list[float] = dataclasses.field(default_factory=list)


class MetricWatch:
    """One metric under watch: takes a value an epoch, knows when enough is enough."""

    def __init__(
        self, settings: MetricSettings, patience: int, rule: Rule | None
    ) -> None:
        self.settings = settings
        self.patience = patience
        self.rule = rule
        self.progress = Progress()
        self.restart()

    def restart(self, *, keep_seen: bool = False) -> None:
        """Forgets the run; `keep_seen` keeps what is known about the metric itself."""
        old = self.progress
        self.progress = Progress()
        if keep_seen:
            self.progress.direction, self.progress.seen = old.direction, old.seen
        elif self.settings.mode != "auto":
            self.turn(self.settings.mode)

    def turn(self, direction: str) -> None:
        """Sets the direction; thresholds that contradict it are an error."""
        self.progress.direction = direction
        good, bad = self.settings.stopping_threshold, self.settings.divergence_threshold
        if good is not None and bad is not None and not self._better(good, bad):
            side = "above" if direction == "min" else "below"
            allowed = (
                f"{side} `stopping_threshold` ({good:g}) for {self.settings.name!r}"
            )
            raise ValueError(arguments.message("divergence_threshold", allowed, bad))

    def take(self, epoch: int, raw: float, train: float | None) -> bool:
        """Counts one epoch; returns whether it is the best one so far.

        As in Keras 3.15.1 `wait` goes back to 0 only for an epoch that beats the best
        one AND `baseline`: a run gets `patience` epochs to pass the baseline. Unlike
        there, one epoch without improvement does not end a run that is still below it:
        that takes two in a row (keras#23559).
        """
        state = self.progress
        state.raw, state.reached, state.diverged = raw, False, False
        state.wait, state.stall = state.wait + 1, state.stall + 1
        if not math.isfinite(raw):
            state.diverged = self._beyond(raw)
            state.flagged = self.rule is None and self._out_of_patience(epoch)
            return False
        value = state.value = self._smoothed(raw)
        improved = self.improves(value, state.best)
        if improved:
            state.best, state.best_epoch, state.stall = value, epoch, 0
            if self.improves(value, self.settings.baseline):
                state.wait = 0
        good = self.settings.stopping_threshold
        state.reached = good is not None and not self._better(good, value)
        state.diverged = self._beyond(value)
        if self.rule is None:
            state.flagged = not improved and self._out_of_patience(epoch)
        else:
            state.flagged = self._rule_flags(value, train)
        return improved

    def improves(self, value: float, reference: float | None) -> bool:
        """Whether `value` beats `reference` by more than `min_delta`."""
        if reference is None:
            return True
        margin = self.settings.min_delta
        if self.settings.relative:
            margin *= abs(reference)
        if self.progress.direction == "max":
            return value - margin > reference
        return value + margin < reference

    def _better(self, value: float, reference: float) -> bool:
        return (
            value > reference if self.progress.direction == "max" else value < reference
        )

    def _beyond(self, value: float) -> bool:
        limit = self.settings.divergence_threshold
        return limit is not None and self._better(limit, value)

    def _out_of_patience(self, epoch: int) -> bool:
        state, least = self.progress, min(2, max(self.patience, 1))
        return epoch > 0 and state.wait >= self.patience and state.stall >= least

    def _smoothed(self, raw: float) -> float:
        state, decay = self.progress, self.settings.smoothing
        state.total = decay * state.total + (1.0 - decay) * raw
        state.weight = decay * state.weight + (1.0 - decay)
        return state.total / state.weight

    def _rule_flags(self, value: float, train: float | None) -> bool:
        state = self.progress
        if self.rule is None or (train is not None and not math.isfinite(train)):
            return False  # an epoch without a training value is no point of the curves
        sign = -1.0 if state.direction == "max" else 1.0
        state.validation.append(sign * value)
        state.train.append(math.nan if train is None else sign * train)
        return bool(self.rule(np.array(state.train), np.array(state.validation)))


def verdict(
    watches: Sequence[MetricWatch], combine: str, criterion: str
) -> Reason | None:
    """The reason to stop after an epoch that was counted, or None.

    `combine` ("all" or "any") holds for the criterion and for the stopping thresholds;
    one metric that diverged is enough.
    """
    diverged = [watch for watch in watches if watch.progress.diverged]
    if diverged:
        return Reason("divergence_threshold", _joined(map(_diverged_text, diverged)))
    enough: Any = all if combine == "all" else any
    goals = [
        watch for watch in watches if watch.settings.stopping_threshold is not None
    ]
    reached = [watch for watch in goals if watch.progress.reached]
    if reached and enough(watch.progress.reached for watch in goals):
        return Reason("stopping_threshold", _joined(map(_reached_text, reached)))
    flagged = [watch for watch in watches if watch.progress.flagged]
    if flagged and enough(watch.progress.flagged for watch in watches):
        return Reason(criterion, _joined(map(_flagged_text, flagged)))
    return None


def epochs(count: int) -> str:
    """A number of epochs in words."""
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(texts) + "."


def _value_text(watch: MetricWatch) -> str:
    state = watch.progress
    value = state.value if math.isfinite(state.raw or 0.0) else state.raw
    smoothed = "smoothed " if watch.settings.smoothing else ""
    return f"{smoothed}`{watch.settings.name}` = {value:.6g}"


def _best_text(watch: MetricWatch) -> str:
    state = watch.progress
    if state.best is None:
        return "it was never finite"
    return f"best {state.best:.6g} in epoch {state.best_epoch + 1}"


def _diverged_text(watch: MetricWatch) -> str:
    limit = watch.settings.divergence_threshold
    return f"{_value_text(watch)} is worse than divergence_threshold={limit:g}"


def _reached_text(watch: MetricWatch) -> str:
    return (
        f"{_value_text(watch)} reached "
        f"stopping_threshold={watch.settings.stopping_threshold:g}"
    )


def _flagged_text(watch: MetricWatch) -> str:
    if watch.rule is not None:
        flagged = f"flagged by {name_of(watch.rule)}"
        return f"{_value_text(watch)} {flagged}; {_best_text(watch)}"
    state, settings = watch.progress, watch.settings
    margin = f" by more than {settings.min_delta:g}" if settings.min_delta else ""
    margin += " of its best" if margin and settings.relative else ""
    if state.wait > state.stall:
        what = f"did not pass baseline={settings.baseline:g}{margin}"
    else:
        what = f"did not improve{margin}"
    return (
        f"`{settings.name}` {what} for {epochs(state.wait)} "
        f"(patience={watch.patience}); {_best_text(watch)}"
    )
