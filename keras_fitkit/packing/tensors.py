"""One tensor as bytes: type, shape, checksum, and the values by what suits them."""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Any

import numpy as np

from keras_fitkit.packing import channel_books, dtypes, grids, positions, values
from keras_fitkit.packing.byte_reader import Reader, block, number
from keras_fitkit.packing.dtypes import Dtype
from keras_fitkit.packing.errors import PackedFileError

DENSE, SPARSE, GRID, BOOKS = range(4)
_RANK = 32
_TYPES = 255
_SIZE = 1 << 44
_WORTHWHILE = 8  # positions are coded apart when one in so many elements is zero
_LARGE = 1 << 20
_LEAST = 64  # elements of a tensor for which codebooks of channels are looked for


@dataclasses.dataclass(frozen=True)
class CodedTensor:
    """A tensor in a file.

    Attributes:
        content: its bytes in the file.
        coded: how many of them are values, tables included.
        bits: the empirical entropy of the symbols that are coded.
        way: how, in words.
    """

    content: bytes
    coded: int
    bits: float
    way: str


def encode(array: Any, dtype: Dtype, scales: Any = None) -> CodedTensor:
    """A tensor's bytes.

    Args:
        array: of the type `dtype.stored`.
        dtype: its type.
        scales: those of a grid that its layer tells of, or None.
    """
    flat = np.ascontiguousarray(array).reshape(-1).view(dtype.bits)
    best = _best(flat, array, dtype, scales)
    head = _head(array.shape, dtype)
    check = _checksum(head, flat).to_bytes(4, "little")
    content = head + check + block(best.content)
    return CodedTensor(content, len(best.content), best.bits, best.way)


def decode(reader: Reader, left: int) -> tuple[Any, Dtype]:
    """A tensor and its type.

    Args:
        reader: where `encode`'s bytes are next.
        left: the most bytes that the values may take.

    Raises:
        PackedFileError: these are not its bytes.
    """
    dtype = dtypes.at(reader.number(_TYPES))
    shape = tuple(reader.number(_SIZE) for _ in range(reader.number(_RANK)))
    check = int.from_bytes(reader.take(4), "little")
    count = math.prod(shape)
    # NumPy refuses an empty array whose other sizes are too large for it.
    too_large = math.prod(max(size, 1) for size in shape) > _SIZE
    if count * dtype.size > left or too_large:
        raise PackedFileError(
            f"a tensor of the shape {shape} ({count * dtype.size} bytes), where "
            f"{left} bytes are left of what `max_bytes` allows"
        )
    body = Reader(reader.block())
    flat = _decoded(body, count, shape, dtype)
    body.finished()
    if _checksum(_head(shape, dtype), flat) != check:
        raise PackedFileError("values that do not match their checksum")
    return flat.view(dtype.stored).reshape(shape), dtype


def _head(shape: tuple[int, ...], dtype: Dtype) -> bytes:
    sizes = (dtypes.place(dtype), len(shape), *shape)
    return b"".join(number(size) for size in sizes)


def _checksum(head: bytes, flat: Any) -> int:
    """Of type, shape and decoded values: the same bits in another shape are damage."""
    return zlib.crc32(flat.data, zlib.crc32(head))


def _best(flat: Any, array: Any, dtype: Dtype, scales: Any) -> values.Coded:
    found = []
    grid = grids.find(array, dtype, scales)
    if grid is not None:
        found.append(_as(GRID, grids.encode(grid, dtype)))
    if grid is None or flat.size < _LARGE:
        zeros = flat.size - int(np.count_nonzero(flat))
        apart = 0 < zeros < flat.size and zeros * _WORTHWHILE >= flat.size
        if apart:
            found.append(_sparse(flat, array.shape, dtype))
        if not apart or flat.size < _LARGE:
            found.append(_as(DENSE, values.encode(flat, dtype)))
    books = None
    if grid is None and flat.size >= _LEAST:
        books = channel_books.encode(flat, array.shape, dtype)
    if books is not None:
        found.append(_as(BOOKS, books))
    return min(found, key=lambda one: len(one.content))


def _as(way: int, coded: values.Coded) -> values.Coded:
    return dataclasses.replace(coded, content=bytes([way]) + coded.content)


def _sparse(flat: Any, shape: tuple[int, ...], dtype: Dtype) -> values.Coded:
    mask = flat != 0
    where, bits = positions.encode(mask, shape[-1])
    rest = values.encode(flat[mask], dtype)
    content = bytes([SPARSE]) + block(where) + rest.content
    return values.Coded(content, bits + rest.bits, f"zeros, {rest.way}")


def _decoded(body: Reader, count: int, shape: tuple[int, ...], dtype: Dtype) -> Any:
    way = body.byte()
    if way == DENSE:
        return values.decode(body, count, dtype)
    if way == GRID:
        return grids.decode(body, shape, count, dtype)
    if way == BOOKS:
        return channel_books.decode(body, shape, count, dtype)
    if way != SPARSE or not count:
        raise PackedFileError(f"unknown way {way} of coding a tensor")
    inner = Reader(body.block())
    mask = positions.decode(inner, count, shape[-1] if shape else 1)
    inner.finished()
    flat = np.zeros(count, dtype.bits)
    flat[mask] = values.decode(body, int(np.count_nonzero(mask)), dtype)
    return flat
