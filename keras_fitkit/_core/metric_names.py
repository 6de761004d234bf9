"""Names and values in `logs`: which way is better, and what a value is as a float."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, arguments

MODES = ("auto", "min", "max")

# Words that say the direction of a metric that Keras itself cannot place: custom
# functions, wrapped metrics and `output_metric` keys (`mode="auto"` raises there).
# "score" and "dice" are not among them: a Brier score and `keras.losses.dice` fall.
_HIGHER = frozenset(
    "acc accuracy auc precision recall f1 fbeta iou r2 bleu map psnr ssim "
    "sensitivity specificity similarity correlation pearson concordance".split()
)
_LOWER = frozenset(
    "loss error mse mae rmse msle mape crossentropy entropy divergence hinge logcosh "
    "perplexity poisson penalty wer cer gap".split()
)


def training_name(name: str) -> str:
    """The name without the prefix `val_`."""
    return name.removeprefix("val_")


def direction(name: str, model: Any = None, mode: str = "auto") -> str | None:
    """Whether "min" or "max" is better for a metric in `logs`, or None when unknown.

    Args:
        name: the key, with or without `val_`, `train_` or `gap_` before it, and with or
            without an output's name.
        model: the compiled model; its metric objects are asked first. On TensorFlow
            a new model has none before its first batch.
        mode: "min" and "max" are returned as they are.
    """
    if mode != "auto":
        return mode
    bare = training_name(name)
    if bare.startswith("gap_"):
        return "min"
    bare = bare.removeprefix("train_")
    known = _directions(bare, _metrics(getattr(model, "metrics", ())))
    if known:
        return known.pop() if len(known) == 1 else None
    if bare == "loss" or bare.endswith("_loss"):
        return "min"
    # Keras spells IoU "io_u" in the names of its metrics (`mean_io_u`).
    words = set(bare.lower().replace("io_u", "iou").split("_"))
    higher, lower = bool(words & _HIGHER), bool(words & _LOWER)
    if higher != lower:
        return "max" if higher else "min"
    return None


def require_direction(name: str, model: Any = None, mode: str = "auto") -> str:
    """As `direction`, but an unknown direction is an error that says what to pass."""
    found = direction(name, model, mode)
    if found is None:
        raise ValueError(
            f"Whether `{name}` is better when it is higher or lower cannot be told "
            f"from its name or its metric. Received: monitor={name!r}, mode='auto'. "
            "Pass mode='max' for a score or mode='min' for an error."
        )
    return found


def _directions(bare: str, metrics: Iterable[Any]) -> set[str]:
    """What the metrics of that name say; of names that end alike the longest counts."""
    found: dict[str, set[str | None]] = {}
    for metric in metrics:
        if bare == metric.name or bare.endswith(f"_{metric.name}"):
            known = _private.metric_direction(metric)
            found.setdefault(metric.name, set()).add(known)
    said = found[max(found, key=len)] if found else set()
    return {known for known in said if known is not None}


def _metrics(found: Iterable[Any]) -> Iterator[Any]:
    """Metric objects, those inside Keras's containers (`CompileMetrics`) too."""
    for metric in found:
        inner = getattr(metric, "metrics", None)
        if inner:
            yield from _metrics(inner)
        else:
            yield metric


def scalar(name: str, value: object) -> float:
    """A value of `logs` as a float; one-element arrays (F1Score) are accepted."""
    array = np.asarray(keras.ops.convert_to_numpy(value))
    if array.size != 1:
        raise ValueError(
            f"`{name}` must be one number an epoch to be monitored. Received: an array "
            f"of shape {array.shape}. Average it in the metric (`average='macro'`)."
        )
    return float(array.reshape(()))


def read(logs: Mapping[str, Any], name: str) -> float | None:
    """The value of `name` in `logs` as a float, or None when it is not there."""
    value = logs.get(name)
    return None if value is None else scalar(name, value)


def not_measured(name: str, value: float) -> bool:
    """Whether a value stands for an epoch in which `OverfitMonitor` did not measure.

    It writes NaN for `train_` and `gap_` names then (`every=`), so that a column of
    `History` has a value for each epoch. A NaN of any other metric is a NaN.
    """
    return math.isnan(value) and name.startswith(("train_", "gap_"))


def missing(name: str, logs: Mapping[str, Any]) -> ValueError:
    """The error for a metric that `logs` does not hold: lists what there is."""
    hint = arguments.near(name, logs)
    listed = ", ".join(repr(key) for key in sorted(logs)) or "none"
    return ValueError(
        f"`monitor` must be one of the metrics in `logs`: {listed}. Received: "
        f"monitor={name!r}. {hint or 'Compile the model with that metric.'} A callback "
        "that writes a metric into `logs` must come before the one that reads it."
    )


def is_finite(value: float | None) -> bool:
    """True for a number that is neither NaN nor infinite."""
    return value is not None and math.isfinite(value)


# `sparsity` is a rounded count over a rounded count; nothing else is forgiven here, or
# the last steps of a ramp would pass for its end.
SPARSITY_TOLERANCE = 1e-6


def shows_sparsity(callback: Any) -> bool:
    """Whether a callback offers `sparsity_` and `sparsity_target_`."""
    return hasattr(callback, "sparsity_") and hasattr(callback, "sparsity_target_")


def settling(logs: Mapping[str, Any], callbacks: Iterable[Any] = ()) -> bool:
    """Whether another callback is still changing the model on purpose.

    True while `sparsity` is below `sparsity_target`: values of such an epoch belong to
    a model that will not stay; they neither stop a run nor are its best, and what they
    do is no overfitting.

    Args:
        logs: the logs of an epoch.
        callbacks: the callbacks of the run. A pruning callback later in the list has
            not written its logs yet; its attributes `sparsity_` and `sparsity_target_`
            say the same.
    """
    pairs = [(logs.get("sparsity"), logs.get("sparsity_target"))]
    pairs += [
        (callback.sparsity_, callback.sparsity_target_)
        for callback in callbacks
        if shows_sparsity(callback)
    ]
    return any(_below(now, target) for now, target in pairs)


def _below(now: Any, target: Any) -> bool:
    if not isinstance(now, numbers.Real) or not isinstance(target, numbers.Real):
        return False
    return float(now) < float(target) - SPARSITY_TOLERANCE
