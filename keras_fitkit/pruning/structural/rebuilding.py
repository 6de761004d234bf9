"""The same model with fewer channels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit._core.rewrite import Replacement, Rewriter, config_of
from keras_fitkit.pruning.structural.dead import Dead
from keras_fitkit.pruning.structural.labels import Ids
from keras_fitkit.pruning.structural.walk import ConfigEdit, Keep, Walk


class Shrinking(Rewriter):
    """Copies a model without the channels that go.

    Args:
        walk: over that model.
        keep: the positions of labels that stay.
        found: what goes: biases that change, terms of sums that are zero.
    """

    def __init__(self, walk: Walk, keep: Keep, found: Dead) -> None:
        super().__init__()
        self._walk, self._keep, self._found = walk, keep, found

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """A copy of another configuration, where that changes."""
        edits = self._walk.edits.get(id(layer), [])
        if not edits and not isinstance(layer, keras.layers.Wrapper):
            return None  # the configuration of a wrapper holds shapes of what it wraps
        return self.copied(layer, config=edited(config_of(layer), edits, self._keep))

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Operations whose constants hold channel counts are called with others."""
        special = self._walk.calls.get(graph.key_of(node))
        if special is not None:
            return special(args, kwargs, self._keep)
        zero = self._found.zeros.get(graph.key_of(node), [])
        if any(zero) and not all(zero):
            left = self._left(node, args, kwargs, zero)
            if left is not None:
                return left
        return super().call(path, node, args, kwargs)

    def _left(self, node: GraphNode, args: Any, kwargs: Any, zero: Any) -> Any:
        """The one term of a sum that is not zero, if it has the shape of the sum."""
        terms = [one for one in keras.tree.flatten(args) if _is_symbol(one)]
        shape = node.outputs[0].shape
        left = [
            (term, old)
            for term, old, gone in zip(terms, node.inputs, zero, strict=False)
            if not gone
        ]
        alone = len(terms) == len(node.inputs) and len(left) == 1 and not kwargs
        if alone and tuple(left[0][1].shape) == tuple(shape):
            return left[0][0]
        return None

    def input_of(self, model: Any, tensor: Any) -> Any:
        """A nested model's inputs have as many channels as are left."""
        given = self._walk.inputs.get(id(model))
        if given is None:
            return super().input_of(model, tensor)
        place = next(n for n, one in enumerate(model.inputs) if one is tensor)
        shape = tuple(
            size if ids is None else len(self._keep(ids))
            for size, ids in zip(tensor.shape, given[place], strict=True)
        )
        return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)

    def value(self, variable: Any) -> Any:
        """The values of a variable without those of the channels that go."""
        found = arrays.copied(variable)
        shift = self._found.shifts.get(id(variable))
        if shift is not None:
            found = (found + shift).astype(found.dtype)
        bound = self._walk.bindings.get(id(variable))
        if bound is None:
            return found
        for axis, ids in bound.axes.items():
            if ids is not None:
                found = np.take(found, self._keep(ids), axis)
        return found


def edited(config: dict[str, Any], edits: Sequence[ConfigEdit], keep: Keep) -> Any:
    """A configuration with other values, and built with the shapes of none."""
    found = _unbuilt(copy.deepcopy(config))
    for edit in edits:
        place = found
        for key in edit.keys[:-1]:
            place = place[key]
        place[edit.keys[-1]] = edit.value(keep)
    return found


def _unbuilt(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {
        key: _unbuilt(value) for key, value in config.items() if key != "build_config"
    }


def _is_symbol(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def refuse_quantized(model: Any) -> None:
    """Raises ValueError for a model with quantized layers."""
    for path, layer in leaf_layers(model):
        if getattr(layer, "quantization_mode", None) is not None:
            raise _quantized(path)
    for layer in model.layers:
        if getattr(layer, "compression_info", None):
            raise _quantized(layer.name)


def _quantized(path: str) -> ValueError:
    hint = "Shrink first and quantize then, or call `kf.strip_quantization` before."
    allowed = "a model without quantized layers"
    return ValueError(arguments.message("model", allowed, path, hint))


def keep_of(walk: Walk, dropped: Ids) -> Keep:
    """The positions whose labels stay, given the roots of those that go."""

    def keep(ids: Ids) -> Ids:
        return np.flatnonzero(~np.isin(walk.labels.roots(ids), dropped))

    return keep
