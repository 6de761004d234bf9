"""Variables and tensors of any backend as NumPy arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def to_numpy(value: Any) -> Any:
    """A variable, a tensor or an array as a NumPy array.

    `convert_to_numpy` of a variable meets its `__array__`, of which NumPy 2 warns on
    TensorFlow (it knows no `copy`); that of its value, as a tensor, does not.
    """
    if isinstance(value, keras.Variable):
        value = keras.ops.copy(value)
    return np.asarray(keras.ops.convert_to_numpy(value))


def copied(value: Any) -> Any:
    """An array of its own, for another variable.

    On JAX assigning one variable to another makes them share a buffer, which a compiled
    step that is given both refuses, and one that is given either frees for both.
    """
    return np.array(to_numpy(value))


def read_only(variable: Any) -> Any:
    """The values of a variable for reading now, without a copy where that can be had.

    NumPy's own `numpy()` of a TensorFlow tensor copies; its buffer does not. An update
    of the variable later never shows in the array: TensorFlow writes to a new buffer
    while somebody holds the old one. On torch it does show.
    """
    read = getattr(variable.value, "read_value", None)
    if keras.backend.backend() != "tensorflow" or read is None:
        return to_numpy(variable)
    try:
        return np.asarray(memoryview(read()))
    except (TypeError, ValueError, BufferError):  # replicas; bfloat16
        return to_numpy(variable)
