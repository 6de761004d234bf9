"""What the blocks share: sub-layers from a plan, and `expand()`."""

from __future__ import annotations

from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._configured import ConfiguredLayer
from keras_fitkit.blocks._conv_plan import ConvPlan
from keras_fitkit.blocks._plan import Plan, Shape, Tensor, Wiring


class Block(ConfiguredLayer):
    """A composite layer that runs the plain layers of its plan."""

    _wiring: Wiring | None = None

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels, not made yet."""
        raise NotImplementedError

    @property
    def channel_axis(self) -> int:
        """Where the channels are in a shape."""
        return -1

    @property
    def layers(self) -> list[Any]:
        """The plain layers inside, in order of execution; none before `build`."""
        return [] if self._wiring is None else list(self._wiring.layers)

    def build(self, input_shape: Shape) -> None:
        """Makes the layers and their variables."""
        self._wiring = self.wire(input_shape, "")
        self._parts = self._wiring.layers  # tracked by Keras
        self._wiring.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Applies the plain layers; Keras hands `training` on to them."""
        return self._wired()(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape that the last layer gives; `None` stays `None`."""
        wiring = self._wiring or self.wire(input_shape, "")
        return wiring.output_shape(tuple(input_shape))

    def expand(self) -> Wiring:
        """The same as plain Keras layers with copies of the weights.

        Returns:
            A callable that applies the plain layers to a tensor or a KerasTensor, as
            often as you like; `.layers` lists them. Their names begin with the name of
            this layer.

        Raises:
            ValueError: the layer is not built: it has no weights yet.
        """
        return self._wired().copy(f"{self.name}_")

    def wire(self, input_shape: Shape, prefix: str) -> Wiring:
        """New plain layers for an input of this shape, without weights."""
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ValueError(
                f"The input of layer '{self.name}' must have a known number of "
                f"channels. Received: input_shape={tuple(input_shape)}."
            )
        common = {"dtype": self.dtype_policy, "trainable": self.trainable}
        return self.plan(channels).make(prefix, common)

    def _wired(self) -> Wiring:
        if self._wiring is None:
            raise ValueError(
                f"Layer '{self.name}' must be built. Received: a layer that has not "
                "seen an input yet. Call it on data, or `build(shape)`, first."
            )
        return self._wiring


class SpatialBlock(Block):
    """A block on images: 4 axes, two of them spatial.

    Args:
        use_bias: whether the convolutions have a bias beside the normalization.
            Defaults to False.
        kernel_initializer: of all kernels. Defaults to "glorot_uniform".
        kernel_regularizer: of all kernels, depthwise ones included. Defaults to None.
        data_format: "channels_last", "channels_first", or None for the setting of
            Keras. Defaults to None.
        kwargs: those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.
    """

    def __init__(
        self,
        *,
        use_bias: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.use_bias = arguments.flag("use_bias", use_bias)
        self.kernel_initializer = _arguments.initializer(
            "kernel_initializer", kernel_initializer
        )
        self.kernel_regularizer = _arguments.regularizer(
            "kernel_regularizer", kernel_regularizer
        )
        self.data_format = _arguments.data_format("data_format", data_format)
        self.input_spec = keras.InputSpec(ndim=4)

    @property
    def channel_axis(self) -> int:
        """1 or -1."""
        return 1 if self.data_format == "channels_first" else -1

    def new_plan(self) -> ConvPlan:
        """An empty plan whose parts get the arguments of this block."""
        return ConvPlan(
            use_bias=self.use_bias,
            initializer=keras.initializers.serialize(self.kernel_initializer),
            regularizer=keras.regularizers.serialize(self.kernel_regularizer)
            if self.kernel_regularizer is not None
            else None,
            data_format=self.data_format,
        )

    def refuse(self, name: str, allowed: str, value: object, hint: str = "") -> None:
        """Raises for an argument that does not fit the input."""
        text = arguments.message(name, allowed, value, hint)
        raise ValueError(f"Layer '{self.name}': {text}")


class ConvBlock(SpatialBlock):
    """A block of convolutions, each followed by a BatchNormalization.

    Args:
        norm_momentum: of the moving mean and variance, in [0, 1). Defaults to 0.99.
        norm_epsilon: added to the variance, > 0. Defaults to 0.001.
        kwargs: those of `SpatialBlock`.
    """

    def __init__(
        self, *, norm_momentum: float = 0.99, norm_epsilon: float = 1e-3, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.norm_momentum = _arguments.rate("norm_momentum", norm_momentum)
        self.norm_epsilon = arguments.number(
            "norm_epsilon", norm_epsilon, low=0, include_low=False
        )

    def new_plan(self) -> ConvPlan:
        """An empty plan whose parts get the arguments of this block."""
        plan = super().new_plan()
        plan.momentum, plan.epsilon = self.norm_momentum, self.norm_epsilon
        return plan
