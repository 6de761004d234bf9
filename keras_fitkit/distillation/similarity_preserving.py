"""SimilarityPreserving: which samples are alike."""

from __future__ import annotations

from typing import Any, ClassVar

from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation import feature_maths as maths
from keras_fitkit.distillation import masks


@serializable
class SimilarityPreserving(base.DistillationLoss):
    """Samples that are alike for the teacher are alike for the student.

    `||G_teacher - G_student||**2 / batch**2`, where `G` is `F @ F.T` of the flattened
    features with rows of length 1. Widths may differ. Padding is zeros, which add
    nothing. It compares the samples of a batch: a sample weight is the weight of a row,
    and on several replicas each compares its own share of the batch.

    Args:
        teacher_layer_name: path of the teacher's layer, such as "backbone/block4". None
            with None for the student: the outputs. Defaults to None.
        student_layer_name: path of the student's layer. Defaults to None.
        name: of the loss, in the logs too. Defaults to None: from its class.

    Inputs and values: (batch, ...); (batch,), whose mean is the loss.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import numpy as np, keras
        >>> from keras_fitkit.distillation import SimilarityPreserving
        >>> features = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> values = SimilarityPreserving()(features, 3 * features)
        >>> keras.ops.convert_to_numpy(values).tolist()
        [0.0, 0.0]

    References:
        Tung and Mori, "Similarity-Preserving Knowledge Distillation", 2019,
        arXiv:1907.09682, eq. 4.
    """

    reads: ClassVar[str] = "features"

    def __init__(
        self,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        base.check_layers(teacher_layer_name, student_layer_name)
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Takes features of any shape."""

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """The share of each sample."""
        both = teacher_outputs, student_outputs
        return maths.similarity(*map(masks.without_padding, both))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
        }
