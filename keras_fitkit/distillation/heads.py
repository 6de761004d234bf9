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
_SAID = ("auto", True, False, *_PROBABILITIES)


@dataclasses.dataclass(frozen=True)
class Head:
    """How one output of a model ends.

    Attributes:
        activation: "softmax", "sigmoid" or "linear".
        layer: the layer whose activation it is, or None.
        kind: where in that layer the logits go in.
        assumed: whether it was said to be probabilities, and not of which kind.
        problem: why no logits can be had, or "".
    """

    activation: str
    layer: Any = None
    kind: str = ACTIVATION
    assumed: bool = False
    problem: str = ""

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
        one = self.assumed and output.shape[-1] == 1  # a function's: not known before
        if self.activation == "softmax" and not one:
            return maths.logits_of_softmax(output)
        return maths.logits_of_sigmoid(output)


def heads_of(
    role: str, model: Any, from_logits: Any, shapes: Sequence[Any]
) -> list[Head | None]:
    """The heads of the outputs of a model, in the order of `keras.tree.flatten`.

    What `from_logits` says is for the heads that cannot be told from the model; if all
    can, `refuse_contradiction` looks at those that a loss reads.

    Args:
        role: "teacher" or "student".
        model: a Keras model, or a function.
        from_logits: as given to the distiller.
        shapes: of the outputs; None for one that is not known.

    Returns:
        None for a head that cannot be told.
    """
    said = said_of(role, from_logits)
    found = [_trace(model, index) for index in range(len(shapes))]
    if said == "auto":
        return found
    return [
        _said(said, shape) if head is None else head
        for head, shape in zip(found, shapes, strict=True)
    ]


def said_of(role: str, from_logits: Any) -> Any:
    """What the argument says of one of the models."""
    if isinstance(from_logits, dict):
        return from_logits.get(role, "auto")
    return from_logits


def check_from_logits(value: object) -> Any:
    """The argument `from_logits`."""
    if isinstance(value, dict) and set(value) <= {"teacher", "student"} and value:
        return {role: check_from_logits(one) for role, one in value.items()}
    if isinstance(value, (str, bool)) and value in _SAID:
        return value
    allowed = (
        "'auto', True, False, 'softmax', 'sigmoid', or a dict of these for 'teacher' "
        "and 'student'"
    )
    raise TypeError(arguments.message("from_logits", allowed, value))


def known(role: str, model: Any, index: int, head: Head | None) -> Head:
    """The head of an output whose logits can be had.

    Raises:
        ValueError: nothing shows how the output ends, or it ends in a softmax that is
            not along the classes.
    """
    if head is None:
        raise ValueError(_unknown(role, model, index))
    if head.problem:
        allowed = "a model whose softmax is along the last axis, that of the classes"
        raise ValueError(arguments.message(role, allowed, head.problem))
    return head


def refuse_contradiction(role: str, model: Any, head: Head, from_logits: Any) -> None:
    """Raises where a head that shows what it is was said to be something else.

    Raises:
        ValueError: it says the opposite.
    """
    said = said_of(role, from_logits)
    if said != "auto" and not _agrees(head, said):
        raise ValueError(_contradiction(role, model, head, said))


def refuse_assumed(role: str, activation: str, assumed: bool) -> None:
    """Raises where a loss for sigmoids meets what may be a softmax.

    Raises:
        ValueError: `from_logits=False` does not say which of the two it is.
    """
    if assumed and activation == "softmax":
        allowed = f"'sigmoid' or 'softmax' for the {role}, as a loss is for sigmoids"
        raise ValueError(arguments.message("from_logits", allowed, False))


def _trace(model: Any, index: int) -> Head | None:
    """The head that an output of a model comes from, or None if it cannot be told."""
    if not graph.is_functional(model) or index >= len(model.outputs):
        return None
    calls, tensor = graph.graph_of(model), model.outputs[index]
    moved = ""  # what happens to the classes behind the head
    for _ in range(20):
        node = calls.producer(tensor)
        if node is None:
            return None
        operation = node.operation
        if isinstance(operation, keras.Model):
            place = [id(one) for one in node.outputs].index(id(tensor))
            return _beside(_trace(operation, place), moved)
        if type(operation).__name__ in _THROUGH and len(node.inputs) == 1:
            moved = moved or _moves_classes(operation, node.inputs[0], tensor)
            tensor = node.inputs[0]
            continue
        head = _head_of(operation, len(tensor.shape))
        through = isinstance(operation, keras.layers.Activation)
        if head is not None and head.activation == "linear" and through:
            tensor = node.inputs[0]
            continue
        return _beside(head, moved)
    return None


def _beside(head: Head | None, moved: str) -> Head | None:
    """A head whose outputs are moved; only a softmax belongs to an axis."""
    if head is None or not moved or head.activation != "softmax" or head.problem:
        return head
    return dataclasses.replace(head, layer=None, problem=moved)


def _moves_classes(operation: Any, before: Any, after: Any) -> str:
    kind, name = type(operation).__name__, operation.name
    if kind == "Permute" and operation.dims[-1] != len(operation.dims):
        return f"the layer {name!r} moves the axis of the classes"
    if before.shape[-1] != after.shape[-1]:
        return f"the layer {name!r} changes the last axis behind the softmax"
    return ""


def _head_of(operation: Any, rank: int) -> Head | None:
    if isinstance(operation, keras.layers.TimeDistributed):
        inner = _head_of(operation.layer, rank - 1)
        return None if inner is None else dataclasses.replace(inner, layer=None)
    if _changes_weights_alone(operation):
        return _head_of(operation.layer, rank)
    name = type(operation).__name__.lower()
    if name == "softmax" and getattr(operation, "axis", -1) not in (-1, rank - 1):
        return Head("softmax", problem=f"a softmax along axis {operation.axis}")
    if isinstance(operation, keras.layers.Softmax):
        return Head("softmax", operation, CALL)
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


def _agrees(head: Head, said: bool | str) -> bool:
    if isinstance(said, str):
        return head.activation == said
    return (head.activation == "linear") == said


def _said(said: bool | str, shape: Any) -> Head:
    """A head that is not seen, as the user says it is."""
    if said is True:
        return Head("linear")
    if isinstance(said, str):
        return Head(said)
    one = bool(shape) and shape[-1] == 1
    return Head("sigmoid" if one else "softmax", assumed=True)


def _contradiction(role: str, model: Any, head: Head, said: bool | str) -> str:
    name = getattr(model, "name", role)
    end = "logits" if head.activation == "linear" else head.activation
    right = head.activation == "linear"
    allowed = f"{right} or 'auto' for the {role} {name!r}, which ends in {end}"
    hint = "A dict says it for each model: {'teacher': ..., 'student': ...}."
    return arguments.message("from_logits", allowed, said, hint)


def _unknown(role: str, model: Any, index: int) -> str:
    name = getattr(model, "name", getattr(model, "__name__", role))
    allowed = (
        f"True, False, 'softmax' or 'sigmoid' for the {role} {name!r}, of whose output "
        f"{index} nothing shows whether it is logits"
    )
    hint = f"For one model only: from_logits={{'{role}': True}}."
    return arguments.message("from_logits", allowed, "auto", hint)
