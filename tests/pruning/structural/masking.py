"""The oracle: the original model with channels masked out where they are used."""

import keras
import numpy as np

from keras_fitkit._core.rewrite import Rewriter
from keras_fitkit.pruning.structural.dead import Dead
from keras_fitkit.pruning.structural.rebuilding import Shrinking, keep_of
from keras_fitkit.pruning.structural.walk import IN


class Masking(Rewriter):
    """Copies a model with zeros in the rows of kernels that use certain channels."""

    def __init__(self, graph, dropped):
        super().__init__()
        self.graph, self.dropped = graph, dropped

    def value(self, variable):
        found = super().value(variable)
        bound = self.graph.walk.bindings.get(id(variable))
        for axis, ids in (bound.axes if bound else {}).items():
            if ids is not None and bound.roles[axis] == IN:
                roots = self.graph.walk.labels.roots(ids)
                index = [slice(None)] * found.ndim
                index[axis] = np.flatnonzero(np.isin(roots, self.dropped))
                found[tuple(index)] = 0
        return found


def masked(graph, dropped):
    return Masking(graph, dropped).run(graph.model)


def without(graph, dropped):
    keep = keep_of(graph.walk, dropped)
    return Shrinking(graph.walk, keep, Dead(dropped, {}, {})).run(graph.model)


def half_of(graph, rng, share=0.5):
    """Labels of about half the units of each group, at random."""
    found = [np.array([], int)]
    for group in graph.groups:
        count = min(group.size - 1, int(group.size * share))
        found.append(rng.permutation(group.roots)[:count])
    return np.concatenate(found)


def predict(model, x):
    """In one eager call: a trace would take longer than these small models."""
    found = keras.tree.flatten(model(x, training=False))
    return [keras.ops.convert_to_numpy(one) for one in found]


def difference(model, other, x):
    """The largest one, relative to the scale of the output."""
    pairs = zip(predict(model, x), predict(other, x), strict=True)
    return max(np.abs(a - b).max() / (np.abs(a).max() + 1e-12) for a, b in pairs)
