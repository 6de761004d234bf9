"""Texts as bytes: deflate with words of Keras known beforehand, or LZMA."""

from __future__ import annotations

import functools
import lzma
from importlib import resources

from keras_fitkit.packing.byte_reader import Reader, block, number
from keras_fitkit.packing.errors import PackedFileError
from keras_fitkit.packing.symbols import deflate, inflate

LONGEST = 16 << 20  # bytes of a text
_LONG = 1 << 20  # one above this is at most so many times as long as its packed form:
_RATIO = 256
DEFLATE, LZMA = range(2)
_FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 20},)


@functools.cache
def _words() -> bytes:
    """What configurations of Keras have in common; a part of the format."""
    return resources.files(__package__).joinpath("words_1.txt").read_bytes()


def encode(text: bytes) -> bytes:
    """The smaller of the two ways.

    Raises:
        ValueError: it is longer than `LONGEST`.
    """
    if len(text) > LONGEST:
        raise ValueError(
            f"`model` must have a configuration and assets of at most {LONGEST} bytes "
            f"each. Received: one of {len(text)} bytes."
        )
    found = {
        DEFLATE: deflate(text, _words()),
        LZMA: lzma.compress(text, lzma.FORMAT_RAW, filters=_FILTERS),
    }
    way = min(found, key=lambda one: len(found[one]))
    return bytes([way]) + number(len(text)) + block(found[way])


def decode(reader: Reader) -> bytes:
    """What `encode` was given; never more than `LONGEST`.

    Raises:
        PackedFileError: these are not its bytes.
    """
    way, size = reader.byte(), reader.number(LONGEST)
    content = reader.block()
    if size > max(_LONG, _RATIO * len(content)):
        raise PackedFileError(f"a text of {size} bytes in {len(content)}")
    if way == DEFLATE:
        return inflate(content, size, _words())
    if way != LZMA:
        raise PackedFileError(f"unknown way {way} of packing a text")
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        found = unpacker.decompress(content, size + 1)
    except lzma.LZMAError as error:
        raise PackedFileError(f"text that cannot be unpacked: {error}") from error
    if len(found) != size or unpacker.unused_data:
        raise PackedFileError("text of another length than announced")
    return found
