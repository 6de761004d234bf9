"""The files of a teacher cache: arrays, and one JSON that says what they are.

The JSON is written anew (whole or not at all) after each block of rows, with a checksum
for each array's part of the block. What it does not name is not there.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, rows
from keras_fitkit._core.files import atomic_path

_FORMAT, _DESCRIPTION = 1, "cache.json"
_MOST_BYTES = 2**30  # of data that is looked at as a whole
_SOME_ROWS = 4096
_MOST_TEXT = 2**24  # bytes of a description


@dataclasses.dataclass
class Description:
    """What is in a cache.

    Attributes:
        about: teacher, data and settings: what must be the same to use it.
        rows: of the data.
        block: rows of a block.
        arrays: shape (without rows) and dtype by name.
        checksums: of each block that is finished, by array.
        known: of the teacher's outputs, as `absent_teacher.described` gives it.
    """

    about: dict[str, Any]
    rows: int
    block: int
    arrays: dict[str, Any]
    checksums: list[dict[str, int]]
    known: dict[str, Any]

    @property
    def done(self) -> int:
        """Rows that are there."""
        return min(self.rows, self.block * len(self.checksums))


class CacheFiles:
    """A folder with the arrays of a cache."""

    def __init__(self, folder: Path, description: Description, create: bool) -> None:
        self.folder, self.description = folder, description
        self.arrays = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.npy",
                mode="w+" if create else "r+",
                dtype=one["dtype"],
                shape=(description.rows, *one["shape"]),
            )
            if create
            else _opened(folder, name, one, description.rows)
            for name, one in description.arrays.items()
        }

    def put(self, first: int, values: Mapping[str, Any]) -> None:
        """Writes rows from `first` on."""
        for name, array in self.arrays.items():
            array[first : first + len(values[name])] = values[name]

    def finish_block(self) -> None:
        """Makes the next block valid: arrays first, then the text that says so."""
        first = self.description.done
        last = min(first + self.description.block, self.description.rows)
        for array in self.arrays.values():
            array.flush()
        found = {name: _checksum(a[first:last]) for name, a in self.arrays.items()}
        self.description.checksums.append(found)
        write(self.folder, self.description)

    def verify(self) -> None:
        """Reads every array once.

        Raises:
            ValueError: a block is not what was written.
        """
        block = self.description.block
        for place, sums in enumerate(self.description.checksums):
            for name, array in self.arrays.items():
                part = array[place * block : (place + 1) * block]
                if _checksum(part[: self.description.rows]) != sums[name]:
                    received = (
                        f"{self.folder}: block {place} of '{name}.npy' is damaged"
                    )
                    raise ValueError(_unusable(received))


def exists(folder: Path) -> bool:
    """Whether a cache was begun there."""
    return (folder / _DESCRIPTION).exists()


def read(folder: Path) -> Description:
    """The description in a folder.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    path = folder / _DESCRIPTION
    try:
        if path.stat().st_size > _MOST_TEXT:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format") != _FORMAT:
            raise ValueError("of another version")
        return Description(**found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(_unusable(f"{folder}: {_DESCRIPTION}: {error}")) from error


def write(folder: Path, description: Description) -> None:
    """Puts the description in its place."""
    text = json.dumps({"format": _FORMAT, **dataclasses.asdict(description)})
    with atomic_path(folder / _DESCRIPTION) as temporary:
        temporary.write_text(text, encoding="utf-8")


def data_fingerprint(x: Any) -> dict[str, Any]:
    """Rows, shapes, types, and a checksum of all rows (of some, above 1 GiB)."""
    leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
    count = rows.length("x", x, "arrays (or a dict, list or tuple of arrays)")
    some = rows.take(x, slice(0, 1))
    bytes_ = count * sum(np.asarray(one).nbytes for one in keras.tree.flatten(some))
    found = 0
    for picked in _pieces(count, bytes_):
        for leaf in keras.tree.flatten(rows.take(x, picked)):
            found = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), found)
    return {
        "rows": count,
        "shapes": [[int(size) for size in leaf.shape[1:]] for leaf in leaves],
        "checksum": found,
    }


def _pieces(count: int, bytes_: int) -> Iterator[Any]:
    if bytes_ > _MOST_BYTES:
        chosen = np.unique(np.linspace(0, count - 1, _SOME_ROWS).astype(int))
        yield from np.array_split(chosen, 16)
        return
    step = max(1, count * 2**24 // max(bytes_, 1))
    for first in range(0, count, step):
        yield slice(first, first + step)


def weights_checksum(model: Any) -> int:
    """Of the values of all weights, in their order."""
    found = 0
    for weight in model.get_weights():
        found = zlib.crc32(np.ascontiguousarray(weight).tobytes(), found)
    return found


def _opened(folder: Path, name: str, one: Mapping[str, Any], count: int) -> Any:
    path = folder / f"{name}.npy"
    try:
        array = np.load(path, mmap_mode="r+", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(_unusable(f"{path}: {error}")) from error
    if array.shape != (count, *one["shape"]) or array.dtype != np.dtype(one["dtype"]):
        received = f"{path}: {array.shape} {array.dtype}"
        raise ValueError(_unusable(received))
    return array


def _checksum(part: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(part).tobytes())


def _unusable(received: str) -> str:
    hint = "Remove that folder and make it again with `kf.cache_teacher`."
    return arguments.message("path", "a whole teacher cache", received, hint)
