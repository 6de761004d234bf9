"""The calls of a subclassed model as a functional one, where they can be seen."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arrays, graph
from keras_fitkit._core.layers import leaf_layers

OVERRIDES = ("train_step", "test_step", "compute_loss")
ROWS = 2
OPEN = 8  # size of an axis that the model leaves open


class CannotOpen(Exception):
    """The text says why the calls of a model cannot be seen."""


def opened(model: Any) -> Any:
    """The model if it is functional, else one of the same layers.

    Its `call` is made with symbolic tensors. What comes out must have all weights and
    give the same answers, and training must make the same calls.

    Raises:
        CannotOpen: that is not so.
    """
    if graph.is_functional(model):
        return model
    own = [
        name
        for name in OVERRIDES
        if getattr(type(model), name) is not getattr(keras.Model, name)
    ]
    if own:
        raise CannotOpen(f"it has a `{own[0]}` of its own")
    try:
        found, trained = _traced(model, None), _traced(model, True)
    except Exception as error:  # whatever a call makes of symbolic tensors
        told = str(error).splitlines()[0] if str(error) else ""
        why = f"its `call` takes no symbolic tensors ({type(error).__name__}: {told})"
        raise CannotOpen(why) from error
    if _calls(found) != _calls(trained):
        raise CannotOpen("its `call` does something else in training")
    missing = {id(one) for one in model.weights} - {id(one) for one in found.weights}
    if missing:
        names = [path for path, layer in leaf_layers(model) if _among(layer, missing)]
        raise CannotOpen(f"not all layers take part in its `call`: {', '.join(names)}")
    _check_same(model, found)
    return found


def _among(layer: Any, missing: set[int]) -> bool:
    return any(id(one) in missing for one in layer.weights)


def _traced(model: Any, training: bool | None) -> Any:
    inputs = _map(_shapes(model), lambda shape: keras.Input(batch_shape=shape))
    given = {}
    if "training" in inspect.signature(model.call).parameters:
        given["training"] = training
    return keras.Model(inputs, model.call(inputs, **given), name=model.name)


def _shapes(model: Any) -> Any:
    config = model.get_build_config() or {}
    shapes = config.get("input_shape")
    if shapes is None:
        raise TypeError("it has several arguments, or was not called on data")
    return shapes


def _map(shapes: Any, make: Any) -> Any:
    """`make` of each shape in a structure; a shape is a tuple or list of numbers."""
    if isinstance(shapes, dict):
        return {name: _map(one, make) for name, one in shapes.items()}
    if all(one is None or isinstance(one, int) for one in shapes):
        return make((None, *shapes[1:]))
    return [_map(one, make) for one in shapes]


def _calls(model: Any) -> list[Any]:
    """What is called, in order: a layer is itself, an operation is its class."""
    return [
        id(call.operation)
        if isinstance(call.operation, keras.layers.Layer)
        else type(call.operation).__name__
        for call in graph.graph_of(model).nodes
    ]


def _check_same(model: Any, found: Any) -> None:
    draw = np.random.default_rng(0)

    def rows(shape: tuple[int | None, ...]) -> Any:
        sizes = [OPEN if size is None else size for size in shape[1:]]
        return keras.ops.convert_to_tensor(
            draw.uniform(size=(ROWS, *sizes)).astype("float32")
        )

    data = _map(_shapes(model), rows)
    expected = keras.tree.flatten(model(data, training=False))
    got = keras.tree.flatten(found(data, training=False))
    for one, other in zip(expected, got, strict=True):
        if not np.allclose(arrays.to_numpy(one), arrays.to_numpy(other), atol=1e-5):
            raise CannotOpen("its `call` gives other answers for symbolic tensors")
