"""Which weights are zero now: scores, allocation, pattern and regrowth put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit.pruning import (
    allocation,
    gradients,
    patterns,
    regrowth,
    scores,
    tfmot_masks,
)
from keras_fitkit.pruning.attachment import Attachment
from keras_fitkit.pruning.channel_rule import ChannelRule
from keras_fitkit.pruning.masks import Array, Mask


@dataclasses.dataclass(frozen=True)
class Moment:
    """One mask update.

    Attributes:
        step: the step about to run, counted from 1.
        sparsity: the fraction of zeros asked for now.
        final: the fraction at the end.
        regrowth_end: the step from which nothing is exchanged any more.
    """

    step: int
    sparsity: float
    final: float
    regrowth_end: int


@dataclasses.dataclass(frozen=True)
class MaskRule:
    """Computes masks; the arguments are those of `PruneSchedule`, checked."""

    allocation: allocation.Allocation
    scores: Any
    pattern: patterns.Pattern
    regrow: str | None
    data: Any
    tfmot: bool

    @property
    def once(self) -> bool:
        """Whether masks are chosen at step 1 only, as tfmot does for N:M."""
        return self.tfmot and isinstance(self.pattern, patterns.KeepNOfM)

    def check_final(self, final: float) -> None:
        """The pattern may fix the sparsity at the end.

        Raises:
            ValueError: it does, and `final` is another one.
        """
        fixed = self.pattern.sparsity
        if fixed is not None and final and abs(final - fixed) > 1e-6:
            allowed = f"{fixed:g} at the end, which the pattern fixes"
            raise ValueError(arguments.message("sparsity", allowed, final))

    def masks(
        self,
        model: Any,
        attached: Sequence[Attachment],
        moment: Moment,
        channels: ChannelRule | None = None,
    ) -> list[Mask]:
        """One new mask for each weight.

        Args:
            model: that is trained.
            attached: the weights.
            moment: of the update.
            channels: of the model, with the pattern "channel".

        Raises:
            ValueError: NaN in a weight or in its scores.
        """
        if self.tfmot:
            return [self._tfmot(each, moment) for each in attached]
        if channels is not None:
            return self._of_channels(channels, model, attached, moment)
        found = self._gradients(model, attached, moment)
        targets = [each.target for each in attached]

        def scored(index: int) -> Array:
            return self._scores(attached[index], found[index], moment.step)

        chosen = allocation.masks(
            self.allocation,
            self.pattern,
            targets,
            scored,
            moment.sparsity,
            moment.final,
            repeatable=self.scores == "magnitude",
        )
        if self.regrow is None:
            return chosen
        exchanged = regrowth.fraction(moment.step, moment.regrowth_end)
        if not exchanged:
            return chosen
        return [
            regrowth.rigl(mask, each.weight(), gradient, exchanged)
            for mask, each, gradient in zip(chosen, attached, found, strict=True)
        ]

    def _of_channels(
        self,
        channels: ChannelRule,
        model: Any,
        attached: Sequence[Attachment],
        moment: Moment,
    ) -> list[Mask]:
        slopes = self._gradients(model, attached, moment)
        scored = [
            self._scores(each, slope, moment.step)
            for each, slope in zip(attached, slopes, strict=True)
        ]
        masks = [each.mask for each in attached]
        share = self.allocation
        if not isinstance(share, str) and moment.final:
            done = moment.sparsity / moment.final
            share = {path: value * done for path, value in share.items()}
        return channels.masks(scored, masks, share, moment.sparsity)

    def _scores(self, each: Attachment, gradient: Array | None, step: int) -> Array:
        weight = each.weight()
        if self.scores == "magnitude":
            return np.abs(weight)
        context = scores.ScoreContext(each.target.path, gradient, step)
        found = scores.checked(
            scores.resolve(self.scores)(weight, context), weight, each.target.path
        )
        # What is gone stays gone, whatever the function says of it now.
        return np.where(each.mask, found, -np.inf) if not each.mask.all() else found

    def _gradients(
        self, model: Any, attached: Sequence[Attachment], moment: Moment
    ) -> Sequence[Any]:
        exchanges = self.regrow and regrowth.fraction(moment.step, moment.regrowth_end)
        scored = self.data is not None and not (
            isinstance(self.scores, str) and self.scores not in scores.NEED_GRADIENTS
        )
        if not (exchanges or scored):
            return [None] * len(attached)
        variables = [each.target.variable for each in attached]
        return gradients.loss_gradients(model, variables, self.data)

    def _tfmot(self, each: Attachment, moment: Moment) -> Mask:
        weight = each.weight()
        if isinstance(self.pattern, patterns.KeepNOfM):
            kept = np.isinf(self.pattern.units(each.target, np.abs(weight)))
            return self.pattern.mask(each.target, kept)
        return tfmot_masks.mask(weight, moment.sparsity)
