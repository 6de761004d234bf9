"""Dynamic sparse training: connections that are dropped make room for better ones."""

from __future__ import annotations

import math

import numpy as np

from keras_fitkit.pruning.masks import Array, Mask, keep_largest

NAMES = ("rigl",)
FRACTION = 0.3  # of the connections, at the first update


def fraction(step: int, end: int) -> float:
    """The fraction of connections to exchange: half a cosine from `FRACTION` to 0."""
    if step >= end:
        return 0.0
    return FRACTION / 2.0 * (1.0 + math.cos(math.pi * step / end))


def rigl(mask: Mask, weight: Array, gradient: Array, exchanged: float) -> Mask:
    """Drops the smallest connections and grows those with the largest gradients.

    The number of connections does not change. A dropped one may be grown again; a new
    one starts at zero.

    Args:
        mask: the connections there are.
        weight: their weights.
        gradient: gradient of the loss with respect to all weights, masked ones too.
        exchanged: fraction of the connections to drop, in [0, 1].

    Reference: Evci et al., "Rigging the Lottery", 2020, arXiv:1911.11134.
    """
    connections = int(np.count_nonzero(mask))
    dropped = int(exchanged * connections)
    dropped = min(dropped, mask.size - connections)
    if dropped == 0:
        return mask
    size = np.where(mask, np.abs(weight), -1.0)
    stays = keep_largest(size, connections - dropped)
    promise = np.where(stays, -1.0, np.abs(gradient))
    return stays | keep_largest(promise, dropped)
