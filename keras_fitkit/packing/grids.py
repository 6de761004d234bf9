"""Values that are integers times a scale, one for the tensor or one for each channel.

A grid is believed only if it gives back every element bit for bit: the product of
integer and scale, rounded once, in float32 (float64 for tensors of float64).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_fitkit.packing import positions, symbols, values
from keras_fitkit.packing.byte_reader import Reader, block, number
from keras_fitkit.packing.dtypes import Dtype, of
from keras_fitkit.packing.errors import PackedFileError
from keras_fitkit.packing.values import Coded

DTYPES = ("float32", "float64", "float16")
ALL, NOT_ZERO = range(2)
_LAST = 1 << 15  # the largest integer
_LEAST = 64  # elements of a tensor for which scales are worthwhile
_CHANNELS, _ELEMENTS = 8, 1 << 12  # of the first look
# The largest |w| of a channel is often this integer (bits 2 to 8, 12, 16).
_TOP = (1, 3, 7, 15, 31, 63, 127, 2047, 32767)
_BOTTOM = (1, 2, 3)  # and the smallest that is not 0 one of these
_WORTHWHILE = 8


@dataclasses.dataclass(frozen=True)
class Grid:
    """A tensor on a grid.

    Attributes:
        axis: that of the channels; None: one scale for all.
        scales: one for each channel.
        integers: of the tensor's shape, int32.
    """

    axis: int | None
    scales: Any
    integers: Any


def find(array: Any, dtype: Dtype, told: Any = None) -> Grid | None:
    """The grid of a tensor, None if there is none.

    Args:
        array: the tensor.
        dtype: its type.
        told: scales that somebody believes in, of a shape that broadcasts to it.
    """
    if dtype.name not in DTYPES or array.size < _LEAST or not np.isfinite(array).all():
        return None
    for axis in dict.fromkeys((None, array.ndim - 1, array.ndim - 2, 0)):
        if axis is not None and not 0 <= axis < array.ndim:
            continue
        size = 1 if axis is None else array.shape[axis]
        if size * 2 > array.size:
            continue
        hint = None if told is None else _hint(told, axis, array.ndim, size)
        scales = _scales(_by_channel(array, axis), hint)
        if scales is not None:
            along = _along(scales, axis, array.ndim)
            integers = np.rint(array / along).astype(np.int32)
            return Grid(axis, scales, integers)
    return None


def encode(grid: Grid, dtype: Dtype) -> Coded:
    """The bytes of a grid."""
    flat = grid.integers.reshape(-1)
    scales = values.encode(grid.scales.view(_kind(dtype).bits), _kind(dtype))
    axis = 0 if grid.axis is None else 1 + grid.axis
    found = [_integers(flat, None)]
    zeros = flat.size - int(np.count_nonzero(flat))
    if zeros * _WORTHWHILE >= flat.size and zeros < flat.size:
        found.append(_integers(flat, grid.integers.shape[-1]))
    body, bits = min(found, key=lambda one: len(one[0]))
    way = "zeros, grid" if body[0] == NOT_ZERO else "grid"
    return Coded(bytes([axis]) + scales.content + body, bits, way)


def decode(reader: Reader, shape: tuple[int, ...], count: int, dtype: Dtype) -> Any:
    """The bits of the tensor's elements, flat.

    Raises:
        PackedFileError: these are not the bytes of a grid.
    """
    code = reader.byte()
    if dtype.name not in DTYPES or code > len(shape) or not count:
        raise PackedFileError("a grid that cannot be")
    axis = None if code == 0 else code - 1
    size = 1 if axis is None else shape[axis]
    scales = values.decode(reader, size, _kind(dtype)).view(_kind(dtype).stored)
    integers = _read_integers(reader, count, shape[-1] if shape else 1)
    along = _along(scales, axis, len(shape))
    return _product(integers.reshape(shape), along, dtype).reshape(-1).view(dtype.bits)


def _kind(dtype: Dtype) -> Dtype:
    """The type of the scales."""
    found = of("float64" if dtype.name == "float64" else "float32")
    assert found is not None  # noqa: S101 - for the type checker
    return found


def _product(integers: Any, scales: Any, dtype: Dtype) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return (integers.astype(scales.dtype) * scales).astype(dtype.stored)


def _by_channel(array: Any, axis: int | None) -> Any:
    if axis is None:
        return array.reshape(1, -1)
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _along(scales: Any, axis: int | None, rank: int) -> Any:
    if axis is None:
        return scales.reshape((1,) * rank)
    return scales.reshape([-1 if one == axis else 1 for one in range(rank)])


def _hint(told: Any, axis: int | None, rank: int, size: int) -> Any:
    told = np.asarray(told)
    if told.size not in (1, size) or told.ndim not in (0, rank):
        return None
    return np.broadcast_to(told.reshape(-1), (size,))


def _scales(rows: Any, told: Any) -> Any:
    """A scale for each row that puts all of it on a grid, or None."""
    kind = np.float64 if rows.dtype == np.float64 else np.float32
    sizes = np.abs(rows)
    top = sizes.max(axis=1).astype(kind)
    bottom = np.where(sizes > 0, sizes, np.inf).min(axis=1).astype(kind)
    bottom = np.where(top > 0, bottom, 1)
    offers = list(_offers(top, bottom, told, kind))
    few = np.linspace(0, len(rows) - 1, min(_CHANNELS, len(rows))).astype(int)
    look = rows[few, :_ELEMENTS]
    good = [(_on_grid(look, scales[few]), scales) for scales in offers]
    if not np.any([fits for fits, _ in good], axis=0).all():
        return None
    good.sort(key=lambda one: -int(one[0].sum()))  # stable: the coarsest grid first
    found, open_ = np.ones(len(rows), kind), np.arange(len(rows))
    for fits, scales in good:
        if open_.size and fits.any():
            part = rows if open_.size == len(rows) else rows[open_]
            on = _on_grid(part, scales[open_])
            found[open_[on]] = scales[open_[on]]
            open_ = open_[~on]
    return None if open_.size else found


def _offers(top: Any, bottom: Any, told: Any, kind: Any) -> Iterator[Any]:
    """Scales to try, each with its neighbours: division may have been rounded."""
    exact = [bottom, *(top / kind(one) for one in _TOP)]
    exact += [bottom / kind(one) for one in _BOTTOM[1:]]
    if told is not None:
        exact.insert(0, told.astype(kind))
    for scales in exact:
        scales = np.where((scales > 0) & np.isfinite(scales), scales, 1).astype(kind)
        yield scales
        yield np.nextafter(scales, kind(0))
        yield np.nextafter(scales, kind(np.inf))


def _on_grid(rows: Any, scales: Any) -> Any:
    """Which rows are integers times their scale, bit for bit."""
    along = scales[:, None]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        integers = np.rint(rows / along)
        small = np.abs(integers).max(axis=1) < _LAST
        again = ((integers + 0) * along).astype(rows.dtype)  # -0 + 0 is 0
    alike = (again == rows) & (np.signbit(again) == np.signbit(rows))
    return small & alike.all(axis=1)


def _integers(flat: Any, columns: int | None) -> tuple[bytes, float]:
    """The integers: all of them, or with the positions of zeros apart."""
    head, bits = bytes([ALL]), 0.0
    if columns is not None:
        where, bits = positions.encode(flat != 0, columns)
        head, flat = bytes([NOT_ZERO]) + block(where), flat[flat != 0]
    low = int(flat.min())
    kinds = int(flat.max()) - low + 1
    coded, more = symbols.encode(flat - low, kinds)
    return head + number(low + _LAST) + number(kinds) + coded, bits + more


def _read_integers(reader: Reader, count: int, columns: int) -> Any:
    way = reader.byte()
    if way == ALL:
        return _read_range(reader, count)
    if way != NOT_ZERO:
        raise PackedFileError(f"unknown way {way} of coding a grid")
    inner = Reader(reader.block())
    mask = positions.decode(inner, count, columns)
    inner.finished()
    found = np.zeros(count, np.int32)
    found[mask] = _read_range(reader, int(np.count_nonzero(mask)))
    return found


def _read_range(reader: Reader, count: int) -> Any:
    low = reader.number(2 * _LAST) - _LAST
    kinds = reader.number(symbols.LARGEST)
    if not kinds:
        raise PackedFileError("integers without values")
    return symbols.decode(reader, count, kinds) + np.int32(low)
