"""Model files in which zeros, codebooks and grids take few bytes."""

from keras_fitkit.packing.errors import PackedFileError as PackedFileError
from keras_fitkit.packing.load_packed import load_packed as load_packed
from keras_fitkit.packing.save_packed import packed_size as packed_size
from keras_fitkit.packing.save_packed import save_packed as save_packed
from keras_fitkit.packing.size import PackedSize as PackedSize
from keras_fitkit.packing.size import TensorSize as TensorSize

__all__ = [
    "PackedFileError",
    "PackedSize",
    "TensorSize",
    "load_packed",
    "packed_size",
    "save_packed",
]
