"""What can be read from a LiteRT file: weights, multiplications, the arena."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_fitkit.report.measure_latency import in_order
from keras_fitkit.report.storage import WeightStorage, storage_of_array

MISSING = "ai-edge-litert is missing: pip install 'keras-fitkit[litert]'"
GAP = 1024  # tensors this near to each other lie in one arena
_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
# Their multiplications are in other graphs or in formulas that are not here.
_UNKNOWN = ("LSTM", "RNN", "SVDF", "WHILE", "IF", "CALL", "CUSTOM", "CONV_3D", "EINSUM")


@dataclasses.dataclass(frozen=True)
class FileFigures:
    """What a LiteRT file says of itself.

    Attributes:
        storage: a row for each weight.
        macs: of one example by the name of the weight, or of the operation's output.
        uncounted: operations whose multiplications are not known.
        arena: bytes that the interpreter keeps for activations, or None.
        batch: rows in one call.
        delegate: what has taken operations over by default, "" for nothing.
    """

    storage: tuple[WeightStorage, ...]
    macs: Mapping[str, float]
    uncounted: tuple[str, ...]
    arena: int | None
    batch: int
    delegate: str


def read(path: Path) -> FileFigures | str:
    """The figures of a file, or why there are none."""
    try:
        module = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        return MISSING
    content = path.read_bytes()
    kind = module.OpResolverType
    try:
        plain = module.Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        return _read(module, plain, content)
    except Exception as error:  # of somebody else's file anything may be odd
        text = (str(error).splitlines() or [type(error).__name__])[0]
        return f"LiteRT cannot run the file: {text}"


def _read(module: Any, plain: Any, content: bytes) -> FileFigures:
    details = {one["index"]: one for one in plain.get_tensor_details()}
    # Only constants have values before the allocation.
    constants = {
        index: value.copy()
        for index in details
        if (value := _value(plain, index)) is not None
    }
    ops = plain._get_ops_details()  # as in quantization: there is no other way
    plain.allocate_tensors()
    batch = max(1, int(next(iter(plain.get_input_details()))["shape"][0]))
    details = {one["index"]: one for one in plain.get_tensor_details()}
    macs: dict[str, float] = {}
    uncounted = []
    arithmetic: dict[int, str] = {}
    for op in ops:
        given = [one for one in op["inputs"] if one >= 0]  # -1: no bias
        made = list(op["outputs"])
        if any(word in op["op_name"] for word in _UNKNOWN):
            uncounted.append(op["op_name"])
        elif (count := _macs(op["op_name"], given, made, details)) is not None:
            name = str(details[given[1] if given[1] in constants else made[0]]["name"])
            macs[name] = macs.get(name, 0) + count / batch
            arithmetic[given[1]] = _arithmetic(given, details)
    return FileFigures(
        tuple(_weights(constants, details, arithmetic)),
        macs,
        tuple(uncounted),
        _arena(plain, [index for index in details if index not in constants]),
        batch,
        _delegate(module, content),
    )


def _value(interpreter: Any, index: int) -> Any:
    try:
        return interpreter.tensor(index)()
    except ValueError:  # it has no memory (yet)
        return None


def _weights(
    constants: Mapping[int, Any],
    details: Mapping[int, Any],
    arithmetic: Mapping[int, str],
) -> Iterator[WeightStorage]:
    """The constants that are weights: sizes and axes are integers without a scale."""
    for index, value in constants.items():
        scaled = len(details[index]["quantization_parameters"]["scales"]) > 0
        if value.dtype.kind == "f" or scaled:
            name = str(details[index]["name"])
            yield storage_of_array(name, value, arithmetic.get(index, "float32"))


def _macs(
    name: str, given: list[int], made: list[int], details: Mapping[int, Any]
) -> int | None:
    """Of one call; None for an operation that multiplies no matrices."""
    if name not in (*_WITH_WEIGHTS, "BATCH_MATMUL"):
        return None
    shapes = [tuple(int(n) for n in details[one]["shape"]) for one in given[:3]]
    places = math.prod(int(n) for n in details[made[0]]["shape"])
    if name == "BATCH_MATMUL":
        return places * shapes[0][-1]
    kernel = shapes[1]
    if name == "CONV_2D":
        return places * math.prod(kernel[1:])
    if name == "DEPTHWISE_CONV_2D":
        return places * math.prod(kernel[1:3])
    if name == "FULLY_CONNECTED":
        return places * kernel[1]
    return math.prod(shapes[2][:3]) * math.prod(kernel)  # from each input position


def _arithmetic(given: list[int], details: Mapping[int, Any]) -> str:
    kinds = {np.dtype(details[one]["dtype"]).name for one in given[:2]}
    if kinds <= {"int8", "uint8", "int4"}:
        return "int8"
    return "float16" if kinds == {"float16"} else "float32"


def _arena(interpreter: Any, indices: list[int]) -> int | None:
    """From the addresses: LiteRT does not tell, but shows where its tensors lie."""
    spans = []
    for index in indices:
        value = _value(interpreter, index)
        if value is not None and value.nbytes:
            begin = value.__array_interface__["data"][0]
            spans.append((begin, begin + value.nbytes))
    return union(spans) or None


def union(spans: list[tuple[int, int]]) -> int:
    """The length of the parts of a line that spans cover, gaps below `GAP` included."""
    total, end = 0, -math.inf
    for low, high in sorted(spans):
        if low > end + GAP:
            total, end = total + high - low, high
        elif high > end:
            total, end = total + high - int(end), high
    return total


def _delegate(module: Any, content: bytes) -> str:
    usual = module.Interpreter(model_content=content, num_threads=1)
    usual.allocate_tensors()
    taken = any(one["op_name"] == "DELEGATE" for one in usual._get_ops_details())
    return "XNNPACK" if taken else ""


def zeros(path: Any) -> Any:
    """Inputs of zeros in the sizes of a file; None where it cannot be read."""
    if not isinstance(path, Path):
        return None
    try:
        module = importlib.import_module("ai_edge_litert.interpreter")
        details = module.Interpreter(str(path)).get_input_details()
    except (ImportError, RuntimeError, ValueError):
        return None
    found = [np.zeros(one["shape"], one["dtype"]) for one in in_order(details)]
    return found[0] if len(found) == 1 else found
