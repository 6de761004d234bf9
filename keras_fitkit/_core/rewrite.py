"""Copies of functional models in which other layers stand in place of some."""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras

from keras_fitkit._core import _private, arguments, arrays, graph, layers
from keras_fitkit._core._private import GraphNode

# A layer, a model, or what is called like one.
Replacement: TypeAlias = Any


class Rewriter:
    """Copies a model, its nested models included; a shared layer stays shared.

    Weights, names, structures of inputs and outputs, dtype policies, `trainable` flags
    and seed states are those of the model; layers are copies. A subclass says what
    stands in place of a layer, in `replace`, or of a call, in `call`.
    """

    def __init__(self) -> None:
        self._used: dict[int, tuple[Any, Any]] = {}
        self._taken: set[str] = set()  # names in the graph that is being rebuilt
        self._copies: list[tuple[Any, Any]] = []

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """What is called in place of a layer, weights included; None: its copy.

        Asked once for each layer that is no model.

        Args:
            path: the layer's name after those of the nested models that it is in.
            layer: the layer.
        """
        return None

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """What one call in the graph becomes: its outputs from its new arguments."""
        used = self.use(path, node.operation)
        told = kwargs.get("training") is not None and not _is_layer(used)
        if told and not takes(used, "training"):
            hint = "Let what its `expand()` gives take `training`."
            allowed = f"a model that calls '{path}' without `training`"
            received = f"training={kwargs['training']}"
            raise ValueError(arguments.message("model", allowed, received, hint))
        return used(*args, **kwargs)

    def enter(self, found: graph.Graph[GraphNode], prefix: str) -> None:
        """Called with each graph before it is rebuilt."""

    def begin(self, prefix: str, old: Any, new: Any) -> Any:
        """What is used for an input of a model; `prefix` is "" for the outermost."""
        return new

    def input_of(self, model: Any, tensor: Any) -> Any:
        """The new input of a model in place of one of its own."""
        return graph.new_input(model, tensor)

    def value(self, variable: Any) -> Any:
        """What a copy of a layer gets in place of a variable's value."""
        return arrays.copied(variable)

    def run(self, model: Any) -> Any:
        """The new model, not compiled."""
        new = self._rebuild(model, "")
        for old, copy in self._copies:
            if not isinstance(old, keras.Model):
                self._assign(old, copy)
        self._set_flags(new)
        return new

    def _set_flags(self, model: Any) -> None:
        # The flag of a model sets those of its layers, which are right already.
        own = [(one, one.trainable) for _, one in layers.layer_paths(model)]
        copies = {id(copy): old for old, copy in self._copies}
        for layer in (model, *(layer for layer, _ in own)):
            if isinstance(layer, keras.Model):
                layer.trainable = copies.get(id(layer), layer).trainable
        for layer, flag in own:
            if not isinstance(layer, keras.Model):
                layer.trainable = flag
        for old, copy in self._copies:
            if not isinstance(old, keras.Model):
                _same_flags(old, copy)

    def _assign(self, old: Any, copy: Any) -> None:
        for new, variable in zip(copy.variables, old.variables, strict=True):
            new.assign(self.value(variable))
        _finalize(copy)

    def use(self, path: str, operation: Any) -> Replacement:
        """What stands for an operation, the same for all of its calls."""
        if id(operation) not in self._used:
            made = self._make(path, operation)
            self._used[id(operation)] = (operation, made)
        return self._used[id(operation)][1]

    def _make(self, path: str, operation: Any) -> Replacement:
        if not isinstance(operation, keras.layers.Layer):
            return operation  # one of keras.ops: it has no state
        if graph.is_functional(operation):
            return self._rebuild(operation, f"{path}/")
        found = self.replace(path, operation)
        if found is None:
            return self.copied(operation)
        self._name_apart(operation, found)
        return found

    def _name_apart(self, old: Any, made: Any) -> None:
        """New layers get names that no layer of their graph has yet."""
        whole = isinstance(made, keras.layers.Layer)
        for layer in [made] if whole else getattr(made, "layers", ()):
            if layer.name != old.name:
                layer.name = self.free_name(layer.name)
            self._taken.add(layer.name)

    def free_name(self, wanted: str) -> str:
        """A name that no layer of the graph has that is being rebuilt; now it has."""
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def copied(self, layer: Any, kind: Any = None, config: Any = None) -> Any:
        """A copy of a layer, with its weights when `run` is through.

        Args:
            layer: the layer.
            kind: its class, if another; it must take the same configuration.
            config: its configuration, if another.
        """
        # Its function is here in memory already: nothing foreign is loaded.
        own = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
        try:
            config = config_of(layer) if config is None else config
            copy = (kind or type(layer)).from_config(config, **own)
        except (NotImplementedError, TypeError) as error:
            hint = "Give its class a `get_config` that it can be made from."
            allowed = "a model of layers that can be copied"
            text = arguments.message("model", allowed, layer.name, hint)
            raise ValueError(text) from error
        self._copies.append((layer, copy))
        return copy

    def _rebuild(self, model: Any, prefix: str) -> Any:
        found = graph.graph_of(model)
        outer, self._taken = self._taken, {one.operation.name for one in found.nodes}
        self.enter(found, prefix)

        def call(node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
            return self.call(f"{prefix}{node.operation.name}", node, args, kwargs)

        inputs, outputs = graph.rebuild(
            found,
            call,
            lambda old, new: self.begin(prefix, old, new),
            lambda tensor: self.input_of(model, tensor),
        )
        new = keras.Model(inputs, outputs, name=model.name)
        self._taken = outer
        self._copies.append((model, new))
        return new


def _finalize(layer: Any) -> None:
    """Layers that were adapted to data compute what they use from their variables."""
    if layer.built and hasattr(layer, "finalize_state"):
        layer.finalize_state()
    for one in _private.sublayers(layer):
        _finalize(one)


def _same_flags(old: Any, copy: Any) -> None:
    """Of a layer, of all below it and of its variables: setting one sets all."""
    copy.trainable = old.trainable
    for one, other in zip(
        _private.sublayers(old), _private.sublayers(copy), strict=False
    ):
        _same_flags(one, other)
    for variable, new in zip(
        _private.own_variables(old), _private.own_variables(copy), strict=False
    ):
        if new.trainable != variable.trainable:
            new.trainable = variable.trainable


def config_of(layer: Any) -> dict[str, Any]:
    """The configuration of a layer, with functions of your own as they are.

    Keras would look them up by name when it makes the copy, and find none, or one of
    its own that has the same name.
    """
    with warnings.catch_warnings():  # that a lambda is unsafe to load: it is not loaded
        warnings.simplefilter("ignore")
        config = dict(layer.get_config())
    if not isinstance(layer, keras.layers.Lambda):
        for key in config:
            value = getattr(layer, key, None)
            if isinstance(value, types.FunctionType) and _is_own(value):
                config[key] = value
    return config


def _is_own(function: types.FunctionType) -> bool:
    return function.__module__.partition(".")[0] != "keras"


def takes(operation: Any, argument: str) -> bool:
    """Whether a layer, or what is called like one, has an argument of this name."""
    call = getattr(operation, "call", None) or operation
    return argument in inspect.signature(call).parameters


def _is_layer(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer)
