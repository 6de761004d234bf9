"""GhostModule and GhostBottleneck: channels made from channels by cheap operations."""

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
from keras_fitkit.blocks._widths import make_divisible
from keras_fitkit.blocks.attention import squeeze_excite_steps
from keras_fitkit.blocks.block import ConvBlock
from keras_fitkit.blocks.channels import ChannelSlice


@serializable
class GhostModule(ConvBlock):
    """A convolution to a part of the channels; the others are filtered from those.

    k x k to P = ceil(N / ratio) channels, normalization, activation; of them ratio - 1
    depthwise images each, d x d, normalization, activation; both joined, cut to N. Han
    et al., "GhostNet: More Features from Cheap Operations", 2019, arXiv:1911.11907,
    the figure of the Ghost module.

    Parameters, Q = P (ratio - 1): k^2 C P + d^2 Q, and 4 (P + Q) of the normalizations.

    Args:
        filters: N, an integer >= 1.
        kernel_size: k, an integer >= 1. Defaults to 1.
        strides: of the k x k convolution, an integer >= 1. Defaults to 1.
        ratio: an integer >= 2. Defaults to 2.
        cheap_kernel_size: d, an integer >= 1; above 5 a warning. Defaults to 3.
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
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.GhostModule(32)
        >>> layer(keras.Input((8, 8, 16))).shape
        (None, 8, 8, 32)
        >>> layer.count_params() == 16 * 16 + 3**2 * 16 + 4 * (16 + 16)
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 1,
        strides: int = 1,
        ratio: int = 2,
        cheap_kernel_size: int = 3,
        activation: Any = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.kernel_size = arguments.integer("kernel_size", kernel_size, low=1)
        self.strides = arguments.integer("strides", strides, low=1)
        self.ratio = arguments.integer("ratio", ratio, low=2)
        self.cheap_kernel_size = _arguments.depthwise_size(
            "cheap_kernel_size", cheap_kernel_size
        )
        self.activation = _arguments.activation("activation", activation)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan = self.new_plan()
        ghost_steps(
            plan,
            "",
            0,
            self.filters,
            self.activation,
            kernel_size=self.kernel_size,
            strides=self.strides,
            ratio=self.ratio,
            cheap_kernel_size=self.cheap_kernel_size,
        )
        return plan


def ghost_steps(
    plan: ConvPlan,
    prefix: str,
    x: int,
    filters: int,
    activation: Activation,
    *,
    kernel_size: int = 1,
    strides: int = 1,
    ratio: int = 2,
    cheap_kernel_size: int = 3,
) -> int:
    """Adds the steps of `GhostModule` to a plan; returns the joined channels."""
    primary = math.ceil(filters / ratio)
    own = {"strides": strides}
    x = plan.conv_norm_act(
        f"{prefix}primary", x, primary, kernel_size, activation, **own
    )
    cheap = plan.depthwise_norm_act(
        f"{prefix}cheap", x, cheap_kernel_size, activation, depth_multiplier=ratio - 1
    )
    x = plan.add(f"{prefix}join", layers.Concatenate, x, cheap, axis=plan.axis)
    if primary * ratio == filters:
        return x
    given = {"start": 0, "stop": filters, "data_format": plan.data_format}
    return plan.add(f"{prefix}cut", ChannelSlice, x, **given)


@serializable
class GhostBottleneck(ConvBlock):
    """Two ghost modules, the second one without activation, and a shortcut.

    Ghost module to M = C t channels as a multiple of 4, with activation; with strides
    depthwise k x k, normalization; squeeze-and-excite if asked for; ghost module to N,
    no activation; plus the shortcut. That is the input where strides are 1 and N = C,
    else depthwise k x k, normalization, 1x1, normalization. Han et al., "GhostNet: More
    Features from Cheap Operations", 2019, arXiv:1911.11907, the figure of the Ghost
    bottleneck.

    Parameters for even M and N, each normalized channel with 4 more:
    C M / 2 + 9 M / 2 + M N / 2 + 9 N / 2, k^2 M with strides, 2 M S + S + M for a
    squeezed width S, k^2 C + C N for a shortcut that is not the input.

    Args:
        filters: N, an integer >= 1.
        kernel_size: k, an integer >= 1; above 5 a warning. Defaults to 3.
        strides: an integer >= 1. Defaults to 1.
        expansion: t, a number > 0. Defaults to 2.
        se_ratio: S is M * se_ratio as a multiple of 4, in [0, 1]; 0: no
            squeeze-and-excite. Its gate is hard-sigmoid. Defaults to 0.
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
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.GhostBottleneck(16, expansion=3)
        >>> layer(keras.Input((8, 8, 16))).shape
        (None, 8, 8, 16)
        >>> wide = 16 * 3
        >>> weights = (16 * wide + 9 * wide + wide * 16 + 9 * 16) // 2
        >>> layer.count_params() == weights + 4 * (wide + 16)
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        strides: int = 1,
        expansion: float = 2,
        se_ratio: float = 0.0,
        activation: Any = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.kernel_size = _arguments.depthwise_size("kernel_size", kernel_size)
        self.strides = arguments.integer("strides", strides, low=1)
        self.expansion = _arguments.expansion(expansion)
        self.se_ratio = arguments.number("se_ratio", se_ratio, low=0, high=1)
        self.activation = _arguments.activation("activation", activation)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan, size = self.new_plan(), self.kernel_size
        wide = make_divisible(channels * self.expansion, 4)
        x = ghost_steps(plan, "ghost1_", 0, wide, self.activation)
        if self.strides > 1:
            x = plan.depthwise_norm_act("depthwise", x, size, strides=self.strides)
        if self.se_ratio:
            squeezed = make_divisible(wide * self.se_ratio, 4)
            gates = (activations.relu, activations.hard_sigmoid)
            x = squeeze_excite_steps(plan, "se_", x, wide, squeezed, *gates)
        x = ghost_steps(plan, "ghost2_", x, self.filters, None)
        shortcut = 0
        if self.strides > 1 or channels != self.filters:
            shortcut = plan.depthwise_norm_act(
                "short_depthwise", 0, size, strides=self.strides
            )
            shortcut = plan.conv_norm_act("short", shortcut, self.filters)
        plan.residual(x, shortcut)
        return plan


ghost_module = functional(GhostModule, "keras.Input((8, 8, 16)), 32")
ghost_bottleneck = functional(GhostBottleneck, "keras.Input((8, 8, 16)), 24, strides=2")
