"""Mistakes in the labels: their form, their range, their balance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_fitkit.regularizers.checking.losses import metric_names
from keras_fitkit.regularizers.checking.report import Finding
from keras_fitkit.regularizers.checking.rules_losses import CROSS_ENTROPIES
from keras_fitkit.regularizers.checking.subject import CannotCheck, Head, Subject

RULE = "labels"
LARGE = 1000.0  # mean or deviation of targets
MOST = 0.8  # share of one class from which accuracy says little
SEVERAL = 8  # labels: below this one class may be chance
SEEING = ("auc", "f1", "fbeta", "precision", "recall", "iou", "balanced")
RARE = 0.05  # of the rarest beside the most frequent class


def not_finite(subject: Subject) -> Iterator[Finding]:
    """NaN or infinity in the labels."""
    for head in _labelled(subject):
        values = head.targets
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            rows = int((~np.isfinite(values)).reshape(len(values), -1).any(1).sum())
            text = f"{rows:,} labels of '{head.name}' are NaN or infinite"
            fix = (
                "keep = np.isfinite(y).reshape(len(y), -1).all(axis=1)\n"
                "x, y = x[keep], y[keep]"
            )
            yield Finding(RULE, "error", text, fix, {"rows": rows})


def of_classes(subject: Subject) -> Iterator[Finding]:
    """Labels that the loss does not take: out of range, one-hot or not."""
    for head in _labelled(subject):
        kind = head.loss.kind if head.loss is not None else None
        if head.targets.dtype.kind not in "fiub":
            yield _text(head)
            continue
        if kind == "sparse":
            yield from _sparse(head)
        elif kind == "categorical":
            yield from _one_hot(head)
        elif kind == "binary":
            yield from _binary(head)


def _text(head: Head) -> Finding:
    values = head.targets.reshape(-1)
    text = f"the labels of '{head.name}' are no numbers: {str(values[0])!r} ..."
    fix = "classes, y = np.unique(y, return_inverse=True)  # class numbers"
    if not isinstance(values[0], (str, bytes)):
        fix = 'y = np.asarray(y, "float32")'
    return Finding(RULE, "error", text, fix, {"dtype": str(values.dtype)})


def _sparse(head: Head) -> Iterator[Finding]:
    values, units = head.targets, head.units
    if units is None or units < 2:
        return
    # As many steps or columns as classes are no one-hot labels.
    rank = 2 if head.values is None else head.values.ndim
    if values.ndim == rank and values.shape[-1] == units:
        text = f"the labels of '{head.name}' are one-hot, shape {values.shape}, and "
        text += f"{head.loss.name} takes class numbers"  # type: ignore[union-attr]
        fix = "keras.losses.CategoricalCrossentropy(), or y = y.argmax(axis=-1)"
        yield Finding(RULE, "error", text, fix, {"units": units})
        return
    ignored = head.loss.ignored if head.loss is not None else None
    counted = values if ignored is None else values[values != ignored]
    if not counted.size:
        return
    if counted.dtype.kind == "f" and (counted != np.floor(counted)).any():
        text = f"the labels of '{head.name}' are no whole numbers: {counted.min():.4g} "
        text += f"to {counted.max():.4g}"
        fix = 'For a number as target use the loss "mse" and Dense(1).'
        yield Finding(RULE, "error", text, fix, {})
        return
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= units:
        text = f"the labels of '{head.name}' go from {low} to {high}, and its {units} "
        text += f"units are classes 0 to {units - 1}"
        fix = f"Dense({high + 1}) at the end"
        if low == 1 and high == units:
            fix = "y = y - 1"
        elif low < 0:
            fix = "classes, y = np.unique(y, return_inverse=True)"
        evidence = {"low": low, "high": high, "units": units}
        yield Finding(RULE, "error", text, fix, evidence)


def _one_hot(head: Head) -> Iterator[Finding]:
    values, units = head.targets, head.units
    if units is None or units < 2:
        return
    if values.ndim < 2 or values.shape[-1] != units:
        text = f"the labels of '{head.name}' have shape {values.shape}, and "
        text += f"{head.loss.name} takes {units} columns"  # type: ignore[union-attr]
        fix = (
            "keras.losses.SparseCategoricalCrossentropy(), or "
            f"y = keras.utils.to_categorical(y, {units})"
        )
        yield Finding(RULE, "error", text, fix, {"units": units})
        return
    sums = values.astype("float64").sum(-1)
    off = int((np.abs(sums - 1) > 1e-3).sum())
    if off:
        text = f"{off:,} of {sums.size:,} rows of the labels of '{head.name}' do not "
        text += f"sum to 1: {sums.min():.4g} to {sums.max():.4g}"
        fix = 'With several right classes: activation="sigmoid", BinaryCrossentropy().'
        yield Finding(RULE, "error", text, fix, {"rows": off})


def _binary(head: Head) -> Iterator[Finding]:
    values, units = head.targets, head.units
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        text = f"the labels of '{head.name}' go from {low:g} to {high:g}, and "
        text += f"{head.loss.name} takes 0 and 1"  # type: ignore[union-attr]
        fix = "y = (y > 0).astype(int)"
        if units not in (None, 1) or high > 2:
            fix = "keras.losses.SparseCategoricalCrossentropy(), and a unit a class"
        yield Finding(RULE, "error", text, fix, {"low": low, "high": high})
    elif units not in (None, 1) and (values.ndim < 2 or values.shape[-1] != units):
        text = f"the labels of '{head.name}' have shape {values.shape}, and it has "
        text += f"{units} units"
        fix = "Dense(1), or keras.losses.SparseCategoricalCrossentropy()"
        yield Finding(RULE, "error", text, fix, {"units": units})


def of_numbers(subject: Subject) -> Iterator[Finding]:
    """Targets of a regression: a shape that is repeated in silence, no variation."""
    for head in _labelled(subject):
        if head.loss is None or head.loss.kind != "regression":
            continue
        values, units = head.targets, head.units
        # Keras squeezes (rows, 1); more columns than that it repeats.
        told = values.shape[-1] if values.ndim > 1 else 1
        flat = head.values is not None and head.values.ndim == 2
        if flat and values.ndim <= 2 and units is not None and told != units:
            text = f"the targets of '{head.name}' have shape {values.shape}, its "
            text += f"outputs {units} columns: one of them is repeated"
            yield Finding(RULE, "error", text, f"Dense({told}) at the end", {})
        if len(values) > 7 and values.min() == values.max():
            text = f"all targets of '{head.name}' are {values.min():g}"
            fix = "Look at how the targets are made."
            yield Finding(RULE, "error", text, fix, {})


def imbalance(subject: Subject) -> Iterator[Finding]:
    """One class so frequent that accuracy is high without a model."""
    names = metric_names(subject.model)
    accurate = [one for one in names if "acc" in one.lower()]
    others = [one.lower() for one in names]
    for head in _labelled(subject):
        if head.loss is None or head.loss.kind not in CROSS_ENTROPIES:
            continue
        counts = counted(head)
        if counts is None:
            continue
        if np.count_nonzero(counts) == 1 and counts.sum() >= SEVERAL:
            yield _one_class(head, int(counts.argmax()), subject.arrays)
            continue
        if not accurate or any(word in one for one in others for word in SEEING):
            continue
        yield from _rare(head, counts, accurate)


def _rare(head: Head, counts: Any, accurate: list[str]) -> Iterator[Finding]:
    share = float(counts.max() / counts.sum())
    rarest = float(counts[counts > 0].min() / counts.max())
    if share < MOST and (rarest > RARE or len(counts) < 3):
        return
    common = int(counts.argmax())
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    told = {place: round(float(w), 2) for place, w in enumerate(weights)}
    text = (
        f"{share:.1%} of the labels of '{head.name}' are class {common}: always "
        f"saying so has an accuracy of {share:.3f}"
    )
    severity = "warning"
    if share < MOST:
        text = f"the rarest class of '{head.name}' has {rarest:.1%} as many rows as "
        text += "the most frequent one: accuracy hardly sees it"
        severity = "note"
    few = dict(list(told.items())[:10])
    fix = (
        'metrics=[keras.metrics.AUC(name="auc")] or F1Score beside accuracy'
        f"\nmodel.fit(..., class_weight={few}{' ...' if len(told) > 10 else ''})"
    )
    evidence = {"share": share, "class": common, "metrics": accurate}
    yield Finding("imbalance", severity, text, fix, evidence)


def _one_class(head: Head, place: int, whole: bool) -> Finding:
    count = len(head.targets)
    text = f"all {count:,} labels of '{head.name}' are class {place}"
    fix = "Look at how the rows are split: sorted by class?"
    if not whole:
        text = f"the first {count:,} labels of '{head.name}' are all class {place}"
        fix = "Sorted rows? dataset.shuffle(rows) before .batch, more than one class."
    evidence = {"class": place, "rows": count}
    return Finding(RULE, "error" if whole else "warning", text, fix, evidence)


def accuracy_of_numbers(subject: Subject) -> Iterator[Finding]:
    """Accuracy of a regression counts what is equal to the last digit."""
    accurate = [n for n in metric_names(subject.model) if "acc" in n.lower()]
    for head in _labelled(subject):
        if head.loss is None or head.loss.kind != "regression" or not accurate:
            continue
        values = head.targets
        if values.dtype.kind == "f" and (values != np.floor(values)).any():
            text = f"{accurate[0]} of '{head.name}' counts targets that are met to the "
            text += f"last digit, and they are numbers such as {values.flat[0]:.4g}"
            fix = 'metrics=["mae"]'
            yield Finding("metric", "warning", text, fix, {"metrics": accurate})


def unscaled(subject: Subject) -> Iterator[Finding]:
    """Targets in thousands: a last layer of small weights takes long to get there."""
    for head in _labelled(subject):
        if head.loss is None or head.loss.kind != "regression" or not head.seen:
            continue
        values = head.targets
        relative = any(word in head.loss.name.lower() for word in ("percent", "log"))
        finite = values.dtype.kind in "fiu" and np.isfinite(values).all()
        if relative or head.activation != "linear" or not finite:
            continue
        mean, deviation = float(values.mean()), float(values.std())
        if max(abs(mean), deviation) > LARGE:
            text = f"the targets of '{head.name}' are not scaled: mean {mean:.4g}, "
            text += f"deviation {deviation:.4g}"
            fix = (
                "mean, deviation = y.mean(), y.std()\n"
                "y = (y - mean) / deviation  # and back after predict"
            )
            evidence = {"mean": mean, "deviation": deviation}
            yield Finding("unscaled", "warning", text, fix, evidence)


def counted(head: Head) -> Any:
    """How often each class occurs; None where there are no classes."""
    values = head.targets
    if head.loss is not None and head.loss.kind == "categorical":
        if values.ndim != 2 or not np.allclose(values.sum(-1), 1, atol=1e-3):
            return None
        return np.bincount(values.argmax(-1), minlength=values.shape[-1])
    flat = values.reshape(len(values), -1)
    if flat.shape[1] != 1 or values.dtype.kind not in "fiub" or not len(flat):
        return None
    flat = flat[:, 0]
    if not np.isfinite(flat).all() or (flat != np.floor(flat)).any() or flat.min() < 0:
        return None
    if flat.max() > 100_000:
        return None
    least = 2 if head.loss is not None and head.loss.kind == "binary" else 1
    return np.bincount(flat.astype("int64"), minlength=least)


def _labelled(subject: Subject) -> Iterator[Head]:
    if subject.rows().y is None:
        raise CannotCheck("no labels are given")
    found = [one for one in subject.heads if one.targets is not None]
    if not found:
        raise CannotCheck("the labels cannot be told apart by output")
    for head in found:
        if head.targets.size:
            yield head
