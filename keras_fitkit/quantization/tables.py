"""Functions of single values in LiteRT files: a table of the 256 that int8 has.

LiteRT has int8 kernels for few activations. Any other that works value by value is
written as a table: CAST, ADD, GATHER, all of integers, exact.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops

Function = Callable[[Any], Any]

_FIRST = -1000.0  # the slope that stands for the first function
_CODES = np.arange(-128, 128)
_waiting: contextvars.ContextVar[list[Function] | None] = contextvars.ContextVar(
    "waiting", default=None
)


class TableLost(ValueError):
    """A function was not found in the file between two tensors of int8."""


def works_alone(function: Any) -> bool:
    """Whether a function gives each value what it gives it anywhere else."""
    x = np.linspace(-6.0, 6.0, 24, dtype="float32")
    found = []
    for order in (np.arange(24), np.arange(24)[::-1]):
        for shape in ((24, 1), (2, 12)):
            given = ops.convert_to_tensor(x[order].reshape(shape))
            try:
                made = np.asarray(ops.convert_to_numpy(function(given)), np.float64)
            except Exception:  # it wants something else: then it is no such function
                return False
            if made.shape != shape:
                return False
            found.append(made.reshape(-1)[np.argsort(order)])
    return all(np.allclose(one, found[0], 1e-5, 1e-6, True) for one in found)


@contextlib.contextmanager
def collected() -> Iterator[list[Function]]:
    """While it lasts, functions are left out; it gives the list of them."""
    functions: list[Function] = []
    token = _waiting.set(functions)
    try:
        yield functions
    finally:
        _waiting.reset(token)


def marked(function: Function, x: Any) -> Any:
    """What stands for a function in a graph that is to be converted.

    A LeakyReLU: the converter gives it integers on both sides, and its slope, that no
    other has, says which function `put` has to put there.
    """
    functions = _waiting.get()
    if functions is None:
        return function(x)
    functions.append(function)
    tf = importlib.import_module("tensorflow")
    return tf.nn.leaky_relu(x, alpha=_FIRST - (len(functions) - 1))


def put(content: bytes, functions: list[Function]) -> bytes:
    """The file with tables in the place of what `marked` has left.

    Raises:
        TableLost: a function is not between two tensors of int8.
    """
    if not functions:
        return content
    tools = importlib.import_module("tensorflow.lite.tools.flatbuffer_utils")
    schema = importlib.import_module("tensorflow.lite.python.schema_py_generated")
    model = tools.convert_bytearray_to_object(bytearray(content))
    for graph in model.subgraphs:
        _Graph(model, graph, schema).put(functions)
    return bytes(tools.convert_object_to_bytearray(model))


class _Graph:
    def __init__(self, model: Any, graph: Any, schema: Any) -> None:
        self.model, self.graph, self.schema = model, graph, schema

    def put(self, functions: list[Function]) -> None:
        leaky = self.schema.BuiltinOperator.LEAKY_RELU
        for operator in [*self.graph.operators]:
            if self._code(operator) != leaky:
                continue
            index = round(_FIRST - operator.builtinOptions.alpha)
            if index >= 0:
                self._replace(operator, functions[index])

    def _replace(self, operator: Any, function: Function) -> None:
        source, result = operator.inputs[0], operator.outputs[0]
        tensors = self.graph.tensors
        if any(
            tensors[i].type != self.schema.TensorType.INT8 for i in (source, result)
        ):
            raise TableLost
        indices = self._indices(source)
        lookup = self._lookup(source, indices[-1], result, function)
        place = self.graph.operators.index(operator)
        self.graph.operators[place : place + 1] = [*indices, lookup]

    def _indices(self, source: int) -> list[Any]:
        """What counts the codes from 0."""
        schema = self.schema
        shape = self.graph.tensors[source].shape
        kind, known = schema.TensorType, schema.BuiltinOperator
        codes = self._tensor(b"codes", shape, kind.INT32)
        cast = self._operator(known.CAST, [source], codes)
        cast.builtinOptionsType = schema.BuiltinOptions.CastOptions
        cast.builtinOptions = schema.CastOptionsT()
        cast.builtinOptions.inDataType = kind.INT8
        cast.builtinOptions.outDataType = kind.INT32
        first = self._tensor(b"first", [], kind.INT32, np.array(128, np.int32))
        places = self._tensor(b"places", shape, kind.INT32)
        add = self._operator(known.ADD, [codes, first], places)
        add.builtinOptionsType = schema.BuiltinOptions.AddOptions
        add.builtinOptions = schema.AddOptionsT()
        return [cast, add]

    def _lookup(self, source: int, places: Any, result: int, function: Function) -> Any:
        schema = self.schema
        grids = [self.graph.tensors[i].quantization for i in (source, result)]
        data = _table(function, *((one.scale[0], one.zeroPoint[0]) for one in grids))
        table = self._tensor(b"table", [256], schema.TensorType.INT8, data)
        self.graph.tensors[table].quantization = grids[1]
        inputs = [table, places.outputs[0]]
        gather = self._operator(schema.BuiltinOperator.GATHER, inputs, result)
        gather.builtinOptionsType = schema.BuiltinOptions.GatherOptions
        gather.builtinOptions = schema.GatherOptionsT()
        return gather

    def _tensor(self, name: bytes, shape: Any, kind: int, data: Any = None) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.type = name, kind
        tensor.shape = np.array(shape, np.int32)
        tensor.buffer = 0
        if data is not None:
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(self.schema.BufferT())
            self.model.buffers[-1].data = np.frombuffer(data.tobytes(), np.uint8)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _operator(self, code: int, inputs: list[int], output: int) -> Any:
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._opcode(code)
        operator.inputs, operator.outputs = inputs, [output]
        return operator

    def _opcode(self, code: int) -> int:
        for index, known in enumerate(self.model.operatorCodes):
            if known.builtinCode == code:
                return index
        new = self.schema.OperatorCodeT()
        new.builtinCode, new.deprecatedBuiltinCode = code, min(code, 127)
        new.version = 2 if code == self.schema.BuiltinOperator.GATHER else 1
        self.model.operatorCodes.append(new)
        return len(self.model.operatorCodes) - 1

    def _code(self, operator: Any) -> int:
        return int(self.model.operatorCodes[operator.opcodeIndex].builtinCode)


def _table(
    function: Function, source: tuple[float, int], result: tuple[float, int]
) -> Any:
    """The code of the function's value at each code, rounded as a FakeQuantize does."""
    scale, zero = source
    x = ((_CODES - zero) * np.float64(scale)).astype(np.float32)
    y = ops.convert_to_numpy(function(ops.convert_to_tensor(x)))
    scale, zero = result
    codes = np.floor(np.asarray(y, np.float64) / scale + zero + 0.5)
    limits = np.nan_to_num(codes, nan=float(zero), posinf=127, neginf=-128)
    return np.clip(limits, -128, 127).astype(np.int8)
