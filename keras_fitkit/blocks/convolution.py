"""ConvNormAct and SeparableBlock: the plain convolution and the cheapest one."""

from __future__ import annotations

from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks.block import ConvBlock


@serializable
class ConvNormAct(ConvBlock):
    """Convolution, batch normalization, activation.

    Parameters, C channels in, N out, kernel k x k, g groups: k^2 C N / g, and 4 N of
    the normalization, 2 N of them trainable; N more with `use_bias`.

    Args:
        filters: N, an integer >= 1.
        kernel_size: k, an integer >= 1, or two of them. Defaults to 3.
        strides: an integer >= 1, or two of them. Defaults to 1.
        dilation_rate: an integer >= 1, or two of them; 1 with strides. Defaults to 1.
        groups: g, an integer >= 1 that divides C and N; a `GroupedConv2D` above 1.
            Defaults to 1.
        activation: a name in `keras.activations`, a function, or None. Defaults to
            "relu".
        kwargs: `use_bias` (False), `norm_momentum` (0.99), `norm_epsilon` (0.001),
            `kernel_initializer`, `kernel_regularizer`, `data_format`; `name`, `dtype`
            and `trainable`, as for every layer.

    Input shape:
        (batch, height, width, C), or (batch, C, height, width) with
        `data_format="channels_first"`. Height and width may be None.

    Output shape:
        (batch, ceil(height / strides), ceil(width / strides), N).

    Raises:
        TypeError, ValueError: an argument outside its range, by name; groups that do
            not divide the channels of the input.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.ConvNormAct(16, 3, strides=2)
        >>> layer(keras.Input((32, 32, 8))).shape
        (None, 16, 16, 16)
        >>> layer.count_params() == 3**2 * 8 * 16 + 4 * 16
        True
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any = 3,
        *,
        strides: Any = 1,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.kernel_size = _arguments.pair("kernel_size", kernel_size)
        self.strides = _arguments.pair("strides", strides)
        self.dilation_rate = _arguments.pair("dilation_rate", dilation_rate)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            allowed = f"1 with strides={strides}"
            text = arguments.message("dilation_rate", allowed, dilation_rate)
            raise ValueError(text)
        self.groups = arguments.integer("groups", groups, low=1)
        if self.filters % self.groups:
            allowed = f"a divisor of filters={filters}"
            raise ValueError(arguments.message("groups", allowed, groups))
        self.activation = _arguments.activation("activation", activation)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        if channels % self.groups:
            allowed = f"a divisor of the {channels} channels of the input"
            self.refuse("groups", allowed, self.groups)
        plan = self.new_plan()
        x = plan.conv(
            "conv",
            0,
            self.filters,
            self.kernel_size,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
        )
        plan.act("act", plan.norm("norm", x), self.activation)
        return plan


@serializable
class SeparableBlock(ConvBlock):
    """Depthwise convolution and 1x1 convolution, each normalized and activated.

    The block of MobileNetV1: depthwise k x k, batch normalization, activation, 1x1,
    batch normalization, activation; no shortcut. Howard et al., "MobileNets: Efficient
    Convolutional Neural Networks for Mobile Vision Applications", 2017,
    arXiv:1704.04861, figure 3.

    Parameters: k^2 C + C N, and 4 (C + N) of the normalizations.

    Args:
        filters: N, an integer >= 1.
        kernel_size: k, an integer >= 1; above 5 a warning. Defaults to 3.
        strides: of the depthwise convolution, an integer >= 1. Defaults to 1.
        activation: a name in `keras.activations`, a function, or None. Defaults to
            "relu6".
        kwargs: `use_bias` (False), `norm_momentum` (0.99), `norm_epsilon` (0.001),
            `kernel_initializer`, `kernel_regularizer`, `data_format`; `name`, `dtype`
            and `trainable`, as for every layer.

    Input shape:
        (batch, height, width, C), or (batch, C, height, width) with
        `data_format="channels_first"`. Height and width may be None.

    Output shape:
        (batch, ceil(height / strides), ceil(width / strides), N).

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.SeparableBlock(16, strides=2)
        >>> layer(keras.Input((32, 32, 8))).shape
        (None, 16, 16, 16)
        >>> layer.count_params() == 3**2 * 8 + 8 * 16 + 4 * (8 + 16)
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        strides: int = 1,
        activation: Any = "relu6",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.kernel_size = _arguments.depthwise_size("kernel_size", kernel_size)
        self.strides = arguments.integer("strides", strides, low=1)
        self.activation = _arguments.activation("activation", activation)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan = self.new_plan()
        act, strides = self.activation, self.strides
        x = plan.depthwise_norm_act(
            "depthwise", 0, self.kernel_size, act, strides=strides
        )
        plan.conv_norm_act("pointwise", x, self.filters, 1, act)
        return plan


conv_norm_act = functional(ConvNormAct, "keras.Input((8, 8, 16)), 24, 3, strides=2")
separable_block = functional(SeparableBlock, "keras.Input((8, 8, 16)), 24, strides=2")
