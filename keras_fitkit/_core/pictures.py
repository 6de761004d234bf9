"""Matplotlib figures, where it is installed, and picture files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from keras_fitkit._core import files


def figure(width: float, height: float) -> Any:
    """An empty `matplotlib.figure.Figure` that pyplot does not know of.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        ImportError: matplotlib is missing; names the extra to install.
    """
    try:
        kind = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib. Install it with: pip install 'keras-fitkit[plot]'"
        ) from error
    return kind(figsize=(width, height), layout="constrained")


def written(made: Any, target: Path | None) -> Any:
    """The figure, and its file where a path is given; PNG if that has no suffix."""
    if target is not None:
        with files.atomic_path(target, suffix=target.suffix or ".png") as temporary:
            made.savefig(temporary, dpi=120)
    return made
