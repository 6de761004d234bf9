"""Masks over whole channels: those that `kf.shrink` takes out afterwards.

A channel that goes is set to zero where it is made and where it is used. The zeros
where it is used make the rest exact: whatever a norm or a bias adds, nobody hears it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_fitkit._core import arguments, expansion, kernels, targets
from keras_fitkit._core.graph import check_functional
from keras_fitkit.pruning import allocation as allocation_
from keras_fitkit.pruning.masks import Mask
from keras_fitkit.pruning.structural.channel_graph import (
    IN,
    OUT,
    ChannelGraph,
    Group,
    Place,
    reduced,
)

ALLOCATIONS = ("uniform", "global")


class ChannelRule:
    """The channels of one model that a fit prunes.

    Args:
        model: functional or Sequential.
        chosen: the kernels that may be pruned: a channel may go where all kernels that
            make it are among them.

    Attributes:
        targets: the kernels that make or use channels that may go.

    Raises:
        ValueError: a subclassed model, composite layers, or no channel that may go.
    """

    def __init__(self, model: Any, chosen: Sequence[targets.Target]) -> None:
        check_functional("model", model)
        if expansion.has_offers(model, ("expand",)):
            hint = "Train what `kf.expand(model)` gives: its layers are plain ones."
            allowed = "a model without composite layers for pattern='channel'"
            raise ValueError(arguments.message("model", allowed, model.name, hint))
        graph = ChannelGraph(model)
        known = {id(target.variable) for target in chosen}
        self.groups = [group for group in graph.groups if _is_open(group, known)]
        # Zeros in kernels do not show that a product of tensors loses nothing.
        roots = graph.walk.labels.roots
        summed = {
            int(root) for one in graph.walk.contractions for root in roots(one.ids)
        }
        self.groups = [one for one in self.groups if not summed & set(one.roots)]
        if not self.groups:
            hint = "`print(kf.channel_groups(model))` says why."
            allowed = "a model with channels that may go"
            raise ValueError(arguments.message("model", allowed, model.name, hint))
        wanted = {
            id(place.binding.variable)
            for group in self.groups
            for place in _kernels(group)
        }
        found: dict[int, targets.Target] = {}
        for path, layer, variable in kernels.weights(model):
            if id(variable) in wanted:
                found.setdefault(id(variable), targets.target_of(path, layer, variable))
        self.targets = list(found.values())

    def masks(
        self, scores: Sequence[Any], masks: Sequence[Mask], share: Any, sparsity: float
    ) -> list[Mask]:
        """New masks of `targets`.

        Args:
            scores: of each weight of each target; -inf where it is zero already.
            masks: those of now: what is gone stays gone.
            share: the allocation.
            sparsity: the fraction of the channels that goes.
        """
        by_id = self._by_id(scores)
        ranked = [self._scores(group, by_id) for group in self.groups]
        gone = self._gone(masks)
        for values, away in zip(ranked, gone, strict=True):
            values[away] = -np.inf
        counts = self._counts(ranked, share, sparsity)
        new = [np.ones(target.shape, bool) for target in self.targets]
        places = self._by_id(new)
        for group, values, count in zip(self.groups, ranked, counts, strict=True):
            away = np.zeros(group.size, bool)
            away[np.argsort(values, kind="stable")[:count]] = True
            for place in _kernels(group):
                _erase(places[id(place.binding.variable)], place, away)
        return new

    def sparsity(self, masks: Sequence[Mask]) -> float:
        """The fraction of the channels that is gone, given the masks of `targets`."""
        gone = self._gone(masks)
        return float(np.concatenate(gone).mean())

    def _by_id(self, values: Sequence[Any]) -> dict[int, Any]:
        pairs = zip(self.targets, values, strict=True)
        return {id(target.variable): value for target, value in pairs}

    def _scores(self, group: Group, by_id: Mapping[int, Any]) -> Any:
        """The mean score of the weights that make or use each channel."""
        total, count = np.zeros(group.size), 0
        for place in _kernels(group):
            values = by_id[id(place.binding.variable)]
            finite = np.where(np.isfinite(values), values, 0.0)
            total += reduced(finite, place, group.size)
            count += finite.size // len(place.units)
        return total / max(1, count)

    def _gone(self, masks: Sequence[Mask]) -> list[Any]:
        by_id = self._by_id(masks)
        found = []
        for group in self.groups:
            left = np.zeros(group.size)
            for place in _kernels(group):
                if place.role == IN:
                    values = by_id[id(place.binding.variable)]
                    left += reduced(values, place, group.size)
            found.append(left == 0)
        return found

    def _counts(self, ranked: Sequence[Any], share: Any, sparsity: float) -> list[int]:
        """How many channels of each group go; one of each stays."""
        most = [group.size - 1 for group in self.groups]
        if share == "global":
            cut = _cut(ranked, round(sparsity * sum(len(one) for one in ranked)))
            wanted = [int((_relative(one) <= cut).sum()) for one in ranked]
        else:
            shares = [self._share(group, share, sparsity) for group in self.groups]
            wanted = [
                int(one * group.size + 0.5)
                for one, group in zip(shares, self.groups, strict=True)
            ]
        return [min(one, limit) for one, limit in zip(wanted, most, strict=True)]

    def _share(self, group: Group, share: Any, sparsity: float) -> float:
        if isinstance(share, str):
            return sparsity
        for path in group.paths(OUT):
            own = allocation_.own_share(share, path)
            if own is not None:
                return own
        return sparsity


def check_allocation(share: Any) -> None:
    """Raises ValueError for an allocation that counts weights and not channels."""
    if isinstance(share, str) and share not in ALLOCATIONS:
        allowed = "'uniform', 'global' or a dict with pattern='channel'"
        raise ValueError(arguments.message("allocation", allowed, share))


def _is_open(group: Group, known: set[int]) -> bool:
    made = [one for one in _kernels(group) if one.role == OUT]
    used = any(one.role == IN for one in _kernels(group))
    return (
        used and bool(made) and all(id(one.binding.variable) in known for one in made)
    )


def _kernels(group: Group) -> list[Place]:
    return [
        place
        for place in group.places
        if place.role in (IN, OUT)
        and len(place.binding.variable.shape) > 1
        # The bias of attention has two axes.
        and not place.binding.variable.name.endswith("bias")
    ]


def _relative(values: Any) -> Any:
    finite = values[np.isfinite(values)]
    mean = float(np.abs(finite).mean()) if len(finite) else 0.0
    return values / mean if mean > 0 else values


def _cut(ranked: Sequence[Any], count: int) -> float:
    """The relative score of the last channel that goes."""
    if count <= 0:
        return -np.inf if not any(np.isneginf(one).any() for one in ranked) else -1e300
    together = np.sort(np.concatenate([_relative(one) for one in ranked]))
    return float(together[min(count, len(together)) - 1])


def _erase(mask: Mask, place: Place, away: Any) -> None:
    at = np.flatnonzero((place.units >= 0) & away[place.units])
    index: list[Any] = [slice(None)] * mask.ndim
    index[place.axis] = at
    mask[tuple(index)] = False
