"""Which variables of a layer are kernels, and what their axes mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_fitkit._core import _private
from keras_fitkit._core.layers import leaf_layers

# By the layer that owns them. A recurrent layer owns none: its cell does; attention is
# made of EinsumDense.
TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
CELLS = ("SimpleRNNCell", "LSTMCell", "GRUCell", "ConvLSTMCell")
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
_KERNELS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", *TRANSPOSED), ("kernel",)),
    (SEPARABLE, ("depthwise_kernel", "pointwise_kernel")),
    (CELLS, ("kernel", "recurrent_kernel")),
)


def is_one_of(layer: Any, kinds: Sequence[str]) -> bool:
    """By name, because Keras does not export all of these classes (ConvLSTMCell)."""
    return any(
        kind.__name__ in kinds and kind.__module__.split(".")[0] == "keras"
        for kind in type(layer).__mro__
    )


def names(layer: Any) -> tuple[str, ...]:
    """The names of the kernels that a layer of Keras owns; () for any other layer."""
    for kinds, found in _KERNELS:
        if is_one_of(layer, kinds):
            return found
    return ()


def weights(model: Any) -> Iterable[tuple[str, Any, Any]]:
    """Every variable of a layer: its path below the model, the layer, the variable."""
    for prefix, layer in leaf_layers(model):
        for variable in _private.own_variables(layer):
            path = f"{prefix}/{variable.name}" if prefix else variable.name
            yield path, layer, variable


def axes(layer: Any, variable: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that are summed over, and those that index the outputs.

    Any other axis (the places of a convolution) is neither.
    """
    rank = len(variable.shape)
    inputs: tuple[int, ...] = (rank - 2,)
    outputs: tuple[int, ...] = (rank - 1,)
    if is_one_of(layer, TRANSPOSED):
        return outputs, inputs
    if isinstance(layer, keras.layers.EinsumDense) and variable.name == "kernel":
        return _einsum_axes(layer.equation)
    return inputs, outputs


def channels(layer: Any, variable: Any) -> tuple[int, ...]:
    """The axes that index the output channels, each of which may have its own scale."""
    rank = len(variable.shape)
    if is_one_of(layer, DEPTHWISE) or variable.name == "depthwise_kernel":
        return rank - 2, rank - 1
    return axes(layer, variable)[1]


def _einsum_axes(equation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The contracted and the other axes of an EinsumDense kernel."""
    left, _, result = equation.replace(" ", "").partition("->")
    kernel = left.split(",")[1]
    contracted = tuple(i for i, axis in enumerate(kernel) if axis not in result)
    return contracted, tuple(i for i in range(len(kernel)) if i not in contracted)
