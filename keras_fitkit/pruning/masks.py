"""Which weights stay: exact counts, ties by index. NumPy alone.

A mask is a boolean array of the shape of the scores, True where the weight stays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]

SAMPLED_FROM = 1 << 18  # elements from which a sample narrows the search
SAMPLE = 1 << 16
CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Part:
    """Some of the scores that compete with each other.

    Attributes:
        size: how many there are.
        make: gives them, shape (size,), the same each time it is called; not kept, so
            that few of many parts need be in memory at once.
    """

    size: int
    make: Callable[[], Array]


def keep_largest(scores: Array, keep: int) -> Mask:
    """Exactly the `keep` largest scores; of equal ones those of the lowest index.

    Args:
        scores: any shape, no NaN.
        keep: from 0 to `scores.size`.
    """
    flat = scores.reshape(-1)
    (kept,) = keep_largest_of([Part(flat.size, lambda: flat)], keep)
    return kept.reshape(scores.shape)


def keep_largest_of(parts: Sequence[Part], keep: int) -> list[Mask]:
    """As `keep_largest` of all parts in a row, one mask of shape (size,) for each."""
    total = sum(part.size for part in parts)
    if keep <= 0 or keep >= total:
        return [np.full(part.size, keep > 0) for part in parts]
    threshold = kth_smallest_of(parts, total - keep)
    kept = [part.make() > threshold for part in parts]
    missing = keep - sum(int(np.count_nonzero(mask)) for mask in kept)
    for part, mask in zip(parts, kept, strict=True):
        if missing > 0:
            missing -= _add_first(mask, part.make(), threshold, missing)
    return kept


def _add_first(kept: Mask, flat: Array, threshold: Any, most: int) -> int:
    """Sets the first `most` elements equal to `threshold`; returns how many it set.

    By chunks because at a high sparsity nearly all elements tie at zero, and their
    indices would take twice the memory of the weights.
    """
    done = 0
    for start in range(0, flat.size, CHUNK):
        if done == most:
            break
        found = np.flatnonzero(flat[start : start + CHUNK] == threshold)[: most - done]
        kept[start + found] = True
        done += len(found)
    return done


def kth_smallest(values: Array, index: int) -> Any:
    """The value that would stand at `index`, from 0, if `values` were sorted."""
    return kth_smallest_of([Part(values.size, lambda: values)], index)


def kth_smallest_of(parts: Sequence[Part], index: int) -> Any:
    """The value that would stand at `index` if all were sorted in one row; exact.

    Where there are many a sorted sample brackets it first, so that only the few values
    within the bracket are partitioned. Where the sample misleads, all are.

    Args:
        parts: no NaN.
        index: from 0 to their size - 1.
    """
    total = sum(part.size for part in parts)
    if total >= SAMPLED_FROM:
        low, high = _bracket(parts, total, index)
        below, at_most, between = 0, 0, []
        for part in parts:
            values = part.make()
            below += int(np.count_nonzero(values < low))
            at_most += int(np.count_nonzero(values <= low))
            between.append(values[(values > low) & (values <= high)])
        if below <= index < at_most:
            return low
        inside = np.concatenate(between)
        if at_most <= index < at_most + inside.size:
            return _partitioned(inside, index - at_most)
    return _partitioned(np.concatenate([part.make() for part in parts]), index)


def _bracket(parts: Sequence[Part], total: int, index: int) -> tuple[Any, Any]:
    stride = total // SAMPLE | 1  # odd, so that it does not walk along a column
    sample = np.sort(np.concatenate([part.make()[::stride] for part in parts]))
    share = (index + 0.5) / total
    middle = share * len(sample)
    spread = 4.0 * math.sqrt(len(sample) * share * (1.0 - share)) + 2.0
    low = sample[max(0, math.floor(middle - spread))]
    high = sample[min(len(sample) - 1, math.ceil(middle + spread))]
    return low, high


def _partitioned(values: Array, index: int) -> Any:
    values.partition(index)
    return values[index]


def count_zeros(size: int, sparsity: float) -> int:
    """How many of `size` weights are zero at `sparsity`: the nearest whole number."""
    return round(size * sparsity)


def split_count(total: int, shares: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Whole numbers near `shares` that add up to `total`, none above its size.

    Largest remainders are rounded up first, of equal ones the first.
    """
    counts = [
        min(math.floor(share), size) for share, size in zip(shares, sizes, strict=True)
    ]
    rest = [share - count for share, count in zip(shares, counts, strict=True)]
    missing = total - sum(counts)
    while missing > 0:
        order = sorted(range(len(rest)), key=lambda one: (-rest[one], one))
        given = 0
        for one in order:
            if given == missing:
                break
            if counts[one] < sizes[one]:
                counts[one], rest[one], given = (
                    counts[one] + 1,
                    rest[one] - 1,
                    given + 1,
                )
        if not given:
            break
        missing -= given
    return counts
