"""When to prune and how much: sparsity as a function of the training step.

A schedule knows nothing of weights. It answers two questions about a step, counted
from 1 as in tfmot: is anything to be done (`should_update`), and which fraction of the
weights is to be zero then (the call). The formulas and the argument names are those of
`tfmot.sparsity.keras`, with two of its faults mended: the last update always happens,
and an empty range is an error rather than NaN.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable

_PERCENT_HINT = "For 80 % pass 0.8."


class SparsitySchedule:
    """Base of the sparsity schedules: two questions about a step.

    To make your own, subclass and define both methods. Schedules are immutable, so
    that one can be given to several callbacks.

    Raises:
        NotImplementedError: when a subclass does not define the method that is called.

    Example:
        >>> import keras_fitkit as kf
        >>> isinstance(kf.ConstantSparsity(0.5), kf.SparsitySchedule)
        True
    """

    def __call__(self, step: int) -> float:
        """The sparsity asked for at a step.

        Args:
            step: the training step, counted from 1.

        Returns:
            The fraction of zeros, in [0, 1).

        Raises:
            NotImplementedError: in the base class.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must define `__call__`.")

    def should_update(self, step: int) -> bool:
        """Whether the zeros are to be chosen anew at a step.

        Args:
            step: the training step, counted from 1.

        Returns:
            True at steps where the mask is computed.

        Raises:
            NotImplementedError: in the base class.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `should_update`."
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for `from_config`."""
        return dataclasses.asdict(self) if dataclasses.is_dataclass(self) else {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SparsitySchedule:
        """The schedule that `get_config` described."""
        return cls(**config)


@serializable
@dataclasses.dataclass(frozen=True)
class ConstantSparsity(SparsitySchedule):
    """The same sparsity from one step on.

    `s(t) = final_sparsity` for `t >= begin_step`, and 0 before. The zeros are chosen
    anew at `begin_step` and every `frequency` steps after it, up to and always also at
    `end_step`.

    Args:
        final_sparsity: fraction of zeros, in [0, 1).
        begin_step: first step with an update, >= 0. Steps count from 1: the first
            update of `begin_step=0` comes at step `frequency`, as in tfmot. Defaults
            to 1.
        end_step: last step with an update, > `begin_step`; None: no last one. Defaults
            to None.
        frequency: steps from one update to the next, >= 1. Defaults to 100.

    Raises:
        TypeError, ValueError: if an argument is outside its range.

    Example:
        >>> import keras_fitkit as kf
        >>> schedule = kf.ConstantSparsity(0.8, begin_step=10, frequency=50)
        >>> [step for step in range(1, 120) if schedule.should_update(step)]
        [10, 60, 110]
        >>> schedule(9), schedule(10)
        (0.0, 0.8)

    References:
        tfmot's `ConstantSparsity` (`target_sparsity` there, `end_step=-1` for None).
    """

    final_sparsity: float
    begin_step: int = 1
    end_step: int | None = None
    frequency: int = 100

    def __post_init__(self) -> None:
        store(
            self,
            "final_sparsity",
            check_fraction("final_sparsity", self.final_sparsity),
        )
        store(
            self, "begin_step", arguments.integer("begin_step", self.begin_step, low=0)
        )
        if self.end_step is not None:
            store(self, "end_step", check_end_step(self.begin_step, self.end_step))
        store(self, "frequency", arguments.integer("frequency", self.frequency, low=1))

    def __call__(self, step: int) -> float:
        """The sparsity asked for at a step counted from 1."""
        return self.final_sparsity if step >= self.begin_step else 0.0

    def should_update(self, step: int) -> bool:
        """Whether the zeros are to be chosen anew at a step counted from 1."""
        return on_grid(step, self.begin_step, self.end_step, self.frequency)


@serializable
@dataclasses.dataclass(frozen=True)
class PolynomialSparsity(SparsitySchedule):
    """A sparsity that rises along a polynomial, fast at first and then ever slower.

    `s(t) = s_f + (s_i - s_f) * (1 - p)**power` with `p = (t - begin) / (end - begin)`
    clipped to [0, 1]. The last update is always at `end_step`, also where `frequency`
    does not divide the range (tfmot stays below the final sparsity there).

    Args:
        final_sparsity: fraction of zeros from `end_step` on, in [0, 1).
        begin_step: first step with an update, >= 0. Steps count from 1: the first
            update of `begin_step=0` comes at step `frequency`, as in tfmot.
        end_step: last step with an update, > `begin_step`.
        initial_sparsity: fraction of zeros at `begin_step`, in [0, `final_sparsity`].
            Defaults to 0.
        power: exponent, > 0; 1 is a straight line. Defaults to 3.
        frequency: steps from one update to the next, >= 1. Defaults to 100.

    Raises:
        TypeError, ValueError: if an argument is outside its range.

    Example:
        >>> import keras_fitkit as kf
        >>> schedule = kf.PolynomialSparsity(0.8, 100, 1000, frequency=350)
        >>> [step for step in range(1, 2000) if schedule.should_update(step)]
        [100, 450, 800, 1000]
        >>> [round(schedule(step), 3) for step in (100, 450, 800, 1000)]
        [0.0, 0.617, 0.791, 0.8]

    References:
        Zhu and Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878;
        tfmot's `PolynomialDecay`.
    """

    final_sparsity: float
    begin_step: int
    end_step: int
    initial_sparsity: float = 0.0
    power: float = 3.0
    frequency: int = 100

    def __post_init__(self) -> None:
        store(
            self,
            "final_sparsity",
            check_fraction("final_sparsity", self.final_sparsity),
        )
        store(
            self, "begin_step", arguments.integer("begin_step", self.begin_step, low=0)
        )
        store(self, "end_step", check_end_step(self.begin_step, self.end_step))
        initial = check_fraction("initial_sparsity", self.initial_sparsity)
        if initial > self.final_sparsity:
            allowed = f"at most `final_sparsity`, {self.final_sparsity:g}"
            raise ValueError(arguments.message("initial_sparsity", allowed, initial))
        store(self, "initial_sparsity", initial)
        power = arguments.number("power", self.power, low=0, include_low=False)
        store(self, "power", power)
        store(self, "frequency", arguments.integer("frequency", self.frequency, low=1))

    def __call__(self, step: int) -> float:
        """The sparsity asked for at a step counted from 1."""
        rest = (self.end_step - step) / (self.end_step - self.begin_step)
        rest = min(max(rest, 0.0), 1.0)
        span = self.final_sparsity - self.initial_sparsity
        # Rounding may fall short of the initial sparsity by one bit.
        sparsity = self.final_sparsity - span * math.pow(rest, self.power)
        return max(self.initial_sparsity, sparsity)

    def should_update(self, step: int) -> bool:
        """Whether the zeros are to be chosen anew at a step counted from 1."""
        return on_grid(step, self.begin_step, self.end_step, self.frequency)


def on_grid(step: int, begin: int, end: int | None, frequency: int) -> bool:
    if step < begin or (end is not None and step > end):
        return False
    return step == end or (step - begin) % frequency == 0


def check_fraction(name: str, value: object) -> float:
    return arguments.number(
        name, value, low=0, high=1, include_high=False, hint=_PERCENT_HINT
    )


def check_end_step(begin: int, value: object) -> int:
    clean = arguments.integer("end_step", value)
    if clean <= begin:
        raise ValueError(
            arguments.message("end_step", f"an integer > `begin_step`, {begin}", value)
        )
    return clean


def store(schedule: SparsitySchedule, name: str, value: float) -> None:
    """Stores a checked value in a frozen dataclass."""
    object.__setattr__(schedule, name, value)
