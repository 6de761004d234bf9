"""Which weights stay: exact counts, ties by index. NumPy alone.

A mask is a boolean array of the shape of the scores, True where the weight stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]

SAMPLED_FROM = 1 << 18  # elements from which a sample narrows the search
SAMPLE = 1 << 16
CHUNK = 1 << 20


def keep_largest(scores: Array, keep: int) -> Mask:
    """Exactly the `keep` largest scores; of equal ones those of the lowest index.

    Args:
        scores: any shape, no NaN.
        keep: from 0 to `scores.size`.
    """
    flat = scores.reshape(-1)
    if keep <= 0:
        return np.zeros(scores.shape, dtype=bool)
    if keep >= flat.size:
        return np.ones(scores.shape, dtype=bool)
    threshold = kth_smallest(flat, flat.size - keep)
    kept = flat > threshold
    _add_first(kept, flat, threshold, keep - int(np.count_nonzero(kept)))
    return np.asarray(kept.reshape(scores.shape))


def _add_first(kept: Mask, flat: Array, threshold: Any, missing: int) -> None:
    """Sets the first `missing` elements equal to `threshold`, chunk by chunk.

    By chunks because at a high sparsity nearly all elements tie at zero, and their
    indices would take twice the memory of the weights.
    """
    for start in range(0, flat.size, CHUNK):
        if missing <= 0:
            return
        found = np.flatnonzero(flat[start : start + CHUNK] == threshold)[:missing]
        kept[start + found] = True
        missing -= len(found)


def kth_smallest(values: Array, index: int) -> Any:
    """The value that would stand at `index` if `values` were sorted; exact.

    In a large array a sorted sample brackets it first, so that only the few values
    within the bracket are partitioned. Where the sample misleads, all are.

    Args:
        values: shape (n,), no NaN.
        index: from 0 to n - 1.
    """
    if values.size >= SAMPLED_FROM:
        low, high = _bracket(values, index)
        below = int(np.count_nonzero(values < low))
        if below <= index:
            at_most = int(np.count_nonzero(values <= low))
            if index < at_most:
                return low
            inside = values[(values > low) & (values <= high)]
            if index < at_most + inside.size:
                return _partitioned(inside, index - at_most)
    return _partitioned(values.copy(), index)


def _bracket(values: Array, index: int) -> tuple[Any, Any]:
    stride = values.size // SAMPLE | 1  # odd, so that it does not walk along a column
    sample = np.sort(values[::stride])
    share = (index + 0.5) / values.size
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
