"""FusedMBConv: the early block of EfficientNetV2."""

from __future__ import annotations

from typing import Any

from keras import activations

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks._widths import fraction_of
from keras_fitkit.blocks.attention import squeeze_excite_steps
from keras_fitkit.blocks.block import ConvBlock


@serializable
class FusedMBConv(ConvBlock):
    """An inverted residual whose expansion and depthwise step are one convolution.

    k x k to M = int(C t) channels, normalization, activation; squeeze-and-excite if
    asked for; 1x1 to N, normalization; plus the input where strides are 1 and N = C.
    With t = 1 the 1x1 convolution is left out: one k x k to N, normalization,
    activation, after the squeeze-and-excite. Tan and Le, "EfficientNetV2: Smaller
    Models and Faster Training", 2021, arXiv:2104.00298, figure 2.

    Parameters: k^2 C M + M N, and 4 (M + N) of the normalizations; k^2 C N + 4 N with
    t = 1; with squeezed width S: 2 M S + S + M more.

    Args:
        filters: N, an integer >= 1.
        kernel_size: k, an integer >= 1. Defaults to 3.
        strides: of the k x k convolution, an integer >= 1. Defaults to 1.
        expansion: t, a number > 0. Defaults to 4.
        se_ratio: S = max(1, int(C * se_ratio)), in [0, 1]; 0: no squeeze-and-excite.
            Defaults to 0.
        activation: a name in `keras.activations`, a function, or None. Defaults to
            "swish".
        drop_rate: of `StochasticDepth` before the addition, in [0, 1). Defaults to 0.
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
        >>> layer = kf.blocks.FusedMBConv(24, strides=2)
        >>> layer(keras.Input((32, 32, 16))).shape
        (None, 16, 16, 24)
        >>> wide = 16 * 4
        >>> weights = 3**2 * 16 * wide + wide * 24
        >>> layer.count_params() == weights + 4 * (wide + 24)
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        strides: int = 1,
        expansion: float = 4,
        se_ratio: float = 0.0,
        activation: Any = "swish",
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.kernel_size = arguments.integer("kernel_size", kernel_size, low=1)
        self.strides = arguments.integer("strides", strides, low=1)
        self.expansion = _arguments.expansion(expansion)
        self.se_ratio = arguments.number("se_ratio", se_ratio, low=0, high=1)
        self.activation = _arguments.activation("activation", activation)
        self.drop_rate = _arguments.rate("drop_rate", drop_rate)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan, x, act = self.new_plan(), 0, self.activation
        full = {"kernel_size": self.kernel_size, "strides": self.strides}
        wide = channels
        if self.expansion != 1:
            wide = max(1, int(channels * self.expansion))
            x = plan.conv_norm_act("expand", x, wide, activation=act, **full)
        if self.se_ratio:
            squeezed = fraction_of(channels, self.se_ratio)
            gates = (act, activations.sigmoid)
            x = squeeze_excite_steps(plan, "se_", x, wide, squeezed, *gates)
        if self.expansion != 1:
            x = plan.conv_norm_act("project", x, self.filters)
        else:
            x = plan.conv_norm_act("project", x, self.filters, activation=act, **full)
        if self.strides == 1 and channels == self.filters:
            plan.residual(x, 0, self.drop_rate)
        return plan


fused_mb_conv = functional(FusedMBConv, "keras.Input((8, 8, 16)), 24, strides=2")
