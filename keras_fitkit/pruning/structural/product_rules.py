"""Rules of products of two tensors: matmul, einsum, Dot, Attention without kernels.

Letters name the axes, as in einsum. Axes of one letter are tied. A letter that is
summed over uses its channels up: without one of them the sum has a term less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from keras_fitkit.pruning.structural.labels import Axes, Ids
from keras_fitkit.pruning.structural.walk import Contraction, Site, Walk

Letters = Sequence[str]


def matmul(walk: Walk, site: Site) -> list[Axes]:
    """Matrices, and stacks of them."""
    ranks = [len(axes) for axes in site.inputs]
    if len(ranks) != 2 or min(ranks) < 2:
        return walk.stop(site, "multiplies by an array of constants or a vector")
    first, second = (_hidden(rank - 2) for rank in ranks)
    result = [*max(first, second, key=len), "row", "column"]
    terms = [[*first, "row", "sum"], [*second, "sum", "column"]]
    return [_product(walk, site, terms, result)]


def einsum(walk: Walk, site: Site) -> list[Axes]:
    """Any equation in which no operand has a letter twice."""
    text = site.layer.subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    operands = left.split(",")
    if not arrow or len(operands) != len(site.inputs):
        return walk.stop(site, "its equation has no rule")
    hidden = [
        _hidden(len(axes) - len(operand.replace("...", "")))
        for operand, axes in zip(operands, site.inputs, strict=True)
    ]
    terms = [_spelled(*pair) for pair in zip(operands, hidden, strict=True)]
    if any(len(set(term)) < len(term) for term in terms):
        return walk.stop(site, "its equation has no rule")
    return [_product(walk, site, terms, _spelled(right, max(hidden, key=len)))]


def dot(walk: Walk, site: Site) -> list[Axes]:
    """The layer `Dot`: one axis of each is summed over."""
    layer = site.layer
    if layer.normalize or len(site.inputs) != 2:
        return walk.stop(site, "normalizes over the channels")
    given = (layer.axes,) * 2 if isinstance(layer.axes, int) else layer.axes
    terms = []
    for name, axes, axis in zip("xy", site.inputs, given, strict=True):
        letters = ["batch", *(f"{name}{place}" for place in range(1, len(axes)))]
        letters[axis % len(axes)] = "sum"
        terms.append(letters)
    rest = [letter for term in terms for letter in term[1:] if letter != "sum"]
    found = _product(walk, site, terms, ["batch", *rest])
    missing = len(site.output_shape()) - len(found)  # of two vectors: (batch, 1)
    return [(*found, *(None,) * missing)]


def attention(walk: Walk, site: Site) -> list[Axes]:
    """The layer `Attention` with products as scores: it has no kernels."""
    args, _ = site.node.arguments({id(one): one for one in site.node.inputs})
    count = len(args[0]) if args and isinstance(args[0], (list, tuple)) else 0
    if site.layer.score_mode != "dot" or count not in (2, 3):
        return walk.stop(site, "its scores have no rule")
    key = count - 1
    others = [
        ids
        for place, axes in enumerate(site.inputs)
        for ids in (axes[:-1] if place < count else axes)
    ]
    walk.freeze(site.path, others, "are positions of attention")
    ids = _tied(walk, site, [(0, -1), (key, -1)])
    if ids is not None:
        _contract(walk, site, ids, [(0, -1), (key, -1)])
    value = site.inputs[1][-1]
    parts = [[one] for one in (ids, value) if one is not None]
    walk.products[id(site.layer)] = parts if len(parts) == 2 else []
    found = site.bare()
    return [(*found[0][:-1], value), *found[1:]]


def _hidden(count: int) -> list[str]:
    """Letters of axes that are counted from the right."""
    return [f".{count - place}" for place in range(count)]


def _spelled(text: str, hidden: Letters) -> list[str]:
    head, dots, tail = text.partition("...")
    return [*head, *(hidden if dots else ()), *tail]


def _product(walk: Walk, site: Site, terms: Sequence[Letters], result: Letters) -> Axes:
    """The labels of a sum of products."""
    where: dict[str, list[tuple[int, int]]] = {}
    for place, term in enumerate(terms):
        for axis, letter in enumerate(term):
            where.setdefault(letter, []).append((place, axis))
    found: dict[str, Ids | None] = {}
    for letter, at in where.items():
        found[letter] = ids = _tied(walk, site, at)
        if letter not in result and ids is not None:
            if len(at) < 2:
                walk.freeze(site.path, [ids], "is taken over the channels")
            else:
                _contract(walk, site, ids, at)
    labelled = [ids for ids in found.values() if ids is not None]
    walk.products[id(site.layer)] = [labelled] if labelled else []
    return tuple(found[letter] for letter in result)


def _tied(walk: Walk, site: Site, at: Sequence[tuple[int, int]]) -> Ids | None:
    """The labels of axes that are one; those of size 1 may be broadcast."""
    sizes = [site.shape(place)[axis] for place, axis in at]
    wide = [size == 1 and any(one != 1 for one in sizes) for size in sizes]
    parts = [(site.inputs[place][axis],) for place, axis in at]
    for part, one in zip(parts, wide, strict=True):
        if one:
            walk.freeze(site.path, part, "is broadcast")
    full = [part for part, one in zip(parts, wide, strict=True) if not one]
    return walk.merge(site.path, full)[0]


def _contract(walk: Walk, site: Site, ids: Ids, at: Sequence[tuple[int, int]]) -> None:
    places = tuple((place, axis % len(site.inputs[place])) for place, axis in at)
    walk.contractions.append(Contraction(site.node, ids, places))
    walk.ordered.append(ids)  # a copy would count twice in the sum


RULES: dict[type, Any] = {layers.Dot: dot, layers.Attention: attention}
OPERATION_RULES: dict[str, Any] = {"Matmul": matmul, "Einsum": einsum}
