"""SqueezeExcite and EfficientChannelAttention: a gate for each channel."""

from __future__ import annotations

import math
from typing import Any

from keras import activations, layers

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._conv_plan import Activation, ConvPlan
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks._widths import fraction_of, make_divisible
from keras_fitkit.blocks.block import SpatialBlock


@serializable
class SqueezeExcite(SpatialBlock):
    """Multiplies each channel by a gate that sees the means of all channels.

    Global average pooling, 1x1 convolution to S channels, activation, 1x1 convolution
    back to C, gate, product. Both convolutions have a bias. Hu et al.,
    "Squeeze-and-Excitation Networks", 2017, arXiv:1709.01507, figure 1: `ratio=1 / 16`,
    ReLU and sigmoid. MobileNetV3: `ratio=0.25, divisor=8, gate="hard_sigmoid"`.

    Parameters: 2 C S + S + C.

    Args:
        ratio: S = max(1, int(C * ratio)), in (0, 1]. Defaults to 0.25.
        filters: S itself, an integer >= 1, or None for `ratio`. Defaults to None.
        divisor: above 1, S is rounded to a multiple of it as in MobileNetV3; an
            integer >= 1. Defaults to 1.
        activation: after the first convolution: a name in `keras.activations`, a
            function, or None. Defaults to "relu".
        gate: the activation after the second one. Defaults to "sigmoid".
        use_bias: whether the convolutions have a bias. Defaults to True.
        kwargs: `kernel_initializer`, `kernel_regularizer`, `data_format`; `name`,
            `dtype` and `trainable`, as for every layer.

    Input shape:
        (batch, height, width, C), or (batch, C, height, width) with
        `data_format="channels_first"`. Height and width may be None.

    Output shape:
        The same.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> x = keras.Input((8, 8, 16))
        >>> layer = kf.blocks.SqueezeExcite(filters=4)
        >>> layer(x).shape, layer.count_params() == 2 * 16 * 4 + 4 + 16
        ((None, 8, 8, 16), True)
    """

    def __init__(
        self,
        ratio: float = 0.25,
        *,
        filters: int | None = None,
        divisor: int = 1,
        activation: Any = "relu",
        gate: Any = "sigmoid",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_bias=use_bias, **kwargs)
        self.ratio = arguments.number("ratio", ratio, low=0, high=1, include_low=False)
        self.filters = (
            None if filters is None else arguments.integer("filters", filters, low=1)
        )
        self.divisor = arguments.integer("divisor", divisor, low=1)
        self.activation = _arguments.activation("activation", activation)
        self.gate = _arguments.activation("gate", gate)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        squeezed = self.filters or fraction_of(channels, self.ratio)
        if self.filters is None and self.divisor > 1:
            squeezed = make_divisible(channels * self.ratio, self.divisor)
        plan = self.new_plan()
        gates = (self.activation, self.gate)
        squeeze_excite_steps(plan, "", 0, channels, squeezed, *gates, self.use_bias)
        return plan


def squeeze_excite_steps(
    plan: ConvPlan,
    prefix: str,
    x: int,
    channels: int,
    squeezed: int,
    activation: Activation,
    gate: Activation,
    use_bias: bool = True,
) -> int:
    """Adds the steps of `SqueezeExcite` to a plan; returns the product."""
    pooled = plan.add(
        f"{prefix}pool",
        layers.GlobalAveragePooling2D,
        x,
        keepdims=True,
        data_format=plan.data_format,
    )
    given = {"use_bias": use_bias}
    inner = plan.conv(f"{prefix}reduce_conv", pooled, squeezed, **given)
    inner = plan.act(f"{prefix}reduce_act", inner, activation)
    inner = plan.conv(f"{prefix}expand_conv", inner, channels, **given)
    inner = plan.act(f"{prefix}gate", inner, gate)
    return plan.add(f"{prefix}multiply", layers.Multiply, x, inner)


@serializable
class EfficientChannelAttention(SpatialBlock):
    """Multiplies each channel by a gate that sees the means of its neighbours.

    Global average pooling, a convolution of k along the channels, sigmoid, product.
    Without `kernel_size`, k is the odd number next to |log2(C) + 1| / 2 from below or
    one above, at least 3. Wang et al., "ECA-Net: Efficient Channel Attention for Deep
    Convolutional Neural Networks", 2019, arXiv:1910.03151, figure 2.

    Parameters: k.

    Args:
        kernel_size: k, an odd integer >= 1, or None for the rule. Defaults to None.
        kwargs: `use_bias` (False), `kernel_initializer`, `kernel_regularizer`,
            `data_format`; `name`, `dtype` and `trainable`, as for every layer.

    Input shape:
        (batch, height, width, C), or (batch, C, height, width) with
        `data_format="channels_first"`. Height and width may be None.

    Output shape:
        The same.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.EfficientChannelAttention()
        >>> layer(keras.Input((8, 8, 256))).shape, layer.count_params()
        ((None, 8, 8, 256), 5)
    """

    def __init__(self, kernel_size: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        if kernel_size is not None:
            self.kernel_size = arguments.integer("kernel_size", kernel_size, low=1)
            if self.kernel_size % 2 == 0:
                raise ValueError(arguments.message("kernel_size", "odd", kernel_size))

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan = self.new_plan()
        own = {"data_format": self.data_format}
        x = plan.add("pool", layers.GlobalAveragePooling2D, 0, **own)
        x = plan.add("row", layers.Reshape, x, target_shape=(channels, 1))
        x = plan.add(
            "conv",
            layers.Conv1D,
            x,
            filters=1,
            kernel_size=self.kernel_size or adaptive_size(channels),
            padding="same",
            use_bias=plan.use_bias,
            kernel_initializer=plan.initializer,
            kernel_regularizer=plan.regularizer,
            data_format="channels_last",  # the row is (channels, 1) in any case
        )
        x = plan.act("gate", x, activations.sigmoid)
        last = self.channel_axis == -1
        shape = (1, 1, channels) if last else (channels, 1, 1)
        x = plan.add("image", layers.Reshape, x, target_shape=shape)
        plan.add("multiply", layers.Multiply, 0, x)
        return plan


def adaptive_size(channels: int) -> int:
    """The kernel size of ECA-Net for so many channels.

    Example:
        >>> [adaptive_size(channels) for channels in (8, 64, 256, 2048)]
        [3, 3, 5, 7]
    """
    size = int(abs(math.log2(channels) + 1) / 2)
    return max(3, size if size % 2 else size + 1)


squeeze_excite = functional(SqueezeExcite, "keras.Input((8, 8, 16))")
efficient_channel_attention = functional(
    EfficientChannelAttention, "keras.Input((8, 8, 16))"
)
