"""Trust nothing: reads a LiteRT file and compares it with the Keras model."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import graph
from keras_fitkit.quantization import plan, rules
from keras_fitkit.quantization.export_report import FloatOp, LayerError
from keras_fitkit.quantization.fake_quantize import FakeQuantize
from keras_fitkit.quantization.litert_file import LiteRTModel
from keras_fitkit.quantization.wrapper import QuantizeWrapper

BATCH = 256


class FellBackToFloat(ValueError):
    """An export that should be of integers has operations in float.

    Raises:
        Nothing of its own.

    Example:
        >>> from keras_fitkit.quantization import FellBackToFloat
        >>> issubclass(FellBackToFloat, ValueError)
        True
    """


def float_ops(
    file: LiteRTModel, model: Any, allow: Sequence[str]
) -> tuple[list[FloatOp], list[FloatOp]]:
    """The operations in float: those that are allowed, and those that are not.

    Args:
        file: the file.
        model: what it was made of.
        allow: patterns of names of operations or layers.
    """
    reasons = _allowed_layers(model)
    # Not of nested models: the layers in them tell more.
    names = {
        layer.name for layer in _all_layers(model) if not isinstance(layer, keras.Model)
    }
    allowed, refused = [], []
    for op in file.ops():
        if not op.is_float:
            continue
        candidates = _candidates(op.tensor, names)
        layer = candidates[-1] if candidates else ""
        known = [reasons.get(one) for one in candidates]
        if any(fnmatch.fnmatchcase(one, p) for p in allow for one in (op.name, layer)):
            allowed.append(FloatOp(op.name, layer, "in `allow_float`"))
        elif known and all(known):
            allowed.append(FloatOp(op.name, layer, str(known[0])))
        else:
            refused.append(FloatOp(op.name, layer, ""))
    return allowed, refused


def _allowed_layers(model: Any) -> dict[str, str]:
    """Layers that LiteRT can only compute in float, or that were left so on purpose."""
    found = {}
    wraps = any(isinstance(one, QuantizeWrapper) for one in _all_layers(model))
    inside = {
        id(one.layer) for one in _all_layers(model) if isinstance(one, QuantizeWrapper)
    }
    for layer in _all_layers(model):
        if id(layer) in inside:
            continue
        inner = layer.layer if isinstance(layer, QuantizeWrapper) else layer
        rule = rules.rule_of(inner)
        if rule.kind == rules.INSIDE:
            reason = "its weights alone can be integers"
        elif rule.kind == rules.FLOAT and rule.reason and "no rule" not in rule.reason:
            reason = rule.reason
        elif wraps and rule.kind == rules.WEIGHTS and inner is layer:
            reason = "excluded by `quantize_model`"
        else:
            continue
        for one in (layer, inner):
            found[one.name] = reason
    return found


def _all_layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, QuantizeWrapper):
            yield layer.layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)


def _candidates(tensor: str, names: set[str]) -> list[str]:
    """The layers a tensor's name may tell: the outermost of each operation it is of.

    TensorFlow adds numbers to the names of layers, and joins those of operations that
    it has fused by ";".
    """
    found = []
    for operation in tensor.split(";"):
        for part in operation.split("/"):
            fits = [n for n in names if re.fullmatch(re.escape(n) + r"(_\d+)*", part)]
            if fits:
                found.append(max(fits, key=len))
                break
    return found


@dataclasses.dataclass(frozen=True)
class Tap:
    """A tensor of the model to compare."""

    name: str
    tensor: Any
    quantizer: FakeQuantize | None


def taps(model: Any) -> list[Tap]:
    """What comes out of each layer that has a grid, or would get one."""
    if not graph.is_functional(model):
        return []
    found = graph.graph_of(model)
    places = plan.places(found, set())
    wraps = any(isinstance(node.operation, QuantizeWrapper) for node in found.nodes)
    made = []
    for node in found.nodes:
        layer = node.operation
        if isinstance(layer, FakeQuantize):
            made.append(Tap(layer.name, node.outputs[0], layer))
        elif isinstance(layer, QuantizeWrapper):
            if layer.after is not None:
                made.append(Tap(layer.name, node.outputs[0], layer.after))
        elif not wraps and places[id(node)].quantizes_output:
            made.append(Tap(layer.name, node.outputs[0], None))
    return made


def predictions(model: Any, tensors: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """What Keras computes for some tensors of a model, in inference mode."""
    function = keras.Model(model.inputs, list(tensors))
    parts = []
    for start in range(0, len(arrays[0]), BATCH):
        batch = [
            keras.ops.convert_to_tensor(one[start : start + BATCH]) for one in arrays
        ]
        outputs = keras.tree.flatten(function(batch, training=False))
        parts.append([keras.ops.convert_to_numpy(one) for one in outputs])
    return [np.concatenate(one) for one in zip(*parts, strict=True)]


def layer_errors(
    tapped: Sequence[Tap], expected: Sequence[Any], found: Sequence[Any]
) -> list[LayerError]:
    """One `LayerError` for each tap."""
    errors = []
    for tap, want, got in zip(tapped, expected, found, strict=True):
        difference = np.abs(got.reshape(want.shape) - want).astype(np.float64)
        step = _step(tap.quantizer)
        errors.append(
            LayerError(
                tap.name,
                sqnr=_sqnr(want, difference),
                max_steps=None if step is None else float(difference.max() / step),
                exact=None if step is None else float((difference < step / 2).mean()),
            )
        )
    return errors


def outputs_error(
    expected: Sequence[Any], found: Sequence[Any]
) -> tuple[float, float | None]:
    """The largest difference over the outputs' range, and agreement of the argmax."""
    worst = 0.0
    for want, got in zip(expected, found, strict=True):
        extent = float(np.max(want) - np.min(want)) or 1.0
        worst = max(worst, float(np.abs(want - got).max()) / extent)
    want, got = expected[0], found[0]
    if len(expected) > 1 or want.ndim != 2 or want.shape[1] < 2:
        return worst, None
    return worst, float((want.argmax(1) == got.argmax(1)).mean())


def _step(quantizer: FakeQuantize | None) -> float | None:
    if quantizer is None:
        return None
    low, high = (float(keras.ops.convert_to_numpy(end)) for end in quantizer.ends())
    return (high - low) / (2.0**quantizer.bits - 1)


def _sqnr(want: Any, difference: Any) -> float:
    noise = float(np.mean(np.square(difference)))
    signal = float(np.mean(np.square(want, dtype=np.float64)))
    if noise == 0.0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")
