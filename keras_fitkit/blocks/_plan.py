"""A block as a description: plain layers by name, and how they are wired.

A composite layer and its functional builder come from the same `Plan`. The layer makes
the parts once and owns them; the builder makes them with longer names and applies them
to a KerasTensor; `expand()` is a copy of the layer's parts in the same wiring.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

from keras_fitkit._core import arrays, rewrite

Tensor: TypeAlias = Any
Shape: TypeAlias = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """One plain layer, not made yet."""

    name: str
    kind: type[Any]
    arguments: dict[str, Any]

    def make(self, prefix: str, common: dict[str, Any]) -> Any:
        """The layer; `common` holds arguments that every part gets."""
        config = {**common, **self.arguments, "name": prefix + self.name}
        return self.kind.from_config(copy.deepcopy(config))


@dataclasses.dataclass(frozen=True)
class Call:
    """One use of a part, on values made before."""

    part: int
    inputs: tuple[int, ...]


class Plan:
    """Parts and their calls, in order of execution.

    Values are numbered: 0 is the input of the block, n what the n-th call gives. The
    last one is the output.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.calls: list[Call] = []

    def add(self, name: str, kind: type[Any], *inputs: int, **arguments: Any) -> int:
        """A new part, called on `inputs`; returns the number of its value."""
        return self.call(self.part(name, kind, arguments), *inputs)

    def part(self, name: str, kind: type[Any], arguments: dict[str, Any]) -> int:
        """A new part that is not called yet; returns its place."""
        self.parts.append(Part(name, kind, arguments))
        return len(self.parts) - 1

    def call(self, part: int, *inputs: int) -> int:
        """Another call of a part; returns the number of its value."""
        self.calls.append(Call(part, inputs))
        return len(self.calls)

    def make(self, prefix: str, common: dict[str, Any]) -> Wiring:
        """The plan with layers of its own."""
        return Wiring([part.make(prefix, common) for part in self.parts], self.calls)


class Wiring:
    """Plain layers and the order in which they are called.

    Attributes:
        layers: the layers in the order of their first call.
    """

    def __init__(self, layers: Sequence[Any], calls: Sequence[Call]) -> None:
        self.layers = list(layers)
        self._calls = tuple(calls)

    def __call__(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Applies the layers to a tensor or a KerasTensor.

        Args:
            inputs: the tensor.
            training: what each layer that asks for it is told; None leaves it to the
                call around.
        """
        values = [inputs]
        for call in self._calls:
            layer, own = self.layers[call.part], {}
            if training is not None and rewrite.takes(layer, "training"):
                own = {"training": training}
            values.append(layer(_given(values, call), **own))
        return values[-1]

    def build(self, shape: Shape) -> None:
        """Makes the variables of all layers."""
        shapes = [shape]
        for call in self._calls:
            layer, given = self.layers[call.part], _given(shapes, call)
            if not layer.built:
                layer.build(given)
            shapes.append(layer.compute_output_shape(given))

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of the output; no layer needs to be built."""
        shapes = [shape]
        for call in self._calls:
            layer = self.layers[call.part]
            shapes.append(tuple(layer.compute_output_shape(_given(shapes, call))))
        return shapes[-1]

    def copy(self, prefix: str) -> Wiring:
        """The same with copies of the layers, weights and seed states included."""
        return Wiring([_copy(layer, prefix) for layer in self.layers], self._calls)


def _given(values: list[Any], call: Call) -> Any:
    if len(call.inputs) == 1:
        return values[call.inputs[0]]
    return [values[number] for number in call.inputs]


def _copy(layer: Any, prefix: str) -> Any:
    config = {**layer.get_config(), "name": prefix + layer.name}
    made = type(layer).from_config(config)
    if layer.built:
        made.build_from_config(layer.get_build_config())
        for new, old in zip(made.variables, layer.variables, strict=True):
            new.assign(arrays.copied(old))
    return made
