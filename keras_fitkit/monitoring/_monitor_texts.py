"""What `OverfitMonitor` says: every sentence of it, apart from the verdict's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_fitkit.monitoring.curves import Curves

NO_VALIDATION = (
    "OverfitMonitor cannot judge a fit without validation data: its verdict will be "
    "'unknown'. Pass validation_data or validation_split to fit."
)
MOVED_ORDER = (
    "OverfitMonitor read the tf.data.Dataset that fit trains on. If it shuffles, this "
    "moved its random order: the run is as good, but not the same to the bit as "
    "without the monitor. Pass one without shuffle()."
)


def fell_back(why: str) -> str:
    """Why the training data is not measured, and what to do about it."""
    return (
        f"OverfitMonitor cannot measure the training data: {why}. It uses Keras's "
        "running mean, moved by half an epoch. Pass train_data=(x_train, y_train) "
        "for honest numbers, or train_data=None to accept this."
    )


def bad_weights(epoch: int, names: list[str]) -> str:
    """Which weights hold NaN or infinity, and what to do about it."""
    return (
        f"Epoch {epoch + 1}: NaN or infinite weights in {', '.join(names[:5])}"
        f"{' ...' if len(names) > 5 else ''}. The model has diverged; the loss "
        "may hide it. Lower the learning rate and look for NaN in the data."
    )


def flagged(epoch: int, curves: Curves, rule: Any, *, stops: bool) -> str:
    """That the model overfits, since when, by which rule."""
    judged = curves.usable
    values, epochs = curves.validation[judged], curves.epochs[judged]
    best = int(np.argmin(values) if curves.mode == "min" else np.argmax(values))
    name = rule if isinstance(rule, str) else "the given"
    ending = " Training stops." if stops else ""
    return (
        f"Epoch {epoch + 1}: {curves.monitor} overfits (rule {name}): validation is "
        f"{values[-1]:.4g}, its best was {values[best]:.4g} in epoch "
        f"{epochs[best] + 1}.{ending} See report() for what to do."
    )


def line(epoch: int, curves: Curves) -> str:
    """One epoch in one line."""
    return (
        f"Epoch {epoch + 1}: train_{curves.monitor} {curves.train[-1]:.4g}, "
        f"val {curves.validation[-1]:.4g}, gap {curves.gap[-1]:+.4g}"
    )
