"""Which channels of a model go together: units, groups, and what may not go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_fitkit._core import expansion
from keras_fitkit.pruning.structural import rules
from keras_fitkit.pruning.structural.labels import Ids
from keras_fitkit.pruning.structural.walk import IN, OUT, Binding, Walk


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the units of a group stand on one axis of a variable.

    Attributes:
        binding: of the variable.
        axis: of the variable.
        units: for each position on the axis the number of its unit, -1 for one that
            belongs to another group or may not go.
    """

    binding: Binding
    axis: int
    units: Ids

    @property
    def role(self) -> str:
        """`IN`, `OUT` or `THROUGH`."""
        return self.binding.roles[self.axis]


@dataclasses.dataclass(frozen=True)
class Group:
    """Units that stand in the same variables: they compete with each other.

    Attributes:
        name: path of the first layer that makes them.
        roots: the label of each unit.
        places: all axes that they stand on.
    """

    name: str
    roots: Ids
    places: tuple[Place, ...]

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(self.roots)

    def paths(self, role: str) -> tuple[str, ...]:
        """The layers where the units have a role."""
        found = (one.binding.path for one in self.places if one.role == role)
        return tuple(dict.fromkeys(found))

    @property
    def shape(self) -> tuple[tuple[Any, ...], ...]:
        """What they stand in, by kind and size: the same at like places of a net."""
        found = (
            (
                type(one.binding.layer).__name__,
                one.binding.variable.name,
                one.role,
                one.axis,
                tuple(one.binding.variable.shape),
            )
            for one in self.places
        )
        return tuple(sorted(found))

    @property
    def repeats(self) -> int:
        """How many channels of the first layer a unit is."""
        first = next((one for one in self.places if one.role == OUT), self.places[0])
        return max(1, int((first.units >= 0).sum()) // self.size)


class ChannelGraph:
    """The labels of a model, and the groups that follow from them.

    Args:
        model: functional or Sequential and built.
        allow_inexact: channels may go through layers whose statistics are over them.

    Attributes:
        model: the model whose variables are meant: without composite layers.
        walk: over it.
        groups: of the units that may go.
    """

    def __init__(self, model: Any, allow_inexact: bool = False) -> None:
        self.model, self.expanded = expansion.expanded(model)
        self.walk = Walk(rules.rule_of, allow_inexact)
        self.walk.run(self.model)
        self.groups = self._groups()

    def _axes(self) -> list[tuple[Binding, int, Ids]]:
        """All labelled axes of variables, with the root of each position."""
        return [
            (binding, axis, self.walk.labels.roots(ids))
            for binding in self.walk.bindings.values()
            for axis, ids in binding.axes.items()
            if ids is not None
        ]

    def _groups(self) -> list[Group]:
        axes = self._axes()
        where: dict[int, list[int]] = {}
        for number, (_, _, roots) in enumerate(axes):
            for root in np.unique(roots):
                where.setdefault(int(root), []).append(number)
        together: dict[tuple[int, ...], list[int]] = {}
        for root, numbers in where.items():
            if self.walk.labels.reason(root) is None:
                together.setdefault(tuple(numbers), []).append(root)
        return [
            self._group([axes[number] for number in numbers], np.array(sorted(roots)))
            for numbers, roots in together.items()
        ]

    def _group(self, axes: Sequence[tuple[Binding, int, Ids]], roots: Ids) -> Group:
        places = []
        for binding, axis, labels in axes:
            at = np.searchsorted(roots, labels).clip(max=len(roots) - 1)
            places.append(Place(binding, axis, np.where(roots[at] == labels, at, -1)))
        made = [one.binding.path for one in places if one.role == OUT]
        return Group((made or [places[0].binding.path])[0], roots, tuple(places))

    def frozen(self) -> dict[str, tuple[int, str]]:
        """Channels that may not go: their number and the reason, by layer."""
        found: dict[str, tuple[int, str]] = {}
        for binding in self.walk.bindings.values():
            for axis, ids in binding.axes.items():
                if ids is None or binding.roles[axis] != OUT:
                    continue
                reasons = [self.walk.labels.reason(int(one)) for one in np.unique(ids)]
                known = [one for one in reasons if one is not None]
                if known and binding.path not in found:
                    found[binding.path] = (len(known), known[0])
        return found

    @property
    def channels(self) -> int:
        """How many units may go."""
        return sum(group.size for group in self.groups)


def makers_of(graph: ChannelGraph) -> dict[str, Any]:
    """The layers that make channels, by path."""
    return {
        binding.path: binding.layer
        for binding in graph.walk.bindings.values()
        if OUT in binding.roles.values()
    }


def reduced(
    values: npt.NDArray[Any], place: Place, size: int
) -> npt.NDArray[np.float64]:
    """The sum of an array over everything but the units of a place."""
    others = tuple(axis for axis in range(values.ndim) if axis != place.axis)
    along = values.sum(axis=others, dtype=np.float64)
    found = np.zeros(size)
    inside = place.units >= 0
    np.add.at(found, place.units[inside], along[inside])
    return found


__all__ = ["IN", "OUT", "ChannelGraph", "Group", "Place", "makers_of", "reduced"]
