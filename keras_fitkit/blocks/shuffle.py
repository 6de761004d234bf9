"""ShuffleUnit: the block of ShuffleNetV2."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._conv_plan import ConvPlan
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks.block import ConvBlock
from keras_fitkit.blocks.channels import ChannelShuffle, ChannelSlice


@serializable
class ShuffleUnit(ConvBlock):
    """Half of the channels pass, half are worked on, then both are mixed.

    With strides 1: the second half of the channels goes through 1x1, normalization,
    activation, depthwise k x k, normalization, 1x1, normalization, activation; both
    halves are joined and shuffled in two groups. With strides both branches see all
    channels, the first one through depthwise k x k, normalization, 1x1, normalization,
    activation. Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN
    Architecture Design", 2018, arXiv:1807.11164, figure 3 (c) and (d).

    Parameters, h = N / 2: strides 1: 2 h^2 + k^2 h, and 12 h of the normalizations;
    else 2 C h + h^2 + k^2 (C + h), and 4 (C + 4 h).

    Args:
        filters: N, an even integer >= 2; C with strides 1.
        kernel_size: k, an integer >= 1; above 5 a warning. Defaults to 3.
        strides: an integer >= 1. Defaults to 1.
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
        TypeError, ValueError: an argument outside its range, by name; strides 1 where
            the input does not have N channels.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.ShuffleUnit(16)
        >>> layer(keras.Input((32, 32, 16))).shape
        (None, 32, 32, 16)
        >>> layer.count_params() == 2 * 8**2 + 3**2 * 8 + 12 * 8
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        strides: int = 1,
        activation: Any = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = _arguments.even(
            "filters", filters, "A half goes to each branch."
        )
        self.kernel_size = _arguments.depthwise_size("kernel_size", kernel_size)
        self.strides = arguments.integer("strides", strides, low=1)
        self.activation = _arguments.activation("activation", activation)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan, own = self.new_plan(), {"data_format": self.data_format}
        half = self.filters // 2
        if self.strides == 1:
            if channels != self.filters:
                allowed = f"the {channels} channels of the input with strides=1"
                self.refuse("filters", allowed, self.filters)
            kept = plan.add("kept", ChannelSlice, 0, start=0, stop=half, **own)
            worked = plan.add(
                "worked", ChannelSlice, 0, start=half, stop=2 * half, **own
            )
        else:
            kept, worked = self._short_branch(plan, half), 0
        worked = plan.conv_norm_act("first", worked, half, 1, self.activation)
        worked = self._depthwise(plan, "depthwise", worked)
        worked = plan.conv_norm_act("last", worked, half, 1, self.activation)
        x = plan.add("join", layers.Concatenate, kept, worked, axis=self.channel_axis)
        plan.add("shuffle", ChannelShuffle, x, groups=2, **own)
        return plan

    def _short_branch(self, plan: ConvPlan, half: int) -> int:
        x = self._depthwise(plan, "short_depthwise", 0)
        return plan.conv_norm_act("short", x, half, 1, self.activation)

    def _depthwise(self, plan: ConvPlan, name: str, x: int) -> int:
        return plan.depthwise_norm_act(name, x, self.kernel_size, strides=self.strides)


shuffle_unit = functional(ShuffleUnit, "keras.Input((8, 8, 16)), 24, strides=2")
