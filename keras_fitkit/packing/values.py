"""Values as bytes: plain, as parts of their bits, or as indices into a codebook.

Values are the bits of the elements, unsigned integers, in a flat array. So NaNs with
all they carry, infinities and negative zeros come back as they were.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_fitkit.packing import symbols
from keras_fitkit.packing.byte_reader import Reader, number
from keras_fitkit.packing.dtypes import Dtype
from keras_fitkit.packing.errors import PackedFileError

RAW, PARTS, CODEBOOK, SAME = range(4)
NAMES = {RAW: "raw", PARTS: "float parts", CODEBOOK: "codebook", SAME: "one value"}
_SAMPLE = 1 << 14
_FEW = 1 << 12  # with no more values than this, parts are not tried on large tensors
_LARGE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Coded:
    """Values in one of the ways.

    Attributes:
        content: the bytes, the way included.
        bits: the empirical entropy of the symbols that they code.
        way: in words.
    """

    content: bytes
    bits: float
    way: str


def encode(values: Any, dtype: Dtype) -> Coded:
    """The smallest of the ways."""
    raw = bytes([RAW]) + values.tobytes()
    best = Coded(raw, 8.0 * values.size * dtype.size, NAMES[RAW])
    if values.size < 2:
        return best
    if (values == values[0]).all():
        return Coded(bytes([SAME]) + values[:1].tobytes(), 0.0, NAMES[SAME])
    found = codebook(values)
    if found is not None:
        best = min(best, _with_codebook(values, found, dtype), key=_size)
    if found is None or found.size > _FEW or values.size < _LARGE:
        best = min(best, _in_parts(values, dtype), key=_size)
    return best


def decode(reader: Reader, count: int, dtype: Dtype) -> Any:
    """What `encode` was given.

    Raises:
        PackedFileError: these are not its bytes.
    """
    way = reader.byte()
    if way == RAW:
        return np.frombuffer(reader.take(count * dtype.size), dtype.bits)
    if way == SAME:
        return np.repeat(np.frombuffer(reader.take(dtype.size), dtype.bits), count)
    if way == PARTS:
        return _from_parts(reader, count, dtype)
    if way == CODEBOOK:
        size = reader.number(min(symbols.LARGEST, max(count, 1)))
        book = decode(reader, size, dtype)
        if not size:
            raise PackedFileError("an empty codebook")
        return book[symbols.decode(reader, count, size)]
    raise PackedFileError(f"unknown way {way} of coding values")


def codebook(values: Any) -> Any:
    """The different values, sorted, if they are few; else None."""
    if values.size > 4 * _SAMPLE:  # a look that spares sorting
        sample = np.unique(values[:: values.size // _SAMPLE])
        if sample.size > _SAMPLE // 2:
            return None
    found = np.unique(values)
    return found if found.size <= min(symbols.LARGEST, values.size // 2) else None


def _size(coded: Coded) -> int:
    return len(coded.content)


def _with_codebook(values: Any, book: Any, dtype: Dtype) -> Coded:
    indices = np.searchsorted(book, values).astype(np.int32)
    stored = _plain(book, dtype)
    coded, bits = symbols.encode(indices, book.size)
    content = bytes([CODEBOOK]) + number(book.size) + stored + coded
    return Coded(content, bits, NAMES[CODEBOOK])


def _plain(values: Any, dtype: Dtype) -> bytes:
    """A codebook, itself without one."""
    raw = bytes([RAW]) + bytes(values.tobytes())
    if values.size < 2:
        return raw
    return min(raw, _in_parts(values, dtype).content, key=len)


def _in_parts(values: Any, dtype: Dtype) -> Coded:
    content, total = bytes([PARTS]), 0.0
    below = 8 * dtype.size
    for width in dtype.parts:
        below -= width
        part = (values >> values.dtype.type(below)) & values.dtype.type(2**width - 1)
        coded, bits = symbols.encode(part.astype(np.int32), 2**width)
        content, total = content + coded, total + bits
    return Coded(content, total, NAMES[PARTS])


def _from_parts(reader: Reader, count: int, dtype: Dtype) -> Any:
    found = np.zeros(count, dtype.bits)
    for width in dtype.parts:
        part = symbols.decode(reader, count, 2**width)
        found <<= found.dtype.type(width % (8 * dtype.size))
        found |= part.astype(found.dtype)
    return found
