"""RelationalDistillation: distances and angles between samples."""

from __future__ import annotations

from typing import Any, ClassVar

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation import feature_maths as maths
from keras_fitkit.distillation import masks


@serializable
class RelationalDistillation(base.DistillationLoss):
    """Samples lie to one another as they do for the teacher.

    `distance_weight` times Huber's loss of the pairwise distances, which have mean 1 in
    a batch, plus `angle_weight` times that of the cosines of all angles. Widths may
    differ. Padding is zeros: sequences of unlike length lie apart by what one has more.
    It compares the samples of a batch: a sample weight is the weight of the sample at
    the vertex, and on several replicas each compares its own share of the batch. Angles
    take memory of the third power of the batch size. Points nearer to one
    another than a thousandth of their distance from the batch's middle count as one.
    Where products are rounded to TF32 (some GPUs, by default) near points are rougher.

    Args:
        teacher_layer_name: path of the teacher's layer, such as "backbone/block4". None
            with None for the student: the outputs. Defaults to None.
        student_layer_name: path of the student's layer. Defaults to None.
        distance_weight: >= 0; 0 leaves distances out. Defaults to 1.
        angle_weight: >= 0; 0 leaves angles out. Defaults to 2.
        name: of the loss, in the logs too. Defaults to None: from its class.

    Inputs and values: (batch, ...); (batch,), whose mean is the loss.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import numpy as np, keras
        >>> from keras_fitkit.distillation import RelationalDistillation
        >>> square = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
        >>> values = RelationalDistillation()(square, 5 * square + 2)
        >>> float(keras.ops.max(values)) < 1e-6
        True

    References:
        Park et al., "Relational Knowledge Distillation", 2019, arXiv:1904.05068, eq. 5
        to 8 (distances, their mean, the loss, Huber's) and 9 to 10 (angles).
    """

    reads: ClassVar[str] = "features"

    def __init__(
        self,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        *,
        distance_weight: float = 1.0,
        angle_weight: float = 2.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        base.check_layers(teacher_layer_name, student_layer_name)
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name
        distance = arguments.number("distance_weight", distance_weight, low=0)
        self.distance_weight = distance
        self.angle_weight = arguments.number("angle_weight", angle_weight, low=0)
        if not self.distance_weight and not self.angle_weight:
            allowed = "above 0 where `distance_weight` is 0"
            raise ValueError(arguments.message("angle_weight", allowed, angle_weight))

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Takes features of any shape."""

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """The share of each sample."""
        found = 0.0
        both = teacher_outputs, student_outputs
        teacher, student = map(masks.without_padding, both)
        if self.distance_weight:
            found += self.distance_weight * maths.distances(teacher, student)
        if self.angle_weight:
            found += self.angle_weight * maths.angles(teacher, student)
        return found

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
            "distance_weight": self.distance_weight,
            "angle_weight": self.angle_weight,
        }
