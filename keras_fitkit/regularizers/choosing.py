"""Which layers are asked about."""

from __future__ import annotations

from typing import Any

from keras_fitkit._core import expansion
from keras_fitkit._core.graph import Call
from keras_fitkit._core.selection import Choice, Selection


class Chosen:
    """The layers of a model that two selections leave.

    Args:
        model: functional or Sequential.
        layers: what is taken; None for all.
        exclude: what is not.

    Raises:
        ValueError: one of the items means no layer of the model.
    """

    def __init__(self, model: Any, layers: Selection, exclude: Selection) -> None:
        self._layers = Choice("layers", layers)
        self._exclude = Choice("exclude", exclude)
        found = expansion.paths_of(model)[0]
        for path, layer in found.items():
            self.takes(path, layer)
        for choice in (self._layers, self._exclude):
            choice.check_all_matched(list(found))

    def takes(self, path: str, layer: Any) -> bool:
        """Whether this layer is to be changed."""
        excluded = self.excludes(path, layer)  # both are asked: each counts its matches
        wanted = not self._layers.items or self._layers.takes(path, layer)
        return wanted and not excluded

    def takes_dropout(self, path: str, layer: Any, owner: Call | None) -> bool:
        """Whether a dropout layer is: by itself, or with the layer before it."""
        own = self.takes(path, layer)
        if owner is None or is_outside(path, owner.path):
            return own
        if self.excludes(owner.path, owner.operation):
            return False
        before = self.takes(owner.path, owner.operation)
        return own or (before and not self.excludes(path, layer))

    def excludes(self, path: str, layer: Any) -> bool:
        """Whether it is excluded by name."""
        return self._exclude.takes(path, layer)


def is_outside(path: str, owner: str) -> bool:
    """Whether a layer takes what a nested model gives out that it is not in.

    It is then chosen by itself: who excludes a base still means the rest of the model.
    """
    prefix = owner.rpartition("/")[0]
    return bool(prefix) and not path.startswith(f"{prefix}/")
