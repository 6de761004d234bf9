"""More schedules of sparsity: at once, along a cosine, in rounds."""

from __future__ import annotations

import dataclasses
import math

from keras_fitkit._core import arguments
from keras_fitkit._core.schedules import (
    PolynomialSparsity,
    SparsitySchedule,
    check_fraction,
    on_grid,
    store,
)
from keras_fitkit._core.serialization import serializable


@serializable
@dataclasses.dataclass(frozen=True)
class OneShotSparsity(SparsitySchedule):
    """All zeros at once, at one step; never chosen anew.

    Args:
        final_sparsity: fraction of zeros, in [0, 1).
        step: the step before which the zeros are chosen, >= 1. Defaults to 1.

    Raises:
        TypeError, ValueError: if an argument is outside its range.

    Example:
        >>> import keras_fitkit as kf
        >>> schedule = kf.OneShotSparsity(0.5, step=3)
        >>> [(schedule.should_update(step), schedule(step)) for step in (2, 3, 4)]
        [(False, 0.0), (True, 0.5), (False, 0.5)]
    """

    final_sparsity: float
    step: int = 1

    def __post_init__(self) -> None:
        store(
            self,
            "final_sparsity",
            check_fraction("final_sparsity", self.final_sparsity),
        )
        store(self, "step", arguments.integer("step", self.step, low=1))

    def __call__(self, step: int) -> float:
        """The sparsity asked for at a step counted from 1."""
        return self.final_sparsity if step >= self.step else 0.0

    def should_update(self, step: int) -> bool:
        """Whether the zeros are chosen at a step counted from 1."""
        return step == self.step


@serializable
@dataclasses.dataclass(frozen=True)
class CosineSparsity(SparsitySchedule):
    """A sparsity that rises along half a cosine: slowly, fast, slowly.

    `s(t) = s_f + (s_i - s_f) * (1 + cos(pi p)) / 2` with `p = (t - begin) / (end -
    begin)` clipped to [0, 1]. The last update is always at `end_step`.

    Args:
        final_sparsity: fraction of zeros from `end_step` on, in [0, 1).
        begin_step: first step with an update, >= 0. Steps count from 1.
        end_step: last step with an update, > `begin_step`.
        initial_sparsity: fraction of zeros at `begin_step`, in [0, `final_sparsity`].
            Defaults to 0.
        frequency: steps from one update to the next, >= 1. Defaults to 100.

    Raises:
        TypeError, ValueError: if an argument is outside its range.

    Example:
        >>> import keras_fitkit as kf
        >>> schedule = kf.CosineSparsity(0.8, begin_step=0, end_step=1000)
        >>> [round(schedule(step), 3) for step in (0, 250, 500, 1000)]
        [0.0, 0.117, 0.4, 0.8]
    """

    final_sparsity: float
    begin_step: int
    end_step: int
    initial_sparsity: float = 0.0
    frequency: int = 100

    def __post_init__(self) -> None:
        checked = PolynomialSparsity(
            self.final_sparsity,
            self.begin_step,
            self.end_step,
            self.initial_sparsity,
            frequency=self.frequency,
        )
        for field in dataclasses.fields(self):
            store(self, field.name, getattr(checked, field.name))

    def __call__(self, step: int) -> float:
        """The sparsity asked for at a step counted from 1."""
        gone = (step - self.begin_step) / (self.end_step - self.begin_step)
        gone = min(max(gone, 0.0), 1.0)
        if gone == 1.0:
            return self.final_sparsity
        span = self.final_sparsity - self.initial_sparsity
        return self.final_sparsity - span * (1.0 + math.cos(math.pi * gone)) / 2.0

    def should_update(self, step: int) -> bool:
        """Whether the zeros are chosen anew at a step counted from 1."""
        return on_grid(step, self.begin_step, self.end_step, self.frequency)


@serializable
@dataclasses.dataclass(frozen=True)
class IterativeSparsity(SparsitySchedule):
    """Train, prune a part, train again, in rounds: the lottery-ticket procedure.

    The run is cut into `rounds + 1` parts of `steps_per_round` steps. After part r the
    same fraction of the remaining weights goes, so that

        s_r = 1 - (1 - final_sparsity) ** (r / rounds)

    With `rewind_step` all weights of the model then go back to the values they had
    after that step, and training goes on from there with the zeros fixed.

    Args:
        final_sparsity: fraction of zeros after the last round, in [0, 1).
        rounds: how often to prune, >= 1.
        rewind_step: 0: weights go back to the start of the fit; k: to those after k
            steps, at most `steps_per_round`; None: they go on. Defaults to None.
        rewind_optimizer: also put the optimizer's own variables back to that step.
            Defaults to False.
        steps_per_round: >= 1, or None: the steps of the fit over `rounds + 1`. Defaults
            to None.

    Raises:
        TypeError, ValueError: if an argument is outside its range.
        RuntimeError: if it is asked for a step while `steps_per_round` is None.

    Example:
        >>> import keras_fitkit as kf
        >>> schedule = kf.IterativeSparsity(0.875, rounds=3, steps_per_round=10)
        >>> [
        ...     (step, schedule(step))
        ...     for step in range(1, 41)
        ...     if schedule.should_update(step)
        ... ]
        [(11, 0.5), (21, 0.75), (31, 0.875)]

    References:
        Frankle and Carbin, "The Lottery Ticket Hypothesis", 2019, arXiv:1803.03635;
        Frankle et al., "Stabilizing the Lottery Ticket Hypothesis", 2019,
        arXiv:1903.01611 (rewinding to step k).
    """

    final_sparsity: float
    rounds: int
    rewind_step: int | None = None
    rewind_optimizer: bool = False
    steps_per_round: int | None = None

    def __post_init__(self) -> None:
        store(
            self,
            "final_sparsity",
            check_fraction("final_sparsity", self.final_sparsity),
        )
        store(self, "rounds", arguments.integer("rounds", self.rounds, low=1))
        if self.rewind_step is not None:
            step = arguments.integer("rewind_step", self.rewind_step, low=0)
            store(self, "rewind_step", step)
        arguments.flag("rewind_optimizer", self.rewind_optimizer)
        if self.rewind_optimizer and self.rewind_step is None:
            allowed = "False without `rewind_step`"
            raise ValueError(arguments.message("rewind_optimizer", allowed, True))
        if self.steps_per_round is not None:
            steps = arguments.integer("steps_per_round", self.steps_per_round, low=1)
            store(self, "steps_per_round", steps)
            self._check_rewind(steps)

    def _check_rewind(self, steps: int) -> None:
        if self.rewind_step is not None and self.rewind_step > steps:
            allowed = f"at most the {steps} steps of a round"
            raise ValueError(
                arguments.message("rewind_step", allowed, self.rewind_step)
            )

    def over(self, steps: int) -> IterativeSparsity:
        """The same for a fit of so many steps.

        Raises:
            ValueError: fewer steps than rounds need.
        """
        if self.steps_per_round is not None:
            return self
        each = steps // (self.rounds + 1)
        if each == 0:
            allowed = f"less than the steps of the fit, {steps}"
            raise ValueError(arguments.message("rounds", allowed, self.rounds))
        return dataclasses.replace(self, steps_per_round=each)

    def __call__(self, step: int) -> float:
        """The sparsity asked for at a step counted from 1."""
        done = min(self.rounds, max(0, step - 1) // self._length())
        if done == self.rounds:
            return self.final_sparsity
        return 1.0 - float((1.0 - self.final_sparsity) ** (done / self.rounds))

    def should_update(self, step: int) -> bool:
        """Whether the zeros are chosen anew at a step counted from 1."""
        part, rest = divmod(step - 1, self._length())
        return rest == 0 and 1 <= part <= self.rounds

    def _length(self) -> int:
        if self.steps_per_round is None:
            raise RuntimeError(
                "`steps_per_round` must be known before a step is asked for. "
                "PruneSchedule fills it in when the fit begins."
            )
        return self.steps_per_round
