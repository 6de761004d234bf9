"""The run of EarlyStopping over the epochs of one fit: what counts and when it ends.

`StoppingRun` gets `logs` and the clock and gives back what to do. It knows no model and
no weights: those are EarlyStopping's, which does what is said here.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_fitkit._core import metric_names
from keras_fitkit.monitoring import _stopping_logs as stopping_logs
from keras_fitkit.monitoring._stopping_conditions import (
    MetricWatch,
    Progress,
    Reason,
    epochs,
    verdict,
)


class Outcome(NamedTuple):
    """What follows from an epoch.

    Attributes:
        improved: the weights of now are the best ones.
        forgotten: weights that were best before are so no longer.
        reason: why to stop, or None.
    """

    improved: bool
    forgotten: bool
    reason: Reason | None


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The arguments of EarlyStopping that concern the run, already checked."""

    criterion: str = "patience"
    combine: str = "all"
    min_epochs: int = 0
    start_from_epoch: int = 0
    start_when: str | Callable[[Mapping[str, Any]], bool] | None = "auto"
    max_seconds: float | None = None
    check_finite: bool = True


@dataclasses.dataclass
class RunState:
    """The state of a run beside that of its metrics: plain values."""

    condition: str = "not run"
    why: str = ""
    epochs_done: int = 0
    last_epoch: int | None = None
    seconds: float = 0.0
    started: bool = False
    logs_seen: bool = False
    validation_seen: bool = False
    non_finite_epochs: list[int] = dataclasses.field(default_factory=list)


class StoppingRun:
    """Counts the epochs of one fit."""

    def __init__(self, settings: RunSettings, watches: Sequence[MetricWatch]) -> None:
        self.settings = settings
        self.watches = tuple(watches)
        self.state = RunState()
        self._mark = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The monitored names; `best` follows the first."""
        return tuple(watch.settings.name for watch in self.watches)

    @property
    def first(self) -> Progress:
        """What is known about the first metric."""
        return self.watches[0].progress

    @property
    def wait(self) -> int:
        """Epochs without improvement: of the metric that will decide."""
        waits = [watch.progress.wait for watch in self.watches]
        return min(waits) if self.settings.combine == "all" else max(waits)

    def begin(self, now: float | None) -> None:
        """Forgets everything; `now` is None when no fit begins yet."""
        self.state = RunState(condition="not run" if now is None else "running")
        self._mark = now or 0.0
        for watch in self.watches:
            watch.restart()

    def snapshot(self) -> dict[str, Any]:
        """The whole state as plain values."""
        progress = [dataclasses.asdict(watch.progress) for watch in self.watches]
        return {"run": dataclasses.asdict(self.state), "metrics": progress}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Goes on from a `snapshot`; one of another monitor list is an error."""
        metrics = snapshot["metrics"]
        if len(metrics) != len(self.watches):
            raise ValueError(
                f"`state` must be that of an EarlyStopping with {len(self.watches)} "
                f"monitored metrics. Received: the state of {len(metrics)}."
            )
        fresh = [Progress(**values) for values in metrics]
        self.state = RunState(**snapshot["run"])
        for watch, progress in zip(self.watches, fresh, strict=True):
            watch.progress = progress

    def elapsed(self, now: float) -> float:
        """Seconds of this fit; time between a snapshot and its use does not count."""
        return self.state.seconds + now - self._mark

    def tick(self, now: float) -> None:
        """Takes the time that has passed into the state."""
        self.state.seconds, self._mark = self.elapsed(now), now

    def time_is_up(self, now: float) -> bool:
        """Whether `max_seconds` have passed."""
        limit = self.settings.max_seconds
        return limit is not None and self.elapsed(now) >= limit

    def epoch(
        self,
        epoch: int,
        logs: Mapping[str, Any] | None,
        pruners: Iterable[Any],
        *,
        direction: Callable[[str, str], str],
        broken: Callable[[], str | None],
    ) -> Outcome:
        """One epoch is over: `tick` first.

        Args:
            epoch: its 0-based number.
            logs: what `fit` logged, or None when that is not known.
            pruners: callbacks that offer `sparsity_` and `sparsity_target_`.
            direction: `(name, mode) -> "min" or "max"`, asked when it is needed.
            broken: asked for the name of a weight that is not finite.
        """
        state = self.state
        state.epochs_done, state.last_epoch = state.epochs_done + 1, epoch
        logs = logs or {}
        values = self._look(logs, direction) if logs else {}
        reason = self._not_finite(epoch, values, broken) or self._late()
        improved = forgotten = False
        if values:
            forgotten = self._gate(logs, pruners)
            if state.started and epoch >= self.settings.start_from_epoch:
                improved = self._take(epoch, values, logs)
                if state.epochs_done >= self.settings.min_epochs:
                    reason = reason or self._verdict()
        state.condition, state.why = reason or Reason("running", "")
        return Outcome(improved, forgotten, reason)

    def notes(self) -> list[str]:
        """What a reader must know about epochs that did not count."""
        state, notes = self.state, []
        if state.non_finite_epochs:
            count, first = len(state.non_finite_epochs), state.non_finite_epochs[0] + 1
            notes.append(f"Not finite in {epochs(count)}, first in epoch {first}.")
        waits = not state.started and any(watch.progress.seen for watch in self.watches)
        if waits and self.settings.start_when == "auto":
            notes.append("No epoch counts while `sparsity` is below `sparsity_target`.")
        elif waits:
            notes.append("No epoch counts, because `start_when` was never true.")
        elif (state.last_epoch or 0) < self.settings.start_from_epoch:
            start = self.settings.start_from_epoch
            notes.append(f"No epoch counts before start_from_epoch={start}.")
        return notes

    def never_seen(self) -> list[str]:
        """Metrics that `logs` never held, although there were logs."""
        unseen = [
            watch.settings.name for watch in self.watches if not watch.progress.seen
        ]
        return unseen if self.state.logs_seen else []

    def _look(
        self, logs: Mapping[str, Any], direction: Callable[[str, str], str]
    ) -> dict[str, float]:
        """The monitored values of this epoch; raises for a name that is missing."""
        self.state.logs_seen = True
        self.state.validation_seen |= stopping_logs.has_validation(logs)
        values = {}
        for watch in self.watches:
            settings, progress = watch.settings, watch.progress
            if not progress.seen:
                stopping_logs.check_name(settings.name, logs)
            value = metric_names.read(logs, settings.name)
            if value is None:
                continue
            progress.seen = True
            if metric_names.not_measured(settings.name, value):
                continue
            values[settings.name] = value
            if progress.direction is None:
                watch.turn(direction(settings.name, settings.mode))
        return values

    def _not_finite(
        self, epoch: int, values: Mapping[str, float], broken: Callable[[], str | None]
    ) -> Reason | None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if not self.settings.check_finite or not bad:
            return None
        self.state.non_finite_epochs.append(epoch)
        what = f"`{bad[0]}` is {values[bad[0]]} in epoch {epoch + 1}"
        weight = broken()
        if weight is not None:
            why = f"{what} and the weight '{weight}' holds NaN or infinity."
            return Reason("non_finite_weights", why)
        if len(self.state.non_finite_epochs) == 1:
            warnings.warn(
                f"{what}. The weights are finite, so training goes on; such an epoch "
                "is never the best one and counts as no improvement.",
                stacklevel=2,
            )
        return None

    def _late(self) -> Reason | None:
        limit, seconds = self.settings.max_seconds, self.state.seconds
        if limit is None or seconds < limit:
            return None
        why = f"{seconds:.1f} s of this fit have passed (max_seconds={limit:g})."
        return Reason("max_seconds", why)

    def _gate(self, logs: Mapping[str, Any], pruners: Iterable[Any]) -> bool:
        """Whether the gate closes here: what was best is of another model now."""
        state, condition = self.state, self.settings.start_when
        started = stopping_logs.has_started(condition, state.started, logs, pruners)
        closes = state.started and not started
        if closes:
            for watch in self.watches:
                watch.restart(keep_seen=True)
        state.started = started
        return closes

    def _take(
        self, epoch: int, values: Mapping[str, float], logs: Mapping[str, Any]
    ) -> bool:
        first_improved = False
        for index, watch in enumerate(self.watches):
            name = watch.settings.name
            if name not in values:
                continue
            train = None
            if watch.rule is not None:
                train = stopping_logs.training_value(name, logs, watch.rule)
            improved = watch.take(epoch, values[name], train)
            first_improved = first_improved or (improved and index == 0)
        return first_improved

    def _verdict(self) -> Reason | None:
        return verdict(self.watches, self.settings.combine, self.settings.criterion)
