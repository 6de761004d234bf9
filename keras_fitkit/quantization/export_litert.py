"""export_litert: a LiteRT file that was read again and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, expansion, files, layers
from keras_fitkit.quantization import (
    checker,
    convert,
    export_checks,
    fake_quant,
    grids,
    inputs,
    rules,
    tables,
    traps,
)
from keras_fitkit.quantization.export_checks import CONVERTER_BITS
from keras_fitkit.quantization.export_report import ExportReport
from keras_fitkit.quantization.fake_quantize import FakeQuantize
from keras_fitkit.quantization.litert_file import LiteRTModel
from keras_fitkit.quantization.strip_quantization import strip_quantization
from keras_fitkit.quantization.wrapper import QuantizeWrapper


def export_litert(
    model: Any,
    path: Any,
    *,
    mode: str = "auto",
    calibration_data: Any = None,
    io_dtype: str = "float32",
    batch_size: int = 1,
    check_data: Any = None,
    strict: bool = True,
    allow_float: Sequence[str] = (),
) -> ExportReport:
    """Writes a model as a LiteRT (TensorFlow Lite) file, reads it again and compares.

    A model of `kf.quantize_model` becomes integers on the grids it was trained with;
    trained grids of fewer than 8 bits are kept to the integer. A plain model can be
    quantized after its training, with `calibration_data`.

    Args:
        model: a built functional or Sequential model, on the TensorFlow backend.
        path: the file, in a folder that exists; written at once or not at all.
        mode: "float32"; "float16" (weights of 2 bytes); "dynamic" (weights of 1 byte,
            activations rounded when it runs); "int8"; "int16x8" (int16 activations);
            "auto": what the model was trained for, float32 for a plain one. Defaults
            to "auto".
        calibration_data: samples of the training inputs, some hundred rows, for "int8"
            and "int16x8" of a plain model: an array, or a list, tuple or dict of such
            for several inputs. Defaults to None.
        io_dtype: type of inputs and outputs, "float32" or "int8". Defaults to
            "float32".
        batch_size: rows in one call of the file. Defaults to 1.
        check_data: inputs, in the way of `calibration_data`, on which file and model
            are compared, layer by layer. Defaults to None: the file is read, not run.
        strict: whether a file of integers with operations in float is an error.
            Recurrent and attention layers, norms, layers that `quantize_model` was told
            to exclude and those that prepare inputs are allowed. Defaults to True.
        allow_float: patterns (as in a shell) of further layers or LiteRT operations
            that may be float. Defaults to none.

    Returns:
        An `ExportReport`.

    Raises:
        ImportError: ai-edge-litert is not installed.
        RuntimeError: another backend than TensorFlow.
        TypeError, ValueError: an argument outside its range, by name; a quantized model
            that was not trained, so that its ranges are not known; "int8" without
            `calibration_data`; NaN in data; `FellBackToFloat` with `strict`.
        OSError: the file cannot be written.

    Example:
        >>> import keras, numpy as np  # doctest: +TENSORFLOW_ONLY
        >>> import keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> report = kf.export_litert(
        ...     model, "m.tflite", mode="int8", calibration_data=x, check_data=x
        ... )
        >>> [op for op, types in report.ops]
        ['QUANTIZE', 'FULLY_CONNECTED', 'DEQUANTIZE']

    References:
        Jacob et al., 2018, arXiv:1712.05877; keras#18930, model-optimization#1144.
    """
    export_checks.check_model(model)
    target = files.refuse_unwritable("path", arguments.path("path", path))
    export_checks.check_choices(mode, io_dtype, batch_size, strict, allow_float)
    model = convert.in_float32(model)
    wrappers, quantizers = _quantized(model)
    mode = export_checks.resolved_mode(mode, wrappers, quantizers)
    calibration = inputs.checked("calibration_data", calibration_data, model)
    check = inputs.checked("check_data", check_data, model)
    export_checks.check_calibrated(mode, quantizers, calibration)
    export_checks.check_io(io_dtype, mode)
    export_checks.check_backend()
    if mode in convert.CALIBRATED and not wrappers:
        model, allow_float = _without_blocks(model, mode, allow_float)
    plain = model
    if wrappers and not (mode == "int8" and quantizers):
        # Without ranges the weights alone are on a grid: they are floats on it now.
        plain = strip_quantization(model)
    how: dict[str, Any] = {
        "batch_size": batch_size,
        "calibration": calibration,
        "io_dtype": io_dtype,
    }
    export_checks.check_widths(wrappers, mode)
    grids_ = _grids(wrappers, mode, bool(quantizers))
    content = _converted(plain, mode, how, grids_)
    file = _opened(content, model)
    allowed, refused = (
        checker.float_ops(file, model, tuple(allow_float))
        if mode in convert.CALIBRATED
        else ([], [])
    )
    if refused and strict:
        raise _fell_back(refused)
    compared = {}
    if check is not None:
        compared = _compare(plain, mode, file, check, how, grids_)
    with files.atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return ExportReport(
        str(target),
        mode,
        len(content),
        tuple((op.name, tuple(sorted({*op.inputs, *op.outputs}))) for op in file.ops()),
        (*allowed, *refused),
        **compared,
    )


def _without_blocks(
    model: Any, mode: str, allow_float: Sequence[str]
) -> tuple[Any, Sequence[str]]:
    """The model as the converter sees it, so that the checker sees as much.

    Each layer of a block is compared, and named where it is in float.
    """
    plain, gone = expansion.expanded(model)
    if mode == "int8":
        traps.warn_if_slow(plain)
    # As expanded layers are named.
    return plain, [*allow_float, *(f"{one}_*" for one in allow_float if gone)]


def _quantized(model: Any) -> tuple[list[QuantizeWrapper], list[FakeQuantize]]:
    """The wrappers of a model and all their quantizers, and those that stand alone."""
    wrappers: list[QuantizeWrapper] = []
    quantizers: list[FakeQuantize] = []
    for _, layer in layers.layer_paths(model):
        if isinstance(layer, QuantizeWrapper):
            wrappers.append(layer)
            quantizers += layer.quantizers
        elif isinstance(layer, FakeQuantize):
            quantizers.append(layer)
    return wrappers, quantizers


def _grids(
    wrappers: Sequence[QuantizeWrapper], mode: str, ranges: bool
) -> list[grids.TrainedGrid]:
    """The kernels whose integers must be those that were trained."""
    found: list[grids.TrainedGrid] = []
    if mode not in ("int8", "float32"):
        return found
    for wrapper in wrappers:
        bits = wrapper.config.weight_bits
        if not isinstance(bits, int) or bits > CONVERTER_BITS:
            continue
        config = wrapper.config
        own = config.per_channel and not config.learned_weights
        weights = wrapper.rule.kind == rules.WEIGHTS
        if ranges and bits == CONVERTER_BITS and own and weights:
            continue  # the converter's own grid; inside a layer it leaves floats
        for index, kernel in enumerate(wrapper.kernels):
            codes = fake_quant.codes(
                keras.ops.cast(kernel.variable, "float32"),
                wrapper.grids.scale(index),
                bits,
            )
            rows = _rows(arrays.to_numpy(codes), kernel)
            found.append(grids.TrainedGrid(wrapper.layer.name, rows, bits))
    return found


def _rows(codes: Any, kernel: rules.Kernel) -> Any:
    """The integers as (output channels, the rest), in LiteRT's order."""
    outputs = [axis for axis in range(codes.ndim) if axis not in kernel.axes]
    outputs = outputs or [0]  # a table of embeddings has a row for each word
    rest = [axis for axis in range(codes.ndim) if axis not in outputs]
    count = int(np.prod([codes.shape[axis] for axis in outputs]))
    return codes.transpose([*outputs, *rest]).reshape(count, -1)


def _converted(
    model: Any, mode: str, how: dict[str, Any], wanted: Sequence[grids.TrainedGrid]
) -> bytes:
    try:
        content = convert.convert(model, mode, **how)
    except tables.TableLost:
        raise ValueError(
            "`model` must have grids before and after activations that become tables. "
            "Received: one without. Let `kf.quantize_model` wrap its layers."
        ) from None
    if not wanted:
        return content
    try:
        return grids.keep(content, wanted)
    except grids.GridLost as error:
        raise ValueError(
            "`model` must have weights that LiteRT can keep on the grid they were "
            f"trained on. Received: {error}, whose weights are not in the file as they "
            "were trained. Give this layer 8 bits with `overrides`."
        ) from None


def _opened(content: bytes, model: Any) -> LiteRTModel:
    try:
        return LiteRTModel(content)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            "`model` must become a file that LiteRT runs. Received: "
            f"{model.name}, of which it says: {error}"
        ) from error


def _fell_back(refused: Sequence[Any]) -> checker.FellBackToFloat:
    listed = ", ".join(f"{one.op} of {one.layer or '?'}" for one in refused[:8])
    return checker.FellBackToFloat(
        "`model` must become integers as a whole. Received: operations in float: "
        f"{listed}. Quantize these layers too, name them in `allow_float`, or pass "
        "strict=False."
    )


def _compare(
    model: Any, mode: str, file: Any, data: Any, how: dict[str, Any], wanted: Any
) -> dict[str, Any]:
    """The parts of a report that come from running both."""
    tapped = checker.taps(model) if mode in convert.CALIBRATED else []
    count = len(model.outputs)
    expected = checker.predictions(model, tapped, data)
    found = file.run(data)
    worst, agreement = checker.outputs_error(expected[:count], found)
    errors: list[Any] = []
    steps: tuple[int, ...] = ()
    if tapped:
        # The same model once more, that also gives out what is inside.
        # With integers outside it would lose what makes floats of a tapped tensor.
        inner = [tap.call for tap in tapped]
        how = {**how, "io_dtype": "float32", "taps": inner}
        content = _converted(model, mode, how, wanted)
        seen = LiteRTModel(content).run(data)[count:]
        errors = checker.layer_errors(tapped, expected[count:], seen)
        steps = checker.histogram(tapped, expected[count:], seen)
    return {
        "rows": len(data[0]),
        "max_error": worst,
        "agreement": agreement,
        "layers": tuple(errors),
        "histogram": steps,
    }
