"""Rows of data that is an array or a structure (dict, list, tuple) of arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments


def length(name: str, data: Any, allowed: str) -> int:
    """The number of rows that all arrays of `data` have in common.

    Args:
        name: the argument that `data` is, for errors.
        data: arrays, at any depth; None counts for nothing.
        allowed: what the argument may be, for errors.

    Raises:
        TypeError: a leaf without rows.
        ValueError: different lengths, or no rows at all.
    """
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    for leaf in leaves:
        if not getattr(leaf, "shape", None):
            raise TypeError(arguments.message(name, allowed, leaf))
    lengths = {int(leaf.shape[0]) for leaf in leaves}
    if len(lengths) != 1 or lengths == {0}:
        allowed += " of the same length, not empty"
        received = f"lengths {sorted(lengths)}"
        raise ValueError(arguments.message(name, allowed, received))
    return lengths.pop()


def take(data: Any, picked: Any) -> Any:
    """The rows at `picked` (a slice or indices) of every array, as NumPy arrays."""
    if data is None:
        return None
    return keras.tree.map_structure(lambda leaf: _rows_of(leaf, picked), data)


def _rows_of(leaf: Any, picked: Any) -> Any:
    if leaf is None:
        return None
    if hasattr(leaf, "iloc"):  # a pandas Series or DataFrame
        return leaf.iloc[picked].to_numpy()
    if isinstance(leaf, np.ndarray):
        return leaf[picked]
    if not isinstance(picked, slice) and keras.ops.is_tensor(leaf):
        return np.asarray(keras.ops.convert_to_numpy(keras.ops.take(leaf, picked, 0)))
    # Rows first: converting copies on TensorFlow.
    return np.asarray(keras.ops.convert_to_numpy(leaf[picked]))
