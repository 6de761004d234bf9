"""Which rule stands for a layer or an operation."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_fitkit.pruning.structural import (
    attention_rules,
    elementwise_rules,
    kernel_rules,
    layer_rules,
    moving_rules,
    product_rules,
    recurrent_rules,
)

BY_TYPE: dict[type, Any] = {
    **elementwise_rules.RULES,
    **moving_rules.RULES,
    **kernel_rules.RULES,
    **layer_rules.RULES,
    **recurrent_rules.RULES,
    **attention_rules.RULES,
    **product_rules.RULES,
}

BY_OPERATION: dict[str, Any] = {
    **elementwise_rules.OPERATION_RULES,
    **moving_rules.OPERATION_RULES,
    **product_rules.OPERATION_RULES,
}
# By class name: rooms do not import each other, and Keras does not export these.
OF_THIS_PACKAGE: dict[str, Any] = {
    "GroupedConv2D": kernel_rules.convolution,
    "ChannelShuffle": layer_rules.shuffle,
    "ChannelSlice": layer_rules.channel_slice,
    "StochasticDepth": elementwise_rules.same,
}
OF_APPLICATIONS: dict[str, Any] = {
    "LayerScale": layer_rules.layer_scale,
    "StochasticDepth": elementwise_rules.same,
    "CustomScaleLayer": layer_rules.scaled_sum,
}


def rule_of(operation: Any) -> Any:
    """The rule of an operation; None: what it touches may not shrink.

    A subclass of a layer may compute otherwise, so it has no rule.
    """
    kind = type(operation)
    if kind in BY_TYPE:
        return BY_TYPE[kind]
    if kind.__module__.startswith("keras_fitkit.blocks."):
        return OF_THIS_PACKAGE.get(kind.__name__)
    if kind.__module__.startswith("keras.src.applications."):
        return OF_APPLICATIONS.get(kind.__name__)
    if not kind.__module__.startswith("keras.") or isinstance(operation, layers.Layer):
        return None
    return BY_OPERATION.get(kind.__name__)
