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
        ValueError: other shapes or another structure, no rows, NaN or infinities,
            also in the dtype of the input; fractions for an input of integers.
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
    return [
        _cast(name, one, str(tensor.dtype))
        for one, tensor in zip(given, model.inputs, strict=True)
    ]


def _cast(name: str, given: Any, dtype: str) -> Any:
    """An array as what an input takes, if nothing of it is lost."""
    kind = given.dtype.kind
    if kind not in "fiubV" or (kind == "V" and "float" not in given.dtype.name):
        raise TypeError(arguments.message(name, "numbers", f"dtype {given.dtype}"))
    if kind in "fV":
        _check_finite(name, given)
    if "float" in dtype:
        with np.errstate(over="ignore"):
            cast = given.astype(dtype)
        _check_finite(name, cast)  # some are too large for it
        return cast
    if kind in "fV" and (given != np.floor(given)).any():
        allowed = f"whole numbers, as the input is of {dtype}"
        raise ValueError(arguments.message(name, allowed, f"dtype {given.dtype}"))
    return given.astype(dtype)


def _check_finite(name: str, values: Any) -> None:
    """Half precision of 16 bits has no check of its own everywhere."""
    if values.dtype.name == "bfloat16":
        values = values.astype("float32")
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"`{name}` must be finite. Received: {int(bad.sum())} values that are NaN "
            f"or infinite as {values.dtype.name}."
        )
