"""GroupedConv2D and GroupedDense: groups of channels that do not see each other."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._configured import ConfiguredLayer
from keras_fitkit.blocks._plan import Shape, Tensor


@serializable
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D(groups=...)` without its slow path on TensorFlow.

    The variables, their shapes, the result and the configuration are those of Keras's
    layer. On TensorFlow Keras 3 wraps a grouped convolution in a compiled function of
    its own whose backward pass takes tens of times as long on a CPU. Here runs

    - a depthwise convolution where there are as many groups as channels,
    - TensorFlow's raw op where it has gradients: on a GPU, and on CPUs for which
      TensorFlow switches oneDNN on,
    - elsewhere a convolution for each group.

    On JAX and torch, with one group, and where only XLA has the gradients (dilation on
    CPUs without oneDNN) it is Keras's layer as it is.

    Grouped convolutions: Xie et al., "Aggregated Residual Transformations for Deep
    Neural Networks", 2016, arXiv:1611.05431, figure 3 (c).

    Args:
        filters: channels of the output, a multiple of `groups`.
        kernel_size: an integer >= 1, or two of them.
        groups: an integer >= 1 that divides the channels of the input.
        kwargs: the other arguments of `keras.layers.Conv2D`.

    Input shape:
        (batch, height, width, channels), or (batch, channels, height, width) with
        `data_format="channels_first"`.

    Output shape:
        As that of `keras.layers.Conv2D`.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.GroupedConv2D(8, 3, groups=4, use_bias=False)
        >>> layer.build((None, 16, 16, 4))
        >>> layer.count_params() == 3 * 3 * (4 // 4) * 8
        True
    """

    def __init__(
        self, filters: int, kernel_size: Any, *, groups: int = 1, **kwargs: Any
    ) -> None:
        filters = arguments.integer("filters", filters, low=1)
        kernel_size = _arguments.pair("kernel_size", kernel_size)
        groups = arguments.integer("groups", groups, low=1)
        if filters % groups:
            allowed = f"a divisor of filters={filters}"
            raise ValueError(arguments.message("groups", allowed, groups))
        checked = {
            name: _CHECKS[name](name, kwargs[name])
            for name in kwargs
            if name in _CHECKS
        }
        super().__init__(filters, kernel_size, groups=groups, **{**kwargs, **checked})

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias; the groups must divide the input channels."""
        channels = input_shape[1 if self.data_format == "channels_first" else -1]
        if channels is not None and channels % self.groups:
            allowed = f"a divisor of the {channels} input channels of '{self.name}'"
            raise ValueError(arguments.message("groups", allowed, self.groups))
        super().build(input_shape)

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The convolution alone, without bias and activation."""
        if keras.backend.backend() != "tensorflow" or self.groups == 1:
            return super().convolution_op(inputs, kernel)
        if self._is_depthwise(kernel):
            return ops.depthwise_conv(
                inputs,
                ops.reshape(kernel, (*kernel.shape[:2], self.groups, -1)),
                strides=self.strides,
                padding=self.padding,
                dilation_rate=self.dilation_rate,
                data_format=self.data_format,
            )
        dilated = self.dilation_rate != (1, 1)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if raw_op_has_gradients(dilated, dtype):
            run = self._raw
        elif plain_op_has_gradients(dilated, dtype):
            run = self._one_by_one
        else:
            return super().convolution_op(inputs, kernel)
        if self.data_format == "channels_last":
            return run(inputs, kernel)
        # On a CPU there is no raw op for channels_first.
        outputs = run(ops.transpose(inputs, (0, 2, 3, 1)), kernel)
        return ops.transpose(outputs, (0, 3, 1, 2))

    def _one_by_one(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        parts = ops.split(inputs, self.groups, axis=-1)
        kernels = ops.split(kernel, self.groups, axis=-1)
        outputs = [
            ops.conv(
                part,
                own,
                strides=self.strides,
                padding=self.padding,
                dilation_rate=self.dilation_rate,
                data_format="channels_last",
            )
            for part, own in zip(parts, kernels, strict=True)
        ]
        return ops.concatenate(outputs, axis=-1)

    def _is_depthwise(self, kernel: Tensor) -> bool:
        # TensorFlow's depthwise op takes one stride, and no dilation beside it.
        plain = self.dilation_rate == (1, 1) or self.strides == (1, 1)
        same = self.strides[0] == self.strides[1]
        return bool(kernel.shape[2] == 1 and same and plain)

    def _raw(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        import tensorflow as tf

        return tf.nn.conv2d(
            inputs,
            ops.convert_to_tensor(kernel),
            strides=list(self.strides),
            padding=self.padding.upper(),
            dilations=list(self.dilation_rate),
        )


def _padding(name: str, value: object) -> str:
    lower = value.lower() if isinstance(value, str) else value
    return arguments.choice(name, lower, ("valid", "same"))


def _activation(name: str, value: Any) -> Any:
    # Keras's layer takes a layer as well.
    is_layer = isinstance(value, keras.layers.Layer)
    return value if is_layer else _arguments.activation(name, value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "strides": _arguments.pair,
    "dilation_rate": _arguments.pair,
    "padding": _padding,
    "data_format": _arguments.data_format,
    "activation": _activation,
    "kernel_initializer": _arguments.initializer,
    "bias_initializer": _arguments.initializer,
    "kernel_regularizer": _arguments.regularizer,
    "bias_regularizer": _arguments.regularizer,
}


@serializable
class GroupedDense(ConfiguredLayer):
    """A dense layer in groups: a block-diagonal kernel.

    The m inputs and n units are cut into g groups in their order; a unit sees the
    inputs of its own group. That takes m * n / g weights and multiplications instead of
    m * n.

    Args:
        units: outputs, an integer >= 1, a multiple of `groups`.
        groups: an integer >= 1 that divides `units` and the inputs.
        activation: a name in `keras.activations`, a function, or None. Defaults to
            None.
        use_bias: whether the layer has a bias. Defaults to True.
        kernel_initializer: its fans are those of an (m / g, units) kernel, as in
            Keras's grouped convolutions. Defaults to "glorot_uniform".
        kernel_regularizer: of the kernel. Defaults to None.
        kwargs: those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.

    Input shape:
        (batch, ..., m).

    Output shape:
        (batch, ..., units).

    Raises:
        TypeError, ValueError: an argument outside its range, by name; groups that do
            not divide the inputs.

    Example:
        >>> import keras_fitkit as kf
        >>> layer = kf.blocks.GroupedDense(6, groups=2)
        >>> layer.build((None, 8))
        >>> layer.count_params() == 8 * 6 // 2 + 6
        True
    """

    def __init__(
        self,
        units: int,
        groups: int,
        *,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = arguments.integer("units", units, low=1)
        self.groups = arguments.integer("groups", groups, low=1)
        if self.units % self.groups:
            allowed = f"a divisor of units={units}"
            raise ValueError(arguments.message("groups", allowed, groups))
        self.activation = _arguments.activation("activation", activation)
        self.use_bias = arguments.flag("use_bias", use_bias)
        self.kernel_initializer = _arguments.initializer(
            "kernel_initializer", kernel_initializer
        )
        self.kernel_regularizer = _arguments.regularizer(
            "kernel_regularizer", kernel_regularizer
        )
        self.supports_masking = True
        self.input_spec = keras.InputSpec(min_ndim=2)

    def build(self, input_shape: Shape) -> None:
        """Makes kernel (groups, inputs / groups, units / groups) and bias."""
        inputs = input_shape[-1]
        if inputs is None or inputs % self.groups:
            allowed = f"a divisor of the {inputs} inputs"
            text = arguments.message("groups", allowed, self.groups)
            raise ValueError(f"Layer '{self.name}': {text}")
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.groups, inputs // self.groups, self.units // self.groups),
            initializer=_PerGroup(self.kernel_initializer),
            regularizer=self.kernel_regularizer,
        )
        self.bias = (
            self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
            if self.use_bias
            else None
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """A batch of small matrix products, one a group."""
        rest, size = tuple(ops.shape(inputs)[1:-1]), inputs.shape[-1]
        split = ops.reshape(inputs, (-1, *rest, self.groups, size // self.groups))
        products = ops.einsum("...gi,gio->...go", split, self.kernel)
        outputs = ops.reshape(products, (-1, *rest, self.units))
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the input with `units` at the end."""
        return (*input_shape[:-1], self.units)

    def count_own_macs(
        self,
        input_shapes: Sequence[tuple[int, ...]],
        output_shapes: Sequence[tuple[int, ...]],
    ) -> int:
        """For `kf.count_macs`: each input channel meets the units of its group."""
        return math.prod(input_shapes[0]) * (self.units // self.groups)


@functools.cache
def raw_op_has_gradients(dilated: bool = False, dtype: str = "float32") -> bool:
    """Whether TensorFlow's own convolution can be trained in groups on this machine.

    Its plain CPU kernels refuse ("Gradients for grouped convolutions are not supported
    on CPU"), those of oneDNN do not. TensorFlow chooses by the kind of CPU and has no
    public way to ask, so the gradients are tried, once in a process for each dtype:
    oneDNN has them in float32 and bfloat16.
    """
    settings = {"padding": "SAME", "dilations": [1, 2, 2, 1] if dilated else [1] * 4}
    return _gradients_run(2, dtype, **settings)


@functools.cache
def plain_op_has_gradients(dilated: bool, dtype: str = "float32") -> bool:
    """Whether TensorFlow's convolution without groups can be trained on this machine.

    A dilated one cannot be on the CPUs of which `raw_op_has_gradients` speaks.
    """
    settings = {"padding": "SAME", "dilations": [1, 2, 2, 1] if dilated else [1] * 4}
    return _gradients_run(1, dtype, **settings)


def _gradients_run(groups: int, dtype: str, **settings: Any) -> bool:
    import tensorflow as tf

    # The ops themselves: no tape records within `init_scope`.
    with tf.init_scope():
        inputs = tf.ones((1, 4, 4, 4), dtype)
        kernel = tf.ones((3, 3, 4 // groups, 4), dtype)
        own = {"out_backprop": inputs, "strides": [1, 1, 1, 1], **settings}
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=inputs.shape, filter=kernel, **own
            )
            tf.raw_ops.Conv2DBackpropFilter(
                input=inputs, filter_sizes=kernel.shape, **own
            )
        except tf.errors.OpError:
            return False
    return True


class _PerGroup(keras.initializers.Initializer):
    """Draws an (inputs, groups * units) kernel and cuts it apart."""

    def __init__(self, initializer: Any) -> None:
        self.initializer = initializer

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        groups, inputs, units = shape
        # One draw: a seeded initializer would give each group the same values.
        drawn = self.initializer((inputs, groups * units), dtype=dtype)
        return ops.transpose(ops.reshape(drawn, (inputs, groups, units)), (1, 0, 2))
