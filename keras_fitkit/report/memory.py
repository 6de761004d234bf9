"""peak_memory: how many bytes of activations are alive at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import graph

_BFLOAT16 = 2  # NumPy does not know it


def peak_memory(model: Any, inputs: Any) -> int:
    """The largest sum of activations that live at the same time, for one example.

    The rule: calls are made one after the other, in the order of the graph. A tensor
    lives from the call that makes it to the last call that uses it, an input from the
    beginning, an output to the end. During a call its inputs and its outputs are there
    together: nothing is computed in place, and a reshape is a copy. What a layer needs
    inside, and the weights, are not counted.

    Args:
        model: a functional or Sequential model.
        inputs: a `keras.KerasTensor` for each input, of one row and of known sizes, in
            the structure that the model takes.

    Returns:
        Bytes.
    """
    flat = graph.flat(model)
    symbols = keras.tree.flatten(graph.input_structure(model))
    given = dict(zip(map(id, symbols), keras.tree.flatten(inputs), strict=True))
    sizes: dict[Hashable, int] = {
        id(one): _bytes(given[id(one)]) for one in model.inputs
    }
    begin = list(sizes)
    for call, found in zip(flat.nodes, _outputs(model, given), strict=True):
        sizes.update(zip(map(id, call.outputs), found, strict=True))
    calls = [
        ([id(one) for one in call.inputs], [id(one) for one in call.outputs])
        for call in flat.nodes
    ]
    return liveness(calls, sizes, begin, [id(one) for one in flat.outputs])


def liveness(
    calls: Sequence[tuple[Sequence[Hashable], Sequence[Hashable]]],
    sizes: Mapping[Hashable, int],
    begin: Collection[Hashable],
    end: Collection[Hashable],
) -> int:
    """The peak of a sequence of calls, by the rule of `peak_memory`.

    Args:
        calls: of each what it takes and what it makes.
        sizes: bytes of each tensor.
        begin: what is there before the first call.
        end: what must be there after the last one.
    """
    last = {one: place for place, (given, _) in enumerate(calls) for one in given}
    alive = set(begin)
    peak = sum(sizes[one] for one in alive)
    for place, (_, made) in enumerate(calls):
        alive.update(made)
        peak = max(peak, sum(sizes[one] for one in alive))
        alive = {one for one in alive if last.get(one, -1) > place or one in end}
    return peak


def _outputs(model: Any, given: Mapping[int, Any]) -> list[list[int]]:
    """Bytes of what each call makes, in the order of `graph.flat`."""
    found: list[list[int]] = []

    class Probe(keras.Operation):
        """Infers the shapes of all that a model computes, with public API alone."""

        def call(self, tensors: Any) -> Any:
            outputs, values = graph.run(model, tensors)
            found[:] = [[_bytes(one) for one in each] for each in values]
            return outputs

    Probe().compute_output_spec([given[id(one)] for one in model.inputs])
    return found


def _bytes(tensor: Any) -> int:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    width = _BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    return int(math.prod(tensor.shape)) * width
