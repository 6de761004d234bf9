"""Layers as what they are: a matrix that what reaches each place is multiplied with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from keras import ops

from keras_fitkit._core import arrays, kernels

Array: TypeAlias = npt.NDArray[Any]

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")


@dataclasses.dataclass(frozen=True)
class KernelMatrix:
    """The kernel of a layer as matrices; outputs are patches times matrices, and bias.

    Attributes:
        patches: of inputs, as (groups, places, rows): what is multiplied.
        to_rows: the kernel as (groups, rows, outputs). There is one matrix, or one for
            each group of a convolution or channel of a depthwise one.
        from_rows: the way back.
        bias: the variable that is added, in the order of groups and outputs, or None.
    """

    patches: Callable[[Any], Array]
    to_rows: Callable[[Array], Array]
    from_rows: Callable[[Array], Array]
    bias: Any = None


def of_layer(layer: Any) -> KernelMatrix | None:
    """The matrices of a built layer of Keras with one kernel; None for any other.

    Args:
        layer: Dense, EinsumDense, a convolution, a depthwise or transposed one. Not a
            subclass: nobody knows what it computes.
    """
    if type(layer).__module__.partition(".")[0] != "keras":
        return None
    if getattr(layer, "lora_enabled", False) or getattr(
        layer, "quantization_mode", None
    ):
        return None
    if kernels.is_one_of(layer, ("EinsumDense",)):
        return _einsum(layer)
    if kernels.is_one_of(layer, ("Dense",)):
        return KernelMatrix(
            lambda x: _array(x).reshape(1, -1, x.shape[-1]),
            lambda kernel: kernel[None],
            lambda rows: rows[0],
            getattr(layer, "bias", None),
        )
    if kernels.is_one_of(layer, kernels.DEPTHWISE):
        return _depthwise(layer)
    if kernels.is_one_of(layer, kernels.TRANSPOSED):
        return _transposed(layer)
    return _convolution(layer) if kernels.is_one_of(layer, _CONVOLUTIONS) else None


def channel_axis(layer: Any, rank: int) -> int | None:
    """The axis of the outputs with a place for each column; None where there are more.

    Args:
        layer: one with matrices.
        rank: of its outputs.
    """
    if kernels.is_one_of(layer, ("EinsumDense",)):
        _, outputs = kernels.axes(layer, layer.kernel)
        left, _, result = layer.equation.replace(" ", "").partition("->")
        last = left.split(",")[1][outputs[0]] == result[-1]
        return rank - 1 if len(outputs) == 1 and last else None
    first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if first else rank - 1


def _convolution(layer: Any) -> KernelMatrix:
    """A kernel that is an identity gives out what each place sees."""
    shape = tuple(layer.kernel.shape)
    count, size = layer.groups, math.prod(shape[:-1])
    identity = np.eye(size, dtype="float32").reshape(*shape[:-1], size)
    how = {"strides": layer.strides, "dilation_rate": layer.dilation_rate}
    causal = layer.padding == "causal"

    def patches(x: Any) -> Array:
        x = _channels_last(layer, x)
        if causal:
            before = layer.dilation_rate[0] * (shape[0] - 1)
            x = ops.pad(x, ((0, 0), (before, 0), (0, 0)))
        padding = "valid" if causal else layer.padding
        # Grouped convolutions are slow, or not there, on some backends.
        found = [
            arrays.to_numpy(
                ops.conv(
                    one, identity, padding=padding, data_format="channels_last", **how
                )
            )
            for one in ops.split(x, count, axis=-1)
        ]
        return np.stack([one.reshape(-1, size) for one in found])

    return KernelMatrix(
        patches,
        lambda kernel: kernel.reshape(size, count, -1).swapaxes(0, 1),
        lambda rows: rows.swapaxes(0, 1).reshape(shape),
        getattr(layer, "bias", None),
    )


def _depthwise(layer: Any) -> KernelMatrix:
    shape = tuple(layer.kernel.shape)
    channels, many = shape[-2:]
    size = math.prod(shape[:-2])
    identity = np.eye(size, dtype="float32").reshape(*shape[:-2], 1, size)
    identity = np.repeat(identity, channels, axis=-2)

    def patches(x: Any) -> Array:
        found = ops.depthwise_conv(
            _channels_last(layer, x),
            identity,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format="channels_last",
        )
        rows: Array = arrays.to_numpy(found).reshape(-1, channels, size)
        return rows.swapaxes(0, 1)

    return KernelMatrix(
        patches,
        lambda kernel: kernel.reshape(size, channels, many).swapaxes(0, 1),
        lambda rows: rows.swapaxes(0, 1).reshape(shape),
        getattr(layer, "bias", None),
    )


def _transposed(layer: Any) -> KernelMatrix:
    shape = tuple(layer.kernel.shape)  # (places, outputs, inputs)
    places, (outputs, inputs) = shape[:-2], shape[-2:]
    size = math.prod(places) * inputs
    identity = np.eye(size, dtype="float32").reshape(*places, inputs, size)
    identity = np.ascontiguousarray(identity.swapaxes(-1, -2))

    def patches(x: Any) -> Array:
        found = ops.conv_transpose(
            _channels_last(layer, x),
            identity,
            strides=layer.strides,
            padding=layer.padding,
            output_padding=layer.output_padding,
            dilation_rate=layer.dilation_rate,
            data_format="channels_last",
        )
        rows: Array = arrays.to_numpy(found).reshape(1, -1, size)
        return rows

    return KernelMatrix(
        patches,
        lambda kernel: kernel.swapaxes(-1, -2).reshape(1, size, outputs),
        lambda rows: rows.reshape(*places, inputs, outputs).swapaxes(-1, -2),
        getattr(layer, "bias", None),
    )


def _einsum(layer: Any) -> KernelMatrix | None:
    left, _, result = layer.equation.replace(" ", "").partition("->")
    given, kernel = left.split(",")
    shape = tuple(layer.kernel.shape)
    summed, outputs = kernels.axes(layer, layer.kernel)
    in_both = any(kernel[axis] in given for axis in outputs)
    if in_both or any(kernel[axis] not in given for axis in summed):
        return None  # each place has a matrix of its own
    dots = given.find("...")
    tail = given[dots + 3 :] if dots >= 0 else given
    if any(kernel[axis] not in tail for axis in summed):
        return None
    moved = [tail.index(kernel[axis]) - len(tail) for axis in summed]
    size = math.prod(shape[axis] for axis in summed)
    order = [*summed, *outputs]
    # The axes of the bias are in the order of the result.
    names = [kernel[axis] for axis in outputs]
    bias = getattr(layer, "bias", None)
    fits = bias is not None and (
        tuple(bias.shape) == tuple(shape[axis] for axis in outputs)
        and names == [name for name in result if name in names]
    )

    def patches(x: Any) -> Array:
        last = list(range(-len(moved), 0))
        return np.moveaxis(_array(x), moved, last).reshape(1, -1, size)

    return KernelMatrix(
        patches,
        lambda value: value.transpose(order).reshape(1, size, -1),
        lambda rows: rows.reshape([shape[axis] for axis in order]).transpose(
            np.argsort(order)
        ),
        bias if fits else None,
    )


def _array(x: Any) -> Array:
    found: Array = arrays.to_numpy(ops.cast(x, "float32"))
    return found


def _channels_last(layer: Any, x: Any) -> Any:
    x = ops.cast(x, "float32")
    if layer.data_format == "channels_first":
        return ops.moveaxis(x, 1, -1)
    return x
