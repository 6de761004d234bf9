"""What the nets share: the check of an image's shape, and the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from keras_fitkit._core import arguments
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._plan import Tensor


def image_shape(
    value: object, classes: object, activation: Any
) -> tuple[int | None, ...]:
    """Three axes, integers >= 1; two of them may be None.

    The arguments of `head` are checked too, before a net is built for nothing.
    """
    arguments.integer("classes", classes, low=1)
    _arguments.activation("classifier_activation", activation)
    allowed = "three integers >= 1, height and width or None: (height, width, channels)"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise ValueError(arguments.message("input_shape", allowed, value))
    for axis in value:
        if axis is not None:
            try:
                arguments.integer("input_shape", axis, low=1)
            except (TypeError, ValueError) as error:
                text = arguments.message("input_shape", allowed, value)
                raise type(error)(text) from None
    return tuple(value)


def head(x: Tensor, classes: int, activation: Any) -> Tensor:
    """Global average pooling and a dense layer, in float32 under mixed precision."""
    function = _arguments.activation("classifier_activation", activation)
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(classes, activation=function, dtype="float32", name="classes")
    return logits(pooled)
