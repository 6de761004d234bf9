"""Layers that are computed in another way, so that LiteRT finds its kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_fitkit._core import kernels
from keras_fitkit.quantization import fake_quant
from keras_fitkit.quantization.fake_quantize import is_exporting, observes


def separable(
    layer: Any,
    inputs: Any,
    kernels: Mapping[str, Any],
    between: Callable[[Any], Any],
    activate: bool = True,
) -> Any:
    """A separable convolution as the two that LiteRT makes of it.

    Args:
        layer: SeparableConv1D or SeparableConv2D, built.
        inputs: its inputs.
        kernels: its two kernels, by their names.
        between: puts what the first convolution gives on a grid.
        activate: whether the activation is applied.
    """
    how = {"padding": layer.padding, "data_format": layer.data_format}
    x = ops.depthwise_conv(
        ops.cast(inputs, layer.compute_dtype),
        kernels["depthwise_kernel"],
        strides=layer.strides,
        dilation_rate=layer.dilation_rate,
        **how,
    )
    pointwise = kernels["pointwise_kernel"]
    x = ops.conv(between(x), pointwise, **{**how, "padding": "valid"})
    if layer.use_bias:
        bias = layer.bias if layer.data_format == "channels_last" else _first(layer)
        x = x + ops.cast(bias, x.dtype)
    return layer.activation(x) if activate else x


def merges_many(layer: Any) -> bool:
    """Whether it adds or multiplies more than two tensors, in LiteRT pair by pair."""
    if not kernels.is_one_of(layer, ("Add", "Multiply", "Average")):
        return False
    shapes = (layer.get_build_config() or {}).get("input_shape")
    return shapes is not None and len(shapes) > 2


def merged(layer: Any, inputs: Any, between: Any, training: Any) -> Any:
    """A sum or product of several tensors as LiteRT computes it: pair by pair.

    Args:
        layer: Add, Multiply, or the `add` of an average.
        inputs: more than two tensors.
        between: the FakeQuantize whose one range is that of all that come before the
            last.
        training: whether it looks at the values.
    """
    first, *others, last = inputs
    if observes(training):
        exact, found = first, []
        for one in others:
            exact = layer([exact, one])
            found.append(exact)
        between.observe(found)
    for one in others:
        first = between.quantized(layer([first, one]), training=training)
    return layer([first, last])


def averaged(inputs: Any, between: Any, after: Any, training: Any) -> Any:
    """The mean of tensors. For an export their sum is rounded, and then divided.

    The grid of the sum is that of the mean, so many times as large: the division by a
    constant, which LiteRT computes with integers too, moves no code.

    Args:
        inputs: the tensors.
        between: the FakeQuantize of sums before the last, of more than two.
        after: the FakeQuantize of the mean, or None.
        training: whether `between` looks at the values.
    """

    def add(pair: Any) -> Any:
        return pair[0] + pair[1]

    count = len(inputs)
    if between is not None:
        total = merged(add, inputs, between, training)
    else:
        total = inputs[0]
        for one in inputs[1:]:
            total = total + one
    if after is not None and is_exporting():
        low, high = after.ends()
        dtype = total.dtype
        total = ops.cast(total, "float32")
        total = fake_quant.fake_quant(total, count * low, count * high, after.bits)
        total = ops.cast(total, dtype)
    return total * (1.0 / count)


def _first(layer: Any) -> Any:
    return ops.reshape(layer.bias, (1, -1) + (1,) * layer.rank)


def frozen_norm(norm: Any, inputs: Any, args: Any, kwargs: Any, past: Any) -> Any:
    """BatchNormalization with batch statistics up to a step, then the moving ones.

    Args:
        norm: the layer.
        inputs: its inputs.
        args: more arguments of its call.
        kwargs: those with names.
        past: whether the step has come, a tensor.
    """
    moving = (norm.moving_mean, norm.moving_variance)
    before = [ops.convert_to_tensor(one) + 0 for one in moving]
    still = norm(inputs, *args, **{**kwargs, "training": False})
    trained = norm(inputs, *args, **{**kwargs, "training": True})
    for variable, value in zip(moving, before, strict=True):
        variable.assign(ops.where(past, value, ops.convert_to_tensor(variable)))
    return ops.where(past, still, trained)


def can_be_convolution(norm: Any, shape: Any) -> bool:
    """Whether a BatchNormalization can be computed by `norm_as_convolution`."""
    rank = len(shape)
    return (
        isinstance(norm, keras.layers.BatchNormalization)
        and rank in (2, 3, 4)
        and norm.axis in (-1, rank - 1)
        and all(size is not None for size in shape[1:])
    )


def norm_as_convolution(norm: Any, inputs: Any) -> Any:
    """BatchNormalization in inference as a depthwise convolution of one place.

    LiteRT folds it into a convolution before it. Where there is none it multiplies and
    adds, with a rounding between that no training has seen. This kernel rounds once.

    Args:
        norm: the layer, built, of the last axis.
        inputs: (rows, channels), (rows, places, channels) or (rows, height, width,
            channels).
    """
    shape = tuple(inputs.shape)
    scale = ops.rsqrt(ops.convert_to_tensor(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    shift = -scale * norm.moving_mean
    if norm.center:
        shift = shift + norm.beta
    x = ops.reshape(inputs, (-1, *(1,) * (4 - len(shape)), *shape[1:]))
    kernel = ops.reshape(scale, (1, 1, shape[-1], 1))
    x = ops.depthwise_conv(x, kernel, data_format="channels_last") + shift
    return ops.reshape(x, (-1, *shape[1:]))
