"""DistillationLoss: the base class, and what it is told of the two models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit.distillation import masks

Shape = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """What a loss may know of an output or a layer before the first step.

    Args:
        where: the model and the layer, in words, for messages.
        shape: with None for the batch and for every size that is not fixed; None
            where nothing is known (a teacher that is a function).
        activation: "softmax", "sigmoid" or "linear" as the head has it; "" for a layer
            within.
        assumed: whether the activation was said to be that of probabilities, and not
            of which kind.

    Raises:
        TypeError, ValueError: `assumed` or an activation of another kind.

    Example:
        >>> from keras_fitkit.distillation import OutputSpec
        >>> OutputSpec("the teacher's output", (None, 10), "softmax").classes
        10
    """

    where: str
    shape: Shape | None
    activation: str = ""
    assumed: bool = False

    def __post_init__(self) -> None:
        arguments.flag("assumed", self.assumed)
        if self.activation:
            arguments.choice(
                "activation", self.activation, ("softmax", "sigmoid", "linear")
            )

    @property
    def classes(self) -> int | None:
        """The size of the last axis, where that is known."""
        return self.shape[-1] if self.shape else None

    def __str__(self) -> str:
        return f"{self.where} {self.shape}"


class DistillationLoss(keras.layers.Layer):
    """Base of the distillation losses; subclass it for one of your own.

    Define `compute_loss`, and return one value for each sample (or for each token or
    pixel of it): the `Distiller` takes the mean, with sample weights and masks. A loss
    that gives one number for a whole batch works, but nothing can weight it. Masks and
    weights that have other positions than the values are fitted to these: a value
    counts if one of the positions it covers does (in both models, for features), and a
    sample has the mean of its weights. What is summed or pooled within `compute_loss`
    is the loss's own affair: `mask_of` tells it what is padding.

    Class attributes say what is given to `compute_loss`: `reads` is "logits" (the
    default; probabilities are turned into logits before) or "features" (outputs of
    layers as they are, with `teacher_layer_name` and `student_layer_name`, None for the
    model's own output); `needs_labels` whether the labels are passed on.

    It is a Keras layer: variables made with `add_weight`, and layers that are its
    attributes, train with the student, are saved with the distiller, and are no part of
    the student. They have no regularizers: a penalty would be in the student's
    `val_loss`. `get_config` gives back the constructor's arguments.

    A distiller that is given a loss which another one has takes a new one of its
    config, with projectors and queues of its own: `distiller.distillation_losses` has
    it. One with weights needs a `get_config` that fits its constructor for that.
    Numbers made with `scalar` (a temperature) stay those of the object given, so that a
    schedule reaches them.

    Args:
        name: of the loss, in the logs too. Defaults to None: from its class.

    Raises:
        NotImplementedError: `compute_loss` is not defined.
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import numpy as np, keras
        >>> from keras import ops
        >>> from keras_fitkit.distillation import DistillationLoss
        >>> class SquaredLogits(DistillationLoss):
        ...     def compute_loss(self, teacher_outputs, student_outputs, labels=None):
        ...         difference = student_outputs - teacher_outputs
        ...         return ops.mean(ops.square(difference), axis=-1)
        >>> loss = SquaredLogits()
        >>> values = loss(np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]]))
        >>> keras.ops.convert_to_numpy(values).tolist()
        [2.0]
    """

    reads: ClassVar[str] = "logits"
    needs_labels: ClassVar[bool] = False

    def __init__(self, *, name: str | None = None) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            allowed = "a text that is not empty, or None"
            raise TypeError(arguments.message("name", allowed, name))
        super().__init__(name=name, dtype="float32")  # whatever the models compute in
        self.given_name = name
        self.teacher_layer_name: str | None = None
        self.student_layer_name: str | None = None
        self.output_key: str | int | None = None
        self.in_use = False  # a distiller has it
        self._scalars: list[str] = []

    def prepare(self, teacher: OutputSpec, student: OutputSpec) -> None:
        """Called by the distiller before the first step, once for each output.

        Checks here what can be checked, and makes projectors. The base class refuses
        shapes that differ; override it where they may.

        Args:
            teacher: what is known of the teacher's output.
            student: what is known of the student's.

        Raises:
            ValueError: the loss cannot be computed of these two.
        """
        refuse_other_shape(teacher, student)

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """The loss of each sample.

        Args:
            teacher_outputs: a tensor of the teacher, without gradient.
            student_outputs: the student's.
            labels: the labels of the batch, for a class that `needs_labels`.

        Returns:
            float32, (batch, ...).

        Raises:
            NotImplementedError: in the base class.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must define compute_loss.")

    @staticmethod
    def mask_of(outputs: Any) -> Any:
        """Which positions of what `compute_loss` was given count.

        Of the teacher's tensor and the student's each its own. Logits have none: they
        are made of the outputs.

        Args:
            outputs: `teacher_outputs` or `student_outputs`, (batch, ..., channels).

        Returns:
            bool, with the axes of `outputs` but the last (of size 1 where it is the
            same along one); None where all count.
        """
        return masks.mask_of(outputs)

    def call(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """`compute_loss`."""
        return self.compute_loss(teacher_outputs, student_outputs, labels)

    def get_build_config(self) -> None:
        """Nothing: the distiller prepares a loss that is loaded, as a new one."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.given_name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The loss that `get_config` described."""
        return cls(**config)

    def for_another(self) -> Any:
        """A loss of the same config, as for a new student.

        Raises:
            ValueError: it has weights, and a config that does not describe it.
        """
        hint = f"Make a new {type(self).__name__} for each distiller."
        own, known = (_depth(self, name) for name in ("__init__", "get_config"))
        if own < known:  # its arguments are not in its config
            if not self.variables:
                return self  # nothing to share
            allowed = "losses that no other distiller has, or with a `get_config`"
            text = arguments.message("distillation_losses", allowed, self.name, hint)
            raise ValueError(text)
        made = self._again()
        if {id(one) for one in made.variables} & {id(one) for one in self.variables}:
            allowed = "losses without the weights of another distiller's"
            text = arguments.message("distillation_losses", allowed, self.name, hint)
            raise ValueError(text)
        if not _share(self._scalars, self, made):
            allowed = "losses whose weights are attributes, in the order they were made"
            text = arguments.message("distillation_losses", allowed, self.name, hint)
            raise ValueError(text)
        return made

    def _again(self) -> Any:
        return type(self).from_config(self.get_config())

    def scalar(self, name: str, value: float) -> Any:
        """A number in a variable, so that a schedule can change it.

        Make it the attribute `name` in the constructor.
        """
        self._scalars.append(name)
        initializer = keras.initializers.Constant(value)
        return self.add_weight(
            name=name, shape=(), initializer=initializer, trainable=False
        )


def _share(names: Sequence[str], loss: Any, made: Any) -> bool:
    """Gives one loss the numbers of another; whether its weights keep their order.

    A file knows them by it.
    """
    shared = {
        id(getattr(made, name)): getattr(loss, name)
        for name in names
        if hasattr(loss, name) and hasattr(made, name)
    }
    wanted = [shared.get(id(one), one) for one in made.non_trainable_variables]
    for name, one in list(vars(made).items()):
        if isinstance(one, keras.Variable) and not one.trainable:
            delattr(made, name)  # Keras forgets a variable no other way
            setattr(made, name, shared.get(id(one), one))
    found = made.non_trainable_variables
    return [id(one) for one in found] == [id(one) for one in wanted]


def _depth(loss: DistillationLoss, name: str) -> int:
    """How far up among its classes a method is defined."""
    return next(i for i, one in enumerate(type(loss).__mro__) if name in vars(one))


def refuse_penalties(argument: str, owner: Any) -> None:
    """A penalty would be added to the student's own, in `val_loss` too.

    Raises:
        ValueError: a layer or a weight with a regularizer.
    """
    found = [
        f"{layer.name!r} has `{name}`"
        for layer in (owner, *(one for _, one in leaf_layers(owner)))
        if layer.trainable  # of others Keras takes no penalty
        for name, value in vars(layer).items()
        if name.endswith("_regularizer") and value is not None
    ]
    found += [
        f"{one.path!r} has one"
        for one in owner.trainable_variables
        if getattr(one, "regularizer", None) is not None
    ]
    if found:
        hint = "The optimizer's `weight_decay` reaches it as well."
        allowed = f"without regularizers; {found[0]}"
        raise ValueError(arguments.message(argument, allowed, owner, hint))


def refuse_other_shape(teacher: OutputSpec, student: OutputSpec) -> None:
    """Raises where two shapes are not the same as far as they are known."""
    if teacher.shape is None or student.shape is None:
        return
    same = len(teacher.shape) == len(student.shape) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(teacher.shape[1:], student.shape[1:], strict=True)
    )
    if not same:
        allowed = f"a model whose shape agrees with that of {teacher}"
        raise ValueError(arguments.message("student", allowed, str(student)))


def refuse_broadcast(owner: Any, teacher: Any, student: Any) -> None:
    """The same for tensors, at the time of tracing."""
    name = owner.name
    refuse_other_shape(
        OutputSpec(f"the teacher's tensor for {name}", tuple(teacher.shape)),
        OutputSpec(f"the student's tensor for {name}", tuple(student.shape)),
    )


def one_hot(labels: Any, like: Any) -> Any:
    """Labels as one-hot rows of the shape of `like` (logits).

    Of rows that are smoothed or mixed the largest entry, the first of equal ones; a row
    of zeros stays one.

    Raises:
        ValueError: labels of another shape.
    """
    classes, rank = like.shape[-1], len(like.shape)
    found = labels
    if len(found.shape) == rank and found.shape[-1] == classes and classes != 1:
        rows = ops.cast(found, "float32")
        largest = ops.one_hot(ops.argmax(rows, axis=-1), classes, dtype="float32")
        return largest * ops.cast(rows > 0, "float32")
    if len(found.shape) == rank and found.shape[-1] == 1:
        found = ops.squeeze(found, axis=-1)
    if len(found.shape) != rank - 1:
        allowed = f"integers or one-hot rows for logits of shape {tuple(like.shape)}"
        received = f"shape {tuple(labels.shape)}"
        raise ValueError(arguments.message("y", allowed, received))
    return ops.one_hot(ops.cast(found, "int32"), classes, dtype="float32")


def check_output(value: object) -> str | int | None:
    """The argument `output`: the name or the number of one output, or None."""
    if value is None or (isinstance(value, str) and value):
        return value
    return arguments.integer("output", value, low=0)


def check_layers(teacher: object, student: object) -> None:
    """The two layer names of a loss on features: both, or neither."""
    for name, value in (
        ("teacher_layer_name", teacher),
        ("student_layer_name", student),
    ):
        if value is not None and (not isinstance(value, str) or not value):
            allowed = "the path of a layer, such as 'backbone/block3', or None"
            raise TypeError(arguments.message(name, allowed, value))
    if (teacher is None) != (student is None):
        missing = "teacher_layer_name" if teacher is None else "student_layer_name"
        hint = "Both None: the outputs of the models."
        allowed = "given where the other layer name is"
        raise ValueError(arguments.message(missing, allowed, None, hint))
