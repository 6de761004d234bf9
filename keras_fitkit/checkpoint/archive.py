"""One file of plain values and arrays: a zip archive that NumPy can open, no pickle.

`numpy.load` reads it: every array is an uncompressed .npy member, and `meta.json` holds
the plain values, in which `{"__array__": name}` stands for an array. Each member has
the checksum of the zip format, and reading looks at all of them before anything is
believed.
"""

from __future__ import annotations

import errno
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arrays
from keras_fitkit._core.files import atomic_path

META = "meta.json"
MAX_META = 256 << 20  # bytes
_ARRAY = "__array__"
_DTYPE = "dtype"
_UNSAFE = re.compile(r"[^a-zA-Z0-9_./-]")  # zip ends a name at a zero byte
_PLAIN = (bool, int, float, str)
# What a damaged archive makes the readers raise.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    RecursionError,
    SyntaxError,
)


class DamagedFile(Exception):
    """A file that cannot be read as a whole."""


class Unstorable(TypeError):
    """A value that is neither plain nor an array."""


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes nested dicts and lists of plain values, arrays, tensors and variables.

    One array at a time is in memory beside the values themselves. The file is whole or
    not there.

    Raises:
        Unstorable: anything else, named by its place.
        OSError: as the disk says.
    """
    members: dict[str, Any] = {}
    meta = json.dumps(_pack(content, members, "")).encode()
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        archive.writestr(META, meta)
        for name, value in members.items():
            array: Any = np.asarray(_storable(value), order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = np.lib.format.header_data_from_array_1_0(array)
                header["fortran_order"] = False
                np.lib.format.write_array_header_2_0(member, header)
                if array.size:
                    member.write(memoryview(array.reshape(-1)).cast("B"))


def read(path: Path) -> dict[str, Any]:
    """What `write` was given, tensors and variables as arrays, tuples as lists.

    Raises:
        OSError: as the disk says, `FileNotFoundError` for one.
        DamagedFile: any byte that matters is not as it was written.
    """
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            members = {
                info.filename: _member(archive, info, size)
                for info in archive.infolist()
            }
        meta = json.loads(members.pop(META))
        content = _unpack(
            meta,
            {name.removesuffix(".npy"): _array(data) for name, data in members.items()},
        )
    except OSError as error:
        if error.errno != errno.EINVAL:  # the disk's, not the file's: a place below 0
            raise
        raise DamagedFile(f"{path} is damaged: {error}") from error
    except _BROKEN as error:
        reason = str(error)
        raise DamagedFile(f"{path} is damaged: {reason}") from error
    if not isinstance(content, dict):
        raise DamagedFile(f"{path} is damaged: no values in it")
    return content


def writable(value: Any) -> Any:
    """A copy of what was read, whose arrays can be written to."""
    if isinstance(value, dict):
        return {key: writable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [writable(one) for one in value]
    return np.array(value) if isinstance(value, np.ndarray) else value


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> bytes:
    stored = info.compress_type == zipfile.ZIP_STORED
    if not stored or info.compress_size != info.file_size:
        raise zipfile.BadZipFile(f"{info.filename} is not as it was written")
    if info.file_size > size:
        raise zipfile.BadZipFile(f"{info.filename} is longer than the file")
    if info.filename == META and info.file_size > MAX_META:
        raise zipfile.BadZipFile(f"{META} has {info.file_size} bytes")
    return archive.read(info)  # looks at the checksum


def _array(data: bytes) -> Any:
    header = io.BytesIO(data)
    version = np.lib.format.read_magic(header)
    if version != (2, 0):
        raise ValueError(f"array of version {version}")
    shape, _, dtype = np.lib.format.read_array_header_2_0(header)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    return np.frombuffer(data, dtype, offset=header.tell()).reshape(shape)


def _pack(value: Any, members: dict[str, Any], where: str) -> Any:
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) and key != _ARRAY for key in value):
            raise Unstorable(f"{where or 'it'} has keys that are not texts")
        return {
            key: _pack(one, members, f"{where}/{key}") for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_pack(one, members, f"{where}/{i}") for i, one in enumerate(value)]
    if isinstance(value, (np.ndarray, keras.Variable)) or keras.ops.is_tensor(value):
        name = f"{len(members):05d}{_UNSAFE.sub('_', where)[-200:]}"
        members[name] = value
        if not isinstance(value, np.ndarray):
            kind = keras.backend.standardize_dtype(value.dtype)
        else:
            kind = str(value.dtype)
        if kind == "object":
            raise Unstorable(f"{where} is an array of objects")
        return {_ARRAY: name, _DTYPE: kind}
    raise Unstorable(f"{where} is a {type(value).__name__}")


def _storable(value: Any) -> Any:
    """The array to write: kinds that .npy does not know as integers of their size."""
    array = arrays.read_only(value) if isinstance(value, keras.Variable) else value
    array = arrays.to_numpy(array) if keras.ops.is_tensor(array) else np.asarray(array)
    if array.dtype.kind == "V":  # bfloat16 and the kinds of eight bits
        return array.view(f"u{array.dtype.itemsize}")
    return array


def _unpack(value: Any, members: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_unpack(one, members) for one in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return _as(members[value[_ARRAY]], value[_DTYPE])
    return {key: _unpack(one, members) for key, one in value.items()}


def _as(array: Any, kind: str) -> Any:
    if str(array.dtype) == kind:
        return array
    dtype = arrays.to_numpy(keras.ops.zeros((1,), kind)).dtype
    return array.view(dtype) if dtype.kind == "V" else array
