"""ReproducibleDataset: batches in an order that depends on seed and epoch alone."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, fits, rows

_ARRAYS = "arrays (or a dict, list or tuple of arrays)"


class Prefetch:
    """Makes the next batches in threads, while the last one is worked on.

    Args:
        make: called with epoch, order and the number of the batch.
        workers: threads.
        depth: batches made ahead.
    """

    def __init__(self, make: Callable[..., Any], workers: int, depth: int) -> None:
        self._make, self._workers, self._depth = make, workers, depth
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[tuple[int, int], Future[Any]] = {}

    def get(self, epoch: int, order: Any, index: int, batches: int) -> Any:
        """Batch `index` of an epoch; begins those after it."""
        with self._lock:
            if self._pool is None:  # not before it is needed: a fork has no threads
                self._pool = ThreadPoolExecutor(self._workers, "ReproducibleDataset")
            wanted = range(index, min(batches, index + self._depth + 1))
            for key in [
                k for k in self._waiting if k[0] != epoch or k[1] not in wanted
            ]:
                self._waiting.pop(key).cancel()
            for one in wanted:
                if (epoch, one) not in self._waiting:
                    future = self._pool.submit(self._make, epoch, order, one)
                    self._waiting[epoch, one] = future
            found = self._waiting.pop((epoch, index))
        return found.result()


class ReproducibleDataset(keras.utils.PyDataset):
    """Shuffled batches whose order is a function of the seed and the epoch.

    What a killed process had drawn so far does not matter: epoch 7 of a fit that was
    resumed sees the batches that epoch 7 of an uninterrupted one sees. Within `fit` it
    learns the epoch by itself (`initial_epoch` counts); elsewhere call `set_epoch`.

    Pass `shuffle=False` to `fit`. Keras's default, True, would shuffle the batches once
    more in an order that nobody can repeat; that is an error here.

    Args:
        x: inputs: an array of shape (rows, ...), or a dict, list or tuple of such.
        y: targets, in the same way, or None. Defaults to None.
        batch_size: rows a batch, >= 1; the last batch may be smaller. Defaults to 32.
        seed: an integer >= 0.
        sample_weight: weights, shape (rows,), or in the way of `y`. Defaults to None.
        shuffle: whether rows are drawn in another order each epoch. Defaults to True.
        transform: a callable `(x, y, rng) -> (x, y)` for one row each, such as an
            augmentation; without `y`: `(x, rng) -> x`. `rng` is a
            `numpy.random.Generator` that depends on seed, epoch and row alone, so
            the number of workers changes nothing. Defaults to None.
        workers: threads that make batches ahead of time; 1: none. Not those of
            `keras.utils.PyDataset`, which on JAX and torch begin the first epoch with
            batches left from the build of the model (Keras 3.15). Defaults to 1.
        max_queue_size: batches that are made ahead, >= 1. Defaults to 10.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; in `fit`,
            `shuffle=True` or `steps_per_epoch`.

    Example:
        >>> import numpy as np, keras_fitkit as kf
        >>> data = kf.ReproducibleDataset(np.arange(6), batch_size=4, seed=7)
        >>> first = [batch[0].tolist() for batch in (data[0], data[1])]
        >>> data.set_epoch(1)
        >>> second = data[0][0].tolist()
        >>> data.set_epoch(0)
        >>> data[0][0].tolist() == first[0], second == first[0]
        (True, False)
    """

    may_be_shuffled = False  # by `fit`, once more

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 32,
        seed: int,
        sample_weight: Any = None,
        shuffle: bool = True,
        transform: Callable[..., Any] | None = None,
        workers: int = 1,
        max_queue_size: int = 10,
    ) -> None:
        super().__init__()  # with one worker: Keras makes no queue of its own
        count = arguments.integer("workers", workers, low=1)
        depth = arguments.integer("max_queue_size", max_queue_size, low=1)
        self._ahead = Prefetch(self._batch, count, depth) if count > 1 else None
        self.rows = rows.length("x", x, _ARRAYS)
        for name, part in (("y", y), ("sample_weight", sample_weight)):
            if part is not None and rows.length(name, part, _ARRAYS) != self.rows:
                allowed = f"None or {_ARRAYS} with the {self.rows} rows of `x`"
                received = f"{rows.length(name, part, _ARRAYS)} rows"
                raise ValueError(arguments.message(name, allowed, received))
        if sample_weight is not None and y is None:
            allowed = "None without `y`"
            raise ValueError(arguments.message("sample_weight", allowed, sample_weight))
        self.x, self.y, self.sample_weight = x, y, sample_weight
        self.batch_size = arguments.integer("batch_size", batch_size, low=1)
        self.seed = arguments.integer("seed", seed, low=0)
        self.shuffle = arguments.flag("shuffle", shuffle)
        if transform is not None:
            signature = "(x, y, rng) -> (x, y)" if y is not None else "(x, rng) -> x"
            count = 3 if y is not None else 2
            arguments.function("transform", transform, signature, count=count)
        self.transform = transform
        self.set_epoch(0)

    @property
    def description(self) -> dict[str, Any]:
        """What must be the same for a fit that goes on."""
        return {
            "rows": self.rows,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "transform": getattr(self.transform, "__qualname__", None),
            "targets": self.y is not None,
            "sample_weight": self.sample_weight is not None,
            "checksum of some rows": self._checksum(),
        }

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.rows // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Puts the rows into the order of an epoch, counted from 0.

        Raises:
            TypeError, ValueError: `epoch` is no integer >= 0.
        """
        epoch = arguments.integer("epoch", epoch, low=0)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        else:
            order = np.arange(self.rows)
        self._order = (epoch, order)  # at once: a thread may be reading

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Batch `index` of this epoch: (x,), (x, y) or (x, y, sample_weight).

        Raises:
            IndexError: there is no such batch.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        epoch, order = self._order
        if self._ahead is None:
            return self._batch(epoch, order, index)
        batch: tuple[Any, ...] = self._ahead.get(epoch, order, index, len(self))
        return batch

    def _batch(self, epoch: int, order: Any, index: int) -> tuple[Any, ...]:
        picked = order[index * self.batch_size : (index + 1) * self.batch_size]
        x, y, weight = (
            rows.take(part, picked) for part in (self.x, self.y, self.sample_weight)
        )
        if self.transform is not None:
            x, y = self._transformed(self.transform, x, y, epoch, picked)
        if y is None:
            return (x,)
        return (x, y) if weight is None else (x, y, weight)

    def _transformed(
        self, transform: Any, x: Any, y: Any, epoch: int, picked: Any
    ) -> tuple[Any, Any]:
        given = (x,) if y is None else (x, y)
        made = []
        for place, row in enumerate(picked):
            rng = np.random.default_rng([self.seed, epoch, int(row)])
            one = keras.tree.map_structure(lambda leaf, at=place: leaf[at], given)
            found = transform(*one, rng)
            if y is not None and not (isinstance(found, tuple) and len(found) == 2):
                allowed = "a callable (x, y, rng) -> (x, y), a tuple of two"
                hint = "That is what it gave for a row."
                text = arguments.message("transform", allowed, found, hint)
                raise TypeError(text)
            made.append((found,) if y is None else found)
        try:
            joined = keras.tree.map_structure(lambda *leaves: np.stack(leaves), *made)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`transform` must give rows of one structure and shape, so that they "
                f"make a batch. Received: {error}"
            ) from error
        return (joined[0], None) if y is None else joined

    def _checksum(self) -> int:
        """Of up to 64 rows: other data of the same size is found out, nearly always."""
        some = np.unique(np.linspace(0, self.rows - 1, 64).astype(int))
        given = (self.x, self.y, self.sample_weight)
        parts = [rows.take(one, some) for one in given]
        found = 0
        for leaf in keras.tree.flatten(parts):
            if leaf is not None:
                plain = leaf.astype(str) if leaf.dtype == object else leaf
                found = zlib.crc32(plain.tobytes(), found)
        return found

    def on_epoch_begin(self) -> None:
        """Called by Keras: finds out which epoch it is, and how `fit` was called."""
        now = fits.running_epoch(self)
        if now is None:
            return
        if now.shuffle and not self.may_be_shuffled:
            hint = (
                "Keras would shuffle the batches on top. Pass fit(..., shuffle=False)."
            )
            allowed = "False with a ReproducibleDataset"
            raise ValueError(arguments.message("shuffle", allowed, now.shuffle, hint))
        if now.steps_per_epoch is not None:
            allowed = "None with a ReproducibleDataset, whose epochs are whole"
            given = now.steps_per_epoch
            raise ValueError(arguments.message("steps_per_epoch", allowed, given))
        if self._order[0] != now.epoch:
            self.set_epoch(now.epoch)

    def on_epoch_end(self) -> None:
        """Called by Keras: gets the next epoch ready, before its workers start."""
        now = fits.running_epoch(self)
        if now is not None:
            self.set_epoch(now.epoch + 1 if now.began else now.epoch)
