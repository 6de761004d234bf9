"""What `export_litert` asks of its arguments, before any work is done."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_fitkit._core import arguments, graph, layers
from keras_fitkit.quantization import convert
from keras_fitkit.quantization.config import FLOATS
from keras_fitkit.quantization.litert_file import interpreter_module
from keras_fitkit.quantization.wrapper import QuantizeWrapper

MODES = ("auto", *convert.MODES)
IO = ("float32", "int8")
CONVERTER_BITS = 8  # the grid that the converter makes by itself
FEW_BITS = 4  # that need a grid of their own


def check_model(model: Any) -> None:
    """A functional model whose inputs have known sizes."""
    layers.check_keras_model("model", model, built=True)
    graph.check_functional("model", model)
    shapes = [tuple(one.shape) for one in model.inputs]
    if any(size is None for shape in shapes for size in shape[1:]):
        hint = "Build it with the sizes that it will run with."
        allowed = "one whose inputs have known sizes, but for the rows"
        raise ValueError(arguments.message("model", allowed, shapes, hint))


def check_choices(
    mode: Any, io_dtype: Any, batch_size: Any, strict: Any, allow_float: Any
) -> None:
    """Each argument that needs no model."""
    arguments.choice("mode", mode, MODES)
    arguments.choice("io_dtype", io_dtype, IO)
    arguments.integer("batch_size", batch_size, low=1)
    arguments.flag("strict", strict)
    texts = isinstance(allow_float, Sequence) and not isinstance(allow_float, str)
    if not texts or not all(isinstance(one, str) for one in allow_float):
        allowed = "a list of patterns of layers or LiteRT operations"
        raise TypeError(arguments.message("allow_float", allowed, allow_float))


def check_backend() -> None:
    """TensorFlow, and LiteRT's interpreter is there.

    Raises:
        RuntimeError: another backend.
        ImportError: ai-edge-litert is not installed.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "LiteRT files are made by TensorFlow's converter: the Keras backend must "
            f"be tensorflow. Received: {keras.backend.backend()}. Save the model as "
            ".keras and export it in a process with KERAS_BACKEND=tensorflow."
        )
    interpreter_module()  # missing, it says so before any work is done


def resolved_mode(mode: str, wrappers: Sequence[Any], quantizers: Sequence[Any]) -> str:
    """The format for "auto": what the model was trained for."""
    if mode != "auto":
        return mode
    if quantizers:
        return "int16x8" if quantizers[0].bits > CONVERTER_BITS else "int8"
    if any(one.config.weight_bits in FLOATS for one in wrappers):
        return "float16"
    return "float32"


def check_calibrated(mode: str, quantizers: Sequence[Any], calibration: Any) -> None:
    """Ranges that are known, from a training or from data, of widths LiteRT has."""
    widths = {one.bits for one in quantizers} - {CONVERTER_BITS, 16}
    if widths and mode in convert.CALIBRATED:
        raise ValueError(
            "`model` must have activations of 8 or 16 bits: LiteRT has no type for "
            f"others. Received: activations of {sorted(widths)} bits. Pass "
            "mode='float32' for a file with the weights on their grid."
        )
    wide = [one for one in quantizers if one.bits > CONVERTER_BITS]
    if wide and mode == "int8":
        raise ValueError(
            "`model` must have activations of 8 bits for mode='int8': LiteRT has no "
            f"operation on both types. Received: {len(wide)} of {len(quantizers)} "
            "ranges of 16 bits. Pass mode='int16x8' with `calibration_data`, or give "
            "all layers 8 bits."
        )
    unknown = [one for one in quantizers if not one.calibrated]
    if unknown and mode == "int8":
        raise ValueError(
            "`model` must have been trained, or given to `kf.calibrate` with some "
            "data, so that the ranges of its activations are known. Received: "
            f"{len(unknown)} of {len(quantizers)} are not."
        )
    if mode == "int8" and any(one.waits for one in quantizers):
        warnings.warn(
            "`model` was trained for fewer steps than its `start_step`, in floats "
            "alone: the file is of integers, and Keras still computes without. Train "
            "on, or choose a smaller `start_step`.",
            stacklevel=3,
        )
    needs = mode == "int16x8" or (mode == "int8" and not quantizers)
    if needs and calibration is None:
        allowed = f"samples of the inputs for mode='{mode}' of this model"
        hint = "Some hundred rows of the training data, or train with kf.quantize_model"
        raise ValueError(arguments.message("calibration_data", allowed, None, hint))
    if calibration is not None and not needs:
        allowed = f"None for mode='{mode}' of this model"
        hint = "A model that was trained for int8 knows its ranges."
        raise ValueError(arguments.message("calibration_data", allowed, "data", hint))


def check_widths(wrappers: Sequence[QuantizeWrapper], mode: str) -> None:
    """Weights that the mode would put on another grid than the one they learned.

    Warns of few bits that nothing has fitted to the weights.

    Raises:
        ValueError: names the first layer.
    """
    for wrapper in wrappers:
        bits = wrapper.config.weight_bits
        if not isinstance(bits, int) or not wrapper.kernels:
            continue
        wide = mode == "int8" and bits > CONVERTER_BITS
        if wide or (bits < CONVERTER_BITS and mode not in ("int8", "float32")):
            allowed = f"one whose weights keep their {bits}-bit grid in the file"
            hint = f"{wrapper.layer.name} has weights of {bits} bits."
            raise ValueError(arguments.message("mode", allowed, mode, hint))
    _warn_if_rounded_only(wrappers)


def _warn_if_rounded_only(wrappers: Sequence[QuantizeWrapper]) -> None:
    """Few bits without training or calibration, where that costs much.

    Of a net that was trained or calibrated some layers may be as they were before.
    """
    few = [
        one
        for one in wrappers
        if isinstance(one.config.weight_bits, int)
        and one.config.weight_bits <= FEW_BITS
        and one.grids.learned
    ]
    if few and all(one.waits or not one.grids.fitted for one in few):
        warnings.warn(
            f"The weights of {len(few)} layers ({few[0].layer.name!r}, ...) are on "
            f"grids of {FEW_BITS} bits or fewer that nothing has fitted to them: that "
            "costs accuracy, with 2 bits most of it. Train the model past its "
            "`start_step`, or give it and some data to `kf.calibrate(model, x)`.",
            UserWarning,
            stacklevel=4,
        )


def check_io(io_dtype: str, mode: str) -> None:
    """Integers outside are for files of int8 inside."""
    if io_dtype == "int8" and mode != "int8":
        allowed = f"'float32' with mode='{mode}'"
        raise ValueError(arguments.message("io_dtype", allowed, io_dtype))
