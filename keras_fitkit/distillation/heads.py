"""Whether a model ends in logits, and how they are had: never guessed from values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_fitkit._core import arguments, graph
from keras_fitkit.distillation import logits_maths as maths
from keras_fitkit.distillation.taps import ACTIVATION, CALL, Notes, Point

_THROUGH = ("Reshape", "Flatten", "Dropout", "Identity", "Permute", "FakeQuantize")
_LOGITS = ("linear", "log_softmax")
_PROBABILITIES = ("softmax", "sigmoid")


@dataclasses.dataclass(frozen=True)
class Head:
    """How one output of a model ends.

    Attributes:
        activation: "softmax", "sigmoid" or "linear".
        layer: the layer whose activation it is, or None.
        kind: where in that layer the logits go in.
    """

    activation: str
    layer: Any = None
    kind: str = ACTIVATION

    @property
    def points(self) -> list[Point]:
        """What must be noted in a forward pass."""
        return [] if self.layer is None else [(self.layer, self.kind)]

    def logits(self, output: Any, notes: Notes) -> Any:
        """The logits of an output, from before the activation where that was seen."""
        if self.activation == "linear":
            return maths.single(output)
        before = None if self.layer is None else notes.given(self.layer, self.kind)
        if before is not None and tuple(before.shape[1:]) == tuple(output.shape[1:]):
            return maths.single(before)
        if self.activation == "softmax":
            return maths.logits_of_softmax(output)
        return maths.logits_of_sigmoid(output)


def heads_of(
    role: str, model: Any, from_logits: Any, number: int, required: bool
) -> list[Head | None]:
    """The heads of the outputs of a model, in the order of `keras.tree.flatten`.

    Args:
        role: "teacher" or "student".
        model: a Keras model, or a function.
        from_logits: as given to the distiller.
        number: of outputs.
        required: whether a head that cannot be told is an error.

    Raises:
        ValueError: a head that cannot be told, or that says the opposite.
    """
    said = from_logits
    if isinstance(from_logits, dict):
        said = from_logits.get(role, "auto")
    tensors = keras.tree.flatten(getattr(model, "outputs", None) or [])
    found: list[Head | None] = []
    for index in range(number):
        head = _trace(model, index)
        if head is None and said != "auto":
            head = Head("linear" if said else _usual_activation(tensors, index))
        elif head is not None and said not in ("auto", head.activation == "linear"):
            raise ValueError(_contradiction(role, model, head, said))
        if head is None and required:
            raise ValueError(_unknown(role, model, index))
        found.append(head)
    return found


def check_from_logits(value: object) -> Any:
    """The argument `from_logits`."""
    if isinstance(value, dict) and set(value) <= {"teacher", "student"} and value:
        return {role: check_from_logits(one) for role, one in value.items()}
    if value == "auto" or isinstance(value, bool):
        return value
    allowed = "'auto', True, False, or a dict of these for 'teacher' and 'student'"
    raise TypeError(arguments.message("from_logits", allowed, value))


def _trace(model: Any, index: int) -> Head | None:
    """The head that an output of a model comes from, or None if it cannot be told."""
    if not graph.is_functional(model) or index >= len(model.outputs):
        return None
    calls, tensor = graph.graph_of(model), model.outputs[index]
    for _ in range(20):
        node = calls.producer(tensor)
        if node is None:
            return None
        operation = node.operation
        if isinstance(operation, keras.Model):
            place = [id(one) for one in node.outputs].index(id(tensor))
            return _trace(operation, place)
        if type(operation).__name__ in _THROUGH and len(node.inputs) == 1:
            tensor = node.inputs[0]
            continue
        head = _head_of(operation)
        through = isinstance(operation, keras.layers.Activation)
        if head is not None and head.activation == "linear" and through:
            tensor = node.inputs[0]
            continue
        return head
    return None


def _head_of(operation: Any) -> Head | None:
    if isinstance(operation, keras.layers.TimeDistributed):
        inner = _head_of(operation.layer)
        return None if inner is None else Head(inner.activation)
    if _changes_weights_alone(operation):
        return _head_of(operation.layer)
    if isinstance(operation, keras.layers.Softmax):
        return Head("softmax", operation, CALL)
    name = type(operation).__name__.lower()
    if not isinstance(operation, keras.layers.Layer):  # keras.ops.softmax(x)
        return Head(name) if name in _PROBABILITIES else None
    if getattr(operation, "return_sequences", None) is not None:
        return None  # a recurrent layer's activation is not all of its head
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", "")
    if name in _LOGITS and hasattr(operation, "activation"):
        return Head("linear")
    return Head(name, operation) if name in _PROBABILITIES else None


def _changes_weights_alone(operation: Any) -> bool:
    """Whether a wrapper ends as its layer does: its weights are scaled or rounded."""
    if not isinstance(operation, keras.layers.Wrapper):
        return False
    spectral = isinstance(operation, keras.layers.SpectralNormalization)
    return spectral or hasattr(operation, "compression_info")


def _usual_activation(tensors: Sequence[Any], index: int) -> str:
    """Of probabilities whose head is not seen."""
    one = index < len(tensors) and tensors[index].shape[-1] == 1
    return "sigmoid" if one else "softmax"


def _contradiction(role: str, model: Any, head: Head, said: bool) -> str:
    name = getattr(model, "name", role)
    end = "logits" if head.activation == "linear" else head.activation
    right = head.activation == "linear"
    allowed = f"{right} or 'auto' for the {role} {name!r}, which ends in {end}"
    hint = "A dict says it for each model: {'teacher': ..., 'student': ...}."
    return arguments.message("from_logits", allowed, said, hint)


def _unknown(role: str, model: Any, index: int) -> str:
    name = getattr(model, "name", getattr(model, "__name__", role))
    allowed = (
        f"True or False for the {role} {name!r}, of whose output {index} nothing shows "
        "whether it is logits"
    )
    hint = f"For one model only: from_logits={{'{role}': True}}."
    return arguments.message("from_logits", allowed, "auto", hint)
