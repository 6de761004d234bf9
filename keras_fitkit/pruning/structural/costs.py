"""What a model costs when some channels are gone, without making it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_fitkit._core.count_macs import calls_of
from keras_fitkit.pruning.structural.channel_graph import ChannelGraph
from keras_fitkit.pruning.structural.labels import Ids


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """A variable: its fixed size, and the roots along each labelled axis."""

    fixed: int
    roots: tuple[Ids, ...]

    def left(self, gone: Any) -> int:
        """How many elements stay."""
        return self.fixed * math.prod(int((~gone[one]).sum()) for one in self.roots)


class Costs:
    """MACs and parameters of a model as a function of the labels that go.

    MACs of a layer are taken to go with the size of its kernels, those of attention
    with the heads, those of products of two tensors with their channels.

    Args:
        found: the graph of the model.
    """

    def __init__(self, found: ChannelGraph) -> None:
        self._found = found
        self._count = found.walk.labels.count
        self._variables = [self._sizes(one) for one in found.model.variables]
        self._calls: list[tuple[float, list[_Sizes]]] | None = None

    def _sizes(self, variable: Any) -> _Sizes:
        shape = list(variable.shape)
        bound = self._found.walk.bindings.get(id(variable))
        roots = []
        for axis, ids in (bound.axes if bound else {}).items():
            if ids is not None:
                shape[axis] = 1
                roots.append(self._found.walk.labels.roots(ids))
        return _Sizes(math.prod(shape), tuple(roots))

    def mask(self, dropped: Sequence[Ids]) -> Any:
        """Whether a label is gone, by its root."""
        gone = np.zeros(self._count, bool)
        for one in dropped:
            gone[one] = True
        return gone

    def params(self, gone: Any) -> int:
        """Elements of all variables."""
        return sum(one.left(gone) for one in self._variables)

    def macs(self, gone: Any) -> float:
        """Of one example."""
        if self._calls is None:
            self._calls = self._of_calls()
        return sum(
            macs * sum(one.left(gone) for one in sizes) if sizes else macs
            for macs, sizes in self._calls
        )

    def _of_calls(self) -> list[tuple[float, list[_Sizes]]]:
        """MACs for each element of the kernels, and the kernels, of each call."""
        nothing = self.mask([])
        found = []
        for layer, macs in calls_of(self._found.model):
            kernels = [
                self._sizes(one)
                for one in getattr(layer, "weights", ())
                if len(one.shape) > 1
            ]
            if isinstance(
                layer, (layers.MultiHeadAttention, layers.GroupQueryAttention)
            ):
                kernels = [_heads(one) for one in kernels[:1]]
            if not kernels:
                kernels = self._of_product(layer)
            whole = sum(one.left(nothing) for one in kernels)
            found.append((macs / whole if whole else float(macs), kernels))
        return found

    def _of_product(self, operation: Any) -> list[_Sizes]:
        roots = self._found.walk.labels.roots
        parts = self._found.walk.products.get(id(operation), [])
        return [_Sizes(1, tuple(roots(ids) for ids in part)) for part in parts]


def _heads(query: _Sizes) -> _Sizes:
    """The heads alone, of the kernel of the queries."""
    return _Sizes(1, query.roots[-1:])
