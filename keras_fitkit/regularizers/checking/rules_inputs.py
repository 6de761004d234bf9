"""Mistakes in the inputs: not numbers, not scaled, nothing in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_fitkit.regularizers.checking.report import Finding
from keras_fitkit.regularizers.checking.subject import CannotCheck, Input, Subject

FEW = 8  # rows: below this a mean and a deviation say little
FAR = 5.0  # from 0, or in deviation; scaled data have about 1
TINY = 1e-3
LISTED = 5


def not_finite(subject: Subject) -> Iterator[Finding]:
    """NaN or infinity: after one such row every weight is NaN."""
    leaves = keras.tree.flatten(subject.whole_x)
    places = {one.name: leaf for one, leaf in zip(subject.inputs, leaves, strict=True)}
    for one in _numbers(subject):
        values = np.asarray(places[one.name])
        bad = ~np.isfinite(values)
        rows = int(bad.reshape(len(bad), -1).any(1).sum())
        if not rows:
            continue
        where = ""
        if values.ndim == 2:
            columns = np.flatnonzero(bad.any(0))
            where = f", in {_columns(columns)}"
        text = (
            f"{rows:,} of {len(bad):,} rows of '{one.name}' hold NaN or infinity{where}"
        )
        fix = (
            "keep = np.isfinite(x).reshape(len(x), -1).all(axis=1)\n"
            "x, y = x[keep], y[keep]  # or fill them in before"
        )
        yield Finding("not finite", "error", text, fix, {"rows": rows})


def constant(subject: Subject) -> Iterator[Finding]:
    """Features that are the same in every row: they say nothing."""
    for one in _numbers(subject):
        values = one.values.reshape(len(one.values), -1)
        if len(values) < FEW:
            continue
        same = np.flatnonzero(values.max(0) == values.min(0))
        count, all_ = len(same), values.shape[1]
        if count == all_:
            text = f"all rows of '{one.name}' are the same"
            yield Finding(
                "constant", "error", text, "Look at how the rows are made.", {}
            )
        # Images have corners that are always black.
        elif count and one.values.ndim == 2:
            text = (
                f"{count} of {all_} features of '{one.name}' are the same in all "
                f"{len(values):,} rows: {_columns(same)}"
            )
            severity = "warning" if count > all_ / 2 else "note"
            fix = "x = x[:, x.max(axis=0) > x.min(axis=0)]"
            evidence = {"features": count, "of": all_}
            yield Finding("constant", severity, text, fix, evidence)


def unscaled(subject: Subject) -> Iterator[Finding]:
    """Inputs far from a mean of 0 and a deviation of 1."""
    for one in _numbers(subject):
        if one.use != "plain" or one.values.ndim < 2 or len(one.values) < FEW:
            continue
        values = one.values.astype("float64")
        axes = tuple(range(values.ndim - 1))
        values = np.where(np.isfinite(values), values, np.nan)
        with np.errstate(all="ignore"):
            mean, deviation = np.nanmean(values, axes), np.nanstd(values, axes)
        wide = (np.abs(mean) > FAR) | (deviation > FAR)
        narrow = (deviation > 0) & (np.abs(mean) + deviation < TINY)
        off = np.flatnonzero(wide | narrow)
        if len(off):
            yield _unscaled(one, mean, deviation, off)


def _unscaled(one: Input, mean: Any, deviation: Any, off: Any) -> Finding:
    worst = int(off[np.argmax(np.abs(mean[off]) + deviation[off])])
    low, high = float(np.nanmin(one.values)), float(np.nanmax(one.values))
    pixels = one.values.ndim > 2 and low >= 0 and 2 < high <= 255
    text = (
        f"{len(off)} of {len(mean)} features of '{one.name}' are not scaled: feature "
        f"{worst} has mean {mean[worst]:.3g} and deviation {deviation[worst]:.3g}"
    )
    fix = (
        "normalization = keras.layers.Normalization()\n"
        "normalization.adapt(x)  # then the first layer of the model"
    )
    if pixels:
        text = f"the values of '{one.name}' go from {low:g} to {high:g}, and no layer "
        text += "scales them"
        top = 255 if high > 16 else f"{high:g}"
        fix = f"keras.layers.Rescaling(1 / {top})  # the first layer of the model"
    evidence = {"features": len(off), "mean": float(mean[worst]), "high": high}
    evidence["deviation"] = float(deviation[worst])
    return Finding("unscaled", "warning", text, fix, evidence)


def _numbers(subject: Subject) -> Iterator[Input]:
    inputs = [one for one in subject.inputs if one.use != "tokens"]
    numbers = [one for one in inputs if one.values.dtype.kind in "fiub"]
    if not numbers:
        raise CannotCheck("no input is an array of numbers that are computed with")
    yield from numbers


def _columns(places: Any) -> str:
    listed = ", ".join(map(str, places[:LISTED].tolist()))
    word = "column" if len(places) == 1 else "columns"
    return f"{word} {listed}" + (" ..." if len(places) > LISTED else "")
