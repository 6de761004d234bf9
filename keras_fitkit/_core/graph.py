"""Functional models: the calls they are made of, and how to make them otherwise."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import keras

from keras_fitkit._core import _private, arguments
from keras_fitkit._core._private import GraphNode


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or operation, in a model or in a model nested in it.

    Attributes:
        path: names of the nested models and the operation, joined by "/".
        operation: what is called; no model whose graph can be read.
        inputs, outputs: the symbolic tensors, across the borders of nested models.
        key: of the call in its own graph: `key_of(node)`.
    """

    path: str
    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    key: int


Node = TypeVar("Node", GraphNode, Call)


@dataclasses.dataclass(frozen=True)
class Graph(Generic[Node]):
    """The calls of a functional or Sequential model, and who uses what.

    They are `GraphNode`s, or the `Call`s of a flat graph.

    Attributes:
        model: the model.
        nodes: its calls, in an order in which they can be made.
        outputs: the tensors that it gives out.
    """

    model: Any
    nodes: tuple[Node, ...]
    outputs: tuple[Any, ...]

    def consumers(self, node: Node) -> list[Node]:
        """The calls that take an output of `node`, once for each time they do."""
        made = {id(tensor) for tensor in node.outputs}
        return [
            other
            for other in self.nodes
            for tensor in other.inputs
            if id(tensor) in made
        ]

    def users(self, tensor: Any) -> list[Node]:
        """The calls that take a tensor."""
        return [
            node for node in self.nodes if any(tensor is one for one in node.inputs)
        ]

    def is_output(self, node: Node) -> bool:
        """Whether the model gives out what `node` computes."""
        made = {id(tensor) for tensor in node.outputs}
        return any(id(tensor) in made for tensor in self.outputs)

    def only_consumer(self, node: Node) -> Node | None:
        """The one call that takes what `node` computes, if nothing else does."""
        found = self.consumers(node)
        return found[0] if len(found) == 1 and not self.is_output(node) else None

    def producer(self, tensor: Any) -> Node | None:
        """The call that a tensor comes from; None for an input of the model."""
        for node in self.nodes:
            if any(tensor is one for one in node.outputs):
                return node
        return None

    def between(self, start: Any, end: Any) -> list[Node]:
        """The calls that make the tensor `end` of `start`, as a residual branch.

        Empty where something else feeds them, or something but one call uses them.
        """
        nodes: list[Node] = []
        waiting = [end]
        while waiting:
            tensor = waiting.pop()
            if tensor is start:
                continue
            node = self.producer(tensor)
            if node is None:
                return []
            if node not in nodes:
                nodes.append(node)
                waiting += node.inputs
        made = {id(one) for node in nodes for one in node.outputs}
        users = [user for node in nodes for user in self.consumers(node)]
        inside = sum(user in nodes for user in users)
        if len(users) != inside + 1 or id(start) in made:
            return []
        return nodes


def is_functional(model: Any) -> bool:
    """Whether the graph of a model can be read: functional, or Sequential and built."""
    if isinstance(model, keras.Sequential):
        return bool(model.built)
    return isinstance(model, _type_of_functional())


def check_functional(name: str, model: Any) -> Any:
    """A built functional or Sequential model.

    Raises:
        ValueError: a subclassed model, whose calls nobody can see.
    """
    if not is_functional(model):
        hint = (
            "The layers of a subclassed model cannot be seen from outside: build it "
            "with the functional API."
        )
        allowed = "a functional or Sequential model"
        raise ValueError(arguments.message(name, allowed, type(model).__name__, hint))
    return model


def graph_of(model: Any) -> Graph[GraphNode]:
    """The graph of a model that `is_functional`."""
    nodes = tuple(_private.graph_nodes(model))
    return Graph(model, nodes, tuple(model.outputs))


def key_of(node: GraphNode) -> int:
    """What tells a node from the others, as long as its model lives."""
    return id(node.outputs[0])


def flat(model: Any) -> Graph[Call]:
    """The graph of a functional model and of those in it, as one.

    A nested model that is called twice is there twice, with tensors of its own.
    """
    calls: list[Call] = []

    def visit(path: str, node: GraphNode, values: dict[int, Any]) -> list[Any]:
        inputs = tuple(values[id(tensor)] for tensor in node.inputs)
        outputs = [keras.KerasTensor(one.shape, one.dtype) for one in node.outputs]
        calls.append(Call(path, node.operation, inputs, tuple(outputs), key_of(node)))
        return outputs

    outputs = walk(model, list(model.inputs), visit)
    return Graph(model, tuple(calls), tuple(outputs))


def run(model: Any, inputs: Sequence[Any]) -> tuple[list[Any], list[list[Any]]]:
    """Computes a functional model in inference mode, and shows what is inside.

    Args:
        model: the model.
        inputs: a tensor for each of `model.inputs`.

    Returns:
        Its outputs, flat, and the outputs of each call of `flat(model)`.
    """
    found: list[list[Any]] = []

    def visit(path: str, node: GraphNode, values: dict[int, Any]) -> list[Any]:
        args, kwargs = node.arguments(values)
        call = getattr(node.operation, "call", node.operation)
        if "training" in inspect.signature(call).parameters:
            kwargs = {**kwargs, "training": False}
        outputs = keras.tree.flatten(node.operation(*args, **kwargs))
        found.append(outputs)
        return list(outputs)

    return walk(model, inputs, visit), found


def walk(
    model: Any,
    inputs: Sequence[Any],
    visit: Callable[[str, GraphNode, dict[int, Any]], list[Any]],
    prefix: str = "",
) -> list[Any]:
    """Makes all calls of a functional model and of those in it, each by `visit`.

    A value is dropped after the last call that takes it.

    Args:
        model: the model.
        inputs: a value, of any kind, for each of `model.inputs`.
        visit: given the path of a call, its node and the values by the ids of the
            tensors that they stand for, gives a value for each of its outputs.
        prefix: of the paths.

    Returns:
        The values of its outputs, flat.
    """
    values = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    nodes = graph_of(model).nodes
    flat_outputs = keras.tree.flatten(output_structure(model))
    last = {id(tensor): place for place, node in enumerate(nodes)
            for tensor in node.inputs}  # fmt: skip
    last.update(dict.fromkeys(map(id, flat_outputs), len(nodes)))
    for place, node in enumerate(nodes):
        path = f"{prefix}{node.operation.name}"
        if is_functional(node.operation):
            given = [values[id(tensor)] for tensor in node.inputs]
            outputs = walk(node.operation, given, visit, f"{path}/")
        else:
            outputs = visit(path, node, values)
        for old, new in zip(node.outputs, outputs, strict=True):
            values[id(old)] = new
        for key in [key for key in values if last.get(key, -1) <= place]:
            del values[key]
    return [values[id(tensor)] for tensor in flat_outputs]


def rebuild(
    graph: Graph[GraphNode],
    call: Callable[[GraphNode, Sequence[Any], dict[str, Any]], Any],
    begin: Callable[[Any, Any], Any] = lambda old, new: new,
    make: Callable[[Any], Any] | None = None,
) -> tuple[Any, Any]:
    """Makes all calls of a model again, each by `call`, on inputs of their own.

    Args:
        graph: of the model.
        call: given a node and its arguments, gives its outputs in their structure.
        begin: given an input of the model and the new one, gives what is used for it.
        make: makes the new input for one of the model. Defaults to `new_input`, which
            keeps the name.

    Returns:
        Inputs and outputs for a `keras.Model`, in the structures of the model's.
    """
    made = make or functools.partial(new_input, graph.model)
    inputs = keras.tree.map_structure(made, input_structure(graph.model))
    values = {
        id(old): begin(old, new)
        for old, new in zip(graph.model.inputs, keras.tree.flatten(inputs), strict=True)
    }
    for node in graph.nodes:
        args, kwargs = node.arguments(values)
        outputs = keras.tree.flatten(call(node, args, kwargs))
        values.update(
            {id(o): new for o, new in zip(node.outputs, outputs, strict=True)}
        )
    outputs = keras.tree.map_structure(
        lambda old: values[id(old)], output_structure(graph.model)
    )
    return inputs, outputs


def input_structure(model: Any) -> Any:
    """The symbolic inputs as the model takes them: a tensor, a list, a dict ..."""
    # A Sequential model has `input` from its first call only, and then that call's.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def output_structure(model: Any) -> Any:
    """The symbolic outputs as the model gives them."""
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def new_input(model: Any, tensor: Any) -> Any:
    """An input of the same shape, dtype and name as one of a model's."""
    name = _input_names(model).get(id(tensor), tensor.name)
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)


def _input_names(model: Any) -> dict[int, str | None]:
    """Of the input layers, by the id of the tensor.

    Unnamed inputs are "input_layer_2" among the layers, "keras_tensor_9" as tensors. A
    Sequential model does not list its input: unnamed, it gets a new name.
    """
    if isinstance(model, keras.Sequential):
        auto = model.inputs[0].name.startswith("keras_tensor")
        return {id(model.inputs[0]): None if auto else model.inputs[0].name}
    inputs = [one for one in model.layers if isinstance(one, keras.layers.InputLayer)]
    return {id(one.output): one.name for one in inputs}


@functools.cache
def _type_of_functional() -> type:
    """The class of functional models, which Keras does not export."""
    symbol = keras.Input((1,))
    return type(keras.Model(symbol, symbol))
