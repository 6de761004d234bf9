"""Puts the integers that were trained into a LiteRT file, as they are.

The converter looks for a grid of its own: 8 bits, the largest weight on the last level.
A grid of fewer bits, or one whose step was trained, is then hit only by chance. Here
the converted weight is found again and its integers and scales are replaced.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

_LAST = 127  # the converter's last level


@dataclasses.dataclass(frozen=True)
class TrainedGrid:
    """The integers of one kernel.

    Attributes:
        layer: the name of its layer.
        rows: the integers as (output channels, the rest).
        bits: their width.
    """

    layer: str
    rows: Any
    bits: int


class GridLost(ValueError):
    """A kernel was not found in the file."""


def keep(content: bytes, grids: Sequence[TrainedGrid]) -> bytes:
    """The file with the integers of `grids` for its weights.

    Weights that the converter has made int8 get new integers and scales, and their
    biases new ones to match. Weights that it has left float become integers that a
    DEQUANTIZE makes floats again when the file is loaded. Up to 4 bits two integers
    share a byte. Every copy of a weight is replaced: the converter makes one for each
    call of a shared layer, where another norm is folded into each.

    Raises:
        GridLost: names the layer whose weights are not in the file.
    """
    tools = importlib.import_module("tensorflow.lite.tools.flatbuffer_utils")
    schema = importlib.import_module("tensorflow.lite.python.schema_py_generated")
    model = tools.convert_bytearray_to_object(bytearray(content))
    file = _File(model, schema)
    for grid in grids:
        if not file.replace(grid):
            raise GridLost(grid.layer)
    for grid in grids:  # a layer that is called twice may be there twice
        while file.replace(grid):
            pass
    return bytes(tools.convert_object_to_bytearray(model))


class _File:
    def __init__(self, model: Any, schema: Any) -> None:
        self.model, self.schema = model, schema
        self.graph = model.subgraphs[0]  # the one that is looked at
        self._done: set[int] = set()  # tensors, by `id`: a number is of one graph
        self._rescaled: set[int] = set()  # biases
        self._stored: dict[bytes, int] = {}  # the buffers of new integers

    def replace(self, grid: TrainedGrid) -> bool:
        """Finds the weight and puts the grid there.

        The kernels of a recurrent layer are in the graph of its loop.
        """
        for graph in self.model.subgraphs:
            self.graph = graph
            if self._replace(grid):
                return True
        return False

    def _replace(self, grid: TrainedGrid) -> bool:
        for index, tensor in enumerate(self.graph.tensors):
            data = self._constant(tensor)
            done = id(tensor) in self._done
            if done or data is None or data.size != grid.rows.size:
                continue
            if data.dtype == np.int8:
                found = self._replace_int8(index, tensor, data, grid)
            else:
                found = self._replace_float(index, tensor, data, grid)
            if found:
                self._done.add(id(tensor))
                return True
        return False

    def _constant(self, tensor: Any) -> Any:
        raw = self.model.buffers[tensor.buffer].data
        types = {
            self.schema.TensorType.INT8: np.int8,
            self.schema.TensorType.FLOAT32: np.float32,
        }
        if raw is None or not len(raw) or tensor.type not in types:
            return None
        array = np.frombuffer(bytes(bytearray(raw)), types[tensor.type])
        return array.reshape([int(size) for size in tensor.shape])

    def _replace_int8(self, index: int, tensor: Any, data: Any, grid: Any) -> bool:
        scales = np.array(tensor.quantization.scale, np.float64)
        axis = int(tensor.quantization.quantizedDimension)
        channels = len(grid.rows)
        if data.shape[axis] != channels or not self._is_kernel(index):
            return False
        rows = np.moveaxis(data, axis, 0).reshape(channels, -1).astype(np.float64)
        largest = np.maximum(np.abs(grid.rows).max(axis=1), 1)
        signs = _signs(rows, grid.rows)
        expected = grid.rows * signs[:, None] * (_LAST / largest)[:, None]
        if scales.size == 1 and channels > 1:
            top = np.abs(grid.rows).max() or 1
            if not np.allclose(rows, grid.rows * signs[:, None] * _LAST / top, atol=1):
                return False
            largest = np.full(channels, top)
        elif not np.allclose(rows, expected, atol=1.0):
            return False
        new = np.broadcast_to(scales, channels) * _LAST / largest
        codes = (grid.rows * signs[:, None]).astype(np.int8)
        moved = np.moveaxis(data, axis, 0).shape
        codes = np.moveaxis(codes.reshape(moved), 0, axis)
        self._rescale_biases(index, np.broadcast_to(scales, channels), new)
        tensor.quantization.scale = [float(one) for one in new.astype(np.float32)]
        tensor.quantization.zeroPoint = [0] * channels
        transposed = self.schema.BuiltinOperator.TRANSPOSE_CONV
        codes_of = [code for code, _ in self._consumers(index)]
        # That kernel takes 8 bits alone: the same codes, not packed.
        self._store(tensor, codes, 8 if transposed in codes_of else grid.bits)
        return True

    def _replace_float(self, index: int, tensor: Any, data: Any, grid: Any) -> bool:
        channels = len(grid.rows)
        for axis in range(data.ndim):
            if data.shape[axis] != channels:
                continue
            rows = np.moveaxis(data, axis, 0).reshape(channels, -1).astype(np.float64)
            squares = np.maximum((grid.rows**2).sum(axis=1), 1)
            scale = (rows * grid.rows).sum(axis=1) / squares
            error = np.abs(rows - grid.rows * scale[:, None]).max(axis=1)
            if np.all(error <= 1e-3 * np.abs(scale) + 1e-12):
                self._dequantize(index, tensor, axis, scale, grid)
                return True
        return False

    def _dequantize(
        self, index: int, tensor: Any, axis: int, scale: Any, grid: Any
    ) -> None:
        """A new tensor of integers, and the operation that makes floats of it."""
        schema = self.schema
        signs = np.where(scale < 0, -1, 1)
        shape = [int(size) for size in tensor.shape]
        moved = [shape[axis], *(s for i, s in enumerate(shape) if i != axis)]
        codes = (grid.rows * signs[:, None]).astype(np.int8).reshape(moved)
        new = schema.TensorT()
        new.name = bytes(tensor.name) + b";codes"
        new.shape, new.shapeSignature = tensor.shape, tensor.shapeSignature
        new.quantization = schema.QuantizationParametersT()
        new.quantization.scale = [
            float(one) or 1.0 for one in np.abs(scale).astype(np.float32)
        ]
        new.quantization.zeroPoint = [0] * len(scale)
        new.quantization.quantizedDimension = axis
        new.buffer = 0
        self.graph.tensors.append(new)
        self._store(new, np.moveaxis(codes, 0, axis), grid.bits)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._opcode(schema.BuiltinOperator.DEQUANTIZE)
        operator.inputs = [len(self.graph.tensors) - 1]
        operator.outputs = [index]
        self.graph.operators.insert(0, operator)
        self._move(tensor, 0)  # the empty one: it is computed now

    def _opcode(self, code: int) -> int:
        for index, known in enumerate(self.model.operatorCodes):
            if known.builtinCode == code:
                return index
        new = self.schema.OperatorCodeT()
        new.builtinCode = code
        new.deprecatedBuiltinCode = min(code, 127)
        new.version = 5  # scales by channel
        self.model.operatorCodes.append(new)
        return len(self.model.operatorCodes) - 1

    def _store(self, tensor: Any, codes: Any, bits: int) -> None:
        flat = codes.reshape(-1)
        if bits > 4:
            tensor.type = self.schema.TensorType.INT8
            raw = flat.astype(np.int8).tobytes()
        else:
            tensor.type = self.schema.TensorType.INT4
            pairs = np.append(flat, np.int8(0)) if flat.size % 2 else flat
            halves = pairs.astype(np.uint8) & 0x0F
            raw = (halves[0::2] | (halves[1::2] << 4)).astype(np.uint8).tobytes()
        self._move(tensor, self._buffer(raw))

    def _buffer(self, raw: bytes) -> int:
        """A buffer of these bytes: the old one may be another tensor's as well."""
        if raw not in self._stored:
            self._stored[raw] = len(self.model.buffers)
            self.model.buffers.append(self.schema.BufferT())
            self.model.buffers[-1].data = np.frombuffer(raw, np.uint8)
        return self._stored[raw]

    def _move(self, tensor: Any, buffer: int) -> None:
        """Gives a tensor another buffer; one that nobody reads any more is emptied."""
        old, tensor.buffer = tensor.buffer, buffer
        graphs = self.model.subgraphs
        if not any(one.buffer == old for graph in graphs for one in graph.tensors):
            self.model.buffers[old].data = None

    def _bias_places(self) -> dict[int, int]:
        """Operations whose weights can have any scale -> where their bias is."""
        known = self.schema.BuiltinOperator
        kernels = (known.FULLY_CONNECTED, known.CONV_2D, known.DEPTHWISE_CONV_2D)
        return {**dict.fromkeys(kernels, 2), known.TRANSPOSE_CONV: 3}

    def _consumers(self, index: int) -> list[tuple[int, list[int]]]:
        """The operations that read a tensor: their codes and inputs."""
        codes = self.model.operatorCodes
        return [
            (codes[one.opcodeIndex].builtinCode, [int(i) for i in one.inputs])
            for one in self.graph.operators
            if index in [int(i) for i in one.inputs]
        ]

    def _is_kernel(self, index: int) -> bool:
        """Whether all that read it are kernels: others pass its codes on."""
        places = self._bias_places()
        found = self._consumers(index)
        return bool(found) and all(
            code in places and inputs.index(index) == 1 for code, inputs in found
        )

    def _rescale_biases(self, index: int, old: Any, new: Any) -> None:
        places = self._bias_places()
        for code, inputs in self._consumers(index):
            if len(inputs) <= places[code] or inputs[places[code]] < 0:
                continue
            bias = self.graph.tensors[inputs[places[code]]]
            if id(bias) in self._rescaled:  # of a kernel that is there several times
                continue
            raw = self.model.buffers[bias.buffer].data
            if bias.type != self.schema.TensorType.INT32 or raw is None:
                continue
            values = np.frombuffer(bytes(bytearray(raw)), np.int32).astype(np.float64)
            scale = np.array(bias.quantization.scale, np.float64) * (new / old)
            codes = np.round(values * old / new).astype(np.int32)
            bias.quantization.scale = [float(one) for one in scale.astype(np.float32)]
            self._move(bias, self._buffer(codes.tobytes()))
            self._rescaled.add(id(bias))


def _signs(rows: Any, codes: Any) -> Any:
    """A folded BatchNormalization with negative gamma turns a channel round."""
    return np.where((rows * codes).sum(axis=1) < 0, -1.0, 1.0)
