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
