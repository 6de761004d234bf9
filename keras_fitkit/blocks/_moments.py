"""What goes into the layers of a model: the means of x x' over data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, graph, rows
from keras_fitkit.blocks._svd import Matrix

BATCH = 32


class Moments:
    """Sums of x x' over the rows that come into each scheme of each layer."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, str], Any] = {}
        self._counts: dict[tuple[int, str], int] = {}

    def add(self, key: tuple[int, str], seen: Matrix) -> None:
        """Adds rows (count, m)."""
        seen = np.asarray(seen, "float64")
        self._sums[key] = self._sums.get(key, 0.0) + seen.T @ seen
        self._counts[key] = self._counts.get(key, 0) + len(seen)

    def of(self, key: tuple[int, str]) -> Matrix | None:
        """The means, or None for a layer that has seen nothing."""
        if key not in self._sums:
            return None
        found: Matrix = self._sums[key] / max(self._counts[key], 1)
        return found


def feed(
    model: Any, data: Any, wanted: set[int], take: Callable[[int, Matrix], None]
) -> None:
    """Runs data through a model and hands on what goes into the wanted layers.

    Args:
        model: a functional model.
        data: its inputs, arrays with rows.
        wanted: the ids of layers, at any depth.
        take: called with the id of a layer and an array that goes into it.
    """
    count = rows.length("data", data, "arrays, the inputs of the model")
    for start in range(0, count, BATCH):
        batch = rows.take(data, slice(start, start + BATCH))
        _run(model, _in_order(model, batch), wanted, take)


def _in_order(model: Any, batch: Any) -> list[Any]:
    """One array for each input: of a dict by name, as Keras takes it.

    Raises:
        ValueError: names, numbers or shapes that are not those of the inputs.
    """
    allowed = "arrays of the shapes of the model's inputs"
    structure = graph.input_structure(model)
    if isinstance(batch, dict):
        by_name = isinstance(structure, dict)
        names = list(structure) if by_name else [one.name for one in model.inputs]
        if set(names) - set(batch):
            hint = f"Its inputs are {', '.join(names)}."
            raise ValueError(arguments.message("data", allowed, sorted(batch), hint))
        chosen = {name: batch[name] for name in names}
        batch = chosen if by_name else list(chosen.values())
    found: list[Any] = keras.tree.flatten(batch)
    shapes = [tuple(one.shape[1:]) for one in found]
    wanted = [tuple(one.shape[1:]) for one in model.inputs]
    fits = len(shapes) == len(wanted) and all(
        len(one) == len(two)
        and all(b in (None, a) for a, b in zip(one, two, strict=True))
        for one, two in zip(shapes, wanted, strict=True)
    )
    if not fits:
        hint = f"Without the rows they are {wanted}."
        raise ValueError(arguments.message("data", allowed, shapes, hint))
    return found


def _run(
    model: Any, batch: list[Any], wanted: set[int], take: Callable[[int, Matrix], None]
) -> None:
    nodes = [
        node
        for node in graph.graph_of(model).nodes
        if id(node.operation) in wanted or graph.is_functional(node.operation)
    ]
    if not nodes:
        return
    tensors = [list(node.inputs) for node in nodes]
    tapped = keras.Function(list(model.inputs), tensors)
    given = [keras.ops.convert_to_tensor(one) for one in batch]
    for node, found in zip(nodes, tapped(given), strict=True):
        values = [arrays.to_numpy(one) for one in found]
        if graph.is_functional(node.operation):
            _run(node.operation, values, wanted, take)
        else:
            take(id(node.operation), values[0])
