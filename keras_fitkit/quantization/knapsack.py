"""One choice for each item, under a budget: exactly, by dominance.

The choices of the first items that no other is better than in both size and loss form a
front; with each further item it is crossed with the item's choices and thinned again.
Nothing is rounded, so the optimum is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def fronts(sizes: Sequence[Array], losses: Sequence[Array], budget: float) -> Any:
    """The front after each item: sizes, losses, and where each point comes from.

    Args:
        sizes: for each item, integers, the size of each choice.
        losses: for each item, the loss of each choice.
        budget: no point above this total size is kept.
    """
    least = [int(one.min()) for one in sizes]
    rest = sum(least)
    size, loss = np.zeros(1, np.int64), np.zeros(1)
    steps = []
    for sizes_, losses_, smallest in zip(sizes, losses, least, strict=True):
        rest -= smallest  # what the later items take at the least
        total = (size[:, None] + sizes_[None, :]).ravel()
        sums = (loss[:, None] + losses_[None, :]).ravel()
        order = np.lexsort((sums, total))
        order = order[total[order] + rest <= budget]
        best = np.minimum.accumulate(sums[order])
        kept = order[np.concatenate([[True], best[1:] < best[:-1]])[: order.size]]
        steps.append((kept // len(sizes_), kept % len(sizes_)))
        size, loss = total[kept], sums[kept]
    return size, loss, steps


def smallest_loss(
    sizes: Sequence[Array], losses: Sequence[Array], budget: float
) -> list[int] | None:
    """The choices of the least total loss with a total size within `budget`.

    Returns:
        An index for each item, or None if nothing fits.
    """
    size, _, steps = fronts(sizes, losses, budget)
    return None if not size.size else _choices(steps, size.size - 1)


def smallest_size(
    sizes: Sequence[Array], losses: Sequence[Array], most: float
) -> list[int] | None:
    """The choices of the least total size with a total loss within `most`.

    Returns:
        An index for each item, or None if nothing fits.
    """
    _, loss, steps = fronts(sizes, losses, float("inf"))
    good = np.flatnonzero(loss <= most)
    return _choices(steps, int(good[0])) if good.size else None


def _choices(steps: Sequence[tuple[Array, Array]], point: int) -> list[int]:
    found = []
    for parents, picked in reversed(steps):
        found.append(int(picked[point]))
        point = int(parents[point])
    return found[::-1]
