"""What the weights of a model are made of: zeros, distinct values, bits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_fitkit._core import _private, arrays, layers
from keras_fitkit.quantization import QuantizeWrapper

CODEBOOK = 256  # more distinct values are no codebook


@dataclasses.dataclass(frozen=True)
class WeightStorage:
    """What one weight is made of.

    Of a weight that a layer keeps on a grid (`compression_info`) the integers count,
    not the floats they come from.

    Attributes:
        path: path of its layer below the model and its own name, joined by "/".
        shape: its shape.
        num_nonzero: how many of its values are not zero.
        distinct: how many different values it has.
        bits: of one value: those of its grid; else what an index into a table of the
            distinct values needs, where there are at most 256 and half as many as
            values; else those of its dtype. The table and zeros that need no storage
            are not counted: `packed_bytes` measures that.
        arithmetic: "float32", "float16" or "int8": what products with it are made of.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.report import WeightStorage
        >>> one = WeightStorage("dense/kernel", (4, 2), 6, 3, 2, "float32")
        >>> one.size, one.total_bits
        (8, 16)
    """

    path: str
    shape: tuple[int, ...]
    num_nonzero: int
    distinct: int
    bits: int
    arithmetic: str

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def total_bits(self) -> int:
        """Of all values together."""
        return self.size * self.bits


def storage_of(model: Any) -> tuple[WeightStorage, ...]:
    """A row for each weight of a built Keras model, in its order."""
    grids = _grids(model)
    found = []
    seen: set[int] = set()
    for prefix, layer in layers.leaf_layers(model):
        for variable in _private.own_variables(layer):
            if id(variable) in seen:
                continue
            seen.add(id(variable))
            path = f"{prefix}/{variable.name}" if prefix else variable.name
            info, integers = grids.get(id(variable), (None, False))
            value = arrays.to_numpy(variable)
            found.append(_row(path, value, info, integers))
    return tuple(found)


def storage_of_array(path: str, value: Any, arithmetic: str) -> WeightStorage:
    """A row for a weight as it lies in a LiteRT file."""
    row = _row(path, value, None, False)
    bits = 8 * value.dtype.itemsize
    return dataclasses.replace(row, bits=bits, arithmetic=arithmetic)


def _row(
    path: str, value: Any, info: Mapping[str, Any] | None, integers: bool
) -> WeightStorage:
    shape = tuple(value.shape)
    width = 8 * value.dtype.itemsize
    arithmetic = "float16" if width == 16 else "float32"
    bits = None
    if info is not None and info.get("scale") is not None:
        value, bits = _codes(value, info), int(info["bits"])
        arithmetic = "int8" if integers and bits <= 8 else arithmetic
    elif info is not None and info.get("bits"):
        width = min(width, int(info["bits"]))
    distinct = len(np.unique(value))
    if bits is None and distinct <= min(CODEBOOK, value.size // 2):
        bits = max(1, math.ceil(math.log2(max(1, distinct))))
    nonzero = int(np.count_nonzero(value))
    return WeightStorage(path, shape, nonzero, distinct, bits or width, arithmetic)


def _codes(value: Any, info: Mapping[str, Any]) -> Any:
    """The integers of a symmetric grid, without its lowest one."""
    highest = 2 ** (int(info["bits"]) - 1) - 1
    scale = np.asarray(info["scale"], "float32")
    codes = np.round(value / np.where(scale, scale, 1.0))
    return np.clip(codes, -highest, highest).astype("int32")


def _grids(model: Any) -> dict[int, tuple[Mapping[str, Any], bool]]:
    """What layers say of their weights, by the id of the variable.

    With it whether the layer rounds activations too, so that it computes with integers.
    """
    found: dict[int, tuple[Mapping[str, Any], bool]] = {}
    waiting, seen = [model], {id(model)}
    while waiting:
        layer = waiting.pop()
        if hasattr(type(layer), "compression_info"):
            told = layer.compression_info or {}
            integers = (
                isinstance(layer, QuantizeWrapper)
                and layer.config.activation_bits is not None
            )
            for variable in layer.weights:
                if variable.path in told:
                    found[id(variable)] = told[variable.path], integers
        below = [one for one in _private.sublayers(layer) if id(one) not in seen]
        seen.update(id(one) for one in below)
        waiting += below
    return found
