"""Sums of convolutions of one tensor, which are one convolution."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fitkit._core import graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit.blocks import _fold, _folding
from keras_fitkit.blocks._fold import Kernel


@dataclasses.dataclass(frozen=True)
class Sum:
    """An addition whose summands are convolutions of one tensor.

    Attributes:
        path: of the addition.
        branches: the layers: convolutions, and normalizations of the tensor itself.
        main: the convolution with the largest kernel.
        position: its place among the summands.
        norm_paths: of the normalizations that are summands.
    """

    path: str
    branches: tuple[Any, ...]
    main: Any
    position: int
    norm_paths: tuple[str, ...]


def sums(model: Any) -> dict[int, Sum]:
    """The sums in all graphs of a model, by the id of the layer that adds."""
    found: dict[int, Sum] = {}
    calls = _folding.calls(model)
    for places in calls.values():
        place = places[0]
        if type(place.node.operation) is not layers.Add or len(places) > 1:
            continue
        nodes = [place.graph.producer(tensor) for tensor in place.node.inputs]
        if all(node is not None and _alone(place.graph, node, calls) for node in nodes):
            one = _sum(place, nodes)
            if one is not None:
                found[id(place.node.operation)] = one
    return found


def _alone(found: graph.Graph[GraphNode], node: GraphNode, calls: Any) -> bool:
    """Whether a layer is called once, and only for the addition."""
    layer = node.operation
    return len(calls[id(layer)]) == 1 and found.only_consumer(node) is not None


def _sum(place: Any, nodes: list[Any]) -> Sum | None:
    branches = [node.operation for node in nodes]
    convs = [one for one in branches if type(one) in _KINDS]
    shapes = {tuple(node.outputs[0].shape) for node in nodes}
    if len(convs) == 0 or len(branches) < 2 or len(shapes) > 1:  # some are broadcast
        return None
    main = max(convs, key=lambda one: one.kernel_size[0])
    same = _settings(main)
    origins = [_origin(place.graph, node) for node in nodes]
    for layer, origin in zip(branches, origins, strict=True):
        if origin is None or origin is not origins[0]:
            return None
        if type(layer) is layers.BatchNormalization:
            if main.strides != (1, 1) or not _identity_fits(layer, main):
                return None
        elif _settings(layer) != same:
            return None
    prefix = place.path.rpartition("/")[0]
    norms = [one.name for one in branches if type(one) is layers.BatchNormalization]
    return Sum(
        place.path,
        tuple(branches),
        main,
        branches.index(main),
        tuple(f"{prefix}/{one}" if prefix else one for one in norms),
    )


def _settings(conv: Any) -> tuple[Any, ...]:
    groups = getattr(conv, "groups", None)  # a depthwise convolution has none
    return (type(conv), conv.strides, conv.data_format, groups)


_KINDS = (layers.Conv2D, layers.DepthwiseConv2D)


def _identity_fits(norm: Any, main: Any) -> bool:
    axis = 1 if main.data_format == "channels_first" else 3
    return bool(norm.axis % 4 == axis and getattr(main, "groups", 1) == 1)


def _origin(found: graph.Graph[GraphNode], node: GraphNode) -> Any:
    """The tensor in whose pixels the kernel is centred; None for anything else."""
    layer, tensor = node.operation, node.inputs[0]
    if type(layer) is layers.BatchNormalization:
        return None if _folding.trains(node) else tensor
    if type(layer) not in _KINDS or not _plain(layer):
        return None
    size = layer.kernel_size[0]
    if size == 1 or (layer.padding == "same" and layer.strides == (1, 1)):
        return tensor
    before = found.producer(tensor)
    if layer.padding != "valid" or before is None:
        return None
    padding = before.operation
    margin = ((size // 2, size // 2),) * 2
    if type(padding) is not layers.ZeroPadding2D or padding.padding != margin:
        return None
    return before.inputs[0]


def _plain(layer: Any) -> bool:
    height, width = layer.kernel_size
    return bool(
        height == width
        and height % 2
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.activation is keras.activations.linear
        and getattr(layer, "depth_multiplier", 1) == 1
        and _folding.is_kernel_plain(layer)
    )


def merged_layer(one: Sum) -> Any:
    """The convolution that computes the sum, on the input of its main branch."""
    main, depthwise = one.main, type(one.main) is layers.DepthwiseConv2D
    size = main.kernel_size[0]
    made = type(main).from_config({**main.get_config(), "use_bias": True})
    made.build(main.get_build_config()["input_shape"])
    kernels = [_kernel_of(layer, depthwise) for layer in one.branches]
    made.set_weights(_fold.total(kernels, size))
    return made


def _kernel_of(layer: Any, depthwise: bool) -> Kernel:
    if type(layer) is layers.BatchNormalization:
        return _fold.folded_identity(layer, depthwise)
    kernel = _fold.values(layer.kernel)
    channels = kernel.shape[2] if depthwise else kernel.shape[3]
    bias = np.zeros(channels) if layer.bias is None else _fold.values(layer.bias)
    return kernel, bias
