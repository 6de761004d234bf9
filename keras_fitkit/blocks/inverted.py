"""InvertedResidual: the block of MobileNetV2, MobileNetV3 and EfficientNet."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks._widths import fraction_of, make_divisible
from keras_fitkit.blocks.attention import squeeze_excite_steps
from keras_fitkit.blocks.block import ConvBlock


@dataclasses.dataclass(frozen=True)
class Variant:
    """What differs between the papers.

    Attributes:
        activation: the paper's.
        divisor: of the expanded width.
        squeeze_activation, gate: of the squeeze-and-excite layers.
        squeeze_of_input: whether their width is a fraction of the block's input, cut to
            an integer, or of the expanded width, rounded to a multiple of 8.
    """

    activation: str
    divisor: int = 1
    squeeze_activation: str = "relu"
    gate: str = "hard_sigmoid"
    squeeze_of_input: bool = False


VARIANTS = {
    "v2": Variant("relu6"),
    "v3": Variant("hard_swish", divisor=8),
    "minimalistic": Variant("relu", divisor=8),
    "efficientnet": Variant("swish", 1, "swish", "sigmoid", squeeze_of_input=True),
}


# Slow in int8, or steps of several operations there.
SLOW = ("hard_swish", "hard_silu", "hard_sigmoid", "swish", "silu", "sigmoid", "mish")


def activation_name(function: Any) -> str:
    """The name of an activation; "" for none."""
    return str(getattr(function, "__name__", ""))


@serializable
class InvertedResidual(ConvBlock):
    """Expand by 1x1, filter depthwise, project by 1x1 without activation.

    1x1 to M = C t channels, normalization, activation (left out with t = 1); depthwise
    k x k, normalization, activation; squeeze-and-excite if asked for; 1x1 to N,
    normalization; plus the input where strides are 1 and N = C. `variant` chooses the
    paper:

    - "v2": ReLU6, M = int(C t). Sandler et al., "MobileNetV2: Inverted Residuals and
      Linear Bottlenecks", 2018, arXiv:1801.04381, table 1 and figure 4 (d).
    - "v3": hard-swish, M rounded to a multiple of 8; the squeezed width is that of
      M * se_ratio, with ReLU and hard-sigmoid. Howard et al., "Searching for
      MobileNetV3", 2019, arXiv:1905.02244, figure 4. Its early blocks have
      `activation="relu"`.
    - "minimalistic": the form of V3 for int8 and microcontrollers: ReLU, 3x3, no
      squeeze-and-excite.
    - "efficientnet": swish, M = int(C t); the squeezed width is a fraction of C, with
      swish and sigmoid. Tan and Le, "EfficientNet", 2019, arXiv:1905.11946, table 1.

    Parameters: C M + k^2 M + M N, and 4 (2 M + N) of the normalizations; without the
    terms C M and 4 M for t = 1; with squeezed width S: 2 M S + S + M more.

    Args:
        filters: N, an integer >= 1.
        kernel_size: k, an integer >= 1; above 5 a warning. Defaults to 3.
        strides: of the depthwise convolution, an integer >= 1. Defaults to 1.
        expansion: t, a number > 0. Defaults to 6.
        se_ratio: squeezed width as a fraction of M, or of C with "efficientnet", in
            [0, 1]; 0: no squeeze-and-excite. Defaults to 0.
        activation: a name in `keras.activations`, a function, or None for that of
            `variant`. Defaults to None.
        variant: "v2", "v3", "minimalistic" or "efficientnet". Defaults to "v2".
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
        >>> layer = kf.blocks.InvertedResidual(24, strides=2, expansion=6)
        >>> layer(keras.Input((32, 32, 16))).shape
        (None, 16, 16, 24)
        >>> wide = 16 * 6
        >>> weights = 16 * wide + 3**2 * wide + wide * 24
        >>> layer.count_params() == weights + 4 * (2 * wide + 24)
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        strides: int = 1,
        expansion: float = 6,
        se_ratio: float = 0.0,
        activation: Any = None,
        variant: str = "v2",
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.kernel_size = _arguments.depthwise_size("kernel_size", kernel_size)
        self.strides = arguments.integer("strides", strides, low=1)
        self.expansion = _arguments.expansion(expansion)
        self.se_ratio = arguments.number("se_ratio", se_ratio, low=0, high=1)
        self.activation = _arguments.activation("activation", activation)
        self.variant = arguments.choice("variant", variant, tuple(VARIANTS))
        self.drop_rate = _arguments.rate("drop_rate", drop_rate)
        if variant == "minimalistic":
            if activation_name(self.activation) in SLOW:
                allowed = "ReLU or the like with variant='minimalistic'"
                raise ValueError(arguments.message("activation", allowed, activation))
            for name, value, only in (
                ("kernel_size", self.kernel_size, 3),
                ("se_ratio", self.se_ratio, 0),
            ):
                if value != only:
                    allowed = f"{only} with variant='minimalistic'"
                    raise ValueError(arguments.message(name, allowed, value))

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        chosen = VARIANTS[self.variant]
        act = self.activation or _arguments.activation("activation", chosen.activation)
        wide, plan, x = self._expanded(channels), self.new_plan(), 0
        if self.expansion != 1:
            x = plan.conv_norm_act("expand", x, wide, 1, act)
        x = plan.depthwise_norm_act(
            "depthwise", x, self.kernel_size, act, strides=self.strides
        )
        if self.se_ratio:
            inner = _arguments.activation("activation", chosen.squeeze_activation)
            gate = _arguments.activation("gate", chosen.gate)
            squeezed = self._squeezed(channels)
            x = squeeze_excite_steps(plan, "se_", x, wide, squeezed, inner, gate)
        x = plan.conv_norm_act("project", x, self.filters)
        if self.strides == 1 and channels == self.filters:
            plan.residual(x, 0, self.drop_rate)
        return plan

    def _expanded(self, channels: int) -> int:
        if self.expansion == 1:
            return channels
        divisor = VARIANTS[self.variant].divisor
        wide = channels * self.expansion
        return make_divisible(wide, divisor) if divisor > 1 else max(1, int(wide))

    def _squeezed(self, channels: int) -> int:
        if VARIANTS[self.variant].squeeze_of_input:
            return fraction_of(channels, self.se_ratio)
        return make_divisible(self._expanded(channels) * self.se_ratio)


inverted_residual = functional(
    InvertedResidual, "keras.Input((8, 8, 16)), 24, strides=2, expansion=6"
)
