"""DecoupledDistillation: the target class and the others, each with its own weight."""

from __future__ import annotations

from typing import Any, ClassVar

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation import logits_maths as maths
from keras_fitkit.distillation.logits_distillation import refuse_other_classes


@serializable
class DecoupledDistillation(base.DistillationLoss):
    """Soft targets taken apart: how sure of the label, and how the rest is shared out.

    `T**2 * (alpha * TCKD + beta * NCKD)`. TCKD is the divergence of the pair "labelled
    class, any other"; NCKD that of the probabilities among the other classes, which
    plain soft targets drown where the teacher is sure. With `alpha=1` and `beta` the
    teacher's probability of "any other" it would be `LogitsDistillation`. It needs
    labels.

    Args:
        alpha: of TCKD, >= 0. Defaults to 1.
        beta: of NCKD, >= 0. Defaults to 8, the paper's for CIFAR-100 with most pairs.
        temperature: > 0, in a variable of that name. Defaults to 4.
        output: the name or number of one output of a model with several; None: all,
            added. Defaults to None.
        name: of the loss, in the logs too. Defaults to None: from its class.

    Inputs and values: logits (batch, ..., classes), labels as integers or one-hot;
    (batch, ...). Of rows that label smoothing, MixUp or CutMix have made the labelled
    class is the largest, the first of equal ones: both parts want one class.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; in a fit, labels
            that are missing.

    Example:
        >>> import numpy as np, keras
        >>> from keras_fitkit.distillation import DecoupledDistillation
        >>> logits, labels = np.array([[1.0, 2.0, 3.0]]), np.array([2])
        >>> values = DecoupledDistillation()(logits, logits, labels)
        >>> keras.ops.convert_to_numpy(values).round(6).tolist()
        [0.0]

    References:
        Zhao et al., "Decoupled Knowledge Distillation", 2022, arXiv:2203.08679,
        eq. 7.
    """

    needs_labels: ClassVar[bool] = True

    _sigmoid = False  # it reads a softmax

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        *,
        output: str | int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.alpha = arguments.number("alpha", alpha, low=0)
        self.beta = arguments.number("beta", beta, low=0)
        start = arguments.number("temperature", temperature, low=0, include_low=False)
        self._start = start
        self.output_key = base.check_output(output)
        self.temperature = self.scalar("temperature", start)

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Refuses another number of classes, and heads that are no softmax.

        Raises:
            ValueError: names what does not fit.
        """
        refuse_other_classes(teacher, student)
        for role, one in (("teacher", teacher), ("student", student)):
            if one.activation == "sigmoid" or (one.classes or 3) < 2:
                allowed = "a model with a softmax over two classes or more"
                hint = "For sigmoids, and for one unit: LogitsDistillation."
                raise ValueError(arguments.message(role, allowed, str(one), hint))

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """The weighted sum of both parts, for each sample.

        Raises:
            ValueError: labels are missing or of another shape.
        """
        base.refuse_broadcast(self, teacher_outputs, student_outputs)
        if labels is None:
            allowed = f"labels for {self.name}"
            raise ValueError(arguments.message("y", allowed, labels))
        return maths.decoupled(
            teacher_outputs,
            student_outputs,
            base.one_hot(labels, student_outputs),
            maths.single(self.temperature),
            self.alpha,
            self.beta,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "temperature": self._start,
            "output": self.output_key,
        }
