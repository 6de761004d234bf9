"""Where in a model dropout belongs: after the activations of hidden layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from keras import layers

from keras_fitkit._core import graph
from keras_fitkit._core.graph import Call, Graph
from keras_fitkit.regularizers import layer_kinds as kinds


@dataclasses.dataclass(frozen=True)
class Place:
    """A call whose output may be dropped in parts.

    Attributes:
        call: of the flat graph.
        owner: the path of the layer with weights whose features these are.
        layer: that layer.
        kind: "dropout", "spatial_dropout" or "stochastic_depth".
        frozen: whether neither that layer nor those that take the features are trained.
    """

    call: Call
    owner: str
    layer: Any
    kind: str
    frozen: bool = False


def places(model: Any) -> list[Place]:
    """Where dropout belongs and none is yet, in order of execution."""
    found = graph.flat(model)
    last = {call.key for call in head(found)}
    result: dict[int, Place] = {}
    refused: set[int] = set()
    for call in found.nodes:
        kind = kinds.feature_kind(call)
        if kind is None:
            continue
        end = _after_norms(found, call)
        owner = _owner(found, call)
        free = {call.key, end.key}.isdisjoint(last) and owner is not None
        if not free or _is_gate(found, call) or _is_dropped(found, end, owner):
            refused.add(end.key)
        elif owner is not None:
            spatial = isinstance(kinds.inner(owner.operation), kinds.CONVOLUTIONS)
            here = "spatial_dropout" if spatial and kind != "pooling" else "dropout"
            frozen = _is_frozen(found, end, owner)
            result[end.key] = Place(end, owner.path, owner.operation, here, frozen)
    # A nested model that is called twice has each of its layers once.
    return [one for key, one in result.items() if key not in refused]


def branches(model: Any) -> list[Place]:
    """The ends of residual branches, in order of execution."""
    found = graph.flat(model)
    result: list[Place] = []
    for call in found.nodes:
        adds = isinstance(call.operation, layers.Add)
        if not adds and type(call.operation).__name__ != "Add":
            continue
        if len(call.inputs) != 2:
            continue
        end = _branch_end(found, call)
        producer = None if end is None else found.producer(end)
        if producer is None or kinds.kind_of(producer) == kinds.DEPTH:
            continue
        owner = _owner(found, producer)
        if owner is not None:
            frozen = _is_frozen(found, call, owner)
            result.append(
                Place(producer, owner.path, owner.operation, kinds.DEPTH, frozen)
            )
    return result


def _branch_end(found: Graph[Call], call: Call) -> Any:
    """The term of a sum that is the residual branch, the other being the shortcut."""
    first, second = call.inputs
    for skip, end in ((first, second), (second, first)):
        if any(kinds.has_kernel(one) for one in found.between(skip, end)):
            return end
    # A shortcut with a projection: the branch has more kernels than it.
    before = [_before(found, one) for one in (first, second)]
    common = [one for one in found.nodes if one.key in before[0] & before[1]]
    if not common:
        return None
    inside = [found.between(common[-1].outputs[0], end) for end in (first, second)]
    counts = [sum(map(kinds.has_kernel, calls)) for calls in inside]
    # A pooled shortcut has no kernel; one whose calls are not known has no calls.
    if not all(inside) or counts[0] == counts[1]:
        return None
    return first if counts[0] > counts[1] else second


def _before(found: Graph[Call], tensor: Any) -> set[int]:
    """The keys of all calls that a tensor is made by."""
    waiting, seen = [tensor], set()
    while waiting:
        call = found.producer(waiting.pop())
        if call is not None and call.key not in seen:
            seen.add(call.key)
            waiting += call.inputs
    return seen


def dropouts(model: Any) -> list[Call]:
    """The calls of layers that drop something already."""
    return [one for one in graph.flat(model).nodes if kinds.is_dropout(one.operation)]


def owners(model: Any) -> dict[int, Call]:
    """The layer whose features each dropout layer drops, by the id of the latter."""
    found = graph.flat(model)
    result: dict[int, Call] = {}
    for call in found.nodes:
        owner = _owner(found, call) if kinds.is_dropout(call.operation) else None
        if owner is not None:
            result.setdefault(id(call.operation), owner)
    return result


def _is_frozen(found: Graph[Call], end: Call, owner: Call) -> bool:
    """Whether nothing is trained on either side: features that are fixed."""
    if _is_trained(owner.operation):
        return False
    waiting, seen = list(found.consumers(end)), {end.key}
    while waiting:
        call = waiting.pop()
        if call.key in seen:
            continue
        seen.add(call.key)
        if _is_trained(call.operation):
            return False
        if not kinds.has_kernel(call):
            waiting += found.consumers(call)
    return True


def _is_trained(layer: Any) -> bool:
    return bool(getattr(layer, "trainable_variables", None))


def head(found: Graph[Call]) -> Iterator[Call]:
    """The calls that make the outputs, back to the last ones with kernels."""
    waiting, seen = list(found.outputs), set()
    while waiting:
        call = found.producer(waiting.pop())
        if call is None or call.key in seen:
            continue
        seen.add(call.key)
        yield call
        if not kinds.has_kernel(call):
            waiting += call.inputs


def _after_norms(found: Graph[Call], call: Call) -> Call:
    """The call, or the batch normalization that alone takes what it gives."""
    following = found.only_consumer(call)
    while following is not None and isinstance(
        following.operation, layers.BatchNormalization
    ):
        call, following = following, found.only_consumer(following)
    return call


def _owner(found: Graph[Call], call: Call) -> Call | None:
    """The call with weights whose features these are; None for those of the inputs."""
    waiting, seen = [call], set()
    while waiting:
        one = waiting.pop(0)
        if kinds.has_kernel(one):
            return one
        if one.key in seen:
            continue
        seen.add(one.key)
        before = (found.producer(tensor) for tensor in one.inputs)
        waiting += [producer for producer in before if producer is not None]
    return None


def _is_gate(found: Graph[Call], call: Call, hops: int = 6) -> bool:
    """Whether this ends in a product soon, as in squeeze-and-excite."""
    for _ in range(hops):
        following = found.only_consumer(call)
        if following is None:
            return False
        operation = following.operation
        product = isinstance(operation, layers.Multiply) or (
            type(operation).__name__ == "Multiply"
        )
        if product and len(following.inputs) > 1:  # a number only scales
            return True
        call = following
    return False


def _is_dropped(found: Graph[Call], call: Call, owner: Call | None) -> bool:
    """Whether a dropout is there already, a few calls without kernels away."""
    waiting = [*found.consumers(call)]
    while waiting:
        one = waiting.pop()
        if kinds.is_dropout(one.operation):
            return True
        if isinstance(one.operation, kinds.KEEPERS):
            waiting += found.consumers(one)
    while call is not owner:
        if kinds.is_dropout(call.operation):
            return True
        before = found.producer(call.inputs[0]) if call.inputs else None
        if before is None:
            return False
        call = before
    return False
