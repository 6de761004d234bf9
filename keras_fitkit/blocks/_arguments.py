"""Argument checks that only blocks need, in the form of `_core.arguments`."""

from __future__ import annotations

import contextlib
import contextvars
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_fitkit._core import arguments

WIDEST = 5  # of a depthwise kernel that is fast in LiteRT
INPUTS = "a KerasTensor, such as keras.Input(shape)"


def pair(name: str, value: object) -> tuple[int, int]:
    """One integer >= 1 for both spatial axes, or two of them."""
    allowed = "an integer >= 1, or two of them"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 2:
            raise ValueError(arguments.message(name, allowed, value))
        first, second = value
    else:
        first = second = value
    try:
        low = arguments.integer(name, first, low=1)
        return low, arguments.integer(name, second, low=1)
    except (TypeError, ValueError) as error:
        raise type(error)(arguments.message(name, allowed, value)) from None


def activation(name: str, value: Any) -> Callable[..., Any] | None:
    """A Keras activation by name or config, a function, or None."""
    if value is None:
        return None
    allowed = "a name in keras.activations, a function or None"
    if isinstance(value, keras.layers.Layer) or not (
        isinstance(value, (str, dict)) or callable(value)
    ):
        raise TypeError(arguments.message(name, allowed, value))
    try:
        found: Callable[..., Any] = keras.activations.get(value)
    except ValueError:
        known = [one for one in dir(keras.activations) if not one.startswith("_")]
        hint = arguments.near(value, known) if isinstance(value, str) else ""
        raise ValueError(arguments.message(name, allowed, value, hint)) from None
    return found


def initializer(name: str, value: Any) -> Any:
    """A Keras initializer by name, config or object."""
    allowed = "a name in keras.initializers or an initializer"
    if value is None or isinstance(value, bool):
        raise TypeError(arguments.message(name, allowed, value))
    try:
        return keras.initializers.get(value)
    except (TypeError, ValueError):
        raise ValueError(arguments.message(name, allowed, value)) from None


def regularizer(name: str, value: Any) -> Any:
    """A Keras regularizer by name, config or object, or None."""
    try:
        return keras.regularizers.get(value)
    except (TypeError, ValueError):
        allowed = "None, a name in keras.regularizers or a regularizer"
        raise ValueError(arguments.message(name, allowed, value)) from None


def data_format(name: str, value: object) -> str:
    """`None` is Keras's own setting."""
    if value is None:
        return str(keras.config.image_data_format())
    return arguments.choice(name, value, ("channels_last", "channels_first"))


def even(name: str, value: object, reason: str) -> int:
    """An even integer >= 2."""
    clean = arguments.integer(name, value, low=2)
    if clean % 2:
        raise ValueError(arguments.message(name, "even", value, reason))
    return clean


def expansion(value: object) -> float:
    """How many times the channels grow: a number > 0."""
    return arguments.number("expansion", value, low=0, include_low=False)


def rate(name: str, value: object) -> float:
    """A fraction in [0, 1)."""
    return arguments.number(name, value, low=0, high=1, include_high=False)


_QUIET = contextvars.ContextVar("quiet", default=False)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """No warnings: a layer is made again from its configuration."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def depthwise_size(name: str, value: object, *, warn: bool = True) -> int:
    """The size of a depthwise kernel: an integer >= 1; above 5 it is slow in LiteRT."""
    clean = arguments.integer(name, value, low=1)
    if clean > WIDEST and warn and not _QUIET.get():
        warnings.warn(
            f"`{name}={clean}`: depthwise kernels above 5 x 5 are slow in LiteRT on "
            "x86, in int8 more than 10 times as slow as the plain 3 x 3 convolution. "
            "Use 3 or 5 where the model is to be deployed.",
            stacklevel=3,
        )
    return clean


def seed(name: str, value: object) -> int | None:
    """An integer >= 0, or None."""
    return None if value is None else arguments.integer(name, value, low=0)
