"""From a Keras model to the bytes of a LiteRT file."""

from __future__ import annotations

import contextlib
import importlib
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import graph, rewrite
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit.quantization import litert_file, tables
from keras_fitkit.quantization.fake_quantize import exporting

MODES = ("float32", "float16", "dynamic", "int8", "int16x8")
CALIBRATED = ("int8", "int16x8")
_SCALED = tuple(f"{one}Normalization" for one in ("Layer", "Group", "RMS", "Unit"))
_POLICIES = ("DTypePolicy", "FloatDTypePolicy")


def convert(
    model: Any,
    mode: str,
    *,
    batch_size: int = 1,
    calibration: Sequence[Any] | None = None,
    io_dtype: str = "float32",
    taps: Sequence[int] = (),
) -> bytes:
    """The file's content.

    Args:
        model: a built model on the TensorFlow backend.
        mode: one of `MODES`; a model with fake quantizers for "int8" needs no data.
        batch_size: rows in one call of the file.
        calibration: arrays of samples, one for each input, for a plain model.
        io_dtype: of inputs and outputs: "float32" or "int8".
        taps: places in `graph.flat(model).nodes` of calls whose first outputs the file
            gives out too, as its last outputs.
    """
    tf = importlib.import_module("tensorflow")
    norms = _norms(model) if mode == "int8" and calibration is None else []
    with (
        tempfile.TemporaryDirectory() as folder,
        tables.collected() as functions,
        _doubled(norms),
    ):
        _save(tf, model, Path(folder), batch_size, taps)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if mode != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if mode == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if mode == "int16x8":
            kind = tf.lite.OpsSet
            converter.target_spec.supported_ops = [
                kind.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
        if calibration is not None:
            converter.representative_dataset = lambda: _samples(
                litert_file.input_names(model), calibration, batch_size
            )
        if io_dtype != "float32":
            dtype = tf.dtypes.as_dtype(io_dtype)
            converter.inference_input_type = dtype
            converter.inference_output_type = dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                content: bytes = converter.convert()
            except Exception as error:
                raise _cannot(model, error) from error
    if io_dtype != "float32":
        _check_whole(content)
    return tables.put(content, functions)


def _check_whole(content: bytes) -> None:
    """TensorFlow takes off what makes floats of an output, whoever else reads it."""
    tools = importlib.import_module("tensorflow.lite.tools.flatbuffer_utils")
    model = tools.convert_bytearray_to_object(bytearray(content))
    operators = [one for graph in model.subgraphs for one in graph.operators]
    if any(len(one.inputs) and one.inputs[0] < 0 for one in operators):
        raise ValueError(
            "`io_dtype` must be 'float32' for a model with an output that a layer in "
            "float reads as well. Received: io_dtype='int8'."
        )


def _norms(model: Any) -> list[Any]:
    kinds = tuple(
        getattr(keras.layers, name) for name in _SCALED if hasattr(keras.layers, name)
    )
    return [one for _, one in leaf_layers(model) if isinstance(one, kinds)]


@contextlib.contextmanager
def _doubled(norms: Sequence[Any]) -> Iterator[None]:
    """Norms compute with twice their inputs, and four times `epsilon`: the same.

    The converter would take the mean of inputs that are on a grid with integers, up to
    ten steps off; it does not find the grid behind a product.
    """
    with contextlib.ExitStack() as stack:
        for norm in {id(one): one for one in norms}.values():

            def call(inputs: Any, *args: Any, inner: Any = norm.call, **kw: Any) -> Any:
                return inner(inputs * 2.0, *args, **kw)

            stack.callback(delattr, norm, "call")
            if hasattr(norm, "epsilon"):
                stack.callback(setattr, norm, "epsilon", norm.epsilon)
                norm.epsilon *= 4.0
            norm.call = call
        yield


def _cannot(model: Any, error: Exception) -> ValueError:
    """What the converter says, in the form of the house."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    names = ", ".join(sorted(set(re.findall(r"tf\.(\w+)", str(error)))))
    hint = ""
    if "TensorList" in str(error) or "While" in str(error):
        hint = " Recurrent layers convert with unroll=True and a fixed length."
    return ValueError(
        "`model` must be one that TensorFlow's converter takes. Received: "
        f"{model.name}{f', with the operations {names}' if names else ''}: "
        f"{said[0] if said else type(error).__name__}{hint}"
    )


def in_float32(model: Any) -> Any:
    """The model, or a copy that computes in float32 if a layer does in fewer bits.

    LiteRT's kernels of integers are for graphs of float32.
    """
    calls = graph.flat(model).nodes
    if all(_is_float32(one.operation) for one in calls):
        return model
    return _Float32().run(model)


def _is_float32(operation: Any) -> bool:
    layers = [operation, getattr(operation, "layer", None)]
    return all(
        getattr(one, "compute_dtype", None) in (None, "float32") for one in layers
    )


class _Float32(rewrite.Rewriter):
    """Copies every layer with the policy float32."""

    def replace(self, path: str, layer: Any) -> Any:
        """The copy, if the layer computes in another type."""
        if _is_float32(layer):
            return None
        return self.copied(layer, config=_without_policies(layer.get_config()))


def _without_policies(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") in _POLICIES:
            return "float32"
        return {key: _without_policies(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_without_policies(value) for value in config)
    return config


def _save(
    tf: Any, model: Any, folder: Path, batch_size: int, taps: Sequence[int]
) -> None:
    specs = [
        tf.TensorSpec([batch_size, *one.shape[1:]], one.dtype, name=name)
        for one, name in zip(model.inputs, litert_file.input_names(model), strict=True)
    ]
    structure = graph.input_structure(model)

    def step(*given: Any) -> dict[str, Any]:
        if taps:
            outputs, calls = graph.run(model, list(given))
            found = [*outputs, *(calls[place][0] for place in taps)]
        else:
            packed = keras.tree.pack_sequence_as(structure, list(given))
            found = keras.tree.flatten(model(packed, training=False))
        return {f"output_{i}": one for i, one in enumerate(found)}

    module = tf.Module()
    module.model = _Holder(tf, model)
    function = tf.function(step, autograph=False)
    with exporting():
        concrete = function.get_concrete_function(*specs)
    tf.saved_model.save(module, str(folder), signatures=concrete)


def _Holder(tf: Any, model: Any) -> Any:
    """The variables alone, so that SavedModel finds them."""
    holder = tf.Module()
    holder.variables_ = [variable.value for variable in model.variables]
    return holder


def _samples(
    names: Sequence[str], arrays: Sequence[Any], batch_size: int
) -> Iterator[dict[str, Any]]:
    last = len(arrays[0]) - 1
    for start in range(0, last + 1, batch_size):
        # The last batch is filled up with its last row: the ranges stay the same.
        rows = np.minimum(np.arange(start, start + batch_size), last)
        yield {name: one[rows] for name, one in zip(names, arrays, strict=True)}
