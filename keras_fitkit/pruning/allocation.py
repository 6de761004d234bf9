"""How many zeros each weight gets.

Every rule answers with one mask a weight. In all of them the asked-for total is exact
to within one unit (a weight; a block or a channel with those patterns).
"""

from __future__ import annotations

import fnmatch
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit._core.targets import Target
from keras_fitkit.pruning.masks import (
    CHUNK,
    Array,
    Mask,
    Part,
    count_zeros,
    keep_largest,
    keep_largest_of,
    split_count,
)
from keras_fitkit.pruning.patterns import Pattern, Unstructured, choose

NAMES = ("uniform", "global", "erk", "lamp")

Allocation: TypeAlias = str | Mapping[str, float]


def masks(
    allocation: Allocation,
    pattern: Pattern,
    targets: Sequence[Target],
    scores: Any,
    sparsity: float,
    final: float,
    *,
    repeatable: bool = False,
) -> list[Mask]:
    """One mask for each target.

    Args:
        allocation: a name of `NAMES`, or sparsities by path pattern.
        pattern: the shape of the zeros.
        targets: the weights.
        scores: a callable that gives the scores of target number i, lowest go first.
            It is called once for each, so that one array is in memory at a time; with
            "global" and "lamp" all of them, unless they are `repeatable`.
        sparsity: the fraction of all weights that is zero now.
        final: the fraction at the end, to scale the sparsities of a dict.
        repeatable: whether `scores` gives the same when it is called again, at little
            cost.
    """
    if allocation in ("global", "lamp"):
        lamp = allocation == "lamp"
        return _together(
            pattern, targets, scores, sparsity, lamp=lamp, repeatable=repeatable
        )
    sizes = [target.size // pattern.unit_size(target) for target in targets]
    if allocation == "erk":
        shapes = [target.shape for target in targets]
        units = [pattern.unit_size(target) for target in targets]
        zeros = _erk_zeros(shapes, units, sparsity)
    else:
        wanted = by_target(allocation, targets, sparsity, final)
        zeros = [
            min(count_zeros(size, share), size - 1)  # a weight without any is dead
            for size, share in zip(sizes, wanted, strict=True)
        ]
    return [
        choose(pattern, target, scores(index), count)
        for index, (target, count) in enumerate(zip(targets, zeros, strict=True))
    ]


def by_target(
    allocation: Allocation, targets: Sequence[Target], sparsity: float, final: float
) -> list[float]:
    """The sparsity of each target: a dict's own, in step with the others."""
    if isinstance(allocation, str):
        return [sparsity] * len(targets)
    done = sparsity / final if final else 0.0
    return [
        sparsity if own is None else own * done
        for own in (own_share(allocation, target.path) for target in targets)
    ]


def own_share(allocation: Mapping[str, float], path: str) -> float | None:
    """What a dict says of a path, or of a layer that it is in; None for nothing."""
    parts = path.split("/")
    prefixes = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    for pattern, value in allocation.items():
        if any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes):
            return value
    return None


def check(allocation: Any) -> Allocation:
    """A name of `NAMES` or a dict of path patterns and fractions.

    Raises:
        ValueError, TypeError: it is neither.
    """
    if not isinstance(allocation, Mapping):
        return arguments.choice("allocation", allocation, NAMES)
    if not allocation:
        allowed = "a name or a dict that is not empty"
        raise ValueError(arguments.message("allocation", allowed, allocation))
    for pattern, value in allocation.items():
        if not isinstance(pattern, str):
            allowed = "a dict from path patterns to sparsities"
            raise TypeError(arguments.message("allocation", allowed, allocation))
        arguments.number(
            f"allocation[{pattern!r}]",
            value,
            low=0,
            high=1,
            include_high=False,
            hint="For 80 % pass 0.8.",
        )
    return dict(allocation)


def total(allocation: Allocation, targets: Sequence[Target], sparsity: float) -> float:
    """The fraction of all weights that is zero when every weight has its own."""
    sizes = [target.size for target in targets]
    shares = by_target(allocation, targets, sparsity, sparsity)
    zeros = sum(size * share for size, share in zip(sizes, shares, strict=True))
    return zeros / sum(sizes) if sizes else sparsity


def check_matches(allocation: Allocation, targets: Sequence[Target]) -> None:
    """Every pattern of a dict must match a target.

    Raises:
        ValueError: names the pattern and near paths.
    """
    if isinstance(allocation, str):
        return
    paths = [target.path for target in targets]
    for pattern in allocation:
        if not any(own_share({pattern: 0.0}, path) is not None for path in paths):
            known = [*paths, *(path.rpartition("/")[0] for path in paths)]
            hint = arguments.near(pattern, known) or f"There are: {', '.join(paths)}."
            allowed = "a dict whose patterns match weights that are pruned"
            raise ValueError(arguments.message("allocation", allowed, pattern, hint))


def _together(
    pattern: Pattern,
    targets: Sequence[Target],
    scores: Any,
    sparsity: float,
    *,
    lamp: bool,
    repeatable: bool,
) -> list[Mask]:
    """All weights compete with each other."""

    def units(index: int) -> Array:
        return pattern.units(targets[index], scores(index))

    indices = range(len(targets))
    if repeatable and isinstance(pattern, Unstructured):
        parts = [
            Part(targets[index].size, functools.partial(units, index))
            for index in indices
        ]
    else:
        parts = [_held(units(index)) for index in indices]
    sizes = [pattern.unit_size(target) for target in targets]
    zeros = count_zeros(sum(target.size for target in targets), sparsity)
    if lamp:
        ranked = [_held(lamp_of_sorted(_sorted(part.make()))) for part in parts]
        counts = [np.count_nonzero(kept) for kept in _best(ranked, sizes, zeros)]
        found = (
            keep_largest(_absolute(part.make()), int(count))
            for part, count in zip(parts, counts, strict=True)
        )
        return [
            pattern.mask(target, kept)
            for target, kept in zip(targets, found, strict=True)
        ]
    return [
        pattern.mask(target, kept)
        for target, kept in zip(targets, _best(parts, sizes, zeros), strict=True)
    ]


def _held(values: Array) -> Part:
    return Part(values.size, lambda: values)


def _best(parts: Sequence[Part], sizes: Sequence[int], zeros: int) -> list[Mask]:
    """The units that stay when units worth `zeros` weights go."""
    if len(set(sizes)) == 1:
        total = sum(part.size for part in parts)
        return keep_largest_of(parts, total - round(zeros / sizes[0]))
    weights = np.repeat(sizes, [part.size for part in parts])
    kept = _keep_by_weight(
        np.concatenate([part.make() for part in parts]), weights, zeros
    )
    return np.split(kept, np.cumsum([part.size for part in parts])[:-1])


def _keep_by_weight(scores: Array, weights: Array, zeros: int) -> Mask:
    """As `keep_largest` for units of several sizes: as near to `zeros` as can be."""
    order = np.lexsort((-np.arange(scores.size), scores))  # of equal ones the last goes
    gone = np.cumsum(weights[order])
    count = int(np.searchsorted(gone, zeros, side="right"))
    if count < len(gone) and gone[count] - zeros < zeros - (
        gone[count - 1] if count else 0
    ):
        count += 1
    kept = np.ones(scores.size, dtype=bool)
    kept[order[:count]] = False
    return kept


def lamp_scores(scores: Array) -> Array:
    """LAMP: each squared score over the sum of those that are not below it.

    The largest of each weight gets 1, so that no layer loses all.

    Args:
        scores: shape (n,), magnitudes; infinite ones, of both signs, stay as they are.

    Reference: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning",
    2021, arXiv:2010.07611.
    """
    scores = _absolute(scores)
    order = np.argsort(scores, kind="stable")
    out = np.empty_like(scores)
    out[order] = lamp_of_sorted(scores[order])
    return out


def lamp_of_sorted(scores: Array) -> Array:
    """The LAMP scores of sorted magnitudes, which have the same order, in place."""
    first, last = (
        np.searchsorted(scores, -np.inf, "right"),
        np.searchsorted(scores, np.inf),
    )
    above = 0.0  # the sum of the squares further up
    for end in range(int(last), int(first), -CHUNK):
        part = scores[max(int(first), end - CHUNK) : end]
        squares = np.square(part, dtype=np.float64)
        rest = np.cumsum(squares[::-1])[::-1] + above
        above = float(rest[0])
        part[:] = np.divide(squares, rest, out=np.zeros(part.size), where=rest > 0)
    return scores


def _absolute(scores: Array) -> Array:
    """Without the signs of finite ones; infinite ones are marks and stay."""
    negative = (scores < 0) & np.isfinite(scores)
    return np.where(negative, -scores, scores) if negative.any() else scores


def _sorted(scores: Array) -> Array:
    return np.sort(_absolute(scores))


def erk_density(shapes: Sequence[tuple[int, ...]], density: float) -> list[float]:
    """Erdos-Renyi kernel: density in proportion to sum / product of the axes.

    Scaled so that the mean over all weights is `density`; a weight that would be more
    than dense is dense, and the others share what is left.

    Reference: Evci et al., "Rigging the Lottery", 2020, arXiv:1911.11134.
    """
    sizes = [math.prod(shape) for shape in shapes]
    raw = [sum(shape) / math.prod(shape) for shape in shapes]
    dense: set[int] = set()
    while True:
        open_ = [i for i in range(len(shapes)) if i not in dense]
        budget = density * sum(sizes) - sum(sizes[i] for i in dense)
        share = sum(raw[i] * sizes[i] for i in open_)
        scale = budget / share if share else 0.0
        full = {i for i in open_ if scale * raw[i] > 1.0}
        if not full:
            return [1.0 if i in dense else scale * raw[i] for i in range(len(shapes))]
        dense |= full


def _erk_zeros(
    shapes: Sequence[tuple[int, ...]], units: Sequence[int], sparsity: float
) -> list[int]:
    """Units that go, by weight."""
    density = erk_density(shapes, 1.0 - sparsity)
    counts = [
        math.prod(shape) // unit for shape, unit in zip(shapes, units, strict=True)
    ]
    shares = [count * (1.0 - each) for count, each in zip(counts, density, strict=True)]
    if len(set(units)) == 1:
        most = [count - 1 for count in counts]
        return split_count(count_zeros(sum(counts), sparsity), shares, most)
    return [
        min(round(share), count - 1)
        for share, count in zip(shares, counts, strict=True)
    ]
