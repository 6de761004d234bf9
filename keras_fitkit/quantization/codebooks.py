"""One-dimensional k-means: the few values that stand for many weights."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

INITS = ("kmeans++", "linear", "density")
ROUNDS = 300  # at most; values that are sorted once settle in some tens


def fit(values: Array, count: int, init: str, rng: np.random.Generator) -> Array:
    """The centroids of k-means, ascending; fewer where there are fewer values.

    Args:
        values: one axis, finite.
        count: how many centroids, at least 1.
        init: where they begin. "linear": evenly from the smallest to the largest value;
            "density": at even steps of the cumulative distribution; "kmeans++": drawn
            from the values, each by its squared distance to those drawn before.
        rng: what "kmeans++" draws with.

    References:
        Han et al., "Deep Compression", 2016, arXiv:1510.00149, section 3.2 (linear and
        density-based initialization); Arthur and Vassilvitskii, "k-means++", 2007.
    """
    ordered = np.sort(values.astype(np.float64))
    different = np.unique(ordered)
    if different.size <= count:
        return different
    if init == "linear":
        centres = np.linspace(ordered[0], ordered[-1], count)
    elif init == "density":
        places = (np.arange(count) + 0.5) / count
        centres = np.quantile(ordered, places)
    else:
        centres = _spread(ordered, count, rng)
    return _settled(ordered, np.unique(centres))


def nearest(values: Array, centres: Array) -> Array:
    """The index of the nearest of the ascending centroids, of ties the lower one."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.searchsorted(middles, values, side="left")


def _spread(ordered: Array, count: int, rng: np.random.Generator) -> Array:
    centres = [ordered[rng.integers(ordered.size)]]
    distance = np.abs(ordered - centres[0])
    while len(centres) < count:
        chances = np.cumsum(distance**2)
        at = np.searchsorted(chances, rng.random() * chances[-1], side="right")
        centres.append(ordered[min(int(at), ordered.size - 1)])
        distance = np.minimum(distance, np.abs(ordered - centres[-1]))
    return np.sort(np.asarray(centres))


def _settled(ordered: Array, centres: Array) -> Array:
    """Lloyd's rounds. Clusters of sorted values are slices: their means are cheap."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(ROUNDS):
        cuts = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2, side="right")
        ends = np.concatenate([[0], cuts, [ordered.size]])
        sizes = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(sizes, 1)
        new = np.where(sizes > 0, means, centres)  # an empty one stays where it is
        if np.array_equal(new, centres):
            break
        centres = new
    return centres[sizes > 0]
