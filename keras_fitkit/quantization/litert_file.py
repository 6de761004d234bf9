"""Reading and running LiteRT files."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, graph

_NUMBERED = re.compile(r"(?:in|out)put_(\d+)(?:_(.*))?$")
_CAST = ("QUANTIZE", "DEQUANTIZE")
_INSIDE = ("DELEGATE",)  # what a delegate has taken over is listed by itself too


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation of a file.

    Attributes:
        name: such as "CONV_2D".
        inputs, outputs: the types of its tensors, such as "int8".
        tensor: the name of its first output, which tells the layer it comes from.
        sources: the names of its inputs.
        result: which of the file's outputs it gives, or None.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensor: str
    sources: tuple[str, ...] = ()
    result: int | None = None

    @property
    def is_cast(self) -> bool:
        """Whether it goes from floats to integers or back."""
        return self.name in _CAST

    @property
    def is_float(self) -> bool:
        """Whether it computes with floats."""
        types = (*self.inputs, *self.outputs)
        return not self.is_cast and any(one.startswith("float") for one in types)


class LiteRTModel:
    """A file, ready to run on a CPU.

    Args:
        content: the bytes of the file.
        reference: take LiteRT's reference kernels instead of the fast ones.
        threads: of the fast ones.
    """

    def __init__(
        self, content: bytes, *, reference: bool = False, threads: int = 1
    ) -> None:
        module = interpreter_module()
        kind = module.OpResolverType
        self._interpreter = module.Interpreter(
            model_content=content,
            num_threads=threads,
            experimental_op_resolver_type=kind.BUILTIN_REF if reference else kind.AUTO,
        )
        self._interpreter.allocate_tensors()
        signatures = self._interpreter.get_signature_list()
        if signatures:
            self._runner = self._interpreter.get_signature_runner(
                next(iter(signatures))
            )
            self.inputs = _sorted(self._runner.get_input_details())
            self.outputs = _sorted(self._runner.get_output_details())
        else:  # a file of somebody else
            self._runner = None
            self.inputs = dict(_numbered(self._interpreter.get_input_details()))
            self.outputs = dict(_numbered(self._interpreter.get_output_details()))

    @property
    def batch_size(self) -> int:
        """Rows in one call."""
        return int(next(iter(self.inputs.values()))["shape"][0])

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Outputs for inputs of floats (or integers, where the model takes such).

        Args:
            arrays: one for each input, of the same number of rows, any number of them.
        """
        rows = len(arrays[0])
        size = self.batch_size
        parts: list[list[Any]] = []
        for start in range(0, rows, size):
            batch = [_padded(one[start : start + size], size) for one in arrays]
            parts.append(self._call(batch))
        return [np.concatenate(one)[:rows] for one in zip(*parts, strict=True)]

    def _call(self, batch: Sequence[Any]) -> list[Any]:
        given = {
            name: _encoded(array, detail)
            for (name, detail), array in zip(self.inputs.items(), batch, strict=True)
        }
        if self._runner is not None:
            found = self._runner(**given)
        else:
            for name, array in given.items():
                self._interpreter.set_tensor(self.inputs[name]["index"], array)
            self._interpreter.invoke()
            found = {
                name: self._interpreter.get_tensor(detail["index"])
                for name, detail in self.outputs.items()
            }
        return [_decoded(found[name], one) for name, one in self.outputs.items()]

    def ops(self) -> list[Op]:
        """The operations, in their order."""
        # Public only in name: there is no other way to the operations of a file.
        details = {one["index"]: one for one in self._interpreter.get_tensor_details()}
        results = [one["index"] for one in self.outputs.values()]
        found = []
        for op in self._interpreter._get_ops_details():
            if op["op_name"] in _INSIDE:
                continue
            given = list(op["outputs"])
            inputs, outputs = (
                [details[i] for i in op[side] if i in details]
                for side in ("inputs", "outputs")
            )
            found.append(
                Op(
                    op["op_name"],
                    tuple(np.dtype(one["dtype"]).name for one in inputs),
                    tuple(np.dtype(one["dtype"]).name for one in outputs),
                    str(outputs[0]["name"]) if outputs else "",
                    tuple(str(one["name"]) for one in inputs),
                    next((results.index(i) for i in given if i in results), None),
                )
            )
        return found


def interpreter_module() -> Any:
    """ai-edge-litert's interpreter.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise ImportError(
            "LiteRT files are run by ai-edge-litert, which is not installed: "
            "pip install 'keras-fitkit[litert]'."
        ) from error


def run_litert(path: Any, x: Any, *, threads: int = 1) -> Any:
    """What a LiteRT file predicts.

    Args:
        path: the file.
        x: inputs: an array of shape (rows, ...), or for several inputs a list, tuple or
            dict of such: in the order of the model's inputs, a dict by their names.
            Floats, also for a file that takes int8.
        threads: of the interpreter, >= 1. Defaults to 1.

    Returns:
        The output, an array of floats with as many rows; a list for several outputs.

    Raises:
        ImportError: ai-edge-litert is not installed.
        TypeError, ValueError: no such file, or inputs that do not fit it.

    Example:
        >>> import keras, numpy as np  # doctest: +TENSORFLOW_ONLY
        >>> import keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> _ = kf.export_litert(model, "model.tflite", mode="float32")
        >>> kf.run_litert("model.tflite", np.ones((3, 4), "float32")).shape
        (3, 2)
    """
    file = _existing(path)
    arguments.integer("threads", threads, low=1)
    try:
        model = LiteRTModel(file.read_bytes(), threads=threads)
    except (ValueError, RuntimeError) as error:
        hint = f"The file is damaged, or another one: {error}"
        allowed = "a LiteRT file"
        raise ValueError(arguments.message("path", allowed, str(path), hint)) from error
    arrays = [np.asarray(one) for one in keras.tree.flatten(_in_order(x, model))]
    check_inputs("x", arrays, model)
    found = model.run(arrays)
    return found[0] if len(found) == 1 else found


def input_names(model: Any) -> list[str]:
    """What the inputs of a model are called in its file.

    "input_0"; where there are several, each with its name in Keras: "input_0_image".
    """
    count = len(model.inputs)
    if count == 1:
        return ["input_0"]
    structure = graph.input_structure(model)
    keyed = isinstance(structure, dict)
    names = sorted(structure) if keyed else [one.name for one in model.inputs]
    if len(names) != count:  # nested
        names = [one.name for one in model.inputs]
    return [f"input_{i}_{_clean(name)}" for i, name in enumerate(names)]


def _clean(name: object) -> str:
    return re.sub(r"\W", "_", str(name))


def _in_order(x: Any, model: LiteRTModel) -> Any:
    """A dict of several inputs as a list, in the order that the file has them."""
    if not isinstance(x, Mapping) or len(model.inputs) < 2:
        return x
    found = [_NUMBERED.match(name) for name in model.inputs]
    names = [one[2] if one and one[2] else "" for one in found]
    if not all(names):  # a file of somebody else
        return x
    given = {_clean(key): value for key, value in x.items()}
    if set(given) != set(names):
        allowed = f"a dict with the keys {names}"
        raise ValueError(arguments.message("x", allowed, sorted(map(str, x))))
    return [given[name] for name in names]


def check_inputs(name: str, arrays: Sequence[Any], model: LiteRTModel) -> None:
    """One array for each input of a file, of its shape.

    Raises:
        ValueError: names the argument.
    """
    wanted = [_shape(one)[1:] for one in model.inputs.values()]
    given = [tuple(one.shape[1:]) for one in arrays]
    fit = len(wanted) == len(given) and all(
        len(one) == len(other)
        and all(n in (None, m) for n, m in zip(one, other, strict=True))
        for one, other in zip(wanted, given, strict=True)
    )
    if not fit or len({len(one) for one in arrays}) != 1 or not len(arrays[0]):
        allowed = f"arrays of the shapes {[('rows', *one) for one in wanted]}"
        received = [one.shape for one in arrays]
        raise ValueError(arguments.message(name, allowed, received))


def _shape(detail: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Sizes of an input; None where any will do."""
    sizes = detail.get("shape_signature", ())
    sizes = sizes if len(sizes) else detail["shape"]
    return tuple(None if n < 0 else int(n) for n in sizes)


def _existing(path: Any) -> Path:
    clean = arguments.path("path", path)
    if not clean.is_file():
        raise ValueError(arguments.message("path", "a file that exists", str(path)))
    return clean


def _sorted(details: Mapping[str, Any]) -> dict[str, Any]:
    """By the numbers in the names that `export_litert` gives: "input_10" comes last."""
    return {name: details[name] for name in sorted(details, key=_place)}


def _place(name: str) -> tuple[int, str]:
    found = _NUMBERED.match(name)
    return (int(found[1]) if found else -1, name)


def _numbered(details: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for index, detail in enumerate(details):
        yield f"{index}", detail


def _padded(array: Any, size: int) -> Any:
    missing = size - len(array)
    if not missing:
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def _encoded(array: Any, detail: Mapping[str, Any]) -> Any:
    dtype = np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    if dtype.kind == "i" and scale and np.asarray(array).dtype.kind == "f":
        info = np.iinfo(dtype)
        return np.clip(np.round(array / scale) + zero, info.min, info.max).astype(dtype)
    return np.ascontiguousarray(array, dtype)


def _decoded(array: Any, detail: Mapping[str, Any]) -> Any:
    scale, zero = detail["quantization"]
    if array.dtype.kind == "i" and scale:
        return (array.astype(np.float32) - zero) * np.float32(scale)
    return array
