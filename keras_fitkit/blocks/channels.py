"""ChannelShuffle and ChannelSlice: channels in another order, and some of them."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._configured import ConfiguredLayer
from keras_fitkit.blocks._plan import Shape, Tensor


@serializable
class ChannelShuffle(ConfiguredLayer):
    """Mixes the channels of groups: the first of each group, the second of each, ...

    With C channels in g groups, channel j * g + i of the output is channel
    i * C / g + j of the input. Put it between two grouped convolutions, which would
    otherwise never see each other's channels. Zhang et al., "ShuffleNet: An Extremely
    Efficient Convolutional Neural Network for Mobile Devices", 2017, arXiv:1707.01083,
    figure 1.

    Args:
        groups: an integer >= 1 that divides the channels.
        data_format: "channels_last", "channels_first", or None for the setting of
            Keras. Defaults to None.
        kwargs: those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.

    Input shape:
        (batch, ..., channels), or (batch, channels, ...) with "channels_first".

    Output shape:
        The same.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; groups that do
            not divide the channels of the input.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> shuffle = kf.blocks.ChannelShuffle(2, data_format="channels_last")
        >>> found = shuffle(np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]))
        >>> keras.ops.convert_to_numpy(found).tolist()
        [[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]]
    """

    def __init__(
        self, groups: int, *, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.groups = arguments.integer("groups", groups, low=1)
        self.data_format = _arguments.data_format("data_format", data_format)

    def build(self, input_shape: Shape) -> None:
        """Checks the channels."""
        channels = input_shape[self._axis]
        if channels is None or channels % self.groups:
            allowed = f"a divisor of the {channels} channels"
            text = arguments.message("groups", allowed, self.groups)
            raise ValueError(f"Layer '{self.name}': {text}")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Two reshapes with a transposition between them."""
        shape, groups = ops.shape(inputs), self.groups
        if self._axis == -1:
            rest, channels = tuple(shape[1:-1]), inputs.shape[-1]
            split = ops.reshape(inputs, (-1, *rest, groups, channels // groups))
            mixed = ops.swapaxes(split, -1, -2)
            return ops.reshape(mixed, (-1, *rest, channels))
        rest, channels = tuple(shape[2:]), inputs.shape[1]
        split = ops.reshape(inputs, (-1, groups, channels // groups, *rest))
        return ops.reshape(ops.swapaxes(split, 1, 2), (-1, channels, *rest))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the input."""
        return tuple(input_shape)

    @property
    def _axis(self) -> int:
        return 1 if self.data_format == "channels_first" else -1


@serializable
class ChannelSlice(ConfiguredLayer):
    """The channels from `start` up to `stop`, as Python slices them.

    `ShuffleUnit` and `GhostModule` need it, and Keras has no layer for it.

    Args:
        start: the first channel, an integer >= 0.
        stop: the channel after the last one, an integer > `start`.
        data_format: "channels_last", "channels_first", or None for the setting of
            Keras. Defaults to None.
        kwargs: those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.

    Input shape:
        (batch, ..., channels), or (batch, channels, ...) with "channels_first".

    Output shape:
        The same with `stop` - `start` channels.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; `stop` above the
            channels of the input.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> half = kf.blocks.ChannelSlice(2, 4, data_format="channels_last")
        >>> found = half(np.array([[0.0, 1.0, 2.0, 3.0]]))
        >>> keras.ops.convert_to_numpy(found).tolist()
        [[2.0, 3.0]]
    """

    def __init__(
        self, start: int, stop: int, *, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.start = arguments.integer("start", start, low=0)
        self.stop = arguments.integer("stop", stop, low=self.start + 1)
        self.data_format = _arguments.data_format("data_format", data_format)

    def build(self, input_shape: Shape) -> None:
        """Checks the channels."""
        channels = input_shape[self._axis]
        if channels is None or channels < self.stop:
            allowed = f"at most the {channels} channels"
            text = arguments.message("stop", allowed, self.stop)
            raise ValueError(f"Layer '{self.name}': {text}")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """One slice."""
        if self._axis == -1:
            return inputs[..., self.start : self.stop]
        return inputs[:, self.start : self.stop]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the input, with fewer channels."""
        shape = list(input_shape)
        shape[self._axis] = self.stop - self.start
        return tuple(shape)

    @property
    def _axis(self) -> int:
        return 1 if self.data_format == "channels_first" else -1
