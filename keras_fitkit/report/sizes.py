"""How many bytes a model takes as a file."""

from __future__ import annotations

import gzip
import importlib
import zipfile
from pathlib import Path
from typing import Any

WEIGHTS = "model.weights.h5"
OPTIMIZER = "optimizer"


def keras_file(model: Any, folder: Path) -> Path:
    """The model as `.keras`, without the state of its optimizer.

    That state can be twice the weights, says nothing of the model, and goes where a
    model is not compiled; `save` has no argument for it.
    """
    whole, lean = folder / "whole.keras", folder / "lean.keras"
    model.save(whole)
    h5py = importlib.import_module("h5py")  # Keras itself depends on it
    with zipfile.ZipFile(whole) as source:
        source.extractall(folder / "parts")
    weights = folder / "parts" / WEIGHTS
    kept = folder / WEIGHTS
    with h5py.File(weights, "r") as old, h5py.File(kept, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            if name != OPTIMIZER:
                old.copy(name, new)
    kept.replace(weights)
    with zipfile.ZipFile(lean, "w") as target:
        for part in sorted((folder / "parts").rglob("*")):
            if part.is_file():
                target.write(part, part.relative_to(folder / "parts"))
    return lean


def gzipped(path: Path) -> int:
    """The bytes of a file after gzip, at its best."""
    return len(gzip.compress(path.read_bytes(), 9, mtime=0))


def bytes_text(count: float | None) -> str:
    """Bytes in KiB or MiB, as text."""
    if count is None:
        return "-"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"
