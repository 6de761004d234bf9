"""Activation functions: which LiteRT fuses, and what their outputs can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

FUSED = ("linear", "relu", "relu6")
OWN_OP = ("softmax", "sigmoid", "tanh", "gelu", "leaky_relu")
PRODUCT = ("silu", "swish")
KNOWN = (*FUSED, *OWN_OP, *PRODUCT, "hard_silu", "hard_swish")

# LiteRT's kernels demand these ranges of int8 outputs.
_FIXED = {
    "softmax": (0.0, 255 / 256),
    "sigmoid": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}


def name_of(function: Any) -> str:
    """The name of an activation function; "" for one that Keras does not know."""
    if function is None:
        return "linear"
    name = getattr(function, "__name__", "")
    known = getattr(keras.activations, name, None)
    return name if known is function else ""


def of_layer(layer: Any) -> str | None:
    """What an activation layer computes, or None for any other layer; "" if unknown."""
    kinds = keras.layers
    if isinstance(layer, kinds.Activation):
        return name_of(layer.activation)
    if isinstance(layer, kinds.ReLU):
        if layer.threshold:
            return ""
        if layer.negative_slope:
            return "leaky_relu" if layer.max_value is None else ""
        return {None: "relu", 6.0: "relu6"}.get(layer.max_value, "")
    if isinstance(layer, kinds.Softmax):
        return "softmax" if layer.axis == -1 else ""
    if isinstance(layer, (kinds.LeakyReLU, kinds.PReLU)):
        return "leaky_relu"
    return "elu" if isinstance(layer, kinds.ELU) else None


def fixed_range(name: str, bits: int) -> tuple[float, float] | None:
    """The range that the output of a function has in LiteRT, where it has one."""
    return _FIXED.get(name) if bits == 8 else None


def apply(
    function: Callable[[Any], Any], name: str, x: Any, gate: Callable[[Any], Any]
) -> Any:
    """The function, with what it computes on the way on a grid too.

    Args:
        function: the activation.
        name: its name.
        x: its input, on a grid already.
        gate: puts the factor of a product, in [0, 1], on its grid.
    """
    if name in PRODUCT:
        return x * gate(ops.sigmoid(x))
    return function(x)
