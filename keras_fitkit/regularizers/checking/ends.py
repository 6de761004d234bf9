"""What the graph of a model tells of its inputs and outputs."""

from __future__ import annotations

from typing import Any

import keras

from keras_fitkit._core import graph
from keras_fitkit._core.layers import leaf_layers

SCALING = (
    keras.layers.Rescaling,
    keras.layers.Normalization,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
    keras.layers.Lambda,
)


# They leave the values as they are.
PASSING = (
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Resizing,
    keras.layers.CenterCrop,
    keras.layers.ZeroPadding2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.Concatenate,
    keras.layers.Masking,
)


def last_activations(model: Any) -> list[tuple[str | None, str, int | None]]:
    """The last activation of each output, its layer and the units, from the graph."""
    if not graph.is_functional(model):
        return []
    found = graph.flat(model)
    return [_activation_of(found, tensor) for tensor in found.outputs]


def _activation_of(found: Any, tensor: Any) -> tuple[str | None, str, int | None]:
    units = tensor.shape[-1] if len(tensor.shape) > 1 else None
    call = found.producer(tensor)
    while call is not None and isinstance(
        call.operation, (*PASSING, keras.layers.Identity, keras.layers.Activation)
    ):
        name = _name_of(getattr(call.operation, "activation", None))
        if isinstance(call.operation, keras.layers.Activation) and name != "linear":
            return name, call.path, units
        call = found.producer(call.inputs[0])
    if call is None:
        return None, "", units
    layer = call.operation
    if isinstance(layer, keras.layers.Softmax):
        return "softmax", call.path, units
    if isinstance(layer, keras.layers.ReLU):
        return "relu", call.path, units
    while isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    if isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)) or (
        "Conv" in type(layer).__name__ and hasattr(layer, "activation")
    ):
        return _name_of(layer.activation), call.path, units
    known = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Relu": "relu", "Tanh": "tanh"}
    return known.get(type(layer).__name__), call.path, units


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", "") or type(function).__name__)


def uses(model: Any, names: list[str]) -> list[str]:
    """What each input is used for: the words of `Input.use`."""
    count = len(names)
    if model.built and graph.is_functional(model) and len(model.inputs) == count:
        found = graph.flat(model)
        told = [_use(found, tensor) for tensor in model.inputs]
        # A dict of rows is in the order of its keys, the inputs are in their own.
        by_name = {
            tensor.name: use for tensor, use in zip(model.inputs, told, strict=True)
        }
        return [by_name.get(name, use) for name, use in zip(names, told, strict=True)]
    kinds = [layer for _, layer in leaf_layers(model)]
    if any(isinstance(one, keras.layers.Embedding) for one in kinds):
        return ["tokens"] * count
    first = kinds[:1]
    scales = any(isinstance(one, SCALING[:2]) for one in kinds)
    scales = scales or any(isinstance(one, SCALING) for one in first)
    return ["scaled" if scales else "plain"] * count


def _use(found: Any, tensor: Any) -> str:
    waiting, seen = [tensor], set()
    while waiting:
        for call in found.users(waiting.pop()):
            layer = call.operation
            if isinstance(layer, keras.layers.Embedding):
                seen.add("tokens")
            elif isinstance(layer, PASSING) or (
                type(layer).__name__.startswith("Random")
                and type(layer).__name__ != "RandomFourierFeatures"
            ):
                waiting += call.outputs
            else:
                seen.add("scaled" if _may_scale(layer) else "plain")
    return next((one for one in ("tokens", "plain") if one in seen), "scaled")


def _may_scale(layer: Any) -> bool:
    """Whether what comes out is scaled, or nobody can tell: arithmetic, own layers."""
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, SCALING):
        return True
    inside = [one for _, one in leaf_layers(layer)]
    if any(isinstance(one, SCALING) for one in inside):
        return True
    return not (layer.trainable_variables or layer.non_trainable_variables)
