"""Rules of recurrent layers, and of wrappers along time."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fitkit.pruning.structural.elementwise_rules import is_elementwise
from keras_fitkit.pruning.structural.labels import Axes, Ids
from keras_fitkit.pruning.structural.walk import IN, OUT, Site, Walk

GATES = {layers.LSTM: 4, layers.GRU: 3, layers.SimpleRNN: 1}


def recurrent(walk: Walk, site: Site) -> list[Axes]:
    """LSTM, GRU and SimpleRNN: a unit goes with all of its gates."""
    layer, axes = site.layer, site.inputs[0]
    if layer.stateful:
        return walk.stop(site, "keeps its states from call to call")
    made = walk.mint(layer, "units", layer.units)
    walk.freeze(site.path, axes[:-1], "are steps of a recurrent layer")
    _bind_cell(walk, site, layer, axes[-1], made)
    walk.edit(layer, "units", value=lambda keep: len(keep(made)))
    for states in _initial_states(site):
        walk.merge(site.path, [states[-1:], (made,)])
    return [(*(None for _ in one.shape[1:]), made) for one in site.node.outputs]


def _initial_states(site: Site) -> list[Axes]:
    """Their labels. A mask is an input too, and no state."""
    given = site.arguments().get("initial_state")
    states = {id(one) for one in keras.tree.flatten(given)}
    pairs = zip(site.node.inputs[1:], site.inputs[1:], strict=True)
    return [axes for tensor, axes in pairs if id(tensor) in states]


def _bind_cell(
    walk: Walk, site: Site, layer: Any, given: Ids | None, made: Ids
) -> None:
    cell, gates = layer.cell, GATES[type(layer)]
    each = np.tile(made, gates)
    walk.bind(site, cell.kernel, 0, given, IN)
    walk.bind(site, cell.kernel, 1, each, OUT)
    walk.bind(site, cell.recurrent_kernel, 0, made, IN)
    walk.bind(site, cell.recurrent_kernel, 1, each, OUT)
    if cell.bias is not None:
        walk.bind(site, cell.bias, -1, each, OUT)
    walk.freeze(site.path, _looks_along(layer, made), "its activation has no rule")


def _looks_along(layer: Any, made: Ids) -> list[Ids]:
    """The units, where an activation may look at several of them."""
    functions = (layer.activation, getattr(layer, "recurrent_activation", None))
    return [] if all(map(is_elementwise, functions)) else [made]


def bidirectional(walk: Walk, site: Site) -> list[Axes]:
    """Two recurrent layers; their units of the same place go together."""
    layer, axes = site.layer, site.inputs[0]
    forward, backward = layer.forward_layer, layer.backward_layer
    alike = type(forward) is type(backward) and forward.units == backward.units
    if type(forward) not in GATES or not alike or _initial_states(site):
        return walk.stop(site, "wraps a layer without a rule")
    if forward.stateful or backward.stateful:
        return walk.stop(site, "keeps its states from call to call")
    walk.freeze(site.path, axes[:-1], "are steps of a recurrent layer")
    if len(site.node.outputs) > 1 or layer.merge_mode is None:
        return walk.stop(site, "gives more than one output")
    made = walk.mint(layer, "units", forward.units)
    for one in (forward, backward):
        _bind_cell(walk, site, one, axes[-1], made)
    for key in ("layer", "backward_layer"):
        walk.edit(layer, key, "config", "units", value=lambda keep: len(keep(made)))
    found = np.tile(made, 2) if layer.merge_mode == "concat" else made
    return [(*(None for _ in site.output_shape()[1:]), found)]


def time_distributed(walk: Walk, site: Site) -> list[Axes]:
    """The rule of the layer inside, without the axis of time."""
    inner, axes = site.layer.layer, site.inputs[0]
    rule = walk.rule_of(inner)
    others = [ids for one in site.inputs[1:] for ids in one]  # of a mask
    if rule is None or axes[1] is not None or any(i is not None for i in others):
        return walk.stop(site, "wraps a layer without a rule")
    node: Any = _Inside(inner, site.node)
    found = rule(walk, dataclasses.replace(site, node=node, inputs=(_folded(axes),)))
    for edit in walk.edits.pop(id(inner), []):
        walk.edit(site.layer, "layer", "config", *edit.keys, value=edit.value)
    return [(one[0], None, *one[1:]) for one in found]


def _folded(axes: Axes) -> Axes:
    return (axes[0], *axes[2:])


class _Inside:
    """The call of the layer that a TimeDistributed wraps."""

    def __init__(self, operation: Any, node: Any) -> None:
        self.operation = operation
        self.inputs = (_Symbol(node.inputs[0]),)  # a mask is no matter of channels
        self.outputs = tuple(_Symbol(one) for one in node.outputs)

    def arguments(self, values: Any) -> Any:
        """The one tensor, whatever its value."""
        return (values[id(self.inputs[0])],), {}


class _Symbol:
    def __init__(self, tensor: Any) -> None:
        self.shape = (tensor.shape[0], *tensor.shape[2:])


RULES: dict[type, Any] = {
    layers.Bidirectional: bidirectional,
    layers.TimeDistributed: time_distributed,
    **dict.fromkeys(GATES, recurrent),
}
