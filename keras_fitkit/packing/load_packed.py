"""`load_packed`: the model of a packed file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit.packing import container, entropy, keras_archive
from keras_fitkit.packing.errors import PackedFileError

# What weights may take by default, in bytes: this or so many times the file's size.
_MOST = 1 << 30
_RATIO = 100


def load_packed(
    path: str | os.PathLike[str],
    *,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    max_bytes: int | None = None,
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
        max_bytes: the most that the weights may take when they are unpacked. None:
            1 GiB or 100 times the file's size, whichever is more.

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
    if max_bytes is not None:
        arguments.integer("max_bytes", max_bytes, low=1)
    content = _content(source, max_bytes)
    try:
        return keras_archive.put_together(content, custom_objects, compile, safe_mode)
    except Warning:  # an error only because the user wants it to be one
        raise
    except Exception as error:  # anything that a class of the model raises
        raise PackedFileError(
            f"The model in {source} cannot be built: {_said(error)}"
        ) from error


def _content(source: Path, max_bytes: int | None) -> container.Content:
    with source.open("rb") as file:
        mark = file.read(len(container.MARK))
        if mark != container.MARK:  # whatever it is, and however long
            raise PackedFileError(f"{source} is no packed model: {_foreign(mark)}.")
        data = mark + file.read()
    most = max(_MOST, _RATIO * len(data)) if max_bytes is None else max_bytes
    try:
        return container.decode(data, most)
    except Exception as error:  # PackedFileError, as the tests say; others all the same
        raise PackedFileError(f"{source} is damaged: {error}.") from error


def _foreign(mark: bytes) -> str:
    if mark[:-1] == container.MARK[:-1]:
        return "its version of the format is newer than this release"
    return "it does not begin as one"


def _said(error: Exception) -> str:
    """What Keras says at the end, without the configurations that it quotes."""
    text = str(error).rpartition("Exception encountered: ")[2]
    text = text.partition(" Full object config: ")[0]
    return f"{type(error).__name__}: {' '.join(text.split())}"
