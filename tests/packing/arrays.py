"""Tensors of all kinds that a model can hold, and a second route for entropies."""

import ml_dtypes
import numpy as np

from keras_fitkit.packing import dtypes, tensors
from keras_fitkit.packing.byte_reader import Reader

FLOATS = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}
PLENTY = 1 << 30


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def pruned(array, sparsity):
    """Without the smallest; the zeros are +0, as PruneSchedule leaves them."""
    limit = np.quantile(np.abs(array), sparsity)
    return np.where(np.abs(array) > limit, array, np.float32(0))


def on_grid(array, bits, axis=None):
    """As `kf.quantize_model` rounds weights: -n to n, the largest on n."""
    n = 2 ** (bits - 1) - 1
    scale = np.abs(array).max(axis=axis, keepdims=True) / np.float32(n)
    return (np.round(array / scale) + 0) * scale


def clustered(array, kinds, axis):
    """Each channel on values of its own, as `ClusterWeights(per_channel=True)`."""
    rows = np.moveaxis(array, axis, 0).copy()
    for row in rows:
        book = np.quantile(row, (np.arange(kinds) + 0.5) / kinds).astype(row.dtype)
        row[...] = book[np.abs(row[..., None] - book).argmin(-1)]
    return np.ascontiguousarray(np.moveaxis(rows, 0, axis))


def packed(array, scales=None):
    dtype = dtypes.of(array.dtype.name)
    return tensors.encode(array.view(dtype.stored), dtype, scales)


def unpacked(coded, most=PLENTY):
    reader = Reader(coded if isinstance(coded, bytes) else coded.content)
    array, dtype = tensors.decode(reader, most)
    reader.finished()
    return array, dtype.name


def assert_same_bits(array, coded):
    again, name = unpacked(coded)
    assert name == array.dtype.name
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()


def entropy_bytes(symbols):
    """sum over symbols of log2(N / n), in bytes."""
    _, counts = np.unique(symbols, return_counts=True)
    return float(np.sum(counts * np.log2(counts.sum() / counts))) / 8
