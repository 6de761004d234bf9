"""Multiplications and additions (MACs) of layers in a graph, known sizes or not."""

from __future__ import annotations

import math
from typing import Any

from keras_fitkit._core import mac_rules
from keras_fitkit._core.call_trace import Shape, TracedCall
from keras_fitkit._core.count_macs import count_macs


def of_model(model: Any) -> int | None:
    """All MACs of one example that can be counted; None where a size is not known."""
    if any(None in tensor.shape[1:] for tensor in model.inputs):
        return None
    return count_macs(model).total


def of_call(node: Any) -> int | None:
    """The MACs of one call of a layer for one example; None where one is not known."""
    tensors = (*node.inputs, *node.outputs)
    shapes = [(1, *tensor.shape[1:]) for tensor in tensors]
    if any(None in shape for shape in shapes):
        return None
    given = {str(place): Shape(one) for place, one in enumerate(shapes[:-1])}
    found = mac_rules.count(TracedCall(node.operation, given, Shape(shapes[-1]), 0))
    return 0 if found is None else found.macs


def product(sizes: Any) -> int | None:
    """Of sizes that are all known, else None."""
    sizes = tuple(sizes)
    return None if None in sizes else math.prod(sizes)


def positions(shape: Any) -> int | None:
    """How many rows of features one example has."""
    return product(shape[1:-1])


def pixels(layer: Any, shape: Any) -> int | None:
    """How many places of an image there are."""
    first = layer.data_format == "channels_first"
    return product(shape[2:] if first else shape[1:-1])


def einsum_positions(layer: Any, shape: Any) -> int | None:
    """How many rows of contracted features one example has."""
    inputs = product(shape[1:])
    left, _, result = layer.equation.replace(" ", "").partition("->")
    kernel = left.split(",")[1]
    contracted = [
        size
        for size, axis in zip(layer.kernel.shape, kernel, strict=True)
        if axis not in result
    ]
    return None if inputs is None else inputs // math.prod(contracted)
