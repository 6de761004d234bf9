"""Functional models: the calls they are made of, and how to make them otherwise."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_fitkit._core import _private, arguments
from keras_fitkit._core._private import GraphNode


@dataclasses.dataclass(frozen=True)
class Graph:
    """The calls of a functional or Sequential model, and who uses what.

    Attributes:
        model: the model.
        nodes: its calls, in an order in which they can be made.
    """

    model: Any
    nodes: tuple[GraphNode, ...]

    def consumers(self, node: GraphNode) -> list[GraphNode]:
        """The calls that take an output of `node`, once for each time they do."""
        made = {id(tensor) for tensor in node.outputs}
        return [
            other
            for other in self.nodes
            for tensor in other.inputs
            if id(tensor) in made
        ]

    def users(self, tensor: Any) -> list[GraphNode]:
        """The calls that take a tensor."""
        return [
            node for node in self.nodes if any(tensor is one for one in node.inputs)
        ]

    def is_output(self, node: GraphNode) -> bool:
        """Whether the model gives out what `node` computes."""
        made = {id(tensor) for tensor in node.outputs}
        return any(id(tensor) in made for tensor in self.model.outputs)

    def only_consumer(self, node: GraphNode) -> GraphNode | None:
        """The one call that takes what `node` computes, if nothing else does."""
        found = self.consumers(node)
        return found[0] if len(found) == 1 and not self.is_output(node) else None

    def producer(self, tensor: Any) -> GraphNode | None:
        """The call that a tensor comes from; None for an input of the model."""
        for node in self.nodes:
            if any(tensor is one for one in node.outputs):
                return node
        return None


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


def graph_of(model: Any) -> Graph:
    """The graph of a model that `is_functional`."""
    return Graph(model, tuple(_private.graph_nodes(model)))


def rebuild(
    graph: Graph,
    call: Callable[[GraphNode, Sequence[Any], dict[str, Any]], Any],
    begin: Callable[[Any, Any], Any] = lambda old, new: new,
) -> tuple[Any, Any]:
    """Makes all calls of a model again, each by `call`, on inputs of their own.

    Args:
        graph: of the model.
        call: given a node and its arguments, gives its outputs in their structure.
        begin: given an input of the model and the new one, gives what is used for it.

    Returns:
        Inputs and outputs for a `keras.Model`, in the structures of the model's.
    """
    inputs = keras.tree.map_structure(_new_input, input_structure(graph.model))
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


def _new_input(tensor: Any) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


@functools.cache
def _type_of_functional() -> type:
    """The class of functional models, which Keras does not export."""
    symbol = keras.Input((1,))
    return type(keras.Model(symbol, symbol))
