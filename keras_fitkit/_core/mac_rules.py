"""Multiplications and additions (MACs) of one call of a layer, from its shapes.

A rule tells the layer's own ones; what the layers that it calls do is counted where
they are called, except where the rule says that it has them already.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_fitkit._core import _private
from keras_fitkit._core.call_trace import Shape, TracedCall, trace

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
CONV_LSTM = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)

# With weights, and nothing but scaling, shifting or looking up: none by convention.
FREE = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.Normalization,
    layers.SpectralNormalization,
    layers.PReLU,
    layers.Embedding,
)
FOREIGN = tuple(
    getattr(layers, name)
    for name in ("JaxLayer", "FlaxLayer", "TorchModuleWrapper", "TFSMLayer")
    if hasattr(layers, name)
)


@dataclasses.dataclass(frozen=True)
class Count:
    """What a rule says of one call.

    Attributes:
        macs: the layer's own; None where they are not known.
        reason: why they are not known; "" where they are.
        whole: whether they contain those of the layers that it calls.
    """

    macs: int | None
    reason: str = ""
    whole: bool = False


def count(call: TracedCall) -> Count | None:
    """The MACs of one call; None for a layer or operation that has no rule."""
    operation = call.operation
    own = getattr(operation, "count_own_macs", None)
    if callable(own):
        return Count(int(own(call.inputs, call.outputs)))
    if isinstance(operation, FOREIGN):
        return Count(None, "runs code of another framework")
    if isinstance(operation, FREE):
        return Count(_of_reversed(call))
    for kinds, rule in RULES:
        if isinstance(operation, kinds):
            return rule(call)
    if isinstance(operation, layers.Layer):
        return None
    found = OPERATIONS.get(type(operation).__name__)
    return None if found is None else Count(found(call))


def of_kernels(layer: Any) -> int:
    """The size of all kernels of a layer."""
    if isinstance(layer, SEPARABLE):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    else:
        kernels = [layer.kernel]
    return sum(math.prod(one.shape) for one in kernels)


def pixels(layer: Any, shape: Sequence[int]) -> int:
    """How many places of an image there are; None counts as 1."""
    first = layer.data_format == "channels_first"
    return math.prod(shape[2:] if first else shape[1:-1])


def of_einsum(equation: str, shapes: Sequence[Sequence[int]]) -> int:
    """The product of the sizes of all different indices.

    Args:
        equation: of `einsum`; an ellipsis in one operand alone, or alike in all.
        shapes: of the operands.
    """
    left, _, _ = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for text, shape in zip(left.split(","), shapes, strict=True):
        head, dots, tail = text.partition("...")
        before, after = list(head), list(tail)
        hidden = len(shape) - len(before) - len(after)
        inner = [f".{number - hidden}" for number in range(hidden)] if dots else []
        for name, size in zip((*before, *inner, *after), shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    return math.prod(sizes.values())


def _dense(call: TracedCall) -> Count:
    return Count(math.prod(call.inputs[0]) * int(call.operation.units))


def _einsum_dense(call: TracedCall) -> Count:
    layer, (shape, *_) = call.operation, call.inputs
    kernel = tuple(layer.kernel.shape)
    return Count(of_einsum(layer.equation, (shape, kernel)))


def _convolution(call: TracedCall) -> Count:
    layer, (shape, *_) = call.operation, call.outputs
    return Count(pixels(layer, shape) * of_kernels(layer))


def _transposed(call: TracedCall) -> Count:
    layer, (shape, *_) = call.operation, call.inputs
    return Count(pixels(layer, shape) * of_kernels(layer))


def _recurrent(call: TracedCall) -> Count:
    layer, (shape, *_) = call.operation, call.inputs
    step = _of_cell(layer.cell)
    if step is None:
        return Count(None, f"a cell without a rule, {type(layer.cell).__name__}", True)
    return Count(shape[1] * step, whole=True)


def _of_cell(cell: Any) -> int | None:
    """The MACs of one step of a cell."""
    if isinstance(cell, layers.StackedRNNCells):
        parts = [_of_cell(one) for one in cell.cells]
        return None if None in parts else sum(one or 0 for one in parts)
    if not isinstance(cell, CELLS):
        return None
    return _of_both(cell)


def _of_both(cell: Any) -> int:
    kernels = (cell.kernel, cell.recurrent_kernel)
    return sum(math.prod(one.shape) for one in kernels)


def _cell(call: TracedCall) -> Count:
    return Count(_of_cell(call.operation), whole=True)


def _conv_lstm(call: TracedCall) -> Count:
    layer, (shape, *_), (out, *_) = call.operation, call.inputs, call.outputs
    rank = len(shape) - 3  # of the image
    first = layer.data_format == "channels_first"
    places = math.prod(out[-rank:] if first else out[-1 - rank : -1])
    return Count(shape[1] * places * _of_both(layer.cell), whole=True)


def _bidirectional(call: TracedCall) -> Count:
    layer = call.operation
    parts = [
        count(TracedCall(one, call.arguments, call.output, call.depth))
        for one in (layer.forward_layer, layer.backward_layer)
    ]
    found = [one.macs for one in parts if one is not None and one.macs is not None]
    if len(found) < len(parts):
        return Count(None, "wraps a layer without a rule", True)
    return Count(sum(found), whole=True)


def _time_distributed(call: TracedCall) -> Count:
    layer, (shape, *_) = call.operation, call.inputs
    tensor = keras.KerasTensor((1, *shape[2:]), layer.compute_dtype)
    calls = trace(layer.layer, tensor)
    total, missing = total_of(calls)
    if missing:
        names = ", ".join(f"'{one.operation.name}'" for one, _ in missing)
        return Count(None, f"{names} inside has no rule", True)
    return Count(shape[1] * total, whole=True)


def _multi_head(call: TracedCall) -> Count:
    """The two products of attention; the projections are layers that are called."""
    config = call.operation.get_config()
    query, value = _sizes(call, "query"), _sizes(call, "value")
    axes = config["attention_axes"] or range(1, len(query) - 1)
    seen = math.prod(query[1:-1])  # positions that ask, at every place of the others
    asked = math.prod(value[axis] for axis in axes)
    size = config["key_dim"] + (config["value_dim"] or config["key_dim"])
    return Count(config["num_heads"] * seen * asked * size)


def _grouped_query(call: TracedCall) -> Count:
    config = call.operation.get_config()
    query, value = _sizes(call, "query"), _sizes(call, "value")
    heads, size = config["num_query_heads"], config["head_dim"]
    return Count(heads * query[1] * value[1] * 2 * size)


def _attention(call: TracedCall) -> Count:
    query, value, *rest = call.inputs
    key = rest[0] if len(rest) and len(rest[0]) == len(value) else value
    return Count(query[-2] * value[-2] * (key[-1] + value[-1]))


def _dot(call: TracedCall) -> Count:
    layer, (first, *_) = call.operation, call.inputs
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return Count(math.prod(call.outputs[0]) * first[axis])


def _of_reversed(call: TracedCall) -> int:
    """An embedding that is called backwards is a product; else there is none."""
    if not call.arguments.get("reverse", False):
        return 0
    return math.prod(call.inputs[0]) * call.outputs[0][-1]


def _convolving(call: TracedCall) -> int:
    """`keras.ops.conv`: each element that comes out is a sum over a kernel."""
    return math.prod(call.outputs[0]) * math.prod(call.inputs[1][:-1])


def _depthwise_convolving(call: TracedCall) -> int:
    return math.prod(call.outputs[0]) * math.prod(call.inputs[1][:-2])


def _separable_convolving(call: TracedCall) -> int:
    _, depthwise, pointwise = call.inputs
    places = math.prod(call.outputs[0]) // pointwise[-1]
    return places * (math.prod(depthwise) + math.prod(pointwise))


def _sizes(call: TracedCall, name: str) -> tuple[int, ...]:
    found = call.arguments[name]
    if not isinstance(found, Shape):
        raise TypeError(f"{name} of '{call.operation.name}' is no tensor")
    return found.sizes


RULES: tuple[tuple[Any, Callable[[TracedCall], Count]], ...] = (
    (layers.Dense, _dense),
    (layers.EinsumDense, _einsum_dense),
    (TRANSPOSED, _transposed),
    ((*CONVOLUTIONS, *DEPTHWISE, *SEPARABLE), _convolution),
    (CONV_LSTM, _conv_lstm),
    (layers.RNN, _recurrent),
    ((*CELLS, layers.StackedRNNCells), _cell),
    (layers.Bidirectional, _bidirectional),
    (layers.TimeDistributed, _time_distributed),
    (layers.MultiHeadAttention, _multi_head),
    (layers.GroupQueryAttention, _grouped_query),
    ((layers.Attention, layers.AdditiveAttention), _attention),
    (layers.Dot, _dot),
)

# Operations of `keras.ops` in a graph, by the name of their class: Keras exports the
# functions alone.
OPERATIONS: dict[str, Callable[[TracedCall], int]] = {
    "Matmul": lambda call: math.prod(call.outputs[0]) * call.inputs[0][-1],
    "Dot": lambda call: math.prod(call.outputs[0]) * call.inputs[0][-1],
    "Conv": _convolving,
    "DepthwiseConv": _depthwise_convolving,
    "SeparableConv": _separable_convolving,
    "Einsum": lambda call: of_einsum(call.operation.subscripts, call.inputs),
}


def total_of(
    calls: Sequence[TracedCall],
) -> tuple[int, list[tuple[TracedCall, str]]]:
    """The MACs of traced calls, and the calls that are not in it, with reasons."""
    total, missing = 0, []
    for call, found in counted(calls):
        if found.macs is None:
            missing.append((call, found.reason))
        else:
            total += found.macs
    return total, missing


def counted(calls: Sequence[TracedCall]) -> list[tuple[TracedCall, Count]]:
    """Each call that counts, or that should and has no rule.

    Left out are containers, calls inside one that a rule counts as a whole, and layers
    of Keras without weights, which have no MACs.
    """
    found: list[tuple[TracedCall, Count]] = []
    inside: int | None = None  # the depth of a call that is counted as a whole
    for call in calls:
        if inside is not None and call.depth > inside:
            continue
        inside = None
        rule = count(call) or _without_rule(call.operation)
        if rule is None:
            continue
        found.append((call, rule))
        if rule.whole:
            inside = call.depth
    return found


def _without_rule(operation: Any) -> Count | None:
    """What is said of a layer that has no rule; None: it has no MACs of its own."""
    if not isinstance(operation, layers.Layer):
        return None
    kind = type(operation).__name__
    if _private.own_variables(operation):
        return Count(None, f"{kind} has weights and no rule")
    known = type(operation).__module__.partition(".")[0] in ("keras", "keras_fitkit")
    if _private.sublayers(operation) or (known and kind != "Lambda"):
        return None
    return Count(None, f"what {kind} computes cannot be seen")
