"""widen: the same function with more channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_fitkit._core import arguments, selection
from keras_fitkit._core.graph import check_functional
from keras_fitkit._core.layers import check_keras_model
from keras_fitkit._core.selection import Choice
from keras_fitkit.pruning.structural.channel_graph import (
    IN,
    OUT,
    ChannelGraph,
    Group,
    makers_of,
)
from keras_fitkit.pruning.structural.dead import Dead
from keras_fitkit.pruning.structural.labels import Ids
from keras_fitkit.pruning.structural.rebuilding import Shrinking, refuse_quantized
from keras_fitkit.pruning.structural.walk import Keep, Walk


def widen(
    model: Any,
    factor: float,
    *,
    layers: Any = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Any:
    """The same function with more capacity: what to do when a model underfits.

    Channels, neurons, heads and recurrent units are copied, and the weights that use
    them are shared out among the copies, so that the predictions stay what they are
    (Net2WiderNet). Training goes on from there instead of from the beginning.

    Copies that are exactly alike get the same gradients and stay alike, unless dropout
    tells them apart: `noise` does it at once, at the price of a small change of the
    predictions.

    Channels that a sum ties together grow together. Those that `kf.channel_groups`
    shows as frozen stay as many, and so do those of grouped and shuffled convolutions,
    whose place has a meaning.

    Args:
        model: a built functional or Sequential model. It is not changed. Composite
            layers that offer `expand()` are expanded.
        factor: how many times as many channels, > 1; rounded up in each group.
        layers: the layers that grow: patterns of their paths, the layers, or a list.
            Defaults to all.
        noise: standard deviation of what is added to the weights that make a copy, as a
            fraction of the standard deviation of those weights, >= 0. Defaults to 0.
        seed: of the choice of channels and of the noise. Defaults to 0.

    Returns:
        A functional model, not compiled, with the names of the old one.

    Raises:
        TypeError: no Keras 3 model, or an argument of another type.
        ValueError: a subclassed model, one that is not built or is quantized; nothing
            that can grow; a pattern that matches nothing.

    Example:
        >>> import numpy as np, keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((4,)),
        ...         keras.layers.Dense(8, "relu", name="hidden"),
        ...         keras.layers.Dense(2),
        ...     ]
        ... )
        >>> bigger = kf.widen(model, 1.5)
        >>> bigger.get_layer("hidden").units
        12
        >>> x = np.random.default_rng(0).normal(size=(5, 4))
        >>> before, after = (one.predict(x, verbose=0) for one in (model, bigger))
        >>> np.allclose(before, after, atol=1e-5)
        True

    Reference: Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via
    Knowledge Transfer", 2016, arXiv:1511.05641, section 2.2.
    """
    check_keras_model("model", model, built=True)
    check_functional("model", model)
    refuse_quantized(model)
    factor = arguments.number("factor", factor, low=1, include_low=False)
    noise = arguments.number("noise", noise, low=0)
    rng = np.random.default_rng(arguments.integer("seed", seed, low=0))
    selection.check("layers", layers)
    graph = ChannelGraph(model)
    groups = _growing(graph, Choice("layers", layers) if layers is not None else None)
    counts = np.ones(graph.walk.labels.count, int)
    for group in groups:
        more = math.ceil(group.size * factor) - group.size
        # Each channel as often as any other, those that are left over at random.
        chosen = np.concatenate(
            [rng.permutation(group.roots) for _ in range(-(-more // group.size))]
        )
        np.add.at(counts, chosen[:more], 1)
    return _Widening(graph.walk, counts, noise, rng).run(graph.model)


def _growing(graph: ChannelGraph, layers: Choice | None) -> list[Group]:
    """The groups that grow."""
    labels = graph.walk.labels
    ordered = {int(root) for ids in graph.walk.ordered for root in labels.roots(ids)}
    makers = makers_of(graph)
    chosen = set(makers)
    if layers is not None:
        chosen = {path for path, layer in makers.items() if layers.takes(path, layer)}
        layers.check_all_matched(list(makers))
    found = [
        group
        for group in graph.groups
        if chosen & set(group.paths(OUT))
        and not ordered & {int(root) for root in group.roots}
    ]
    if not found:
        hint = "`print(kf.channel_groups(model))` says why."
        allowed = "a model with channels that can be added to"
        raise ValueError(arguments.message("model", allowed, graph.model.name, hint))
    return found


class _Widening(Shrinking):
    """Copies a model with channels repeated, each copy next to its original.

    Args:
        walk: over that model.
        counts: how often each channel will be there, by the root of its label.
        noise: see `widen`.
        rng: for the noise.
    """

    def __init__(self, walk: Walk, counts: Any, noise: float, rng: Any) -> None:
        super().__init__(walk, _repeats(walk, counts), Dead(np.array([], int), {}, {}))
        self._counts, self._noise, self._rng = counts, noise, rng

    def value(self, variable: Any) -> Any:
        """Repeated; and divided where the channels are used."""
        found = super().value(variable)
        bound = self._walk.bindings.get(id(variable))
        if bound is None:
            return found
        spread = float(found.std()) * self._noise
        for axis, ids in bound.axes.items():
            if ids is None:
                continue
            counts = self._counts[self._walk.labels.roots(ids)]
            view = [-1 if place == axis else 1 for place in range(found.ndim)]
            each = np.repeat(counts, counts)
            if bound.roles[axis] == IN:
                found = found / each.reshape(view).astype(found.dtype)
            elif bound.roles[axis] == OUT and spread and found.ndim > 1:
                first = np.concatenate([np.arange(one) for one in counts]) == 0
                added = self._rng.normal(size=found.shape) * spread
                kept = np.where(first.reshape(view), 0.0, added)
                found = (found + kept).astype(found.dtype)
        return found


def _repeats(walk: Walk, counts: Any) -> Keep:
    def keep(ids: Ids) -> Ids:
        return np.repeat(np.arange(len(ids)), counts[walk.labels.roots(ids)])

    return keep
