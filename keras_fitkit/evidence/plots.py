"""The pictures of the reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fitkit._core import pictures

if TYPE_CHECKING:
    from keras_fitkit.evidence.cross_validation_report import CrossValidationReport
    from keras_fitkit.evidence.intervals import Estimate
    from keras_fitkit.evidence.learning_report import LearningCurveReport
    from keras_fitkit.evidence.remedy_report import RemedyReport

TRAIN, HELD, GREY = "tab:blue", "tab:orange", "0.5"


def folds(report: CrossValidationReport, path: Path | None) -> Any:
    """Both losses of each fold, joined by a line: the gap."""
    figure = pictures.figure(7, 4)
    axes = figure.add_subplot()
    numbers = np.arange(1, len(report.folds) + 1)
    train = [fold.train_scores["loss"] for fold in report.folds]
    held = [fold.scores["loss"] for fold in report.folds]
    axes.vlines(numbers, train, held, color=GREY, linewidth=1, zorder=1)
    axes.plot(numbers, train, "o", color=TRAIN, label="training rows, honest")
    axes.plot(numbers, held, "o", color=HELD, label="held-out rows")
    mean = report.scores["loss"]
    axes.axhline(mean.mean, color=HELD, linewidth=1)
    if mean.low is not None and mean.high is not None:
        label = "95 % of the mean"
        axes.axhspan(mean.low, mean.high, color=HELD, alpha=0.15, label=label)
    axes.set_xticks(numbers)
    axes.set(xlabel="fold", ylabel="loss, without penalty")
    axes.set_title(f"{report.verdict}; gap {report.gap}", fontsize="medium")
    axes.legend(fontsize="small")
    return pictures.written(figure, path)


def sizes(report: LearningCurveReport, path: Path | None) -> Any:
    """Both losses against the number of rows, with intervals."""
    figure = pictures.figure(7, 4.2)
    axes = figure.add_subplot()
    counts = [point.rows for point in report.points]
    for name, colour, label in (
        ("train", TRAIN, "training rows, honest"),
        ("validation", HELD, "validation"),
    ):
        _with_intervals(
            axes, counts, [getattr(p, name) for p in report.points], colour, label
        )
    if report.wider is not None:
        _with_intervals(
            axes, counts[-1:], [report.wider], "tab:green", "validation, wider model"
        )
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts], minor=False)
    axes.minorticks_off()
    axes.set(xlabel="training rows", ylabel="loss, without penalty")
    axes.set_title(report.verdict, fontsize="medium", wrap=True)
    axes.legend(fontsize="small")
    return pictures.written(figure, path)


def _with_intervals(
    axes: Any, places: list[int], found: list[Estimate], colour: str, label: str
) -> None:
    means = np.array([one.mean for one in found])
    ends = np.array(
        [
            (one.mean, one.mean)
            if one.low is None or one.high is None
            else (one.low, one.high)
            for one in found
        ]
    ).T
    axes.errorbar(
        places,
        means,
        yerr=np.abs(ends - means),
        fmt="o-",
        color=colour,
        capsize=3,
        label=label,
    )


def remedies(report: RemedyReport, path: Path | None) -> Any:
    """The change of each remedy with its interval, best on top."""
    ranked = [trial for trial in report.ranked if trial.change.count]
    figure = pictures.figure(7, 1.4 + 0.42 * len(ranked))
    axes = figure.add_subplot()
    axes.axvline(0.0, color=GREY, linewidth=1)
    for place, trial in enumerate(reversed(ranked)):
        change = trial.change
        colour = {"helped": "tab:green", "hurt": "tab:red"}.get(trial.verdict, GREY)
        if change.low is not None and change.high is not None:
            axes.plot([change.low, change.high], [place, place], color=colour)
        axes.plot(change.mean, place, "o", color=colour)
        axes.plot(trial.changes, [place] * len(trial.changes), ".", color="black", ms=3)
    axes.set_yticks(range(len(ranked)), [trial.name for trial in reversed(ranked)])
    axes.set_xlabel("change of the validation loss against the baseline")
    means = [change for trial in ranked for change in trial.changes]
    if means:
        reach = 1.5 * max(abs(min(means)), abs(max(means)))
        if reach > 0:
            axes.set_xlim(-reach, reach)  # an interval from two seeds may be huge
    axes.set_title(report.verdict, fontsize="medium", wrap=True)
    return pictures.written(figure, path)
