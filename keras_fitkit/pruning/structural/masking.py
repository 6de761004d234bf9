"""What `shrink` promises: the model with channels masked out where they are used."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_fitkit._core.rewrite import Rewriter
from keras_fitkit.pruning.structural.channel_graph import IN, ChannelGraph
from keras_fitkit.pruning.structural.labels import Ids


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
