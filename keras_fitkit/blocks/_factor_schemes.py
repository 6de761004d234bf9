"""The ways to take the kernel of a layer apart: its matrix, its cost, its layers."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_fitkit._core import arrays
from keras_fitkit.blocks import _factor_layers, _folding, _macs, _svd, low_rank
from keras_fitkit.blocks._einsum import EinsumForm
from keras_fitkit.blocks._svd import Matrix

Kinds = (layers.Dense, layers.EinsumDense, layers.Conv2D)


@dataclasses.dataclass(frozen=True)
class Scheme:
    """One way to factorize a layer.

    Attributes:
        name: "dense", "channel" or "spatial".
        matrix: the kernel as a matrix (m, n), float64.
        down, up: the MACs of one rank in the two new layers; each parameter count is
            that of one place.
        down_places, up_places: how often they run for one example, or None.
        rows: given an input as an array, the rows that the matrix multiplies.
        make: given the two factors, the layers to call.
    """

    name: str
    matrix: Matrix
    down: int
    up: int
    down_places: int | None
    up_places: int | None
    rows: Callable[[Any], Matrix]
    make: Callable[[Matrix, Matrix], Any]

    @property
    def full(self) -> int:
        """The full rank."""
        return int(min(self.matrix.shape))

    def params(self, rank: int) -> int:
        """Weights of the two kernels."""
        return rank * (self.down + self.up)

    def macs(self, rank: int) -> int | None:
        """MACs of the two layers for one example."""
        if self.down_places is None or self.up_places is None:
            return None
        return rank * (self.down * self.down_places + self.up * self.up_places)

    def cost(self, rank: int) -> int:
        """MACs, or parameters where a size is not known."""
        found = self.macs(rank)
        return self.params(rank) if found is None else found

    def largest(self, rank: int, cost: int) -> int:
        """The largest rank up to the given one that costs less than `cost`, or 0."""
        return min(rank, self.full, (cost - 1) // max(self.cost(1), 1))


def obstacle(layer: Any) -> str:
    """Why a layer of `Kinds` cannot be factorized; empty if it can."""
    if not _folding.is_kernel_plain(layer):
        return "its kernel is quantized or has LoRA"
    if type(layer) not in Kinds:
        return f"a {type(layer).__name__}, which may compute otherwise"
    if isinstance(layer, layers.Conv2D) and layer.groups != 1:
        return f"{layer.groups} groups: what is left of each is small"
    if isinstance(layer, layers.EinsumDense) and EinsumForm.of(layer) is None:
        return f"the equation {layer.equation!r} has no product of two matrices"
    return ""


def schemes(layer: Any, nodes: Sequence[Any]) -> list[Scheme]:
    """The ways to factorize a layer that has no `obstacle`."""
    if isinstance(layer, layers.Dense):
        return [_dense(layer, nodes)]
    if isinstance(layer, layers.EinsumDense):
        return [_einsum(layer, nodes)]
    found = [_conv(layer, nodes, "channel")]
    if layer.kernel_size != (1, 1):
        found.append(_conv(layer, nodes, "spatial"))
    return found


def cost(layer: Any, nodes: Sequence[Any]) -> int:
    """MACs of a layer's calls, or the size of its kernel where they are not known."""
    found = total(_macs.of_call(node) for node in nodes)
    return math.prod(layer.kernel.shape) if found is None else found


def total(counts: Any) -> int | None:
    """The sum, or None where one is not known."""
    counts = list(counts)
    return None if None in counts else sum(counts)


def _dense(layer: Any, nodes: Sequence[Any]) -> Scheme:
    kernel = _float64(layer.kernel)
    places = total(_macs.positions(node.outputs[0].shape) for node in nodes)
    inputs, units = kernel.shape
    make = functools.partial(_factor_layers.of_dense, layer)

    def rows(array: Any) -> Matrix:
        return np.reshape(array, (-1, inputs))

    return Scheme("dense", kernel, inputs, units, places, places, rows, make)


def _einsum(layer: Any, nodes: Sequence[Any]) -> Scheme:
    form = EinsumForm.of(layer)
    if form is None:
        raise ValueError(f"{layer.equation!r} cannot be factorized")
    matrix = form.matrix(_float64(layer.kernel))
    places = total(
        _macs.einsum_positions(layer, node.inputs[0].shape) for node in nodes
    )
    inputs, units = matrix.shape
    make = functools.partial(form.make, layer)
    return Scheme("dense", matrix, inputs, units, places, places, form.rows, make)


def _conv(layer: Any, nodes: Sequence[Any], name: str) -> Scheme:
    kernel = _float64(layer.kernel)
    height, width, channels, filters = kernel.shape
    after = total(_macs.pixels(layer, node.outputs[0].shape) for node in nodes)
    if name == "channel":
        costs = (height * width * channels, filters, after, after)
        size, steps = (height, width), (layer.strides, layer.dilation_rate)
    else:
        between = total(_columns(layer, node) for node in nodes)
        costs = (height * channels, width * filters, between, after)
        size = (height, 1)
        steps = ((layer.strides[0], 1), (layer.dilation_rate[0], 1))
    make = functools.partial(_factor_layers.of_conv, layer, name)

    def rows(array: Any) -> Matrix:
        return _patches(layer, array, size, *steps)

    return Scheme(name, low_rank.conv_matrix(kernel, name), *costs, rows, make)


def _columns(layer: Any, node: Any) -> int | None:
    """Pixels between the layers of "spatial": the rows after, the columns before."""
    first = layer.data_format == "channels_first"
    row, column = (2, 3) if first else (1, 2)
    sizes = (node.outputs[0].shape[row], node.inputs[0].shape[column])
    return _macs.product(sizes)


def _patches(layer: Any, array: Any, size: Any, strides: Any, dilation: Any) -> Matrix:
    if layer.data_format == "channels_first":
        array = np.transpose(array, (0, 2, 3, 1))
    if size == (1, 1):
        found = array[:, :: strides[0], :: strides[1]]
    else:
        found = arrays.to_numpy(
            ops.image.extract_patches(
                ops.convert_to_tensor(array),
                size=size,
                strides=strides,
                dilation_rate=dilation,
                padding=layer.padding,
                data_format="channels_last",
            )
        )
    return np.reshape(found, (-1, found.shape[-1]))


def _float64(variable: Any) -> Matrix:
    return np.asarray(arrays.to_numpy(variable), "float64")


def decompose(scheme: Scheme, moments: Matrix | None) -> _svd.Decomposition:
    """The decomposition of a scheme's matrix, weighted if there are moments."""
    return _svd.decompose(scheme.matrix, moments)


def is_kind(layer: Any) -> bool:
    """Whether a layer has a kernel that might be factorized."""
    transposed = isinstance(layer, keras.layers.Conv2DTranspose)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return isinstance(layer, Kinds) and not (transposed or depthwise)
