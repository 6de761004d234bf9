"""Fire: the block of SqueezeNet."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks._widths import fraction_of
from keras_fitkit.blocks.block import SpatialBlock


@serializable
class Fire(SpatialBlock):
    """Squeeze by 1x1, then expand by 1x1 and 3x3 side by side.

    1x1 to S channels, activation; 1x1 and 3x3 to N / 2 channels each, activation; both
    joined. The convolutions have biases; the paper has no normalization. Iandola et
    al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
    size", 2016, arXiv:1602.07360, figure 1.

    Parameters, h = N / 2: C S + S + 10 S h + 2 h.

    Args:
        filters: N, an even integer >= 2.
        squeeze_ratio: S = max(1, int(N * squeeze_ratio)), in (0, 1]. Defaults to
            0.125, as in the paper.
        activation: a name in `keras.activations`, a function, or None. Defaults to
            "relu".
        use_bias: whether the convolutions have a bias. Defaults to True.
        kwargs: `kernel_initializer`, `kernel_regularizer`, `data_format`; `name`,
            `dtype` and `trainable`, as for every layer.

    Input shape:
        (batch, height, width, C), or (batch, C, height, width) with
        `data_format="channels_first"`. Height and width may be None.

    Output shape:
        (batch, height, width, N).

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> fire2 = kf.blocks.Fire(128)
        >>> fire2(keras.Input((55, 55, 96))).shape
        (None, 55, 55, 128)
        >>> fire2.count_params() == 96 * 16 + 16 + 10 * 16 * 64 + 2 * 64
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        squeeze_ratio: float = 0.125,
        activation: Any = "relu",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_bias=use_bias, **kwargs)
        self.filters = _arguments.even("filters", filters, "A half is 1x1, a half 3x3.")
        self.squeeze_ratio = arguments.number(
            "squeeze_ratio", squeeze_ratio, low=0, high=1, include_low=False
        )
        self.activation = _arguments.activation("activation", activation)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan, act = self.new_plan(), self.activation
        squeezed = fraction_of(self.filters, self.squeeze_ratio)
        x = plan.conv("squeeze_conv", 0, squeezed, 1)
        x = plan.act("squeeze_act", x, act)
        sides = []
        for name, size in (("expand1x1", 1), ("expand3x3", 3)):
            side = plan.conv(f"{name}_conv", x, self.filters // 2, size)
            sides.append(plan.act(f"{name}_act", side, act))
        plan.add("join", layers.Concatenate, *sides, axis=self.channel_axis)
        return plan


fire = functional(Fire, "keras.Input((8, 8, 16)), 32")
