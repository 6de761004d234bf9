"""MobileNetV2 and ShuffleNetV2, as their papers have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_fitkit._core import arguments
from keras_fitkit.blocks._widths import make_divisible
from keras_fitkit.blocks.convolution import conv_norm_act
from keras_fitkit.blocks.inverted import inverted_residual
from keras_fitkit.blocks.nets._shapes import head, image_shape
from keras_fitkit.blocks.shuffle import shuffle_unit

# expansion, filters, repeats, strides of the first one: table 2 of MobileNetV2
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# channels of the stages and of the last convolution: table 5 of ShuffleNetV2
SHUFFLENET_V2 = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


def mobilenet_v2(
    input_shape: Sequence[int | None] = (224, 224, 3),
    classes: int = 1000,
    *,
    alpha: float = 1.0,
    classifier_activation: Any = "softmax",
) -> Any:
    """MobileNetV2 of plain layers, with the weights' order of keras.applications.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018,
    arXiv:1801.04381, table 2. `model.set_weights(application.get_weights())` takes the
    weights of `keras.applications.MobileNetV2` over.

    Args:
        input_shape: of one image; height and width may be None. Defaults to
            (224, 224, 3).
        classes: outputs, an integer >= 1. Defaults to 1000.
        alpha: factor of all widths, a number > 0; below 1 the last convolution keeps
            its 1280 channels. Defaults to 1.
        classifier_activation: of the last layer: a name in `keras.activations`, a
            function, or None for logits. Defaults to "softmax".

    Returns:
        A `keras.Model` with random weights, not compiled: with the defaults 3,538,984
        parameters, 3,504,872 of them trainable.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras_fitkit as kf
        >>> model = kf.blocks.nets.mobilenet_v2((32, 32, 3), classes=10, alpha=0.35)
        >>> model.output_shape
        (None, 10)
    """
    alpha = arguments.number("alpha", alpha, low=0, include_low=False)
    own: dict[str, Any] = {"norm_momentum": 0.999}
    inputs = keras.Input(image_shape(input_shape, classes, classifier_activation))
    first = make_divisible(32 * alpha)
    x = conv_norm_act(
        inputs, first, 3, strides=2, activation="relu6", name="stem", **own
    )
    number = 0
    for expansion, filters, repeats, strides in MOBILENET_V2:
        for repeat in range(repeats):
            x = inverted_residual(
                x,
                make_divisible(int(filters * alpha)),
                strides=strides if repeat == 0 else 1,
                expansion=expansion,
                name=f"block_{number}",
                **own,
            )
            number += 1
    last = make_divisible(1280 * max(1.0, alpha))
    x = conv_norm_act(x, last, 1, activation="relu6", name="last", **own)
    outputs = head(x, classes, classifier_activation)
    return keras.Model(inputs, outputs, name="mobilenet_v2")


def shufflenet_v2(
    input_shape: Sequence[int | None] = (224, 224, 3),
    classes: int = 1000,
    *,
    alpha: float = 1.0,
    classifier_activation: Any = "softmax",
) -> Any:
    """ShuffleNetV2 of plain layers.

    Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
    Design", 2018, arXiv:1807.11164, table 5.

    Args:
        input_shape: of one image; height and width may be None. Defaults to
            (224, 224, 3).
        classes: outputs, an integer >= 1. Defaults to 1000.
        alpha: 0.5, 1.0, 1.5 or 2.0, the widths of the paper. Defaults to 1.
        classifier_activation: of the last layer: a name in `keras.activations`, a
            function, or None for logits. Defaults to "softmax".

    Returns:
        A `keras.Model` with random weights, not compiled: with the defaults 2,278,604
        trainable parameters.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras_fitkit as kf
        >>> model = kf.blocks.nets.shufflenet_v2((32, 32, 3), classes=10, alpha=0.5)
        >>> model.output_shape
        (None, 10)
    """
    if alpha not in SHUFFLENET_V2:
        text = arguments.message("alpha", f"one of {tuple(SHUFFLENET_V2)}", alpha)
        raise ValueError(text)
    *stages, last = SHUFFLENET_V2[alpha]
    inputs = keras.Input(image_shape(input_shape, classes, classifier_activation))
    x = conv_norm_act(inputs, 24, 3, strides=2, name="stem")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, (filters, repeats) in enumerate(
        zip(stages, (4, 8, 4), strict=True), start=2
    ):
        for repeat in range(repeats):
            x = shuffle_unit(
                x,
                filters,
                strides=2 if repeat == 0 else 1,
                name=f"stage{stage}_{repeat}",
            )
    x = conv_norm_act(x, last, 1, name="last")
    outputs = head(x, classes, classifier_activation)
    return keras.Model(inputs, outputs, name="shufflenet_v2")
