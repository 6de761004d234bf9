"""The picture of a diagnosis: both training curves, validation, gap, verdict."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fitkit._core import arguments, pictures
from keras_fitkit.monitoring import curve_maths

if TYPE_CHECKING:
    from keras_fitkit.monitoring.diagnosis import Diagnosis

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey.
_TRAIN, _VALIDATION, _GAP, _KERAS = "#0072B2", "#D55E00", "#009E73", "#999999"

DECADES = 2  # an axis of a loss that falls by more is a logarithmic one


def plot_diagnosis(diagnosis: Diagnosis, path: str | os.PathLike[str] | None) -> Any:
    """Draws `diagnosis` with matplotlib, writes it to `path` when given one."""
    target = None if path is None else arguments.path("path", path)
    figure = pictures.figure(8.0, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_curves(upper, diagnosis)
    _draw_gap(lower, diagnosis)
    figure.suptitle(diagnosis.summary, fontsize=10, wrap=True)
    return pictures.written(figure, target)


def _draw_curves(axes: Any, diagnosis: Diagnosis) -> None:
    curves = diagnosis.curves
    epochs = curves.epochs + 1
    if curves.keras_train is not None:
        axes.plot(
            epochs,
            curves.keras_train,
            "--",
            color=_KERAS,
            label="training, as Keras shows it",
        )
    told = (
        "training, inference mode" if curves.honest else "training, half-epoch shifted"
    )
    _line(axes, epochs, curves.train, color=_TRAIN, label=told)
    _line(axes, epochs, curves.validation, color=_VALIDATION, label="validation")
    finite = np.isfinite(curves.validation)
    if finite.any():
        values = curves.validation[finite]
        noise = curve_maths.noise_level(values)
        axes.fill_between(
            epochs[finite],
            values - noise,
            values + noise,
            color=_VALIDATION,
            alpha=0.2,
            linewidth=0,
            label="validation noise (1 sd)",
        )
    _mark(axes, diagnosis.evidence.get("best_epoch"), ":", "best epoch")
    _mark(axes, diagnosis.evidence.get("flagged_epoch"), "-.", "flagged")
    axes.set_ylabel(curves.monitor)
    if _wants_log(curves):
        axes.set_yscale("log")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _wants_log(curves: Any) -> bool:
    """Whether the curves are positive and span more than `DECADES`."""
    both = np.concatenate([curves.train, curves.validation])
    values = both[np.isfinite(both)]
    if curves.mode != "min" or len(values) == 0 or values.min() <= 0:
        return False
    return bool(values.max() / values.min() > 10**DECADES)


def _draw_gap(axes: Any, diagnosis: Diagnosis) -> None:
    curves = diagnosis.curves
    axes.axhline(0.0, color="black", linewidth=0.8)
    _line(axes, curves.epochs + 1, curves.gap, color=_GAP, label="gap")
    axes.set_ylabel("gap (positive: validation is worse)", fontsize=8)
    axes.set_xlabel("epoch")


def _line(axes: Any, epochs: Any, values: Any, **style: Any) -> None:
    """A line through the finite values: skipped epochs leave no hole."""
    finite = np.isfinite(values)
    marker = "." if finite.sum() < 30 else ""
    axes.plot(epochs[finite], values[finite], marker=marker, **style)


def _mark(axes: Any, epoch: Any, style: str, label: str) -> None:
    if epoch is not None:
        axes.axvline(
            float(epoch), color="black", linestyle=style, linewidth=1, label=label
        )
