"""Entropy coding of integers by `constriction`, whose coder is a range ANS.

The probabilities that coder and decoder see are whole numbers given as floats, so that
both machines round them in the same way: only additions, one division and products.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from keras_fitkit.packing.errors import PackedFileError

# 2^(k/8) in 16 bits, written down: what a C library makes of a power may differ.
_EIGHTHS = np.array([32768, 35734, 38968, 42495, 46341, 50535, 55109, 60097], np.int64)
_LEVELS = 255  # 0 is "does not occur"; 255 eighths of a bit are counts up to 2^31


def coder() -> Any:
    """The module `constriction.stream`.

    Raises:
        ImportError: it is missing; names the extra to install.
    """
    try:
        return importlib.import_module("constriction").stream
    except ImportError as error:
        raise ImportError(
            "Packed models need constriction. Install it with: "
            "pip install 'keras-fitkit[pack]'"
        ) from error


def levels_of(counts: Any) -> Any:
    """Counts as bytes, on a scale of an eighth of a bit; 0 where nothing was counted.

    A probability is off by 4.4 % at most, which costs less than 0.001 of the bits.
    """
    counts = np.asarray(counts, np.float64)
    found = np.zeros(counts.shape, np.uint8)
    some = counts > 0
    if some.any():
        below = np.log2(counts[some] / counts.max()) * 8
        found[some] = np.clip(np.rint(_LEVELS + below), 1, _LEVELS)
    return found


def weights_of(levels: Any) -> Any:
    """The weights, up to a factor, that the levels stand for."""
    steps = np.asarray(levels, np.int64) - 1
    found = _EIGHTHS[steps & 7] << np.maximum(steps >> 3, 0)
    return np.where(steps < 0, 0, found).astype(np.float64)


def encode(symbols: Any, weights: Any) -> bytes:
    """Codes integers from 0 on, all by the same weights (one for each integer)."""
    stream = coder()
    ans = stream.stack.AnsCoder()
    model = stream.model.Categorical(weights, perfect=False)
    ans.encode_reverse(np.ascontiguousarray(symbols, np.int32), model)
    return _stored(ans)


def decode(content: bytes | memoryview, count: int, weights: Any) -> Any:
    """What `encode` was given, as int32.

    Raises:
        PackedFileError: these are not the bytes of `count` integers.
    """
    stream = coder()
    try:
        ans = stream.stack.AnsCoder(_words(content))
        model = stream.model.Categorical(weights, perfect=False)
        found = ans.decode(model, count)
        done = ans.is_empty()
    except BaseException as error:
        raise refused(error) from error
    if not done:
        raise PackedFileError("coded values are left over")
    return found


def refused(error: BaseException) -> BaseException:
    """A PackedFileError for what the coder says to bytes that it never wrote.

    A panic of Rust is a BaseException; an interrupt by the user stays one.
    """
    panic = type(error).__name__ == "PanicException"
    if not panic and not isinstance(error, Exception):
        return error
    return PackedFileError(f"values that cannot be decoded: {error}")


def _stored(ans: Any) -> bytes:
    """The words, lowest byte first, without the zeros at the end."""
    words = ans.get_compressed()
    if sys.byteorder == "big":
        words = words.byteswap()
    return bytes(words.tobytes().rstrip(b"\0"))


def _words(content: bytes | memoryview) -> Any:
    padded = bytes(content) + b"\0" * (-len(content) % 4)
    return np.frombuffer(padded, "<u4").astype(np.uint32)


def encode_each(mask: Any, chances: Any) -> bytes:
    """Codes booleans, each with its own probability of being True."""
    stream = coder()
    ans = stream.stack.AnsCoder()
    model = stream.model.Bernoulli(perfect=False)
    ans.encode_reverse(np.ascontiguousarray(mask, np.int32), model, chances)
    return _stored(ans)


class EachDecoder:
    """Decodes what `encode_each` coded, in as many steps as it takes.

    Args:
        content: its bytes.
    """

    def __init__(self, content: bytes | memoryview) -> None:
        stream = coder()
        self._model = stream.model.Bernoulli(perfect=False)
        try:
            self._ans = stream.stack.AnsCoder(_words(content))
        except BaseException as error:
            raise refused(error) from error

    def decode(self, chances: Any) -> Any:
        """The next booleans.

        Raises:
            PackedFileError: these are not their bytes.
        """
        try:
            return self._ans.decode(self._model, chances) == 1
        except BaseException as error:
            raise refused(error) from error

    def finished(self) -> None:
        """Raises PackedFileError if something is left."""
        if not self._ans.is_empty():
            raise PackedFileError("coded positions are left over")
