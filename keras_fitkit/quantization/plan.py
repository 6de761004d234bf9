"""Where a model needs its fake quantizers: what LiteRT's converter has to find."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.graph import Graph
from keras_fitkit.quantization import activations, layer_calls, rules
from keras_fitkit.quantization.fake_quantize import is_float

# Operations outside layers (x + y of symbolic tensors) with int8 kernels in LiteRT.
_OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Mean", "Relu")
_SHAPES = ("Reshape", "Transpose", "Squeeze", "ExpandDims", "GetItem", "Max", "Pad")


@dataclasses.dataclass(frozen=True)
class Place:
    """What is done at one call.

    Attributes:
        rule: that of its layer.
        quantizes_output: whether what comes out is put on a grid here.
        reason: why it stays float, or an empty text.
        stands_alone: a BatchNormalization that nothing before it takes in.
    """

    rule: rules.Rule
    quantizes_output: bool
    reason: str = ""
    stands_alone: bool = False


def places(graph: Graph, floats: set[int]) -> dict[int, Place]:
    """What is done at each call of a graph, by the id of the node.

    Args:
        graph: of the model.
        floats: ids of layers that stay float because the user says so.
    """
    found = {id(node): _place(graph, node, floats) for node in graph.nodes}
    # A layer that is called twice is one layer: it rounds if one of its calls has to.
    rounding = {
        id(node.operation) for node in graph.nodes if found[id(node)].quantizes_output
    }
    for node in graph.nodes:
        if id(node.operation) in rounding:
            place = found[id(node)]
            found[id(node)] = dataclasses.replace(place, quantizes_output=True)
    # Where LiteRT goes from float to integers it needs a range.
    for node in graph.nodes:
        place = found[id(node)]
        if place.rule.kind == rules.FLOAT:
            leads = any(
                found[id(other)].rule.kind != rules.FLOAT
                for other in graph.consumers(node)
            )
            floats_out = any(is_float(one) for one in node.outputs)
            leads = leads and floats_out
            found[id(node)] = dataclasses.replace(place, quantizes_output=leads)
    return found


def rounds_input(graph: Graph, tensor: Any, found: dict[int, Place]) -> bool:
    """Whether an input of the model is put on a grid."""
    if not is_float(tensor):
        return False
    users = graph.users(tensor)
    return any(found[id(node)].rule.kind != rules.FLOAT for node in users)


def _place(graph: Graph, node: GraphNode, floats: set[int]) -> Place:
    layer = node.operation
    if isinstance(layer, keras.Model):
        return Place(rules.Rule(rules.THROUGH), False)
    if id(layer) in floats:
        return Place(rules.Rule(rules.FLOAT), False, "excluded")
    rule = rule_of(layer)
    reason = rule.reason
    if rule.kind == rules.FLOAT:
        return Place(rule, False, reason or "no rule for it")
    if not any(is_float(one) for one in node.outputs):
        return Place(rules.Rule(rules.FLOAT), False)  # indices, masks
    if not reason:
        reason = _unknown_activation(layer)
    alone = _is_norm(layer) and not _folds(graph, node)
    if alone and not layer_calls.can_be_convolution(layer, node.inputs[0].shape):
        reason = "no convolution or Dense before it to fold it into"
        return Place(rules.Rule(rules.FLOAT, reason=reason), False, reason)
    if rule.kind == rules.THROUGH:
        return Place(rule, False)
    fused = _fused_with_next(graph, node, floats)
    return Place(rule, not fused, reason, alone)


def rule_of(operation: Any) -> rules.Rule:
    """The rule of a layer or of an operation outside layers."""
    if isinstance(operation, keras.layers.Layer):
        return rules.rule_of(operation)
    name = type(operation).__name__
    if name in _OPERATIONS:
        return rules.Rule(rules.OUTPUT)
    if name in _SHAPES:
        return rules.Rule(rules.THROUGH)
    return rules.Rule(rules.FLOAT, reason=f"no rule for the operation {name}")


def _fused_with_next(graph: Graph, node: GraphNode, floats: set[int]) -> bool:
    """Whether LiteRT computes the next call in the same kernel."""
    following = graph.only_consumer(node)
    if following is None or id(following.operation) in floats:
        return False
    layer, after = node.operation, following.operation
    while following is not None and rule_of(following.operation).kind == rules.THROUGH:
        following = graph.only_consumer(following)
    if following is not None and rule_of(following.operation).kind == rules.SHARED:
        # Its one range covers its inputs; its own output keeps to that range too.
        return rule_of(layer).kind != rules.SHARED
    if not isinstance(after, keras.layers.Layer):
        return False
    if _is_norm(after):
        return _is_linear(layer)
    if activations.of_layer(after) in ("relu", "relu6"):
        return _is_linear(layer) or _is_norm(layer) or _adds(layer)
    return False


def _folds(graph: Graph, node: GraphNode) -> bool:
    """Whether BatchNormalization comes right after what it is folded into."""
    before = graph.producer(node.inputs[0])
    return (
        before is not None
        and _is_linear(before.operation)
        and graph.only_consumer(before) is node
    )


def _is_linear(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Layer):
        return False
    if rules.rule_of(layer).kind != rules.WEIGHTS:
        return False
    return activations.name_of(getattr(layer, "activation", None)) == "linear"


def _is_norm(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _adds(layer: Any) -> bool:
    return type(layer).__name__ == "Add"


def _unknown_activation(layer: Any) -> str:
    name = activations.of_layer(layer)
    if name is None and hasattr(layer, "activation"):
        name = activations.name_of(layer.activation)
    if name is None or name in activations.KNOWN:
        return ""
    return f"LiteRT has no int8 kernel for its activation {name or 'function'}"
