"""RepVGG-A0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_fitkit.blocks.nets._shapes import head, image_shape
from keras_fitkit.blocks.rep_vgg import RepConv

# blocks and channels of each stage; every stage begins with strides 2
STAGES = ((1, 48), (2, 48), (4, 96), (14, 192), (1, 1280))


def repvgg_a0(
    input_shape: Sequence[int | None] = (224, 224, 3),
    classes: int = 1000,
    *,
    classifier_activation: Any = "softmax",
) -> Any:
    """RepVGG-A0 in its training form, of `RepConv` layers.

    The blocks are layers, not expanded: each has `fuse()`. Ding et al., "RepVGG: Making
    VGG-style ConvNets Great Again", 2021, arXiv:2101.03697, table 2.

    Args:
        input_shape: of one image; height and width may be None. Defaults to
            (224, 224, 3).
        classes: outputs, an integer >= 1. Defaults to 1000.
        classifier_activation: of the last layer: a name in `keras.activations`, a
            function, or None for logits. Defaults to "softmax".

    Returns:
        A `keras.Model` with random weights, not compiled: with the defaults 9.11
        million trainable parameters; 8.31 million when its blocks are fused.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras_fitkit as kf
        >>> model = kf.blocks.nets.repvgg_a0((32, 32, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    inputs = x = keras.Input(image_shape(input_shape, classes, classifier_activation))
    for stage, (repeats, filters) in enumerate(STAGES):
        for repeat in range(repeats):
            strides = 2 if repeat == 0 else 1
            x = RepConv(filters, strides=strides, name=f"stage{stage}_{repeat}")(x)
    outputs = head(x, classes, classifier_activation)
    return keras.Model(inputs, outputs, name="repvgg_a0")
