"""The learning rate of a model, for advice that fits it."""

from __future__ import annotations

import numbers
from typing import Any

import keras


def present_rate(model: Any) -> tuple[str, float] | None:
    """The class name of Keras's own optimizer and its learning rate, or None.

    None for a schedule (a multiple of its last value says little) and for an optimizer
    of the user's own.
    """
    optimizer: Any = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # loss scaling
    name = type(optimizer).__name__
    known = getattr(keras.optimizers, name, None)
    # On torch Keras makes a class of the same name that is derived from that one.
    ours = type(optimizer).__module__.startswith("keras.")
    if known is None or not ours or not isinstance(optimizer, known):
        return None
    rate = optimizer.get_config().get("learning_rate")
    return (name, float(rate)) if isinstance(rate, numbers.Real) else None
