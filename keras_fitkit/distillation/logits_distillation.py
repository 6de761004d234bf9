"""LogitsDistillation: the soft targets of Hinton, Vinyals and Dean."""

from __future__ import annotations

from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation import logits_maths as maths

_LOSSES = ("kl_divergence", "categorical_crossentropy")


@serializable
class LogitsDistillation(base.DistillationLoss):
    """The student learns the teacher's softened probabilities.

    `T**2 * KL(softmax(teacher / T) || softmax(student / T))`, summed over the classes;
    for sigmoid heads the sum of the Bernoulli divergences. The gradient is
    `T * (softmax(student / T) - softmax(teacher / T))`: zero where the two agree,
    and of the same size at any temperature. It is computed from logits: where a head
    ends in softmax or sigmoid the distiller takes what goes into it.

    Args:
        temperature: > 0; larger is softer. It is kept in a variable of that name, which
            `kf.HyperparameterSchedule` can change. Defaults to 3.
        loss: "kl_divergence", or as in Keras a `keras.losses.KLDivergence()`. The cross
            entropy with soft targets has the same gradient, so
            "categorical_crossentropy" is the same here. Defaults to "kl_divergence".
        standardize: whether the logits get mean 0 and standard deviation 1 first, so
            that the student need not have the teacher's scale; a deviation below 0.01
            counts as 0.01. Defaults to False.
        activation: "softmax" (one class of several), "sigmoid" (each unit for itself)
            or "auto": sigmoid for heads that end in one and for one unit, else softmax.
        output: the name or number of one output of a model with several; None: all,
            added. Defaults to None.
        name: of the loss, in the logs too. Defaults to None: from its class.

    Inputs and values: logits (batch, ..., classes); (batch, ...).

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import numpy as np, keras
        >>> from keras_fitkit.distillation import LogitsDistillation
        >>> teacher, student = np.array([[0.0, 40, 0]]), np.array([[40.0, 0, 0]])
        >>> values = LogitsDistillation(temperature=1.0)(teacher, student)
        >>> keras.ops.convert_to_numpy(values).round(3).tolist()
        [40.0]

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
        arXiv:1503.02531, eq. 1 (the softmax) and 2 (the gradient). `standardize`: Sun
        et al., "Logit Standardization in Knowledge Distillation", 2024,
        arXiv:2403.01427, algorithms 1 and 2 (its softmax has no number).
    """

    def __init__(
        self,
        temperature: float = 3.0,
        loss: Any = "kl_divergence",
        *,
        standardize: bool = False,
        activation: str = "auto",
        output: str | int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        start = arguments.number("temperature", temperature, low=0, include_low=False)
        self._start = start
        if isinstance(loss, keras.losses.KLDivergence):
            loss = "kl_divergence"
        if isinstance(loss, keras.losses.CategoricalCrossentropy):
            loss = "categorical_crossentropy"
        self.loss = arguments.choice("loss", loss, _LOSSES)
        self.standardize = arguments.flag("standardize", standardize)
        kinds = ("auto", "softmax", "sigmoid")
        self.activation = arguments.choice("activation", activation, kinds)
        self.output_key = base.check_output(output)
        self.temperature = self.scalar("temperature", start)
        self._sigmoid: bool | None = None
        if activation != "auto":
            self._sigmoid = activation == "sigmoid"

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Refuses another number of classes; tells softmax from sigmoid.

        Raises:
            ValueError: the classes differ, or the heads of two outputs do.
        """
        refuse_other_classes(teacher, student)
        if student.classes == 1 and (self.activation == "softmax" or self.standardize):
            name = "standardize" if self.standardize else "activation"
            allowed = "its default for one unit, which is always the same here"
            received = getattr(self, name)
            raise ValueError(arguments.message(name, allowed, received))
        if self.activation == "auto" and student.classes != 1:
            heads = {teacher.activation, student.activation} & {"softmax", "sigmoid"}
            if len(heads) > 1:
                allowed = "'softmax' or 'sigmoid' where the heads of the models differ"
                raise ValueError(arguments.message("activation", allowed, "auto"))
            sigmoid = heads == {"sigmoid"}
            if self._sigmoid not in (None, sigmoid):
                allowed = "one output where the heads are of different kinds"
                hint = "Give each output a LogitsDistillation of its own."
                raise ValueError(arguments.message("output", allowed, None, hint))
            self._sigmoid = sigmoid

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """The divergence of each sample from its teacher."""
        base.refuse_broadcast(self, teacher_outputs, student_outputs)
        teacher, student = teacher_outputs, student_outputs
        if self.standardize:
            teacher, student = maths.standardized(teacher), maths.standardized(student)
        sigmoid = self._sigmoid
        if self.activation == "auto" and student.shape[-1] == 1:
            sigmoid = True
        kl = maths.bernoulli_kl if sigmoid else maths.softmax_kl
        return kl(teacher, student, maths.single(self.temperature))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "temperature": self._start,
            "loss": self.loss,
            "standardize": self.standardize,
            "activation": self.activation,
            "output": self.output_key,
        }


def refuse_other_classes(teacher: base.OutputSpec, student: base.OutputSpec) -> None:
    """Raises where the last axes differ, in words that a user expects there."""
    counts = (teacher.classes, student.classes)
    if None not in counts and counts[0] != counts[1]:
        allowed = f"a model with the {counts[0]} classes of {teacher.where}"
        raise ValueError(arguments.message("student", allowed, str(student)))
    base.refuse_other_shape(teacher, student)
