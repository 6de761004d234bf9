"""When the masks of a fit are due, and how far they have got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.schedules import SparsitySchedule
from keras_fitkit._core.targets import Target
from keras_fitkit.pruning import allocation, given_schedules, tfmot_masks
from keras_fitkit.pruning.mask_rule import MaskRule, Moment
from keras_fitkit.pruning.schedules import OneShotSparsity


class Timeline:
    """A schedule laid out over one fit, in steps or, where these are unknown, epochs.

    Args:
        sparsity: the argument of `PruneSchedule`, checked.
        rule: how masks are computed: some patterns fix the sparsity.
    """

    def __init__(self, sparsity: Any, rule: MaskRule) -> None:
        self.sparsity, self.rule = sparsity, rule
        self.plan: SparsitySchedule | None = None
        self.length: int | None = None  # steps (or epochs) of the fit
        self.by_epoch = False
        self.handled = 0  # the last step whose update is done
        self.asked: float | None = None  # the sparsity of the last update
        self._epochs: int | None = None  # to run in this fit, where that is known
        self._last: float | None = None  # what is asked for at the end, once known
        self._total: float | None = None  # and what all weights together have then

    @property
    def state(self) -> dict[str, Any]:
        """What a fit that goes on needs to know, as plain values."""
        return {
            "length": self.length,
            "by_epoch": self.by_epoch,
            "handled": self.handled,
            "asked": self.asked,
            "named": given_schedules.named_final(self.sparsity),
        }

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        for name in ("length", "by_epoch", "handled", "asked"):
            setattr(self, name, state[name])
        self.plan = None  # laid out anew when the next epoch begins

    def check_state(self, state: Any) -> None:
        """A state can be put into a schedule that ends where its own one does.

        Raises:
            ValueError: it ends elsewhere.
        """
        named = given_schedules.named_final(self.sparsity)
        then = state.get("named") if isinstance(state, Mapping) else named
        if then != named:
            allowed = f"that of a PruneSchedule with the final sparsity {named}"
            hint = "A fit that goes on must have the schedule it began with."
            raise ValueError(arguments.message("state", allowed, then, hint))

    def measure(self, params: Mapping[str, Any], epoch: int) -> None:
        """Finds how long the fit is, at its first epoch, from what Keras says of it.

        Raises:
            ValueError: it has no end, and the schedule needs one.
        """
        steps, epochs = params.get("steps"), params.get("epochs")
        self._epochs = None if epochs is None else int(epochs) - epoch
        if self.length is not None:
            return
        if steps is not None and self._epochs is not None:
            self.length = int(steps) * self._epochs
        elif given_schedules.needs_length(self.sparsity):
            if self._epochs is None:
                raise ValueError(given_schedules.no_length(self.sparsity))
            self.by_epoch, self.length = True, self._epochs

    def measured(self, steps: int) -> bool:
        """Takes the steps of the first epoch where Keras knew none; True if it did."""
        if self.length is not None or not self._epochs:
            return False
        self.length = steps * self._epochs  # the other epochs will have as many
        return True

    def lay_out(self, found: Sequence[Target]) -> None:
        """Fits the schedule to the length of the fit.

        Raises:
            ValueError: it does not end where the pattern says.
        """
        if self.rule.once:
            self.plan = OneShotSparsity(float(self.rule.pattern.sparsity or 0.0))
        else:
            self.plan = given_schedules.resolve(
                self.sparsity,
                self.length,
                exact=self.rule.tfmot,
                by_epoch=self.by_epoch,
            )
        self._last = None
        final = self.final
        self.rule.check_final(final)
        self._total = allocation.total(self.rule.allocation, found, final)

    @property
    def final(self) -> float:
        """The fraction asked for at the end of the fit, as far as that is known."""
        if self.plan is None:
            return given_schedules.named_final(self.sparsity) or 0.0
        if self._last is None:
            self._last = given_schedules.final_of(self.plan, self.length)
        return self._last

    @property
    def too_late(self) -> tuple[float, float] | None:
        """Sparsity at the last step and the named final one, if the first is less."""
        if self.plan is None or not self.length or self.rule.tfmot:
            return None
        named = given_schedules.named_final(self.plan)
        updates = (s for s in range(self.length, 0, -1) if self.plan.should_update(s))
        last = next(updates, None)
        reached = 0.0 if last is None else self.plan(last)
        return None if named is None or reached >= named - 1e-6 else (reached, named)

    def target(self, reached: float) -> float:
        """The fraction of all weights at the end; `reached` itself, once it is that."""
        final = self.final
        total = final if self._total is None else self._total
        # tfmot's schedules give float32: the nearest to 0.7 is 1.2e-8 below it.
        if self.asked is None or self.asked < final - 1e-7:
            return total
        # Counts are whole: what was asked for may lie a part of a weight away.
        return min(total, reached)

    def due(self, step: int) -> Moment | None:
        """The last update due up to `step` (an execution may skip some), or None."""
        plan = self.plan
        if plan is None:
            return None
        due = [s for s in range(self.handled + 1, step + 1) if plan.should_update(s)]
        self.handled = max(self.handled, step)
        if not due:
            return None
        asked = (
            tfmot_masks.sparsity(plan, due[-1]) if self.rule.tfmot else plan(due[-1])
        )
        return Moment(due[-1], asked, self.final, self._regrowth_end())

    def brings_update(self, step: int) -> bool:
        """Whether an update is due at `step`."""
        return self.plan is not None and self.plan.should_update(step)

    def _regrowth_end(self) -> int:
        """The step from which connections are no longer exchanged."""
        end = getattr(self.plan, "end_step", None)
        if isinstance(end, int) and end > 0:
            return end
        return int(given_schedules.RAMP * self.length) if self.length else 1  # not yet
