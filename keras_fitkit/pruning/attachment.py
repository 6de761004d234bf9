"""Masks inside the compiled train step: a variable of the optimizer and a constraint.

The mask is a variable that the optimizer tracks, because on JAX only the optimizer's
and the trainable variables reach a compiled step. It is applied as the last link of the
variable's constraints, which Keras applies right after each update: a pruned weight is
zero after every batch.

The variable is boolean, but has the weight's own dtype on TensorFlow: a choice by
booleans is not vectorized there and costs twice as much as a multiplication.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, constraints, step_variables
from keras_fitkit._core.targets import Target, to_array
from keras_fitkit.pruning.masks import Array, Mask

_NUMPY_FLOATS = ("float32", "float64")


class MaskLink:
    """Sets a weight to zero where its mask says so, and its moving average with it."""

    stage = constraints.Stage.MASK

    def __init__(self, mask: Any, average: Any, owner: Any) -> None:
        self.mask = mask
        self.average = average
        self.owner = owner

    def __call__(self, value: Any, /) -> Any:
        """The masked tensor; +0.0 under the mask, whatever stood there."""
        mask = keras.ops.convert_to_tensor(self.mask)
        if self.average is not None:
            self.average.assign(
                _masked(mask, keras.ops.convert_to_tensor(self.average))
            )
        return _masked(mask, value)


class Attachment:
    """The mask of one weight while a fit runs."""

    def __init__(self, target: Target, model: Any, owner: Any) -> None:
        self.target = target
        self.optimizer = step_variables.base_optimizer(model.optimizer)
        mask = step_variables.add(
            model,
            target.variable,
            f"{target.path.replace('/', '_')}_mask",
            shape=target.shape,
            initializer="ones",
            dtype=_dtype_of_mask(target.variable),
        )
        average = _private.average_of(self.optimizer, target.variable)
        self.link = MaskLink(mask, average, owner)
        constraints.push(target.variable, self.link)
        self.mask: Mask = np.ones(target.shape, dtype=bool)

    @property
    def zeros(self) -> int:
        """Weights under the mask."""
        return int(self.mask.size - np.count_nonzero(self.mask))

    def weight(self) -> Array:
        """The weight as an array that can be compared (float32 or float64).

        Raises:
            ValueError: NaN in it.
        """
        value = to_array(self.target.variable)
        if np.isnan(np.max(value, initial=-np.inf)):
            raise ValueError(
                f"`{self.target.path}` must be free of NaN to be pruned. Received: "
                f"{int(np.isnan(value).sum())} of {value.size} weights are NaN. The "
                "model has diverged: lower the learning rate."
            )
        return value

    def set(self, mask: Mask, *, apply: bool = True) -> None:
        """Takes a new mask and applies it to the weight now."""
        self.mask = mask
        self.link.mask.assign(mask)
        if apply:
            self.apply()

    def apply(self) -> None:
        """Sets to zero what is under the mask."""
        mask = keras.ops.convert_to_tensor(self.link.mask)
        for variable in (self.target.variable, self.link.average):
            if variable is not None:
                value = keras.ops.convert_to_tensor(variable)
                variable.assign(_masked(mask, value))

    def open(self) -> None:
        """Lets every weight move until the next `set`; the mask is remembered."""
        self.link.mask.assign(np.ones(self.target.shape, dtype=bool))

    def settle(self) -> None:
        """At the end of a fit: the zeros are what the mask says, and none is -0.0.

        Weights that another callback put back (the best ones, of an earlier mask) keep
        their own zeros if there are enough of them.
        """
        value = np.asarray(keras.ops.convert_to_numpy(self.target.variable))
        zero = value == 0
        if np.any(~zero & ~self.mask):
            if np.count_nonzero(zero) >= self.zeros:
                self.mask = ~zero
            else:
                self.apply()
                value = np.asarray(keras.ops.convert_to_numpy(self.target.variable))
        if np.any(np.signbit(value) & (value == 0)):
            self.target.variable.assign(value + np.zeros((), value.dtype))

    def release(self) -> None:
        """Puts constraint and optimizer back as they were; can be repeated."""
        constraints.remove(self.target.variable, self.link)
        _private.untrack(self.optimizer, self.link.mask)


def links_of(variable: Any) -> list[MaskLink]:
    """The mask links on a variable, those of fits that raised included."""
    return [link for link in constraints.links(variable) if isinstance(link, MaskLink)]


def release_stale(model: Any, alive: Sequence[Any]) -> None:
    """Takes off what fits that raised have left, on any variable of the model.

    Args:
        model: the model, compiled.
        alive: callbacks of fits that are running: theirs stay.
    """
    for variable in model.variables:
        for link in links_of(variable):
            if not any(link.owner is one for one in alive):
                constraints.remove(variable, link)
                step_variables.remove(model, link.mask)


def _dtype_of_mask(variable: Any) -> str:
    dtype = str(variable.dtype)
    if keras.backend.backend() == "tensorflow" and dtype in _NUMPY_FLOATS:
        return dtype
    return "bool"


def _masked(mask: Any, value: Any) -> Any:
    if keras.backend.standardize_dtype(mask.dtype) != "bool":
        import tensorflow as tf

        # +0.0 where the mask is 0, be it NaN or negative what stands there.
        return tf.math.multiply_no_nan(keras.ops.convert_to_tensor(value), mask)
    # A plain 0 takes the value's dtype; a tensor of zeros would cost as much again.
    return keras.ops.where(mask, value, 0)
