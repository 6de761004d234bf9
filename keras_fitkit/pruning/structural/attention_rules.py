"""Rules of attention: heads go whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from keras_fitkit._core import _private
from keras_fitkit.pruning.structural.labels import Axes, Ids
from keras_fitkit.pruning.structural.walk import IN, OUT, Site, Walk


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
    given = site.arguments()
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


RULES: dict[type, Any] = {
    layers.MultiHeadAttention: attention,
    layers.GroupQueryAttention: grouped_attention,
}
