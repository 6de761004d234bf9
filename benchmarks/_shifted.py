"""Digits that are moved about, another way in each epoch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class Shifted(keras.utils.PyDataset):
    """Batches of digits moved by up to `shift` pixels, the last rows left out.

    Args:
        x: images of 28 x 28, in any shape.
        y: labels.
        seed: of the order and the shifts.
        shift: pixels, in each direction.
        shape: of an image in a batch.
        batch_size: rows.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        seed: int,
        shift: int = 2,
        shape: tuple[int, ...] = (784,),
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        self.shift, self._shape, self._size = shift, shape, batch_size
        padded = np.pad(x.reshape(-1, 28, 28), ((0, 0), (shift, shift), (shift, shift)))
        self._views = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), (1, 2))
        self._y, self._rng = y, np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._y) // self._size

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """A batch."""
        rows = self._order[index * self._size : (index + 1) * self._size]
        down, right = self._rng.integers(2 * self.shift + 1, size=(2, len(rows)))
        found = self._views[rows, down, right].reshape(-1, *self._shape)
        return found, self._y[rows]

    def on_epoch_end(self) -> None:
        """Another order."""
        self._order = self._rng.permutation(len(self._y))
