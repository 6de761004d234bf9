"""The walk over a model that gives every axis of every tensor its labels."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras_fitkit._core import graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit.pruning.structural.labels import Axes, Ids, Labels

IN, OUT, THROUGH = "in", "out", "through"
Keep = Callable[[Ids], Ids]  # the positions of the labels that stay


@dataclasses.dataclass
class Binding:
    """The labels that index the axes of one variable.

    Attributes:
        path: of the layer.
        layer: that owns the variable, or that holds its owner.
        variable: the variable.
        axes: labels by axis; None for an axis that must stay as it is.
        roles: by axis: `IN` where the channels are used up, `OUT` where they are made,
            `THROUGH` where each is worked on by itself.
    """

    path: str
    layer: Any
    variable: Any
    axes: dict[int, Ids | None] = dataclasses.field(default_factory=dict)
    roles: dict[int, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Site:
    """One call that is being labelled.

    Attributes:
        path: names of the models around and of the operation, joined by "/".
        node: the call.
        inputs: the labels of each tensor that goes in.
    """

    path: str
    node: GraphNode
    inputs: tuple[Axes, ...]

    @property
    def layer(self) -> Any:
        """What is called."""
        return self.node.operation

    def shape(self, place: int = 0) -> tuple[int | None, ...]:
        """Of an input."""
        return tuple(self.node.inputs[place].shape)

    def output_shape(self, place: int = 0) -> tuple[int | None, ...]:
        """Of an output."""
        return tuple(self.node.outputs[place].shape)

    def arguments(self) -> dict[str, Any]:
        """What the layer is called with, by name."""
        symbols = {id(one): one for one in self.node.inputs}
        args, kwargs = self.node.arguments(symbols)
        return dict(inspect.signature(self.layer.call).bind(*args, **kwargs).arguments)

    def bare(self) -> list[Axes]:
        """Outputs without labels."""
        return [(None,) * len(one.shape) for one in self.node.outputs]


@dataclasses.dataclass(frozen=True)
class ConfigEdit:
    """A value in the configuration of a layer that depends on what stays.

    Attributes:
        keys: the way to it through nested dicts.
        value: from the labels that stay.
    """

    keys: tuple[str, ...]
    value: Callable[[Keep], Any]


@dataclasses.dataclass(frozen=True)
class Contraction:
    """Channels that a product of tensors sums over: it uses them up without a kernel.

    Attributes:
        node: the call.
        ids: their labels.
        places: for each tensor that has them its place among the inputs, and the axis.
    """

    node: GraphNode
    ids: Ids
    places: tuple[tuple[int, int], ...]


class Walk:
    """Labels, and what they mean for variables, configurations and operations.

    Attributes:
        labels: all of them.
        bindings: by the id of the variable.
        edits: configurations that change, by the id of the layer.
        calls: operations whose constants change, by the key of their call: given the
            arguments and what stays, the new outputs.
        stays: why channels may not go, by path.
        inexact: paths of the layers whose result changes when channels go.
        tensors: the labels of the outputs of each call, by its key.
        inputs: the labels of the inputs of nested models, by the id of the model.
        ordered: labels whose place has a meaning (groups, shuffles): none may be added.
        contractions: where products of tensors sum over channels.
        products: by the id of an operation, parts of equal cost of its multiplications:
            for each the labels of which the cost is a product; none: it is fixed.
    """

    def __init__(self, rule_of: Callable[[Any], Any], allow_inexact: bool) -> None:
        self.labels = Labels()
        self.bindings: dict[int, Binding] = {}
        self.edits: dict[int, list[ConfigEdit]] = {}
        self.calls: dict[int, Callable[[Any, Any, Keep], Any]] = {}
        self.stays: dict[str, str] = {}
        self.inexact: list[str] = []
        self.tensors: dict[int, list[Axes]] = {}
        self.inputs: dict[int, list[Axes]] = {}
        self._by_tensor: dict[int, Axes] = {}
        self.ordered: list[Ids] = []
        self.contractions: list[Contraction] = []
        self.products: dict[int, list[list[Ids]]] = {}
        self.allow_inexact = allow_inexact
        self.rule_of = rule_of
        self._minted: dict[tuple[int, str], Ids] = {}

    def run(self, model: Any) -> None:
        """Labels a functional model. Its inputs and outputs may not shrink."""
        bare: list[Axes] = [(None,) * len(one.shape) for one in model.inputs]
        for axes in self.visit(model, bare, ""):
            self.labels.freeze_all(axes, "an output of the model")

    def visit(self, model: Any, given: Sequence[Axes], prefix: str) -> list[Axes]:
        """Labels the calls in a model; the labels of its outputs."""
        values = {id(t): axes for t, axes in zip(model.inputs, given, strict=True)}
        self._by_tensor.update(values)
        found = graph.graph_of(model)
        for node in found.nodes:
            path = f"{prefix}{node.operation.name}"
            inputs = tuple(values[id(tensor)] for tensor in node.inputs)
            outputs = self._outputs(Site(path, node, inputs))
            self.tensors[graph.key_of(node)] = outputs
            for tensor, axes in zip(node.outputs, outputs, strict=True):
                values[id(tensor)] = self._by_tensor[id(tensor)] = axes
        return [values[id(tensor)] for tensor in found.outputs]

    def labels_of(self, tensor: Any) -> Axes:
        """Of a symbolic tensor of the model or of one in it."""
        return self._by_tensor[id(tensor)]

    def _outputs(self, site: Site) -> list[Axes]:
        if graph.is_functional(site.layer):
            before = self.inputs.setdefault(id(site.layer), list(site.inputs))
            for one, other in zip(before, site.inputs, strict=True):
                self.merge(site.path, [one, other])  # called twice: one shape for both
            return self.visit(site.layer, site.inputs, f"{site.path}/")
        rule = self.rule_of(site.layer)
        if rule is None:
            return self.stop(site, f"{type(site.layer).__name__} has no rule")
        return list(rule(self, site))

    def stop(self, site: Site, reason: str) -> list[Axes]:
        """No channel that goes in may go, and none that comes out."""
        for axes in site.inputs:
            self.freeze(site.path, axes, reason)
        self.stays.setdefault(site.path, reason)
        return site.bare()

    def freeze(self, path: str, axes: Iterable[Ids | None], reason: str) -> None:
        """Labels that may not go, because of what is at a path."""
        for ids in axes:
            if ids is not None:
                self.labels.freeze(ids, f"{path}: {reason}")
                self.stays.setdefault(path, reason)

    def mint(self, layer: Any, role: str, count: int) -> Ids:
        """The labels that a layer makes: the same ones each time that it is called."""
        key = (id(layer), role)
        if key not in self._minted:
            self._minted[key] = self.labels.mint(count)
        return self._minted[key]

    def bind(
        self, site: Site, variable: Any, axis: int, ids: Ids | None, role: str
    ) -> None:
        """The labels of an axis of a variable; tied to those that it has already."""
        axis %= len(variable.shape)
        if ids is not None and variable.shape[axis] != len(ids):
            text = f"{site.path}: axis {axis} of {variable.path} has other channels"
            raise AssertionError(text)
        bound = self.bindings.setdefault(
            id(variable), Binding(site.path, site.layer, variable)
        )
        bound.roles[axis] = role
        if axis not in bound.axes:
            bound.axes[axis] = ids
            return
        before = bound.axes[axis]
        if before is not None and ids is not None:
            self.labels.tie(before, ids)
        else:
            reason = "called on channels that may not go"
            self.freeze(site.path, (before, ids), reason)

    def edit(self, layer: Any, *keys: str, value: Callable[[Keep], Any]) -> None:
        """A value in the configuration of a layer follows what stays."""
        edits = self.edits.setdefault(id(layer), [])
        if all(one.keys != keys for one in edits):
            edits.append(ConfigEdit(keys, value))

    def merge(self, path: str, parts: Sequence[Axes]) -> Axes:
        """Tensors that meet element by element: their labels are tied.

        All parts have the same number of axes. On an axis where some have labels and
        some have none, nothing may go.
        """
        found: list[Ids | None] = []
        for along in zip(*parts, strict=True):
            present = [ids for ids in along if ids is not None]
            if len(present) < len(along):
                self.freeze(path, present, "meets channels that may not go")
                found.append(None)
                continue
            for other in present[1:]:
                self.labels.tie(present[0], other)
            found.append(present[0] if present else None)
        return tuple(found)
