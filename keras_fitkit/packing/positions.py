"""Which elements of a tensor are not zero, as bytes.

Two ways: all elements alike, or by rows and columns. What pruning leaves is seldom
spread evenly: pixels at the border and units that do nothing lose all their weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_fitkit.packing import crossed, entropy
from keras_fitkit.packing.byte_reader import Reader, block, number
from keras_fitkit.packing.errors import PackedFileError

ALIKE, CROSSED = range(2)


def encode(mask: Any, columns: int) -> tuple[bytes, float]:
    """The smallest of the ways, and the empirical entropy of the mask in bits.

    Args:
        mask: boolean, flat, with at least one of each kind.
        columns: size of the last axis of the tensor that it belongs to.
    """
    ones = int(np.count_nonzero(mask))
    counts = np.array([mask.size - ones, ones])
    coded = entropy.encode(mask, counts.astype(np.float64))
    found = bytes([ALIKE]) + number(ones) + block(coded)
    zeros = float(mask.size - ones)
    bound = zeros * np.log2(mask.size / zeros) + ones * np.log2(mask.size / ones)
    other = crossed.encode(mask.reshape(-1, columns), len(found))
    if other is not None:
        found = min(found, bytes([CROSSED]) + other, key=len)
    return found, float(bound)


def decode(reader: Reader, count: int, columns: int) -> Any:
    """The mask, flat.

    Raises:
        PackedFileError: these are not its bytes.
    """
    way = reader.byte()
    if way == CROSSED:
        return crossed.decode(reader, count // columns, columns).reshape(-1)
    if way != ALIKE:
        raise PackedFileError(f"unknown way {way} of coding positions")
    ones = reader.number(count)
    weights = np.array([count - ones, ones], np.float64)
    if not weights.all():
        raise PackedFileError("positions where all elements are alike")
    return entropy.decode(reader.block(), count, weights) == 1
