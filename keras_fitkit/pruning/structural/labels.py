"""Labels of channels: which ones are the same, and which must stay.

Every axis of a tensor that holds channels carries an array of labels, one a channel.
Labels that must live or die together are tied (a union-find); one that may not go is
frozen, with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]
# Of one tensor: labels for each of its axes; None for an axis that never shrinks.
Axes: TypeAlias = tuple[Ids | None, ...]


class Labels:
    """All labels of one model."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._frozen: dict[int, str] = {}

    @property
    def count(self) -> int:
        """How many labels there are."""
        return len(self._parent)

    def mint(self, count: int) -> Ids:
        """So many new labels."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def find(self, label: int) -> int:
        """What stands for a label and all that are tied to it."""
        root = label
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[label] != root:  # shorten the way for the next time
            self._parent[label], label = root, self._parent[label]
        return root

    def roots(self, ids: Ids) -> Ids:
        """`find` of each."""
        flat = [self.find(int(one)) for one in np.ravel(ids)]
        return np.array(flat, dtype=np.int64).reshape(np.shape(ids))

    def tie(self, first: Ids, second: Ids) -> None:
        """Ties labels of the same place; both arrays are equally long."""
        for one, other in zip(np.ravel(first), np.ravel(second), strict=True):
            a, b = self.find(int(one)), self.find(int(other))
            if a != b:
                low, high = min(a, b), max(a, b)
                self._parent[high] = low
                reason = self._frozen.pop(high, None)
                if reason is not None:
                    self._frozen.setdefault(low, reason)

    def freeze(self, ids: Ids | None, reason: str, *, above: bool = False) -> None:
        """These labels may not go; a reason `above` others replaces them."""
        if ids is not None:
            for one in np.unique(ids):
                root = self.find(int(one))
                if above or root not in self._frozen:
                    self._frozen[root] = reason

    def freeze_all(self, axes: Sequence[Ids | None], reason: str) -> None:
        """Freezes every axis of a tensor."""
        for ids in axes:
            self.freeze(ids, reason, above=True)

    def reason(self, label: int) -> str | None:
        """Why a label is frozen; None for one that is not."""
        return self._frozen.get(self.find(label))
