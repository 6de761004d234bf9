"""The steps of which blocks of convolutions consist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks.grouped import GroupedConv2D
from keras_fitkit.blocks.stochastic_depth import StochasticDepth

Activation = Callable[..., Any] | None
Size = int | tuple[int, int]


class ConvPlan(Plan):
    """A plan with methods for what follows a convolution.

    Padding is "same", that of TensorFlow, so that an output has ceil(size / stride)
    pixels for every size, known or not. It is the same as the explicit padding before
    strided convolutions in keras.applications.

    Attributes:
        momentum, epsilon: of the normalizations.
    """

    momentum, epsilon = 0.99, 1e-3

    def __init__(
        self,
        *,
        use_bias: bool = False,
        initializer: Any = "glorot_uniform",
        regularizer: Any = None,
        data_format: str = "channels_last",
    ) -> None:
        super().__init__()
        self.use_bias, self.data_format = use_bias, data_format
        self.initializer, self.regularizer = initializer, regularizer

    @property
    def axis(self) -> int:
        """Of the channels."""
        return 1 if self.data_format == "channels_first" else -1

    def conv(
        self, name: str, x: int, filters: int, kernel_size: Size = 1, **arguments: Any
    ) -> int:
        """A convolution, grouped where `groups` says so."""
        kind = GroupedConv2D if arguments.get("groups", 1) > 1 else layers.Conv2D
        given = {
            "filters": filters,
            "kernel_size": kernel_size,
            "padding": "same",
            "use_bias": self.use_bias,
            "kernel_initializer": self.initializer,
            "kernel_regularizer": self.regularizer,
            "data_format": self.data_format,
        }
        return self.add(name, kind, x, **{**given, **arguments})

    def depthwise(self, name: str, x: int, kernel_size: Size, **arguments: Any) -> int:
        """A depthwise convolution."""
        given = {
            "kernel_size": kernel_size,
            "padding": "same",
            "use_bias": self.use_bias,
            "depthwise_initializer": self.initializer,
            "depthwise_regularizer": self.regularizer,
            "data_format": self.data_format,
        }
        return self.add(name, layers.DepthwiseConv2D, x, **{**given, **arguments})

    def norm(self, name: str, x: int) -> int:
        """A batch normalization."""
        given = {"momentum": self.momentum, "epsilon": self.epsilon}
        return self.add(name, layers.BatchNormalization, x, axis=self.axis, **given)

    def act(self, name: str, x: int, activation: Activation) -> int:
        """An activation; None adds no layer."""
        if activation is None:
            return x
        if activation is keras.activations.relu:
            return self.add(name, layers.ReLU, x)
        if activation is keras.activations.relu6:
            return self.add(name, layers.ReLU, x, max_value=6.0)
        return self.add(name, layers.Activation, x, activation=activation)

    def conv_norm_act(
        self,
        name: str,
        x: int,
        filters: int,
        kernel_size: Size = 1,
        activation: Activation = None,
        **arguments: Any,
    ) -> int:
        """Convolution, normalization, activation."""
        x = self.conv(f"{name}_conv", x, filters, kernel_size, **arguments)
        return self.act(f"{name}_act", self.norm(f"{name}_norm", x), activation)

    def depthwise_norm_act(
        self,
        name: str,
        x: int,
        kernel_size: Size,
        activation: Activation = None,
        **arguments: Any,
    ) -> int:
        """Depthwise convolution, normalization, activation."""
        x = self.depthwise(f"{name}_conv", x, kernel_size, **arguments)
        return self.act(f"{name}_act", self.norm(f"{name}_norm", x), activation)

    def symmetric_pad(self, x: int, size: int, strides: int) -> tuple[int, str]:
        """Padding by `size // 2` on every side, whatever the size of the image.

        With strides, "same" is not that: it begins at another pixel for even sizes, so
        that a 3 x 3 and a 1 x 1 convolution would not have the same centre.

        Returns:
            The padded value, and the padding for the convolutions on it.
        """
        if strides == 1 or size == 1:
            return x, "same"
        given = {"padding": size // 2, "data_format": self.data_format}
        return self.add("pad", layers.ZeroPadding2D, x, **given), "valid"

    def residual(self, x: int, shortcut: int, drop_rate: float = 0.0) -> int:
        """The sum of a block and its input, dropped at random in training."""
        if drop_rate > 0:
            x = self.add("drop", StochasticDepth, x, rate=drop_rate)
        return self.add("add", layers.Add, shortcut, x)
