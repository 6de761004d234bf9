"""`load_packed`: the model of a packed file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit.packing import container, entropy, keras_archive
from keras_fitkit.packing.errors import PackedFileError

_MOST = 1 << 33  # bytes: two thousand million weights in float32


def load_packed(
    path: str | os.PathLike[str],
    *,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    max_bytes: int = _MOST,
) -> keras.Model:
    """The model that `save_packed` wrote, on whatever backend is in use.

    The file is looked at as a whole, by a checksum, before any of it is believed, and
    each tensor again once it is decoded. A file that is damaged, cut short or of
    another kind gives a `PackedFileError`. A checksum is no signature: as with `.keras`
    files, load only models of people you trust. `safe_mode` keeps a file from running
    code of its own, and `max_bytes` is checked before memory is taken for weights, but
    layers are as large as the configuration says.

    Args:
        path: of the file.
        custom_objects: classes and functions by name, where they are not registered.
        compile: whether to compile the model as it was. The optimizer begins anew.
        safe_mode: whether Keras refuses what would run code of the file, such as a
            `Lambda` layer.
        max_bytes: the most that the weights may take when they are unpacked. By default
            8 GiB.

    Returns:
        The model.

    Raises:
        TypeError: an argument is of another kind.
        FileNotFoundError: there is no such file.
        PackedFileError: it is no whole packed file, or Keras cannot build the model.
        ImportError: constriction is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layers = [keras.Input((4,)), keras.layers.Dense(2, name="dense")]
        >>> _ = kf.save_packed(keras.Sequential(layers, name="net"), "net.kfz")
        >>> kf.load_packed("net.kfz").name
        'net'
    """
    entropy.coder()
    source = arguments.path("path", path)
    if custom_objects is not None and not isinstance(custom_objects, Mapping):
        allowed = "None or a dict of classes and functions by name"
        raise TypeError(arguments.message("custom_objects", allowed, custom_objects))
    arguments.flag("compile", compile)
    arguments.flag("safe_mode", safe_mode)
    arguments.integer("max_bytes", max_bytes, low=1)
    data = source.read_bytes()
    try:
        content = container.decode(data, max_bytes)
    except PackedFileError as error:
        kind = "is damaged"
        if data[: len(container.MARK)] != container.MARK:
            kind = "is no packed model"
        raise PackedFileError(f"{source} {kind}: {error}.") from error
    try:
        return keras_archive.put_together(content, custom_objects, compile, safe_mode)
    except Exception as error:  # anything that a class of the model raises
        raise PackedFileError(
            f"The model in {source} cannot be built: {type(error).__name__}: {error}"
        ) from error
