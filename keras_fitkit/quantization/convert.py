"""From a Keras model to the bytes of a LiteRT file."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import graph
from keras_fitkit.quantization.fake_quantize import exporting

MODES = ("float32", "float16", "dynamic", "int8", "int16x8")
CALIBRATED = ("int8", "int16x8")


def convert(
    model: Any,
    mode: str,
    *,
    batch_size: int = 1,
    calibration: Sequence[Any] | None = None,
    io_dtype: str = "float32",
    taps: Sequence[Any] = (),
) -> bytes:
    """The file's content.

    Args:
        model: a built model on the TensorFlow backend.
        mode: one of `MODES`; a model with fake quantizers for "int8" needs no data.
        batch_size: rows in one call of the file.
        calibration: arrays of samples, one for each input, for a plain model.
        io_dtype: of inputs and outputs: "float32" or "int8".
        taps: symbolic tensors of the model that the file gives out too, as its last
            outputs.
    """
    tf = importlib.import_module("tensorflow")
    with tempfile.TemporaryDirectory() as folder:
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
            converter.representative_dataset = lambda: _samples(calibration, batch_size)
        if io_dtype != "float32":
            dtype = tf.dtypes.as_dtype(io_dtype)
            converter.inference_input_type = dtype
            converter.inference_output_type = dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: bytes = converter.convert()
    return content


def _save(
    tf: Any, model: Any, folder: Path, batch_size: int, taps: Sequence[Any]
) -> None:
    specs = [
        tf.TensorSpec([batch_size, *one.shape[1:]], one.dtype, name=f"input_{i}")
        for i, one in enumerate(model.inputs)
    ]
    structure = graph.input_structure(model)
    traced = keras.Model(model.inputs, [*model.outputs, *taps]) if taps else None

    def step(*flat: Any) -> dict[str, Any]:
        if traced is not None:
            found = traced(list(flat), training=False)
        else:
            given = keras.tree.pack_sequence_as(structure, list(flat))
            found = keras.tree.flatten(model(given, training=False))
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


def _samples(arrays: Sequence[Any], batch_size: int) -> Iterator[dict[str, Any]]:
    rows = len(arrays[0])
    for start in range(0, rows - batch_size + 1, batch_size):
        yield {
            f"input_{i}": np.ascontiguousarray(one[start : start + batch_size])
            for i, one in enumerate(arrays)
        }
