"""Which elements of a tensor are not zero, as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_fitkit.packing import entropy
from keras_fitkit.packing.byte_reader import Reader, block, number
from keras_fitkit.packing.errors import PackedFileError

ALIKE = 0


def encode(mask: Any, columns: int) -> tuple[bytes, float]:
    """The smallest of the ways, and the empirical entropy of the mask in bits.

    Args:
        mask: boolean, flat, with at least one of each kind.
        columns: size of the last axis of the tensor that it belongs to.
    """
    ones = int(np.count_nonzero(mask))
    counts = np.array([mask.size - ones, ones])
    coded = number(ones) + block(entropy.encode(mask, counts.astype(np.float64)))
    zeros = float(mask.size - ones)
    bound = zeros * np.log2(mask.size / zeros) + ones * np.log2(mask.size / ones)
    return bytes([ALIKE]) + coded, float(bound)


def decode(reader: Reader, count: int, columns: int) -> Any:
    """The mask, flat.

    Raises:
        PackedFileError: these are not its bytes.
    """
    way = reader.byte()
    if way != ALIKE:
        raise PackedFileError(f"unknown way {way} of coding positions")
    ones = reader.number(count)
    weights = np.array([count - ones, ones], np.float64)
    if not weights.all():
        raise PackedFileError("positions where all elements are alike")
    return entropy.decode(reader.block(), count, weights) == 1
