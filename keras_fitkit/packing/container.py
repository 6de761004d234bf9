"""The file: a mark, a description, assets, tensors and a digest of all of it.

    mark        5 bytes, the version last
    description JSON, packed: {"keras", "config", "tensors", "assets"}
    assets      one packed text for each name in "assets"
    tensors     one record for each name in "tensors": type, shape, CRC-32, values
    digest      the first 8 bytes of the SHA-256 of everything before

The digest is looked at before anything else is believed, so that damage is found
before a decoder sees it; 64 bits of it are enough against accidents, and no checksum is
a signature. The CRC-32 of each tensor is that of the decoded values: a file that was
whole, but is decoded to something else than was packed, is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_fitkit.packing import tensors, texts
from keras_fitkit.packing.byte_reader import Reader
from keras_fitkit.packing.dtypes import Dtype
from keras_fitkit.packing.errors import PackedFileError
from keras_fitkit.packing.tensors import CodedTensor

MARK = b"\x93KFZ\x01"
DIGEST = 8


@dataclasses.dataclass(frozen=True)
class NamedTensor:
    """A tensor of a model.

    Attributes:
        name: its path in Keras's file of weights.
        array: its values, of the type `dtype.stored`.
        dtype: its type.
        scales: those of a grid that its layer tells of, or None.
    """

    name: str
    array: Any
    dtype: Dtype
    scales: Any = None


@dataclasses.dataclass(frozen=True)
class Content:
    """What is packed of a model.

    Attributes:
        keras: the version of Keras that described it.
        config: its configuration, the plain values of Keras's JSON.
        tensors: its values.
        assets: vocabularies and the like, by file name.
    """

    keras: str
    config: Mapping[str, Any]
    tensors: Sequence[NamedTensor]
    assets: Mapping[str, bytes]


def encode(content: Content) -> tuple[bytes, list[CodedTensor]]:
    """The bytes of the file, and its tensors as they are coded."""
    coded = [
        tensors.encode(one.array, one.dtype, one.scales) for one in content.tensors
    ]
    description = {
        "keras": content.keras,
        "config": content.config,
        "tensors": _grouped([one.name for one in content.tensors]),
        "assets": list(content.assets),
    }
    text = json.dumps(description, separators=(",", ":")).encode()
    parts = [MARK, texts.encode(text)]
    parts += [texts.encode(one) for one in content.assets.values()]
    parts += [one.content for one in coded]
    body = b"".join(parts)
    return body + digest(body), coded


def decode(data: bytes, max_bytes: int) -> Content:
    """What was packed.

    Args:
        data: the file's bytes.
        max_bytes: the most that tensors and assets may take together.

    Raises:
        PackedFileError: these are not the bytes of a whole file.
    """
    reader = Reader(whole(data))
    description = _described(texts.decode(reader))
    names = list(_names(description["tensors"], reader.left))
    assets, left = {}, max_bytes
    for name in description["assets"]:
        assets[name] = texts.decode(reader)
        left -= len(assets[name])
    found = []
    for name in names:
        array, dtype = tensors.decode(reader, left)
        left -= array.nbytes
        found.append(NamedTensor(name, array, dtype))
    reader.finished()
    return Content(description["keras"], description["config"], found, assets)


def digest(body: bytes | memoryview) -> bytes:
    """The checksum at the end of a file."""
    return hashlib.sha256(body).digest()[:DIGEST]


def whole(data: bytes) -> memoryview:
    """What is between mark and digest, if they are right.

    Raises:
        PackedFileError: they are not.
    """
    view = memoryview(data)
    if view[: len(MARK) - 1] != MARK[:-1]:
        raise PackedFileError("it does not begin as one")
    if view[len(MARK) - 1 : len(MARK)] != MARK[-1:]:
        raise PackedFileError("a version of the format that this release cannot read")
    if len(view) < len(MARK) + DIGEST or digest(view[:-DIGEST]) != view[-DIGEST:]:
        raise PackedFileError("it is not as it was written: its checksum is wrong")
    return view[len(MARK) : -DIGEST]


def _described(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PackedFileError(f"a description that is no JSON: {error}") from error
    kinds = {"keras": str, "config": dict, "tensors": list, "assets": list}
    for name, kind in kinds.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            raise PackedFileError(f"a description without {name!r}")
    if not all(_is_safe(name) for name in found["assets"]):
        raise PackedFileError("an asset with a name that is no file's")
    return dict(found)


def _is_safe(name: Any) -> bool:
    """Whether a name stays in the folder that it is put into."""
    if not isinstance(name, str) or "\\" in name or "\0" in name or ":" in name:
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def _grouped(names: Sequence[str]) -> list[list[Any]]:
    """Names by their folder: the number of those called 0, 1, ..., or a list."""
    groups: list[tuple[str, list[str]]] = []
    for name in names:
        folder, _, last = name.rpartition("/")
        if not groups or groups[-1][0] != folder:
            groups.append((folder, []))
        groups[-1][1].append(last)
    return [
        [folder, len(last) if last == [str(i) for i in range(len(last))] else last]
        for folder, last in groups
    ]


def _names(groups: list[Any], most: int) -> Iterator[str]:
    seen: set[str] = set()
    for group in groups:
        try:
            folder, last = group
            last = range(last) if isinstance(last, int) else last
            for one in last:
                name = f"{folder}/{one}"
                if name in seen or len(seen) >= most or not _is_safe(name):
                    raise PackedFileError(f"a tensor with the name {name!r}")
                seen.add(name)
                yield name
        except (TypeError, ValueError) as error:
            if isinstance(error, PackedFileError):
                raise
            raise PackedFileError(f"tensors without names: {group!r}") from error
