"""Activation functions: which LiteRT fuses, and what their outputs can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_fitkit.quantization import tables

FUSED = ("linear", "relu", "relu6")
POSITIVE = ("relu", "relu6")
OWN_OP = (
    *("softmax", "sigmoid", "tanh", "gelu", "leaky_relu", "exponential"),
    *("hard_silu", "hard_swish", "log_softmax", "glu"),
)
PRODUCT = ("silu", "swish")
TABLE = "table"  # of its 256 values
KNOWN = (*FUSED, *OWN_OP, *PRODUCT, TABLE)

# LiteRT's kernels demand these ranges of int8 outputs, and of int16 ones.
_FIXED = {
    "softmax": (0.0, 255 / 256),
    "sigmoid": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}
_FIXED_16 = (-1.0, 32767 / 32768)


def name_of(function: Any) -> str:
    """How an activation function is computed in LiteRT.

    The name of one that has kernels there, `TABLE` for any other that works value by
    value, "" where there is no way.
    """
    if function is None:
        return "linear"
    name = getattr(function, "__name__", "")
    if name in KNOWN and getattr(keras.activations, name, None) is function:
        return name
    return TABLE if tables.works_alone(function) else ""


def of_layer(layer: Any) -> str | None:
    """The same for what an activation layer computes; None for any other layer."""
    kinds = keras.layers
    if isinstance(layer, kinds.Activation):
        return name_of(layer.activation)
    if isinstance(layer, kinds.ReLU):
        if layer.negative_slope and not layer.threshold and layer.max_value is None:
            return "leaky_relu"
        if layer.negative_slope or layer.threshold:
            return TABLE
        return {None: "relu", 6.0: "relu6"}.get(layer.max_value, TABLE)
    if isinstance(layer, kinds.Softmax):
        return "softmax" if layer.axis == -1 else ""
    if isinstance(layer, (kinds.LeakyReLU, kinds.PReLU)):
        return "leaky_relu"
    return TABLE if isinstance(layer, kinds.ELU) else None


def fixed_range(name: str, bits: int) -> tuple[float, float] | None:
    """The range that the output of a function has in LiteRT, where it has one."""
    if name not in _FIXED or bits not in (8, 16):
        return None
    return _FIXED[name] if bits == 8 else _FIXED_16


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
    if name == TABLE:
        return tables.marked(function, x)
    if name in PRODUCT:
        return x * gate(ops.sigmoid(x))
    return function(x)
