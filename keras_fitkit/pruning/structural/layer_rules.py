"""Rules of norms, pooling, recurrent layers, attention and wrappers."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fitkit._core import _private
from keras_fitkit.pruning.structural.elementwise_rules import is_elementwise
from keras_fitkit.pruning.structural.kernel_rules import channel_axis
from keras_fitkit.pruning.structural.labels import Axes, Ids
from keras_fitkit.pruning.structural.walk import IN, OUT, THROUGH, Site, Walk

GATES = {layers.LSTM: 4, layers.GRU: 3, layers.SimpleRNN: 1}


def batch_norm(walk: Walk, site: Site) -> list[Axes]:
    """Each channel by itself."""
    layer, axes = site.layer, site.inputs[0]
    for variable in layer.weights:
        walk.bind(site, variable, 0, axes[layer.axis % len(axes)], THROUGH)
    return [axes]


def normalizing(walk: Walk, site: Site) -> list[Axes]:
    """LayerNormalization and RMSNormalization: their statistics are over channels."""
    layer, axes = site.layer, site.inputs[0]
    given = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    places = sorted(one % len(axes) for one in given)
    for variable in layer.weights:
        for number, place in enumerate(places):
            walk.bind(site, variable, number, axes[place], THROUGH)
    return [_inexact(walk, site, axes, places)]


def group_norm(walk: Walk, site: Site) -> list[Axes]:
    """Statistics of groups of channels; of one channel in each it is exact."""
    layer, axes = site.layer, site.inputs[0]
    place = layer.axis % len(axes)
    ids = axes[place]
    for variable in layer.weights:
        walk.bind(site, variable, 0, ids, THROUGH)
    others = [one for number, one in enumerate(axes) if number != place]
    walk.freeze(site.path, others, "its statistics are over these positions")
    if ids is None:
        return [axes]
    if layer.groups in (-1, len(ids)):
        walk.edit(layer, "groups", value=lambda keep: len(keep(ids)))
        return [axes]
    walk.ordered.append(ids)
    rows = ids.reshape(layer.groups, -1)
    for row in rows[1:]:  # groups stay equally large
        walk.labels.tie(rows[0], row)
    return [_inexact(walk, site, axes, [place])]


def _inexact(walk: Walk, site: Site, axes: Axes, places: list[int]) -> Axes:
    """Statistics that change when channels go: frozen, unless that is allowed."""
    labelled = [place for place in places if axes[place] is not None]
    if not labelled:
        return axes
    if walk.allow_inexact:
        if site.path not in walk.inexact:
            walk.inexact.append(site.path)
        return axes
    reason = "its statistics are over the channels (`allow_inexact=True` opens it)"
    walk.freeze(site.path, [axes[place] for place in labelled], reason)
    return axes


def prelu(walk: Walk, site: Site) -> list[Axes]:
    """A slope for each element, shared along some axes."""
    layer, axes = site.layer, site.inputs[0]
    for place, size in enumerate(layer.alpha.shape):
        if size > 1 or site.shape()[place + 1] == 1:
            walk.bind(site, layer.alpha, place, axes[place + 1], THROUGH)
    return [axes]


def layer_scale(walk: Walk, site: Site) -> list[Axes]:
    """ConvNeXt's factor for each channel."""
    layer, axes = site.layer, site.inputs[0]
    ids = axes[-1]
    for variable in layer.weights:
        walk.bind(site, variable, 0, ids, THROUGH)
    if ids is not None:
        walk.edit(layer, "projection_dim", value=lambda keep: len(keep(ids)))
    return [axes]


def scaled_sum(walk: Walk, site: Site) -> list[Axes]:
    """Inception-ResNet's sum of two tensors, one of them with a factor."""
    return [walk.merge(site.path, site.inputs)]


def spatial(walk: Walk, site: Site) -> list[Axes]:
    """Pooling, padding, cropping, upsampling: channels pass, positions have none."""
    axes = site.inputs[0]
    place = _channels(site.layer, len(axes))
    others = [ids for number, ids in enumerate(axes) if number != place]
    walk.freeze(site.path, others, "are positions")
    return [tuple(axes[n] if n == place else None for n in range(len(axes)))]


def global_pooling(walk: Walk, site: Site) -> list[Axes]:
    """What is left are the channels."""
    (passed,) = spatial(walk, site)
    place = _channels(site.layer, len(passed))
    if site.layer.keepdims:
        return [passed]
    return [(None, passed[place])]


def _channels(layer: Any, rank: int) -> int:
    return channel_axis(layer, rank) if hasattr(layer, "data_format") else rank - 1


def repeat_vector(walk: Walk, site: Site) -> list[Axes]:
    """A row for each repetition."""
    return [(None, None, site.inputs[0][-1])]


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
    given = _arguments(site).get("initial_state")
    states = {id(one) for one in keras.tree.flatten(given)}
    pairs = zip(site.node.inputs[1:], site.inputs[1:], strict=True)
    return [axes for tensor, axes in pairs if id(tensor) in states]


def _arguments(site: Site) -> dict[str, Any]:
    """What the layer is called with, by name."""
    symbols = {id(one): one for one in site.node.inputs}
    args, kwargs = site.node.arguments(symbols)
    return dict(inspect.signature(site.layer.call).bind(*args, **kwargs).arguments)


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


def attention(walk: Walk, site: Site) -> list[Axes]:
    """MultiHeadAttention: whole heads go."""
    layer, config = site.layer, site.layer.get_config()
    parts = {one.name: one for one in _private.sublayers(layer)}
    given = _queries(site)
    if given is None or config.get("use_gate"):
        return walk.stop(site, "is called in a way that has no rule")
    heads = walk.mint(layer, "heads", config["num_heads"])
    for name, ids in given.items():
        _bind_heads(walk, site, parts[name], ids, heads)
    out, size = parts["attention_output"], parts["attention_output"].kernel.shape[-1]
    if len(out.kernel.shape) != 3:
        return walk.stop(site, "gives more than one axis of features")
    made = walk.mint(layer, "output", size)
    walk.bind(site, out.kernel, 0, heads, IN)
    walk.bind(site, out.kernel, -1, made, OUT)
    if out.bias is not None:
        walk.bind(site, out.bias, 0, made, OUT)
    if len(site.node.outputs) > 1:
        walk.freeze(site.path, [heads], "gives out the scores of its heads")
    walk.edit(layer, "num_heads", value=lambda keep: len(keep(heads)))
    walk.edit(layer, "output_shape", value=lambda keep: (len(keep(made)),))
    return _attended(site, made)


def grouped_attention(walk: Walk, site: Site) -> list[Axes]:
    """GroupQueryAttention: a head of keys goes with the queries that ask it."""
    layer, config = site.layer, site.layer.get_config()
    parts = {one.name: one for one in _private.sublayers(layer)}
    given = _queries(site)
    if given is None or config.get("use_gate"):
        return walk.stop(site, "is called in a way that has no rule")
    heads = walk.mint(layer, "heads", config["num_key_value_heads"])
    repeats = config["num_query_heads"] // config["num_key_value_heads"]
    asking = np.repeat(heads, repeats)
    walk.ordered.append(heads)
    # Keras wants queries and values of one width.
    walk.merge(site.path, [(given["query"],), (given["value"],)])
    for name, ids in given.items():
        made = asking if name == "query" else heads
        _bind_heads(walk, site, parts[name], ids, made)
    out = parts["attention_output"]
    walk.bind(site, out.kernel, 0, asking, IN)
    walk.bind(site, out.kernel, -1, given["query"], OUT)  # as many as come in
    if out.bias is not None:
        walk.bind(site, out.bias, 0, given["query"], OUT)
    if len(site.node.outputs) > 1:
        walk.freeze(site.path, [heads], "gives out the scores of its heads")
    walk.edit(layer, "num_key_value_heads", value=lambda keep: len(keep(heads)))
    walk.edit(layer, "num_query_heads", value=lambda keep: len(keep(asking)))
    return _attended(site, given["query"])


def _attended(site: Site, made: Ids | None) -> list[Axes]:
    """The output has the features last; scores, if given out, have no channels."""
    found = site.bare()
    return [(*found[0][:-1], made), *found[1:]]


def _bind_heads(
    walk: Walk, site: Site, part: Any, given: Ids | None, heads: Ids
) -> None:
    walk.bind(site, part.kernel, 0, given, IN)
    walk.bind(site, part.kernel, 1, heads, OUT)
    if part.bias is not None:
        walk.bind(site, part.bias, 0, heads, OUT)


def _queries(site: Site) -> dict[str, Ids | None] | None:
    """The labels of the features of query, key and value; None: it is called oddly."""
    given = _arguments(site)
    axes = {
        id(one): labels
        for one, labels in zip(site.node.inputs, site.inputs, strict=True)
    }
    names = {"query": "query", "value": "value", "key": "key"}
    if given.get("key") is None:
        names["key"] = "value"
    found = {}
    for name, argument in names.items():
        labels = axes[id(given[argument])]
        if any(ids is not None for ids in labels[:-1]):
            return None
        found[name] = labels[-1]
    others = {
        id(one) for name in ("query", "value", "key") for one in [given.get(name)]
    }
    for tensor, labels in zip(site.node.inputs, site.inputs, strict=True):
        if id(tensor) not in others and any(ids is not None for ids in labels):
            return None
    return found


def shuffle(walk: Walk, site: Site) -> list[Axes]:
    """This package's ChannelShuffle: groups stay equally large."""
    layer, axes = site.layer, site.inputs[0]
    place = channel_axis(layer, len(axes))
    ids = axes[place]
    if ids is None:
        return [axes]
    walk.ordered.append(ids)
    rows = ids.reshape(layer.groups, -1)
    for row in rows[1:]:
        walk.labels.tie(rows[0], row)
    return [(*axes[:place], rows.T.reshape(-1), *axes[place + 1 :])]


def channel_slice(walk: Walk, site: Site) -> list[Axes]:
    """This package's ChannelSlice: it begins and ends after what stays before."""
    layer, axes = site.layer, site.inputs[0]
    place = channel_axis(layer, len(axes))
    ids = axes[place]
    if ids is None:
        return [axes]
    before, chosen = ids[: layer.start], ids[layer.start : layer.stop]
    walk.edit(layer, "start", value=lambda keep: len(keep(before)))
    walk.edit(layer, "stop", value=lambda keep: len(keep(ids[: layer.stop])))
    return [(*axes[:place], chosen, *axes[place + 1 :])]


SPATIAL = tuple(
    getattr(layers, f"{kind}{rank}D")
    for kind in (
        "MaxPooling",
        "AveragePooling",
        "ZeroPadding",
        "Cropping",
        "UpSampling",
    )
    for rank in (1, 2, 3)
)
GLOBAL = tuple(
    getattr(layers, f"Global{kind}Pooling{rank}D")
    for kind in ("Max", "Average")
    for rank in (1, 2, 3)
)
RULES: dict[type, Any] = {
    layers.BatchNormalization: batch_norm,
    layers.LayerNormalization: normalizing,
    layers.RMSNormalization: normalizing,
    layers.GroupNormalization: group_norm,
    layers.PReLU: prelu,
    layers.RepeatVector: repeat_vector,
    layers.Bidirectional: bidirectional,
    layers.TimeDistributed: time_distributed,
    layers.MultiHeadAttention: attention,
    layers.GroupQueryAttention: grouped_attention,
    **dict.fromkeys(GATES, recurrent),
    **dict.fromkeys(SPATIAL, spatial),
    **dict.fromkeys(GLOBAL, global_pooling),
}
