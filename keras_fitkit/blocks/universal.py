"""UniversalInvertedBottleneck: the block of MobileNetV4."""

from __future__ import annotations

from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks._widths import make_divisible
from keras_fitkit.blocks.block import ConvBlock


@serializable
class UniversalInvertedBottleneck(ConvBlock):
    """An inverted bottleneck with an optional depthwise convolution at two places.

    Depthwise at the start, normalization (no activation); 1x1 to M channels,
    normalization, activation; depthwise in the middle, normalization, activation; 1x1
    to N, normalization; plus the input where strides are 1 and N = C. The strides are
    those of the middle one, or of the first one where there is no middle one.

    | `start_kernel_size` | `kernel_size` | variant |
    |---|---|---|
    | None | 3 | inverted bottleneck |
    | 3 | None | ConvNext-like |
    | 3 | 3 | ExtraDW |
    | None | None | FFN |

    Qin et al., "MobileNetV4 - Universal Models for the Mobile Ecosystem", 2024,
    arXiv:2404.10518, figure 4.

    Parameters, kernels s and k: s^2 C + C M + k^2 M + M N, and 4 for each channel that
    is normalized: C at the start, M after the expansion, M in the middle, N at the end.

    Args:
        filters: N, an integer >= 1.
        start_kernel_size: s, an integer >= 1, or None; above 5 a warning. Defaults to
            None.
        kernel_size: k, of the middle one, an integer >= 1, or None; above 5 a warning.
            Defaults to 3.
        strides: an integer >= 1; 1 without a depthwise convolution. Defaults to 1.
        expansion: t, a number > 0; M is C t as a multiple of 8. Defaults to 4.
        activation: a name in `keras.activations`, a function, or None. Defaults to
            "relu".
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
        >>> extra = kf.blocks.UniversalInvertedBottleneck(16, start_kernel_size=3)
        >>> extra(keras.Input((32, 32, 16))).shape
        (None, 32, 32, 16)
        >>> wide = 16 * 4
        >>> weights = 3**2 * 16 + 16 * wide + 3**2 * wide + wide * 16
        >>> extra.count_params() == weights + 4 * (16 + 2 * wide + 16)
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        start_kernel_size: int | None = None,
        kernel_size: int | None = 3,
        strides: int = 1,
        expansion: float = 4,
        activation: Any = "relu",
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.start_kernel_size, self.kernel_size = start_kernel_size, kernel_size
        check = _arguments.depthwise_size
        if start_kernel_size is not None:
            self.start_kernel_size = check("start_kernel_size", start_kernel_size)
        if kernel_size is not None:
            warned = (self.start_kernel_size or 0) > _arguments.WIDEST
            self.kernel_size = check("kernel_size", kernel_size, warn=not warned)
        self.strides = arguments.integer("strides", strides, low=1)
        self.expansion = _arguments.expansion(expansion)
        self.activation = _arguments.activation("activation", activation)
        self.drop_rate = _arguments.rate("drop_rate", drop_rate)
        if start_kernel_size is None and kernel_size is None and self.strides > 1:
            allowed = "1 without a depthwise convolution"
            hint = "Give `start_kernel_size` or `kernel_size`."
            raise ValueError(arguments.message("strides", allowed, strides, hint))

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan, x = self.new_plan(), 0
        if self.start_kernel_size is not None:
            strides = 1 if self.kernel_size is not None else self.strides
            size = self.start_kernel_size
            x = plan.depthwise_norm_act("start", x, size, strides=strides)
        wide = make_divisible(channels * self.expansion)
        x = plan.conv_norm_act("expand", x, wide, 1, self.activation)
        if self.kernel_size is not None:
            x = plan.depthwise_norm_act(
                "depthwise", x, self.kernel_size, self.activation, strides=self.strides
            )
        x = plan.conv_norm_act("project", x, self.filters)
        if self.strides == 1 and channels == self.filters:
            plan.residual(x, 0, self.drop_rate)
        return plan


universal_inverted_bottleneck = functional(
    UniversalInvertedBottleneck, "keras.Input((8, 8, 16)), 24, strides=2"
)
