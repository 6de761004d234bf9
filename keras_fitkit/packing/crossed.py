"""Positions by rows and columns: what is told of a row, and what is learned of columns.

How many elements of each row are set is told, roughly. Which ones is coded with the
probability `row x column`: a column is taken to be as full as it was in the rows
before, so nothing is told of columns. Decoder and coder do the same arithmetic, in
whole numbers but for one product and one quotient.

Either axis can be the one of the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_fitkit.packing import entropy, symbols
from keras_fitkit.packing.byte_reader import Reader, block
from keras_fitkit.packing.errors import PackedFileError

_UNIT = 256  # one element, in the counts of columns
_PRIORS = (64, 256, 1024, 4096)  # what a column has before the first row
_FADES = (0, 4, 6, 8)  # a count loses its 2^-k-th part a row; 0: nothing
_ROWS = 1 << 14  # each row is a step of Python
_COLUMNS = 1 << 16
_SIZE = 1 << 24  # elements
_MOST = 1.0 - 2.0**-10  # probability
_ROOT = 181 / 128  # of 2
_WORTHWHILE = 0.98


def encode(mask: Any, limit: int) -> bytes | None:
    """The mask by rows and columns, or None if that takes `limit` bytes or more.

    Args:
        mask: boolean, of two axes.
        limit: in bytes.
    """
    best: tuple[float, bytes, Any, Any] | None = None
    for turned in (0, 1):
        rows = mask.T if turned else mask
        if not _fits(rows.shape) or _hopeless(rows, limit):
            continue
        levels = _levels(rows)
        table, _ = symbols.encode(levels, _kinds(rows.shape[1]))
        for prior, fade in itertools.product(range(len(_PRIORS)), range(len(_FADES))):
            told = bytes([turned | prior << 1 | fade << 3]) + table
            some, chances = _chances(rows, levels, prior, fade)
            bits = _bits(some, chances) + 8 * len(told)
            if best is None or bits < best[0]:
                best = bits, told, some, chances
    if best is None or best[0] > 8 * limit:
        return None
    return best[1] + block(entropy.encode_each(best[2], best[3]))


def decode(reader: Reader, rows: int, columns: int) -> Any:
    """The mask.

    Raises:
        PackedFileError: these are not its bytes.
    """
    told = reader.byte()
    turned, prior, fade = told & 1, told >> 1 & 3, told >> 3
    if turned:
        rows, columns = columns, rows
    if fade >= len(_FADES) or not _fits((rows, columns)):
        raise PackedFileError("positions by rows and columns that cannot be")
    levels = symbols.decode(reader, rows, _kinds(columns))
    coder = entropy.EachDecoder(reader.block())
    found = np.zeros((rows, columns), bool)
    for row, chances in _walk(found, levels, prior, fade):
        found[row] = coder.decode(chances)
    coder.finished()
    return found.T if turned else found


def _fits(shape: tuple[int, ...]) -> bool:
    rows, columns = shape
    return 1 < rows <= _ROWS and 4 <= columns <= _COLUMNS and rows * columns <= _SIZE


def _hopeless(rows: Any, limit: int) -> bool:
    """Whether not even full knowledge of the density of every row and column helps."""
    n, m = rows.shape
    of_rows = np.count_nonzero(rows, axis=1) / m
    of_columns = np.count_nonzero(rows, axis=0) / n
    alike = n * m * _entropy(of_rows.mean())
    known = m * _entropy(of_rows) + n * _entropy(of_columns) - alike
    return bool(known > _WORTHWHILE * 8 * limit)


def _entropy(p: Any) -> float:
    """Of binary choices with the probabilities `p`, together, in bits."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.sum(p * np.log2(p) + (1 - p) * np.log2(1 - p)))


def _kinds(columns: int) -> int:
    return 2 * columns.bit_length() + 2


def _levels(rows: Any) -> Any:
    """How full each row is: 0, or 1 + 2 log2(elements), rounded."""
    counts = np.count_nonzero(rows, axis=1)
    found = np.rint(1 + 2 * np.log2(np.maximum(counts, 1))).astype(np.int32)
    return np.where(counts, found, 0)


def _walk(mask: Any, levels: Any, prior: int, fade: int) -> Iterator[tuple[int, Any]]:
    """For each row that is not empty: its number, the probability of each element.

    What the columns are is read from `mask` after each step.
    """
    weights = np.full(mask.shape[1], _PRIORS[prior], np.int64)
    for row, level in enumerate(levels.tolist()):
        if level:
            full = (1 << (level - 1 >> 1)) * (1.0 if level & 1 else _ROOT)
            yield row, np.minimum(full * weights / float(weights.sum()), _MOST)
        if _FADES[fade]:
            weights -= weights - _PRIORS[prior] >> _FADES[fade]
        if level:
            weights += mask[row] * _UNIT


def _chances(rows: Any, levels: Any, prior: int, fade: int) -> tuple[Any, Any]:
    chances = [one for _, one in _walk(rows, levels, prior, fade)]
    return rows[levels > 0].reshape(-1), np.concatenate(chances)


def _bits(mask: Any, chances: Any) -> float:
    """The length of the code to come."""
    return float(-np.sum(np.log2(np.where(mask, chances, 1.0 - chances))))
