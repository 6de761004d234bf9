"""count_macs: how many multiplications one example costs."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_fitkit._core import _private, arguments, graph, mac_rules
from keras_fitkit._core.call_trace import Shape, TracedCall, trace
from keras_fitkit._core.layers import check_keras_model
from keras_fitkit._core.macs_report import LayerMacs, MacsReport

_ALLOWED = (
    "a tuple of positive integers without the batch, or a list or dict of such tuples, "
    "one for each input"
)


def count_macs(model: Any, input_shape: Any = None) -> MacsReport:
    """The multiplications with addition (MACs) that one example costs, by layer.

    Shapes are traced through one forward pass, on any backend, and each layer's MACs
    follow from a formula: a Dense layer of n units has (input elements) n, a
    convolution (output positions)(size of its kernel), which holds for grouped and
    depthwise ones too, a transposed convolution (input positions)(size of its kernel),
    an LSTM (steps)(size of its kernels), attention its projections and
    (heads)(queries)(keys)(2 head sizes). Additions of biases, normalizations,
    activations, pooling and lookups count as none, as in the literature. Nested models
    and the layers inside composite ones are counted, shared layers once for each call.

    A layer of your own with weights is listed in `report.uncounted`, unless it has a
    method `count_own_macs(input_shapes, output_shapes)` that gives an integer: the MACs
    of one call besides those of the layers that it calls.

    Args:
        model: a built model: functional, Sequential or subclassed. It is not changed.
        input_shape: the shape of one example, without the batch; a list or dict of them
            for several inputs. Defaults to that of the model's inputs. Needed for a
            subclassed model, and where a size is not known (None).

    Returns:
        A `MacsReport`.

    Raises:
        TypeError: no Keras 3 model, or `input_shape` no shape.
        ValueError: a model that is not built, or sizes that are not known or not
            positive; recurrent layers that are stateful, as they want their own batch.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((20, 8)), keras.layers.LSTM(4)])
        >>> kf.count_macs(model).total == 20 * (4 * 4) * (8 + 4)
        True
    """
    check_keras_model("model", model, built=True)
    for name in _stateful(model):
        hint = "Count the same model built with stateful=False."
        allowed = "a model without stateful layers"
        raise ValueError(arguments.message("model", allowed, name, hint))
    calls = trace(model, _tensors(model, input_shape))
    paths = dict(_paths(model, "", {id(model)}))
    found: dict[int, list[tuple[TracedCall, mac_rules.Count]]] = {}
    for call, count in mac_rules.counted(calls):
        if count.macs != 0:
            found.setdefault(id(call.operation), []).append((call, count))
    rows = (_row(paths.get(key), counts) for key, counts in found.items())
    return MacsReport(tuple(rows))


def is_countable(model: Any) -> bool:
    """Whether `count_macs` can count a functional model with no more to go by."""
    known = all(None not in one.shape[1:] for one in model.inputs)
    return known and not _stateful(model)


def _stateful(model: Any) -> list[str]:
    """The names of recurrent layers that keep their states."""
    found, seen, waiting = [], {id(model)}, [model]
    while waiting:
        layer = waiting.pop()
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            found.append(layer.name)
        below = [one for one in _private.sublayers(layer) if id(one) not in seen]
        seen.update(id(one) for one in below)
        waiting += below
    return found


def calls_of(model: Any) -> list[tuple[Any, int]]:
    """Each call that has MACs: what is called, and how many; for known shapes alone."""
    calls = trace(model, _tensors(model, None))
    return [
        (call.operation, count.macs)
        for call, count in mac_rules.counted(calls)
        if count.macs
    ]


def _row(
    path: str | None, counts: list[tuple[TracedCall, mac_rules.Count]]
) -> LayerMacs:
    first = counts[0][0]
    reasons = [count.reason for _, count in counts if count.macs is None]
    return LayerMacs(
        path or first.operation.name,
        type(first.operation).__name__,
        len(counts),
        None if reasons else sum(count.macs or 0 for _, count in counts),
        next(iter(first.inputs), None),
        next(iter(first.outputs), None),
        reasons[0] if reasons else "",
    )


def _paths(layer: Any, prefix: str, seen: set[int]) -> Iterator[tuple[int, str]]:
    for one in _private.sublayers(layer):
        if id(one) not in seen:
            seen.add(id(one))
            yield id(one), f"{prefix}{one.name}"
            yield from _paths(one, f"{prefix}{one.name}/", seen)


def _tensors(model: Any, input_shape: Any) -> Any:
    """What the model is traced with: a symbolic tensor for each input."""
    functional = graph.is_functional(model)
    inputs = graph.input_structure(model) if functional else None
    if input_shape is None:
        if inputs is None:
            raise _missing("given for a subclassed model")
        return keras.tree.map_structure(_of_input, inputs)
    shapes = _shapes(input_shape, input_shape)
    if inputs is None:
        return keras.tree.map_structure(
            lambda shape: keras.KerasTensor((1, *shape.sizes)), shapes
        )
    symbols, given = keras.tree.flatten(inputs), keras.tree.flatten(shapes)
    if len(symbols) != len(given):
        allowed = f"one shape for each of the {len(symbols)} inputs"
        raise ValueError(arguments.message("input_shape", allowed, input_shape))
    made = [
        _fitting(symbol, shape.sizes)
        for symbol, shape in zip(symbols, given, strict=True)
    ]
    return keras.tree.pack_sequence_as(inputs, made)


def _of_input(symbol: Any) -> Any:
    sizes = tuple(symbol.shape[1:])
    if None in sizes:
        text = f"given where sizes are not known: '{symbol.name}' is {symbol.shape}"
        raise _missing(text)
    return keras.KerasTensor((1, *sizes), symbol.dtype)


def _missing(allowed: str) -> ValueError:
    hint = "Pass the shape of one example, such as input_shape=(32, 32, 3)."
    return ValueError(arguments.message("input_shape", allowed, None, hint))


def _fitting(symbol: Any, sizes: tuple[int, ...]) -> Any:
    known = tuple(symbol.shape[1:])
    if len(sizes) != len(known) or any(
        one not in (None, size) for one, size in zip(known, sizes, strict=True)
    ):
        allowed = f"of the form {known} for '{symbol.name}'"
        raise ValueError(arguments.message("input_shape", allowed, sizes))
    return keras.KerasTensor((1, *sizes), symbol.dtype)


def _shapes(value: Any, given: Any) -> Any:
    """The same structure with a `Shape` in place of each tuple of integers."""
    if isinstance(value, Mapping):
        return {name: _shapes(one, given) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        if value and not all(isinstance(one, numbers.Integral) for one in value):
            return [_shapes(one, given) for one in value]
        if all(one > 0 for one in value):
            return Shape(tuple(int(one) for one in value))
        raise ValueError(arguments.message("input_shape", _ALLOWED, given))
    raise TypeError(arguments.message("input_shape", _ALLOWED, given))
