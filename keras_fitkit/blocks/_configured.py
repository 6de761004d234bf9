"""A layer whose configuration is its constructor's arguments."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from keras_fitkit.blocks import _arguments


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose configuration is its constructor's arguments.

    Each argument must be kept in an attribute of its name.
    """

    def argument(self, name: str) -> Any:
        """What the constructor was given, checked."""
        return getattr(self, name)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layer again; what there is to warn of was said when it was made first."""
        with _arguments.quietly():
            return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        config: dict[str, Any] = super().get_config()
        for name in _argument_names(type(self)):
            config[name] = _plain(self.argument(name))
        return config


def _argument_names(kind: type[Any]) -> list[str]:
    """Of the constructors of `kind` and its parents, up to Keras's own."""
    names: list[str] = []
    for parent in kind.__mro__[: kind.__mro__.index(keras.layers.Layer)]:
        if "__init__" in vars(parent):
            parameters = inspect.signature(vars(parent)["__init__"]).parameters
            names += [
                one.name
                for one in parameters.values()
                if one.kind is not one.VAR_KEYWORD and one.name not in ("self", *names)
            ]
    return names


def _plain(value: Any) -> Any:
    if isinstance(
        value,
        (
            keras.layers.Layer,
            keras.initializers.Initializer,
            keras.regularizers.Regularizer,
        ),
    ):
        return keras.saving.serialize_keras_object(value)
    return keras.activations.serialize(value) if callable(value) else value
