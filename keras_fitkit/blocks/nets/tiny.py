"""The keyword-spotting and image nets of the MLPerf Tiny benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_fitkit.blocks._plan import Tensor
from keras_fitkit.blocks.convolution import conv_norm_act, separable_block
from keras_fitkit.blocks.nets._shapes import head, image_shape


def ds_cnn(
    input_shape: Sequence[int | None] = (49, 10, 1),
    classes: int = 12,
    *,
    classifier_activation: Any = "softmax",
) -> Any:
    """DS-CNN: keyword spotting from 49 frames of 10 MFCC numbers.

    A 10 x 4 convolution with strides 2 and four separable blocks of 64 channels; all
    convolutions have biases beside their normalizations. The net is that of the MLPerf
    Tiny benchmark (Banbury et al., "MLPerf Tiny Benchmark", 2021, arXiv:2106.07597),
    after Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017,
    arXiv:1711.07128.

    Args:
        input_shape: of one example; height and width may be None. Defaults to
            (49, 10, 1).
        classes: outputs, an integer >= 1. Defaults to 12.
        classifier_activation: of the last layer: a name in `keras.activations`, a
            function, or None for logits. Defaults to "softmax".

    Returns:
        A `keras.Model` with random weights, not compiled: with the defaults 24,908
        parameters.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras_fitkit as kf
        >>> kf.blocks.nets.ds_cnn().count_params()
        24908
    """
    inputs = keras.Input(image_shape(input_shape, classes, classifier_activation))
    own: dict[str, Any] = {"activation": "relu", "use_bias": True}
    x = conv_norm_act(inputs, 64, (10, 4), strides=2, name="stem", **own)
    x = layers.Dropout(0.2, name="stem_dropout")(x)
    for number in range(1, 5):
        x = separable_block(x, 64, name=f"block_{number}", **own)
    x = layers.Dropout(0.4, name="dropout")(x)
    outputs = head(x, classes, classifier_activation)
    return keras.Model(inputs, outputs, name="ds_cnn")


def resnet8(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    *,
    classifier_activation: Any = "softmax",
) -> Any:
    """ResNet of three residual blocks for images of 32 x 32.

    16, 32 and 64 channels, two 3x3 convolutions a block, a 1x1 convolution on the
    shortcut where the size changes. All convolutions have biases. The net is that of
    the MLPerf Tiny benchmark (Banbury et al., "MLPerf Tiny Benchmark", 2021,
    arXiv:2106.07597), after He et al., "Deep Residual Learning for Image Recognition",
    2015, arXiv:1512.03385.

    Args:
        input_shape: of one image; height and width may be None. Defaults to
            (32, 32, 3).
        classes: outputs, an integer >= 1. Defaults to 10.
        classifier_activation: of the last layer: a name in `keras.activations`, a
            function, or None for logits. Defaults to "softmax".

    Returns:
        A `keras.Model` with random weights, not compiled: with the defaults 78,666
        parameters.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras_fitkit as kf
        >>> kf.blocks.nets.resnet8().count_params()
        78666
    """
    inputs = keras.Input(image_shape(input_shape, classes, classifier_activation))
    x = conv_norm_act(
        inputs, 16, use_bias=True, kernel_initializer="he_normal", name="stem"
    )
    for number, (filters, strides) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
        x = _residual(x, filters, strides, f"block_{number}")
    outputs = head(x, classes, classifier_activation)
    return keras.Model(inputs, outputs, name="resnet8")


def _residual(x: Tensor, filters: int, strides: int, name: str) -> Tensor:
    own: dict[str, Any] = {"use_bias": True, "kernel_initializer": "he_normal"}
    y = conv_norm_act(x, filters, strides=strides, name=f"{name}_first", **own)
    y = conv_norm_act(y, filters, activation=None, name=f"{name}_second", **own)
    if strides > 1:
        short = layers.Conv2D(
            filters,
            1,
            strides=strides,
            padding="same",
            kernel_initializer="he_normal",
            name=f"{name}_short",
        )
        x = short(x)
    total = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_act")(total)
