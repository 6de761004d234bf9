"""Pictures: how near each exported layer is, and what each width costs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_fitkit._core import arguments, pictures

if TYPE_CHECKING:
    from keras_fitkit.quantization.bit_reports import BitSensitivity
    from keras_fitkit.quantization.export_report import ExportReport

_COLORS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
_MARKERS = "osD^v<>"
_BAR, _BEST = "#0072B2", 80.0  # dB shown for layers without any difference


def layer_errors(report: ExportReport, path: str | os.PathLike[str] | None) -> Any:
    """Draws the signal to noise ratio of each layer, writes it to `path` if given."""
    if not report.layers:
        raise ValueError(
            "`check_data` must have been given for a picture. Received: a report that "
            "compares nothing. Export once more with check_data=x."
        )
    target = None if path is None else arguments.path("path", path)
    names = [layer.name for layer in report.layers]
    figure, (axes, *others) = _empty(len(names), 2 if report.histogram else 1)
    axes.barh(names, [min(one.sqnr, _BEST) for one in report.layers], color=_BAR)
    axes.invert_yaxis()
    axes.set_xlabel("signal to quantization noise (dB), more is better")
    for steps in others:
        total = sum(report.histogram)
        shares = [count / total for count in report.histogram]
        steps.bar(range(len(shares)), shares, color=_BAR)
        steps.set_xticks(range(len(shares)))
        steps.set_xlabel("steps between file and Keras")
        steps.set_ylabel("fraction of the outputs")
    figure.suptitle(report.summary, fontsize=9, wrap=True)
    return pictures.written(figure, target)


def sensitivity(
    report: BitSensitivity,
    path: str | os.PathLike[str] | None,
    chosen: Mapping[str, int] | None = None,
) -> Any:
    """Draws what each layer costs at each width; rings around those chosen."""
    target = None if path is None else arguments.path("path", path)
    names = [one.path for one in report.layers]
    figure, (axes,) = _empty(len(names))
    places = range(len(names))
    for color, marker, bits in zip(_COLORS, _MARKERS, report.bits, strict=False):
        costs = [one.increases[bits] for one in report.layers]
        axes.scatter(costs, places, c=color, marker=marker, label=f"{bits} bits")
    if chosen is not None:
        costs = [one.increases[chosen[one.path]] for one in report.layers]
        axes.scatter(
            costs, places, s=120, facecolors="none", edgecolors="black", label="chosen"
        )
    smallest = min(
        [abs(v) for one in report.layers for v in one.increases.values() if v] or [1.0]
    )
    axes.set_xscale("symlog", linthresh=max(smallest, 1e-6))
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("how much the loss rises with this layer alone rounded")
    axes.legend(fontsize=8)
    return pictures.written(figure, target)


def _empty(rows: int, columns: int = 1) -> Any:
    height = max(2.0, 0.28 * rows + 1.2)
    figure = pictures.figure(8.0, height)
    wide = {"width_ratios": [2, 1]} if columns == 2 else {}
    return figure, figure.subplots(1, columns, squeeze=False, **wide)[0]
