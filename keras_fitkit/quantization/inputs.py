"""Samples of the inputs of a model, as a user gives them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, graph


def checked(name: str, data: Any, model: Any) -> list[Any] | None:
    """Arrays for the inputs of a model, in their order; None for None.

    Args:
        name: the argument that `data` is, for errors.
        data: arrays in the structure of the model's inputs.
        model: functional or Sequential.

    Raises:
        TypeError: strings or objects.
        ValueError: other shapes or another structure, no rows, NaN or infinities.
    """
    if data is None:
        return None
    shapes = [tuple(one.shape[1:]) for one in model.inputs]
    wanted = [("rows", *shape) for shape in shapes]
    try:
        if len(shapes) > 1:
            keras.tree.assert_same_structure(data, graph.input_structure(model))
        given = [arrays.to_numpy(one) for one in keras.tree.flatten(data)]
        fits = len(given) == len(shapes) and all(
            len(one.shape) == len(shape) + 1
            and all(n in (None, m) for n, m in zip(shape, one.shape[1:], strict=True))
            for one, shape in zip(given, shapes, strict=True)
        )
    except (TypeError, ValueError):
        fits = False
    if not fits or len({len(one) for one in given}) != 1 or not len(given[0]):
        allowed = f"arrays of the shapes {wanted}, in the structure of the inputs"
        received = keras.tree.map_structure(lambda one: np.shape(one), data)
        raise ValueError(arguments.message(name, allowed, received))
    for one in given:
        if one.dtype.kind not in "fiubV":  # V: of half precision
            raise TypeError(arguments.message(name, "numbers", f"dtype {one.dtype}"))
        if one.dtype.kind == "f" and not np.isfinite(one).all():
            raise ValueError(
                f"`{name}` must be finite. Received: {int((~np.isfinite(one)).sum())} "
                "values that are NaN or infinite."
            )
    return [
        one.astype(tensor.dtype)
        for one, tensor in zip(given, model.inputs, strict=True)
    ]
