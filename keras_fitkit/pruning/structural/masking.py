"""What `shrink` promises: the model with channels masked out where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.graph import key_of
from keras_fitkit._core.rewrite import Rewriter
from keras_fitkit.pruning.structural.channel_graph import IN, ChannelGraph
from keras_fitkit.pruning.structural.labels import Ids
from keras_fitkit.pruning.structural.walk import Contraction


def masked(graph: ChannelGraph, dropped: Ids) -> Any:
    """A copy of a graph's model with zeros where kernels use certain channels.

    Args:
        graph: of the model.
        dropped: the labels (roots) of the channels.
    """
    return _Masking(graph, dropped).run(graph.model)


class _Masking(Rewriter):
    def __init__(self, graph: ChannelGraph, dropped: Ids) -> None:
        super().__init__()
        self._graph, self._dropped = graph, dropped

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Products that sum over the channels, with zeros in the first tensor."""
        for one in self._graph.walk.contractions:
            if key_of(one.node) == key_of(node):
                args = self._with_zeros(one, args)
        return super().call(path, node, args, kwargs)

    def _with_zeros(self, one: Contraction, args: Sequence[Any]) -> Any:
        place, axis = one.places[0]
        leaves = keras.tree.flatten(args)
        at = [n for n, leaf in enumerate(leaves) if isinstance(leaf, keras.KerasTensor)]
        roots = self._graph.walk.labels.roots(one.ids)
        shape = [-1 if n == axis else 1 for n in range(len(leaves[at[place]].shape))]
        stay = (~np.isin(roots, self._dropped)).astype("float32").reshape(shape)
        leaves[at[place]] = leaves[at[place]] * stay
        return keras.tree.pack_sequence_as(args, leaves)

    def value(self, variable: Any) -> Any:
        """With zeros along the axes that use the channels."""
        found = super().value(variable)
        bound = self._graph.walk.bindings.get(id(variable))
        for axis, ids in (bound.axes if bound else {}).items():
            if bound is not None and ids is not None and bound.roles[axis] == IN:
                roots = self._graph.walk.labels.roots(ids)
                index: list[Any] = [slice(None)] * found.ndim
                index[axis] = np.flatnonzero(np.isin(roots, self._dropped))
                found[tuple(index)] = 0
        return found
