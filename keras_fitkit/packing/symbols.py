"""Arrays of small integers as bytes: one value, plain bits or entropy-coded."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from keras_fitkit.packing import entropy
from keras_fitkit.packing.byte_reader import Reader, block, number
from keras_fitkit.packing.errors import PackedFileError

CONSTANT, BITS, HISTOGRAM = range(3)
_PLAIN, _DEFLATED = range(2)
LARGEST = 1 << 16  # kinds of symbols


def encode(symbols: Any, kinds: int) -> tuple[bytes, float]:
    """The smallest of the ways, and the empirical entropy of the symbols in bits.

    Args:
        symbols: integers in [0, kinds), of any shape.
        kinds: at most `LARGEST`.
    """
    symbols = np.ravel(symbols)
    if not symbols.size:
        return b"", 0.0
    counts = np.bincount(symbols, minlength=kinds)
    bound = entropy_bits(counts)
    if counts.max() == symbols.size:
        return bytes([CONSTANT]) + number(int(symbols[0])), bound
    plain = -(-symbols.size * _width(kinds) // 8)
    if 0.125 * bound < 0.999 * plain:  # not for the noise of a histogram
        coded = _histogram(symbols, counts)
        if len(coded) < plain:
            return bytes([HISTOGRAM]) + coded, bound
    return bytes([BITS]) + _bits(symbols, _width(kinds)), bound


def decode(reader: Reader, count: int, kinds: int) -> Any:
    """What `encode` was given, flat.

    Raises:
        PackedFileError: these are not its bytes.
    """
    if not count:
        return np.zeros(0, np.int32)
    way = reader.byte()
    if way == CONSTANT:
        return np.full(count, reader.number(kinds - 1), np.int32)
    if way == BITS:
        return _from_bits(reader, count, kinds)
    if way == HISTOGRAM:
        levels = _read_levels(reader, kinds)
        return entropy.decode(reader.block(), count, entropy.weights_of(levels))
    raise PackedFileError(f"unknown way {way} of coding integers")


def entropy_bits(counts: Any) -> float:
    """The empirical entropy of all symbols together, in bits: sum n log2(N / n)."""
    some = counts[counts > 0].astype(np.float64)
    return float(np.sum(some * np.log2(some.sum() / some)))


def _width(kinds: int) -> int:
    return max(1, (kinds - 1).bit_length())


def _histogram(symbols: Any, counts: Any) -> bytes:
    used = int(np.flatnonzero(counts)[-1]) + 1
    levels = entropy.levels_of(counts[:used])
    coded = entropy.encode(symbols, entropy.weights_of(levels))
    plain = levels.tobytes()
    deflated = deflate(plain)
    short = len(deflated) < len(plain)
    head = bytes([_DEFLATED if short else _PLAIN])
    table = head + number(used) + (block(deflated) if short else plain)
    return table + block(coded)


def _read_levels(reader: Reader, kinds: int) -> Any:
    way, used = reader.byte(), reader.number(kinds)
    if way == _PLAIN:
        content = bytes(reader.take(used))
    elif way == _DEFLATED:
        content = inflate(reader.block(), used)
    else:
        raise PackedFileError(f"unknown way {way} of coding a histogram")
    levels = np.frombuffer(content, np.uint8)
    if len(levels) != used or np.count_nonzero(levels) < 2:
        raise PackedFileError("a histogram without symbols")
    return levels


def deflate(content: bytes, dictionary: bytes = b"") -> bytes:
    """Raw deflate, which has no header."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=dictionary)
    return packer.compress(content) + packer.flush()


def inflate(content: bytes | memoryview, size: int, dictionary: bytes = b"") -> bytes:
    """Undoes `deflate`; never makes more than `size` bytes.

    Raises:
        PackedFileError: it is not exactly `size` bytes.
    """
    unpacker = zlib.decompressobj(-15, zdict=dictionary)
    try:
        found = unpacker.decompress(content, size + 1)
    except zlib.error as error:
        raise PackedFileError(f"text that cannot be unpacked: {error}") from error
    if len(found) != size or not unpacker.eof or unpacker.unused_data:
        raise PackedFileError("text of another length than announced")
    return found


def _bits(symbols: Any, width: int) -> bytes:
    if width in (8, 16):
        return bytes(symbols.astype(f"<u{width // 8}").tobytes())
    places = np.arange(width)
    parts = []
    for start in range(0, symbols.size, 1 << 20):  # a multiple of 8: bytes end there
        part = symbols[start : start + (1 << 20), None] >> places & 1
        parts.append(np.packbits(part.astype(np.uint8), axis=None).tobytes())
    return b"".join(parts)


def _from_bits(reader: Reader, count: int, kinds: int) -> Any:
    width = _width(kinds)
    content = reader.take(-(-count * width // 8))
    if width in (8, 16):
        found = np.frombuffer(content, f"<u{width // 8}").astype(np.int32)
    else:
        found = np.empty(count, np.int32)
        for start in range(0, count, 1 << 20):
            size = min(count - start, 1 << 20)
            first = start * width // 8
            part = np.frombuffer(content[first : first - (-size * width // 8)], "u1")
            bits = np.unpackbits(part, count=size * width).reshape(size, width)
            found[start : start + size] = bits @ (1 << np.arange(width))
    if found.max() >= kinds:
        raise PackedFileError("an integer that is too large")
    return found
