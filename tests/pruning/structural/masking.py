"""The oracle: the original model with channels masked out where they are used."""

import keras
import numpy as np

from keras_fitkit.pruning.structural.dead import Dead
from keras_fitkit.pruning.structural.masking import masked as masked
from keras_fitkit.pruning.structural.rebuilding import Shrinking, keep_of


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
