"""Copies of functional models in which other layers stand in place of some."""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras

from keras_fitkit._core import _private, arguments, arrays, graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.selection import Choice, matches

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
        own = [(layer, layer.trainable) for layer in _layers_below(model)]
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


def _layers_below(model: Any) -> Iterator[Any]:
    """The layers of a model, outer ones first."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers_below(layer)


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


class Expansion(Rewriter):
    """Puts the plain layers of composite ones in their place.

    Args:
        keeps: given path and layer, whether it stays as it is.

    Attributes:
        expanded: the paths of the layers that were expanded.
    """

    def __init__(self, keeps: Callable[[str, Any], bool]) -> None:
        super().__init__()
        self.expanded: list[str] = []
        self._keeps = keeps

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """What `expand()` of the layer gives."""
        if not offers(layer, "expand") or self._keeps(path, layer):
            return None
        self.expanded.append(path)
        return layer.expand()


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


def offers(layer: Any, method: str) -> bool:
    """Whether a layer, not a model, has a method of this name that tells what it does.

    A method of its class: a sublayer in an attribute `expand` can be called as well. A
    class that overrides `call` does something else than what the method that it
    inherits was written for.
    """
    kind = type(layer)
    if isinstance(layer, keras.Model) or not callable(getattr(kind, method, None)):
        return False
    owner = next(one for one in kind.__mro__ if method in vars(one))
    described = getattr(owner, "call", keras.layers.Layer.call)
    return described is keras.layers.Layer.call or kind.call is described


def expanded(
    model: Any, keeps: Callable[[str, Any], bool] = lambda path, layer: False
) -> tuple[Any, list[str]]:
    """A model without composite layers that can be expanded, and which there were.

    Layers that come out of an expansion are expanded too. The model itself is returned
    where there is nothing to do.

    Args:
        model: functional or Sequential.
        keeps: given path and layer, whether it stays as it is. Defaults to none.
    """
    paths: list[str] = []
    while any(
        offers(layer, "expand") and not keeps(path, layer)
        for path, layer in paths_of(model)[0].items()
    ):
        step = Expansion(keeps)
        model = step.run(model)
        paths += step.expanded
    return model, paths


def without_blocks(
    model: Any,
    *choices: tuple[str, Any],
    keep: str = "",
    whole: tuple[type, ...] = (),
) -> tuple[Any, ...]:
    """A model whose blocks are plain layers, and the same selections by paths.

    Args:
        model: functional or Sequential.
        choices: the names of arguments that select layers, and what was given.
        keep: the argument whose layers are not expanded; "" for none.
        whole: classes of layers that are not expanded either. Defaults to none.

    Returns:
        The model and the selections, in their order. What meant a layer that is gone
        means those that it became; a layer that was given as itself is its path.
    """
    kept = Choice(keep, dict(choices).get(keep))
    before = paths_of(model)[0]
    # By path: the copies of layers that are given as themselves are other objects.
    stay = {path for path, layer in before.items() if kept.takes(path, layer)}
    plain, gone = expanded(
        model,
        lambda path, layer: (
            isinstance(layer, whole) or path in stay or kept.takes(path, layer)
        ),
    )
    if plain is model:
        return (plain, *(given for _, given in choices))
    blocks = {path: before[path] for path in gone if path in before}
    others = {path: one for path, one in before.items() if path not in blocks}
    return (plain, *(_by_paths(given, blocks, others) for _, given in choices))


def _by_paths(given: Any, blocks: dict[str, Any], others: dict[str, Any]) -> Any:
    if given is None:
        return None
    paths = {id(layer): path for path, layer in others.items()}
    found: list[Any] = []
    for item in given if isinstance(given, (list, tuple)) else [given]:
        meant = [path for path, one in blocks.items() if matches(item, path, one)]
        found += [f"{path}_*" for path in meant]  # as expanded layers are named
        if not meant or any(matches(item, path, one) for path, one in others.items()):
            found.append(paths.get(id(item), item))
    return found


def paths_of(model: Any) -> tuple[dict[str, Any], set[int]]:
    """The layers that the graphs of a model and of the models in it call.

    Returns:
        The layers by path, and the ids of all of them: a shared one has one path.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def walk(inner: Any, prefix: str) -> None:
        for node in graph.graph_of(inner).nodes:
            layer = node.operation
            if id(layer) in seen or not isinstance(layer, keras.layers.Layer):
                continue
            seen.add(id(layer))
            found[f"{prefix}{layer.name}"] = layer
            if graph.is_functional(layer):
                walk(layer, f"{prefix}{layer.name}/")

    walk(model, "")
    return found, seen


def has_offers(model: Any, methods: Sequence[str]) -> bool:
    """Whether a layer that the graph of a model calls has one of these methods."""
    layers, _ = paths_of(model)
    return any(offers(layer, one) for layer in layers.values() for one in methods)
