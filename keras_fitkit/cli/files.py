"""Files that commands read and write."""

from __future__ import annotations

import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit import packing
from keras_fitkit._core import arguments, files


def say(quiet: bool, text: str) -> None:
    """Progress, on the standard error."""
    if not quiet:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def show(text: str) -> None:
    """A result, on the standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show_json(value: Any) -> None:
    """A result as JSON; a number that is none (NaN, infinite) becomes null."""
    show(json.dumps(_plain(value), indent=2, allow_nan=False))


def existing(name: str, given: str, *suffixes: str) -> Path:
    """The path of a file that is there."""
    path = arguments.path(name, given)
    if suffixes and path.suffix not in suffixes:
        allowed = f"a file that ends in {' or '.join(suffixes)}"
        raise ValueError(arguments.message(name, allowed, given))
    if not path.is_file():
        raise FileNotFoundError(arguments.message(name, "a file that exists", given))
    return path


def writable(name: str, given: str, suffix: str = "") -> Path:
    """The path of a file that can be written, before any work is done."""
    return files.refuse_unwritable(name, arguments.path(name, given, suffix=suffix))


def load(name: str, given: str, *, litert: bool = False) -> Any:
    """A model of a `.keras` or packed file; of a LiteRT file its path.

    Keras's `safe_mode` stays on: a file cannot run code of its own.
    """
    path = existing(name, given, ".keras", ".kfz", *([".tflite"] if litert else []))
    if path.suffix == ".tflite":
        return path
    if path.suffix == ".kfz":
        return packing.load_packed(path)
    if not zipfile.is_zipfile(path):
        allowed = "a file that `model.save` of Keras 3 wrote"
        raise ValueError(arguments.message(name, allowed, given))
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:
        hint = str(error).strip().splitlines()[0] if str(error).strip() else ""
        if "Lambda" in str(error):
            hint = (
                "It has a Lambda layer, that is code of its own. If you trust it, load "
                "it in Python with safe_mode=False."
            )
        allowed = "a .keras file that can be loaded"
        raise ValueError(arguments.message(name, allowed, given, hint)) from error


def arrays(name: str, given: str, wanted: tuple[str, ...]) -> list[Any]:
    """Arrays of a `.npz` file, by name; without pickle."""
    path = existing(name, given, ".npz")
    allowed = f"a .npz file with the arrays {' and '.join(wanted)}"
    try:
        with np.load(path, allow_pickle=False) as found:
            there = list(found.files)
            if all(one in there for one in wanted):
                return [found[one] for one in wanted]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        hint = "It is none, it is damaged, or it holds Python objects."
        raise ValueError(arguments.message(name, allowed, given, hint)) from error
    hint = f"It has: {', '.join(there)}."
    raise ValueError(arguments.message(name, allowed, given, hint))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
