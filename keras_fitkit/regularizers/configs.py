"""Layer configurations with other penalties, constraints and rates in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from keras_fitkit._core import kernels

KERNELS = (
    "kernel_regularizer",
    "depthwise_regularizer",
    "pointwise_regularizer",
    "recurrent_regularizer",
)
SUFFIX = "_regularizer"
RATES = ("dropout", "recurrent_dropout")
Config = dict[str, Any]


def _copied(config: Any) -> Any:
    """Plain dicts and lists: Keras makes others of a layer's attributes."""
    if isinstance(config, dict):
        return {key: _copied(value) for key, value in config.items()}
    return [_copied(one) for one in config] if isinstance(config, list) else config


def owners(config: Config) -> Iterator[Config]:
    """A configuration and those of the layers in it (wrappers, cells)."""
    yield config
    for value in config.values():
        inside = value.get("config") if isinstance(value, dict) else None
        if isinstance(inside, dict) and any(key.endswith(SUFFIX) for key in inside):
            yield from owners(inside)


def with_penalty(config: Config, regularizer: Any) -> tuple[Config, list[str]]:
    """A configuration with a penalty on each kernel.

    Returns:
        The configuration, and the names of the penalties that were replaced or set.
    """
    changed = _copied(config)
    told = keras.regularizers.serialize(regularizer)
    found = []
    for one in owners(changed):
        for key in KERNELS:
            if key in one:
                before = one[key]
                one[key] = told
                found.append(_replaced(key, before))
    return changed, found


def _replaced(key: str, before: Any) -> str:
    name = key.removesuffix("_regularizer")
    if before is None:
        return name
    return f"{name} (in place of {text_of(before)})"


def text_of(config: Any) -> str:
    """A serialized regularizer or constraint as "L2(l2=0.01)"."""
    if not isinstance(config, dict):
        return str(config)
    inside = config.get("config") or {}
    numbers = ", ".join(
        f"{key}={value:g}"
        for key, value in inside.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    )
    return f"{config.get('class_name')}({numbers})"


def with_max_norm(layer: Any, config: Config, norm: float) -> tuple[Config, list[str]]:
    """A configuration whose kernels keep the norm of the weights into each unit."""
    changed, found = _copied(config), []
    for variable, key in _constrained(layer):
        if key not in changed:
            continue
        rank = len(variable.shape)
        units = kernels.channels(layer, variable)
        axis = [place for place in range(rank) if place not in units]
        constraint = keras.constraints.MaxNorm(norm, axis=axis)
        before, changed[key] = changed[key], keras.constraints.serialize(constraint)
        name = key.removesuffix("_constraint")
        found.append(name if before is None else f"{name} (it had {text_of(before)})")
    return changed, found


def _constrained(layer: Any) -> list[tuple[Any, str]]:
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        return [
            (layer.depthwise_kernel, "depthwise_constraint"),
            (layer.pointwise_kernel, "pointwise_constraint"),
        ]
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        return [(layer.kernel, "depthwise_constraint")]
    if kernels.names(layer) == ("kernel",):
        return [(layer.kernel, "kernel_constraint")]
    return []


def with_rates(config: Config, rate: float) -> tuple[Config, list[str]]:
    """A configuration whose own dropout rates that are not 0 are others."""
    changed, found = _copied(config), []
    for one in owners(changed):
        for key in RATES:
            before = one.get(key)
            if isinstance(before, float) and before > 0 and before != rate:
                one[key] = rate
                found.append(f"{key} {before:g} -> {rate:g}")
    return changed, found


def without(config: Config) -> tuple[Config, list[str]]:
    """A configuration without penalties, rates and norms that are held down."""
    changed, found = with_rates(config, 0.0)
    for one in owners(changed):
        for key, value in one.items():
            held = isinstance(value, dict) and value.get("class_name") == "MaxNorm"
            penalty = key.endswith("_regularizer") and value is not None
            if penalty or (key.endswith("_constraint") and held):
                found.append(f"{key}: {text_of(value)} is gone")
                one[key] = None
    return changed, found
