"""Which batch normalizations can be folded into the layer before them, and how."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import layers

from keras_fitkit._core import graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.graph import Graph
from keras_fitkit.blocks import _fold
from keras_fitkit.blocks.grouped import GroupedConv2D
from keras_fitkit.blocks.rewrite_report import LayerChange

Pairs = dict[int, tuple[Any, Any]]

TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, GroupedConv2D)
FOLDABLE = (layers.Dense, *CONVOLUTIONS, *TRANSPOSED, *DEPTHWISE, *SEPARABLE)


@dataclasses.dataclass(frozen=True)
class Place:
    """A call of a layer, and the graph that it is in."""

    graph: Graph[GraphNode]
    node: GraphNode
    path: str


def pairs(model: Any) -> tuple[Pairs, list[LayerChange]]:
    """The layers that take a normalization in, by id, each with it; and a report."""
    found_calls = calls(model)
    found: Pairs = {}
    changes: list[LayerChange] = []
    for places in found_calls.values():
        norm, path = places[0].node.operation, places[0].path
        if not isinstance(norm, layers.BatchNormalization):
            continue
        if type(norm) is not layers.BatchNormalization:
            text = f"a {type(norm).__name__}, which may compute otherwise"
            changes.append(LayerChange(path, False, text))
            continue
        before = [place.graph.producer(place.node.inputs[0]) for place in places]
        reason = _obstacle(places, before, found_calls)
        if reason:
            changes.append(LayerChange(path, False, reason))
            continue
        conv = before[0].operation  # type: ignore[union-attr]
        found[id(conv)] = (conv, norm)
        changes.append(LayerChange(path, True, f"folded into '{conv.name}'"))
    return found, changes


def calls(model: Any) -> dict[int, list[Place]]:
    """The calls of each layer in all graphs of a model, by the id of the layer."""
    found: dict[int, list[Place]] = {}
    seen: set[int] = set()

    def walk(inner: Any, prefix: str) -> None:
        seen.add(id(inner))
        one = graph.graph_of(inner)
        for node in one.nodes:
            layer = node.operation
            place = Place(one, node, f"{prefix}{layer.name}")
            found.setdefault(id(layer), []).append(place)
            if graph.is_functional(layer) and id(layer) not in seen:
                walk(layer, f"{prefix}{layer.name}/")

    walk(model, "")
    return found


def _obstacle(
    places: list[Place],
    before: list[GraphNode | None],
    calls_of: dict[int, list[Place]],
) -> str:
    """Why a normalization cannot be folded; empty if it can."""
    norm, first = places[0].node.operation, before[0]
    if first is None or type(first.operation) not in FOLDABLE:
        return "comes after no convolution or Dense layer"
    layer = first.operation
    if any(node is None or node.operation is not layer for node in before):
        return "is shared, after different layers"
    if any(
        place.graph.only_consumer(node) is not place.node  # type: ignore[arg-type]
        for place, node in zip(places, before, strict=True)
    ) or len(calls_of[id(layer)]) != len(places):
        return f"what '{layer.name}' gives is used elsewhere too"
    if any(trains(place.node) for place in places):
        return "is called with training=True"
    return _unfit(layer, norm, len(places[0].node.inputs[0].shape))


def trains(node: GraphNode) -> bool:
    """Whether the call says `training=True` itself."""
    values = {id(tensor): tensor for tensor in node.inputs}
    return bool(node.arguments(values)[1].get("training"))


def _unfit(layer: Any, norm: Any, rank: int) -> str:
    if layer.activation is not keras.activations.linear:
        return f"'{layer.name}' has an activation"
    first = getattr(layer, "data_format", None) == "channels_first"
    if norm.axis % rank != (1 if first else rank - 1):
        return "its axis is not that of the channels"
    if not is_kernel_plain(layer):
        return f"the kernel of '{layer.name}' is quantized or has LoRA"
    return ""


def is_kernel_plain(layer: Any) -> bool:
    """Whether the kernel is one variable of floats: not quantized, without LoRA."""
    quantized = getattr(layer, "quantization_mode", None)
    return not (quantized or getattr(layer, "lora_enabled", False))


def folded_layer(layer: Any, norm: Any) -> Any:
    """A copy of a layer with the normalization after it in its kernel and bias."""
    scale, shift = _fold.scale_and_shift(norm)
    made = type(layer).from_config({**layer.get_config(), "use_bias": True})
    made.build(layer.get_build_config()["input_shape"])
    bias = shift if layer.bias is None else shift + _fold.values(layer.bias) * scale
    *others, kernel = kernels_of(layer)
    changed = _fold.values(kernel)
    if isinstance(layer, TRANSPOSED):
        changed = changed * scale[:, None]
    elif isinstance(layer, DEPTHWISE):  # (..., channels, multiplier)
        changed = changed * scale.reshape(changed.shape[-2:])
    else:
        changed = changed * scale
    made.set_weights([*(_fold.values(one) for one in others), changed, bias])
    return made


def kernels_of(layer: Any) -> list[Any]:
    """The kernels of a foldable layer; the last one makes the output."""
    if isinstance(layer, SEPARABLE):
        return [layer.depthwise_kernel, layer.pointwise_kernel]
    return [layer.kernel]
