"""One tensor as bytes: type, shape, checksum, and the values by what suits them."""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Any

import numpy as np

from keras_fitkit.packing import dtypes, positions, values
from keras_fitkit.packing.byte_reader import Reader, block, number
from keras_fitkit.packing.dtypes import Dtype
from keras_fitkit.packing.errors import PackedFileError

DENSE, SPARSE = range(2)
_RANK = 32
_SIZE = 1 << 48
_WORTHWHILE = 8  # positions are coded apart when one in so many elements is zero
_LARGE = 1 << 20


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


def encode(array: Any, dtype: Dtype) -> CodedTensor:
    """A tensor's bytes.

    Args:
        array: of the type `dtype.stored`.
        dtype: its type.
    """
    flat = np.ascontiguousarray(array).reshape(-1).view(dtype.bits)
    best = _best(flat, array.shape, dtype)
    shape = b"".join(number(size) for size in (len(array.shape), *array.shape))
    check = zlib.crc32(flat.data).to_bytes(4, "little")
    head = bytes([dtypes.place(dtype)]) + shape + check
    content = head + block(best.content)
    return CodedTensor(content, len(best.content), best.bits, best.way)


def decode(reader: Reader, left: int) -> tuple[Any, Dtype]:
    """A tensor and its type.

    Args:
        reader: where `encode`'s bytes are next.
        left: the most bytes that the values may take.

    Raises:
        PackedFileError: these are not its bytes.
    """
    dtype = dtypes.at(reader.byte())
    shape = tuple(reader.number(_SIZE) for _ in range(reader.number(_RANK)))
    check = int.from_bytes(reader.take(4), "little")
    count = math.prod(shape)
    if count * dtype.size > left:
        raise PackedFileError(
            f"a tensor of the shape {shape} ({count * dtype.size} bytes), where "
            f"{left} bytes are left of what `max_bytes` allows"
        )
    body = Reader(reader.block())
    flat = _decoded(body, count, shape, dtype)
    body.finished()
    if zlib.crc32(flat.data) != check:
        raise PackedFileError("values that do not match their checksum")
    return flat.view(dtype.stored).reshape(shape), dtype


def _best(flat: Any, shape: tuple[int, ...], dtype: Dtype) -> values.Coded:
    zeros = flat.size - int(np.count_nonzero(flat))
    found = []
    apart = 0 < zeros < flat.size and zeros * _WORTHWHILE >= flat.size
    if not apart or flat.size < _LARGE:
        dense = values.encode(flat, dtype)
        content = bytes([DENSE]) + dense.content
        found.append(dataclasses.replace(dense, content=content))
    if apart:
        found.append(_sparse(flat, shape, dtype))
    return min(found, key=lambda one: len(one.content))


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
    if way != SPARSE or not count:
        raise PackedFileError(f"unknown way {way} of coding a tensor")
    inner = Reader(body.block())
    mask = positions.decode(inner, count, shape[-1])
    inner.finished()
    flat = np.zeros(count, dtype.bits)
    flat[mask] = values.decode(body, int(np.count_nonzero(mask)), dtype)
    return flat
