"""What may stand for a schedule: a number, a callable, an object of tfmot."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.schedules import (
    PolynomialSparsity,
    SparsitySchedule,
    check_fraction,
)
from keras_fitkit.pruning.schedules import IterativeSparsity

RAMP = 0.75  # of the fit; the rest is for recovery
UPDATES = 100  # about so many mask updates where nothing says how many


@dataclasses.dataclass(frozen=True)
class FromCallable(SparsitySchedule):
    """Any callable `(step) -> sparsity`, asked at every `frequency`-th step."""

    function: Any
    frequency: int
    last: int | None

    def __call__(self, step: int) -> float:
        """What the callable says, checked."""
        found = self.function(step)
        try:
            found = float(found)
        except (TypeError, ValueError):
            found = None
        if not isinstance(found, float) or not 0.0 <= found < 1.0:
            allowed = "a callable that returns a fraction in [0, 1)"
            hint = f"It was called for step {step}. For 80 % return 0.8."
            raise ValueError(arguments.message("sparsity", allowed, found, hint))
        return found

    def should_update(self, step: int) -> bool:
        """Every `frequency`-th step and the last."""
        return step % self.frequency == 0 or step == self.last


@dataclasses.dataclass(frozen=True)
class FromTfmot(SparsitySchedule):
    """A schedule object of tfmot, told by what it returns: (should prune, sparsity)."""

    schedule: Any
    exact: bool  # as tfmot does it: no update of our own at the end

    def __call__(self, step: int) -> float:
        """The sparsity it gives."""
        return float(_number(self.schedule(step)[1]))

    def should_update(self, step: int) -> bool:
        """What it says, and its end step (which tfmot leaves out)."""
        end = getattr(self.schedule, "end_step", None)
        if not self.exact and end is not None and end >= 0 and step == end:
            return True
        frequency = getattr(self.schedule, "frequency", None)
        begin = getattr(self.schedule, "begin_step", None)
        if (
            isinstance(frequency, int)
            and isinstance(begin, int)
            and isinstance(end, int)
        ):
            # The same arithmetic without its TensorFlow ops, which cost a step's time.
            return (
                step >= begin
                and (end < 0 or step <= end)
                and (step - begin) % frequency == 0
            )
        return bool(_number(self.schedule(step)[0]))

    @property
    def final_sparsity(self) -> float | None:
        """Where it ends, if it says so."""
        for name in ("final_sparsity", "target_sparsity"):
            value = getattr(self.schedule, name, None)
            if isinstance(value, numbers.Real):
                return float(value)
        return None


def _number(value: Any) -> Any:
    return value.numpy() if hasattr(value, "numpy") else value


def is_tfmot(value: Any) -> bool:
    """Whether `value` looks like one of tfmot's schedules; tfmot is not imported."""
    return any(
        base.__module__.startswith("tensorflow_model_optimization")
        or base.__name__ == "PruningSchedule"
        for base in type(value).__mro__
    )


def check(sparsity: Any) -> Any:
    """What `PruneSchedule` takes as its first argument.

    Raises:
        ValueError, TypeError: nothing of that.
    """
    if isinstance(sparsity, numbers.Real) and not isinstance(sparsity, bool):
        return check_fraction("sparsity", sparsity)
    if isinstance(sparsity, SparsitySchedule):
        return sparsity
    if is_tfmot(sparsity):
        begin, end = (
            getattr(sparsity, f"{name}_step", None) for name in ("begin", "end")
        )
        if begin is not None and begin == end:
            allowed = (
                "a schedule that ends after it begins; tfmot divides by zero there"
            )
            raise ValueError(arguments.message("sparsity", allowed, (begin, end)))
        return sparsity
    return arguments.function(
        "sparsity",
        sparsity,
        "(step) -> fraction, a fraction in [0, 1), or a schedule",
        count=1,
    )


def resolve(
    sparsity: Any, steps: int | None, *, exact: bool = False, by_epoch: bool = False
) -> SparsitySchedule:
    """The schedule for a fit of so many steps (None: not known).

    Args:
        sparsity: checked by `check`.
        steps: steps of the fit, or its epochs where steps are not known and the
            schedule has none of its own (`needs_length`).
        exact: leave tfmot's schedules without the last update.
        by_epoch: whether `steps` are epochs.
    """
    if isinstance(sparsity, float):
        if not steps:
            raise ValueError(arguments.message("sparsity", "a schedule here", sparsity))
        end = max(1, math.ceil(RAMP * steps))
        frequency = max(1, end // UPDATES)
        return PolynomialSparsity(sparsity, 0, end, frequency=frequency)
    if isinstance(sparsity, IterativeSparsity):
        if by_epoch:  # its rounds are of epochs then, `rewind_step` is still a step
            sparsity = dataclasses.replace(
                sparsity, rewind_step=None, rewind_optimizer=False
            )
        fitted: SparsitySchedule = sparsity.over(steps or 0)
        return fitted
    if isinstance(sparsity, SparsitySchedule):
        return sparsity
    if is_tfmot(sparsity):
        return FromTfmot(sparsity, exact)
    frequency = 100 if steps is None else min(100, max(1, steps // UPDATES))
    return FromCallable(sparsity, frequency, steps)


def needs_length(sparsity: Any) -> bool:
    """Whether the schedule depends on how long the fit is."""
    if isinstance(sparsity, IterativeSparsity):
        return sparsity.steps_per_round is None
    return isinstance(sparsity, float)


def final_of(schedule: SparsitySchedule, steps: int | None) -> float:
    """The sparsity at the end of the fit, as far as that can be known."""
    named = named_final(schedule)
    if named is not None:
        return named
    return schedule(steps) if steps else 0.0


def named_final(sparsity: Any) -> float | None:
    """The sparsity at the end that an argument or a schedule names, or None."""
    if isinstance(sparsity, float):
        return sparsity
    if is_tfmot(sparsity):
        sparsity = FromTfmot(sparsity, True)
    named = getattr(sparsity, "final_sparsity", None)
    return float(named) if isinstance(named, numbers.Real) else None


def no_length(sparsity: Any) -> str:
    """The error for a fit whose length cannot be known."""
    allowed = "a schedule with steps of its own where a fit has no known end"
    return arguments.message("sparsity", allowed, sparsity)
