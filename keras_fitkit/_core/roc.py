"""The area under a ROC curve, and how sure it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # the normal quantile of 97.5 %


def area(positive: Any, negative: Any) -> float:
    """The chance that a positive scores above a negative, ties counted as half.

    The Mann-Whitney statistic over the number of pairs, from ranks: no pair is made.

    Args:
        positive: scores, one-dimensional, not empty.
        negative: likewise.
    """
    first = np.asarray(positive, dtype=float).ravel()
    both = np.concatenate([first, np.asarray(negative, dtype=float).ravel()])
    _, place, counts = np.unique(both, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[place]  # equal values share their mean rank
    n, m = len(first), len(both) - len(first)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def standard_error(auc: float, positives: int, negatives: int) -> float:
    """Of an area from so many scores of each kind.

        se^2 = (A (1 - A) + (n - 1)(Q1 - A^2) + (m - 1)(Q2 - A^2)) / (n m)
        Q1 = A / (2 - A),  Q2 = 2 A^2 / (1 + A)

    It assumes that the scores of each kind are exponentially distributed, which hardly
    matters; rows are independent.

    Reference: Hanley and McNeil, "The meaning and use of the area under a receiver
    operating characteristic (ROC) curve", Radiology 143, 1982.
    """
    first = auc / (2 - auc) - auc**2
    second = 2 * auc**2 / (1 + auc) - auc**2
    spread = auc * (1 - auc) + (positives - 1) * first + (negatives - 1) * second
    return math.sqrt(max(spread, 0.0) / (positives * negatives))


def interval(auc: float, positives: int, negatives: int) -> tuple[float, float]:
    """About 95 % for an area, cut at 0 and 1.

    An area of exactly 0 or 1 has no spread by the formula; there it is the interval
    whose other end would show such an area in one of twenty samples (3 over the smaller
    count).
    """
    error = Z95 * standard_error(auc, positives, negatives)
    if error == 0.0:
        error = 3.0 / min(positives, negatives)
    return max(0.0, auc - error), min(1.0, auc + error)
