"""Trust nothing: reads a LiteRT file and compares it with the Keras model."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import expansion, graph, layers
from keras_fitkit.quantization import plan, rules
from keras_fitkit.quantization.export_report import FloatOp, LayerError
from keras_fitkit.quantization.fake_quantize import FakeQuantize
from keras_fitkit.quantization.litert_file import LiteRTModel
from keras_fitkit.quantization.wrapper import QuantizeWrapper

BATCH = 256
MOST_STEPS = 10  # of a histogram: its last bar is of so many and more
_GRIDS = (rules.WEIGHTS, rules.OUTPUT, rules.SHARED)
_LAYER = keras.layers.Layer


class FellBackToFloat(ValueError):
    """An export that should be of integers has operations in float.

    Raises:
        FellBackToFloat: not by itself; `export_litert` raises it.

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
    last = _last_layers(model)
    allowed, refused = [], []
    for op in file.ops():
        if not op.is_float:
            continue
        candidates = _candidates(op.tensor, names)
        if not candidates and op.result is not None:  # it has the name of the output
            candidates = [last[op.result]] if last[op.result] in names else []
        layer = candidates[-1] if candidates else ""
        known = [reasons.get(one) for one in candidates]
        if any(fnmatch.fnmatchcase(one, p) for p in allow for one in (op.name, layer)):
            allowed.append(FloatOp(op.name, layer, "in `allow_float`"))
        elif known and all(known):
            allowed.append(FloatOp(op.name, layer, str(known[0])))
        else:
            after = [one for tensor in op.sources for one in _candidates(tensor, names)]
            guess = layer or (f"what follows {after[-1]}" if after else "")
            refused.append(FloatOp(op.name, guess, ""))
    return allowed, refused


def _allowed_layers(model: Any) -> dict[str, str]:
    """Layers that LiteRT can only compute in float, or that were left so on purpose."""
    found: dict[str, str] = {}
    flat = graph.flat(model)
    wraps = any(isinstance(one.operation, QuantizeWrapper) for one in flat.nodes)
    for call in flat.nodes:
        layer = call.operation
        inner = layer.layer if isinstance(layer, QuantizeWrapper) else layer
        rule = plan.rule_of(inner)
        if rule.kind == rules.INSIDE:
            reason = "its weights alone can be integers"
        elif rule.kind == rules.FLOAT and rule.reason and "no rule" not in rule.reason:
            reason = rule.reason
        elif inner is not layer and layer.config.activation_bits is None:
            reason = "its weights alone were quantized"
        elif not wraps or inner is not layer or not isinstance(layer, _LAYER):
            continue
        elif rule.kind in _GRIDS or expansion.offers(layer, "expand"):
            reason = "excluded by `quantize_model`"
        else:  # it has no grid of its own: it is float after what is float
            before = [flat.producer(one) for one in call.inputs]
            reasons = [found.get(one.operation.name, "") for one in before if one]
            if rule.kind != rules.THROUGH or not reasons or not all(reasons):
                continue
            reason = reasons[0]
        for one in (layer, inner):
            found[one.name] = reason
    return found


def _last_layers(model: Any) -> list[str]:
    """The names of the layers that give the outputs of a model."""
    flat = graph.flat(model)
    calls = [flat.producer(one) for one in flat.outputs]
    return [one.operation.name if one is not None else "" for one in calls]


def _all_layers(model: Any) -> Iterator[Any]:
    """The layers, and those in wrappers."""
    for _, layer in layers.layer_paths(model):
        yield layer
        if isinstance(layer, QuantizeWrapper):
            yield layer.layer


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
    """What one call in the model gives, to compare.

    Attributes:
        name: path of the layer.
        call: its place in `graph.flat(model).nodes`.
        quantizer: of its grid; None for a plain model.
        is_output: whether the model gives it out.
    """

    name: str
    call: int
    quantizer: FakeQuantize | None
    is_output: bool


def taps(model: Any) -> list[Tap]:
    """What comes out of each layer that has a grid, or would get one."""
    planned = plan.Plan(model)
    wraps = any(isinstance(one, QuantizeWrapper) for one in _all_layers(model))
    made = []
    for index, call in enumerate(planned.graph.nodes):
        layer = call.operation
        given = planned.graph.is_output(call)
        if isinstance(layer, FakeQuantize):
            made.append(Tap(call.path, index, layer, given))
        elif isinstance(layer, QuantizeWrapper):
            if layer.after is not None:
                made.append(Tap(call.path, index, layer.after, given))
        elif not wraps and planned.of(call).quantizes_output:
            made.append(Tap(call.path, index, None, given))
    return made


def predictions(model: Any, tapped: Sequence[Tap], arrays: Sequence[Any]) -> list[Any]:
    """What Keras computes in inference mode: its outputs, then what is tapped."""
    parts = []
    for start in range(0, len(arrays[0]), BATCH):
        batch = [
            keras.ops.convert_to_tensor(one[start : start + BATCH]) for one in arrays
        ]
        outputs, calls = graph.run(model, batch)
        found = [*outputs, *(calls[tap.call][0] for tap in tapped)]
        parts.append([keras.ops.convert_to_numpy(one) for one in found])
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


def histogram(
    tapped: Sequence[Tap], expected: Sequence[Any], found: Sequence[Any]
) -> tuple[int, ...]:
    """How many values of the outputs are 0, 1, 2 ... steps off; () without grids."""
    counts = np.zeros(MOST_STEPS + 1, int)
    for tap, want, got in zip(tapped, expected, found, strict=True):
        step = _step(tap.quantizer)
        if tap.is_output and step is not None:
            off = np.abs(got.reshape(want.shape) - want) / step
            off = np.minimum(np.round(off), MOST_STEPS).astype(int)
            counts += np.bincount(off.ravel(), minlength=MOST_STEPS + 1)
    last = int(np.max(np.nonzero(counts)[0], initial=-1))
    return tuple(int(one) for one in counts[: last + 1])


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
