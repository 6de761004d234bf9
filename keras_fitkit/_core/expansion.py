"""Composite layers that offer an `expand()`: plain layers in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_fitkit._core import graph
from keras_fitkit._core.rewrite import Replacement, Rewriter
from keras_fitkit._core.selection import Choice, matches


class Expansion(Rewriter):
    """Puts the plain layers of composite ones in their place.

    Args:
        keeps: given path and layer, whether it stays as it is.

    Attributes:
        expanded: the paths of the layers that were expanded.
    """

    def __init__(self, keeps: Callable[[str, Any], bool]) -> None:
        super().__init__()
        self.expanded: list[str] = []
        self._keeps = keeps

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """What `expand()` of the layer gives."""
        if not offers(layer, "expand") or self._keeps(path, layer):
            return None
        self.expanded.append(path)
        return layer.expand()


def offers(layer: Any, method: str) -> bool:
    """Whether a layer, not a model, has a method of this name that tells what it does.

    A method of its class: a sublayer in an attribute `expand` can be called as well. A
    class that overrides `call` does something else than what the method that it
    inherits was written for.
    """
    kind = type(layer)
    if isinstance(layer, keras.Model) or not callable(getattr(kind, method, None)):
        return False
    owner = next(one for one in kind.__mro__ if method in vars(one))
    described = getattr(owner, "call", keras.layers.Layer.call)
    return described is keras.layers.Layer.call or kind.call is described


def expanded(
    model: Any, keeps: Callable[[str, Any], bool] = lambda path, layer: False
) -> tuple[Any, list[str]]:
    """A model without composite layers that can be expanded, and which there were.

    Layers that come out of an expansion are expanded too. The model itself is returned
    where there is nothing to do.

    Args:
        model: functional or Sequential.
        keeps: given path and layer, whether it stays as it is. Defaults to none.
    """
    paths: list[str] = []
    while any(
        offers(layer, "expand") and not keeps(path, layer)
        for path, layer in paths_of(model)[0].items()
    ):
        step = Expansion(keeps)
        model = step.run(model)
        paths += step.expanded
    return model, paths


def without_blocks(
    model: Any,
    *choices: tuple[str, Any],
    keep: str = "",
    whole: tuple[type, ...] = (),
) -> tuple[Any, ...]:
    """A model whose blocks are plain layers, and the same selections by paths.

    Args:
        model: functional or Sequential.
        choices: the names of arguments that select layers, and what was given.
        keep: the argument whose layers are not expanded; "" for none.
        whole: classes of layers that are not expanded either. Defaults to none.

    Returns:
        The model and the selections, in their order. What meant a layer that is gone
        means those that it became; a layer that was given as itself is its path.
    """
    kept = Choice(keep, dict(choices).get(keep))
    before = paths_of(model)[0]
    # By path: the copies of layers that are given as themselves are other objects.
    stay = {path for path, layer in before.items() if kept.takes(path, layer)}
    plain, gone = expanded(
        model,
        lambda path, layer: (
            isinstance(layer, whole) or path in stay or kept.takes(path, layer)
        ),
    )
    if plain is model:
        return (plain, *(given for _, given in choices))
    blocks = {path: before[path] for path in gone if path in before}
    others = {path: one for path, one in before.items() if path not in blocks}
    return (plain, *(_by_paths(given, blocks, others) for _, given in choices))


def _by_paths(given: Any, blocks: dict[str, Any], others: dict[str, Any]) -> Any:
    if given is None:
        return None
    paths = {id(layer): path for path, layer in others.items()}
    found: list[Any] = []
    for item in given if isinstance(given, (list, tuple)) else [given]:
        meant = [path for path, one in blocks.items() if matches(item, path, one)]
        found += [f"{path}_*" for path in meant]  # as expanded layers are named
        if not meant or any(matches(item, path, one) for path, one in others.items()):
            found.append(paths.get(id(item), item))
    return found


def paths_of(model: Any) -> tuple[dict[str, Any], set[int]]:
    """The layers that the graphs of a model and of the models in it call.

    Returns:
        The layers by path, and the ids of all of them: a shared one has one path.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def walk(inner: Any, prefix: str) -> None:
        for node in graph.graph_of(inner).nodes:
            layer = node.operation
            if id(layer) in seen or not isinstance(layer, keras.layers.Layer):
                continue
            seen.add(id(layer))
            found[f"{prefix}{layer.name}"] = layer
            if graph.is_functional(layer):
                walk(layer, f"{prefix}{layer.name}/")

    walk(model, "")
    return found, seen


def has_offers(model: Any, methods: Sequence[str]) -> bool:
    """Whether a layer that the graph of a model calls has one of these methods."""
    layers, _ = paths_of(model)
    return any(offers(layer, one) for layer in layers.values() for one in methods)
