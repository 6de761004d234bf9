"""ContrastiveDistillation: the student's features tell which sample they are of."""

from __future__ import annotations

from typing import Any, ClassVar

from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation import feature_maths as maths
from keras_fitkit.distillation import masks as padding
from keras_fitkit.distillation import matching


@serializable
class ContrastiveDistillation(base.DistillationLoss):
    """A student's embedding is nearest to the teacher's of the same sample.

    InfoNCE: the cross entropy of "which sample of the batch is it" with the cosines of
    the embeddings over `temperature`. Features are pooled to vectors, without padding,
    and projected to `dim` numbers by a linear layer each; both projectors train with
    the student.

    It is not CRD (Tian, Krishnan and Isola, "Contrastive Representation Distillation",
    2019, arXiv:1910.10699). That draws thousands of negatives from a memory of all the
    data, can leave out those of the same class, and estimates a density ratio by a
    sigmoid. Here the negatives are the other samples of the batch and, with `queue`, of
    the batches before it; samples of the same class are among them. The queue holds the
    teacher's features before the projector, so that they never grow stale.

    A sample is no negative of itself: rows of the batch and of the queue for which the
    teacher gives the same up to rounding are left out. Augmentation hides that, so with
    it keep the queue shorter than an epoch.

    Args:
        teacher_layer_name: path of the teacher's layer, such as "backbone/block4". None
            with None for the student: the outputs. Defaults to None.
        student_layer_name: path of the student's layer. Defaults to None.
        dim: numbers of an embedding, >= 1. Defaults to 128.
        temperature: > 0, in a variable of that name. Defaults to 0.1.
        queue: rows of earlier batches to compare with, >= 0. On several replicas it
            holds those of the first. Defaults to 0: none.
        name: of the loss, in the logs too. Defaults to None: from its class.

    Inputs and values: (batch, ..., channels); (batch,). A sample weight is the weight
    of the sample that is looked for.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> from keras_fitkit.distillation import ContrastiveDistillation
        >>> loss = ContrastiveDistillation("features", "features", dim=64, queue=4096)
        >>> loss.get_config()["dim"]
        64

    References:
        van den Oord, Li and Vinyals, "Representation Learning with Contrastive
        Predictive Coding", 2018, arXiv:1807.03748, eq. 4 (InfoNCE).
    """

    reads: ClassVar[str] = "features"

    def __init__(
        self,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        *,
        dim: int = 128,
        temperature: float = 0.1,
        queue: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        base.check_layers(teacher_layer_name, student_layer_name)
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name
        self.dim = arguments.integer("dim", dim, low=1)
        start = arguments.number("temperature", temperature, low=0, include_low=False)
        self._start = start
        self.queue = arguments.integer("queue", queue, low=0)
        self.temperature = self.scalar("temperature", start)
        self.teacher_projector: Any = None
        self.student_projector: Any = None
        self._rows: Any = None
        self._present: Any = None

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Makes both projectors and the queue.

        Raises:
            ValueError: the width of the features is not known.
        """
        if self.teacher_projector is not None:
            return
        for one in (teacher, student):
            if one.shape is None or one.classes is None:
                allowed = "models whose features have a known width"
                raise ValueError(arguments.message("teacher", allowed, str(one)))
        made = [
            matching.linear_projector((None, one.classes), self.dim, name, False)
            for one, name in ((teacher, "teacher_side"), (student, "student_side"))
        ]
        self.teacher_projector, self.student_projector = made
        if self.queue:
            # Written in the step: replicas must not drift apart.
            given = {"initializer": "zeros", "trainable": False}
            given["aggregation"] = "only_first_replica"
            shape = (self.queue, teacher.classes)
            self._rows = self.add_weight(name="queue", shape=shape, **given)
            self._present = self.add_weight(
                name="present", shape=(self.queue,), **given
            )

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """The cross entropy of each sample.

        Raises:
            ValueError: the loss is not prepared: it has no projectors.
        """
        if self.teacher_projector is None:
            hint = "A Distiller does that."
            text = arguments.message("teacher", "prepared", None, hint)
            raise ValueError(text)
        teacher, student = (
            matching.pooled_to_vector(maths.single(one), padding.mask_of(one))
            for one in (teacher_outputs, student_outputs)
        )
        keys = maths.unit(self.teacher_projector(teacher))
        asked = maths.unit(self.student_projector(student))
        temperature = maths.single(self.temperature)
        teacher = ops.stop_gradient(teacher)
        place = ops.arange(ops.shape(teacher)[0])
        elsewhere = ops.cast(place[:, None] != place[None, :], "float32")
        copies = maths.alike(teacher, teacher) * elsewhere
        if self._rows is None:
            return maths.contrast(keys, asked, temperature, copies=copies)
        rows = ops.copy(self._rows)
        others = maths.unit(self.teacher_projector(rows))
        present = ops.copy(self._present) * (1 - maths.alike(teacher, rows))
        values = maths.contrast(keys, asked, temperature, others, present, copies)
        self._put(teacher)
        return values

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
            "dim": self.dim,
            "temperature": self._start,
            "queue": self.queue,
        }

    def _put(self, teacher: Any) -> None:
        """The newest rows first; the oldest fall off."""
        rows = ops.concatenate([teacher, self._rows], axis=0)[: self.queue]
        fresh = ops.ones_like(teacher[:, 0])
        present = ops.concatenate([fresh, self._present], axis=0)[: self.queue]
        self._rows.assign(rows)
        self._present.assign(present)
