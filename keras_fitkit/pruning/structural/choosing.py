"""How many channels of each group go, and which."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_fitkit.pruning.structural.channel_graph import Group
from keras_fitkit.pruning.structural.importance import Scores
from keras_fitkit.pruning.structural.labels import Ids

# Which groups compete: those of one shape (Fang et al. 2024), all, none.
ALLOCATIONS = ("isomorphic", "global", "uniform")


@dataclasses.dataclass(frozen=True)
class Ranking:
    """All units in the order in which they go.

    What competes is compared by the score over the mean of the group. Of sets that do
    not compete the same fraction goes; units that score 0 or less go before all others.

    Args:
        groups: whose units may go.
        scores: of the units of each; the largest ones stay.
        round_to: channels of a layer stay in multiples of it.
        min_keep: units that stay in each group at least.
        allocation: one of `ALLOCATIONS`.
    """

    groups: Sequence[Group]
    scores: Sequence[Scores]
    round_to: int
    min_keep: int
    allocation: str = "isomorphic"

    def dropped(self, cut: float) -> list[Ids]:
        """The labels that go of each group, with a cut through the relative scores."""
        return [
            self.of_group(place, int((self._parts[place] < cut).sum()))
            for place in range(len(self.groups))
        ]

    def of_group(self, place: int, count: int) -> Ids:
        """The labels of the lowest `count` units of a group, after rounding."""
        group = self.groups[place]
        stay = self._rounded(group, group.size - count)
        order = np.argsort(self.scores[place], kind="stable")
        return group.roots[order[: group.size - stay]]

    def cuts(self) -> list[float]:
        """Every cut that makes a difference, from none to all."""
        values = np.unique(np.concatenate(self._parts)) if self.groups else np.array([])
        return [-math.inf, *(float(one) for one in values[1:]), math.inf]

    @functools.cached_property
    def _parts(self) -> list[Scores]:
        """For each unit its place in the order in which units go, by group."""
        relative = [self._relative(place) for place in range(len(self.groups))]
        if self.allocation == "global":
            return relative
        found = [np.zeros(0)] * len(self.groups)
        alike = self.allocation == "isomorphic"
        shapes = [
            group.shape if alike else place for place, group in enumerate(self.groups)
        ]
        distinct = list(dict.fromkeys(shapes))
        for number, shape in enumerate(distinct):
            places = [place for place, one in enumerate(shapes) if one == shape]
            scores = [relative[place] for place in places]
            whole = np.concatenate(scores)
            # Sets of the same size take turns: with equal parts a cut would take one of
            # each at once, and targets would be missed.
            turn = (number + 0.5) / len(distinct)
            parts = np.empty(len(whole))
            order = np.argsort(whole, kind="stable")
            parts[order] = (np.arange(len(whole)) + turn) / len(whole)
            parts -= whole <= 0
            ends = np.cumsum([len(one) for one in scores])[:-1]
            for place, part in zip(places, np.split(parts, ends), strict=True):
                found[place] = part
        return found

    def _relative(self, place: int) -> Scores:
        scores = self.scores[place]
        mean = float(np.abs(scores).mean())
        return scores / mean if mean > 0 else scores

    def _rounded(self, group: Group, stay: int) -> int:
        """The nearest number of units whose channels are a multiple of `round_to`."""
        step = self.round_to // math.gcd(group.repeats, self.round_to)
        least = max(1, min(self.min_keep, group.size))
        rounded = max(step, int(stay / step + 0.5) * step)
        return min(group.size, max(least, rounded if step > 1 else stay))


def meet(
    cuts: Sequence[float], measure: Callable[[float], float], target: float
) -> float:
    """The cut whose measure, which falls with it, is nearest to a target."""
    low, high = 0, len(cuts) - 1  # the measure of `high` is at most the target
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if measure(cuts[middle]) <= target else (middle, high)
    before, after = (abs(measure(cuts[one]) - target) for one in (low, high))
    return cuts[low if before < after else high]


def joined(parts: Sequence[Ids]) -> Any:
    """All labels of several arrays."""
    return np.concatenate([np.array([], np.int64), *parts])
