"""Loss objects of `keras.distillation`, computed as they were meant."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import keras

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.distillation import distillation_loss as base
from keras_fitkit.distillation.feature_distillation import FeatureDistillation
from keras_fitkit.distillation.logits_distillation import LogitsDistillation

_SOFT = ("kl_divergence", "categorical_crossentropy")
_BROKEN = (
    "keras.distillation.LogitsDistillation computes {loss} of raw logits in Keras 3.12 "
    "to 3.15, which is no distillation. Here it is the divergence of the softmaxes, "
    "times temperature**2. Take keras_fitkit.distillation.LogitsDistillation."
)


@serializable
class KerasLoss(base.DistillationLoss):
    """A loss of `keras.distillation` that this package has nothing better for.

    It gives one number for a batch, so nothing can weight its samples.
    """

    reads: ClassVar[str] = "features"

    def __init__(self, loss: Any, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.loss = loss
        self.teacher_layer_name = getattr(loss, "teacher_layer_name", None)
        self.student_layer_name = getattr(loss, "student_layer_name", None)
        base.check_layers(self.teacher_layer_name, self.student_layer_name)

    def prepare(self, teacher: base.OutputSpec, student: base.OutputSpec) -> None:
        """Leaves the shapes to the loss."""

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, labels: Any = None
    ) -> Any:
        """What the loss gives."""
        return self.loss.compute_loss(teacher_outputs, student_outputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The loss that `get_config` described."""
        loss = config["loss"]
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        return cls(**{**config, "loss": loss})


def ours(loss: Any) -> list[base.DistillationLoss]:
    """A loss as losses of this package: several where it was one for each output.

    Raises:
        TypeError: it is no distillation loss.
    """
    if isinstance(loss, base.DistillationLoss):
        return [loss]
    theirs = keras.distillation
    if _computes_as(loss, theirs.LogitsDistillation):
        return _logits(loss)
    if _computes_as(loss, theirs.FeatureDistillation) and not _nested(loss.loss):
        try:
            return [
                FeatureDistillation(
                    loss.teacher_layer_name, loss.student_layer_name, loss.loss
                )
            ]
        except (TypeError, ValueError):
            if (loss.teacher_layer_name is None) != (loss.student_layer_name is None):
                raise
    if isinstance(loss, theirs.DistillationLoss):
        return [KerasLoss(loss)]
    allowed = "a DistillationLoss, or a list of them"
    hint = "For soft targets: keras_fitkit.distillation.LogitsDistillation()."
    raise TypeError(arguments.message("distillation_losses", allowed, loss, hint))


def _computes_as(loss: Any, kind: Any) -> bool:
    """Whether it is of a class and has no `compute_loss` of its own."""
    return isinstance(loss, kind) and type(loss).compute_loss is kind.compute_loss


def _logits(loss: Any) -> list[base.DistillationLoss]:
    found: list[base.DistillationLoss] = []
    if not _nested(loss.loss):
        pairs: list[tuple[Any, Any]] = [(None, loss.loss)]
    elif isinstance(loss.loss, dict):
        pairs = list(loss.loss.items())
    else:
        pairs = list(enumerate(loss.loss))
    broken = ""
    for output, one in pairs:
        if one is None:
            continue
        name = getattr(one, "__name__", getattr(one, "name", ""))
        if name not in _SOFT:
            return [KerasLoss(loss)]
        if not isinstance(one, keras.losses.KLDivergence):
            broken = name
        found.append(LogitsDistillation(loss.temperature, output=output))
    if broken:
        warnings.warn(_BROKEN.format(loss=broken), UserWarning, stacklevel=5)
    return found


def _nested(structure: Any) -> bool:
    return isinstance(structure, (list, tuple, dict))
