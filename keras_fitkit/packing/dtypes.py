"""The types that a packed file can hold, each with the parts it is split into."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_fitkit.packing.errors import PackedFileError


@dataclasses.dataclass(frozen=True)
class Dtype:
    """One type.

    Attributes:
        name: as Keras says it.
        parts: widths in bits of the parts that are coded apart, the highest first: sign
            and exponent of a float together, then its mantissa.
    """

    name: str
    parts: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return sum(self.parts) // 8

    @property
    def is_float(self) -> bool:
        """Whether it has a sign and an exponent."""
        return "float" in self.name

    @property
    def stored(self) -> np.dtype[Any]:
        """The NumPy type in the file that Keras reads; it has no name for bfloat16."""
        kind = {"bfloat16": "V2", "bool": "?"}.get(self.name, self.name)
        return np.dtype(kind).newbyteorder("<")

    @property
    def bits(self) -> np.dtype[Any]:
        """The unsigned integer of the same size."""
        return np.dtype(f"<u{self.size}")


# Their places are in the files: a new one goes to the end.
_KNOWN = (
    Dtype("float32", (9, 7, 8, 8)),
    Dtype("float16", (6, 10)),
    Dtype("bfloat16", (9, 7)),
    Dtype("float64", (12, 4, *[8] * 6)),
    Dtype("bool", (8,)),
    *(
        Dtype(f"{sign}int{8 * size}", (8,) * size)
        for size in (1, 2, 4, 8)
        for sign in ("", "u")
    ),
)
_PLACES = {one.name: place for place, one in enumerate(_KNOWN)}


def of(name: str) -> Dtype | None:
    """The type of that name, None for one that files cannot hold."""
    place = _PLACES.get(name)
    return None if place is None else _KNOWN[place]


def place(dtype: Dtype) -> int:
    """The number that stands for it in a file."""
    return _PLACES[dtype.name]


def at(place: int) -> Dtype:
    """The type with that number.

    Raises:
        PackedFileError: there is none.
    """
    if place >= len(_KNOWN):
        raise PackedFileError(f"an element type with the number {place}")
    return _KNOWN[place]
