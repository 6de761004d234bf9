"""Multiplications and additions (MACs) of the layers that have kernels."""

from __future__ import annotations

import math
from typing import Any

from keras import layers

from keras_fitkit._core import rewrite
from keras_fitkit.blocks import _folding
from keras_fitkit.blocks.grouped import GroupedDense

CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    *_folding.DEPTHWISE,
)


def of_model(model: Any) -> int | None:
    """All MACs of one example; None where a size is not known.

    Composite layers count as what they expand to. Recurrent and attention layers, and
    what is inside wrappers, do not count.
    """
    total = 0
    plain, _ = rewrite.expanded(model)
    for places in _folding.calls(plain).values():
        for place in places:
            found = of_call(place.node)
            if found is None:
                return None
            total += found
    return total


def of_call(node: Any) -> int | None:
    """The MACs of one call for one example; 0 of a layer without a kernel."""
    layer = node.operation
    if not isinstance(layer, layers.Layer) or not hasattr(layer, "get_build_config"):
        return 0
    before, after = tuple(node.inputs[0].shape), tuple(node.outputs[0].shape)
    if isinstance(layer, layers.Dense):
        return times(positions(after), math.prod(layer.kernel.shape))
    if isinstance(layer, GroupedDense):
        return times(positions(after), math.prod(layer.kernel.shape))
    if isinstance(layer, layers.EinsumDense):
        return times(einsum_positions(layer, before), math.prod(layer.kernel.shape))
    if isinstance(layer, _folding.TRANSPOSED):
        return times(pixels(layer, before), math.prod(layer.kernel.shape))
    if isinstance(layer, CONVOLUTIONS):
        return times(pixels(layer, after), math.prod(layer.kernel.shape))
    if isinstance(layer, _folding.SEPARABLE):
        kernels = _folding.kernels_of(layer)
        size = sum(math.prod(one.shape) for one in kernels)
        return times(pixels(layer, after), size)
    return 0


def times(count: int | None, size: int) -> int | None:
    """The product, or None."""
    return None if count is None else count * size


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
