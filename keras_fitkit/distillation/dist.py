"""DIST: correlation in the place of divergence."""

from __future__ import annotations

from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation import logits_maths as maths
from keras_fitkit.distillation.logits_distillation import refuse_other_classes


@serializable
class DIST(base.DistillationLoss):
    """The student keeps the teacher's relations, not its very probabilities.

    `beta * (1 - r)` with Pearson's `r` over the classes of a sample, plus
    `gamma * (1 - r)` over the samples of a class, the mean of the classes: for teachers
    so strong that a small student cannot match them. The second part belongs to the
    batch: each sample has the same value of it, and a batch of one sample has none. A
    correlation does not shrink with the temperature, so there is no factor `T**2`.

    Args:
        beta: between the classes of a sample, >= 0. Defaults to 1.
        gamma: between the samples of a class, >= 0. Defaults to 1.
        temperature: > 0, in a variable of that name. Defaults to 1.
        output: the name or number of one output of a model with several; None: all,
            added. Defaults to None.
        name: of the loss, in the logs too. Defaults to None: from its class.

    Inputs and values: logits (batch, classes); (batch,).

    Raises:
        TypeError, ValueError: an argument outside its range, by name; outputs that are
            not (batch, classes) with two classes or more.

    Example:
        >>> import numpy as np, keras
        >>> from keras_fitkit.distillation import DIST
        >>> logits = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 0.0]])
        >>> abs(float(keras.ops.max(DIST()(logits, logits)))) < 1e-6
        True

    References:
        Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022,
        arXiv:2205.10536, eq. 6 and 7 (the distance), 8 (the classes of a sample), 9
        (the samples of a class) and 10 (their sum; there beta and gamma are 2 beside a
        label loss of weight 1).
    """

    _sigmoid = False  # it reads a softmax

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        *,
        output: str | int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.beta = arguments.number("beta", beta, low=0)
        self.gamma = arguments.number("gamma", gamma, low=0)
        start = arguments.number("temperature", temperature, low=0, include_low=False)
        self._start = start
        self.output_key = base.check_output(output)
        self.temperature = self.scalar("temperature", start)

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Refuses outputs that are not (batch, classes) of a softmax.

        Raises:
            ValueError: names what does not fit.
        """
        refuse_other_classes(teacher, student)
        for role, one in (("teacher", teacher), ("student", student)):
            wrong_shape = one.shape is not None and len(one.shape) != 2
            if wrong_shape or one.activation == "sigmoid" or (one.classes or 3) < 2:
                allowed = "a model with a softmax of shape (batch, classes)"
                hint = "For positions, sigmoids and one unit: LogitsDistillation."
                raise ValueError(arguments.message(role, allowed, str(one), hint))

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """Both parts, for each sample."""
        base.refuse_broadcast(self, teacher_outputs, student_outputs)
        temperature = maths.single(self.temperature)
        return maths.relations(
            teacher_outputs, student_outputs, temperature, self.beta, self.gamma
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "beta": self.beta,
            "gamma": self.gamma,
            "temperature": self._start,
            "output": self.output_key,
        }
