"""A teacher or a student: one forward pass that gives outputs, logits and features."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, graph
from keras_fitkit.distillation import heads, matching, taps
from keras_fitkit.distillation.distillation_loss import OutputSpec


@dataclasses.dataclass(frozen=True)
class ModelOutputs:
    """What a model gave for a batch.

    Attributes:
        outputs: as the model returns them.
        logits: one tensor for each output, in the order of `keras.tree.flatten`; None
            for one whose head is not known.
        features: by the path of the layer.

    Raises:
        TypeError: an argument is missing.

    Example:
        >>> from keras_fitkit.distillation import ModelOutputs
        >>> ModelOutputs(outputs=[[0.5]], logits=[[[0.0]]], features={}).features
        {}
    """

    outputs: Any
    logits: Sequence[Any]
    features: Mapping[str, Any]


class Network:
    """A Keras model, or a function, with what is to be known of it.

    Args:
        role: "teacher" or "student".
        model: a built model, or (a teacher) a callable.
        paths: of the layers whose outputs are wanted.
        from_logits: as given to the distiller.
        logits: whether logits are wanted.

    Raises:
        ValueError: a layer that is not there, a head that is not as it was said.
    """

    def __init__(
        self,
        role: str,
        model: Any,
        paths: Iterable[str],
        from_logits: Any,
        logits: bool,
    ) -> None:
        self.role, self.model = role, model
        self.is_keras = isinstance(model, keras.Model)
        argument = f"{role}_layer_name"
        paths = list(dict.fromkeys(paths))
        if paths and not self.is_keras:
            allowed = f"None for a {role} that is no Keras model"
            raise ValueError(arguments.message(argument, allowed, paths[0]))
        self.layers = {p: taps.find_layer(argument, model, p) for p in paths}
        self._example = _Example(model) if self.is_keras else None
        self.number = self._number()
        shapes = self._shapes() or [None] * self.number
        self.heads = heads.heads_of(role, model, from_logits, shapes)
        seen = heads.heads_of(role, model, "auto", shapes)
        self._said = "auto" if None in seen else from_logits
        self._points = [(layer, taps.CALL) for layer in self.layers.values()]
        if logits:
            self._points += [p for head in self.heads if head for p in head.points]
        self._takes_training = self.is_keras and _takes_training(model)

    def __call__(self, inputs: Any, training: bool) -> ModelOutputs:
        """One forward pass."""
        given = {"training": training} if self._takes_training else {}
        with taps.noted(self._points) as notes:
            outputs = self.model(inputs, **given)
        flat = keras.tree.flatten(outputs)
        known = [*self.heads, *[None] * (len(flat) - len(self.heads))]
        return ModelOutputs(
            outputs=outputs,
            logits=[
                None if head is None or head.problem else head.logits(one, notes)
                for one, head in zip(flat, known, strict=False)
            ],
            features={
                path: matching.channels_last(
                    layer, self._one(path, notes.result(layer))
                )
                for path, layer in self.layers.items()
            },
        )

    def _one(self, path: str, result: Any) -> Any:
        """What a layer gave, which must be one tensor."""
        if isinstance(result, (list, tuple, dict)):
            allowed = "the path of a layer that gives one tensor"
            hint = f"It gives {len(result)}; take a layer behind it."
            name = f"{self.role}_layer_name"
            raise ValueError(arguments.message(name, allowed, path, hint))
        return result

    def require_logits(self, index: int, sigmoid: bool) -> None:
        """Makes sure of the logits of an output, for a loss that reads them.

        Args:
            index: of the output.
            sigmoid: whether the loss has sigmoids in any case.

        Raises:
            ValueError: the head cannot be told, or no logits can be had.
        """
        head = heads.known(self.role, self.model, index, self.heads[index])
        heads.refuse_contradiction(self.role, self.model, head, self._said)
        if sigmoid:
            heads.refuse_assumed(self.role, head.activation, head.assumed)

    def plain(self, inputs: Any) -> Any:
        """The outputs in inference mode, nothing noted."""
        given = {"training": False} if self._takes_training else {}
        return self.model(inputs, **given)

    def output_spec(self, index: int) -> OutputSpec:
        """What is known of an output."""
        shapes = self._shapes()
        head = self.heads[index] if index < len(self.heads) else None
        return OutputSpec(
            where=f"the {self.role}'s output",
            shape=shapes[index] if shapes else None,
            activation="" if head is None else head.activation,
            assumed=head is not None and head.assumed,
        )

    def layer_spec(self, path: str) -> OutputSpec:
        """What is known of a layer's output."""
        where = f"the {self.role}'s layer {path!r}"
        shapes = self._example.layers(self) if self._example else {}
        if path in shapes:
            return OutputSpec(where, shapes[path])
        try:  # sizes that are not fixed: what the graph knows
            layer = self.layers[path]
            shape = matching.channels_last(layer, layer.output).shape
            return OutputSpec(where, tuple(shape))
        except (AttributeError, ValueError, RuntimeError):
            return OutputSpec(where, None)

    def output_names(self) -> list[str]:
        """The names of the outputs, in the order of `keras.tree.flatten`."""
        if graph.is_functional(self.model):
            structure = graph.output_structure(self.model)
        else:
            structure = self._example.structure() if self._example else None
        if isinstance(structure, dict):
            return sorted(structure)
        return list(getattr(self.model, "output_names", None) or [])

    def _number(self) -> int:
        outputs = getattr(self.model, "outputs", None)
        if outputs:
            return len(keras.tree.flatten(outputs))
        shapes = self._example.outputs() if self._example else None
        return len(shapes) if shapes else 1

    def _shapes(self) -> list[Any] | None:
        outputs = getattr(self.model, "outputs", None)
        if outputs:
            return [tuple(one.shape) for one in keras.tree.flatten(outputs)]
        return self._example.outputs() if self._example else None


class _Example:
    """Shapes in a model: zeros of the shape that it was built with go through it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._found: Any = None
        self._layers: dict[str, Any] = {}

    def outputs(self) -> list[Any] | None:
        """The shapes of the outputs, or None if the input's is not known."""
        found = self.structure()
        if found is None:
            return None
        return [_open(one) for one in keras.tree.flatten(found)]

    def structure(self) -> Any:
        """What the model gave: a tensor, or a list or dict of them; None as above."""
        if self._found is None:
            inputs = self._zeros()
            self._found = None if inputs is None else self._model(inputs)
        return self._found

    def layers(self, network: Network) -> dict[str, Any]:
        """The shapes of the layers that a network is asked for, where that works."""
        inputs = self._zeros()
        if inputs is None or not network.layers:
            return {}
        if not self._layers:
            found = network(inputs, training=False).features
            self._layers = {path: _open(tensor) for path, tensor in found.items()}
        return self._layers

    def _zeros(self) -> Any:
        inputs = getattr(self._model, "inputs", None)
        if inputs:  # a graph with a layer in it that has layers of its own
            flat = [_zeros(tuple(one.shape), str(one.dtype)) for one in inputs]
            if any(one is None for one in flat):
                return None
            given = flat
            if graph.is_functional(self._model):
                given = graph.input_structure(self._model)
            return keras.tree.pack_sequence_as(given, flat)
        config = self._model.get_build_config() or {}
        shape = config.get("input_shape")
        if shape is None:
            return None
        if isinstance(shape, (tuple, list)) and not any(
            isinstance(size, (tuple, list, dict)) for size in shape
        ):
            return _zeros(tuple(shape))
        if isinstance(shape, dict):
            made = {name: _zeros(tuple(one)) for name, one in shape.items()}
            return None if any(one is None for one in made.values()) else made
        many = [_zeros(tuple(one)) for one in shape]
        return None if any(one is None for one in many) else many


def _zeros(shape: tuple[Any, ...], dtype: str = "float32") -> Any:
    if None in shape[1:]:
        return None
    return np.zeros((shape[0] or 2, *shape[1:]), dtype)


def _open(tensor: Any) -> tuple[Any, ...]:
    return (None, *tuple(tensor.shape)[1:])


def _takes_training(model: Any) -> bool:
    """Whether `call` has the argument; a model inherits its mode anyway."""
    found = inspect.signature(model.call).parameters.values()
    return any(one.name == "training" or one.kind is one.VAR_KEYWORD for one in found)
