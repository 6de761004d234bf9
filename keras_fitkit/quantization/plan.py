"""Where a model needs its fake quantizers: what LiteRT's converter has to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras

from keras_fitkit._core import graph, kernels
from keras_fitkit._core._private import GraphNode
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


_NESTED = Place(rules.Rule(rules.THROUGH), False)


class Plan:
    """What is done at each call of a model and of the models nested in it.

    Args:
        model: functional or Sequential.
        floats: ids of layers that stay float because the user says so.
        unrounded: ids of those whose outputs do.
    """

    def __init__(
        self, model: Any, floats: Iterable[int] = (), unrounded: Iterable[int] = ()
    ) -> None:
        self.graph = graph.flat(model)
        self._floats, self._unrounded = set(floats), {*floats, *unrounded}
        self._whole: dict[int, bool] = {}
        self._at = {id(call): self._place(call) for call in self.graph.nodes}
        # A layer that is called twice is one layer: it rounds if one of its calls has
        # to.
        rounding = {
            id(call.operation)
            for call in self.graph.nodes
            if self._at[id(call)].quantizes_output
        }
        for call in self.graph.nodes:
            place = self._at[id(call)]
            # Where LiteRT goes from float to integers it needs a range.
            leads = place.rule.kind == rules.FLOAT and self._leads(call)
            if leads or id(call.operation) in rounding:
                place = dataclasses.replace(place, quantizes_output=True)
            self._at[id(call)] = place
        self._by_key: dict[int, Place] = {}
        for call in self.graph.nodes:
            self._by_key[call.key] = _joined(self._by_key.get(call.key), self.of(call))

    def of(self, call: graph.Call) -> Place:
        """What is done at a call of the flat graph."""
        return self._at[id(call)]

    def at(self, node: GraphNode) -> Place:
        """What is done at a call of the model, or of one that is nested in it."""
        return self.by_key(graph.key_of(node))

    def by_key(self, key: int) -> Place:
        """What is done at the calls of this `graph.key_of`."""
        return self._by_key.get(key, _NESTED)

    def rounds(self, tensor: Any) -> bool:
        """Whether an input of the model is put on a grid."""
        return is_float(tensor) and any(
            self._is_whole(call) for call in self.graph.users(tensor)
        )

    def _leads(self, call: graph.Call) -> bool:
        floats_out = any(is_float(one) for one in call.outputs)
        return floats_out and any(map(self._is_whole, self.graph.consumers(call)))

    def _is_whole(self, call: graph.Call) -> bool:
        """Whether it is to compute with integers."""
        if id(call) not in self._whole:
            kind = self.of(call).rule.kind
            found = kind != rules.FLOAT
            if kind == rules.THROUGH:  # it does what those after it do
                found = any(map(self._is_whole, self.graph.consumers(call)))
            self._whole[id(call)] = found
        return self._whole[id(call)]

    def _place(self, call: graph.Call) -> Place:
        layer = call.operation
        if id(layer) in self._floats:
            return Place(rules.Rule(rules.FLOAT), False, "excluded")
        rule = rule_of(layer)
        reason = rule.reason
        if rule.kind == rules.FLOAT:
            return Place(rule, False, reason or "no rule for it")
        if not any(is_float(one) for one in call.outputs):
            return Place(rules.Rule(rules.FLOAT), False)  # indices, masks
        if not reason:
            reason = _unknown_activation(layer)
        alone = _is_norm(layer) and not self._folds(call)
        if alone and not layer_calls.can_be_convolution(layer, call.inputs[0].shape):
            reason = "no convolution or Dense before it to fold it into"
            return Place(rules.Rule(rules.FLOAT, reason=reason), False, reason)
        if rule.kind == rules.THROUGH:
            return Place(rule, False)
        return Place(rule, not self._fused_with_next(call), reason, alone)

    def _fused_with_next(self, call: graph.Call) -> bool:
        """Whether LiteRT computes the next call in the same kernel."""
        following = self.graph.only_consumer(call)
        if following is None or id(following.operation) in self._unrounded:
            return False
        layer, after = call.operation, following.operation
        while following is not None and self._passes(following):
            following = self.graph.only_consumer(following)
        if following is not None and rule_of(following.operation).kind == rules.SHARED:
            # Its one range covers its inputs; its own output keeps to that range too.
            rounded = id(following.operation) not in self._unrounded
            return rounded and rule_of(layer).kind != rules.SHARED
        if not isinstance(after, keras.layers.Layer):
            return False
        if _is_norm(after):
            return _is_linear(layer)
        if activations.of_layer(after) in ("relu", "relu6"):
            return _is_linear(layer) or _is_norm(layer) or _adds(layer)
        return False

    def _passes(self, call: graph.Call) -> bool:
        layer = call.operation
        return id(layer) not in self._floats and rule_of(layer).kind == rules.THROUGH

    def _folds(self, call: graph.Call) -> bool:
        """Whether BatchNormalization comes right after what it is folded into."""
        before = self.graph.producer(call.inputs[0])
        return (
            before is not None
            and id(before.operation) not in self._floats
            and _is_linear(before.operation)
            and self.graph.only_consumer(before) is call
        )


def _joined(one: Place | None, other: Place) -> Place:
    """What is done at a call that is made several times, in a shared model."""
    if one is None:
        return other
    return dataclasses.replace(
        one,
        quantizes_output=one.quantizes_output or other.quantizes_output,
        stands_alone=one.stands_alone or other.stands_alone,
        reason=one.reason or other.reason,
    )


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


def _is_linear(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Layer):
        return False
    if rules.rule_of(layer).kind != rules.WEIGHTS:
        return False
    if not kernels.names(layer) and not kernels.is_one_of(layer, kernels.DEPTHWISE):
        return False  # a table, or a layer that was registered
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
    function = getattr(getattr(layer, "activation", None), "__name__", "over that axis")
    return (
        f"LiteRT has no int8 kernel for its activation {function}, which mixes values"
    )
