"""Values with a codebook for each channel: `ClusterWeights(per_channel=True)`.

One codebook for the whole tensor would hold the values of all channels: with 16 values
in each of 300 channels an index takes 12 bits instead of 4. What is coded is the rank
of a value in the codebook of its channel, with one histogram for all.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_fitkit.packing import positions, symbols, values
from keras_fitkit.packing.byte_reader import Reader, block
from keras_fitkit.packing.dtypes import Dtype
from keras_fitkit.packing.errors import PackedFileError
from keras_fitkit.packing.values import Coded

ALL, NOT_ZERO = range(2)
MOST = 256  # values of one channel
_LOOK = 8  # channels of the first look
_WORTHWHILE = 8  # zeros are coded apart when one element in so many is one


@dataclasses.dataclass(frozen=True)
class _Books:
    """Values of all channels, from the lowest to the highest in each.

    Attributes:
        sizes: how many values each channel has.
        book: the keys of the values, channel after channel.
        ranks: of each element that is not left out, in C order, within its channel.
    """

    sizes: Any
    book: Any
    ranks: Any


def encode(flat: Any, shape: tuple[int, ...], dtype: Dtype) -> Coded | None:
    """The smallest way, or None where no axis has channels of few values.

    Args:
        flat: the bits of the elements.
        shape: of the tensor.
        dtype: its type.
    """
    axes = [axis for axis in _axes(shape) if _looks_few(flat.reshape(shape), axis)]
    if not axes:
        return None
    zeros = flat.size - int(np.count_nonzero(flat))
    apart = 0 < zeros < flat.size and zeros * _WORTHWHILE >= flat.size
    mask = flat.reshape(shape) != 0 if apart else np.ones(shape, bool)
    keys = _keys(flat, dtype).reshape(shape)
    found = []
    for axis in axes:
        books = _books(keys, mask, axis)
        if books is not None:
            found.append(_coded(axis, books, mask if apart else None, dtype))
    return min(found, key=lambda one: len(one.content)) if found else None


def decode(reader: Reader, shape: tuple[int, ...], count: int, dtype: Dtype) -> Any:
    """The bits of the elements, flat.

    Raises:
        PackedFileError: these are not what `encode` wrote.
    """
    axis, way = reader.byte(), reader.byte()
    if axis >= len(shape) or not count or way not in (ALL, NOT_ZERO):
        raise PackedFileError("codebooks of channels that cannot be")
    mask = np.ones(count, bool)
    if way == NOT_ZERO:
        inner = Reader(reader.block())
        mask = positions.decode(inner, count, shape[-1])
        inner.finished()
    kept = int(np.count_nonzero(mask))
    sizes = symbols.decode(reader, shape[axis], MOST + 1).astype(np.int64)
    total = int(sizes.sum())
    if not 0 < total <= kept:
        raise PackedFileError("codebooks larger than what they are for")
    book = values.decode(reader, total, dtype)
    ranks = symbols.decode(reader, kept, int(sizes.max()))
    channels = _channels(shape, axis)[mask]
    if (ranks >= sizes[channels]).any():
        raise PackedFileError("an index past the end of a codebook")
    found = np.zeros(count, dtype.bits)
    found[mask] = book[(np.cumsum(sizes) - sizes)[channels] + ranks]
    return found


def _keys(bits: Any, dtype: Dtype) -> Any:
    """Unsigned integers in the order of the values: so one histogram fits all channels.

    The bits of negative floats grow as the floats fall.
    """
    if not dtype.is_float:
        return bits
    top = bits.dtype.type(1 << (8 * dtype.size - 1))
    return np.where(bits & top, ~bits, bits | top)


def _bits(keys: Any, dtype: Dtype) -> Any:
    """The inverse of `_keys`."""
    if not dtype.is_float:
        return keys
    top = keys.dtype.type(1 << (8 * dtype.size - 1))
    return np.where(keys & top, keys & ~top, ~keys)


def _axes(shape: tuple[int, ...]) -> list[int]:
    """Where channels can be: the last axis, the one before, the first."""
    rank = len(shape)
    places = dict.fromkeys((rank - 1, rank - 2, 0))
    return [one for one in places if rank > 1 and one >= 0 and shape[one] > 1]


def _books(array: Any, mask: Any, axis: int) -> _Books | None:
    """The codebooks of an axis, None where they are not worthwhile."""
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    kept = np.moveaxis(mask, axis, 0).reshape(rows.shape)
    ranks = np.zeros(rows.shape, np.int32)
    parts = []
    for i, row in enumerate(rows):
        some, inverse = np.unique(row[kept[i]], return_inverse=True)
        ranks[i, kept[i]] = inverse.reshape(-1)
        parts.append(some)
    sizes = np.array([one.size for one in parts])
    if not _few(sizes, int(np.count_nonzero(kept))):
        return None
    turned = [array.shape[axis], *np.delete(array.shape, axis)]
    ranks = np.moveaxis(ranks.reshape(turned), 0, axis)
    return _Books(sizes, np.concatenate(parts), ranks[mask])


def _looks_few(array: Any, axis: int) -> bool:
    """Whether some of the channels have few values; spares all work where not."""
    picked = np.linspace(0, array.shape[axis] - 1, min(_LOOK, array.shape[axis]))
    rows = (array.take(int(i), axis).reshape(-1) for i in picked)
    some = [row[row != 0] for row in rows]
    return _few([np.unique(one).size for one in some], sum(one.size for one in some))


def _few(sizes: Any, kept: int) -> bool:
    return int(max(sizes)) <= MOST and 2 * int(sum(sizes)) <= kept


def _coded(axis: int, books: _Books, mask: Any, dtype: Dtype) -> Coded:
    head, bits, way = bytes([axis, ALL]), 0.0, "codebooks"
    if mask is not None:
        where, bits = positions.encode(mask.reshape(-1), mask.shape[-1])
        head, way = bytes([axis, NOT_ZERO]) + block(where), "zeros, codebooks"
    sizes, _ = symbols.encode(books.sizes, MOST + 1)
    book = values.encode(_bits(books.book, dtype), dtype).content
    coded, more = symbols.encode(books.ranks, int(books.sizes.max()))
    return Coded(head + sizes + book + coded, bits + more, way)


def _channels(shape: tuple[int, ...], axis: int) -> Any:
    """The channel of each element, flat."""
    along = [-1 if one == axis else 1 for one in range(len(shape))]
    numbers = np.arange(shape[axis], dtype=np.int32).reshape(along)
    return np.broadcast_to(numbers, shape).reshape(-1)
