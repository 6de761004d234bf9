"""AttentionTransfer: where the student looks."""

from __future__ import annotations

from typing import Any, ClassVar

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation import feature_maths as maths
from keras_fitkit.distillation import masks as padding
from keras_fitkit.distillation import matching


@serializable
class AttentionTransfer(base.DistillationLoss):
    """The student's feature map is strong where the teacher's is.

    A map is the mean square over the channels, as a vector of length 1; the loss is the
    squared distance of the two (the paper has the distance, whose gradient is not
    defined where they agree). The number of channels may differ, and the larger map is
    pooled. What is padding for one of the two has no part in either map. Channels are
    the last axis here, whatever the layer's `data_format`.

    Args:
        teacher_layer_name: path of the teacher's layer, such as "backbone/block4".
        student_layer_name: path of the student's layer.
        name: of the loss, in the logs too. Defaults to None: from its class.

    Inputs and values: (batch, height, width, channels) or (batch, steps, channels);
    (batch,).

    Raises:
        TypeError, ValueError: an argument outside its range, by name; features without
            positions.

    Example:
        >>> import numpy as np, keras
        >>> from keras_fitkit.distillation import AttentionTransfer
        >>> loss = AttentionTransfer("block4", "block2")
        >>> left, right = np.zeros((2, 1, 1, 2, 3))
        >>> left[..., 0, :], right[..., 1, :] = 1.0, 1.0
        >>> keras.ops.convert_to_numpy(loss(left, right)).tolist()
        [2.0]

    References:
        Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the
        Performance of Convolutional Neural Networks via Attention Transfer", 2016,
        arXiv:1612.03928, eq. 2.
    """

    reads: ClassVar[str] = "features"

    def __init__(
        self,
        teacher_layer_name: str,
        student_layer_name: str,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        base.check_layers(teacher_layer_name, student_layer_name)
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Refuses features that have no positions.

        Raises:
            ValueError: names the layer.
        """
        for role, one in (("teacher", teacher), ("student", student)):
            if one.shape is None or len(one.shape) < 3:
                allowed = "a model whose features have positions"
                raise ValueError(arguments.message(role, allowed, str(one)))
        matching.aligned_shapes(teacher, student)

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """The squared distance of the maps of each sample."""
        both = teacher_outputs, student_outputs
        teacher, student = matching.aligned(
            maths.single(teacher_outputs),
            maths.single(student_outputs),
            (padding.mask_of(teacher_outputs), padding.mask_of(student_outputs)),
        )
        channel = slice(0, 1)  # channels may differ, nothing else
        base.refuse_broadcast(self, teacher[..., channel], student[..., channel])
        mask = padding.common(both, teacher.shape[1:-1])
        teacher, student = (padding.zeroed(one, mask) for one in (teacher, student))
        return maths.attention(teacher, student)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
        }
