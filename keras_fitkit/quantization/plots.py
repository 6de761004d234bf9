"""The picture of an export: how near each layer is."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from keras_fitkit._core import arguments, files

if TYPE_CHECKING:
    from keras_fitkit.quantization.export_report import ExportReport

_BAR, _BEST = "#0072B2", 80.0  # dB shown for layers without any difference


def layer_errors(report: ExportReport, path: str | os.PathLike[str] | None) -> Any:
    """Draws the signal to noise ratio of each layer, writes it to `path` if given."""
    target = None if path is None else arguments.path("path", path)
    if not report.layers:
        raise ValueError(
            "`check_data` must have been given for a picture. Received: a report that "
            "compares nothing. Export once more with check_data=x."
        )
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib. Install it with: pip install 'keras-fitkit[plot]'"
        ) from error
    names = [layer.name for layer in report.layers]
    height = max(2.0, 0.28 * len(names) + 1.2)
    figure = figures.Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [min(one.sqnr, _BEST) for one in report.layers], color=_BAR)
    axes.invert_yaxis()
    axes.set_xlabel("signal to quantization noise (dB), more is better")
    figure.suptitle(report.summary, fontsize=9, wrap=True)
    if target is not None:
        with files.atomic_path(target, suffix=target.suffix or ".png") as temporary:
            figure.savefig(temporary, dpi=120)
    return figure
