"""Layers and weights as a user picks them: patterns of their paths, or themselves."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import keras

from keras_fitkit._core import arguments
from keras_fitkit._core.layers import leaf_layers

Selection: TypeAlias = Any  # None, a pattern, a layer, or a list of these


class Choice:
    """The patterns and layers of one argument, and which of them have matched."""

    def __init__(self, name: str, given: Selection) -> None:
        self.name = name
        items = given if isinstance(given, (list, tuple)) else [given]
        self.items = [] if given is None else list(items)
        self.unmatched = list(self.items)

    def takes(self, path: str, layer: Any) -> bool:
        """Whether one of them means this layer or weight."""
        matched = [item for item in self.items if matches(item, path, layer)]
        self.unmatched = [
            item for item in self.unmatched if not any(item is one for one in matched)
        ]
        return bool(matched)

    def check_all_matched(self, paths: Sequence[str]) -> None:
        """Each of them has meant something.

        Args:
            paths: of all weights, for the message.

        Raises:
            ValueError: one has not.
        """
        if not self.unmatched:
            return
        item = self.unmatched[0]
        if not isinstance(item, str):
            allowed = "layers of the model that own weights, at any depth"
            if not isinstance(item, keras.layers.Layer):
                allowed = "such that it means a layer of the model"
            shown = getattr(item, "name", None) or getattr(item, "__name__", item)
            raise ValueError(arguments.message(self.name, allowed, shown))
        known = [*paths, *(path.rpartition("/")[0] for path in paths)]
        hint = arguments.near(item, known)
        if not hint:
            hint = f"Weights there are: {', '.join(paths)}."
        allowed = "patterns that match the path of a layer or a weight"
        raise ValueError(arguments.message(self.name, allowed, item, hint))


def matches(item: Any, path: str, layer: Any) -> bool:
    """Whether a pattern, layer, class or function means a layer or a weight of it."""
    if isinstance(item, type):
        return isinstance(layer, item)
    if not isinstance(item, (str, keras.layers.Layer)):
        return bool(item(layer))
    if not isinstance(item, str):
        return item is layer or any(part is layer for part in _below(item))
    parts = path.split("/")
    ends = range(1, len(parts) + 1)
    return any(fnmatch.fnmatchcase("/".join(parts[:end]), item) for end in ends)


def _below(layer: Any) -> Iterable[Any]:
    return (leaf for _, leaf in leaf_layers(layer))


def check(name: str, given: Selection, *, functions: bool = False) -> Selection:
    """Patterns, layers, or a list of these; None passes.

    With `functions` also classes of layers, and functions of a layer that give a bool.
    """
    items = given if isinstance(given, (list, tuple)) else [given]
    if given is None:
        return None
    for item in items:
        more = functions and callable(item)
        if not (more or isinstance(item, (str, keras.layers.Layer))) or item == "":
            allowed = "a pattern of a path, a layer, or a list of these"
            if functions:
                allowed = (
                    "a pattern of a path, a layer, a class of layers, a function of a "
                    "layer, or a list of these"
                )
            raise TypeError(arguments.message(name, allowed, item))
    if not items:
        allowed = "None or a list that is not empty"
        raise ValueError(arguments.message(name, allowed, given))
    return given
