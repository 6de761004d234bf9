"""The settings of optimizers, layers and losses, as far as they are plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_fitkit._core.layers import leaf_layers

_NAMES = ("name", "registered_name", "module", "trainable", "build_config")
_OF_THE_RUN = ("initial_scale",)  # an optimizer says here what it has come to
_DEPTH = 8


def of(owner: Any) -> dict[str, Any]:
    """The plain values in what `get_config` gives, nested ones with a dotted name."""
    try:
        config = owner.get_config()
    except NotImplementedError:  # a class of one's own without `get_config`
        return {}
    found: dict[str, Any] = {}
    _collect(config, "", found, _DEPTH)
    return found


def of_layers(model: Any) -> dict[str, dict[str, Any]]:
    """The settings of the layers without a layer below, in the order of the model."""
    return {
        f"layer {number} ({type(layer).__name__})": of(layer)
        for number, (_, layer) in enumerate(leaf_layers(model))
    }


def of_loss(model: Any) -> dict[str, Any]:
    """The losses that the model was compiled with, by name and settings."""
    found: dict[str, Any] = {}
    for number, loss in enumerate(keras.tree.flatten(getattr(model, "loss", None))):
        if isinstance(loss, keras.losses.Loss):
            found[f"{number}"] = type(loss).__name__
            found |= {f"{number}.{name}": one for name, one in of(loss).items()}
        elif loss is not None:
            found[f"{number}"] = getattr(loss, "__name__", str(loss))
    return found


def _collect(value: Any, place: str, found: dict[str, Any], depth: int) -> None:
    if depth and isinstance(value, Mapping):
        for name, one in value.items():
            if name not in _NAMES and name not in _OF_THE_RUN:
                below = f"{place}.{name}" if place else str(name)
                if name == "dtype" and isinstance(one, Mapping):  # a policy
                    one = one.get("config", {}).get("name")
                _collect(one, below, found, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for number, one in enumerate(value):
            _collect(one, f"{place}.{number}", found, depth - 1)
    elif value is None or isinstance(value, (bool, int, float, str)):
        found[place] = value
