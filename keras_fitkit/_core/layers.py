"""Which layers a model is made of, and whether it is a Keras model at all.

`model.layers` stops at the first level: it misses what is inside nested models,
wrappers (Bidirectional, TimeDistributed), MultiHeadAttention and any composite layer.
`leaf_layers` goes down to the layers that hold weights or do the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_fitkit._core import _private, arguments


def kept(model: Any) -> Any:
    """What stays of a model when its training is over: of a Distiller, the student.

    What is compressed is this part. A model that trains another one names it in an
    attribute `kept_model`.
    """
    return getattr(model, "kept_model", model)


def leaf_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers that do the work, each once, with the path that leads to it.

    Yielded are layers without children, and layers with children that own variables
    themselves too (before their children), so that no weight is lost. The containers
    between are not yielded. `model` itself comes first, with an empty path, if it owns
    variables. Input layers are left out: they do nothing. A recurrent layer is a
    container: its cell is the leaf ("lstm/lstm_cell").

    The order is that of the model (of definition, in a subclassed one). A layer that
    is used twice comes once, at its first place. Two siblings of one name get `_1`,
    `_2`, ... as in Keras's own weight files, so that a path is unique.

    Args:
        model: a Keras model or layer, built or not. A layer that makes its children in
            `build` shows them after that only.

    Yields:
        Pairs of the path, the layer names below `model` joined by "/", and the layer.

    Example:
        >>> import keras
        >>> from keras import layers
        >>> block = keras.Sequential([layers.Dense(2, name="dense")], name="block")
        >>> model = keras.Sequential([block, layers.ReLU(name="relu")])
        >>> [path for path, _ in leaf_layers(model)]
        ['block/dense', 'relu']
    """
    if _private.own_variables(model):
        yield "", model
    yield from _leaves(model, "", {id(model)})


def layer_paths(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of path and layer of a model, of the nested models in it too.

    A nested model comes before its layers; one that is used twice comes twice.
    """
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        yield path, layer
        if isinstance(layer, keras.Model):
            yield from layer_paths(layer, f"{path}/")


def _leaves(parent: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    names: set[str] = set()
    for layer in _private.sublayers(parent):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if isinstance(layer, keras.layers.InputLayer):
            continue
        path = prefix + _unique(layer.name, names)
        if not _private.sublayers(layer) or _private.own_variables(layer):
            yield path, layer
        yield from _leaves(layer, f"{path}/", seen)


def _unique(name: str, taken: set[str]) -> str:
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    taken.add(found)
    return found


def check_keras_model(name: str, value: Any, *, built: bool = False) -> Any:
    """A Keras 3 model.

    Args:
        name: the argument's name, for the message.
        value: what was given.
        built: whether the model must have its weights already.

    Returns:
        `value`.

    Raises:
        TypeError: if it is no `keras.Model`. A tf_keras (Keras 2) model, the kind that
            tfmot makes, is told apart: the message names `kf.from_tfmot`.
        ValueError: if it must be built and is not.
    """
    refuse_legacy_keras(name, value)
    if not isinstance(value, keras.Model):
        hint = ""
        if isinstance(value, type) and issubclass(value, keras.Model):
            hint = "Pass a model, not its class."
        elif isinstance(value, keras.layers.Layer):
            hint = "It is a layer. Put it into a model: `keras.Sequential([layer])`."
        raise TypeError(arguments.message(name, "a keras.Model", value, hint))
    if built and not value.built:
        hint = "Give it an `Input`, or call it once on data."
        raise ValueError(arguments.message(name, "a built model", value, hint))
    return value


def refuse_legacy_keras(name: str, value: Any) -> None:
    """Raises for a tf_keras (Keras 2) model; anything else passes.

    Args:
        name: the argument's name, for the message.
        value: what was given.

    Raises:
        TypeError: names `kf.from_tfmot`.
    """
    if is_legacy_keras(value):
        hint = (
            "It is of tf_keras (Keras 2), the kind that tensorflow_model_optimization "
            "makes. Convert it with `kf.from_tfmot(model)`."
        )
        raise TypeError(arguments.message(name, "a Keras 3 model", _kind(value), hint))


def is_legacy_keras(value: Any) -> bool:
    """Whether `value` is a layer or a model of tf_keras (Keras 2).

    Told by the modules its classes come from: importing tf_keras to ask would cost its
    import and set up a second Keras.
    """
    modules = [parent.__module__ for parent in type(value).__mro__]
    return any(module.partition(".")[0] == "tf_keras" for module in modules)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
