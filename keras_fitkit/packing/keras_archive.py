"""A model and its parts: configuration, tensors, assets.

Keras's own `.keras` file stands in between, written to and read from a temporary
folder: so everything that Keras knows to keep is kept, whatever a layer does to store
itself, and everything that Keras refuses to load is refused.
"""

from __future__ import annotations

import io
import json
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_fitkit._core import _private, arrays
from keras_fitkit.packing import dtypes
from keras_fitkit.packing.container import Content, NamedTensor

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_SHARED = "shared_object_id"
_OPTIMIZER = "optimizer/"


def taken_apart(model: Any) -> Content:
    """The parts of a model; the state of its optimizer is not one.

    Raises:
        ValueError: a layer stores something that is no array of numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(_CONFIG))
            version = json.loads(archive.read(_METADATA))["keras_version"]
            with h5py.File(io.BytesIO(archive.read(_WEIGHTS)), "r") as file:
                tensors = list(_tensors(file, _told_scales(model)))
            assets = {
                name: archive.read(name)
                for name in archive.namelist()
                if name not in (_CONFIG, _METADATA, _WEIGHTS) and name[-1:] != "/"
            }
    return Content(version, _renumbered(config, {}), tensors, assets)


def put_together(
    content: Content,
    custom_objects: Mapping[str, Any] | None,
    compile: bool,
    safe_mode: bool,
) -> Any:
    """The model of these parts.

    Raises:
        Exception: whatever Keras says of a configuration that it cannot build.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_CONFIG, json.dumps(content.config))
            told = {"keras_version": content.keras, "date_saved": ""}
            archive.writestr(_METADATA, json.dumps(told))
            archive.writestr(_WEIGHTS, _file_of(content.tensors))
            for name, data in content.assets.items():
                archive.writestr(name, data)
        with warnings.catch_warnings():
            # The optimizer begins anew, as `load_packed` says.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            return keras.saving.load_model(
                path,
                custom_objects=custom_objects,
                compile=compile,
                safe_mode=safe_mode,
            )


def _told_scales(model: Any) -> dict[tuple[Any, int], Any]:
    """The scales that layers tell of, by shape and checksum of the variable.

    Its place in Keras's file says nothing of the path of a variable.
    """
    found = {}
    for layer in _all_layers(model, set()):
        told = getattr(layer, "compression_info", None) or {}
        for variable in layer.weights if told else ():
            scale = (told.get(variable.path) or {}).get("scale")
            if scale is not None:
                found[_key(arrays.to_numpy(variable))] = arrays.to_numpy(scale)
    return found


def _all_layers(layer: Any, seen: set[int]) -> Iterator[Any]:
    if id(layer) not in seen:
        seen.add(id(layer))
        yield layer
        for child in _private.sublayers(layer):
            yield from _all_layers(child, seen)


def _key(array: Any) -> tuple[Any, int]:
    return array.shape, zlib.crc32(np.ascontiguousarray(array).tobytes())


def _tensors(file: Any, told: Mapping[Any, Any]) -> Iterator[NamedTensor]:
    found: list[str] = []
    file.visititems(lambda name, one: found.append(name) if _is_data(one) else None)
    for name in found:
        if name.startswith(_OPTIMIZER):
            continue
        data = file[name]
        dtype = dtypes.of(str(data.attrs.get("dtype", data.dtype.newbyteorder("="))))
        if dtype is None:
            raise ValueError(
                f"`model` must keep its state in arrays of numbers. Received: {name!r} "
                f"of the type {data.dtype}."
            )
        array = data[()] if dtype.name == "bfloat16" else data[()].astype(dtype.stored)
        array = np.asarray(array)
        scales = told.get(_key(array)) if told else None
        yield NamedTensor(name, array, dtype, scales)


def _is_data(one: Any) -> bool:
    return isinstance(one, h5py.Dataset)


def _file_of(tensors: Any) -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for one in tensors:
            data = file.create_dataset(one.name, data=one.array)
            if one.dtype.name == "bfloat16":
                data.attrs["dtype"] = "bfloat16"
    return memory.getvalue()


def _renumbered(value: Any, known: dict[Any, int]) -> Any:
    """Small numbers for shared objects instead of Keras's own, which are addresses.

    So the same model gives the same bytes, and fewer.
    """
    if isinstance(value, list):
        return [_renumbered(one, known) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        if key == _SHARED and isinstance(one, int):
            found[key] = known.setdefault(one, len(known))
        else:
            found[key] = _renumbered(one, known)
    return found
