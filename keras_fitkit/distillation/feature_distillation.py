"""FeatureDistillation: the student's features become the teacher's."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any, ClassVar

import keras

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation import feature_maths as maths
from keras_fitkit.distillation import masks as padding
from keras_fitkit.distillation import matching

_LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "mse": maths.squared_error,
    "mae": maths.absolute_error,
    "cosine_similarity": maths.cosine_distance,
}
_OF_KERAS = {
    "MeanSquaredError": "mse",
    "MeanAbsoluteError": "mae",
    "CosineSimilarity": "cosine_similarity",
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
}


@serializable
class FeatureDistillation(base.DistillationLoss):
    """A layer of the student is to give what a layer of the teacher gives.

    The mean squared difference (or another one) of the teacher's features and the
    student's. Where the student has another number of channels, a projector is put
    between: it trains with the student and is no part of it. Where the teacher's map is
    larger or smaller, the larger one is pooled. Padding is left out of what is pooled
    and of the loss. Channels are the last axis here, whatever the layer's
    `data_format`.

    Args:
        teacher_layer_name: path of the teacher's layer, such as "backbone/block4"; of
            several teachers "0/backbone/block4" is one of the first. None with None
            for the student: the outputs of the models as they are. Defaults to None.
        student_layer_name: path of the student's layer. Defaults to None.
        loss: "mse", "mae" or "cosine_similarity" (1 minus the cosine, over the
            channels), or Keras's loss objects of these. Defaults to "mse".
        projector: "auto" (Dense, or a 1 x 1 convolution for images, where the channels
            differ), None, or a Keras layer of one's own without regularizers, applied
            to the student's features; one that is built already is for one distiller
            alone. Defaults to "auto".
        name: of the loss, in the logs too. Defaults to None: from its class.

    Inputs and values: (batch, ..., channels); (batch, ...).

    Raises:
        TypeError, ValueError: an argument outside its range, by name; features that
            would have to be broadcast.

    Example:
        >>> import numpy as np, keras
        >>> from keras_fitkit.distillation import FeatureDistillation
        >>> teacher, student = np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]])
        >>> values = FeatureDistillation()(teacher, student)
        >>> keras.ops.convert_to_numpy(values).tolist()  # (0 + 4) / 2
        [2.0]

    References:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2014, arXiv:1412.6550,
        eq. 3, without its factor 1/2 and with a mean for the sum.
    """

    reads: ClassVar[str] = "features"

    def __init__(
        self,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        loss: Any = "mse",
        *,
        projector: Any = "auto",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        base.check_layers(teacher_layer_name, student_layer_name)
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name
        self.loss = arguments.choice("loss", _plain_loss(loss), tuple(_LOSSES))
        if not (projector is None or projector == "auto") and not isinstance(
            projector, keras.layers.Layer
        ):
            allowed = "'auto', None or a keras.layers.Layer"
            raise TypeError(arguments.message("projector", allowed, projector))
        if isinstance(projector, keras.layers.Layer):
            base.refuse_penalties("projector", projector)
        self._automatic = isinstance(projector, str)
        self.projector: Any = None if self._automatic else projector
        self._new_projector: Any = None  # like the one given, for another width
        if isinstance(projector, keras.layers.Layer) and not projector.built:
            with contextlib.suppress(NotImplementedError):
                kind, own = type(projector), copy.deepcopy(projector.get_config())
                self._new_projector = lambda: kind.from_config(copy.deepcopy(own))

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Makes the projector.

        Raises:
            ValueError: the features do not agree, and nothing is to make them agree.
        """
        if not self._automatic:
            shape = student.shape
            if self.projector is not None and shape is not None:
                if not self.projector.built:
                    self.projector.build((None, *shape[1:]))
                shape = self.projector.compute_output_shape(shape)
            projected = base.OutputSpec(student.where, shape)
            return base.refuse_other_shape(teacher, projected)
        wanted, given = matching.aligned_shapes(teacher, student)
        if wanted[-1] != given[-1]:
            made = matching.linear_projector(
                given, wanted[-1], f"{self.name}_projector"
            )
            self.projector = made
        return None

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """The difference at each sample and position."""
        teacher, student = maths.single(teacher_outputs), maths.single(student_outputs)
        masks = padding.mask_of(teacher_outputs), padding.mask_of(student_outputs)
        if self._automatic:
            teacher, student = matching.aligned(teacher, student, masks)
        elif self.projector is not None:
            student = padding.same_mask(student, student_outputs)
        if self.projector is not None:
            student = maths.single(self.projector(student))
        base.refuse_broadcast(self, teacher, student)
        return _LOSSES[self.loss](teacher, student)

    def _again(self) -> Any:
        config = self.get_config()
        if not self._automatic and self.projector is not None:
            if self._new_projector is None:  # built: its weights may be meant
                allowed = "a layer that is not built, where several distillers have it"
                hint = "Make a new FeatureDistillation for each distiller."
                text = arguments.message("projector", allowed, self.projector, hint)
                raise ValueError(text)
            config["projector"] = self._new_projector()
        return type(self).from_config(config)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = None
        if self.projector is not None:
            own = keras.saving.serialize_keras_object(self.projector)
        return {
            **super().get_config(),
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
            "loss": self.loss,
            "projector": "auto" if self._automatic else own,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The loss that `get_config` described."""
        if isinstance(config.get("projector"), dict):
            layer = keras.saving.deserialize_keras_object(config["projector"])
            config = {**config, "projector": layer}
        return cls(**config)


def _plain_loss(loss: Any) -> Any:
    """The name of a loss object or function of Keras, or what was given."""
    if isinstance(loss, str):
        return _OF_KERAS.get(loss, loss)
    name = getattr(loss, "__name__", type(loss).__name__)
    return _OF_KERAS.get(name, loss)
