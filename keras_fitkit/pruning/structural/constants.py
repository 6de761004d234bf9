"""Channels whose value does not depend on the input, and what that value is.

Values go through the graph as one number a channel, NaN where it is not known. What
works element by element is computed on them by the layer itself, so that nothing is
said twice. What is known is followed apart: not every backend keeps NaN (TensorFlow's
ReLU and max pooling do not).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from keras_fitkit._core import arrays, graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit.pruning.structural import (
    elementwise_rules,
    layer_rules,
    moving_rules,
)
from keras_fitkit.pruning.structural.channel_graph import ChannelGraph
from keras_fitkit.pruning.structural.constant_layers import (
    Known,
    Weights,
    batch_norm,
    rule_of,
)
from keras_fitkit.pruning.structural.labels import Axes


class Constants:
    """Follows constants through a model.

    Args:
        found: the graph of the model.
        weights: gives the value of a variable, zero where something is gone.

    Attributes:
        inputs: for each call, by the identity of its layer, the constants that go in.
            A list, as a layer may be called several times.
        zeros: the terms that are zero in all calls of an addition, by its key.
    """

    def __init__(self, found: ChannelGraph, weights: Weights) -> None:
        self._found, self._weights = found, weights
        self.inputs: dict[int, list[list[Known]]] = {}
        self.zeros: dict[int, list[bool]] = {}
        bare: list[Known] = [None for _ in found.model.inputs]
        self._visit(found.model, bare)

    def _visit(self, model: Any, given: Sequence[Known]) -> list[Known]:
        values: dict[int, Known] = {
            id(t): one for t, one in zip(model.inputs, given, strict=True)
        }
        seen = graph.graph_of(model)
        for node in seen.nodes:
            inputs = [values[id(one)] for one in node.inputs]
            if graph.is_functional(node.operation):
                outputs = self._visit(node.operation, inputs)
            else:
                outputs = self._outputs(node, inputs)
            for tensor, value in zip(node.outputs, outputs, strict=True):
                values[id(tensor)] = value
        return [values[id(one)] for one in seen.outputs]

    def _outputs(self, node: GraphNode, inputs: list[Known]) -> list[Known]:
        layer = node.operation
        self.inputs.setdefault(id(layer), []).append(inputs)
        labels = self._found.walk.tensors[graph.key_of(node)]
        if _is_sum(layer):
            self._note_zeros(node, inputs)
        kernel = rule_of(layer)
        if kernel is not None:
            return [self._of_kernel(kernel, node, inputs[0], labels[0])]
        if isinstance(layer, layers.BatchNormalization):
            axis = layer.axis % len(labels[0])
            alone = _only(labels[0]) == axis
            return [batch_norm(self._weights, layer, inputs[0]) if alone else None]
        if not _is_plain(layer):
            return [None for _ in node.outputs]
        return [
            self._computed(node, inputs, number, axes)
            for number, axes in enumerate(labels)
        ]

    def _of_kernel(self, rule: Any, node: GraphNode, given: Known, axes: Axes) -> Known:
        """What a layer with a kernel makes, if channels alone have labels."""
        layer = node.operation
        place = _only(axes)
        last = len(axes) - 1
        first = getattr(layer, "data_format", "") == "channels_first"
        if place != (1 if first else last):
            return None
        before = self._axis(node.inputs[0])
        rank = len(node.inputs[0].shape)
        expected = 1 if first else rank - 1
        found: Known = rule(self._weights, layer, given if before == expected else None)
        return found

    def _note_zeros(self, node: GraphNode, inputs: list[Known]) -> None:
        """Which terms of a sum are zero; of all of its calls."""
        zero = [one is not None and bool((one == 0).all()) for one in inputs]
        key = graph.key_of(node)
        before = self.zeros.get(key, zero)
        self.zeros[key] = [a and b for a, b in zip(before, zero, strict=True)]

    def _computed(
        self, node: GraphNode, inputs: list[Known], number: int, axes: Axes
    ) -> Known:
        """What a layer without weights gives for constants."""
        place = _only(axes)
        if place is None or all(one is None for one in inputs):
            return None
        fills = [
            _filled(tensor, self._axis(tensor), None if one is None else one)
            for tensor, one in zip(node.inputs, inputs, strict=True)
        ]
        values = _along(
            _call(node, [np.nan_to_num(one) for one in fills], number), place
        )
        known = self._known(node, inputs, fills, number, place)
        if known is None or len(known) != values.shape[1]:
            return None
        same = (values == values[:1]).all(0)
        return np.where(same & known, values[0], np.nan)

    def _known(
        self,
        node: GraphNode,
        inputs: list[Known],
        fills: list[Any],
        number: int,
        place: int,
    ) -> Any:
        """Which channels of an output depend on known channels alone."""
        kind, name = type(node.operation), type(node.operation).__name__
        masks = [(~np.isnan(one)).astype("float32") for one in fills]
        if kind in _MOVING or name in moving_rules.MOVING_OPERATIONS | {
            "Concatenate",
            "Stack",
        }:
            return _along(_call(node, masks, number), place).min(0) == 1
        if len(inputs) == 1:
            return None if inputs[0] is None else ~np.isnan(inputs[0])
        rank = len(node.outputs[0].shape)
        wide = [one.reshape((1,) * (rank - one.ndim) + one.shape) for one in masks]
        shape = np.broadcast_shapes(*(one.shape for one in wide))
        found = np.stack([np.broadcast_to(one, shape) for one in wide]).min(0)
        if _is_product(node.operation):
            zero = [
                one.reshape(w.shape) == 0 for one, w in zip(fills, wide, strict=True)
            ]
            found = np.maximum(
                found, np.any([np.broadcast_to(one, shape) for one in zero], axis=0)
            )
        return _along(found, place).min(0) == 1

    def _axis(self, tensor: Any) -> int | None:
        return _only(self._found.walk.labels_of(tensor))


def _is_plain(operation: Any) -> bool:
    """Whether it works element by element, moves elements, or pools them."""
    kind = type(operation)
    if not _is_elementwise(operation):
        return False
    if kind in elementwise_rules.RULES or kind in moving_rules.RULES:
        return True
    if kind in layer_rules.SPATIAL:
        return True
    if kind in layer_rules.GLOBAL or kind in (layers.PReLU, layers.RepeatVector):
        return True
    name = kind.__name__
    named = (
        name in elementwise_rules.OPERATION_RULES
        or name in moving_rules.MOVING_OPERATIONS
    )
    return named and not isinstance(operation, layers.Layer)


def _is_elementwise(operation: Any) -> bool:
    """Whether no channel's value depends on the others."""
    if type(operation).__name__ in ("Softmax", "LogSoftmax"):
        return False
    return elementwise_rules.is_elementwise(getattr(operation, "activation", None))


def _is_sum(operation: Any) -> bool:
    return isinstance(operation, layers.Add) or type(operation).__name__ == "Add"


def _is_product(operation: Any) -> bool:
    name = type(operation).__name__
    return isinstance(operation, layers.Multiply) or name == "Multiply"


_MOVING = (
    *(layers.Flatten, layers.Reshape, layers.Permute),
    *(layers.Concatenate, layers.RepeatVector),
)


def _call(node: GraphNode, given: Sequence[Any], number: int) -> Any:
    """An output of a call on arrays in place of its tensors."""
    symbols = {
        id(tensor): keras.ops.convert_to_tensor(one, dtype=tensor.dtype)
        for tensor, one in zip(node.inputs, given, strict=True)
    }
    args, kwargs = node.arguments(symbols)
    call = getattr(node.operation, "call", node.operation)
    if "training" in inspect.signature(call).parameters:
        kwargs = {**kwargs, "training": False}
    outputs = keras.tree.flatten(node.operation(*args, **kwargs))
    return arrays.to_numpy(outputs[number])


def _along(array: Any, place: int) -> npt.NDArray[np.float64]:
    """Rows of what stands along an axis."""
    moved = np.moveaxis(np.asarray(array, np.float64), place, -1)
    return moved.reshape(-1, moved.shape[-1])


def _only(axes: Axes) -> int | None:
    places = [place for place, ids in enumerate(axes) if ids is not None]
    return places[0] if len(places) == 1 else None


def _filled(tensor: Any, axis: int | None, values: Known) -> Any:
    """A small tensor of that form with the values along its axis, else NaN."""
    shape = [1, *(4 if size is None else size for size in tensor.shape[1:])]
    if values is None or axis is None:
        return np.full(shape, np.nan, "float32")
    view = [-1 if place == axis else 1 for place in range(len(shape))]
    return np.broadcast_to(values.reshape(view), shape).astype("float32")
